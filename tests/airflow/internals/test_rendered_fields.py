"""The rendered fields of a task: a contract test of ``airflow_internals``."""

from __future__ import annotations

from airflow_provider_firecrest import airflow_internals
from tests.airflow.internals.contract import TASK, contract


def test_rendered_fields(store_task, tables) -> None:
    from airflow.models.renderedtifields import RenderedTaskInstanceFields as Rendered
    from sqlalchemy import insert

    with contract(
        airflow_internals.rendered_fields,
        "RenderedTaskInstanceFields holds the fields of a task instance as a mapping, by the columns that name it",
    ):
        store_task()
        fields = {"script": "#!/bin/sh\n", "job": {"name": "relax"}}
        with tables() as session:
            Rendered.__table__.create(session.connection())
            session.execute(insert(Rendered).values(**TASK, rendered_fields=fields))
        assert airflow_internals.rendered_fields(**TASK) == fields
        assert airflow_internals.rendered_fields(**TASK | {"map_index": 3}) == {}
