"""What this distribution adds to Airflow's own processes, declared as an entry point in ``pyproject.toml``."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airflow_provider_firecrest import airflow_internals
from airflow_provider_firecrest.plugins import listener
from airflow_provider_firecrest.xcom import HOOK_RESULTS

# Airflow loads its plugins in each process that executes a task, before it reads an XCom there.
airflow_internals.allow_in_xcoms(HOOK_RESULTS)


class FirecRESTPlugin(AirflowPlugin):
    """Cancels the jobs of tasks that have ended, and lets the API server test connections.

    For the first see :mod:`airflow_provider_firecrest.cancellation.reconciler`.
    """

    name = "firecrest"
    listeners = [listener]  # noqa: RUF012  # Airflow's own form

    @classmethod
    def on_load(cls, *args: Any, **kwargs: Any) -> None:
        """Prepare Airflow's Test button, whose requests the API server answers.

        :param args: nothing, so far
        :param kwargs: nothing, so far
        """
        if airflow_internals.is_api_server():
            airflow_internals.give_connections_a_port("firecrest")
