"""What every FirecREST sensor shares: its connection, and how it waits."""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import AirflowSensorTimeout

from airflow_provider_firecrest.exceptions import from_event
from airflow_provider_firecrest.operators.base import FirecRESTBaseOperator, checked_poll_interval

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_firecrest.triggers.base import FirecRESTTrigger


class FirecRESTBaseSensor(FirecRESTBaseOperator, BaseSensorOperator):
    """A sensor that asks a FirecREST. ``timeout``, ``soft_fail`` and ``mode`` are those of any sensor.

    :param deferrable: wait in the triggerer (the default); ``False`` pokes from the worker, as ``mode`` says
    :param poll_interval: seconds between two questions
    """

    ui_color: str = "#e6f1f2"

    def __init__(self, *, deferrable: bool = True, poll_interval: float = 10.0, **kwargs: Any) -> None:
        kwargs.setdefault("poke_interval", checked_poll_interval(poll_interval))
        super().__init__(**kwargs)
        self.deferrable = deferrable
        self.poll_interval = poll_interval

    def wait(self, context: Context, trigger: FirecRESTTrigger) -> None:
        """Go on in :meth:`execute_complete` when the trigger fires, at the latest when ``timeout`` has passed.

        :param context: the task's
        :param trigger: what to wait for
        """
        limits = [self.timeout]
        if self.execution_timeout is not None:
            limits.append(self.execution_timeout.total_seconds())
        trigger.deadline = time.time() + min(limits)
        self.defer(trigger=trigger, method_name="execute_complete")

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on after the wait.

        :param context: the task's
        :param event: the trigger's
        """
        if event["status"] == "timeout":
            limit = f"{self.timeout:g} s (timeout) or execution_timeout"
            raise AirflowSensorTimeout(f"{self.awaited} has not come within {limit}.")
        if event["status"] == "error":
            raise from_event(event) from None
        return self.finish(event)

    @property
    @abstractmethod
    def awaited(self) -> str:
        """What it waits for, in words."""

    def finish(self, event: dict[str, Any]) -> Any:
        """Return the task's result once the wait is over.

        :param event: the trigger's
        """
