"""From a request to what it asks for, and to its decoded images."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from model_store.preprocess import ImageError, ImageLimits, ImageTooLarge, InputSpec, decode
from service.engine.ticket import Image
from service.errors import InvalidRequest, ServiceError, UnsupportedMediaType, from_image_error
from service.headers import Budget, RequestHeaders
from service.state import Service

MAX_IMAGES = 64
"""Images in one request."""

SMALL = ImageLimits(
    max_pixels=2**16, max_jpeg_pixels=2**16, max_webp_pixels=2**16, max_lossless_webp_pixels=2**16
)
"""What may be decoded on the event loop: a small file can hold a large image."""

Decoded = list[Image | ServiceError]
"""One entry per image sent, in order: pixels, or why there are none."""


@dataclass(frozen=True)
class Asked:
    """What a request asks for, wherever its protocol says so.

    Attributes:
        model: A task, a model, or ``name@version``; ``None`` for the default.
        budget: What may be spent.
        single: Whether it is about one image; several are owed an exact sum.
        images: Receives what is still missing and decodes the images, given what the model takes.
        whole: Whether answers are to hold the probabilities of all classes.
    """

    model: str | None
    budget: Budget
    single: bool
    images: Callable[[InputSpec], Awaitable[Decoded]]
    whole: bool = False


Source = Callable[[Request, RequestHeaders, Service], Awaitable[Asked]]
"""Finds out what a request asks for. It has a permit by then, and its headers are parsed."""


async def image_files(
    request: Request, headers: RequestHeaders, service: Service, max_images: int = MAX_IMAGES
) -> Asked:
    """A request whose headers say everything and whose body is image files: the ``Source`` of ``/classify``.

    Args:
        request: Its body is one image, or ``multipart/form-data`` with 1 to 64 parts named ``image``.
        headers: Its parsed headers.
        service: Gives limits, decoding threads and metrics.
        max_images: How many the route takes at once.
    """
    single = headers.media_type != "multipart/form-data"
    images = partial(_read_images, request, headers, service, max_images)
    return Asked(headers.model, headers.budget, single, images)


one_image: Source = partial(image_files, max_images=1)
"""The same for routes that take a single image."""


def refuse_compressed(headers: RequestHeaders) -> None:
    """Let plain bodies pass: unpacking would multiply what a small request can cost.

    Raises:
        UnsupportedMediaType: The body is compressed.
    """
    if headers.content_encoding not in ("", "identity"):
        raise UnsupportedMediaType(
            f"bodies compressed with {headers.content_encoding[:64]!r} are not accepted; send the plain one"
        )


async def _read_images(
    request: Request, headers: RequestHeaders, service: Service, max_images: int, spec: InputSpec
) -> Decoded:
    """Receive and decode the images of a request.

    Raises:
        InvalidRequest: The multipart body is malformed or has other parts than these.
        UnsupportedMediaType: The body is compressed.
        TooLarge: The body is over the limit, see ``service.limits``.
    """
    refuse_compressed(headers)
    if headers.media_type != "multipart/form-data":
        return [await decoded(await request.body(), service, spec)]
    async with _form(request) as form:
        files = [_image_part(name, part) for name, part in form.multi_items()]
        if not 1 <= len(files) <= max_images:
            allowed = "exactly one" if max_images == 1 else f"1 to {max_images}"
            raise InvalidRequest(f"{len(files)} parts named image; a request holds {allowed}")
        return [await decoded(await file.read(), service, spec) for file in files]


async def decoded(data: bytes, service: Service, spec: InputSpec) -> Image | ServiceError:
    """An image file as pixels: decoded inline where a thread hop would cost more, else in a thread."""
    started_s = time.perf_counter()
    try:
        if len(data) <= service.settings.inline_decode_bytes:
            with suppress(ImageTooLarge):
                return decode(data, spec, SMALL)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(service.decoders, decode, data, spec, service.image_limits)
    except ImageError as error:
        return from_image_error(error)
    finally:
        service.metrics.decode_seconds.observe(time.perf_counter() - started_s)


@asynccontextmanager
async def _form(request: Request) -> AsyncIterator[FormData]:
    """The parsed multipart body; its temporary files are closed afterwards."""
    try:
        form = await request.form(max_files=MAX_IMAGES, max_fields=0)
    except HTTPException as error:
        if error.status_code != 400:
            raise
        raise InvalidRequest(f"malformed multipart body: {error.detail}") from error
    try:
        yield form
    finally:
        await form.close()


def _image_part(name: str, part: UploadFile | str) -> UploadFile:
    if name != "image" or isinstance(part, str):
        raise InvalidRequest(f"part {name[:64]!r} is not a file named image")
    return part
