"""Faults of the connection: the answer is lost, late, slow, cut off or doubled, and the port is closed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from firecrest_local.faults.rule import Rule, Window


class LoseAnswer(Rule):
    """The work is done, then the connection is closed without an answer."""

    fault: Literal["lose_answer"]


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


class Trickle(Rule):
    """The whole answer, its head included, is sent one byte after the other.

    :param interval: seconds between two bytes.
    """

    fault: Literal["trickle"]
    interval: float = Field(0.5, gt=0)


class CutBody(Rule):
    """The work is done, and the connection is closed in the middle of the answer's body.

    :param size: bytes of the body that arrive, if it has more; None means half of it.
    """

    fault: Literal["cut_body"]
    size: int | None = Field(None, ge=0)


class Duplicate(Rule):
    """The request is carried out twice, one after the other; the client gets the second answer."""

    fault: Literal["duplicate"]


class Refuse(Window):
    """Connections are refused and open ones are closed, as if there were no server."""

    fault: Literal["refuse"]
