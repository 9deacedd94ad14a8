"""Starts the reconciler in each triggerer, and lets other components scan the tasks where only they can.

The triggerer is where jobs are waited for anyway, and its main process may read the database. Airflow's listeners are
notified of a task or run that is marked in the API, but not of one that is cleared or deleted.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import Any

from airflow.listeners import hookimpl

from airflow_provider_firecrest import airflow_internals

log = logging.getLogger(__name__)

SECONDS_TO_FORK = 60.0
"""How long a triggerer may take from its start until it has forked the process that runs the triggers."""


@hookimpl
def on_starting(component: Any) -> None:
    """Note the clears that a scheduler forgets when it starts, and start the reconciler in a triggerer.

    :param component: what starts
    """
    if not airflow_internals.is_component(component):
        return  # a task, which may not read the database
    _note_clears()
    _start_after_fork(component)


@hookimpl
def on_dag_run_success(dag_run: Any) -> None:
    """Remember the jobs of a run that a person marks: it may be deleted at once.

    :param dag_run: the run
    """
    _look_after(dag_run)


@hookimpl
def on_dag_run_failed(dag_run: Any) -> None:
    """Do what :func:`on_dag_run_success` does.

    :param dag_run: the run
    """
    _look_after(dag_run)


def _look_after(dag_run: Any) -> None:
    # The scheduler is notified of each run that ends. It has a triggerer for this, and must not get threads: it forks.
    if airflow_internals.is_api_server():
        from airflow_provider_firecrest.cancellation import reconciler

        reconciler.look_after(dag_run.id, reconciler.SECONDS_AFTER_MARK)


def _note_clears() -> None:
    from airflow_provider_firecrest.cancellation import scan

    try:
        scan.note_clears()
    except Exception:  # a database that is not made yet, or is away: the component itself reports that
        log.debug("The tasks that were cleared cannot be read.", exc_info=True)


def _start_after_fork(component: Any) -> None:
    """Start the reconciler once the triggerer has forked its child: a thread before that could leave it locks."""
    forked, process = threading.Event(), os.getpid()

    def after_fork() -> None:
        if forked.is_set() or os.getpid() != process:  # the child has inherited the hook
            return
        forked.set()
        # Airflow says what kind of component this is only after it has called the listeners.
        if airflow_internals.is_triggerer(component):
            _start_reconciler()

    os.register_at_fork(after_in_parent=after_fork)
    if airflow_internals.may_be_triggerer():
        threading.Thread(target=_warn_unless, args=(forked,), name="firecrest-start", daemon=True).start()


def _start_reconciler() -> None:
    from airflow_provider_firecrest.cancellation import reconciler

    try:
        reconciler.start()
    except Exception as error:
        _warn(str(error))


def _warn_unless(forked: threading.Event) -> None:
    """Wait, and do nothing else: this thread may be there when the triggerer forks, so it must hold no lock."""
    if not forked.wait(SECONDS_TO_FORK):
        _warn("Airflow has not forked the process that runs the triggers")


def _warn(reason: str) -> None:
    log.warning(
        "The reconciler of FirecREST jobs does not run in this triggerer: %s. The job of a task that a person ends "
        "or clears is now cancelled by the task's worker or trigger alone, and goes on if neither is alive.",
        reason,
    )
