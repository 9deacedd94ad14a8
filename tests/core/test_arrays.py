from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firecrest_core.spec import arrays


@pytest.mark.parametrize(
    ("expression", "indices", "throttle"),
    [
        ("0-3", (0, 1, 2, 3), None),
        ("1,5,9", (1, 5, 9), None),
        ("0-15:4", (0, 4, 8, 12), None),
        ("0-99%10", tuple(range(100)), 10),
        ("5", (5,), None),
        ("1,1", (1,), None),
        ("[0-3]", (0, 1, 2, 3), None),
        (" 1, 2 ", (1, 2), None),
        ("0-3:2,7%1", (0, 2, 7), 1),
        ("9,0-2", (0, 1, 2, 9), None),
        ("1,3%0", (1, 3), None),
    ],
)
def test_indices(expression, indices, throttle):
    assert tuple(arrays.indices(expression)) == indices
    assert arrays.throttle(expression) == throttle


@pytest.mark.parametrize("wrong", ["", "a", "3-1", "0-3:0", "1-2-3", "-1", "0-3%", "0-3%x", "1.5", "0-4000001", "1,,2"])
def test_what_is_no_array(wrong):
    with pytest.raises(ValueError):
        arrays.indices(wrong)


@pytest.mark.parametrize(
    ("expression", "pbs"),
    [("0-3", "0-3"), ("0-15:4", "0-12:4"), ("1,5,9", "1-9:4"), ("0-99%10", "0-99%10"), ("0-1,2", "0-2")],
)
def test_pbs_takes_one_range(expression, pbs):
    assert arrays.pbs_range(expression) == pbs


@pytest.mark.parametrize("wrong", ["5", "1,2,9", "3-1"])
def test_what_pbs_does_not_take(wrong):
    with pytest.raises(ValueError):
        arrays.pbs_range(wrong)


@given(st.sets(st.integers(0, 10_000), min_size=1))
def test_a_list_of_indices_is_read_back(indices):
    assert list(arrays.indices(",".join(map(str, indices)))) == sorted(indices)
