"""Errors as the routes below ``/v2`` document them; ``service.problems`` renders them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class ProtocolError(BaseModel):
    """Every answer below ``/v2`` that is not a success."""

    error: str = Field(description="Names the value and the limit.")
    code: str = Field(description="Stable name of the error, as everywhere in this service.")


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route that may also answer ``statuses``."""
    return {status: {"model": ProtocolError} for status in statuses}
