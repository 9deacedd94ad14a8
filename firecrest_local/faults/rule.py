"""Which requests a fault applies to, and when."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from firecrest_local.faults.request import RequestHead


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

    def matches(self, request: RequestHead) -> bool:
        """Return whether the fault can apply to such a request."""
        return self.method in (None, request.method) and self._pattern.fullmatch(request.path) is not None

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
