"""Cancels jobs whose flow run was ended where no process could notice, and resumes runs whose job has ended.

    python -m prefect_firecrest.reconcile            # every few seconds, for ever
    python -m prefect_firecrest.reconcile --once     # once, for cron
    reconcile.serve("firecrest", interval=60)        # once a minute, as a flow that Prefect shows

One is enough for all flow runs of a Prefect server, wherever they run. It needs Prefect's API, the blocks with the
credentials that are stored there, and the FirecREST servers.
"""

from __future__ import annotations

import argparse
import contextlib
import logging

from prefect import flow

from prefect_firecrest.cancellation import reconciler
from prefect_firecrest.cancellation.reconciler import CRASHED_FOR, Reconciler
from prefect_firecrest.runtime import runtime


@flow(name="firecrest-reconcile")
def reconcile(crashed_for: float = CRASHED_FOR) -> None:
    """Reconcile all flow runs that have jobs once.

    Cancels the jobs of flow runs that a person has ended, and resumes flow runs whose job has ended.

    :param crashed_for: seconds after which the jobs of a flow run that crashed are cancelled, unless somebody has run
        it again
    """
    runtime.run(_reconcile_once(crashed_for))


async def _reconcile_once(crashed_for: float) -> None:
    single = Reconciler(crashed_for, wait=False)
    await single.reconcile_once()
    await single.drain()


def main() -> None:
    """Reconcile from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m prefect_firecrest.reconcile",
        description="Cancel jobs whose flow run was ended, and resume flow runs whose job has ended.",
    )
    parser.add_argument("--once", action="store_true", help="reconcile once and exit, for cron")
    parser.add_argument(
        "--crashed-for",
        type=float,
        default=CRASHED_FOR,
        metavar="SECONDS",
        help="cancel the jobs of a flow run that crashed so long ago and was not run again (default: a day)",
    )
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    reconciler.log.setLevel(logging.INFO)
    with contextlib.suppress(KeyboardInterrupt):
        runtime.run(_reconcile_once(given.crashed_for) if given.once else Reconciler(given.crashed_for).run())


if __name__ == "__main__":
    main()
