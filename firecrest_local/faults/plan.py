"""A fault plan: which requests go wrong, and how. It decides and does nothing."""

from __future__ import annotations

import random
import re
from functools import cached_property
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Window(BaseModel):
    """What goes wrong, and when.

    Parameters:
        fault: the name of what goes wrong; every kind of rule has its own.
        start: seconds after the plan was set at which it begins.
        duration: seconds that it lasts; None is for ever.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fault: str
    start: float = Field(0.0, ge=0)
    duration: float | None = Field(None, gt=0)

    def open(self, elapsed: float) -> bool:
        """Whether it has begun, and not ended, `elapsed` seconds after the plan was set."""
        return self.start <= elapsed and (self.duration is None or elapsed < self.start + self.duration)


class Rule(Window):
    """Which requests a fault strikes: those for which all of these hold.

    Parameters:
        method: the request's method; None is any.
        route: the request's path, without query. `*` or `{name}` stands for one segment, `**` or `{name:path}`
            for any number of them, so that routes can be copied from the specification.
        nth: positions among the requests that match method, route and time, from 1; empty is all.
        first: only so many of them.
        probability: how likely each of them is struck.
    """

    method: str | None = None
    route: str = "/**"
    nth: tuple[Annotated[int, Field(ge=1)], ...] = ()
    first: int | None = Field(None, ge=1)
    probability: float = Field(1.0, gt=0, le=1)

    @field_validator("method")
    @classmethod
    def _upper(cls, method: str | None) -> str | None:
        return method and method.upper()

    @field_validator("route")
    @classmethod
    def _absolute(cls, route: str) -> str:
        if not route.startswith("/"):
            raise ValueError("a route begins with /")
        return route

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        segments = []
        for segment in self.route.split("/"):
            if segment == "**" or re.fullmatch(r"\{\w+:path\}", segment):
                segments.append(".*")
            elif segment == "*" or re.fullmatch(r"\{\w+\}", segment):
                segments.append("[^/]+")
            else:
                segments.append(re.escape(segment))
        # The API reads its paths without regard to case.
        return re.compile("/".join(segments), re.IGNORECASE)

    def concerns(self, method: str, path: str, token: str | None) -> bool:
        """Whether such a request can be struck.

        Parameters:
            method, path: of the request.
            token: its access token, if it has one.
        """
        return self.method in (None, method) and self._pattern.fullmatch(path) is not None

    def chooses(self, position: int, chance: float) -> bool:
        """Whether it strikes the request of this position among those it concerns.

        Parameters:
            position: from 1.
            chance: a random number from 0 to 1.
        """
        return (
            (not self.nth or position in self.nth)
            and (self.first is None or position <= self.first)
            and chance < self.probability
        )

    @property
    def label(self) -> str:
        """What it is counted as."""
        return self.fault


class LoseAnswer(Rule):
    """The work is done, then the connection is closed without an answer."""

    fault: Literal["lose_answer"]


class Timeout408(Rule):
    """The work is done, and the answer is 408, as of a command that took too long."""

    fault: Literal["timeout_408"]


class Status(Rule):
    """An error is answered and nothing is done.

    Parameters:
        status: HTTP status; well-known ones have the words that the real server or its gateway uses.
        message: other words, in FirecREST's form.
        retry_after: seconds for the header `Retry-After`; 429 has 1 unless given.
    """

    fault: Literal["status"]
    status: int = Field(ge=400, le=599)
    message: str | None = None
    retry_after: int | None = Field(None, ge=0)

    @property
    def label(self) -> str:
        """What it is counted as."""
        return f"status_{self.status}"


class Reset(Rule):
    """The connection is reset and nothing is done."""

    fault: Literal["reset"]


class Delay(Rule):
    """All goes well, but late.

    Parameters:
        seconds: how late.
        before: what waits: the `work`, or the `answer` of work that is done.
    """

    fault: Literal["delay"]
    seconds: float = Field(gt=0)
    before: Literal["work", "answer"] = "work"


class SlowBody(Rule):
    """The answer's body trickles.

    Parameters:
        rate: bytes a second.
    """

    fault: Literal["slow_body"]
    rate: int = Field(gt=0)


class CutBody(Rule):
    """The work is done, and the connection is closed in the middle of the answer's body.

    Parameters:
        size: bytes of the body that arrive, if it has more; None is half of it.
    """

    fault: Literal["cut_body"]
    size: int | None = Field(None, ge=0)


class Duplicate(Rule):
    """The request is carried out twice, one after the other; the client gets the second answer."""

    fault: Literal["duplicate"]


class EarlyTokenExpiry(Rule):
    """The request's access token is refused with 401, now and in every later request."""

    fault: Literal["early_token_expiry"]
    message: str = "Access token expires too soon (less than 30s remaining)."

    def concerns(self, method: str, path: str, token: str | None) -> bool:
        """Whether such a request can be struck: it needs a token."""
        return token is not None and super().concerns(method, path, token)


class Refuse(Window):
    """Connections are refused, those that exist are closed: there is no server."""

    fault: Literal["refuse"]


RequestRule = LoseAnswer | Timeout408 | Status | Reset | Delay | SlowBody | CutBody | Duplicate | EarlyTokenExpiry


class Plan(BaseModel):
    """All that goes wrong.

    Parameters:
        seed: what chance begins with; the same requests in the same order meet the same faults.
        accounting_lag: seconds by which the accounting trails; None leaves the server's own.
        invisible: seconds after its submission for which a job is in no list and a GET of it answers 404.
        rules: a request meets the first one that strikes it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    accounting_lag: float | None = Field(None, ge=0)
    invisible: float = Field(0.0, ge=0)
    rules: tuple[Annotated[RequestRule | Refuse, Field(discriminator="fault")], ...] = ()


class Faults:
    """Decides, request by request, what a plan means.

    Each rule counts, and rolls dice of its own, for every request that it concerns, whatever the other rules
    do: a rule strikes the same requests when another one is added.

    Parameters:
        plan: the plan.
        began: when it was set, in seconds of the clock that `now` is read from.
    """

    def __init__(self, plan: Plan, began: float) -> None:
        self.plan = plan
        self._began = began
        self._positions = [0] * len(plan.rules)
        self._dice = [random.Random(f"{plan.seed}/{number}") for number in range(len(plan.rules))]
        self._refused: dict[str, EarlyTokenExpiry] = {}

    def decide(self, method: str, path: str, token: str | None, now: float) -> RequestRule | None:
        """The rule that strikes a request, if one does.

        Parameters:
            method, path: of the request.
            token: its access token, if it has one.
            now: when it came.
        """
        struck: RequestRule | None = None
        for number, rule in enumerate(self.plan.rules):
            if isinstance(rule, Refuse) or not rule.open(now - self._began):
                continue
            if not rule.concerns(method, path, token):
                continue
            self._positions[number] += 1
            if rule.chooses(self._positions[number], self._dice[number].random()) and struck is None:
                struck = rule
        if token is not None:
            if struck is None:
                return self._refused.get(token)
            if isinstance(struck, EarlyTokenExpiry):
                self._refused[token] = struck
        return struck

    def refusing(self, now: float) -> bool:
        """Whether connections are refused."""
        return any(isinstance(rule, Refuse) and rule.open(now - self._began) for rule in self.plan.rules)
