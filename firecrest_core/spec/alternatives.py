"""Alternatives: several shapes of one job, which wait in several queues at once.

A person writes what each of them asks for instead of, or besides, what the job itself does::

    alternatives=[{"partition": "normal"}, {"partition": "debug", "time_limit": 30}]

All of them run the same script, in the same directory. :mod:`firecrest_core.race` lets the first that begins run it.

One that names a system runs there, in a directory of its own::

    alternatives=[{"partition": "normal"}, {"system": "eiger", "working_dir": "/capstor/scratch/me/run"}]
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from firecrest_core.errors import ConfigurationError, InvalidJobSpec
from firecrest_core.spec import validation
from firecrest_core.spec.jobspec import JobSpec, check_names, given_fields
from firecrest_core.spec.place import Place
from firecrest_core.system_names import check_system_name

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
    :param places: of each, the place where it runs; ``None`` for the job's own
    """

    shapes: tuple[Mapping[str, Any], ...]
    places: tuple[Place | None, ...]

    @classmethod
    def parse(cls, given: Any) -> Alternatives:
        """Read alternatives as a person writes them.

        :param given: a list of mappings from :data:`SHAPE_FIELDS`, and from ``system`` and ``working_dir`` together,
            to values; ``{}`` is the job as it is
        :raises InvalidJobSpec: it has another form, or a field cannot be right; the message says in which alternative
        """
        if isinstance(given, str | Mapping) or not isinstance(given, Sequence) or not given:
            raise _wrong(f"a list of at least one alternative is needed, not {given!r}; the form is {_FORM}")
        read = [_shape(number, one) for number, one in enumerate(given, 1)]
        return cls(tuple(shape for shape, _ in read), tuple(place for _, place in read))

    def to_list(self) -> list[dict[str, Any]]:
        """Return the shapes as JSON types; :meth:`parse` reads them back."""
        return [
            {name: list(value) if isinstance(value, tuple) else value for name, value in shape.items()}
            | ({} if place is None else place.to_dict())
            for shape, place in zip(self.shapes, self.places, strict=True)
        ]

    @property
    def are_elsewhere(self) -> bool:
        """Whether any of them runs at another place than the job."""
        return any(self.places)

    def of(self, spec: JobSpec) -> list[JobSpec]:
        """Return a job in each of its shapes.

        :param spec: the job
        :raises InvalidJobSpec: the job is an array, or a shape does not fit it
        """
        if spec.array_indices is not None:
            raise _wrong("the elements of an array begin one by one, so no alternative of it begins first")
        jobs = []
        for number, (shape, place) in enumerate(zip(self.shapes, self.places, strict=True), 1):
            working_dir = spec.working_dir if place is None else place.working_dir
            try:
                jobs.append(replace(spec, working_dir=working_dir, **shape))
            except InvalidJobSpec as error:
                raise _wrong(f"{number}: {error}") from None
        return jobs


def check_places(alternatives: Alternatives, system: str | None, working_dir: str | None) -> None:
    """Refuse alternatives that name the job's own place as another one.

    :param alternatives: the alternatives
    :param system: the job's, as far as it is known
    :param working_dir: the job's, as far as it is known
    :raises InvalidJobSpec: one of them does
    """
    for number, place in enumerate(alternatives.places, 1):
        same = system is not None and place is not None and place.system.casefold() == system.casefold()
        if place is not None and same and place.working_dir == working_dir:
            raise _wrong(f"{number}: {place}, is where the job runs anyway; leave out system and working_dir there")


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


def _shape(number: int, given: Any) -> tuple[Mapping[str, Any], Place | None]:
    if not isinstance(given, Mapping):
        raise _wrong(f"{number} is {given!r}; the form is {_FORM}")
    try:
        place = _place(given)
        given = {name: given[name] for name in given if name != "system" and (place is None or name != "working_dir")}
        check_names(given)
        for name in given:
            if name not in SHAPE_FIELDS:
                fields = ", ".join(SHAPE_FIELDS)
                raise InvalidJobSpec(name, f"all alternatives run the same; they may differ in {fields}")
        return {name: validation.checked(name, value) for name, value in given_fields(given).items()}, place
    except (InvalidJobSpec, ConfigurationError) as error:
        raise _wrong(f"{number}: {error}") from None


def _place(given: Mapping[str, Any]) -> Place | None:
    system, working_dir = given.get("system"), given.get("working_dir")
    if system is None:
        return None
    if not isinstance(working_dir, str) or not working_dir.startswith("/"):
        raise InvalidJobSpec(
            "working_dir", f"{working_dir!r}; an alternative on another system needs an absolute path there"
        )
    return Place(check_system_name(system), posixpath.normpath(working_dir))


def _wrong(message: str) -> InvalidJobSpec:
    return InvalidJobSpec("alternatives", message)
