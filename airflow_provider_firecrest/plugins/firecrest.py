"""What this distribution adds to Airflow's own processes, declared as an entry point in ``pyproject.toml``."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airflow_provider_firecrest import airflow_internals
from airflow_provider_firecrest.plugins import listener
from airflow_provider_firecrest.web import WebApp
from airflow_provider_firecrest.xcom import HOOK_RESULTS

# Airflow loads its plugins in each process that executes a task, before it reads an XCom there.
airflow_internals.allow_in_xcoms(HOOK_RESULTS)


def _view(destination: str, route: str, query: str = "", **more: Any) -> dict[str, Any]:
    """Return a place in Airflow's UI that shows the page of jobs, in a frame."""
    # The address is relative to Airflow's own, which may be below a path.
    address = {"href": f"firecrest/jobs{query}", "icon": "firecrest/static/icon.svg"}
    return {"name": "HPC Jobs", "destination": destination, "url_route": route, **address, **more}


class FirecRESTPlugin(AirflowPlugin):
    """Cancels the jobs of tasks that have ended, shows jobs in Airflow's UI, and lets the API server test connections.

    For the first see :mod:`airflow_provider_firecrest.cancellation.reconciler`, for the second
    :mod:`airflow_provider_firecrest.web`.
    """

    name = "firecrest"
    listeners = [listener]  # noqa: RUF012  # Airflow's own form
    fastapi_apps: list[Any] = []  # noqa: RUF012
    external_views = [  # noqa: RUF012
        _view("nav", "hpc-jobs", nav_top_level=True),
        _view("dag", "hpc-jobs-of-dag", "?dag_id={DAG_ID}"),
        _view("dag_run", "hpc-jobs-of-run", "?dag_id={DAG_ID}&run_id={RUN_ID}"),
        _view("task", "hpc-jobs-of-task", "?dag_id={DAG_ID}&task_id={TASK_ID}"),
        _view(
            "task_instance",
            "hpc-jobs-of-task-instance",
            "?dag_id={DAG_ID}&run_id={RUN_ID}&task_id={TASK_ID}&map_index={MAP_INDEX}",
        ),
    ]

    @classmethod
    def on_load(cls, *args: Any, **kwargs: Any) -> None:
        """Prepare what only the API server needs: the pages, and Airflow's Test button.

        :param args: nothing, so far
        :param kwargs: nothing, so far
        """
        if airflow_internals.is_api_server():
            cls.fastapi_apps = [{"app": WebApp(), "url_prefix": "/firecrest", "name": "HPC Jobs"}]
            airflow_internals.give_connections_a_port("firecrest")
