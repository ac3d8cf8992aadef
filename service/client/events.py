"""Server-sent events: from bytes to predictions. Nothing here receives, so both clients share it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import httpx

from service.client.answers import Answer, StreamedPrediction
from service.client.errors import NoAnswer, UnexpectedAnswer, from_problem
from service.client.fields import Fields
from service.client.reading import REQUEST_ID, answer_about, streamed_prediction

MEDIA_TYPE: Final = "text/event-stream"

_LINE_END: Final = re.compile(
    rb"\r\n|\n|\r"
)  # str.splitlines() and httpx's lines know others, which are data


@dataclass(frozen=True)
class Event:
    """One event.

    Attributes:
        name: Its type.
        data: Its data, lines joined by newlines.
    """

    name: str
    data: str


class EventDecoder:
    """Splits a stream into events, wherever the pieces end: within a character, a line end, an event.

    Source: WHATWG HTML, section 9.2.6. ``id``, ``retry`` and comments are passed over.
    """

    def __init__(self) -> None:
        """Start at the beginning of a stream."""
        self._rest = b""  # of an unfinished line
        self._after_return = False  # a newline that comes next belongs to the line end before
        self._name = ""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> Iterator[Event]:
        """The events that ``piece`` completes; to be exhausted before the next piece."""
        if self._after_return and piece:
            piece, self._after_return = piece.removeprefix(b"\n"), False
        if not piece:
            return
        self._after_return = piece.endswith(b"\r")
        *lines, self._rest = _LINE_END.split(self._rest + piece)
        for line in lines:
            if line:
                self._field(line.decode("utf-8", "replace"))
                continue
            if self._data:
                yield Event(self._name or "message", "\n".join(self._data))
            self._name, self._data = "", []

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._name = value
        elif name == "data":
            self._data.append(value)


class PredictionReader:
    """Reads the answer of ``/classify/stream``.

    Attributes:
        response: That brings it.
        answer: What the last event said; ``None`` until it came.
    """

    def __init__(self, response: httpx.Response) -> None:
        """Prepare for the body of ``response``.

        Raises:
            UnexpectedAnswer: It is no stream of events.
        """
        if not is_stream(response):
            kind = response.headers.get("content-type", "nothing")
            raise UnexpectedAnswer(f"the stream is {kind}, not {MEDIA_TYPE}")
        self.response = response
        self.answer: Answer | None = None
        self._decoder = EventDecoder()
        self._last: tuple[StreamedPrediction, ...] = ()

    def feed(self, piece: bytes) -> Iterator[StreamedPrediction]:
        """The predictions that ``piece`` completes; events of other names are passed over.

        Raises:
            Refused: The service failed midway.
            UnexpectedAnswer: An event cannot be read.
        """
        for event in self._decoder.feed(piece):
            if event.name == "prediction":
                prediction = streamed_prediction(Fields.parse(event.data, "the prediction"))
                self._last = (prediction,)
                yield prediction
            elif event.name == "done":
                self.answer = answer_about(
                    self._last, Fields.parse(event.data, "the end of the stream"), self._request_id
                )
            elif event.name == "error":
                problem = Fields.parse(event.data, "the error in the stream")
                raise from_problem(problem.members, problem.whole("status"), self._request_id)

    def finish(self) -> None:
        """Check that the body ended where the answer does.

        Raises:
            NoAnswer: It ended before.
        """
        if self.answer is None:
            raise NoAnswer("the stream ended before the answer was complete")

    @property
    def _request_id(self) -> str | None:
        sent: str | None = self.response.headers.get(REQUEST_ID)
        return sent


class WithAnswer:
    """What the streams of both clients have in common."""

    _reader: PredictionReader | None = None  # until the request is sent

    @property
    def answer(self) -> Answer:
        """What was spent and by which model, with the last prediction; there once the stream has ended.

        Raises:
            RuntimeError: The stream has not ended, or ended in an error.
        """
        if self._reader is None or self._reader.answer is None:
            raise RuntimeError("the stream has no answer before its end; iterate over it first")
        return self._reader.answer


def is_stream(response: httpx.Response) -> bool:
    """Whether the body of ``response`` is to be read event by event."""
    kind: str = response.headers.get("content-type", "")
    return response.is_success and kind.partition(";")[0].strip().lower() == MEDIA_TYPE
