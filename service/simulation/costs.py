"""What a request costs beside its launches, and the processors that have to do all of it."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Costs(BaseModel, frozen=True, extra="forbid"):
    """Times of one machine, seconds; all but ``among_s`` undisturbed.

    The interpreter's lock lets the event loop and the device's thread run Python in turns: what both do of it
    is one queue here. Launches let go of the lock.
    """

    receive_s: float = Field(gt=0, description="Event loop: from bytes in the socket to the engine's queue.")
    respond_s: float = Field(gt=0, description="Event loop: from the engine's answer to bytes in the socket.")
    among_s: float = Field(
        0.0,
        ge=0,
        description="A launch among others takes so much longer than alone: its program and its data have "
        "left the caches, and the interpreter is busy when it ends.",
    )
    launch_s: float = Field(0.0, ge=0, description="Device's thread: Python after each launch.")
    image_s: float = Field(0.0, ge=0, description="Device's thread: Python after a launch for each image.")
    client_s: float = Field(
        0.0, ge=0, description="Of a client on the same machine, for each request; 0: it is elsewhere."
    )
    cores: float = Field(gt=0, description="Processors of the machine.")
    threads: int = Field(ge=1, description="Processors that a launch uses.")

    @property
    def request_s(self) -> float:
        """Event loop: the whole request."""
        return self.receive_s + self.respond_s
