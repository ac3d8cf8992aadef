"""An inference request as it comes over the wire: JSON, with the tensor in it or as bytes behind it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, FailFast, Field, ValidationError

from service.errors import InvalidRequest, TooLarge
from service.headers import quoted
from service.limits import MAX_IMAGES
from service.routes.v2.tensors import EXIT, FLOPS, IMAGE, LABEL, PROBABILITIES

_OUTPUTS = (PROBABILITIES, LABEL, EXIT, FLOPS)

MAX_RANK = 4
"""Dimensions of the largest tensor: images, rows, columns, channels."""

MAX_JSON = {b",": (2**20, "values"), b"[": (2**17, "lists"), b"{": (2**6, "objects"), b":": (2**8, "members")}
"""What a request's JSON may hold, by the mark that is counted: 6 images of 224x224 pixels flat, 2 nested. The
event loop reads it, where a million numbers take 10 ms, and a million lists or objects a second and more.
Binary tensors may fill the body."""


class InputBody(BaseModel, strict=True):
    """The input tensor."""

    name: str = Field(description="image")
    datatype: str = Field(description="UINT8: pixels of the model's own size. BYTES: image files.")
    shape: Annotated[list[int], FailFast()] = Field(
        description="[B, H, W, 3] or [B, 3, H, W]; of BYTES [B] or [B, 1]. B is 1 to 64."
    )
    parameters: dict[str, Any] | None = Field(None, description="binary_data_size, if the data follow.")
    data: list[Any] | None = Field(None, description="Numbers, flat or nested; files in base64.")


class OutputBody(BaseModel, strict=True):
    """A tensor that the answer is to hold."""

    name: str = Field(description="probabilities, label, exit or flops")
    parameters: dict[str, Any] | None = Field(
        None, description="binary_data: as bytes behind the JSON. classification: the best classes as text."
    )


class InferBody(BaseModel, strict=True):
    """The JSON of an inference request."""

    id: str | None = Field(None, description="Comes back in the answer.")
    parameters: dict[str, Any] | None = Field(
        None,
        description="flop_budget, flop_limit, deadline_ms: as the headers. timeout: a deadline in "
        "microseconds. binary_data_output: all outputs as bytes.",
    )
    # One; documented so, but refused in plain words below.
    inputs: Annotated[list[InputBody], FailFast()] = Field(json_schema_extra={"minItems": 1, "maxItems": 1})
    outputs: list[OutputBody] | None = Field(None, max_length=16, description="Without, all.")


@dataclass(frozen=True)
class Wanted:
    """An output that the answer is to hold.

    Attributes:
        name: Of the tensor.
        binary: Whether its data go behind the JSON.
        classes: As text the so many best classes, where that is asked for, else ``None``.
    """

    name: str
    binary: bool
    classes: int | None


@dataclass(frozen=True)
class InferRequest:
    """What a request asks for, checked as far as it can be without knowing the model.

    Attributes:
        id: To be repeated.
        parameters: Of the request as a whole.
        datatype: Of the input.
        shape: Of the input; the first dimension is the number of images, 1 to ``MAX_IMAGES``.
        content: Its data: bytes, or what the JSON holds.
        outputs: In the order of the answer.
    """

    id: str | None
    parameters: Mapping[str, Any]
    datatype: str
    shape: tuple[int, ...]
    content: memoryview | list[Any]
    outputs: tuple[Wanted, ...]

    @property
    def images(self) -> int:
        """How many images it is about."""
        return self.shape[0]


def parse(body: bytes, json_bytes: int | None = None) -> InferRequest:
    """Read a request's body.

    Args:
        body: As received.
        json_bytes: How many bytes of it are JSON, from ``Inference-Header-Content-Length``; ``None``: all.
            With 0 the body is one image file.

    Raises:
        InvalidRequest: It is not such a request; the detail names the place.
        TooLarge: The JSON holds more than ``MAX_JSON`` allows.
    """
    if json_bytes is not None and json_bytes > len(body):
        raise InvalidRequest(
            f"Inference-Header-Content-Length is {json_bytes}; the body has {len(body)} bytes"
        )
    if json_bytes == 0:  # a raw binary request: the body is the one element of the only input
        file = memoryview(pack_bytes([body]))
        return InferRequest(None, {}, "BYTES", (1,), file, _wanted(None, {}))
    end = len(body) if json_bytes is None else json_bytes
    request = _checked(body[:end])
    if len(request.inputs) != 1:
        raise InvalidRequest(f"{len(request.inputs)} inputs; a request holds exactly one, named {IMAGE}")
    given = request.inputs[0]
    if given.name != IMAGE:
        raise InvalidRequest(f"input {quoted(given.name)}; the input is named {IMAGE}")
    if not 1 <= len(given.shape) <= MAX_RANK or not 1 <= given.shape[0] <= MAX_IMAGES:
        raise InvalidRequest(
            f"shape {shown(given.shape)}; it has up to {MAX_RANK} dimensions, and the first counts 1 to "
            f"{MAX_IMAGES} images"
        )
    parameters = request.parameters or {}
    content = _content(given, memoryview(body)[end:])
    outputs = _wanted(request.outputs, parameters)
    return InferRequest(request.id, parameters, given.datatype, tuple(given.shape), content, outputs)


def _checked(text: bytes) -> InferBody:
    """The JSON of a request. It is counted before it is read."""
    for mark, (most, what) in MAX_JSON.items():
        if (count := text.count(mark)) > most:
            raise TooLarge(f"JSON of {count} {what}; at most {most} are accepted, more as binary data")
    try:
        return InferBody.model_validate(orjson.loads(text))  # orjson reads numbers five times faster
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"request: not valid JSON: {error}") from error
    except ValidationError as error:
        raise invalid(error) from error


def _content(given: InputBody, behind: memoryview) -> memoryview | list[Any]:
    """The data of the input: its own, or what is behind the JSON."""
    parameters = given.parameters or {}
    if any(name.startswith("shared_memory") for name in parameters):
        raise InvalidRequest("this server has no shared memory; send the data")
    size = parameters.get("binary_data_size")
    if size is None:
        if given.data is None:
            raise InvalidRequest(f"{IMAGE} has neither data nor binary_data_size")
        if behind:
            raise InvalidRequest(f"{len(behind)} bytes follow the JSON, and no input has binary_data_size")
        return given.data
    if given.data is not None:
        raise InvalidRequest(f"{IMAGE} has both data and binary_data_size")
    if type(size) is not int or size != len(behind):
        raise InvalidRequest(
            f"binary_data_size is {shown(size)}; {len(behind)} bytes follow the JSON, which ends where "
            "Inference-Header-Content-Length says"
        )
    return behind


def _wanted(outputs: list[OutputBody] | None, parameters: Mapping[str, Any]) -> tuple[Wanted, ...]:
    everything = _flag(parameters, "binary_data_output", False)
    if not outputs:
        return tuple(Wanted(name, everything, None) for name in _OUTPUTS)
    wanted = tuple(_one_wanted(output.name, output.parameters or {}, everything) for output in outputs)
    if len({output.name for output in wanted}) < len(wanted):
        raise InvalidRequest("an output is asked for twice")
    return wanted


def _one_wanted(name: str, parameters: Mapping[str, Any], binary: bool) -> Wanted:
    if name not in _OUTPUTS:
        raise InvalidRequest(f"output {quoted(name)}; the outputs are {', '.join(_OUTPUTS)}")
    if any(key.startswith("shared_memory") for key in parameters):
        raise InvalidRequest("this server has no shared memory; outputs are in the answer")
    classes = parameters.get("classification")
    if classes is not None and (type(classes) is not int or classes < 1):
        raise InvalidRequest("classification is the number of classes wanted, at least 1")
    if classes is not None and name != PROBABILITIES:
        raise InvalidRequest(f"classification is for {PROBABILITIES}, not for {name}")
    return Wanted(name, _flag(parameters, "binary_data", binary), classes)


def _flag(parameters: Mapping[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if type(value) is not bool:
        raise InvalidRequest(f"{name} is true or false")
    return value


def shown(value: Any) -> str:
    """A client's number or shape as details show it; of anything else, and within a shape, its type."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_plain, value[: MAX_RANK + 1]))}]"
    return _plain(value)


def _plain(value: Any) -> str:
    return quoted(str(value))[1:-1] if isinstance(value, int | float | str) else f"a {type(value).__name__}"


def invalid(error: ValidationError) -> InvalidRequest:
    """A body that is not what its model says: where, and why."""
    first = error.errors(include_input=False, include_url=False)[0]
    return InvalidRequest(f"{'.'.join(map(str, first['loc'])) or 'request'}: {first['msg']}")


def unpack_bytes(content: memoryview, count: int) -> list[bytes]:
    """Read ``count`` elements of a BYTES tensor: a length in 4 bytes, little-endian, and as many bytes.

    Raises:
        InvalidRequest: ``content`` ends too early or too late.
    """
    elements: list[bytes] = []
    position = 0
    for i in range(count):
        start = position + 4
        length = struct.unpack_from("<I", content, position)[0] if start <= len(content) else 0
        position = start + length
        if position > len(content):
            raise InvalidRequest(
                f"the {len(content)} bytes of the BYTES tensor end within element {i} of {count}"
            )
        elements.append(bytes(content[start:position]))
    if position < len(content):
        raise InvalidRequest(
            f"{len(content) - position} bytes follow the {count} elements of the BYTES tensor"
        )
    return elements


def pack_bytes(elements: Iterable[bytes]) -> bytes:
    """The opposite of ``unpack_bytes``."""
    return b"".join(part for element in elements for part in (struct.pack("<I", len(element)), element))
