"""A dry run: the script that a job would be submitted with, and what its site would say of it.

FirecREST has no ``sbatch --test-only``. So what can be known without a submission is asked for: the working directory,
the partitions with their nodes, and the user's accounts. Time limits, memory, GPUs and rights are Slurm's to judge.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import asdict, dataclass
from typing import Any

from firecrest_core import errors
from firecrest_core.api.client import System
from firecrest_core.campaign import Campaign
from firecrest_core.jobs.partition import AUTO, choose_partition, find_candidates
from firecrest_core.jobs.submission import check_working_dir
from firecrest_core.near_names import suggestion
from firecrest_core.spec.demand import Demand
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.spec.render import render


@dataclass(frozen=True)
class DryRun:
    """What a submission would send.

    :param system: the system's name
    :param name: the job's name
    :param script: the batch script with its directives, without the lines that claim the job and bring its secrets; of
        alternatives, one after the other
    :param problems: a sentence for each reason why the site would refuse the job, or never start it
    """

    system: str
    name: str
    script: str
    problems: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the lines for a log: the script."""
        return [f"Dry run of {self.name} on {self.system}. Nothing is submitted. The script:", *self.script.split("\n")]

    def raise_for_problems(self) -> None:
        """Raise an error if there is a problem.

        :raises SubmissionRejected: with all problems
        """
        if self.problems:
            raise errors.SubmissionRejected(
                f"Dry run of {self.name} on {self.system}: it could not run. {' '.join(self.problems)}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return asdict(self) | {"problems": list(self.problems)}


async def dry_run(campaign: Campaign, *, makes_working_dir: bool = False) -> DryRun:
    """Return what a submission of a job would send, and what its site would say of it, without submitting it.

    :param campaign: the first job of it, with absolute paths, in each of its shapes
    :param makes_working_dir: a submission would make the working directory
    :raises InvalidJobSpec: the scheduler cannot express a field, or no partition can run a job with ``auto``
    :raises RemotePathNotFound: there is no file ``script_path``
    """
    system, first = campaign.system, await campaign.first_spec()
    shapes, systems = [first], [system]
    if campaign.alternatives is not None:
        shapes, places = campaign.alternatives.of(first), campaign.alternatives.places
        systems = [system if place is None else system.client.system(place.system) for place in places]
    found = [await _try(on, shape, makes_working_dir) for on, shape in zip(systems, shapes, strict=True)]
    problems = dict.fromkeys(problem for one in found for problem in one.problems)
    return DryRun(system.name, found[0].name, "\n\n".join(one.script for one in found), tuple(problems))


async def _try(system: System, spec: JobSpec, makes_working_dir: bool) -> DryRun:
    scheduler = await system.scheduler()
    problems = [problem async for problem in _problems(system, spec, makes_working_dir)]
    spec = await choose_partition(system, spec)
    secrets = [f"# {name} comes from a file that only its owner may read" for name in spec.secrets]
    script = render(spec, scheduler, secrets=secrets).rstrip("\n")
    return DryRun(system.name, spec.job_name(scheduler), script, tuple(problems))


async def _problems(system: System, spec: JobSpec, makes_working_dir: bool) -> AsyncIterator[str]:
    if not makes_working_dir:
        try:
            await check_working_dir(system, spec.working_dir)
        except errors.UserError as error:
            yield str(error)
    own = spec.script_options(await system.scheduler())
    if account := spec.account or own.get("account"):
        accounts = (await system.get_userinfo()).accounts
        if accounts and account not in accounts:
            yield f"account: {_unknown(account, accounts)}"
    wanted = spec.partition or own.get("partition")
    if wanted is None or spec.partition == AUTO:  # to choose one refuses what no partition can run
        return
    demand, judged = Demand.of(spec), await system.scheduler() == "slurm"
    candidates = {each.partition.name: each for each in await find_candidates(system, demand)}
    for name in wanted.split(","):
        if name not in candidates:
            yield f"partition: {_unknown(name, candidates)}"
        elif judged and (problem := candidates[name].problem(demand)):
            yield f"partition: {name} has {problem}."


def _unknown(name: str, known: Collection[str]) -> str:
    text = suggestion(name, known)
    return f"there is no {name!r}; {text}" + ("" if text.endswith("?") else ".")
