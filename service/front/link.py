"""A front's end of its link with the engine."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import cast

from model_store.preprocess import InputSpec
from service.errors import NotReady, Overloaded, ServiceError
from service.front.memory import FreeSlots, SharedImages
from service.front.sending import Sending
from service.front.wire import (
    Kind,
    Messages,
    Verdict,
    Wanted,
    pack_wanted,
    packed,
    unpack_card,
    unpack_error,
    unpack_verdict,
)
from service.rendering import ModelCard

NUMBERS = 2**32 - 1
"""Of requests; then they begin again at 1."""

REMEMBERED = 1024
"""Keys, and names of models, that a link remembers; clients choose them."""

RESTART_S = 2.0
"""What clients are told to wait for an engine, seconds."""


@dataclass(frozen=True, slots=True)
class Told:
    """How an image is to be decoded: as the engine says it, and what that means."""

    text: bytes
    spec: InputSpec


Reply = tuple[ModelCard, Verdict] | ServiceError | Told | None
"""What the engine says to a request; ``None`` to one that was cancelled."""


class Link(asyncio.Protocol):
    """Carries requests to one engine, until it or the front ends.

    Attributes:
        images: Memory that it shares with the engine.
        specs: How images for a model, by the name that requests ask for, had to be decoded the last time.
        welcome: API keys (empty: none) whose last request was not refused before its image was looked at.
            Others ask first, so that nothing is decoded for who has no right, or when there is no room.
    """

    def __init__(self, images: SharedImages) -> None:
        """Use ``images`` from their first slot on."""
        self.images = images
        self.specs: dict[str, Told] = {}
        self.welcome: set[str] = set()
        self._slots = FreeSlots(images.slots)
        self._messages = Messages()
        self._sending = Sending()
        self._last_number = 0
        self._pending: dict[int, tuple[asyncio.Future[Reply], int | None]] = {}
        self._cards: dict[int, ModelCard] = {}
        self._open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._sending.begin(cast(asyncio.Transport, transport))  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Hand out what the engine says."""
        for kind, number, payload in self._messages.feed(data):
            if kind == Kind.CARD:
                self._cards[number] = unpack_card(payload)
                continue
            future, slot = self._pending.pop(number)
            if slot is not None:
                self._slots.free(slot)  # not before: until now the engine may have read it
            if not future.done():
                future.set_result(self._reply(kind, payload))

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody will answer what is open."""
        self._open = False
        pending, self._pending = self._pending, {}
        for future, _ in pending.values():
            if not future.done():
                future.set_result(NotReady("the engine has ended; it is being restarted", RESTART_S))

    @property
    def open(self) -> bool:
        """Whether there is an engine at the other end."""
        return self._open

    def take_slot(self) -> int:
        """Room for an image that is going to be received.

        Raises:
            Overloaded: There is none.
        """
        slot = self._slots.take()
        if slot is None:
            raise Overloaded(f"all {self.images.slots} places for images are taken", retry_after_s=1)
        self.images.begun += 1
        return slot

    def give_up_slot(self, slot: int) -> None:
        """Give back room for which nothing has been sent."""
        self.images.begun -= 1
        self._slots.free(slot)

    def send(self, kind: Kind, wanted: Wanted, slot: int | None = None) -> tuple[int, asyncio.Future[Reply]]:
        """Ask; the request's number, and where the reply comes. A ``slot`` is the engine's until then."""
        number = self._last_number = self._last_number % NUMBERS + 1
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._pending[number] = (future, slot)
        self._sending.send(packed(kind, number, pack_wanted(wanted)))
        if not self._open:
            self.connection_lost(None)
        return number, future

    def cancel(self, number: int) -> None:
        """Tell the engine that nobody waits for a request any more."""
        if number in self._pending:
            self._sending.send(packed(Kind.CANCEL, number))

    def learn(self, model: str, api_key: str, reply: Reply) -> None:
        """Remember what a reply says of the requests to come."""
        if isinstance(reply, ServiceError) and reply.status in (401, 503):
            self.welcome.discard(api_key)
        elif isinstance(reply, Told):
            for known in (self.welcome, self.specs):
                if len(known) >= REMEMBERED:
                    known.clear()
            self.welcome.add(api_key)
            self.specs[model] = reply

    def _reply(self, kind: int, payload: bytes) -> Reply:
        if kind == Kind.ANSWER:
            verdict = unpack_verdict(payload)
            return self._cards[verdict.card], verdict
        if kind == Kind.REFUSAL:
            return unpack_error(payload)
        if kind == Kind.DECODE:
            return Told(payload, InputSpec.model_validate_json(payload))
        return None
