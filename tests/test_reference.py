"""The reference in the documentation names all that users import."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def exported(module: str) -> set[str]:
    """The names in ``__all__``, without importing the module: no environment has both engines."""
    for node in ast.parse((ROOT / module).read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    raise AssertionError(f"{module} has no __all__")


def documented(page: str) -> set[str]:
    text = (ROOT / "docs" / "reference" / page).read_text()
    return {name.rpartition(".")[2] for name in re.findall(r"^::: (\S+)$", text, re.MULTILINE)}


@pytest.mark.parametrize(
    ("module", "page"),
    [
        ("prefect_firecrest/__init__.py", "prefect.md"),
        ("airflow_provider_firecrest/operators/__init__.py", "airflow.md"),
        ("airflow_provider_firecrest/sensors/__init__.py", "airflow.md"),
    ],
)
def test_each_name_is_in_the_reference(module: str, page: str) -> None:
    names = exported(module)
    twins = {f"a{name}" for name in names}  # what coroutines await is documented with its synchronous twin
    assert names - twins - documented(page) == set()
