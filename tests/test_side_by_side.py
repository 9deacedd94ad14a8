"""The page that shows a pipeline in both engines shows the code of the examples."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "side-by-side.md").read_text()
COLUMNS = re.findall(r"<tr><td>\n(.*?)</td><td>\n(.*?)</td></tr>", PAGE, re.DOTALL)


def lines(code: str) -> str:
    """Remove the indentation of the code, which depends on where it stands."""
    return "\n".join(line.strip() for line in code.strip().splitlines())


def shown(column: int) -> list[str]:
    return [code for row in COLUMNS for code in re.findall(r"```python\n(.*?)```", row[column], re.DOTALL)]


@pytest.mark.parametrize(("column", "folder"), [(0, "example_dags"), (1, "example_flows")])
def test_what_is_shown_is_the_examples_code(column: int, folder: str) -> None:
    example = lines((ROOT / folder / "structure_energy.py").read_text())
    codes = shown(column)
    assert len(codes) >= 5
    assert [code for code in codes if lines(code) not in example] == []


def test_every_block_stands_in_one_of_the_columns() -> None:
    assert PAGE.count("```python") == len(shown(0)) + len(shown(1))
