"""The core's numbers as Airflow's metrics, below ``firecrest.``; nothing happens where Airflow's metrics are off."""

from __future__ import annotations

from datetime import timedelta

from airflow_provider_firecrest.airflow_internals import metrics_of_this_process

PREFIX = "firecrest."


class AirflowMetrics:
    """Gives numbers to Airflow's metrics. Airflow puts ``airflow.``, or what it is set to, before their names."""

    def count(self, name: str, **tags: str) -> None:
        """Count one more, for example ``requests``."""
        metrics_of_this_process().incr(PREFIX + name, tags=tags)

    def gauge(self, name: str, value: float, **tags: str) -> None:
        """Say a number as it is now, for example ``jobs.waiting``."""
        metrics_of_this_process().gauge(PREFIX + name, value, tags=tags)

    def timing(self, name: str, seconds: float, **tags: str) -> None:
        """Say how long something has lasted, for example ``poll``."""
        metrics_of_this_process().timing(PREFIX + name, timedelta(seconds=seconds), tags=tags)
