"""Starts what works in each triggerer, and lets other components look where only they can see.

The triggerer is where jobs are waited for anyway; its main process may read the database. Airflow's listeners are told
of a task or run that is marked in the API, but not of one that is cleared or deleted.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from airflow.listeners import hookimpl

log = logging.getLogger(__name__)

_started = False
"""Whether this is a scheduler, triggerer, DAG processor or a task; the API server is the one that nobody announces."""


@hookimpl
def on_starting(component: Any) -> None:
    """Note the clears that a scheduler forgets when it starts, and start what works in a triggerer."""
    global _started
    _started = True
    jobs = sys.modules.get("airflow.jobs.job")
    if jobs is None or not isinstance(component, jobs.Job):
        return  # a task, which may not read the database
    _note_clears()
    _begin_after_fork(component)


@hookimpl
def on_dag_run_success() -> None:
    """Hold on to the jobs of a run that a person marks: it may be deleted at once."""
    _follow()


@hookimpl
def on_dag_run_failed() -> None:
    """Do what :func:`on_dag_run_success` does."""
    _follow()


def _follow() -> None:
    if not _started:
        from airflow_provider_firecrest import sweeper

        sweeper.follow()


def _note_clears() -> None:
    from airflow_provider_firecrest import sweeper

    try:
        sweeper.look()
    except Exception:  # a database that is not made yet, or away: that is the component's own affair
        log.debug("Cannot see which tasks were cleared.", exc_info=True)


def _begin_after_fork(component: Any) -> None:
    """Start our threads once the triggerer's child process is forked: one before that could leave it locks."""
    begun = False

    def after_fork() -> None:
        nonlocal begun
        # What kind of process this is becomes known only after Airflow has called the listeners.
        if not begun and getattr(component, "job_type", None) == "TriggererJob":
            from airflow_provider_firecrest import sweeper, takeover

            begun = True
            sweeper.start()
            takeover.start(component.hostname, component.id)

    os.register_at_fork(after_in_parent=after_fork)
