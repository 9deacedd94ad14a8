"""An auth manager with rights for each DAG, which Airflow's simple one does not have."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

HIDDEN = "hidden_"
"""How the ids of the DAGs begin that only an administrator may see."""


class RightsPerDag(SimpleAuthManager):
    """Airflow's simple auth manager, which hides some DAGs from all but administrators."""

    def is_authorized_dag(self, *, user: Any, details: Any = None, **asked: Any) -> bool:
        """Tell whether a user may do something with a DAG, or with some DAG if none is named."""
        hidden = bool(details and details.id and details.id.startswith(HIDDEN))
        allowed = super().is_authorized_dag(user=user, details=details, **asked)
        return allowed and (not hidden or user.role.upper() == "ADMIN")
