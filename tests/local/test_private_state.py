"""Nobody else reads or chooses what the server keeps for itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from firecrest_local.access.secrets import load_secrets


def modes(*paths: Path) -> list[int]:
    return [path.stat().st_mode & 0o777 for path in paths]


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_modes_under_any_umask(serve: Any, tmp_path: Path, umask: int) -> None:
    root = tmp_path / "root"
    (root / "state").mkdir(parents=True, mode=0o777)
    before = os.umask(umask)
    try:
        serve(root=root)
    finally:
        os.umask(before)
    assert modes(root / "state", root / "state" / "secrets.json", root / ".lock") == [0o700, 0o600, 0o600]


def test_a_lock_that_is_a_link(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / ".lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        serve(root=tmp_path / "root")
    assert not (tmp_path / "victim").exists()


def test_a_state_directory_that_is_a_link(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "state").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="state is no directory of this user's own. Remove it"):
        serve(root=tmp_path / "root")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_state_directory_of_somebody_else(serve: Any, tmp_path: Path, mocker: Any) -> None:
    (tmp_path / "root" / "state").mkdir(parents=True)
    mocker.patch("os.geteuid", return_value=os.geteuid() + 1)
    with pytest.raises(OSError, match="no directory of this user's own"):
        serve(root=tmp_path / "root")


def test_a_link_in_place_of_new_secrets(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / ".secrets.json.new").symlink_to("victim")
    load_secrets(tmp_path, None)
    assert (tmp_path / "victim").read_text() == "mine"
    assert modes(tmp_path / "secrets.json") == [0o600]
