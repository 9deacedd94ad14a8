"""The faults of a running server: set, cleared and counted."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from firecrest_local.faults.plan import Plan, RequestRule
from firecrest_local.faults.request import RequestHead
from firecrest_local.faults.selector import FaultSelector
from firecrest_local.visibility import Visibility

#: The path of the endpoint that shows and changes the plan. It meets no faults itself.
CONTROL_PATH = "/faults"
#: How many injections the log keeps. The counts include all of them.
LOG_SIZE = 10_000


@dataclass
class Injection:
    """One fault that was injected.

    :param label: the fault; some with their variety, e.g. `status_429` or `gateway_page_login`.
    :param method: the request's method.
    :param path: the request's path.
    :param work: the statuses with which the request's work ended: none if it was not done, two if it was done twice.
    """

    label: str
    method: str
    path: str
    work: list[int] = field(default_factory=list)


class FaultControl:
    """Holds the fault plan of a server, and a record of what was injected.

    :param plan: the first plan.
    :param visibility: the delays of the cluster's views of its jobs, which a plan can change.
    :ivar counts: how often each fault was injected since the plan was set, by label. A port that was closed counts
        once, as `refuse`.
    :ivar log: the latest injections, oldest first.
    """

    def __init__(self, plan: Plan, visibility: Visibility) -> None:
        self._visibility = visibility
        self._default_lag = visibility.accounting_lag
        # The server's thread selects faults while another thread may set a plan.
        self._lock = Lock()
        self.counts: Counter[str] = Counter()
        self.log: deque[Injection] = deque(maxlen=LOG_SIZE)
        self.set(plan)

    @property
    def plan(self) -> Plan:
        """The current plan."""
        return self._selector.plan

    def set(self, plan: Plan | Mapping[str, Any]) -> None:
        """Replace the plan, and begin new counts and a new log.

        :param plan: the plan, or what its file would hold.
        :raises ValueError: it is not a plan.
        """
        plan = plan if isinstance(plan, Plan) else Plan.model_validate(plan)
        with self._lock:
            self.counts, self.log = Counter(), deque(maxlen=LOG_SIZE)
            self._apply(plan)

    def clear(self) -> None:
        """Inject no more faults. The counts and the log stay."""
        with self._lock:
            self._apply(Plan())

    def _apply(self, plan: Plan) -> None:
        self._selector = FaultSelector(plan, time.monotonic())
        self._visibility.invisible = plan.invisible
        self._visibility.accounting_lag = self._default_lag if plan.accounting_lag is None else plan.accounting_lag

    # --- for the server

    def inject(self, request: RequestHead) -> tuple[RequestRule, Injection] | None:
        """Select the fault of a request and record it; None if the request has none."""
        with self._lock:
            rule = self._selector.select(request, time.monotonic())
            if rule is None:
                return None
            injection = Injection(rule.label, request.method, request.path)
            self._record(injection)
            return rule, injection

    def record(self, injection: Injection) -> None:
        """Count and log a fault of the whole server."""
        with self._lock:
            self._record(injection)

    def _record(self, injection: Injection) -> None:
        self.counts[injection.label] += 1
        self.log.append(injection)

    def refuses_connections(self) -> bool:
        """Return whether connections are to be refused now."""
        return self._selector.refuses_connections(time.monotonic())
