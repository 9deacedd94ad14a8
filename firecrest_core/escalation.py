"""The escalation policy: what the next job of a task gets when a job has ended for want of memory, time or a node.

A person reads and sets it::

    escalate={
        "out_of_memory": {"memory": "x2", "max": "480G"},
        "time_limit": {"time_limit": "x2", "max": "24:00:00"},
        "node_failure": {"exclude": "node", "max": 3},
        "preempted": "wait",
    }

Each cause may be left out. A job that ended otherwise (its script failed, it was cancelled) is never followed by
another one: a person must look.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from firecrest_core.errors import InvalidJobSpec
from firecrest_core.followup import Cause, FollowUp, Note, Stop
from firecrest_core.near_names import suggestion
from firecrest_core.result import JobResult
from firecrest_core.spec import quantities
from firecrest_core.spec.jobspec import JobSpec, Scheduler
from firecrest_core.states import JobState

_CAUSES = {
    JobState.OUT_OF_MEMORY: Cause.OUT_OF_MEMORY,
    JobState.TIMEOUT: Cause.TIME_LIMIT,
    JobState.NODE_FAIL: Cause.NODE_FAILURE,
    JobState.BOOT_FAIL: Cause.NODE_FAILURE,
    JobState.LAUNCH_FAILED: Cause.NODE_FAILURE,
    JobState.PREEMPTED: Cause.PREEMPTED,
}
_FORMS = {
    Cause.OUT_OF_MEMORY: "{'memory': 'x2', 'max': '480G'}",
    Cause.TIME_LIMIT: "{'time_limit': 'x2', 'max': '24:00:00'}",
    Cause.NODE_FAILURE: "{'exclude': 'node', 'max': 3}",
    Cause.PREEMPTED: "'wait'",
}
_FACTOR = re.compile(r"x\s*(\d+(?:\.\d+)?)", re.ASCII)
# Characters of a list of nodes, which stands in a symbolic link. Of a job on more nodes than that, none is left out.
LONGEST_NODES = 1000


@dataclass(frozen=True, slots=True)
class Growth:
    """How an amount grows from job to job: by a factor or by a step, up to a bound.

    :param factor: what it is multiplied by
    :param step: what is added
    :param most: the bound; a job that has so much gets no more
    """

    factor: float
    step: int
    most: int

    def after(self, amount: int) -> int | None:
        """Return the next amount; ``None`` if the bound is reached.

        :param amount: what the job had
        """
        return None if amount >= self.most else min(math.ceil(amount * self.factor) + self.step, self.most)


@dataclass(frozen=True, slots=True)
class Amount:
    """A field of a job that grows.

    :param option: sbatch's option, which the script's own lines may set
    :param read: the amount of the field's value; ``None`` if that is without a bound
    :param write: the field's value of an amount
    """

    field: str
    option: str
    read: Callable[[str], int | None]
    write: Callable[[int], str]

    def given(self, spec: JobSpec) -> str | None:
        """Return what a job asks for, in its fields or in its script's own lines; ``None`` for nothing.

        :param spec: the job
        """
        return getattr(spec, self.field) or spec.script_options().get(self.option)

    def replaced(self, spec: JobSpec, amount: int) -> JobSpec:
        """Return the job with another amount.

        :param spec: the job
        :param amount: what it gets
        """
        changes: dict[str, Any] = {self.field: self.write(amount)}
        return replace(spec, **changes)

    def of(self, spec: JobSpec) -> int:
        """Return the amount that a job asks for.

        :param spec: the job
        :raises InvalidJobSpec: it asks for nothing, or for all that there is
        """
        value = self.given(spec)
        if value is None:
            raise InvalidJobSpec(
                self.field,
                f"missing; escalate makes it grow, so say how much the first job gets, here or by #SBATCH "
                f"--{self.option} in the script",
            )
        try:
            amount = self.read(value)
        except ValueError as error:
            raise InvalidJobSpec("script", f"its own --{self.option}: {error}") from None
        if not amount:
            raise InvalidJobSpec(self.field, f"{value} is all that there is, so escalate cannot make it grow")
        return amount


def _mebibytes(value: str) -> int:
    return math.ceil(quantities.mebibytes(value))


def _memory(mebibytes: int) -> str:
    return f"{mebibytes}M" if mebibytes % 1024 else f"{mebibytes // 1024}G"


MEMORY = Amount("memory", "mem", _mebibytes, _memory)
TIME_LIMIT = Amount("time_limit", "time", quantities.seconds, quantities.slurm_time)
_AMOUNTS = {Cause.OUT_OF_MEMORY: MEMORY, Cause.TIME_LIMIT: TIME_LIMIT}


@dataclass(frozen=True, slots=True)
class Escalation:
    """A policy, as its causes.

    :param growths: how memory and time limit grow, in mebibytes and seconds
    :param node_failures: how often a job is submitted again after the failure of a node; 0 for never
    :param excludes: the nodes of a job that failed so are left out from then on. FirecREST does not say which one of
        them failed.
    :param waits: a job that was preempted goes back into the queue, as often as that happens
    """

    growths: Mapping[Cause, Growth]
    node_failures: int = 0
    excludes: bool = False
    waits: bool = False

    @classmethod
    def parse(cls, policy: Any) -> Escalation:
        """Read a policy as a person writes it.

        :param policy: a mapping of causes to what follows, see above
        :raises InvalidJobSpec: it has another form; the message names the cause and shows the form
        """
        if not isinstance(policy, Mapping) or not policy:
            raise _wrong(f"a mapping of causes is needed, not {policy!r}; the causes are {', '.join(_FORMS)}")
        for cause in policy:
            if cause not in _FORMS:
                raise _wrong(f"{cause!r} is no cause; {suggestion(cause, [*map(str, _FORMS)])}")
        growths = {
            cause: _growth(cause, amount, policy[cause]) for cause, amount in _AMOUNTS.items() if cause in policy
        }
        failures, excludes = 0, False
        if Cause.NODE_FAILURE in policy:
            fields = _fields(Cause.NODE_FAILURE, policy[Cause.NODE_FAILURE], {"max"}, {"exclude"})
            failures, excludes = quantities.whole_number(fields["max"]) or 0, "exclude" in fields
            if failures < 1 or fields.get("exclude", "node") != "node":
                raise _wrong_form(Cause.NODE_FAILURE, policy[Cause.NODE_FAILURE])
        if policy.get(Cause.PREEMPTED, "wait") != "wait":
            raise _wrong_form(Cause.PREEMPTED, policy[Cause.PREEMPTED])
        return cls(growths, failures, excludes, Cause.PREEMPTED in policy)

    def check(self, spec: JobSpec, scheduler: Scheduler = "slurm", *, script_is_known: bool = True) -> None:
        """Refuse a policy that cannot begin with this job.

        :param spec: the job
        :param scheduler: what runs it
        :param script_is_known: the job's script is here; else its own lines may still say what is to grow
        :raises InvalidJobSpec: the job does not say what is to grow, already has as much as the policy allows; or PBS
            can neither leave out nodes nor tell which elements of an array have failed
        """
        if self.excludes and scheduler == "pbs":
            raise _wrong("node_failure: PBS cannot leave out nodes; give {'max': 3} without exclude")
        if spec.array_indices is not None and scheduler == "pbs":
            raise _wrong("PBS does not tell which elements of an array have failed; submit a job for each")
        for cause, growth in self.growths.items():
            amount = _AMOUNTS[cause]
            if amount.given(spec) is None and not script_is_known:
                continue
            own = amount.of(spec)
            if growth.after(own) is None:
                raise _wrong(
                    f"{cause}: max is {amount.write(growth.most)}, and the job itself has {amount.write(own)}; "
                    "give a larger max"
                )

    def apply(self, spec: JobSpec, note: Note) -> JobSpec:
        """Return the job that follows one that ended for a cause.

        :param spec: the one that ended
        :param note: what was written down of its end
        """
        if (growth := self.growths.get(note.cause)) is not None:
            amount = _AMOUNTS[note.cause]
            grown = growth.after(amount.of(spec))
            return spec if grown is None else amount.replaced(spec, grown)
        own = excluded_nodes(spec)
        if self.excludes and note.nodes and note.nodes not in own.split(","):
            others = [line for line in spec.directives if not _excludes(line)]
            excluded = ",".join(filter(None, (own, note.nodes)))
            return replace(spec, directives=(*others, f"--exclude={excluded}"))
        return spec

    def after(
        self, result: JobResult, spec: JobSpec, notes: Sequence[Note], *, at_time_limit: bool = False
    ) -> FollowUp | Stop | None:
        """Decide what follows the end of a job.

        :param result: how it ended
        :param spec: what was asked for
        :param notes: those of the jobs before it
        :param at_time_limit: the signal before its time limit has ended it, whatever its state is
        :returns: ``None`` if the policy says nothing about such an end
        """
        cause = Cause.TIME_LIMIT if at_time_limit else _CAUSES.get(result.state)
        ended = f"Job {result.job_id} ended {result.state}"
        if cause is None:
            return None
        if (growth := self.growths.get(cause)) is not None:
            amount = _AMOUNTS[cause]
            own = amount.of(spec)
            name, had = amount.field.replace("_", " "), amount.write(own)
            if (grown := growth.after(own)) is None:
                return Stop(f"Its {name} of {had} is the most that escalate allows, so no other job follows.")
            return FollowUp(Note(cause), f"{ended} with a {name} of {had}: the next job gets {amount.write(grown)}.")
        if cause is Cause.PREEMPTED and self.waits:
            return FollowUp(Note(cause), f"{ended}: the next job waits in the queue.")
        if cause is not Cause.NODE_FAILURE or not self.node_failures:
            return None
        before = sum(note.cause is cause for note in notes)
        if before >= self.node_failures:
            return Stop(f"Before it, {before} jobs have lost a node, so no other job follows: see what they do to it.")
        nodes = result.nodes if self.excludes and len(result.nodes) <= LONGEST_NODES else ""
        without = f" without {nodes}" if nodes else ""
        return FollowUp(Note(cause, nodes=nodes), f"{ended}: the next job runs{without or ' once more'}.")


def check_claim(*, exactly_once: bool, chain: Any) -> None:
    """Refuse a task whose jobs are to be followed by others and have no claim.

    :param exactly_once: its jobs have a claim
    :param chain: its chain, or ``None`` if it has a policy alone
    :raises InvalidJobSpec: they have none
    """
    if not exactly_once:
        name = "escalate" if chain is None else "chain"
        raise InvalidJobSpec(name, "each job that follows is a generation of the claim; leave exactly_once on")


def excluded_nodes(spec: JobSpec) -> str:
    """Return the nodes that a job leaves out, in Slurm's form; empty for none.

    :param spec: the job
    """
    own = next((line for line in reversed(spec.directives) if _excludes(line)), "")
    return own.partition("exclude=")[2].strip() if own else spec.script_options().get("exclude", "")


def _excludes(directive: str) -> bool:
    return directive.removeprefix("#SBATCH").strip().startswith("--exclude=")


def _growth(cause: Cause, amount: Amount, given: Any) -> Growth:
    fields = _fields(cause, given, {amount.field, "max"})
    try:
        most = amount.read(fields["max"])
    except (ValueError, TypeError) as error:
        raise _wrong(f"{cause}: max: {error}") from None
    if not most:
        raise _wrong(f"{cause}: max is {fields['max']!r}, which is no bound; the form is {_FORMS[cause]}")
    text = fields[amount.field].strip() if isinstance(fields[amount.field], str) else ""
    if match := _FACTOR.fullmatch(text):
        if float(match[1]) > 1:
            return Growth(float(match[1]), 0, most)
    elif text.startswith("+"):
        try:
            if step := amount.read(text[1:]):
                return Growth(1, step, most)
        except ValueError as error:
            raise _wrong(f"{cause}: {amount.field}: {error}") from None
    raise _wrong(
        f"{cause}: {amount.field} is {fields[amount.field]!r}; give a factor above 1, such as 'x2' or 'x1.5', or "
        f"what is added, such as {'+' + amount.write(3600)!r}"
    )


def _fields(
    cause: Cause, given: Any, needed: set[str], others: frozenset[str] | set[str] = frozenset()
) -> dict[str, Any]:
    if not isinstance(given, Mapping) or not needed <= given.keys() <= needed | others:
        raise _wrong_form(cause, given)
    return dict(given)


def _wrong_form(cause: Cause, given: Any) -> InvalidJobSpec:
    return _wrong(f"{cause}: {given!r}; the form is {_FORMS[cause]}")


def _wrong(message: str) -> InvalidJobSpec:
    return InvalidJobSpec("escalate", message)
