"""The tables of fixtures in tests/README.md are complete."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
ROW = re.compile(r"^\| `(\w+)` \| .+ \| (\w+) \| `([\w/]*conftest\.py)` \|$", re.MULTILINE)

#: Name, scope and file of a fixture.
Fixture = tuple[str, str, str]


def defined_fixtures(file: Path) -> Iterator[Fixture]:
    """Find the fixtures that a file defines."""
    for function in ast.walk(ast.parse(file.read_text())):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for decorator in function.decorator_list:
            call = decorator if isinstance(decorator, ast.Call) else None
            if ast.unparse(call.func if call else decorator) not in ("pytest.fixture", "pytest_asyncio.fixture"):
                continue
            options = {word.arg: word.value for word in call.keywords} if call else {}
            name, scope = (
                ast.literal_eval(options[option]) if option in options else default
                for option, default in (("name", function.name), ("scope", "function"))
            )
            yield name, scope, file.relative_to(TESTS).as_posix()


def test_every_fixture_is_listed_and_every_listed_one_exists() -> None:
    defined = sorted(fixture for file in TESTS.rglob("conftest.py") for fixture in defined_fixtures(file))
    listed = sorted(ROW.findall((TESTS / "README.md").read_text()))
    assert listed == defined
