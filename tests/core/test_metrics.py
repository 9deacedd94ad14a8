"""The metrics of a training, as jobs write them."""

from __future__ import annotations

import itertools
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firecrest_core.metrics import MetricRow, Metrics


def read(*lines: object) -> Metrics:
    metrics = Metrics()
    metrics.add_lines(line if isinstance(line, str) else json.dumps(line) for line in lines)
    return metrics


def test_each_number_is_a_point_of_its_series() -> None:
    metrics = Metrics()
    rows = metrics.add_lines(['{"step": 1, "loss": 0.5}', "", '{"step": 2, "loss": 0.25, "lr": 1e-3}\n'])
    assert rows == [MetricRow(1, 1, {"loss": 0.5}), MetricRow(3, 2, {"loss": 0.25, "lr": 1e-3})]
    assert {name: one.points for name, one in metrics.series.items()} == {
        "loss": [(1, 0.5), (2, 0.25)],
        "lr": [(2, 1e-3)],
    }
    assert metrics.summary() == "loss 0.25, lr 0.001 (step 2)"


@pytest.mark.parametrize("name", ["step", "global_step", "iteration", "epoch"])
def test_what_counts_the_progress(name: str) -> None:
    assert read({name: 7, "loss": 1}).series["loss"].points == [(7, 1)]


def test_without_a_step_lines_are_counted() -> None:
    assert read({"loss": 1}, "no JSON", {"loss": 2}).series["loss"].points == [(1, 1), (3, 2)]


def test_an_epoch_beside_a_step_is_a_series() -> None:
    assert set(read({"step": 1, "epoch": 0.5, "loss": 1}).series) == {"epoch", "loss"}


@pytest.mark.parametrize("value", ["NaN", "Infinity", '"nan"', '"-inf"', "1e999", "1" + "0" * 400])
def test_what_is_not_finite_is_no_point(value: str) -> None:
    metrics = read('{"step": 1, "loss": 0.5}', f'{{"step": 2, "loss": {value}}}')
    loss = metrics.series["loss"]
    assert (loss.points, loss.not_finite) == ([(1, 0.5)], 1)
    assert loss.last is not None
    assert not math.isfinite(loss.last)
    assert "loss nan" in metrics.summary() or "inf" in metrics.summary()
    json.dumps(metrics.to_dict(), allow_nan=False)


@pytest.mark.parametrize("value", ["high", None, True, [1], {"a": 1}, "<script>"])
def test_what_is_no_number_is_left_out(value: object) -> None:
    metrics = read({"step": 1, "loss": 0.5, "note": value})
    assert list(metrics.series) == ["loss"]
    assert metrics.unreadable == 0


@pytest.mark.parametrize("line", ["loss 0.5", "[1, 2]", "5", '{"loss": ', "\x00\ufffd", "[" * 100_000, '"' * 100_000])
def test_lines_that_are_no_objects_are_counted(line: str) -> None:
    metrics = read(line, {"step": 1, "loss": 0.5})
    assert (metrics.lines, metrics.unreadable) == (2, 1)
    assert list(metrics.series) == ["loss"]


@pytest.mark.parametrize("count", [100, 101, 1000, 12_345])
def test_long_series_keep_their_shape_their_first_and_their_last_point(count: int) -> None:
    points = read(*({"step": step, "loss": step / 2} for step in range(count))).series["loss"].points
    assert len(points) <= 101
    assert points[0] == (0, 0)
    assert points[-1] == (count - 1, (count - 1) / 2)
    gaps = [later[0] - earlier[0] for earlier, later in itertools.pairwise(points[:-1])]
    assert len(set(gaps)) == 1


def test_what_is_stored_stays_small() -> None:
    lines = ({"step": step, **{f"{'x' * 500}{name}": step for name in range(100)}} for step in range(1000))
    assert len(json.dumps(read(*lines).to_dict())) < 80_000
    many = read({f"name{number}": number for number in range(100)})
    assert (len(many.series), many.left_out) == (20, True)


@given(
    st.lists(
        st.dictionaries(st.text(), st.one_of(st.floats(), st.integers(), st.text(), st.booleans(), st.none())),
        max_size=20,
    )
)
def test_all_that_was_read_can_be_stored_and_shown(rows: list[dict[str, object]]) -> None:
    metrics = read(*rows)
    stored = json.loads(json.dumps(metrics.to_dict(), allow_nan=False))
    again = Metrics.from_dict(stored)
    assert again.to_dict() == metrics.to_dict()
    assert {name: one.points for name, one in again.series.items()} == {
        name: one.points for name, one in metrics.series.items()
    }


@pytest.mark.parametrize(
    "data",
    [{}, {"series": []}, {"series": {"a": {}}}, {"series": {"a": {"points": [[1, "x"]], "last": 1, "not_finite": 0}}},
     {"series": {"a": {"points": [[1, float("nan")]], "last": 1, "not_finite": 0}}}],
)  # fmt: skip
def test_what_somebody_has_edited_is_refused(data: dict[str, object]) -> None:
    with pytest.raises((AttributeError, KeyError, TypeError, ValueError)):
        Metrics.from_dict({"lines": 1, "unreadable": 0, "left_out": False, **data})


def test_a_training_that_goes_back_replaces_what_it_had_reached() -> None:
    reached = [{"step": step, "loss": 1} for step in range(300)]
    points = read(*reached, {"step": 150, "loss": 2}, {"step": 160, "loss": 3}).series["loss"].points
    assert [step for step, _ in points] == sorted(step for step, _ in points)
    assert points[-1] == (160, 3)
    assert all(value == 1 for step, value in points if step < 150)
    again = read({"step": 5, "loss": 1}, {"step": 1, "loss": 2})
    assert again.series["loss"].points == [(1, 2)]


def test_what_no_curve_shows_is_said() -> None:
    names = {f"n{number}": 1 for number in range(21)}
    assert read("no json", {"loss": "NaN"}, names).remarks() == [
        "1 of the values of loss are NaN or infinite.",
        "1 of 3 lines are no JSON objects.",
        "There are more than 20 names. The others are left out.",
    ]
    assert read({"loss": 1}).remarks() == []


def test_names_are_printable() -> None:
    metrics = read('{"a\\n\\u001b[2J\\ud800": 1}')
    assert list(metrics.series) == ["a\ufffd\ufffd[2J\ufffd"]
