"""Guarded connections: uvicorn's HTTP protocol with a receive deadline and limits on the request header.

uvicorn waits for ever for the rest of a request, and httptools buffers a header of any size. Here:

* **Header deadline.** A connection that was just opened, or on which the first byte of a request arrived,
  must complete that request's header within ``receive_timeout_s``.
* **Body rate.** The body has ``receive_timeout_s`` to begin with, and every byte that arrives moves its
  deadline by ``1 / min_body_bytes_per_s``, but never beyond ``receive_timeout_s`` from now. So a stalled
  body is closed within the timeout, one of single dripped bytes hardly later, and one that keeps the rate
  may take its time. Once the answer is complete, further body earns nothing.
* **Room.** Connections beyond what the process has descriptors for are closed, and some are kept for the
  server itself: it would have none left for a model to load or an engine to ask.
* **Header limits.** At most ``max_header_bytes`` and ``max_header_fields``, counted while a header arrives.
  The same number of bytes bounds chunk extensions and trailers between two pieces of a body.
* **One reading.** A head that another server could read differently is refused, see ``service.framing``, and
  nothing behind it is read: whoever passes on requests of several clients would mix them up.

The deadline rests while the client is not to blame: while the application is too slow to take the body
(reading is paused), has not asked for it (``Expect: 100-continue``), or still answers the request before.
Between a complete request and the next byte only uvicorn's keep-alive timeout counts.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from enum import Enum, auto

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.errors import HeadersTooLarge, InvalidRequest, RequestTimeout, ServiceError
from service.framing import flaw
from service.problems import NO_GUESSING, problem

logger = logging.getLogger(__name__)


KEPT_DESCRIPTORS = 64
"""That clients leave to the server itself: for models, its engine's sockets, Redis, what is imported late."""


def clients_at_most() -> int:
    """Connections for which this process has descriptors now."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit - min(KEPT_DESCRIPTORS, limit // 2)


class Phase(Enum):
    """What a connection is waiting for."""

    IDLE = auto()  # the next request, or the answer to the last
    HEADER = auto()
    BODY = auto()
    REFUSED = auto()  # an error was sent; what still arrives is thrown away


class GuardedProtocol(HttpToolsProtocol):
    """One connection; for ``uvicorn.Config(http="service.protocol:GuardedProtocol")``.

    It has one timer, which fires at the deadline that held when it was set and is set again if that moved.

    Attributes:
        receive_timeout_s: Time for a header, and longest silence within a body.
        min_body_bytes_per_s: Rate a body must keep; a burst counts for at most ``receive_timeout_s``.
        max_header_bytes: Bytes of request line and header fields, line ends included.
        max_header_fields: Header fields of a request.
        linger_s: Time after an error for which input is thrown away, so that the client can read the error:
            closing with unread input would reset the connection. Then the connection is cut.
    """

    receive_timeout_s = 5.0
    min_body_bytes_per_s = 4096
    max_header_bytes = 16 * 1024
    max_header_fields = 64
    linger_s = 1.0

    _phase: Phase
    _deadline_s: float  # of the loop's clock; meaningful in HEADER and BODY
    _header_bytes: int  # received since the last progress; may include bytes of a request before
    _timer: asyncio.TimerHandle | None = None
    _refusal: ServiceError | None = None
    _ending = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the deadline of the first header, or close what there is no room for."""
        super().connection_made(transport)
        if len(self.connections) > clients_at_most():
            transport.abort()
        else:
            self._expect_header()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse ``data``; callbacks that make progress reset the count of header bytes."""
        if self._phase is Phase.IDLE:
            self._expect_header()
        elif self._phase is Phase.BODY and not self.cycle.response_complete:
            latest_s = self.loop.time() + self.receive_timeout_s
            self._deadline_s = min(latest_s, self._deadline_s + len(data) / self.min_body_bytes_per_s)
        elif self._phase is Phase.REFUSED:
            return
        self._header_bytes += len(data)
        self._parse(data)
        if self._header_bytes > self.max_header_bytes and self._phase in (Phase.HEADER, Phase.BODY):
            self._refuse(HeadersTooLarge(f"request header of more than {self.max_header_bytes} bytes"))

    def _parse(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            while data:
                try:
                    return self.parser.feed_data(data)
                except httptools.HttpParserUpgrade as upgrade:
                    data = self._head_without_upgrade() + data[upgrade.args[0] :]
                    self.parser = httptools.HttpRequestParser(self)
        except httptools.HttpParserError:
            self.send_400_response("")

    def _head_without_upgrade(self) -> bytes:
        """The head of the current request as if it had not asked for another protocol: there is none.

        The parser takes what follows such a head for that protocol, and would read its body as a request.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        fields = (b"%s: %s\r\n" % (name, value) for name, value in self.headers if name != b"upgrade")
        return b"%s %s HTTP/%s\r\n%s\r\n" % (method, self.url, version, b"".join(fields))

    def on_message_begin(self) -> None:
        """Start the deadline of a pipelined request, which begins in the bytes of the one before."""
        super().on_message_begin()
        if self._phase is Phase.IDLE:
            self._expect_header()

    def on_headers_complete(self) -> None:
        """Check the header before the application sees it; start the deadline of the body."""
        fields, size = len(self.headers), self._header_bytes
        if size > self.max_header_bytes:  # perhaps with the body's beginning: count what the header holds
            line = len(self.parser.get_method()) + len(self.url) + len("  HTTP/1.1\r\n\r\n")
            size = line + sum(len(name) + len(value) + len(": \r\n") for name, value in self.headers)
        if fields > self.max_header_fields or size > self.max_header_bytes:
            limits = f"at most {self.max_header_fields} fields and {self.max_header_bytes} bytes are accepted"
            self._refusal = HeadersTooLarge(f"request header of {fields} fields and {size} bytes; {limits}")
            raise httptools.HttpParserError("header over the limit")  # ends parsing; see send_400_response
        flawed = flaw(self.parser.get_method(), self.parser.get_http_version(), self.headers)
        if flawed is not None:
            self._refusal = InvalidRequest(flawed)
            raise httptools.HttpParserError(flawed)
        if self.parser.should_upgrade():
            return  # see _parse: the head comes again
        super().on_headers_complete()
        if self._ending:
            self.cycle.keep_alive = False
        self.headers = []  # trailers are appended to it, and are no headers
        self._phase, self._header_bytes = Phase.BODY, 0
        self._deadline_s = self.loop.time() + self.receive_timeout_s

    def on_body(self, body: bytes) -> None:
        """Count anew the bytes that are not body."""
        self._header_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Lift the deadline."""
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        self._phase = Phase.IDLE

    def end_soon(self) -> None:
        """Have the next answer be the last; if a request is under way, the one to that."""
        self._ending = True
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser or ``on_headers_complete`` refused: uvicorn's hook for failed parsing."""
        self._refuse(self._refusal or InvalidRequest("request is not valid HTTP/1.1"))

    def _expect_header(self) -> None:
        self._phase, self._header_bytes = Phase.HEADER, 0
        self._deadline_s = self.loop.time() + self.receive_timeout_s
        if self._timer is None:
            self._timer = self.loop.call_at(self._deadline_s, self._on_timer)

    def _on_timer(self) -> None:
        """End the connection if its deadline has passed, else wait for the deadline that holds now."""
        self._timer = None
        if self._phase is Phase.REFUSED:
            self.transport.abort()
            return
        if self._phase is Phase.IDLE or self.transport.is_closing():
            return
        now_s = self.loop.time()
        if self._is_held():
            self._deadline_s = now_s + self.receive_timeout_s
        if now_s < self._deadline_s:
            self._timer = self.loop.call_at(self._deadline_s, self._on_timer)
        elif self._phase is Phase.HEADER and self._header_bytes == 0:
            self.transport.close()  # nothing was asked; the client would relate an answer to its next request
        else:
            what = f"request {self._phase.name.lower()} did not arrive within {self.receive_timeout_s:g} s"
            slow = f" or fell below {self.min_body_bytes_per_s} bytes/s" if self._phase is Phase.BODY else ""
            self._refuse(RequestTimeout(what + slow), linger=False)

    def _is_held(self) -> bool:
        """Whether we are the reason that the client sends nothing, or owe it the answer before."""
        if self.flow.read_paused:
            return True
        if self._phase is Phase.HEADER:
            return self.cycle is not None and not self.cycle.response_complete
        return self.cycle.waiting_for_100_continue

    def _may_answer(self) -> bool:
        """Whether an error written now stands where the client expects an answer."""
        if self._phase is Phase.BODY:
            return not self.cycle.response_started and not self.pipeline
        return self.cycle is None or self.cycle.response_complete

    def _refuse(self, error: ServiceError, linger: bool = True) -> None:
        """Send ``error`` if it can be sent, and close; ``linger`` for a client that may still be sending."""
        if self.transport.is_closing():
            return
        logger.info("request_refused", extra={"code": error.code})
        answered = self._may_answer()
        if answered:
            path = self.scope["path"] if self._phase is Phase.BODY else ""  # before, it may be half of one
            response = problem(error, path=path)
            headers = (*response.raw_headers, NO_GUESSING, (b"connection", b"close"))
            lines = [b"%s: %s\r\n" % header for header in headers]
            self.transport.write(b"".join((STATUS_LINE[error.status], *lines, b"\r\n", response.body)))
        if self.cycle is not None:
            self.cycle.disconnected = True  # whatever the application still says has no place to go
            self.cycle.message_event.set()
        self._phase = Phase.REFUSED
        if answered and linger and self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(self.linger_s, self._on_timer)
