"""README's shortest DAG runs as it stands there."""

from __future__ import annotations

from pathlib import Path

from tests.readme import load_program


def test_the_shortest_dag_runs_on_a_new_cluster(connected, run_task, ti, tmp_path) -> None:
    fetched = tmp_path / "node.txt"
    dag = load_program("DAG(", tmp_path / "hello.py", {"/tmp/node.txt": str(fetched)}).__dict__["submit"].dag
    submit, download = (dag.get_task(task_id) for task_id in ("submit", "download"))
    submit.poll_interval = 0.2
    result = run_task(lambda: submit).result
    ti.pulled["submit", None] = result
    run_task(lambda: download)
    assert Path(result["working_directory"]) == Path(connected.home, "hello_hpc")
    assert fetched.read_text().strip()
