"""Numbers in headers: the grammar from both sides."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.headers import NUMBER_CHARACTERS, parse_number

POWERS = {"": 0, "k": 3, "M": 6, "G": 9, "T": 12}


@st.composite
def spellings(draw: st.DrawFn) -> tuple[str, str, str]:
    """Mantissa, exponent and suffix of an acceptable number."""
    whole = draw(st.text("0123456789", min_size=0, max_size=20))
    part = draw(st.text("0123456789", min_size=0 if whole else 1, max_size=20))
    mantissa = whole + draw(st.sampled_from([".", ""] if whole else ["."])) + part
    exponent = draw(st.one_of(st.just(""), st.from_regex(r"[eE][+-]?[0-9]{1,3}", fullmatch=True)))
    return mantissa, exponent, draw(st.sampled_from(list(POWERS)))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("25M", 25_000_000.0),
        ("0.1M", 100_000.0),
        ("0.3G", 300_000_000.0),
        ("25000000", 25_000_000.0),
        ("2.5e7", 25_000_000.0),
        ("2.5E+7", 25_000_000.0),
        ("5e-1", 0.5),
        ("1e3k", 1_000_000.0),
        ("1T", 1e12),
        ("007", 7.0),
        (".5k", 500.0),
        ("5.", 5.0),
    ],
)
def test_a_number_means_exactly_what_it_says(text: str, value: float) -> None:
    assert parse_number(text) == value


@given(spellings())
@example(("33.576704", "", "M"))
@example(("1", "e296", "T"))
@example(("1", "e297", "T"))
def test_a_number_is_the_double_nearest_to_its_decimal_value(spelling: tuple[str, str, str]) -> None:
    mantissa, exponent, suffix = spelling
    expected = float(Decimal(mantissa + exponent).scaleb(POWERS[suffix]))
    if 0 < expected < float("inf"):
        assert parse_number(mantissa + exponent + suffix) == expected
    else:
        with pytest.raises(ValueError, match="is not a positive number"):
            parse_number(mantissa + exponent + suffix)


NOT_POSITIVE = ["0", "0.0", "0e5", "0M", "-5", "-0", "+5", "--5", "nan", "NaN", "inf", "Infinity"]


NOT_A_DOUBLE = ["1e999", "1e-999", "1e308M", "1e9999999999999999999", "1" * 65, "0." + "0" * 62 + "1"]


NOT_DECIMAL = ["1_000", "1,000", "٢٥", "25²", "0x10", "1e", "e5", ".", "1.2.3", "1e5.5", "1e+-5", "25M,30M"]


NOT_A_SUFFIX = ["M", "25m", "25K", "25g", "25MB", "25kk"]


BLANKS = ["", " ", "25 M", " 25M", "25M ", "25M\n", "2 5"]


@pytest.mark.parametrize("text", NOT_POSITIVE + NOT_A_DOUBLE + NOT_DECIMAL + NOT_A_SUFFIX + BLANKS)
def test_anything_else_is_not_a_number(text: str) -> None:
    with pytest.raises(ValueError, match="is not a positive number"):
        parse_number(text)


def grammatical(text: str) -> bool:
    """The contract's grammar, read without a regular expression."""
    body = text[:-1] if text.endswith(("k", "M", "G", "T")) else text
    mantissa, e, exponent = body.replace("E", "e").partition("e")
    whole, _, part = mantissa.partition(".")
    unsigned = exponent[1:] if exponent.startswith(("+", "-")) else exponent
    digits = whole + part
    return all(set(run) <= set("0123456789") for run in (digits, unsigned)) and bool(
        digits and (unsigned or not e) and len(text) <= NUMBER_CHARACTERS
    )


@st.composite
def near_misses(draw: st.DrawFn) -> str:
    """A spelling in which one place is dropped, doubled or replaced by something that looks like it."""
    text = "".join(draw(spellings()))
    place = draw(st.integers(0, len(text)))
    strange = draw(st.text("0129.eE+-kKmMgGtT _,\t٢²\xa0", max_size=2))
    return text[:place] + strange + text[place + draw(st.integers(0, 1)) :]


@given(st.one_of(near_misses(), st.text("01.eE+-kKM ", max_size=8)))
@example("1E5E5")
@example("1e+")
def test_whatever_the_grammar_does_not_spell_is_no_number_and_nothing_else_is_refused(text: str) -> None:
    try:
        value: float | None = parse_number(text)
    except ValueError:
        value = None
    if not grammatical(text):
        assert value is None
    else:
        suffix = text[-1] if text[-1] in POWERS else ""
        expected = float(Decimal(text.removesuffix(suffix)).scaleb(POWERS[suffix]))
        assert value == (expected if 0 < expected < float("inf") else None)


@given(st.text())
def test_arbitrary_text_is_a_positive_finite_number_or_a_value_error(text: str) -> None:
    try:
        value = parse_number(text)
    except ValueError:
        return
    assert 0 < value < float("inf")
    assert re.fullmatch(r"[0-9.eE+-]+[kMGT]?", text)
