"""An Airflow beside an embedded FirecREST, with the connection `firecrest_default` to it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from harness.airflow.api import AirflowAPI
from harness.airflow.deployment import AirflowDeployment
from harness.errors import ServiceFailed
from harness.examples import EXAMPLE_DAGS
from harness.firecrest import FirecRESTServer
from harness.service import wait_until
from harness.service_group import ServiceGroup
from harness.slurm import Slurm


class AirflowStack(ServiceGroup):
    """Airflow and the embedded FirecREST; a context manager.

    `seconds` are the times from the start until FirecREST answered and until Airflow was healthy.

    :param home: a directory that does not exist yet
    :param dags_folder: the folder of Airflow's DAGs
    :param variables: more environment variables for Airflow
    :param slurm: the Slurm that runs the jobs; without it, they are processes of this machine
    """

    def __init__(
        self,
        home: Path,
        dags_folder: Path = EXAMPLE_DAGS,
        variables: Mapping[str, str] | None = None,
        slurm: Slurm | None = None,
    ) -> None:
        self.home = home
        self.results = home / "results"
        self.seconds: dict[str, float] = {}
        self._dags_folder = dags_folder
        self._variables = variables or {}
        self._slurm = slurm
        super().__init__()

    def _start(self) -> None:
        started = time.monotonic()
        self.home.mkdir(mode=0o700, parents=True)
        self.results.mkdir()
        self.firecrest = self._stack.enter_context(FirecRESTServer(self.home / "cluster", slurm=self._slurm))
        variables = {"EXAMPLES_FOLDER": str(self.results), "EXAMPLES_PYTHON": sys.executable, **self._variables}
        self.airflow = self._stack.enter_context(AirflowDeployment(self.home / "airflow", self._dags_folder, variables))
        self.airflow.migrate()
        self.firecrest.wait()
        self.seconds["firecrest_ready"] = time.monotonic() - started
        self.airflow.environment["FIRECREST_WORKDIR"] = self.firecrest.variables["FIRECREST_WORKDIR"]
        self.api: AirflowAPI = self.airflow.start()
        self.seconds["airflow_healthy"] = time.monotonic() - started
        self.api.create_connection("firecrest_default", self.firecrest.connection())

    def wait_for_dags(self, *dag_ids: str) -> None:
        """Wait until these DAGs have been parsed.

        :raises ServiceFailed: a DAG file cannot be parsed; the message holds the error
        """
        services = [self.firecrest.service, *self.airflow.services]
        wait_until(lambda: self._parsed(set(dag_ids)), f"{', '.join(dag_ids)} are parsed", services=services)

    def _parsed(self, dag_ids: set[str]) -> bool:
        for file, error in self.api.import_errors().items():
            raise ServiceFailed(f"{file} cannot be parsed:\n{error}")
        return dag_ids <= self.api.dags()


@contextmanager
def stack_with_dags(
    home: Path, source: str, *dag_ids: str, variables: Mapping[str, str] | None = None, slurm: Slurm | None = None
) -> Iterator[AirflowStack]:
    """Start a stack with other DAGs than the examples, and wait until they have been parsed.

    :param home: an existing directory
    :param source: the text of the DAG file
    :param dag_ids: the ids of its DAGs
    :param variables: more environment variables for Airflow
    :param slurm: the Slurm that runs the jobs
    """
    dags = home / "dags"
    dags.mkdir()
    (dags / "dags.py").write_text(source)
    with AirflowStack(home / "stack", dags, variables, slurm) as stack:
        stack.wait_for_dags(*dag_ids)
        yield stack
