"""How late jobs are seen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Visibility:
    """What stands between a job and those who ask for it; may change while the server runs.

    Parameters:
        accounting_lag: seconds by which the accounting view trails the jobs.
        invisible: seconds after its submission for which a job is in neither view.
    """

    accounting_lag: float
    invisible: float = 0.0
