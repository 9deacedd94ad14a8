"""An operator that runs the points of a sweep as one job array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_firecrest.exceptions import task_error
from airflow_provider_firecrest.operators.job import FirecRESTSubmitOperator

if TYPE_CHECKING:
    from firecrest_core.spec.jobspec import JobSpec
    from firecrest_core.spec.points import Point


class FirecRESTArrayOperator(FirecRESTSubmitOperator):
    """Run a job for each point of a sweep, all of them as one job array.

    Hundreds of points are one submission and one task: the scheduler starts the elements, and one question for all jobs
    is enough to wait for them. The log and the page *HPC Jobs* count the elements by state, and the error of a task
    names those that failed. Where each point needs a task of its own, to be cleared by itself, map
    :class:`~airflow_provider_firecrest.operators.job.FirecRESTSubmitOperator` instead.

    All parameters of that operator but ``array``, ``script_path`` and ``alternatives`` are parameters here, and say
    what an element runs.

    :param over: for each element the values of its point by name, such as ``[{"SEED": 1}, {"SEED": 2}]``, or the output
        of a task that returns them. The element finds each value in the variable of its name: a text as it is, anything
        else as JSON. At most 1000 points; to have more, map the task over
        :func:`~firecrest_core.spec.points.in_arrays`. They are templates
    :returns: as :class:`~airflow_provider_firecrest.operators.job.FirecRESTSubmitOperator`; ``element_counts`` says how
        many elements ended in which state
    """

    template_fields: Sequence[str] = (*FirecRESTSubmitOperator.template_fields, "over")
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **FirecRESTSubmitOperator.template_fields_renderers,
        "over": "json",
    }

    def __init__(self, *, over: Sequence[Point] | Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.over = over
        if self.chain is not None:
            self._check_chain()
        if isinstance(over, list | tuple | Mapping):  # else it is a template, or what another task returns
            self._check_points(over)

    def _check_points(self, points: Any) -> None:
        from firecrest_core.errors import InvalidJobSpec
        from firecrest_core.spec.points import check_element, check_points

        try:
            check_points(points)
            check_element(is_array=self.array is not None, has_script_path=self.script_path is not None)
            if self.alternatives is not None:
                raise InvalidJobSpec("alternatives", "the elements of an array begin one by one, so none begins first")
        except InvalidJobSpec as error:
            raise task_error(error) from None

    def _check_chain(self) -> None:
        from firecrest_core.chain import Chain
        from firecrest_core.errors import InvalidJobSpec

        try:
            Chain.parse(self.chain).check_elements()
        except InvalidJobSpec as error:
            raise task_error(error) from None

    def job_spec(self) -> JobSpec:
        """Return what is asked of the scheduler: the array over the points.

        :raises InvalidJobSpec: naming the field that cannot be right
        """
        from firecrest_core.spec.points import over_points

        return over_points(super().job_spec(), self.over)
