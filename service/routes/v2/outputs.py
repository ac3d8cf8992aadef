"""From the engine's answers to the tensors of a response."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from fastapi import Response
from numpy.typing import NDArray

from service.engine.ticket import Prediction
from service.errors import DeadlineExceeded
from service.rendering import plain_number
from service.routes.answered import Answered
from service.routes.v2.tensors import EXIT, FLOPS, LABEL, PROBABILITIES
from service.routes.v2.wire import InferRequest, Wanted, pack_bytes

JSON_BYTES = "Inference-Header-Content-Length"
"""Header that says how many bytes of a body are JSON, where binary tensors follow."""


@dataclass(frozen=True)
class Tensor:
    """An output: numbers, little-endian, or texts, row by row."""

    datatype: str
    shape: tuple[int, ...]
    data: NDArray[Any] | list[str]

    def packed(self) -> bytes:
        """As bytes behind the JSON."""
        if isinstance(self.data, list):
            return pack_bytes(text.encode() for text in self.data)
        return self.data.tobytes()

    def flat(self) -> NDArray[Any] | list[str]:
        """As JSON has it."""
        return self.data if isinstance(self.data, list) else self.data.ravel()


def response(answered: Answered, request: InferRequest) -> Response:
    """The answer to ``request``.

    Raises:
        DeadlineExceeded: An image has no answer. The protocol has no error for a single one of several.
    """
    predictions = _all(answered)
    described, behind = [], []
    for wanted in request.outputs:
        tensor = _tensor(wanted, predictions, answered.model.manifest.classes)
        entry = {"name": wanted.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if wanted.binary:
            behind.append(tensor.packed())
            described.append({**entry, "parameters": {"binary_data_size": len(behind[-1])}})
        else:
            described.append({**entry, "data": tensor.flat()})
    model = answered.model
    head = {"model_name": model.name, "model_version": str(model.manifest.version)}
    if request.id is not None:
        head["id"] = request.id
    body = {**head, "parameters": _parameters(answered, predictions), "outputs": described}
    text, headers = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), answered.headers()
    if not behind:
        return Response(text, media_type="application/json", headers=headers)
    headers[JSON_BYTES] = str(len(text))
    return Response(b"".join((text, *behind)), media_type="application/octet-stream", headers=headers)


def _all(answered: Answered) -> list[Prediction]:
    predictions = []
    for i, outcome in enumerate(answered.outcomes):
        if not isinstance(outcome, Prediction):
            # What the others cost has been charged: the device has done that work.
            spent = {"X-FLOPs": str(answered.flops)}
            raise DeadlineExceeded(f"image[{i}]: {outcome.detail}", spent)
        predictions.append(outcome)
    return predictions


def _parameters(answered: Answered, predictions: Sequence[Prediction]) -> dict[str, Any]:
    """What is true of the answer as a whole, and the budget as understood."""
    budget, (first, *others) = answered.budget, predictions
    given = {"flop_budget": budget.mean, "flop_limit": budget.limit, "deadline_ms": budget.deadline_ms}
    return {
        "flops": answered.flops,
        "policy": answered.model.policy.id,
        "degraded": any(prediction.degraded for prediction in predictions),
        **({} if others else {"exit": first.exit}),
        **{name: plain_number(value) for name, value in given.items() if value is not None},
    }


def _tensor(wanted: Wanted, predictions: Sequence[Prediction], classes: Sequence[str]) -> Tensor:
    images = len(predictions)
    if wanted.name == PROBABILITIES and wanted.classes is not None:
        shown = min(wanted.classes, len(classes))
        texts = [text for prediction in predictions for text in best(prediction, shown, classes)]
        return Tensor("BYTES", (images, shown), texts)
    if wanted.name == PROBABILITIES:
        rows = np.stack([distribution(prediction) for prediction in predictions]).astype("<f4", copy=False)
        return Tensor("FP32", rows.shape, rows)
    if wanted.name == LABEL:
        return Tensor("BYTES", (images, 1), [classes[prediction.classes[0]] for prediction in predictions])
    if wanted.name == EXIT:
        return Tensor("INT32", (images, 1), np.array([prediction.exit for prediction in predictions], "<i4"))
    assert wanted.name == FLOPS, wanted
    return Tensor("INT64", (images, 1), np.array([prediction.flops for prediction in predictions], "<i8"))


def distribution(prediction: Prediction) -> NDArray[np.float32]:
    """The probabilities of all classes, which the request had asked for."""
    assert prediction.distribution is not None, "asked for and not there"
    return prediction.distribution


def best(prediction: Prediction, count: int, classes: Sequence[str]) -> list[str]:
    """The ``count`` most probable classes as Triton writes them, ``value:index:label``, six decimals.

    Where classes are equally probable the order is that of ``/classify``.
    """
    values, first = distribution(prediction), list(prediction.classes)
    if count > len(first):
        first += [index for index in np.argsort(-values, kind="stable").tolist() if index not in first]
    return [f"{values[index]:.6f}:{index}:{classes[index]}" for index in first[:count]]
