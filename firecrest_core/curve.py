"""A series of numbers as a small picture: an SVG for pages, a line of blocks for texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

Point = tuple[float, float]

WIDTH, HEIGHT = 360, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 10, 24, 22
_BLOCKS = "▁▂▃▄▅▆▇█"


def svg(name: str, points: Sequence[Point]) -> str:
    """Return a plot of a series as an SVG element, in the colour of the text around it.

    :param name: the title; any text
    :param points: (x, y), finite, in the order of x
    """
    return ElementTree.tostring(_plot(name, points), encoding="unicode")


def picture(curves: Mapping[str, Sequence[Point]]) -> str:
    """Return the plots of several series as an SVG file, two beside each other, in colours of its own.

    :param curves: by name, as for :func:`svg`
    """
    columns, rows = min(2, max(1, len(curves))), max(1, -(-len(curves) // 2))
    width, height = columns * WIDTH, rows * HEIGHT
    frame = {"width": str(width), "height": str(height)}
    root = ElementTree.Element(
        "svg",
        frame
        | {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {width} {height}", "font-family": "sans-serif"},
    )
    ElementTree.SubElement(root, "style").text = ".curve{color:#374151} polyline,circle{color:#2563eb}"
    ElementTree.SubElement(root, "rect", frame | {"fill": "#ffffff"})
    for number, (name, points) in enumerate(curves.items()):
        place = {"x": str(number % 2 * WIDTH), "y": str(number // 2 * HEIGHT)}
        plot = _plot(name, points)
        plot.attrib |= place | {"width": str(WIDTH), "height": str(HEIGHT)}
        root.append(plot)
    return ElementTree.tostring(root, encoding="unicode")


def _plot(name: str, points: Sequence[Point]) -> ElementTree.Element:
    root = ElementTree.Element(
        "svg", {"class": "curve", "viewBox": f"0 0 {WIDTH} {HEIGHT}", "role": "img", "fill": "currentColor"}
    )
    ElementTree.SubElement(root, "title").text = _printable(f"{name}: {_summary(points)}")
    _text(root, _LEFT, 14, _printable(name), "start", "curve-name")
    if not points:
        _text(root, WIDTH / 2, HEIGHT / 2, "no numbers yet", "middle")
        return root
    xs, ys = [x for x, _ in points], [y for _, y in points]
    # Halves, as the difference of the largest floats is none.
    left, right, low, high = min(xs) / 2, max(xs) / 2, min(ys) / 2, max(ys) / 2

    def place(x: float, y: float) -> str:
        across = (x / 2 - left) / (right - left) if right > left else 0.5
        up = (y / 2 - low) / (high - low) if high > low else 0.5
        return (
            f"{_LEFT + across * (WIDTH - _LEFT - _RIGHT):.1f},{HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM):.1f}"
        )

    frame = {"x": str(_LEFT), "y": str(_TOP), "fill": "none", "stroke": "currentColor", "stroke-opacity": "0.25"}
    frame |= {"width": str(WIDTH - _LEFT - _RIGHT), "height": str(HEIGHT - _TOP - _BOTTOM)}
    ElementTree.SubElement(root, "rect", frame)
    line = {"fill": "none", "stroke": "currentColor", "stroke-width": "1.5", "stroke-linejoin": "round"}
    ElementTree.SubElement(root, "polyline", line | {"points": " ".join(place(x, y) for x, y in points)})
    end_x, end_y = place(*points[-1]).split(",")
    ElementTree.SubElement(root, "circle", {"cx": end_x, "cy": end_y, "r": "2.5"})
    _text(root, _LEFT - 4, _TOP + 8, f"{max(ys):.3g}", "end")
    _text(root, _LEFT - 4, HEIGHT - _BOTTOM, f"{min(ys):.3g}", "end")
    _text(root, _LEFT, HEIGHT - 6, f"{xs[0]:.6g}", "start")
    _text(root, WIDTH - _RIGHT, HEIGHT - 6, f"{xs[-1]:.6g}", "end")
    return root


def blocks(values: Sequence[float], width: int = 20) -> str:
    """Return a series as a line of text, such as ``█▆▄▃▂▂▁``.

    :param values: finite numbers
    :param width: how many characters at most
    """
    if not values:
        return ""
    count = min(width, len(values))
    chosen = [values[round(at * (len(values) - 1) / max(1, count - 1))] / 2 for at in range(count)]
    low, high = min(chosen), max(chosen)
    if high <= low:
        return _BLOCKS[3] * count
    return "".join(_BLOCKS[round((value - low) / (high - low) * (len(_BLOCKS) - 1))] for value in chosen)


def _summary(points: Sequence[Point]) -> str:
    return f"{points[-1][1]:.6g} at {points[-1][0]:.6g}" if points else "no numbers yet"


def _text(root: ElementTree.Element, x: float, y: float, text: str, anchor: str, kind: str = "curve-tick") -> None:
    place = {"x": f"{x:g}", "y": f"{y:g}", "text-anchor": anchor, "class": kind, "font-size": "11"}
    ElementTree.SubElement(root, "text", place).text = text


def _printable(text: str) -> str:
    """Replace what XML cannot hold."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
