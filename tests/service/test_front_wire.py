"""What fronts and the engine tell each other survives the way, in pieces of any size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import errors
from service.errors import InternalError, Overloaded, ServiceError, Unauthorized
from service.front.wire import (
    Kind,
    Messages,
    Verdict,
    Wanted,
    pack_card,
    pack_error,
    pack_verdict,
    pack_wanted,
    packed,
    unpack_card,
    unpack_error,
    unpack_verdict,
    unpack_wanted,
)
from service.headers import Budget
from service.rendering import ModelCard

positive = st.floats(min_value=1e-300, max_value=1e300)
budgets = st.builds(Budget, *[st.none() | positive] * 3)
texts = st.text(st.characters(codec="ascii"), max_size=200)
wanted = st.builds(
    Wanted,
    st.floats(min_value=0, max_value=1e12),
    budgets,
    st.integers(0, 2**32 - 1),
    st.binary(max_size=300),
    texts,
    texts,
    texts,
    st.binary(max_size=300),
)


@given(wanted)
def test_a_request_survives_the_way(asked: Wanted) -> None:
    assert unpack_wanted(pack_wanted(asked)) == asked


@given(st.data(), st.integers(1, 8))
def test_an_answer_survives_the_way_to_the_last_bit(data: st.DataObject, count: int) -> None:
    numbers = st.lists(st.integers(0, 2**32 - 1), min_size=count, max_size=count)
    shares = st.lists(st.floats(0, 1), min_size=count, max_size=count)
    seconds, flops = st.floats(0, 1e6), st.integers(0, 2**64 - 1)
    verdict = Verdict(
        data.draw(st.integers(0, 2**32 - 1)),
        data.draw(seconds),
        data.draw(seconds),
        data.draw(flops),
        data.draw(st.integers(1, 2**16 - 1)),
        data.draw(st.booleans()),
        tuple(data.draw(numbers)),
        tuple(data.draw(shares)),
    )
    assert unpack_verdict(pack_verdict(verdict)) == verdict


@given(
    st.lists(st.tuples(st.sampled_from(Kind), st.integers(0, 2**32 - 1), st.binary(max_size=50)), max_size=8),
    st.lists(st.integers(1, 40), min_size=1, max_size=10),
)
def test_messages_are_found_however_the_socket_cuts_them(
    sent: list[tuple[Kind, int, bytes]], pieces: list[int]
) -> None:
    stream, messages, found = b"".join(packed(*one) for one in sent), Messages(), []
    turn = 0
    while stream:
        size = pieces[turn % len(pieces)]
        found += messages.feed(stream[:size])
        stream, turn = stream[size:], turn + 1
    assert found == sent


def leaves() -> list[type[ServiceError]]:
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "code")]


@pytest.mark.parametrize("kind", [kind for kind in leaves() if issubclass(kind, ServiceError)])
def test_every_error_of_the_tree_survives_the_way(kind: type[ServiceError]) -> None:
    error = kind.__new__(kind)
    ServiceError.__init__(error, "why, and \ud800 a lone surrogate", {"Retry-After": "3"})
    came = unpack_error(pack_error(error))
    assert type(came) is kind and (came.code, came.status) == (kind.code, kind.status)
    assert came.detail == "why, and ? a lone surrogate" and came.headers == {"Retry-After": "3"}


def test_errors_keep_what_their_classes_add() -> None:
    assert unpack_error(pack_error(Overloaded("full", 2.1))).headers == {"Retry-After": "3"}
    assert "WWW-Authenticate" in unpack_error(pack_error(Unauthorized("no key"))).headers
    assert unpack_error(pack_error(InternalError())).detail == InternalError().detail


def test_a_card_survives_the_way() -> None:
    card = ModelCard("fusion", 3, "abc", "cifar10", ("cat", "Hund", "猫"), 7)
    assert unpack_card(pack_card(card)) == card
