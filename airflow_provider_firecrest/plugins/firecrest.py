"""What this distribution adds to Airflow's own processes, declared as an entry point in ``pyproject.toml``."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from airflow_provider_firecrest.plugins import listener


class FirecRESTPlugin(AirflowPlugin):
    """Cancels the jobs of tasks that have ended, see :mod:`airflow_provider_firecrest.cancellation.reconciler`."""

    name = "firecrest"
    listeners = [listener]  # noqa: RUF012  # Airflow's own form
