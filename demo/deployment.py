"""A real Airflow: API server, scheduler, triggerer and DAG processor as separate processes on free ports."""

from __future__ import annotations

import base64
import json
import secrets
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path

from demo.rest import AirflowAPI
from demo.services import Service, surroundings, wait_until

USER = "admin"


class Deployment:
    """An Airflow with its state in `home`; a context manager.

    It is an Airflow for one machine and one user: LocalExecutor, SQLite, one login with a random password,
    listening on 127.0.0.1 alone.

    :param home: becomes AIRFLOW_HOME
    :param dags_folder: where its DAGs are
    :param variables: more environment variables for the tasks
    """

    def __init__(self, home: Path, dags_folder: Path, variables: Mapping[str, str]) -> None:
        self.home = home
        self.dags_folder = dags_folder
        self.password = secrets.token_urlsafe(12)
        self.url = f"http://127.0.0.1:{free_port()}"
        self.environment = self._environment(variables)
        self.services: list[Service] = []
        self._stack = ExitStack()

    def __enter__(self) -> Deployment:
        self.home.mkdir(parents=True)
        passwords = self.home / "passwords.json"
        passwords.touch(mode=0o600)
        passwords.write_text(json.dumps({USER: self.password}))
        return self

    def __exit__(self, *exception: object) -> None:
        for service in self.services:
            service.ask_to_stop()
        self._stack.close()

    def migrate(self) -> None:
        """Make the metadata database."""
        with self._airflow("migration", "db", "migrate") as migration:
            wait_until(lambda: migration.exit_code == 0, "Airflow's database is made", services=[migration])

    def start(self) -> AirflowAPI:
        """Start the four services and wait until all of them are healthy."""
        # With the logs in one place nobody needs the services' own log servers, and they need fixed ports.
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
        """One of the four: `api-server`, `scheduler`, `triggerer` or `dag-processor`."""
        return next(service for service in self.services if service.name == _named(name))

    def _airflow(self, name: str, *arguments: str) -> Service:
        return Service(
            _named(name),
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
            # Of a few small DAGs nobody wants to wait for the next loop.
            "SCHEDULER": {"SCHEDULER_IDLE_SLEEP_TIME": 0.2, "TRIGGER_TIMEOUT_CHECK_INTERVAL": 5},
            # A task that was deferred goes on no sooner than one and a half of these (5 s by default).
            "WORKERS": {"MIN_HEARTBEAT_INTERVAL": 1},
            "LOGGING": {"BASE_LOG_FOLDER": self.home / "logs"},
            "DATABASE": {"SQL_ALCHEMY_CONN": f"sqlite:///{self.home / 'airflow.db'}"},
        }
        environment = surroundings() | {"AIRFLOW_HOME": str(self.home)}
        for section, values in options.items():
            environment |= {f"AIRFLOW__{section}__{name}": str(value) for name, value in values.items()}
        return environment | dict(variables)


def _named(name: str) -> str:
    return f"Airflow's {name}"


def log_entries(file: Path) -> Iterator[tuple[float, str]]:
    """The entries of a task's or trigger's log: when, in seconds since the epoch, and what."""
    for line in file.read_text(errors="replace").splitlines():
        with suppress(ValueError, KeyError, TypeError):  # what a program printed, or half a line
            entry = json.loads(line)
            yield datetime.fromisoformat(entry["timestamp"]).timestamp(), entry["event"]


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
