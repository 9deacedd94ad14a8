"""Sets of indices as ranges: they mean what sets of numbers mean, and a million costs no more than ten."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firecrest_core.indices import Indices

RANGES = st.lists(
    st.builds(
        lambda first, length, step: range(first, first + length, step),
        st.integers(0, 40),
        st.integers(1, 30),
        st.sampled_from([1, 1, 1, 2, 3, 7]),
    ),
    max_size=5,
)


def numbers(ranges: list[range]) -> set[int]:
    return set().union(*ranges)


@given(RANGES, RANGES)
def test_they_are_sets(one: list[range], other: list[range]) -> None:
    first, second = Indices(one), Indices(other)
    assert list(first) == sorted(numbers(one))
    assert len(first) == len(numbers(one))
    assert set(first | second) == set(Indices.union([first, second])) == numbers(one) | numbers(other)
    assert set(first - second) == numbers(one) - numbers(other)
    assert set(first & second) == numbers(one) & numbers(other)
    assert (first == second) == (numbers(one) == numbers(other))
    assert all((index in first) == (index in numbers(one)) for index in range(80))


@given(RANGES)
def test_slurms_form_is_read_back(ranges: list[range]) -> None:
    indices = Indices(ranges)
    again = Indices.parse(str(indices))
    assert (again, hash(again)) == (indices, hash(indices))
    assert Indices.of(indices) == indices
    if indices:
        assert (indices.first, indices.last) == (min(indices), max(indices))


@given(RANGES, st.integers(0, 20))
def test_the_first_ones_fit_into_a_text(ranges: list[range], room: int) -> None:
    indices = Indices(ranges)
    some = indices.shortened(room)
    assert len(str(some)) <= room
    assert not some - indices
    assert indices.shortened(1000) == indices


@pytest.mark.parametrize(
    ("text", "form"),
    [("3,17-20", "3,17-20"), ("0,1,2", "0-2"), ("0-15:4", "0-12:4"), ("5-5:3", "5"), (" 1, 2-4 ", "1-4"), ("", "")],
)
def test_slurms_form(text: str, form: str) -> None:
    assert str(Indices.parse(text)) == form


@pytest.mark.parametrize(
    "text",
    [
        *("a", "-1", "5-1", "0-10:0", "1-2-3", "1,,2", "1.5", "4000001", "0-1000000000000000000", "9" * 5000, "٣"),
        ",".join(f"0-4000000:{step}" for step in (2, 3, 5, 7, 11, 13, 17, 19)),
        ",".join(f"0-4000000:{step}" for step in range(2, 100)),
    ],
)
def test_what_no_scheduler_writes_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Indices.parse(text)


def test_few_ranges_stay_few_whatever_they_hold() -> None:
    everything = Indices.parse("0-4000000")
    assert str(everything - Indices.parse("5,100-2000000")) == "0-4,6-99,2000001-4000000"
    assert str(everything - Indices.parse("0-4000000:2")) == "1-3999999:2"
    assert everything & Indices.parse("7-3999999:9") == Indices.parse("7-3999994:9")
    assert len(Indices.parse("0-4000000:2") | Indices.parse("1-4000000:2")) == 4_000_001
