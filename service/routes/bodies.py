"""From a request to what it asks for, and to its decoded images."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from model_store.preprocess import InputSpec
from service.decoding import refuse_compressed
from service.engine.ticket import Image
from service.errors import InvalidRequest, ServiceError
from service.headers import Budget, RequestHeaders
from service.limits import MAX_IMAGES
from service.state import Service

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
        return [await service.decoder.decoded(await request.body(), spec)]
    async with _form(request) as form:
        files = [_image_part(name, part) for name, part in form.multi_items()]
        if not 1 <= len(files) <= max_images:
            allowed = "exactly one" if max_images == 1 else f"1 to {max_images}"
            raise InvalidRequest(f"{len(files)} parts named image; a request holds {allowed}")
        return [await service.decoder.decoded(await file.read(), spec) for file in files]


@asynccontextmanager
async def _form(request: Request) -> AsyncIterator[FormData]:
    """The parsed multipart body; its files are closed afterwards."""
    async with aclosing(request.stream()) as stream:
        parser = MultiPartParser(request.headers, stream, max_files=MAX_IMAGES, max_fields=0)
        parser.spool_max_size = 0  # all in memory, as other bodies are and as their limit allows: no disk
        try:
            form = await parser.parse()
        except MultiPartException as error:
            raise InvalidRequest(_reason(error.message)) from error
    try:
        yield form
    finally:
        await form.close()


def _reason(detail: str) -> str:
    """What Starlette has against a form, in terms of images and with our limits."""
    if detail.startswith("Too many files"):
        return f"more than {MAX_IMAGES} files; a request holds 1 to {MAX_IMAGES} images"
    if detail.startswith("Too many fields"):
        return "a form field without a file; all parts of the form are files named image"
    return f"malformed multipart body: {detail}"


def _image_part(name: str, part: UploadFile | str) -> UploadFile:
    if name != "image" or isinstance(part, str):
        raise InvalidRequest(f"part {name[:64]!r} is not a file named image")
    return part
