"""Starts the sweeper in each triggerer, and nowhere else.

Airflow's listeners are told of a task that is marked in the API, but not of one that is cleared, or deleted with its
run, and they run where they could block the API's answer. The triggerer is where jobs are waited for anyway; its main
process may read the database.
"""

from __future__ import annotations

import os
from typing import Any

from airflow.listeners import hookimpl


@hookimpl
def on_starting(component: Any) -> None:
    """Start the sweeper once the triggerer's child process is forked: a thread before that could leave it locks."""
    started = False

    def after_fork() -> None:
        nonlocal started
        # What kind of process this is becomes known only after Airflow has called the listeners.
        if not started and getattr(component, "job_type", None) == "TriggererJob":
            from airflow_provider_firecrest import sweeper

            started = True
            sweeper.start()

    os.register_at_fork(after_in_parent=after_fork)
