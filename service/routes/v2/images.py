"""From the input tensor to the images that the engine takes."""

from __future__ import annotations

import asyncio
import base64
import binascii
from itertools import chain
from math import prod
from typing import Any

import numpy as np

from model_store.preprocess import InputSpec
from service.engine.ticket import Image
from service.errors import InvalidRequest, ServiceError
from service.routes.bodies import Decoded
from service.routes.v2.wire import InferRequest, shown, unpack_bytes
from service.state import Service


async def images_of(request: InferRequest, service: Service, spec: InputSpec) -> Decoded:
    """The images of ``request`` for a model that takes ``spec``.

    Raises:
        InvalidRequest: Datatype, shape or amount of the data are wrong, or one of several files is no image.
        ServiceError: The only file is none.
    """
    if request.datatype == "BYTES":
        return await _decoded_files(request, service, spec)
    if request.datatype != "UINT8":
        raise InvalidRequest("the datatype is UINT8 for pixels or BYTES for image files")
    if prod(request.shape) <= service.settings.inline_decode_bytes:
        return pixels(request, spec)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(service.decoder.threads, pixels, request, spec)


def pixels(request: InferRequest, spec: InputSpec) -> Decoded:
    """A UINT8 tensor as images, uint8 (3, H, W) each.

    Where both layouts have the same shape, which needs a model of 3x3 pixels, channels are last.

    Raises:
        InvalidRequest: Shape or amount of the data are wrong, or numbers in the JSON.
    """
    native, planes = (spec.height, spec.width, 3), (3, spec.height, spec.width)
    if request.shape[1:] not in (native, planes):
        accepted = " or ".join(f"[B, {', '.join(map(str, dims))}]" for dims in (native, planes))
        raise InvalidRequest(f"shape {shown(request.shape)}; the model that answers takes {accepted}")
    content, size = request.content, prod(request.shape)
    data = _numbers(content, len(request.shape)) if isinstance(content, list) else content
    if len(data) != size:
        raise InvalidRequest(f"{len(data)} values; shape {shown(request.shape)} has {size}")
    batch = np.frombuffer(data, np.uint8).reshape(request.shape)
    if request.shape[1:] == native:
        batch = batch.transpose(0, 3, 1, 2)  # (B, H, W, 3) -> (B, 3, H, W)
    return list(np.ascontiguousarray(batch))


def _numbers(data: list[Any], levels: int) -> bytes:
    flat = _flat(data, levels)
    strangers = {type(value) for value in flat} - {int}
    if strangers:
        raise InvalidRequest(
            f"data hold a {min(kind.__name__ for kind in strangers)}; UINT8 are whole numbers"
        )
    try:
        return bytes(flat)
    except ValueError as error:
        raise InvalidRequest("data hold a number outside of 0 to 255") from error


def _flat(data: list[Any], levels: int) -> list[Any]:
    """Row by row and without nesting, of which there may be as much as there are dimensions."""
    try:
        for _ in range(levels - 1):
            if not data or not isinstance(data[0], list):
                break
            data = list(chain.from_iterable(data))
    except TypeError as error:
        raise InvalidRequest("data are nested unevenly") from error
    return data


async def _decoded_files(request: InferRequest, service: Service, spec: InputSpec) -> Decoded:
    """The first file that is no image ends it: the protocol has no error for a single one of several."""
    images: list[Image | ServiceError] = []
    for i, file in enumerate(files(request)):
        image = await service.decoder.decoded(file, spec)
        if isinstance(image, ServiceError):
            raise image if request.images == 1 else InvalidRequest(f"image[{i}]: {image.detail}")
        images.append(image)
    return images


def files(request: InferRequest) -> list[bytes]:
    """A BYTES tensor as image files.

    Raises:
        InvalidRequest: Shape or amount of the data are wrong, or what stands in the JSON is not base64.
    """
    if request.shape[1:] not in ((), (1,)):
        raise InvalidRequest(f"shape {shown(request.shape)}; of BYTES it is [B] or [B, 1]")
    if not isinstance(request.content, list):
        return unpack_bytes(request.content, request.images)
    texts = _flat(request.content, len(request.shape))
    if len(texts) != request.images:
        raise InvalidRequest(f"{len(texts)} elements; shape {shown(request.shape)} has {request.images}")
    return [_file(i, text) for i, text in enumerate(texts)]


def _file(i: int, text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise InvalidRequest(f"image[{i}] is not base64, as JSON cannot hold bytes") from error
