"""A real Airflow: API server, scheduler, triggerer and DAG processor as separate processes."""

from __future__ import annotations

import base64
import json
import secrets
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from harness.airflow.api import AirflowAPI
from harness.environment import clean_environment
from harness.ports import free_port
from harness.service import Service, wait_until

USER = "admin"


class AirflowDeployment:
    """An Airflow with its state in `home`; a context manager.

    It is for one machine and one user: LocalExecutor, SQLite, and one user with a random password. It listens on
    127.0.0.1 only.

    :param home: AIRFLOW_HOME; a directory that does not exist yet
    :param dags_folder: the folder of its DAGs
    :param variables: more environment variables for its services and tasks
    """

    def __init__(self, home: Path, dags_folder: Path, variables: Mapping[str, str]) -> None:
        self.home = home
        self.dags_folder = dags_folder
        self.password = secrets.token_urlsafe(12)
        self.url = f"http://127.0.0.1:{free_port()}"
        self.environment = self._environment(variables)
        self.services: list[Service] = []
        self._stack = ExitStack()

    def __enter__(self) -> AirflowDeployment:
        self.home.mkdir(parents=True)
        passwords = self.home / "passwords.json"
        passwords.touch(mode=0o600)
        passwords.write_text(json.dumps({USER: self.password}))
        return self

    def __exit__(self, *exception: object) -> None:
        for service in self.services:
            service.interrupt()
        self._stack.close()

    def migrate(self) -> None:
        """Create the metadata database."""
        with self._airflow("migration", "db", "migrate") as migration:
            wait_until(lambda: migration.exit_code == 0, "Airflow's database is created", services=[migration])

    def start(self) -> AirflowAPI:
        """Start the four services and wait until all of them are healthy."""
        # All logs are in one folder, so the services' own log servers are not needed; they would use fixed ports.
        for name, *arguments in (
            ("api-server",),
            ("scheduler", "--skip-serve-logs"),
            ("triggerer", "--skip-serve-logs"),
            ("dag-processor",),
        ):
            self.services.append(self._stack.enter_context(self._airflow(name, name, *arguments)))
        api = self._stack.enter_context(AirflowAPI(self.url, USER, self.password))
        wait_until(api.healthy, "Airflow is healthy", services=self.services)
        return api

    def service(self, name: str) -> Service:
        """Return one of the four services.

        :param name: `api-server`, `scheduler`, `triggerer` or `dag-processor`
        """
        return next(service for service in self.services if service.name == _title(name))

    def _airflow(self, name: str, *arguments: str) -> Service:
        return Service(
            _title(name),
            [sys.executable, "-m", "airflow", *arguments],
            environment=self.environment,
            log=self.home / f"{name}.log",
        )

    def _environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        options: dict[str, dict[str, object]] = {
            "CORE": {
                "DAGS_FOLDER": self.dags_folder,
                "LOAD_EXAMPLES": False,
                "TEST_CONNECTION": "Enabled",
                "DAGS_ARE_PAUSED_AT_CREATION": False,
                "EXECUTOR": "LocalExecutor",
                "PARALLELISM": 4,
                "EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
                "FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
                "SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
                "SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": self.home / "passwords.json",
            },
            "API": {
                "HOST": "127.0.0.1",
                "PORT": self.url.rpartition(":")[2],
                "BASE_URL": self.url,
                "WORKERS": 1,
                "SECRET_KEY": secrets.token_hex(16),
            },
            "API_AUTH": {"JWT_SECRET": secrets.token_hex(32)},
            # Shorter than the defaults, since a few small DAGs would mostly wait for the next loop.
            "SCHEDULER": {"SCHEDULER_IDLE_SLEEP_TIME": 0.2, "TRIGGER_TIMEOUT_CHECK_INTERVAL": 5},
            # A deferred task resumes no sooner than after 1.5 of these intervals (5 s by default).
            # On a busy machine, the API server may need longer to start a task than its default of 5 s.
            "WORKERS": {"MIN_HEARTBEAT_INTERVAL": 1, "EXECUTION_API_TIMEOUT": 60},
            "LOGGING": {"BASE_LOG_FOLDER": self.home / "logs"},
            "DATABASE": {"SQL_ALCHEMY_CONN": f"sqlite:///{self.home / 'airflow.db'}"},
        }
        environment = clean_environment() | {"AIRFLOW_HOME": str(self.home)}
        for section, values in options.items():
            environment |= {f"AIRFLOW__{section}__{name}": str(value) for name, value in values.items()}
        return environment | dict(variables)


def _title(name: str) -> str:
    return f"Airflow's {name}"
