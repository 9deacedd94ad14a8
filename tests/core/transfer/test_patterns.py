"""Patterns of paths on a system: what they match, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from firecrest_core import System
from firecrest_core.errors import AnswerTooLarge, RemotePathNotFound, RemotePathRefused, RequestTimedOut
from firecrest_core.transfer import download, patterns
from firecrest_core.transfer.patterns import find_files

TREE = (
    "a.out",
    "b.out",
    "notes.txt",
    ".hidden.out",
    "results/x.json",
    "results/one/y.json",
    "results/one/two/z.json",
    "results/.cache/c.json",
    "run-1/energy.dat",
    "run-2/energy.dat",
)


@pytest.fixture
def tree(there: Path) -> Path:
    for name in TREE:
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        (there / name).write_text(name)
    return there


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.out", ["a.out", "b.out"]),
        (".*.out", [".hidden.out"]),
        ("[ac].out", ["a.out"]),
        ("?.out", ["a.out", "b.out"]),
        ("run-*/energy.dat", ["run-1/energy.dat", "run-2/energy.dat"]),
        ("run-*", ["run-1", "run-2"]),
        ("results/**/*.json", ["one/two/z.json", "one/y.json", "x.json"]),
        ("**/y.json", ["results/one/y.json"]),
        ("results/**", ["one", "x.json"]),
    ],
)
async def test_what_matches(tree: Path, system: System, pattern: str, names: list[str]) -> None:
    found = await find_files(system, [f"{tree}/{pattern}"])
    assert [file.name for file in found] == names
    assert all(Path(file.path).exists() and file.matched for file in found)


async def test_a_file_with_wildcards_in_its_name(tree: Path, system: System) -> None:
    (tree / "a[1].out").write_text("literal")
    (file,) = await find_files(system, [f"{tree}/a[1].out"])
    assert (file.path, file.name, file.matched) == (f"{tree}/a[1].out", "a[1].out", False)


async def test_a_file_is_fetched_once(tree: Path, system: System) -> None:
    found = await find_files(system, [f"{tree}/a.out", f"{tree}/*.out"])
    assert [file.name for file in found] == ["a.out", "b.out"]


@pytest.mark.parametrize("pattern", ["*.nc", "nowhere/*.out", "**/*.nc"])
async def test_nothing_matches(tree: Path, system: System, pattern: str) -> None:
    with pytest.raises(RemotePathNotFound, match=r"nothing on .* matches this pattern"):
        await find_files(system, [f"{tree}/{pattern}"])


async def test_too_many(tree: Path, system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "MOST_MATCHES", 1)
    with pytest.raises(RemotePathRefused, match="2 files on .* match, and at most 1"):
        await find_files(system, [f"{tree}/*.out"])


@pytest.mark.parametrize(
    ("answer", "error"), [(RequestTimedOut("408."), RequestTimedOut), (AnswerTooLarge("."), RemotePathRefused)]
)
async def test_too_large_to_list(tree: Path, system: System, mocker: Any, answer: Any, error: Any) -> None:
    mocker.patch.object(system, "list_files", side_effect=answer)
    with pytest.raises(error, match="egin the pattern further down"):
        await find_files(system, [f"{tree}/**/*.out"])


# --- the target itself ---------------------------------------------------------------------------------


async def test_a_directory_that_is_fetched_twice(tree: Path, system: System, tmp_path: Path) -> None:
    for _ in range(2):
        await download(system, f"{tree}/results", tmp_path / "new", exact=True)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [".cache", "one", "x.json"]
