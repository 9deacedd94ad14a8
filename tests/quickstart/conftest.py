"""What the machine of a test needs that the pages do not say. All of it is here."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from harness.environment import clean_environment

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home directory of the person who reads the page."""
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.fixture
def environment(home: Path, wheel: Path) -> dict[str, str]:
    """The variables of each terminal: a home of its own, and the wheel of this checkout for pip."""
    links = " ".join(filter(None, [os.environ.get("PIP_FIND_LINKS"), str(wheel.parent)]))
    cache = os.environ.get("PIP_CACHE_DIR", str(Path.home() / ".cache" / "pip"))
    path = os.pathsep.join(one for one in os.environ["PATH"].split(os.pathsep) if "/.envs/" not in one)
    # Nothing of the environment that runs the tests: what the page installs is what is tested.
    inherited = {
        name: value for name, value in clean_environment().items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")
    }
    return inherited | {
        "HOME": str(home),
        "PATH": path,
        "PIP_FIND_LINKS": links,
        "PIP_CACHE_DIR": cache,
        "PIP_PROGRESS_BAR": "off",
        # Off: what is imported is compiled then, and most of it is not imported.
        "PIP_NO_COMPILE": "0",
    }


@pytest.fixture(scope="session")
def pinned() -> dict[str, str]:
    """The versions that CI uses with Airflow, by name."""
    lines = (ROOT / "constraints" / "airflow.txt").read_text()
    return dict(re.findall(r"^([\w.-]+)==(\S+)$", lines, re.MULTILINE))
