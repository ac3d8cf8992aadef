"""Typed reading of JSON objects: what is asked for must be there, what is not asked for may be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from service.client.errors import UnexpectedAnswer

T = TypeVar("T")


class Fields:
    """A JSON object. Members that nobody reads, such as a newer server's, do no harm.

    Every method raises ``UnexpectedAnswer`` where the member is missing or of another type.

    Attributes:
        members: All of them, by name.
    """

    def __init__(self, value: object, name: str) -> None:
        """Check that ``value`` is an object; errors call it ``name``.

        Raises:
            UnexpectedAnswer: It is none.
        """
        self.members: dict[str, Any] = _checked(value, dict, name, "an object")
        self._name = name

    @classmethod
    def parse(cls, data: bytes | str, name: str) -> Fields:
        """Read the JSON text ``data``.

        Raises:
            UnexpectedAnswer: It is no JSON object.
        """
        try:
            return cls(json.loads(data), name)
        except (ValueError, RecursionError) as error:
            raise UnexpectedAnswer(f"{name} is not JSON: {error}") from error

    def __contains__(self, name: str) -> bool:
        """Whether there is a member ``name``."""
        return name in self.members

    def text(self, name: str) -> str:
        """A string."""
        return self._member(name, str, "a string")

    def flag(self, name: str) -> bool:
        """``true`` or ``false``."""
        return self._member(name, bool, "true or false")

    def whole(self, name: str) -> int:
        """A whole number."""
        return self._member(name, int, "a whole number")

    def number(self, name: str) -> float:
        """Any number."""
        value = self.members.get(name)
        if type(value) is int and abs(value) < 1 << 1023:  # JSON knows no difference
            return float(value)
        return self._member(name, float, "a number")

    def number_or_none(self, name: str) -> float | None:
        """Any number, ``null`` or nothing."""
        return None if self.members.get(name) is None else self.number(name)

    def inner(self, name: str) -> Fields:
        """An object."""
        return Fields(self.members.get(name), f"{self._name}.{name}")

    def mapping(self, name: str) -> Mapping[str, Any]:
        """An object as it is."""
        return self.inner(name).members

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        path = f"{self._name}.{name}"
        return tuple(_checked(value, str, path, "a list of strings") for value in self._list(name))

    def each(self, name: str) -> list[Fields]:
        """A list of objects."""
        path = f"{self._name}.{name}"
        return [Fields(value, f"{path}[{i}]") for i, value in enumerate(self._list(name))]

    def _list(self, name: str) -> list[Any]:
        return self._member(name, list, "a list")

    def _member(self, name: str, kind: type[T], what: str) -> T:
        return _checked(self.members.get(name), kind, f"{self._name}.{name}", what)


def _checked(value: object, kind: type[T], name: str, what: str) -> T:
    # type() and not isinstance(): true is no whole number, and json makes no subclasses.
    if type(value) is kind:
        return value
    raise UnexpectedAnswer(f"{name} is {value!r:.80}, not {what}")
