"""docs/architecture.md leads to files that exist, and its picture shows the rooms that there are."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()
PACKAGES = ["firecrest_core", "firecrest_local", "airflow_provider_firecrest", "prefect_firecrest"]


def test_every_file_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`((?:firecrest_\w+|airflow_provider_\w+|prefect_\w+|tests|docs)/[\w/.]*)`", PAGE))
    assert len(named) > 30
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_the_page_names_every_room(package: str) -> None:
    rooms = {room.rpartition(".")[2] for room in grimp.build_graph(package, cache_dir=None).find_children(package)}
    unnamed = {room for room in rooms if not re.search(rf"\b{room}\b", PAGE)}
    small = {"__main__", "app", "site", "server", "settings", "health", "errors", "listener", "visibility"}
    small |= {"access_log", "root_lock", "sync", "get_provider_info", "exceptions", "xcom", "pause_key"}
    assert sorted(unnamed - small) == []


def test_the_picture_shows_the_rooms_that_there_are() -> None:
    svg = ElementTree.parse(ROOT / "docs" / "images" / "architecture.svg")
    shown = {title.text for title in svg.iterfind(".//{*}g[@class='node']/{*}title")}
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    assert shown == {room for package in PACKAGES for room in graph.find_children(package)}, "run `make architecture`"
