"""Selects the fault of each request by a plan."""

from __future__ import annotations

import random

from firecrest_local.faults.delivery import Refuse
from firecrest_local.faults.plan import Plan, RequestRule
from firecrest_local.faults.request import RequestHead
from firecrest_local.faults.status import EarlyTokenExpiry


class FaultSelector:
    """Selects the faults of a plan, request by request.

    Each rule counts every request that it matches and draws a random number of its own for it, whatever the other
    rules do. So a rule selects the same requests after another rule is added.

    :param plan: the plan.
    :param started: when the plan was set, in seconds of the clock that `now` is read from.
    """

    def __init__(self, plan: Plan, started: float) -> None:
        self.plan = plan
        self._started = started
        self._positions = [0] * len(plan.rules)
        self._random = [random.Random(f"{plan.seed}/{number}") for number in range(len(plan.rules))]
        self._refused_tokens: dict[str, EarlyTokenExpiry] = {}

    def select(self, request: RequestHead, now: float) -> RequestRule | None:
        """Return the rule that applies to a request, if there is one.

        :param request: the request.
        :param now: when the request was received.
        """
        selected: RequestRule | None = None
        for number, rule in enumerate(self.plan.rules):
            if isinstance(rule, Refuse) or not rule.is_active(now - self._started):
                continue
            if not rule.matches(request):
                continue
            self._positions[number] += 1
            if rule.selects(self._positions[number], self._random[number].random()) and selected is None:
                selected = rule
        if request.token is not None:
            if selected is None:
                return self._refused_tokens.get(request.token)
            if isinstance(selected, EarlyTokenExpiry):
                self._refused_tokens[request.token] = selected
        return selected

    def refuses_connections(self, now: float) -> bool:
        """Return whether connections are refused."""
        return any(isinstance(rule, Refuse) and rule.is_active(now - self._started) for rule in self.plan.rules)
