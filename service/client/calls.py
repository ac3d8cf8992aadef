"""Every request as data, with the function that reads its answer: all that the two clients have in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import IO, Final, Generic, TypeAlias, TypedDict, TypeVar, Unpack
from urllib.parse import quote

import httpx

from service.client import reading
from service.client.answers import Answer, Explanation, Model
from service.client.errors import refusal
from service.client.events import MEDIA_TYPE, PredictionReader

T = TypeVar("T")

MAX_IMAGES: Final = 64
"""Images in one request."""

Image: TypeAlias = bytes | str | os.PathLike[str] | IO[bytes]
"""An encoded image (JPEG, PNG, WebP, GIF or BMP): bytes, the path of a file, or a binary file.

Files are read when the call begins (of ``AsyncClient``: when it is awaited), open ones from where they stand.
"""

Number: TypeAlias = float | str
"""A number, or one as the service reads it: ``"25M"``, ``"2.5e7"``. The service judges it."""


class Options(TypedDict, total=False):
    """What may be said about images; ``None`` is the same as nothing.

    Attributes:
        budget: Mean FLOPs per image: a hard one may cost more, an easy one less.
        limit: FLOPs that no image exceeds.
        deadline_ms: Milliseconds from the request's arrival to its answer.
        model: A task, a model, or ``name@version``.
        request_id: Echoed in the answer and written to the service's logs; 1 to 128 printable characters.
    """

    budget: Number | None
    limit: Number | None
    deadline_ms: Number | None
    model: str | None
    request_id: str | None


_HEADERS: Final = {
    "budget": "X-FLOP-Budget",
    "limit": "X-FLOP-Limit",
    "deadline_ms": "X-Deadline-Ms",
    "model": "X-Model",
    "request_id": reading.REQUEST_ID,
}


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request and how its answer is read.

    Attributes:
        method: Of HTTP.
        path: Below the service's address.
        read: Makes the result of a response that is a success.
        headers: Of the request.
        content: Its body.
        files: Its body as multipart: name of the part, and file name, content and type.
        streams: Whether ``read`` takes the response before its body.
        readable: A status that ``read`` understands though it is no success.
    """

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes | None = None
    files: list[tuple[str, tuple[str, bytes, str]]] | None = None
    streams: bool = False
    readable: int | None = None

    def request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """The request, for sending once."""
        return http.build_request(
            self.method, self.path, headers=self.headers, content=self.content, files=self.files
        )

    def result(self, response: httpx.Response) -> T:
        """What the response says.

        Raises:
            Refused: It is an error.
            UnexpectedAnswer: It cannot be read.
        """
        if response.is_success or response.status_code == self.readable:
            return self.read(response)
        raise refusal(response)


def connection_headers(api_key: str | None) -> dict[str, str]:
    """The headers of all requests."""
    return {} if api_key is None else {"X-API-Key": _header("api_key", api_key)}


def classify(image: Image, **options: Unpack[Options]) -> Call[Answer]:
    """One image, as the raw body."""
    return Call("POST", "/classify", reading.answer, _headers(options), content=_encoded(image))


def classify_many(images: Iterable[Image], **options: Unpack[Options]) -> Call[Answer]:
    """1 to 64 images, as multipart.

    Raises:
        ValueError: There are more or fewer.
    """
    if isinstance(images, str | bytes | os.PathLike):
        raise TypeError("classify_many takes several images; for one there is classify")
    encoded = [_encoded(image) for image in images]
    if not 1 <= len(encoded) <= MAX_IMAGES:
        raise ValueError(f"{len(encoded)} images; a request holds 1 to {MAX_IMAGES}")
    files = [
        ("image", (str(position), data, "application/octet-stream")) for position, data in enumerate(encoded)
    ]
    return Call("POST", "/classify", reading.answer, _headers(options), files=files)


def stream(image: Image, **options: Unpack[Options]) -> Call[PredictionReader]:
    """One image, answered by one event per exit."""
    headers = {**_headers(options), "Accept": MEDIA_TYPE}
    content = _encoded(image)
    return Call("POST", "/classify/stream", PredictionReader, headers, content=content, streams=True)


def explain(image: Image, **options: Unpack[Options]) -> Call[Explanation]:
    """One image, answered by a picture."""
    return Call("POST", "/explain", reading.explanation, _headers(options), content=_encoded(image))


def models() -> Call[tuple[Model, ...]]:
    """All loaded models."""
    return Call("GET", "/models", reading.models)


def model(name: str) -> Call[Model]:
    """One loaded model."""
    return Call("GET", f"/models/{quote(name, safe='@')}", reading.model)


def ready() -> Call[bool]:
    """Whether images are answered; that they are not is an answer too, and no reason to ask again."""
    return Call("GET", "/readyz", lambda response: response.is_success, readable=503)


def _headers(options: Options) -> dict[str, str]:
    unknown = ", ".join(sorted(options.keys() - _HEADERS.keys()))
    if unknown:
        raise TypeError(f"unknown arguments {unknown}; there are {', '.join(_HEADERS)}")
    given = {name: str(value) for name, value in options.items() if value is not None}
    return {_HEADERS[name]: _header(name, text) for name, text in given.items()}


def _header(name: str, text: str) -> str:
    """Check what HTTP could not carry; the value may be an API key, which no message shows."""
    if text.isascii() and text.isprintable() and text == text.strip():
        return text
    raise ValueError(f"{name} is not printable ASCII without spaces around it")


def _encoded(image: Image) -> bytes:
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | os.PathLike):
        with open(image, "rb") as file:
            return file.read()
    data = image.read() if hasattr(image, "read") else image
    if isinstance(data, bytes):
        return data
    raise TypeError(f"an image is bytes, a path or a file open for reading bytes, not {type(image).__name__}")
