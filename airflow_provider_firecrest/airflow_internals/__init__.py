"""All that this provider uses of Airflow without Airflow's promise to keep it.

Airflow promises its Task SDK, and the bases of triggers, plugins and listeners. The rest is in this package, one small
function for each thing, and :file:`tests/airflow/internals` has a test for each. No other module of the
provider imports Airflow's tables or SQLAlchemy. What is imported inside the functions would be paid for by each DAG
file that is parsed.
"""

from __future__ import annotations

from airflow_provider_firecrest.airflow_internals.api_server import MarkRefused, mark_failed, signing_key, viewer_of
from airflow_provider_firecrest.airflow_internals.components import (
    hostname,
    is_api_server,
    is_component,
    is_triggerer,
    may_be_triggerer,
)
from airflow_provider_firecrest.airflow_internals.connections import (
    get_connection_of_team,
    give_connections_a_port,
    teams_of,
)
from airflow_provider_firecrest.airflow_internals.metrics import metrics_of_this_process
from airflow_provider_firecrest.airflow_internals.operators import BeforeRendering, attach, syntax_error
from airflow_provider_firecrest.airflow_internals.rendered_fields import rendered_fields
from airflow_provider_firecrest.airflow_internals.state_store import (
    LONGEST_VALUE,
    StoredValue,
    change_stored_values,
    delete_stored_values,
    existing_dag_runs,
    is_reference,
    last_stored_row,
    read_stored_values,
)
from airflow_provider_firecrest.airflow_internals.task_states import TaskDeleted, TaskStateUnknown, get_task_state
from airflow_provider_firecrest.airflow_internals.xcoms import (
    allow_in_xcoms,
    change_xcoms,
    get_xcom,
    push_xcom,
    read_xcom,
)

__all__ = [
    "LONGEST_VALUE",
    "BeforeRendering",
    "MarkRefused",
    "StoredValue",
    "TaskDeleted",
    "TaskStateUnknown",
    "allow_in_xcoms",
    "attach",
    "change_stored_values",
    "change_xcoms",
    "delete_stored_values",
    "existing_dag_runs",
    "get_connection_of_team",
    "get_task_state",
    "get_xcom",
    "give_connections_a_port",
    "hostname",
    "is_api_server",
    "is_component",
    "is_reference",
    "is_triggerer",
    "last_stored_row",
    "mark_failed",
    "may_be_triggerer",
    "metrics_of_this_process",
    "push_xcom",
    "read_stored_values",
    "read_xcom",
    "rendered_fields",
    "signing_key",
    "syntax_error",
    "teams_of",
    "viewer_of",
]
