"""Damages image files at their seams and anywhere else; a seed and a number repeat each file."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple

from mutations.formats import chunk, segment, tiff
from mutations.parts import mended, signature, sized, split

NUMBERS = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x100, 0x3FFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF)
"""What lengths and sizes are replaced by: where the counting goes wrong."""

SIDES = (0, 1, 3, 17, 50, 51, 255, 3000, 5000, 16_383, 16_384, 65_535, 2**31 - 1, 2**31, 2**32 - 1)
MAX_BYTES = 7 * 2**20
"""No mutant is larger: as base64, too, it stays within the limit of a body."""


class Mutant(NamedTuple):
    """A damaged file.

    Attributes:
        origin: Name of the file that was damaged.
        damage: Names of what was done to it, in order.
        data: The file.
    """

    origin: str
    damage: tuple[str, ...]
    data: bytes


class Mutator:
    """Makes mutants; the ``number``-th depends on files, seed and number only."""

    def __init__(self, originals: Mapping[str, bytes], seed: int = 0) -> None:
        self._originals, self._seed = dict(originals), seed
        self._names = sorted(originals)

    def mutant(self, number: int) -> Mutant:
        dice = random.Random(f"{self._seed}/{number}")
        name = dice.choice(self._names)
        return self.damaged(name, self._originals[name], dice)

    def some(self, count: int, start: int = 0) -> Iterator[Mutant]:
        return (self.mutant(number) for number in range(start, start + count))

    def damaged(self, name: str, data: bytes, dice: random.Random) -> Mutant:
        """After one to eight mutations most have a whole signature, two of three have right checksums."""
        done, whole = [], signature(data)
        for _ in range(dice.choice((1, 1, 1, 2, 4, 8))):
            damage = dice.choice(DAMAGES)
            other = self._originals[dice.choice(self._names)] if damage in FROM_OTHERS else b""
            data = damage(dice, data, other)[:MAX_BYTES]
            done.append(damage.__name__.strip("_"))
        if dice.random() < 0.85:
            data = whole + data[len(whole) :]
        return Mutant(name, tuple(done), mended(data) if dice.random() < 2 / 3 else data)


def _place(dice: random.Random, data: bytes) -> int:
    """More often towards the beginning, where the headers are."""
    return int(dice.random() ** 2 * len(data))


def _truncation(dice: random.Random, data: bytes, _: bytes) -> bytes:
    return data[: dice.choice((_place(dice, data), max(0, len(data) - dice.randrange(1, 40))))]


def _flipped_bits(dice: random.Random, data: bytes, _: bytes) -> bytes:
    out = bytearray(data)
    for _flip in range(dice.choice((1, 3, 20)) if out else 0):
        out[_place(dice, data)] ^= 1 << dice.randrange(8)
    return bytes(out)


def _number(dice: random.Random, data: bytes, _: bytes) -> bytes:
    at, width = _place(dice, data), dice.choice((1, 2, 4))
    number = dice.choice(NUMBERS) % 256**width
    return data[:at] + number.to_bytes(width, dice.choice(("big", "little"))) + data[at + width :]


def _hole(dice: random.Random, data: bytes, _: bytes) -> bytes:
    at = _place(dice, data)
    return data[:at] + data[at + dice.choice((1, 2, 4, 16, 64, 256)) :]


def _noise(dice: random.Random, data: bytes, _: bytes) -> bytes:
    at = _place(dice, data)
    return data[:at] + dice.randbytes(dice.choice((1, 2, 16, 256))) + data[at + dice.choice((0, 1, 16)) :]


def _repetition(dice: random.Random, data: bytes, _: bytes) -> bytes:
    at, size = _place(dice, data), dice.choice((1, 4, 64, 1024))
    return data[:at] + data[at : at + size] * dice.choice((2, 3, 50)) + data[at + size :]


def _part_damaged(dice: random.Random, data: bytes, other: bytes) -> bytes:
    parts = split(data)
    if parts:
        chosen = dice.randrange(len(parts))
        parts[chosen] = dice.choice((_flipped_bits, _number, _hole, _noise))(dice, parts[chosen], other)
    return b"".join(parts)


def _part_left_out(dice: random.Random, data: bytes, _: bytes) -> bytes:
    parts = split(data)
    chosen = dice.randrange(max(1, len(parts)))
    return b"".join(parts[:chosen] + parts[chosen + 1 :])


def _part_repeated(dice: random.Random, data: bytes, _: bytes) -> bytes:
    parts = split(data)
    chosen = dice.randrange(max(1, len(parts)))
    part = b"".join(parts[chosen : chosen + 1])
    times = min(dice.choice((2, 2, 9, 300)), 2 + MAX_BYTES // max(1, len(part)))
    return b"".join([*parts[:chosen], part * times, *parts[chosen + 1 :]])


def _parts_swapped(dice: random.Random, data: bytes, _: bytes) -> bytes:
    head, *parts = split(data) or [b""]
    if len(parts) > 1:
        first, second = dice.sample(range(len(parts)), 2)
        parts[first], parts[second] = parts[second], parts[first]
    return b"".join((head, *parts))


def _foreign_part(dice: random.Random, data: bytes, other: bytes) -> bytes:
    parts, others = split(data), split(other)
    at = dice.randrange(1, max(2, len(parts)))
    return b"".join((*parts[:at], dice.choice(others), *parts[at + dice.randrange(2) :]))


def _length_lie(dice: random.Random, data: bytes, _: bytes) -> bytes:
    """Another length in a part's head, wherever its format keeps it; what follows stays."""
    at, width = {b"\x89P": (0, 4), b"\xff\xd8": (2, 2), b"RI": (4, 4), b"BM": (0, 4)}.get(data[:2], (0, 1))
    order: Literal["big", "little"] = "little" if data[:2] in (b"RI", b"BM") else "big"
    parts = split(data)
    chosen = dice.randrange(1, max(2, len(parts)))
    if chosen < len(parts):
        part = parts[chosen]
        said = int.from_bytes(part[at : at + width], order)
        number = dice.choice((*NUMBERS, said - 1, said + 1, said * 2)) % 256**width
        parts[chosen] = part[:at] + number.to_bytes(width, order) + part[at + width :]
    return b"".join(parts)


def _size(dice: random.Random, data: bytes, _: bytes) -> bytes:
    return sized(data, dice.choice(SIDES), dice.choice(SIDES), dice.randrange(3))


def _metadata(dice: random.Random, data: bytes, _: bytes) -> bytes:
    """EXIF of any orientation, whole or broken, and colour profiles, small, huge or none."""
    exif = tiff(dice.randrange(10), dice.choice("<>"), dice.choice((3, 3, 4, 99)), dice.choice((0, 3, 2000)))
    exif = dice.choice((exif, exif[: dice.randrange(len(exif))], _flipped_bits(dice, exif, b"")))
    profile = dice.choice((b"", b"junk", dice.randbytes(400), bytes(60_000)))
    head, *parts = split(data) or [b""]
    if data.startswith(b"\x89P"):
        inflated = b"icc\0\0" + zlib.compress(profile * dice.choice((1, 40)))
        more = dice.choice((chunk(b"eXIf", exif), chunk(b"iCCP", inflated), chunk(b"zTXt", inflated)))
        return b"".join((head, *parts[:1], more, *parts[1:]))
    if data.startswith(b"\xff\xd8"):
        icc = b"ICC_PROFILE\0" + dice.randbytes(2) + profile
        more = dice.choice((segment(0xE1, b"Exif\0\0" + exif), segment(0xE2, icc), segment(0xE1, b"http:")))
        return b"".join((head, more, *parts))
    tagged = dice.choice((b"EXIF" + len(exif).to_bytes(4, "little") + exif, b"!\xff\x0bICCRGBG1012\3abc\0"))
    return b"".join((head, *parts[:1], tagged, *parts[1:]))


def _polyglot(dice: random.Random, data: bytes, other: bytes) -> bytes:
    page = dice.choice((b"<html><script>1</script>", b"%PDF-1.7\n", b"PK\3\4", b"#!/bin/sh\n", other))
    return page + data if dice.random() < 0.2 else data + page


def _splice(dice: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: _place(dice, data)] + other[_place(dice, other) :]


Damage = Callable[[random.Random, bytes, bytes], bytes]
DAMAGES: tuple[Damage, ...] = (
    *(_truncation, _flipped_bits, _number, _hole, _noise, _repetition, _part_damaged, _part_left_out),
    *(_part_repeated, _parts_swapped, _foreign_part, _length_lie, _size, _metadata, _polyglot, _splice),
)
FROM_OTHERS = frozenset((_foreign_part, _polyglot, _splice))
