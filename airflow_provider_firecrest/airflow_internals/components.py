"""Which of Airflow's components this process is."""

from __future__ import annotations

import sys
from functools import cache


def is_component(starting: object) -> bool:
    """Tell whether what a listener gets is one of Airflow's components, which may read the database.

    It stands on ``airflow.jobs.job.Job``: the listeners of scheduler, triggerer and DAG processor get one, those of a
    task get something else. The module is looked for and not imported, since a task must not import it.

    :param starting: what ``on_starting`` was called with
    """
    jobs = sys.modules.get("airflow.jobs.job")
    return jobs is not None and isinstance(starting, jobs.Job)


def is_triggerer(component: object) -> bool:
    """Tell whether a component is a triggerer.

    It stands on ``Job.job_type``, which Airflow sets only after it has called ``on_starting``.

    :param component: what :func:`is_component` approved of
    """
    return getattr(component, "job_type", None) == "TriggererJob"


def may_be_triggerer() -> bool:
    """Tell whether this process can become a triggerer, which is known before :func:`is_triggerer` is.

    It stands on the module ``airflow.jobs.triggerer_job_runner``: neither scheduler nor DAG processor import it.
    """
    return "airflow.jobs.triggerer_job_runner" in sys.modules


def is_api_server() -> bool:
    """Tell whether this process is the API server.

    It stands on the module ``airflow.api_fastapi.main``, which each way to start the API server imports, and nothing
    else. ``dag.test()`` and a task import other parts of it.
    """
    return "airflow.api_fastapi.main" in sys.modules


@cache
def hostname() -> str:
    """Return the name of this host, as Airflow's own metrics and tables have it.

    It stands on ``airflow.utils.net.get_hostname``.
    """
    from airflow.utils.net import get_hostname

    return str(get_hostname())  # type: ignore[no-untyped-call]
