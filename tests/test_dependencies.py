"""What a package imports is declared in pyproject.toml: what others happen to bring along may go away."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OURS = {"firecrest_core", "firecrest_local", "airflow_provider_firecrest", "prefect_firecrest", "harness", "demo"}
# Where the distribution is not named as what it installs.
IMPORTED_AS = {
    "pyfirecrest": "firecrest",
    "apache-airflow": "airflow",
    "apache-airflow-providers-openlineage": "openlineage",
    "mlflow-skinny": "mlflow",
    "PyJWT": "jwt",
}


def declared(*extras: str, groups: tuple[str, ...] = ()) -> set[str]:
    """Return the names that may be imported."""
    project = PYPROJECT["project"]
    requirements = list(project["dependencies"])
    requirements += [one for extra in extras for one in project["optional-dependencies"][extra]]
    requirements += [one for group in groups for one in PYPROJECT["dependency-groups"][group]]
    names = [re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in requirements]
    return {IMPORTED_AS.get(name, name).replace("-", "_") for name in names}


def imported(package: str) -> set[str]:
    """Return the top-level names of what a package imports, lazily or not."""
    found = set()
    for file in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module)
    return {name.partition(".")[0] for name in found} - sys.stdlib_module_names - OURS


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("firecrest_core", declared("mlflow", "functions")),
        ("airflow_provider_firecrest", declared("airflow", "openlineage")),
        ("prefect_firecrest", declared("prefect")),
        ("firecrest_local", declared("local")),
        ("harness", declared("airflow", "prefect", "local", groups=("test", "browser"))),
        ("demo", declared("airflow", "prefect", "local", groups=("test", "browser"))),
    ],
)
def test_what_is_imported_is_declared(package: str, allowed: set[str]) -> None:
    assert sorted(imported(package) - allowed) == []
