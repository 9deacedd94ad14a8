"""A fault plan: which requests fail, and how."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Window(BaseModel):
    """A kind of fault, and when it is active.

    :param fault: the name of the fault. Each kind of rule has its own.
    :param start: seconds after the plan was set at which it begins.
    :param duration: seconds that it lasts; None means for ever.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fault: str
    start: float = Field(0.0, ge=0)
    duration: float | None = Field(None, gt=0)

    def is_active(self, elapsed: float) -> bool:
        """Return whether the fault is active `elapsed` seconds after the plan was set."""
        return self.start <= elapsed and (self.duration is None or elapsed < self.start + self.duration)


class Rule(Window):
    """Which requests a fault applies to: those that meet all of these conditions.

    :param method: the request's method; None means any.
    :param route: the request's path, without query. `*` or `{name}` stands for one segment, `**` or `{name:path}`
        for any number of them, so that routes can be copied from the specification.
    :param nth: positions among the requests that match method, route and time, from 1; empty means all.
    :param first: only the first so many of them.
    :param probability: how likely the fault is for each of them.
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

    def matches(self, method: str, path: str, token: str | None) -> bool:
        """Return whether the fault can apply to such a request.

        :param method: the request's method.
        :param path: the request's path.
        :param token: the request's access token, if it has one.
        """
        return self.method in (None, method) and self._pattern.fullmatch(path) is not None

    def selects(self, position: int, chance: float) -> bool:
        """Return whether the fault applies to the request at this position among those that match.

        :param position: counted from 1.
        :param chance: a random number from 0 to 1.
        """
        return (
            (not self.nth or position in self.nth)
            and (self.first is None or position <= self.first)
            and chance < self.probability
        )

    @property
    def label(self) -> str:
        """The name under which the fault is counted."""
        return self.fault


class LoseAnswer(Rule):
    """The work is done, then the connection is closed without an answer."""

    fault: Literal["lose_answer"]


class Timeout408(Rule):
    """The work is done, and the answer is 408, as after a command that took too long."""

    fault: Literal["timeout_408"]


class Status(Rule):
    """The answer is an error, and nothing is done.

    :param status: HTTP status. Well-known ones come with the words of the real server or its gateway.
    :param message: other words, in FirecREST's form.
    :param retry_after: seconds for the header `Retry-After`; the default of 429 is 1.
    """

    fault: Literal["status"]
    status: int = Field(ge=400, le=599)
    message: str | None = None
    retry_after: int | None = Field(None, ge=0)

    @property
    def label(self) -> str:
        """The name under which the fault is counted."""
        return f"status_{self.status}"


class Reset(Rule):
    """The connection is reset and nothing is done."""

    fault: Literal["reset"]


class Delay(Rule):
    """The request succeeds late.

    :param seconds: how late.
    :param before: what is delayed: the `work`, or the `answer` after the work is done.
    """

    fault: Literal["delay"]
    seconds: float = Field(gt=0)
    before: Literal["work", "answer"] = "work"


class SlowBody(Rule):
    """The answer's body is sent slowly.

    :param rate: bytes per second.
    """

    fault: Literal["slow_body"]
    rate: int = Field(gt=0)


class CutBody(Rule):
    """The work is done, and the connection is closed in the middle of the answer's body.

    :param size: bytes of the body that arrive, if it has more; None means half of it.
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

    def matches(self, method: str, path: str, token: str | None) -> bool:
        """Return whether the fault can apply to such a request. Only a request with a token matches."""
        return token is not None and super().matches(method, path, token)


class Refuse(Window):
    """Connections are refused and open ones are closed, as if there were no server."""

    fault: Literal["refuse"]


RequestRule = LoseAnswer | Timeout408 | Status | Reset | Delay | SlowBody | CutBody | Duplicate | EarlyTokenExpiry


class Plan(BaseModel):
    """All faults of a server.

    :param seed: seed of the random numbers. The same requests in the same order meet the same faults.
    :param accounting_lag: seconds by which the accounting view lags; None keeps the server's own value.
    :param invisible: seconds after its submission for which a job is in no list and a GET of it answers 404.
    :param rules: the first rule that applies to a request is carried out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    accounting_lag: float | None = Field(None, ge=0)
    invisible: float = Field(0.0, ge=0)
    rules: tuple[Annotated[RequestRule | Refuse, Field(discriminator="fault")], ...] = ()
