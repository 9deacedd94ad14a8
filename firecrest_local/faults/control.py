"""The faults of a running server: set, cleared and counted, by its owner or over HTTP."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header

from firecrest_local.access.token_issuer import TokenIssuer
from firecrest_local.errors import ApiError
from firecrest_local.faults.plan import Faults, Plan, RequestRule
from firecrest_local.visibility import Visibility

PATH = "/faults"
#: Faults that are remembered one by one; the counts know all.
REMEMBERED = 10_000


@dataclass
class Injection:
    """One fault that was injected.

    Parameters:
        label: the fault; `status` with its number, e.g. `status_429`.
        method, path: of the request.
        work: the statuses that the work ended with: none if none was done, two if it was done twice.
    """

    label: str
    method: str
    path: str
    work: list[int] = field(default_factory=list)


class FaultControl:
    """What goes wrong in a server from now on, and what went wrong.

    Parameters:
        plan: what to begin with.
        visibility: what the plan changes of the cluster's views of its jobs.

    Attributes:
        counts: how often each fault was injected since the plan was set, by label. Also closed ports count, once
            each, as `refuse`.
        log: the last of them, oldest first.
    """

    def __init__(self, plan: Plan, visibility: Visibility) -> None:
        self._visibility = visibility
        self._usual_lag = visibility.accounting_lag
        # The server's thread asks while its owner's sets.
        self._lock = Lock()
        self.counts: Counter[str] = Counter()
        self.log: deque[Injection] = deque(maxlen=REMEMBERED)
        self.set(plan)

    @property
    def plan(self) -> Plan:
        """The plan that holds."""
        return self._faults.plan

    def set(self, plan: Plan | Mapping[str, Any]) -> None:
        """Let another plan hold from now on, with counts and log of its own.

        Parameters:
            plan: the plan, or what its file would hold.

        Raises:
            ValueError: it is no plan.
        """
        plan = plan if isinstance(plan, Plan) else Plan.model_validate(plan)
        with self._lock:
            self.counts, self.log = Counter(), deque(maxlen=REMEMBERED)
            self._hold(plan)

    def clear(self) -> None:
        """Let all go well from now on; counts and log stay."""
        with self._lock:
            self._hold(Plan())

    def _hold(self, plan: Plan) -> None:
        self._faults = Faults(plan, time.monotonic())
        self._visibility.invisible = plan.invisible
        self._visibility.accounting_lag = self._usual_lag if plan.accounting_lag is None else plan.accounting_lag

    # --- for the server

    def strike(self, method: str, path: str, token: str | None) -> tuple[RequestRule, Injection] | None:
        """Give the fault that a request meets, written down already, if it meets one."""
        with self._lock:
            rule = self._faults.decide(method, path, token, time.monotonic())
            if rule is None:
                return None
            injection = Injection(rule.label, method, path)
            self._write_down(injection)
            return rule, injection

    def write_down(self, injection: Injection) -> None:
        """Count and remember a fault of the whole server."""
        with self._lock:
            self._write_down(injection)

    def _write_down(self, injection: Injection) -> None:
        self.counts[injection.label] += 1
        self.log.append(injection)

    def refusing(self) -> bool:
        """Whether connections are to be refused now."""
        return self._faults.refusing(time.monotonic())


def router(control: FaultControl, issuer: TokenIssuer) -> APIRouter:
    """The endpoint; every request needs the client's secret in the header `X-Client-Secret`."""

    def owner(x_client_secret: Annotated[str, Header()] = "") -> None:
        if not issuer.accepts(issuer.client_id, x_client_secret):
            raise ApiError(401, "The header X-Client-Secret doesn't hold the client's secret.")

    routes = APIRouter(prefix=PATH, dependencies=[Depends(owner)])

    @routes.get("")
    async def show() -> dict[str, Any]:
        return {"plan": control.plan.model_dump(exclude_defaults=True), "injected": dict(control.counts)}

    @routes.put("", status_code=204)
    async def replace(plan: Plan) -> None:
        control.set(plan)

    @routes.delete("", status_code=204)
    async def clear() -> None:
        control.clear()

    return routes
