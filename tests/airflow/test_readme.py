"""README's shortest DAG runs as it stands there."""

from __future__ import annotations

from pathlib import Path

from tests.readme import load_program


def test_the_shortest_dag_runs_on_a_new_cluster(connected, run_task, tmp_path) -> None:
    fetched = tmp_path / "node.txt"
    program = load_program("DAG(", tmp_path / "hello.py", {"/tmp/node.txt": str(fetched)})
    task = program.__dict__["hello"]
    task.poll_interval = 0.2
    result = run_task(lambda: task).result
    assert Path(result["working_directory"]) == Path(connected.home, "hello_hpc")
    assert fetched.read_text().strip()
