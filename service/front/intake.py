"""The engine's end of a front's link."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast
from weakref import WeakKeyDictionary

from model_store.preprocess import InputSpec
from service.engine.loaded import LoadedModel
from service.errors import InternalError, ServiceError
from service.failures import ClientLeft, forget_frames
from service.front.memory import SharedImages
from service.front.sending import Sending
from service.front.wire import (
    Kind,
    Messages,
    Verdict,
    Wanted,
    pack_card,
    pack_error,
    pack_verdict,
    packed,
    unpack_error,
    unpack_wanted,
)
from service.headers import RequestHeaders
from service.routes.answer import Caller, classified
from service.routes.answered import card_of
from service.routes.bodies import Asked, Decoded
from service.state import Service

logger = logging.getLogger(__name__)


class _DecodeFirst(Exception):
    """The request would be taken; its image has to be decoded as this says."""


class Intake(asyncio.Protocol):
    """Answers the requests of one front through the same steps as those that this process has read itself."""

    def __init__(
        self, service: Service, images: SharedImages, on_end: Callable[[Intake], None] = lambda _: None
    ) -> None:
        """Have ``service`` classify what is in ``images``; call ``on_end`` once the front has gone."""
        self._service, self._images, self._on_end = service, images, on_end
        self._messages, self._sending = Messages(), Sending()
        self._cards: WeakKeyDictionary[LoadedModel, int] = WeakKeyDictionary()
        self._last_card = 0
        self._specs: dict[bytes, InputSpec] = {}  # by the text that the front knows them by
        self._leaving: dict[int, asyncio.Future[None]] = {}  # by request; done once nobody waits for it
        self._tasks: set[asyncio.Task[None]] = set()
        self._taken = 0

    @property
    def arriving(self) -> int:
        """Requests whose image the front is receiving or decoding."""
        return self._images.begun - self._taken

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._sending.begin(cast(asyncio.Transport, transport))  # uvloop's is no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up what the front has asked for: its clients are gone with it."""
        for left in self._leaving.values():
            if not left.done():
                left.set_result(None)
        self._on_end(self)

    def data_received(self, data: bytes) -> None:
        """Take requests and cancellations."""
        for kind, number, payload in self._messages.feed(data):
            if kind == Kind.CANCEL:
                left = self._leaving.get(number)
                if left is not None and not left.done():
                    left.set_result(None)
                continue
            self._taken += kind != Kind.ASK
            loop, wanted = asyncio.get_running_loop(), unpack_wanted(payload)
            # Not only when the task runs: the cancellation may be in the same bytes.
            left = self._leaving[number] = loop.create_future()
            task = loop.create_task(self._reply(kind, number, wanted, left))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _reply(self, kind: int, number: int, wanted: Wanted, left: asyncio.Future[None]) -> None:
        try:
            message = await self._answer(kind, number, wanted, left)
        except _DecodeFirst as answer:
            message = packed(Kind.DECODE, number, *answer.args)
        except ServiceError as error:
            forget_frames(error)
            message = packed(Kind.REFUSAL, number, pack_error(error))
        except ClientLeft:
            message = packed(Kind.GONE, number)
        except Exception:  # a bug of ours or the device's, told like any other in service.observe
            logger.exception("request_failed", extra={"request_id": wanted.request_id})
            message = packed(Kind.REFUSAL, number, pack_error(InternalError()))
        finally:
            del self._leaving[number]
        self._sending.send(message)

    async def _answer(self, kind: int, number: int, wanted: Wanted, left: asyncio.Future[None]) -> bytes:
        headers = RequestHeaders(
            wanted.budget, wanted.model or None, wanted.api_key or None, wanted.request_id, "", ""
        )

        async def images(spec: InputSpec) -> Decoded:
            if left.done():
                raise ClientLeft
            if kind == Kind.FAILED:
                raise unpack_error(wanted.failure)
            known = self._specs.get(wanted.spec)
            if known is not spec and known != spec:
                text = spec.model_dump_json().encode()
                self._specs[text] = spec
                raise _DecodeFirst(text)
            return [self._images.pixels(wanted.slot, spec.height, spec.width)]

        async def source() -> Asked:
            # Else, decoded anew for one model, an image might find that it is another one's turn by then.
            single = self._service.loaded()[0].one_input(headers.model)
            return Asked(headers.model, headers.budget, single, images)

        answered = await classified(Caller(self._service, headers, wanted.started_s, lambda: left), source)
        said = answered.only
        verdict = Verdict(
            self._card(answered.model),
            said.queue_s,
            said.compute_s,
            said.flops,
            said.exit,
            said.degraded,
            said.classes,
            said.probabilities,
        )
        return packed(Kind.ANSWER, number, pack_verdict(verdict))

    def _card(self, model: LoadedModel) -> int:
        """The number by which the front knows ``model``; what it does not know yet is told first."""
        number = self._cards.get(model)
        if number is None:
            number = self._cards[model] = self._last_card = self._last_card + 1
            self._sending.send(packed(Kind.CARD, number, pack_card(card_of(model))))
        return number
