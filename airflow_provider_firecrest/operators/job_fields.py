"""The fields of a job as arguments of an operator: their checks while the DAG is parsed, and how they are rendered."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow_provider_firecrest.airflow_internals import BeforeRendering
from airflow_provider_firecrest.exceptions import task_error
from airflow_provider_firecrest.hooks.firecrest import build_spec
from airflow_provider_firecrest.hooks.presets import folder_of
from airflow_provider_firecrest.operators.templates import (
    TEMPLATE_FILES,
    check_syntax,
    is_template,
    names_template_file,
    script_text,
    template_error,
    texts,
)

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
    from firecrest_core.presets import Preset, Presets
    from firecrest_core.spec.jobspec import JobSpec

JOB_FIELDS = (
    "script", "script_path", "command", "launcher", "login_shell", "modules", "setup", "working_dir", "name", "account",
    "partition", "nodes", "ntasks", "ntasks_per_node", "cpus_per_task", "gpus", "gpus_per_node", "memory", "time_limit",
    "array", "dependency", "qos", "constraint", "reservation", "environment", "uenv", "container", "container_runtime",
    "container_mounts", "signal", "directives", "stdout", "stderr", "requeue", "usage",
)  # fmt: skip
# Whether one of these is right may depend on the others.
_JUDGED_TOGETHER = ("launcher", "container", "container_runtime", "container_mounts")

_SCRIPTS = {"script", "script_path", "command"}
# Behind a text, Python's literals end here, also those before a comment.
_END = "\n\0"


class JobFields(BeforeRendering):
    """An operator with an attribute for each field of a job, and ``job``, a mapping of the same fields.

    All of them are templates. A field of its own counts more than the one in ``job``, and that more than the preset's.
    """

    job: Any
    escalate: Any
    chain: Any
    alternatives: Any
    system: Any
    exactly_once: bool
    preset: Any
    hook: FirecRESTHook
    template_ext: Sequence[str]
    script: Any
    environment: Any

    def job_spec(self) -> JobSpec:
        """Return what is asked of the scheduler, once the fields are rendered.

        :raises InvalidJobSpec: naming the field that cannot be right
        """
        return build_spec(self.job, self._own_fields(), self.find_preset())

    def find_preset(self) -> Preset | None:
        """Return the task's preset, once its name is rendered; ``None`` if it has none.

        :raises InvalidJobSpec: there is none of that name, or it cannot be right
        """
        from firecrest_core.presets import Presets

        if not self._has_preset():
            return None
        presets = self._presets_at_hand() or Presets.of(self.hook.connection(), self._folder())
        return presets.get(self.preset)

    def _has_preset(self) -> bool:
        from firecrest_core.spec.jobspec import given_fields

        return bool(given_fields({"preset": self.preset}))

    def _presets_at_hand(self) -> Presets | None:
        from firecrest_core.presets import Presets

        return Presets.at_hand(self._folder())

    def _folder(self) -> Path | None:
        return folder_of(self.get_dag())  # type: ignore[attr-defined]  # of the operator

    def _own_fields(self) -> dict[str, Any]:
        return {field: getattr(self, field) for field in JOB_FIELDS}

    def check_fields(self, default_args: Mapping[str, Any]) -> None:
        """Refuse what cannot be right, as far as that is known while the DAG is parsed; templates are not.

        :param default_args: those of the DAG. What ``job`` says counts more than they do.
        :raises InvalidJobSpec: naming the field that cannot be right
        """
        from firecrest_core.errors import InvalidJobSpec

        if isinstance(self.job, Mapping):
            for field in self.job.keys() & default_args.keys() & {*JOB_FIELDS}:
                if getattr(self, field) is default_args[field]:
                    setattr(self, field, None)
        try:
            self._check_known_fields()
        except InvalidJobSpec as error:
            raise task_error(error) from None

    def _check_known_fields(self) -> None:
        from firecrest_core.errors import InvalidJobSpec
        from firecrest_core.spec.jobspec import JobSpec, check_names, given_fields

        job = self.job
        if not isinstance(job, JobSpec | Mapping | None) and (
            not is_template(job) or (isinstance(job, str) and self._renders_native() is False)
        ):
            build_spec(job, {})  # it says what is wrong
        presets = self._presets_at_hand() if self._has_preset() and not is_template(self.preset) else None
        preset = presets.get(self.preset) if presets else None
        own = given_fields({"escalate": self.escalate, "chain": self.chain})
        if preset is not None:
            self.take_following_jobs(preset)
        complete = job is None or isinstance(job, Mapping)
        if complete:
            check_names(job or {})
        given = {**(job if complete and job else {}), **given_fields(self._own_fields())}
        known = given_fields({field: value for field, value in given.items() if not is_template(value)})
        script = known.get("script")
        if names_template_file(script):
            del known["script"]  # its text is not here yet
        elif isinstance(script, str) and "\n" not in script.strip() and not script.lstrip().startswith("#!"):
            raise InvalidJobSpec(
                "script",
                f"{script!r} is neither a batch script, whose first line begins with #!, nor the name of a template "
                f"file ({', '.join(TEMPLATE_FILES)}). A file on the cluster goes into script_path, a line of shell "
                "into command.",
            )
        if not known.keys() & {"script", "script_path", "command"}:
            if complete and not given.keys() & {"script", "script_path", "command"}:
                raise InvalidJobSpec("script", "nothing says what to run; give a script, script_path or command")
            known["command"] = "true"  # in the place of what is not known
        spec = self._known_spec(given, known, preset)
        with nullcontext() if preset is None else preset.named_in_errors({**given, **own}):
            self.check_known_spec(spec)
            if self.has_many_jobs:
                complete_job = complete and (preset is not None or not self._has_preset())
                self._check_following_jobs(spec, given.keys() - known.keys(), complete=complete_job)
            if self.alternatives is not None:
                self._check_alternatives(spec)
        if complete and "working_dir" not in given:
            raise InvalidJobSpec("working_dir", "missing; give the directory on the cluster where the job runs")

    def check_known_spec(self, spec: JobSpec) -> None:
        """Refuse what cannot be right for this operator; nothing, unless an operator says what.

        :param spec: the job, as far as it is known while the DAG is parsed
        :raises InvalidJobSpec: naming the field
        """

    def _known_spec(self, given: Mapping[str, Any], known: Mapping[str, Any], preset: Preset | None) -> JobSpec:
        """Return the job as far as it is known, with what its preset says.

        :param given: what the task says
        :param known: what of it is no template
        :param preset: unless it is known only when the task runs
        :raises InvalidJobSpec: fields cannot be right, or not beside each other
        """
        from firecrest_core.spec.jobspec import JobSpec

        fields = dict(known)
        if preset is not None:
            unknown = given.keys() - known.keys()
            fields = {name: value for name, value in preset.with_fields(known).items() if name not in unknown}
        is_judged = preset is not None or not self._has_preset()
        if not is_judged or not set(_JUDGED_TOGETHER) & given.keys() <= known.keys():
            fields = {name: value for name, value in fields.items() if name not in _JUDGED_TOGETHER}
        with nullcontext() if preset is None else preset.named_in_errors(given):
            return JobSpec(**fields)

    @property
    def has_many_jobs(self) -> bool:
        """Whether other jobs may follow the first one."""
        return self.escalate is not None or self.chain is not None

    def take_following_jobs(self, preset: Preset) -> None:
        """Take the policy and the chain of the task's preset, where it has none of its own.

        :param preset: the preset
        :raises InvalidJobSpec: the task's jobs have no claim
        """
        from firecrest_core.escalation import check_claim

        if preset.escalate or preset.chain:
            with preset.named_in_errors({}):
                check_claim(exactly_once=self.exactly_once, chain=preset.chain)
        if self.escalate is None:
            self.escalate = preset.escalate
        if self.chain is None:
            self.chain = preset.chain

    def _check_following_jobs(self, spec: JobSpec, unknown: Set[str], *, complete: bool) -> None:
        """Refuse a policy or a chain that is wrong, or does not fit the job, as far as the job is known."""
        from firecrest_core.chain import Chain
        from firecrest_core.escalation import Escalation, check_claim

        check_claim(exactly_once=self.exactly_once, chain=self.chain)
        chain = None if self.chain is None else Chain.parse(self.chain)
        escalation = None if self.escalate is None else Escalation.parse(self.escalate)
        if chain is not None and complete and not unknown & {"signal", "array", "dependency"}:
            chain.check(spec)
        if escalation is not None and complete and not unknown & {"memory", "time_limit", "array"}:
            script_is_known = spec.script is not None or (spec.command is not None and not unknown & _SCRIPTS)
            escalation.check(spec, script_is_known=script_is_known)

    def _check_alternatives(self, spec: JobSpec) -> None:
        """Refuse alternatives that are wrong, or do not fit the job, as far as both are known."""
        from firecrest_core.spec.alternatives import Alternatives, check_beside, check_places

        check_beside(exactly_once=self.exactly_once, escalate=self.escalate, chain=self.chain)
        if isinstance(self.alternatives, list | tuple):
            alternatives = Alternatives.parse([_without_templates(shape) for shape in self.alternatives])
            alternatives.of(spec)
            check_places(alternatives, self.system, spec.working_dir)
        elif not is_template(self.alternatives):
            Alternatives.parse(self.alternatives)

    def _renders_native(self) -> bool | None:
        """Return whether templates become Python's objects; ``None`` if the operator has no DAG yet."""
        own: bool | None = getattr(self, "render_template_as_native_obj", None)
        dag: Any = self.get_dag()  # type: ignore[attr-defined]  # of the operator that it is mixed into
        return own if own is not None else dag and dag.render_template_as_native_obj

    # --- template files: `script` alone ---------------------------------------------------------------
    # Airflow would take every templated value that ends in ".sh" for a file on its side, but script_path, and names in
    # `job`, are files on the cluster.

    def resolve_template_files(self) -> None:
        """Put the template file's text in ``script`` while the DAG is parsed, so that Airflow versions it.

        :raises InvalidJobSpec: there is no such file, or a template cannot be read
        """
        jinja_env = self.get_template_env()  # type: ignore[attr-defined]
        if not is_template(self.script):  # a name that is itself a template is known only when the task runs
            self.script = script_text(self.script, jinja_env)
        self._check_templates(jinja_env)

    def before_rendering(self, jinja_env: Any) -> None:
        """Do what :meth:`resolve_template_files` does, for a mapped task, whose fields are known only now.

        :param jinja_env: Jinja's environment
        :raises InvalidJobSpec: there is no such file, or a template cannot be read
        """
        self.script = script_text(self.script, jinja_env)
        self.template_ext = ()
        self._check_templates(jinja_env)

    def _check_templates(self, jinja_env: Any) -> None:
        for field in (*JOB_FIELDS, "job", "preset", "alternatives", "inputs", "outputs"):
            for text in texts(getattr(self, field)):
                check_syntax(field, text, jinja_env)

    # --- rendering ------------------------------------------------------------------------------------

    def render_template(self, content: Any, context: Any, jinja_env: Any = None, seen_oids: Any = None) -> Any:
        """Render as Airflow does, but keep texts that are no fields' objects: ``"3.10"`` is not 3.1.

        With ``render_template_as_native_obj``, Jinja takes each text that looks like one of Python's literals for it.

        :param content: as for any operator
        :param context: the task's
        :param jinja_env: Jinja's environment
        :param seen_oids: as for any operator
        """

        def render(template: Any) -> Any:
            return super(JobFields, self).render_template(  # type: ignore[misc]
                template, context, jinja_env, seen_oids
            )

        def as_text(template: Any) -> Any:
            if hasattr(template, "get_secret_value"):  # a SecretStr; the fields show what it holds as asterisks
                return type(template)(str(as_text(template.get_secret_value())))
            rendered = render(template)
            if isinstance(template, str) and not isinstance(rendered, str):
                return render(template + _END).removesuffix(_END)
            return rendered

        if isinstance(content, dict) and any(content is variables for variables in self._variables()):
            return {name: as_text(value) for name, value in content.items()}
        rendered = render(content)
        if isinstance(content, str) and isinstance(rendered, bool | int | float | complex | tuple | bytes | set):
            return as_text(content)
        return rendered

    def _variables(self) -> list[Any]:
        of_job = self.job.get("environment") if isinstance(self.job, Mapping) else None
        return [self.environment, of_job]

    def rendering_error(self, field: str, error: Exception) -> Exception:
        """Return the error that ends a task whose field cannot be rendered.

        :param field: the field
        :param error: Jinja's
        """
        return template_error(field, str(error), "Check the names that it uses.")


def refuse_unknown(operator: type, arguments: Iterable[str]) -> None:
    """Refuse an argument that the operator does not have, if another one is meant. Airflow refuses the others.

    :param operator: the operator's class
    :param arguments: the names of the arguments
    :raises InvalidJobSpec: naming the argument and what is meant
    """
    from firecrest_core.errors import InvalidJobSpec

    for name in arguments:
        if name not in _arguments(operator):
            from firecrest_core.spec.field_hints import meaning

            if meant := meaning(name, _arguments(operator)):
                raise task_error(InvalidJobSpec(name, f"the operator has no such argument; {meant}"))


@cache
def _arguments(operator: type) -> frozenset[str]:
    """Return the names of an operator's arguments."""
    inits = (vars(kind)["__init__"] for kind in operator.__mro__ if "__init__" in vars(kind))
    return frozenset(name for init in inits for name in inspect.signature(init).parameters)


def _without_templates(shape: Any) -> Any:
    """Return an alternative with nothing in the place of what is known only when the task runs."""
    if not isinstance(shape, Mapping):
        return {} if is_template(shape) else shape
    place = {"system", "working_dir"}
    if any(is_template(shape.get(name)) for name in place):  # they go together
        shape = {name: value for name, value in shape.items() if name not in place}
    return {name: None if is_template(value) else value for name, value in shape.items()}
