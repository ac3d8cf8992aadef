"""From the bytes of a request to pixels, on the event loop or beside it."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Histogram

from model_store.preprocess import ImageError, ImageLimits, ImageTooLarge, InputSpec, decode
from service.errors import ServiceError, UnsupportedMediaType, from_image_error
from service.headers import RequestHeaders
from service.settings import Settings

SMALL = ImageLimits(
    max_pixels=2**16, max_jpeg_pixels=2**16, max_webp_pixels=2**16, max_lossless_webp_pixels=2**16
)
"""What may be decoded on the event loop: a small file can hold a large image."""


class Decoder:
    """Decodes image files: inline where a thread hop would cost more, else in a thread.

    Attributes:
        threads: For whatever else is too slow for the event loop.
    """

    def __init__(self, settings: Settings, seconds: Histogram) -> None:
        """Decode within the limits of ``settings``; observe times in ``seconds``."""
        self.threads = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="decode")
        self._limits = ImageLimits(max_bytes=settings.max_body_bytes)
        self._inline_bytes = settings.inline_decode_bytes
        self._seconds = seconds

    async def decoded(self, data: bytes, spec: InputSpec) -> NDArray[np.uint8] | ServiceError:
        """An image file as pixels, uint8 (3, H, W), or why it has none."""
        started_s = time.perf_counter()
        try:
            if len(data) <= self._inline_bytes:
                with suppress(ImageTooLarge):
                    return decode(data, spec, SMALL)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self.threads, decode, data, spec, self._limits)
        except ImageError as error:
            return from_image_error(error)
        finally:
            self._seconds.observe(time.perf_counter() - started_s)

    def close(self) -> None:
        """Free the threads."""
        self.threads.shutdown(wait=False, cancel_futures=True)


def refuse_compressed(headers: RequestHeaders) -> None:
    """Let plain bodies pass: unpacking would multiply what a small request can cost.

    Raises:
        UnsupportedMediaType: The body is compressed.
    """
    if headers.content_encoding not in ("", "identity"):
        raise UnsupportedMediaType(
            f"bodies compressed with {headers.content_encoding[:64]!r} are not accepted; send the plain one"
        )
