"""Everything that a request can end in but an answer: one tree.

* ExitrampError
  * Refused - the service, or something before it, answered with an error
    . RetryLater         429, 503: the same request succeeds later, if known after ``retry_after_s``
    . Unauthorized       401: the API key is missing or wrong
    . UnknownModel       404 unknown_model: no such model or task is loaded
    . UnusableImage      413, 415, 422 undecodable_image: send another image
    . BudgetTooSmall     422 budget_too_small: allow more; the detail names the cheapest exit's FLOPs
    . DeadlineExceeded   504 deadline_exceeded: not even the first exit was reached in time
  * NoAnswer - nothing answered, or not to the end: connection refused or lost, time-out
  * UnexpectedAnswer - what answered does not speak exitramp's contract

Arguments that cannot be sent at all are ``ValueError`` or ``TypeError``, unreadable files ``OSError``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx

SHOWN_CHARACTERS: Final = 200
"""Longest part of a foreign answer that a detail repeats."""


class ExitrampError(Exception):
    """Root of the tree."""


class NoAnswer(ExitrampError):
    """The answer did not arrive, or not to its end; whether the service worked on it is unknown."""


class UnexpectedAnswer(ExitrampError):
    """A success that cannot be read: not exitramp's, or of another version of its contract."""


class Refused(ExitrampError):
    """An answer that is an error.

    Attributes:
        status: HTTP status code.
        code: The service's stable name of the error; ``http_`` and the status if the answer names none.
        detail: What was wrong this time, for people.
        request_id: To quote when asking the operator; ``None`` if the answer has none.
        retry_after_s: Seconds after which to try again; ``None`` if the answer does not say.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        """Describe one occurrence."""
        super().__init__(status, code, detail, request_id, retry_after_s)  # all of it, so that it pickles
        self.status, self.code, self.detail = status, code, detail
        self.request_id, self.retry_after_s = request_id, retry_after_s

    def __str__(self) -> str:
        """Status, code and detail."""
        return f"{self.status} {self.code}: {self.detail}"


class RetryLater(Refused):
    """Overloaded, not ready, shutting down, or the key's FLOPs are used up."""


class Unauthorized(Refused):
    """The API key is missing or wrong."""


class UnknownModel(Refused):
    """No loaded model or task has the name asked for."""


class UnusableImage(Refused):
    """The image is too large, of no supported format, or broken."""


class BudgetTooSmall(Refused):
    """Budget or limit is below the cheapest exit; the detail names that exit's FLOPs."""


class DeadlineExceeded(Refused):
    """Not even the first exit fitted into the deadline."""


_BY_CODE: Final[dict[str, type[Refused]]] = {
    "unknown_model": UnknownModel,
    "undecodable_image": UnusableImage,
    "budget_too_small": BudgetTooSmall,
    "deadline_exceeded": DeadlineExceeded,
}
_BY_STATUS: Final[dict[int, type[Refused]]] = {
    401: Unauthorized,
    413: UnusableImage,
    415: UnusableImage,
    429: RetryLater,
    503: RetryLater,
}
"""Whatever their code: a proxy's or a newer server's mean the same."""


def refusal(response: httpx.Response) -> Refused:
    """The error that ``response`` stands for.

    Args:
        response: Not a success; its body has been read.
    """
    headers = response.headers
    request_id, retry_after_s = headers.get("x-request-id"), _retry_after_s(headers)
    try:
        problem = response.json() if _media_type(response) == "application/problem+json" else None
    except ValueError:
        problem = None
    if isinstance(problem, dict):
        return from_problem(problem, response.status_code, request_id, retry_after_s)
    told = {"detail": _foreign_detail(response)}
    return from_problem(told, response.status_code, request_id, retry_after_s)


def from_problem(
    problem: Mapping[str, Any], status: int, request_id: str | None, retry_after_s: float | None = None
) -> Refused:
    """The error that a problem document (RFC 9457, all members optional) describes.

    Args:
        problem: Its members.
        status: Of the response that brought it.
        request_id: Of the response, for documents that name none.
        retry_after_s: Of the response.
    """
    texts = {name: value for name, value in problem.items() if isinstance(value, str)}
    code = texts.get("code", f"http_{status}")
    detail = texts.get("detail") or texts.get("title") or f"status {status}"
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status, Refused)
    return kind(status, code, detail, texts.get("request_id", request_id), retry_after_s)


@contextmanager
def broken_off() -> Iterator[None]:
    """Turn failures of sending and receiving into ``NoAnswer``."""
    try:
        yield
    except httpx.HTTPError as error:
        raise NoAnswer(str(error) or type(error).__name__) from error


def _media_type(response: httpx.Response) -> str:
    text: str = response.headers.get("content-type", "")
    return text.partition(";")[0].strip().lower()


def _foreign_detail(response: httpx.Response) -> str:
    """Status and beginning of an error that is not the service's own; a page is not worth repeating."""
    line = f"{response.status_code} {response.reason_phrase}".strip()
    if _media_type(response) == "text/html":
        return line
    return f"{line}: {' '.join(response.text[:SHOWN_CHARACTERS].split())}".removesuffix(": ")


def _retry_after_s(headers: httpx.Headers) -> float | None:
    """``Retry-After``, seconds or a date; RFC 9110 section 10.2.3.

    A date counts from the answer's own ``Date``: the clocks of client and server need not agree.
    """
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        due, sent = parsedate_to_datetime(text), parsedate_to_datetime(headers["date"])
        return max(0.0, (due - sent).total_seconds())
    except (KeyError, ValueError, TypeError):  # no date, no dates, one of them without a zone
        return None
