"""The environment variables of the programs that are started."""

from __future__ import annotations

import os

_REMOVED = ("AIRFLOW", "PREFECT", "FIRECREST", "AUTH_TOKEN")


def clean_environment() -> dict[str, str]:
    """Return our environment without settings of Airflow, Prefect and FirecREST, and with no proxy for 127.0.0.1."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_REMOVED)}
    for name in ("no_proxy", "NO_PROXY"):
        environment[name] = ",".join(filter(None, [environment.get(name), "127.0.0.1", "localhost"]))
    return environment | {"PYTHONUNBUFFERED": "1"}
