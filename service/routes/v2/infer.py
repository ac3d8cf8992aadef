"""``POST /v2/models/…/infer``: images under a FLOP budget, as tensors."""

from __future__ import annotations

import re
from functools import partial

from fastapi import APIRouter, Request, Response

from service.decoding import refuse_compressed
from service.documents.classification import INFER
from service.documents.headers import ModelName, Version
from service.errors import InvalidHeader
from service.headers import RequestHeaders, quoted
from service.routes.answer import answer
from service.routes.bodies import Asked
from service.routes.v2.budgets import merged
from service.routes.v2.images import images_of
from service.routes.v2.models import pinned
from service.routes.v2.outputs import JSON_BYTES, response
from service.routes.v2.schemas import Inferred
from service.routes.v2.tensors import PROBABILITIES
from service.routes.v2.wire import InferRequest, parse
from service.state import Service

router = APIRouter(prefix="/v2", tags=["open inference protocol"])

_NUMBER = re.compile("[0-9]{1,15}")


@router.post("/models/{name}/infer", response_model=Inferred, **INFER)
async def infer(request: Request, name: ModelName) -> Response:
    """Classify 1 to 64 images sent as a tensor, by a model or by the models of a task.

    The tensor holds pixels (UINT8) or files (BYTES).
    Budgets are the headers of ``/classify``, or the parameters ``flop_budget``, ``flop_limit``,
    ``deadline_ms`` and ``timeout`` of the request.
    """
    source = TensorSource(name)
    answered = await answer(request, source)
    return response(answered, source.request)


@router.post("/models/{name}/versions/{version}/infer", response_model=Inferred, **INFER)
async def infer_version(request: Request, name: ModelName, version: Version) -> Response:
    """Classify images sent as a tensor by one version of a model."""
    return await infer(request, pinned(name, version))


PATHS = ("/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer")
"""Of these routes."""


class TensorSource:
    """The ``Source`` of one inference request.

    Attributes:
        request: Once it has been read; says what the answer is to be like.
    """

    request: InferRequest

    def __init__(self, model: str) -> None:
        """The address names ``model``: a task, a model, or ``name@version``."""
        self._model = model

    async def __call__(self, request: Request, headers: RequestHeaders, service: Service) -> Asked:
        """Read the body.

        Raises:
            InvalidHeader: Inference-Header-Content-Length is unusable, or X-Model names another model.
            InvalidRequest: The body is not such a request, or contradicts its headers.
            UnsupportedMediaType: The body is compressed.
        """
        refuse_compressed(headers)
        if headers.model not in (None, self._model):
            raise InvalidHeader(
                f"X-Model is {quoted(str(headers.model))}; the address names {quoted(self._model)}"
            )
        self.request = parsed = parse(await request.body(), _json_bytes(request))
        budget = merged(headers.budget, parsed.parameters)
        whole = any(output.name == PROBABILITIES for output in parsed.outputs)
        images = partial(images_of, parsed, service)
        return Asked(self._model, budget, parsed.images == 1, images, whole)


def _json_bytes(request: Request) -> int | None:
    """How many bytes of the body are JSON, if the client says."""
    values = request.headers.getlist(JSON_BYTES)
    if not values:
        return None
    if len(values) > 1 or not _NUMBER.fullmatch(values[0]):
        raise InvalidHeader(f"{JSON_BYTES}: {quoted(', '.join(values))} is not a number of bytes")
    return int(values[0])
