"""A job specification that is bound to the key of its claim."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from firecrest_core.api.submit_request import SubmitRequest
from firecrest_core.claims import gate
from firecrest_core.claims.meter import Meter
from firecrest_core.claims.prologue import prologue
from firecrest_core.claims.secret_file import SecretFile
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.spec.jobspec import JobSpec, Scheduler
from firecrest_core.spec.options import asks_for
from firecrest_core.spec.place import Place
from firecrest_core.spec.render import submit_request

_SYMBOL = re.compile(r"%(\d*)(.)")


@dataclass(frozen=True, slots=True)
class BoundSubmission:
    """A submission for one key.

    :param key: the key of its claim
    :param name: the user's name for the job
    :param spec: the specification with the key in the job's name
    :param prologue: the lines of shell that check the claim
    :param meter: what measures the job; ``None`` for an array, whose elements share a claim
    """

    key: ClaimKey
    name: str
    spec: JobSpec
    prologue: tuple[str, ...]
    meter: Meter | None = None

    @classmethod
    def bind(
        cls,
        spec: JobSpec,
        key: ClaimKey,
        scheduler: Scheduler = "slurm",
        *,
        ahead: bool = False,
        elsewhere: Place | None = None,
    ) -> BoundSubmission:
        """Bind a specification to a key.

        The job's name gets the key as a suffix. Inside the job and in the output paths, the user's name stays. A job
        with ``--dependency=singleton`` keeps its name, because that dependency compares names. Such a job is found only
        by its claim.

        :param spec: the specification, with a script and not a ``script_path``
        :param key: the key of the claim
        :param scheduler: ``slurm`` or ``pbs``
        :param ahead: the job is submitted ahead, so it waits at a gate before it claims
        :param elsewhere: in a race across file systems, the place where it is, if that is not the home; it waits at
            the gate until that place has won
        """
        own, name, script = spec.script_options(scheduler), spec.job_name(scheduler), spec.script or ""
        singleton = "singleton" in str(spec.dependency or "") or asks_for(script, "singleton")
        changes: dict[str, Any] = {"name": name if singleton else key.job_name(name, ahead=ahead, elsewhere=elsewhere)}
        shared = False
        if scheduler == "slurm":
            for field, option in (("stdout", "output"), ("stderr", "error")):
                pattern = getattr(spec, field) or own.get(option)
                if pattern is not None:
                    changes[field] = _with_name(pattern, name)
                    shared = shared or not {"j", "J", "A"} & {symbol for _, symbol in _SYMBOL.findall(pattern)}
            if any("--open-mode" in line for line in spec.directives) or asks_for(script, "--open-mode"):
                shared = False
            if shared:
                changes["directives"] = (*spec.directives, "--open-mode=append")
        in_race = elsewhere is not None
        waits = gate.lines(gate.longest_wait(spec, in_race=in_race)) if ahead or in_race else ()
        lines = prologue(key, spec.working_dir, name, scheduler, gate=waits, shared_output=shared)
        measured = spec.usage and spec.array is None and "array" not in own
        meter = Meter.of_claim(key, spec, scheduler) if measured else None
        return cls(key, name, replace(spec, **changes), tuple(lines), meter)

    def request(self, scheduler: Scheduler = "slurm", secret_file: SecretFile | None = None) -> SubmitRequest:
        """Return the body of the request that submits the job.

        :param scheduler: ``slurm`` or ``pbs``
        :param secret_file: the file with the job's secrets, if it has any
        :raises InvalidJobSpec: the scheduler cannot express a field
        """
        secrets = secret_file.lines() if secret_file else ()
        lines, at_end = (self.meter.lines, self.meter.at_end) if self.meter else ((), "")
        prologue = (*self.prologue, *lines)
        return submit_request(self.spec, scheduler, prologue=prologue, secrets=secrets, at_end=at_end)


def _with_name(pattern: str, name: str) -> str:
    """Replace ``%x`` by the user's name. A pattern with a backslash stays as it is: there, Slurm fills in no symbol."""
    if "\\" in pattern:
        return pattern
    escaped = name.replace("%", "%%")
    return _SYMBOL.sub(lambda match: escaped if match[2] == "x" else match[0], pattern)
