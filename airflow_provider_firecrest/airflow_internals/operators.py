"""The operator that a worker executes, and the rendering of its fields."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any


def attach(task: Any, *, on_kill: Callable[[], None], on_success: Callable[[], None]) -> None:
    """Have functions called beside the methods of an operator whose ``execute`` runs in this process.

    It stands on ``task.on_kill`` and ``task.post_execute``, which the task runner looks up on the very operator that it
    executes: the first at SIGTERM and at ``AirflowTaskTimeout``, the second when ``execute`` has returned.

    :param task: the operator; what was attached to it before is replaced
    :param on_kill: called before the operator's own ``on_kill``
    :param on_success: called before the operator's own ``post_execute``
    """

    def kill() -> None:
        on_kill()
        type(task).on_kill(task)

    def post_execute(context: Any, result: Any = None) -> Any:
        on_success()
        return type(task).post_execute(task, context, result)

    task.on_kill, task.post_execute = kill, post_execute


def syntax_error(text: str, jinja_env: Any) -> tuple[int, str] | None:
    """Return why Jinja cannot read a template: the number of the line, and its message; ``None`` if it can.

    It stands on Jinja being what renders templates.

    :param text: the template
    :param jinja_env: Jinja's environment that it is going to be rendered with
    """
    from jinja2 import TemplateSyntaxError

    try:
        jinja_env.parse(text)
    except TemplateSyntaxError as error:
        return error.lineno, str(error.message)
    return None


class BeforeRendering:
    """Lets an operator change its fields before Airflow renders them, and act on them afterwards, also if it is mapped.

    It stands on ``_do_render_template_fields``, which Airflow calls for every task that runs. The public
    ``render_template_fields`` is not called for the operator that a mapped task is expanded to.
    """

    @abstractmethod
    def before_rendering(self, jinja_env: Any) -> None:
        """Change fields.

        :param jinja_env: Jinja's environment that they are going to be rendered with
        """

    def rendering_error(self, field: str, error: Exception) -> Exception:
        """Return the error to raise when a field cannot be rendered.

        :param field: the field
        :param error: Jinja's
        """
        return error

    def after_rendering(self, context: Any) -> None:
        """Act on the rendered fields. Nothing is done unless an operator says what.

        :param context: the task's; the label of a mapped task is rendered by its ``map_index_template`` after this
        """

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Any, jinja_env: Any, seen_oids: set[int]
    ) -> None:
        from jinja2 import TemplateError

        self.before_rendering(jinja_env)
        for field in template_fields:
            try:
                super()._do_render_template_fields(  # type: ignore[misc]  # of the operator that it is mixed into
                    parent, (field,), context, jinja_env, seen_oids
                )
            except TemplateError as error:
                raise self.rendering_error(field, error) from None
        self.after_rendering(context)
