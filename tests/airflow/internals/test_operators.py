"""How Airflow renders and runs an operator: contract tests of ``airflow_internals``."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator
from airflow.sdk.exceptions import AirflowTaskTimeout

from airflow_provider_firecrest import airflow_internals
from airflow_provider_firecrest.airflow_internals import BeforeRendering
from tests.airflow.internals.contract import contract


class Changed(BeforeRendering, BaseOperator):
    template_fields = ("field",)

    def __init__(self, *, field: str, **more: Any) -> None:
        super().__init__(**more)
        self.field = field

    def before_rendering(self, jinja_env: Any) -> None:
        assert jinja_env.from_string("{{ 1 }}").render() == "1"
        self.field += " of {{ ds }}"


def test_before_rendering() -> None:
    with contract(
        BeforeRendering, "BaseOperator.render_template_fields calls _do_render_template_fields of the operator"
    ):
        task = Changed(task_id="t", field="file")
        task.render_template_fields({"ds": "today"})
        assert task.field == "file of today"


def test_before_rendering_of_a_mapped_task(ti) -> None:
    with contract(
        BeforeRendering,
        "MappedOperator.render_template_fields calls _do_render_template_fields of the operator that it expands to",
    ):
        with DAG("d", schedule=None) as dag:
            mapped = Changed.partial(task_id="t").expand(field=["one", "two"])
        ti.map_index, ti.task = 1, mapped
        context: dict[str, Any] = {"ds": "today", "ti": ti, "dag": dag, "dag_run": SimpleNamespace(conf={})}
        mapped.render_template_fields(context)
        assert context["task"].field == "two of today"


def test_syntax_error() -> None:
    with contract(airflow_internals.syntax_error, "an operator's get_template_env returns an environment of Jinja"):
        jinja_env = BaseOperator(task_id="t").get_template_env()
        assert airflow_internals.syntax_error("{{ ds }}\n{{ fine }}", jinja_env) is None
        assert airflow_internals.syntax_error("first\n${#a[@]}", jinja_env) == (2, "Missing end of comment tag")


@pytest.mark.parametrize(("error", "called"), [(None, ["success"]), (AirflowTaskTimeout, ["kill"]), (ValueError, [])])
def test_attach(run_function, ti, error, called) -> None:
    calls: list[str] = []

    def function() -> None:
        for attached in (["replaced"], calls):
            airflow_internals.attach(
                ti.task,
                on_kill=lambda to=attached: to.append("kill"),
                on_success=lambda to=attached: to.append("success"),
            )
        if error is not None:
            raise error

    with contract(
        airflow_internals.attach,
        "the task runner calls on_kill at AirflowTaskTimeout, and post_execute when execute has returned",
    ):
        with contextlib.suppress(AirflowTaskTimeout, ValueError):
            run_function(function, execution_timeout=timedelta(hours=1))
        assert calls == called
