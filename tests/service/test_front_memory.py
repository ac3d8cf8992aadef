"""Memory that a front and the engine share."""

from __future__ import annotations

import os

import numpy as np
import pytest

from service.front.memory import SLOT_BYTES, FreeSlots, SharedImages, create_memory


@pytest.fixture
def memory() -> tuple[SharedImages, SharedImages]:
    """Three slots as the front and as the engine see them."""
    descriptor = create_memory(3)
    both = SharedImages(descriptor, writable=True), SharedImages(descriptor, writable=False)
    os.close(descriptor)
    return both


def test_what_a_front_writes_the_engine_reads_without_a_copy(
    memory: tuple[SharedImages, SharedImages],
) -> None:
    front, engine = memory
    assert front.slots == engine.slots == 3
    seen = [engine.pixels(slot, 4, 5) for slot in range(3)]
    for slot in range(3):
        front.pixels(slot, 4, 5)[...] = slot + 1
    assert [int(image.sum()) for image in seen] == [60, 120, 180] and seen[0].shape == (3, 4, 5)


def test_the_engine_cannot_write(memory: tuple[SharedImages, SharedImages]) -> None:
    with pytest.raises(ValueError, match="read-only"):
        memory[1].pixels(0, 4, 5)[0, 0, 0] = 1


def test_the_largest_image_that_a_network_may_take_has_room(
    memory: tuple[SharedImages, SharedImages],
) -> None:
    last = memory[0].pixels(2, 4096, 4096)
    last[2, 4095, 4095] = 7
    assert memory[1].pixels(2, 4096, 4096)[2, 4095, 4095] == 7
    assert last.nbytes == SLOT_BYTES


@pytest.mark.parametrize(("slot", "height", "width"), [(3, 1, 1), (-1, 1, 1), (0, 4097, 4096)])
def test_nothing_outside_a_slot_is_an_image(
    memory: tuple[SharedImages, SharedImages], slot: int, height: int, width: int
) -> None:
    with pytest.raises(ValueError, match="slot"):
        memory[1].pixels(slot, height, width)


def test_an_image_stays_with_who_looks_at_it_after_the_memory_was_closed() -> None:
    descriptor = create_memory(1)
    front = SharedImages(descriptor, writable=True)
    front.pixels(0, 2, 2)[...] = 9
    image: np.ndarray = SharedImages(descriptor, writable=False).pixels(0, 2, 2)
    os.close(descriptor)
    del front
    other = SharedImages(create_memory(1), writable=True)  # that of the next front
    other.pixels(0, 2, 2)[...] = 1
    assert image.sum() == 3 * 2 * 2 * 9


def test_the_count_of_requests_begun_is_seen_by_both(memory: tuple[SharedImages, SharedImages]) -> None:
    front, engine = memory
    front.begun += 5
    front.begun -= 1
    assert engine.begun == 4


def test_every_slot_is_given_once_and_the_last_freed_first() -> None:
    slots = FreeSlots(3)
    taken = [slots.take() for _ in range(4)]
    assert taken == [0, 1, 2, None]
    slots.free(2)
    slots.free(0)
    assert (slots.take(), slots.take(), slots.take()) == (0, 2, None)
