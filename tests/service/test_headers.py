"""Numbers as the contract writes them, and the strict pass over the headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidHeader
from service.headers import Budget, parse_headers, parse_number, quoted, valid_request_id

NAMES = {
    b"x-flop-budget": "X-FLOP-Budget",
    b"x-flop-limit": "X-FLOP-Limit",
    b"x-deadline-ms": "X-Deadline-Ms",
    b"x-model": "X-Model",
    b"x-api-key": "X-API-Key",
    b"x-request-id": "X-Request-Id",
}
NUMBERS = [b"x-flop-budget", b"x-flop-limit", b"x-deadline-ms"]


def test_without_our_headers_nothing_is_asked_for() -> None:
    headers = parse_headers([(b"host", b"a"), (b"accept", b"*/*"), (b"accept", b"*/*"), (b"x-other", b"")])
    assert headers.budget == Budget(mean=None, limit=None, deadline_ms=None)
    assert (headers.model, headers.api_key, headers.request_id) == (None, None, None)
    assert (headers.content_type, headers.content_encoding, headers.media_type) == ("", "", "")


def test_every_header_reaches_its_field() -> None:
    headers = parse_headers(
        [
            (b"x-flop-budget", b"25M"),
            (b"x-flop-limit", b"4e7"),
            (b"x-deadline-ms", b"50"),
            (b"x-model", b"cifar10-fusion@1"),
            (b"x-api-key", b"s3cret key"),
            (b"x-request-id", b"8d9f/2a"),
            (b"content-type", b"Multipart/Form-Data ; boundary=AbC"),
            (b"content-encoding", b"GZip"),
        ]
    )
    assert headers.budget == Budget(mean=25e6, limit=4e7, deadline_ms=50.0)
    assert (headers.model, headers.api_key) == ("cifar10-fusion@1", "s3cret key")
    assert headers.request_id == "8d9f/2a"
    assert headers.content_type == "Multipart/Form-Data ; boundary=AbC"
    assert headers.media_type == "multipart/form-data"
    assert headers.content_encoding == "gzip"


def test_blanks_around_a_value_are_not_part_of_it() -> None:
    assert parse_headers([(b"x-flop-budget", b" \t25M ")]).budget.mean == 25e6


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [b"", b" ", b"\t "])
def test_an_empty_header_is_an_error_that_names_it(name: bytes, value: bytes) -> None:
    with pytest.raises(InvalidHeader, match=f"{NAMES[name]} is empty"):
        parse_headers([(b"host", b"a"), (name, value)])


@pytest.mark.parametrize("name", [*NAMES, b"content-type"])
@pytest.mark.parametrize("second", [b"7", b"8", b""])
def test_a_repeated_header_is_an_error_even_if_both_agree(name: bytes, second: bytes) -> None:
    with pytest.raises(InvalidHeader, match="is given twice") as caught:
        parse_headers([(name, b"7"), (b"host", b"a"), (name, second)])
    assert caught.value.detail.lower().startswith(name.decode())


def test_repeated_content_encodings_are_one_list() -> None:
    twice = [(b"content-encoding", b"identity"), (b"content-encoding", b"gzip")]
    assert parse_headers(twice).content_encoding == "identity, gzip"


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [b"-1", b"0", b"nan", b"25 M", b"2\xb2", b"\xff", b"25M,25M"])
def test_a_wrong_number_is_an_error_that_names_header_and_value(name: bytes, value: bytes) -> None:
    with pytest.raises(InvalidHeader) as caught:
        parse_headers([(name, value)])
    assert caught.value.detail.startswith(
        f"{NAMES[name]}: '{value.decode('latin-1')}' is not a positive number"
    )


def test_a_wrong_number_is_refused_each_time_it_comes() -> None:
    for _ in range(2):
        with pytest.raises(InvalidHeader):
            parse_headers([(b"x-flop-budget", b"25m")])


@pytest.mark.parametrize(
    "name", [b"x-model", b"x-api-key", b"x-request-id", b"content-type", b"content-encoding"]
)
@pytest.mark.parametrize("value", [b"a\x00b", b"a\x7f", b"caf\xe9", b"a\tb", b"\x85", b"a\rb"])
def test_a_value_that_is_not_printable_ascii_is_an_error(name: bytes, value: bytes) -> None:
    with pytest.raises(InvalidHeader) as caught:
        parse_headers([(name, value)])
    assert caught.value.detail.isprintable()
    assert caught.value.detail.lower().startswith(name.decode())


@pytest.mark.parametrize("value", [b"!", b"~" * 128, b"a-b_c:d/e"])
def test_a_request_id_of_visible_ascii_is_kept(value: bytes) -> None:
    assert valid_request_id(value)
    assert parse_headers([(b"x-request-id", value)]).request_id == value.decode()


@pytest.mark.parametrize("value", [b"a b", b"~" * 129])
def test_a_request_id_with_spaces_or_too_long_is_an_error(value: bytes) -> None:
    assert not valid_request_id(value)
    with pytest.raises(InvalidHeader, match=r"X-Request-Id: .* is not 1 to 128 printable"):
        parse_headers([(b"x-request-id", value)])


@pytest.mark.parametrize("name", [b"x-flop-budget", b"x-request-id"])
def test_a_long_value_is_clipped_in_the_detail(name: bytes) -> None:
    with pytest.raises(InvalidHeader) as caught:
        parse_headers([(name, b"9" * 64 + b"z" * 5000)])
    assert "9" * 64 + "…" in caught.value.detail
    assert "z" not in caught.value.detail.partition(" is not ")[0]


@pytest.mark.parametrize("headers", [[(b"x-api-key", b"s3cr\xe9t")], [(b"x-api-key", b"s3cr")] * 2])
def test_an_api_key_is_never_repeated_in_an_error(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(InvalidHeader, match="X-API-Key") as caught:
        parse_headers(headers)
    assert "s3cr" not in caught.value.detail


@given(
    st.lists(st.tuples(st.sampled_from([*NAMES, b"content-type", b"content-encoding", b"host"]), st.binary()))
)
def test_arbitrary_values_give_headers_or_an_invalid_header(raw: list[tuple[bytes, bytes]]) -> None:
    try:
        headers = parse_headers(raw)
    except InvalidHeader as error:
        assert error.detail.isprintable()
        return
    for value in (headers.budget.mean, headers.budget.limit, headers.budget.deadline_ms):
        assert value is None or 0 < value < float("inf")
    for text in (headers.model, headers.api_key, headers.request_id):
        assert text is None or (text and text.isascii() and text.isprintable())


PADDING = st.text(" \t", max_size=2).map(str.encode)
VISIBLE = st.text([chr(code) for code in range(0x21, 0x7F)], min_size=1, max_size=128).map(str.encode)
FOREIGN = st.lists(st.sampled_from([(b"host", b"a"), (b"x-flop", b"-1"), (b"x-flop-budgets", b"")]))


@st.composite
def good_headers(draw: st.DrawFn) -> dict[bytes, bytes]:
    """Some of our headers, each with a value that it may have."""
    numbers = st.one_of(st.just("25M"), st.floats(1e-3, 1e300).map(repr)).map(str.encode)
    kinds = {name: numbers if name in NUMBERS else VISIBLE for name in NAMES}
    return draw(st.fixed_dictionaries({}, optional=kinds))


def padded(
    draw: st.DrawFn, headers: dict[bytes, bytes], *more: tuple[bytes, bytes]
) -> list[tuple[bytes, bytes]]:
    """The headers in any order, with blanks around their values and foreign ones between them."""
    ours = [(name, draw(PADDING) + value + draw(PADDING)) for name, value in [*headers.items(), *more]]
    return draw(st.permutations([*ours, *draw(FOREIGN)]))


@given(good_headers(), st.data())
def test_headers_combine_in_any_order_and_each_reaches_its_field(
    good: dict[bytes, bytes], data: st.DataObject
) -> None:
    headers = parse_headers(padded(data.draw, good))
    asked = headers.budget
    for name, number in zip(NUMBERS, (asked.mean, asked.limit, asked.deadline_ms), strict=True):
        assert number == (parse_number(good[name].decode()) if name in good else None)
    rest = (b"x-model", headers.model), (b"x-api-key", headers.api_key), (b"x-request-id", headers.request_id)
    for name, text in rest:
        assert text == (good[name].decode() if name in good else None)


@given(good_headers(), st.sampled_from(list(NAMES)), st.data())
def test_one_bad_header_among_any_good_ones_is_refused_by_its_name(
    good: dict[bytes, bytes], name: bytes, data: st.DataObject
) -> None:
    wrong = [b"", b"\xff", *([b"-1", b"0", b"2 5", b"1K", b"1e999"] if name in NUMBERS else [])]
    value = good.pop(name, None)
    bad = [(name, data.draw(st.sampled_from(wrong)))] if value is None else [(name, value)] * 2
    with pytest.raises(InvalidHeader) as caught:
        parse_headers(padded(data.draw, good, *bad))
    assert caught.value.detail.startswith(NAMES[name])


def test_a_quoted_value_is_clipped_and_printable() -> None:
    assert quoted("25\r\nM\x00é") == "'25??M?é'"
    assert quoted("x" * 64) == "'" + "x" * 64 + "'"
    assert quoted("x" * 65) == "'" + "x" * 64 + "…'"
