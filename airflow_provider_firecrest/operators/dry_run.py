"""A task's dry run: its log shows the script, and the task fails where the site would refuse the job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
    from firecrest_core.spec.jobspec import JobSpec


async def show_dry_run(
    hook: FirecRESTHook,
    system: str,
    spec: JobSpec,
    escalate: Any,
    chain: Any,
    alternatives: Any,
    *,
    makes_working_dir: bool,
) -> dict[str, Any]:
    """Log what a submission would send, and return it as JSON types, with the key ``dry_run``.

    :param hook: the task's
    :param system: where the job would run
    :param spec: the job, with absolute paths
    :param escalate: the task's policy, if it has one
    :param chain: the task's chain, if it has one
    :param alternatives: the shapes in which it would be submitted, if the task has any
    :param makes_working_dir: a submission would make the working directory
    :raises SubmissionRejected: the job could not run, with all reasons that are known without a submission
    """
    from firecrest_core.campaign import Campaign
    from firecrest_core.dry_run import dry_run

    async with hook.client() as client:
        campaign = Campaign.parse(client.system(system), spec, escalate, chain, alternatives)
        found = await dry_run(campaign, makes_working_dir=makes_working_dir)
    for line in found.lines():
        hook.log.info("%s", line)
    found.raise_for_problems()
    return {"dry_run": True, **found.to_dict()}
