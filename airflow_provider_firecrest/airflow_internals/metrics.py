"""Airflow's own metrics, which it sends to StatsD, Datadog or OpenTelemetry if it is set so."""

from __future__ import annotations

from types import ModuleType

from airflow_provider_firecrest.airflow_internals.components import may_be_triggerer


def metrics_of_this_process() -> ModuleType:
    """Return Airflow's functions ``incr``, ``gauge`` and ``timing``, as this process has set them up.

    It stands on Airflow's core and its Task SDK having a copy each, of which the triggerer and its child set up the
    first, and the process of a task the second.
    """
    if may_be_triggerer():
        from airflow.observability import stats
    else:
        from airflow.sdk.observability import stats  # type: ignore[no-redef]
    return stats
