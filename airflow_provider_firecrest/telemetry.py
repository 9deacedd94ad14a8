"""The core's numbers as Airflow's metrics, below ``firecrest.``; nothing happens where Airflow's metrics are off."""

from __future__ import annotations

from datetime import timedelta

from airflow_provider_firecrest.airflow_internals import hostname, may_be_triggerer, metrics_of_this_process

PREFIX = "firecrest."


class AirflowMetrics:
    """Gives numbers to Airflow's metrics. Airflow puts ``airflow.``, or what it is set to, before their names."""

    def count(self, name: str, **tags: str) -> None:
        """Count one more, for example ``requests``."""
        metrics_of_this_process().incr(PREFIX + name, tags=tags)

    def gauge(self, name: str, value: float, **tags: str) -> None:
        """Say a number as it is now, for example ``jobs.waiting``, if this is a triggerer.

        A backend keeps one number for a name and its tags: a worker with its one job would hide the thousands of the
        triggerer.
        """
        if may_be_triggerer():
            metrics_of_this_process().gauge(PREFIX + name, value, tags={**tags, "hostname": hostname()})

    def timing(self, name: str, seconds: float, **tags: str) -> None:
        """Say how long something has lasted, for example ``poll``."""
        metrics_of_this_process().timing(PREFIX + name, timedelta(seconds=seconds), tags=tags)
