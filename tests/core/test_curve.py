"""Series of numbers as pictures."""

from __future__ import annotations

import sys
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firecrest_core import curve

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
LARGEST = sys.float_info.max


def drawn(name: str, points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    line = ElementTree.fromstring(curve.svg(name, points)).find("polyline")
    assert line is not None
    return [(float(x), float(y)) for x, _, y in (place.partition(",") for place in line.attrib["points"].split())]


def test_a_curve_goes_from_left_to_right_and_down_as_the_loss_does() -> None:
    places = drawn("loss", [(0, 1.0), (10, 0.5), (20, 0.25)])
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert [y for _, y in places] == sorted(y for _, y in places)  # in an SVG, down is more


@given(st.text(), st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=30))
def test_any_numbers_under_any_name_stay_inside_of_the_picture(name: str, points: list[tuple[float, float]]) -> None:
    for x, y in drawn(name, points):
        assert 0 <= x <= curve.WIDTH
        assert 0 <= y <= curve.HEIGHT


@pytest.mark.parametrize("points", [[], [(1.0, 1.0)], [(0.0, -LARGEST), (1.0, LARGEST)], [(5.0, 2.0), (5.0, 2.0)]])
def test_few_and_large_numbers(points: list[tuple[float, float]]) -> None:
    ElementTree.fromstring(curve.svg("loss", points))


@pytest.mark.parametrize("value", [-LARGEST, -1.2345e-5, -1.2345e-300, 123456.0])
def test_the_numbers_beside_a_curve_are_whole(value: float) -> None:
    picture = ElementTree.fromstring(curve.svg("loss", [(0, value), (1, value / 2)]))
    beside = [text for text in picture.iter("text") if text.get("text-anchor") == "end" and text.get("y") != "144"]
    assert len(beside) == 2
    for text in beside:  # a digit of this size is some 6.2 wide
        assert len(text.text or "") * 6.2 <= float(text.attrib["x"])


def test_a_name_is_text() -> None:
    name = "</title><script>alert(1)</script>\x00"
    picture = ElementTree.fromstring(curve.svg(name, [(0, 1), (1, 2)]))
    assert picture.find(".//script") is None
    assert picture.findtext("title", "").startswith("</title><script>alert(1)</script>\ufffd: 2 at 1")


def test_a_picture_holds_all_plots_side_by_side() -> None:
    name = "<script>alert(1)</script>"
    picture = ElementTree.fromstring(curve.picture({"loss": [(0, 1), (1, 2)], name: [], "lr": [(0, 1)]}))
    svg = "{http://www.w3.org/2000/svg}"
    places = [(plot.get("x"), plot.get("y")) for plot in picture.findall(f"{svg}svg")]
    assert places == [("0", "0"), (str(curve.WIDTH), "0"), ("0", str(curve.HEIGHT))]
    assert picture.find(f".//{svg}script") is None
    assert ElementTree.fromstring(curve.picture({"loss": [(0, 1)]})).get("width") == str(curve.WIDTH)


@pytest.mark.parametrize(
    ("values", "text"),
    [([], ""), ([1.0], "▄"), ([1, 1, 1], "▄▄▄"), ([0, 7], "▁█"), ([7, 6, 5, 4, 3, 2, 1, 0], "█▇▆▅▄▃▂▁"),
     ([-LARGEST, LARGEST], "▁█")],
)  # fmt: skip
def test_blocks(values: list[float], text: str) -> None:
    assert curve.blocks(values) == text


def test_long_series_fit_into_the_line() -> None:
    text = curve.blocks(range(1000))
    assert (len(text), text[0], text[-1]) == (20, "▁", "█")
