"""Every answer of the service that is not a success: one tree, rendered by ``service.problems``.

* ServiceError
  * ClientError - sent again unchanged, the request fails again
    . InvalidRequest        400 invalid_request
    . InvalidHeader         400 invalid_header
    . Unauthorized          401 unauthorized
    . Forbidden             403 forbidden
    . NotFound              404 not_found
    . UnknownModel          404 unknown_model
    . MethodNotAllowed      405 method_not_allowed
    . RequestTimeout        408 request_timeout
    . TooLarge              413 too_large
    . UnsupportedMediaType  415 unsupported_media_type
    . UndecodableImage      422 undecodable_image
    . BudgetTooSmall        422 budget_too_small
    . NotExplainable        422 not_explainable
    . HeadersTooLarge       431 headers_too_large
  * RetryLater - the same request succeeds after ``Retry-After`` seconds
    . QuotaExhausted        429 quota_exhausted
    . Overloaded            503 overloaded
    . NotReady              503 not_ready
    . Draining              503 draining
  * ServerError - the request was right and was not answered
    . InternalError         500 internal_error
    . DeadlineExceeded      504 deadline_exceeded

Routes and middleware raise these; ``service.problems.problem`` turns one into a response. ``code`` is part of
the contract and never changes; ``detail`` is for people: it names the value and the limit, nothing internal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil
from typing import Protocol


class ServiceError(Exception):
    """Root of the tree; raise the leaves.

    Attributes:
        status: HTTP status code.
        code: Stable machine-readable name, unique in the tree.
        title: The code in words, the same for every occurrence.
        detail: What was wrong this time; shown to the client.
        headers: Response headers that the error brings along.
    """

    status: int
    code: str
    title: str

    def __init__(self, detail: str, headers: Mapping[str, str] | None = None) -> None:
        """Describe one occurrence; ``headers`` go into the response."""
        super().__init__(detail)
        self.detail = detail
        self.headers: Mapping[str, str] = headers or {}


class ClientError(ServiceError):
    """The request has to change."""


class RetryLater(ServiceError):
    """Refused for now; carries ``Retry-After``."""

    def __init__(self, detail: str, retry_after_s: float) -> None:
        """Ask the client to come back in ``retry_after_s`` seconds, rounded up to whole ones, at least 1."""
        # HTTP knows whole seconds only, and 0 would invite a client to hammer.
        super().__init__(detail, {"Retry-After": str(max(1, ceil(retry_after_s)))})


class ServerError(ServiceError):
    """The service failed the request."""


class InvalidRequest(ClientError):
    """Syntax beyond the headers is broken, e.g. a malformed multipart body."""

    status, code, title = 400, "invalid_request", "Invalid request"


class InvalidHeader(ClientError):
    """A request header is repeated, empty or unparsable."""

    status, code, title = 400, "invalid_header", "Invalid request header"


class Unauthorized(ClientError):
    """Keys are configured, and the request carries none of them."""

    status, code, title = 401, "unauthorized", "Unauthorized"

    def __init__(self, detail: str, header: str = "X-API-Key") -> None:
        """Name the ``header`` that must hold a key; RFC 9110 section 15.5.2 demands a challenge."""
        super().__init__(detail, {"WWW-Authenticate": f'ApiKey realm="exitramp", header="{header}"'})


class Forbidden(ClientError):
    """An administrator's route, and no key for these is configured."""

    status, code, title = 403, "forbidden", "Forbidden"


class NotFound(ClientError):
    """No such route."""

    status, code, title = 404, "not_found", "Not found"


class UnknownModel(ClientError):
    """No loaded model or task has the name asked for."""

    status, code, title = 404, "unknown_model", "Unknown model"


class MethodNotAllowed(ClientError):
    """The route exists for other methods."""

    status, code, title = 405, "method_not_allowed", "Method not allowed"

    def __init__(self, detail: str, allowed: Iterable[str]) -> None:
        """``allowed`` methods go into ``Allow``, as RFC 9110 section 15.5.6 demands."""
        super().__init__(detail, {"Allow": ", ".join(allowed)})


class RequestTimeout(ClientError):
    """The request did not arrive within the receive deadline."""

    status, code, title = 408, "request_timeout", "Request timeout"


class TooLarge(ClientError):
    """Bytes, pixels or aspect ratio exceed the limit."""

    status, code, title = 413, "too_large", "Too large"


class UnsupportedMediaType(ClientError):
    """Not JPEG, PNG, WebP, GIF or BMP by its first bytes, or a compressed body."""

    status, code, title = 415, "unsupported_media_type", "Unsupported media type"


class UndecodableImage(ClientError):
    """The first bytes are those of an image format, the rest is broken or missing."""

    status, code, title = 422, "undecodable_image", "Undecodable image"


class BudgetTooSmall(ClientError):
    """Budget or limit is below the cheapest exit; the detail names that exit's FLOPs."""

    status, code, title = 422, "budget_too_small", "Budget too small"


class NotExplainable(ClientError):
    """No class-activation map can be read from the head of the exit that answered."""

    status, code, title = 422, "not_explainable", "Not explainable"


class HeadersTooLarge(ClientError):
    """More header bytes or fields than the server takes."""

    status, code, title = 431, "headers_too_large", "Request headers too large"


class QuotaExhausted(RetryLater):
    """The API key's FLOP allowance is used up."""

    status, code, title = 429, "quota_exhausted", "Quota exhausted"


class Overloaded(RetryLater):
    """Refused before decoding: all permits are taken."""

    status, code, title = 503, "overloaded", "Overloaded"


class NotReady(RetryLater):
    """Models are still being loaded or warmed up, the device hangs, or the model's launches fail."""

    status, code, title = 503, "not_ready", "Not ready"


class Draining(RetryLater):
    """The process is shutting down and takes nothing new."""

    status, code, title = 503, "draining", "Draining"


class InternalError(ServerError):
    """Our own bug or a device failure. The cause goes to the log, never to the client."""

    status, code, title = 500, "internal_error", "Internal error"

    def __init__(self) -> None:
        """Take no detail, so that none can leak."""
        super().__init__("the server failed to answer this request; the cause is in its log")


class DeadlineExceeded(ServerError):
    """Not even the first exit fitted into the deadline."""

    status, code, title = 504, "deadline_exceeded", "Deadline exceeded"


class CodedError(Protocol):
    """An error of another package that names a code of this tree: ``model_store.preprocess.ImageError``."""

    @property
    def code(self) -> str:
        """One of the codes above."""


_IMAGE_ERRORS = {error.code: error for error in (TooLarge, UnsupportedMediaType, UndecodableImage)}


def from_image_error(error: CodedError) -> ServiceError:
    """A refused image, ``str(error)`` as its detail; ``InternalError`` for a code that no image can have."""
    known = _IMAGE_ERRORS.get(error.code)
    return InternalError() if known is None else known(str(error))
