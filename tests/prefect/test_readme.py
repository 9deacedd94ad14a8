"""README's Prefect flow runs as it stands there."""

from __future__ import annotations

from pathlib import Path

from tests.readme import load_program


def test_the_flow_runs_on_a_new_cluster(credentials, f7t, tmp_path, monkeypatch) -> None:
    credentials.save("daint", overwrite=True)
    monkeypatch.chdir(tmp_path)
    load_program("@flow", tmp_path / "hello.py", {}).hello_hpc()
    assert (tmp_path / "node.txt").read_text().strip()
    assert Path(f7t.home, "hello_hpc", "node.txt").exists()
