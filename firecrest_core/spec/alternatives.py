"""Alternatives: several shapes of one job, which wait in several queues at once.

A person writes what each of them asks for instead of, or besides, what the job itself does::

    alternatives=[{"partition": "normal"}, {"partition": "debug", "time_limit": 30}]

All of them run the same script, in the same directory. :mod:`firecrest_core.race` lets the first that begins run it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from firecrest_core.errors import InvalidJobSpec
from firecrest_core.spec import validation
from firecrest_core.spec.jobspec import JobSpec, check_names, given_fields

SHAPE_FIELDS = (
    "account", "partition", "nodes", "ntasks", "ntasks_per_node", "cpus_per_task", "gpus", "gpus_per_node", "memory",
    "time_limit", "qos", "constraint", "reservation", "directives",
)  # fmt: skip
"""The fields of a job that an alternative may have: what decides when it starts, and not what it runs."""

_FORM = "[{'partition': 'normal'}, {'partition': 'debug', 'time_limit': 30}]"


@dataclass(frozen=True, slots=True)
class Alternatives:
    """The shapes of one job.

    :param shapes: of each, the fields that are its own, as :class:`~firecrest_core.spec.jobspec.JobSpec` has them
    """

    shapes: tuple[Mapping[str, Any], ...]

    @classmethod
    def parse(cls, given: Any) -> Alternatives:
        """Read alternatives as a person writes them.

        :param given: a list of mappings from :data:`SHAPE_FIELDS` to values; ``{}`` is the job as it is
        :raises InvalidJobSpec: it has another form, or a field cannot be right; the message says in which alternative
        """
        if isinstance(given, str | Mapping) or not isinstance(given, Sequence) or not given:
            raise _wrong(f"a list of at least one alternative is needed, not {given!r}; the form is {_FORM}")
        return cls(tuple(_shape(number, one) for number, one in enumerate(given, 1)))

    def to_list(self) -> list[dict[str, Any]]:
        """Return the shapes as JSON types; :meth:`parse` reads them back."""
        return [
            {name: list(value) if isinstance(value, tuple) else value for name, value in shape.items()}
            for shape in self.shapes
        ]

    def of(self, spec: JobSpec) -> list[JobSpec]:
        """Return a job in each of its shapes.

        :param spec: the job
        :raises InvalidJobSpec: the job is an array, or a shape does not fit it
        """
        if spec.array_indices is not None:
            raise _wrong("the elements of an array begin one by one, so no alternative of it begins first")
        jobs = []
        for number, shape in enumerate(self.shapes, 1):
            try:
                jobs.append(replace(spec, **shape))
            except InvalidJobSpec as error:
                raise _wrong(f"{number}: {error}") from None
        return jobs


def check_beside(*, exactly_once: bool, escalate: Any, chain: Any) -> None:
    """Refuse what a task cannot have beside alternatives.

    :param exactly_once: its jobs have a claim
    :param escalate: its escalation policy, or ``None``
    :param chain: its chain, or ``None``
    :raises InvalidJobSpec: with the reason
    """
    if not exactly_once:
        raise _wrong("the claim decides which of them runs; leave exactly_once on")
    for name, value in (("escalate", escalate), ("chain", chain)):
        if value is not None:
            raise InvalidJobSpec(
                name, "it says what follows one job, and alternatives are several; give one of the two"
            )


def _shape(number: int, given: Any) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise _wrong(f"{number} is {given!r}; the form is {_FORM}")
    if "system" in given:
        raise _wrong(
            f"{number}: system: alternatives on another system have no claim in common, so two of them might run; "
            "leave it out, and submit a task for that system"
        )
    try:
        check_names(given)
        for name in given:
            if name not in SHAPE_FIELDS:
                fields = ", ".join(SHAPE_FIELDS)
                raise InvalidJobSpec(name, f"all alternatives run the same; they may differ in {fields}")
        return {name: validation.checked(name, value) for name, value in given_fields(given).items()}
    except InvalidJobSpec as error:
        raise _wrong(f"{number}: {error}") from None


def _wrong(message: str) -> InvalidJobSpec:
    return InvalidJobSpec("alternatives", message)
