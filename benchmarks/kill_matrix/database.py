"""A PostgreSQL for Airflow: SQLite refuses, at random, what several processes write at once."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path

from demo.deployment import free_port
from demo.services import Service, ServiceFailed, surroundings, wait_until

USER = "airflow"
_NOBODY = 65534


class Database:
    """A PostgreSQL on 127.0.0.1 with a database of its own; a context manager.

    It needs the programs of Debian's package `postgresql`. PostgreSQL does not run as root, so root runs it as nobody.

    Parameters:
        log: what it says.

    Attributes:
        url: for Airflow's `sql_alchemy_conn`; has a random password.

    Raises:
        ServiceFailed: when it is entered: there is no PostgreSQL, or it does not start.
    """

    def __init__(self, log: Path) -> None:
        self._log = log

    def __enter__(self) -> Database:
        programs = _programs()
        if programs is None:
            raise ServiceFailed("there is no PostgreSQL: apt-get install postgresql")
        # Not below a directory of root's, which nobody could enter.
        self._home = Path(tempfile.mkdtemp(prefix="kill-matrix-postgresql-"))
        password = secrets.token_urlsafe(12)
        secret = self._home / "password"
        secret.touch(mode=0o600)
        secret.write_text(password)
        as_nobody: list[str] = []
        if os.geteuid() == 0:
            as_nobody = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
            for path in (self._home, secret):
                os.chown(path, _NOBODY, _NOBODY)
        data = self._home / "data"
        port = free_port()
        login = [f"--username={USER}", "--auth=scram-sha-256", f"--pwfile={secret}"]
        made = [*as_nobody, str(programs / "initdb"), "--no-sync", f"--pgdata={data}", *login]
        subprocess.run(made, check=True, capture_output=True, env=surroundings(), cwd="/")
        options = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": 300,
            # The workers of a scheduler that was killed keep its connections open, and with them what it had locked.
            "idle_in_transaction_session_timeout": "15s",
        }
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        self.service = Service(
            "PostgreSQL",
            [*as_nobody, str(programs / "postgres"), "-D", str(data), *words],
            environment=surroundings(),
            log=self._log,
        )
        try:
            wait_until(
                lambda: "ready to accept connections" in self._log.read_text(),
                "PostgreSQL accepts connections",
                services=[self.service],
            )
        except BaseException:
            self.__exit__()
            raise
        self.url = f"postgresql+psycopg2://{USER}:{password}@127.0.0.1:{port}/postgres"
        return self

    def __exit__(self, *exception: object) -> None:
        self.service.stop()
        shutil.rmtree(self._home, ignore_errors=True)


def _programs() -> Path | None:
    """The newest PostgreSQL's directory; Debian keeps it out of PATH."""
    found = shutil.which("postgres")
    if found is not None:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    return versions[-1].parent if versions else None
