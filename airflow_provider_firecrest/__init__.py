"""An Airflow provider that runs HPC jobs through the FirecREST v2 API."""

from __future__ import annotations

from typing import Any

__all__ = ["__version__"]


def __getattr__(name: str) -> Any:
    # Read on demand: importlib.metadata costs milliseconds that no DAG file should pay.
    if name == "__version__":
        from importlib.metadata import version

        return version("firecrest-workflows")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
