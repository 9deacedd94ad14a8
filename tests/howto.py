"""The Python blocks of the how-to pages, which the tests of each engine execute."""

from __future__ import annotations

import re
from pathlib import Path

_PAGES = sorted((Path(__file__).parent.parent / "docs" / "howto").glob("*.md"))


def snippets(*, prefect: bool) -> dict[str, str]:
    """Return the blocks for Prefect, or all others, by page and number."""
    return {
        f"{page.name}-{number}": code
        for page in _PAGES
        for number, code in enumerate(re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE))
        if ("from prefect" in code) is prefect
    }
