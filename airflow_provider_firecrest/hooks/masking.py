"""What of a job's variables Airflow is to mask in the logs of its tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from firecrest_core.spec.jobspec import JobSpec

# Airflow masks nothing shorter, and warns of it in the task's log.
_SHORTEST = 5


def values_to_mask(spec: JobSpec) -> dict[str, Any]:
    """Return what Airflow's ``mask_secret`` is to be called with.

    :param spec: the job
    :returns: the secrets, and the other variables by name: Airflow masks those whose names it takes for a secret's
    """
    values: dict[str, Any] = {name: value for name, value in spec.plain_environment.items() if len(value) >= _SHORTEST}
    values["secret"] = [value for value in spec.secrets.values() if len(value) >= _SHORTEST]
    return values
