"""The addresses of the documentation: the pages and headings that they name exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from firecrest_core.documentation import page_url

ROOT = Path(__file__).parent.parent.parent
PLACES = ("airflow_provider_firecrest", "prefect_firecrest", "firecrest_core", "firecrest_local")
NAMED = sorted(
    {
        page
        for place in PLACES
        for file in (ROOT / place).rglob("*.py")
        for page in re.findall(r'page_url\("([^"]+)"\)', file.read_text())
    }
)


def heading_id(heading: str) -> str:
    """Return the id that the site gives to a heading."""
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")


@pytest.mark.parametrize("page", NAMED)
def test_page(page: str) -> None:
    file, _, heading = page.partition("#")
    source = ROOT / "docs" / file.replace(".html", ".md")
    assert source.exists()
    text = source.read_text()
    assert heading in ["", *map(heading_id, re.findall(r"^#+ (.*)$", text, re.MULTILINE))]


def test_the_faces_name_pages() -> None:
    assert len(NAMED) >= 3


def test_the_package_index_leads_to_the_same_site() -> None:
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    assert urls["Documentation"] == page_url("")
