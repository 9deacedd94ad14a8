"""docs/quickstart.md, word for word: its blocks are pasted into terminals, in a fresh home and a fresh environment."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import sys
from pathlib import Path

import httpx
import pytest

from harness.ports import reserved_ports
from tests.quickstart.terminal import Terminal, blocks, exports, wait_until

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "quickstart.md"
#: Airflow's constraints come from here. This host cannot be reached from CI, so a folder stands for it.
CONSTRAINTS = "https://raw.githubusercontent.com/apache/airflow/"


def state(database: Path, query: str) -> list[str]:
    """Return the first column of a query of Airflow's database; nothing while that is being made."""
    with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(sqlite3.connect(database)) as connection:
        return [row[0] for row in connection.execute(query)]
    return []


def listed(port: int, database: Path) -> bool:
    """Return whether the API server answers and knows the DAG, as a person sees it in the UI."""
    with contextlib.suppress(httpx.TransportError):
        healthy = httpx.get(f"http://localhost:{port}/api/v2/monitor/health", trust_env=False).is_success
        return healthy and state(database, "SELECT dag_id FROM dag") == ["hello_hpc"]
    return False


def test_versions_of_the_page(pinned: dict[str, str]) -> None:
    (install, *_) = [text for _, text in blocks(PAGE)]
    assert f"AIRFLOW_VERSION={pinned['apache-airflow']}\n" in install
    assert f"{CONSTRAINTS}constraints-$AIRFLOW_VERSION/constraints-$PYTHON_VERSION.txt" in install


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(1800)  # pip fetches all of Airflow
def test_page(home: Path, environment: dict[str, str], pinned: dict[str, str], tmp_path: Path) -> None:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    mirror = tmp_path / f"constraints-{pinned['apache-airflow']}" / f"constraints-{version}.txt"
    mirror.parent.mkdir()
    mirror.write_text((ROOT / "constraints" / "airflow.txt").read_text())
    with contextlib.ExitStack() as stack:
        # The page's Airflow takes fixed ports, which other tests on this machine may have.
        api, worker_logs, triggerer_logs = stack.enter_context(reserved_ports(3))
        environment |= {
            "AIRFLOW__API__PORT": str(api),
            "AIRFLOW__API__BASE_URL": f"http://localhost:{api}",
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "120",  # the machine may be busy with other tests
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_logs),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(triggerer_logs),
        }
        first, second, third = (
            stack.enter_context(Terminal(f"Terminal {number}", tmp_path, environment)) for number in (1, 2, 3)
        )
        install, firecrest, airflow, run, result = blocks(PAGE)

        assert install[0] == firecrest[0] == first.name
        first.run(install[1].replace(CONSTRAINTS, f"{tmp_path.as_uri()}/"))
        first.paste(firecrest[1])

        assert airflow[0] == second.name
        second.paste(exports(first))
        second.paste(airflow[1])
        database = home / "firecrest-quickstart" / "airflow" / "airflow.db"
        wait_until(lambda: "Airflow is ready" in second.output(), "Airflow is ready", [first, second])
        wait_until(lambda: listed(api, database), "hello_hpc is in the list of DAGs", [first, second])

        assert run[0] == result[0] == third.name
        third.run(run[1])
        ended = [["success"], ["failed"]]
        wait_until(lambda: state(database, "SELECT state FROM dag_run") in ended, "the end", [first, second])
        shown = third.run(result[1])
        assert "success" in shown, second.output()[-5000:]
        assert shown.splitlines()[-1] == socket.gethostname()
        assert state(database, "SELECT state FROM task_instance") == ["success", "success"]
    # Other programs that pip or the shell's profile call may leave hidden files of theirs.
    left = [path.name for path in home.iterdir() if "firecrest" in path.name or not path.name.startswith(".")]
    assert left == ["firecrest-quickstart"]
