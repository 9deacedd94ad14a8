"""How late jobs become visible."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Visibility:
    """The delays with which the API shows jobs. They can change while the server runs.

    :param accounting_lag: seconds by which the accounting view lags behind the jobs.
    :param invisible: seconds after its submission for which a job is in neither view.
    """

    accounting_lag: float
    invisible: float = 0.0
