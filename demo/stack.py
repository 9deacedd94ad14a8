"""An Airflow beside an embedded FirecREST, with a connection between the two."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from demo.assembly import Assembly
from demo.cluster import Cluster
from demo.deployment import Deployment
from demo.rest import AirflowAPI
from demo.services import ServiceFailed, wait_until

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "example_dags"


class Stack(Assembly):
    """Everything that the demo starts; a context manager that stops all of it.

    :param home: a directory that does not exist yet
    :param dags_folder: where Airflow's DAGs are
    :param variables: more environment variables for Airflow
    """

    def __init__(self, home: Path, dags_folder: Path = EXAMPLES, variables: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.results = home / "results"
        self.seconds: dict[str, float] = {}
        self._dags_folder = dags_folder
        self._variables = variables or {}
        super().__init__()

    def _start(self) -> None:
        started = time.monotonic()
        self.home.mkdir(mode=0o700, parents=True)
        self.results.mkdir()
        self.cluster = self._stack.enter_context(Cluster(self.home / "cluster"))
        variables = {"EXAMPLES_FOLDER": str(self.results), "EXAMPLES_PYTHON": sys.executable, **self._variables}
        self.airflow = self._stack.enter_context(Deployment(self.home / "airflow", self._dags_folder, variables))
        self.airflow.migrate()
        self.cluster.wait()
        self.seconds["firecrest_ready"] = time.monotonic() - started
        self.airflow.environment["FIRECREST_WORKDIR"] = self.cluster.variables["FIRECREST_WORKDIR"]
        self.api: AirflowAPI = self.airflow.start()
        self.seconds["airflow_healthy"] = time.monotonic() - started
        self.api.create_connection("firecrest_default", self.cluster.connection())

    def wait_for_dags(self, *dag_ids: str) -> None:
        """Wait until these DAGs have been parsed.

        :raises ServiceFailed: with the error, when a DAG file cannot be parsed
        """
        services = [self.cluster.service, *self.airflow.services]
        wait_until(lambda: self._parsed(set(dag_ids)), f"{', '.join(dag_ids)} are parsed", services=services)

    def _parsed(self, dag_ids: set[str]) -> bool:
        for file, error in self.api.import_errors().items():
            raise ServiceFailed(f"{file} cannot be parsed:\n{error}")
        return dag_ids <= self.api.dags()


@contextmanager
def stack_of(home: Path, text: str, *dag_ids: str, variables: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """Everything with other DAGs than the examples, as soon as they are parsed.

    :param home: a directory
    :param text: the DAGs' file
    :param variables: more environment variables for Airflow
    """
    dags = home / "dags"
    dags.mkdir()
    (dags / "dags.py").write_text(text)
    with Stack(home / "stack", dags, variables) as stack:
        stack.wait_for_dags(*dag_ids)
        yield stack


def copy_structure(folder: Path) -> None:
    """Let a structure arrive in the folder, with its potential beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("Si.tersoff", "silicon.cif"):
        shutil.copyfile(EXAMPLES / "data" / name, folder / name)
