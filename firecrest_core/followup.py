"""What follows the end of a job: another job of the same task, and what is written down of the reason.

The reason is a symbolic link ``cause -> node_failure,nodes=nid007`` in the claim directory of the job's generation. It
is written before the next job is submitted. So whoever comes after a crash reads from the links which generation has
ended and why, and finds the same specification for the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote, unquote


class Cause(StrEnum):
    """Why a job is followed by another one."""

    OUT_OF_MEMORY = "out_of_memory"
    TIME_LIMIT = "time_limit"
    NODE_FAILURE = "node_failure"
    PREEMPTED = "preempted"
    CHAIN = "chain"
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class Note:
    """What is written down of a job that is followed by another one.

    :param cause: why
    :param nodes: the nodes that the next jobs leave out, in the scheduler's form
    :param elements: the indices of the array's elements that run again, the others being done; empty for all
    :param checkpoint: the newest checkpoint at its end, as :attr:`firecrest_core.chain.Checkpoint.mark` gives it
    :param stopped: the elements of a chain's array that do not run again and are not done, as
        :func:`firecrest_core.stopped_elements.to_text` gives them
    """

    cause: Cause
    nodes: str = ""
    elements: str = ""
    checkpoint: str = ""
    stopped: str = ""

    def to_text(self) -> str:
        """Return the note as the name of a file; :meth:`parse` reads it back."""
        parts = {name: getattr(self, name) for name in _PARTS}
        return ",".join([self.cause, *(f"{name}={_quoted(text)}" for name, text in parts.items() if text)])

    @classmethod
    def parse(cls, text: str) -> Note | None:
        """Return the note of a text; ``None`` if it has another form.

        :param text: what a claim directory holds, which a person may have changed
        """
        cause, *parts = text.split(",")
        given = {name: unquote(value.replace("+", ",")) for name, _, value in (part.partition("=") for part in parts)}
        if cause not in set(Cause) or not given.keys() <= set(_PARTS):
            return None
        return cls(Cause(cause), **given)


_PARTS = ("nodes", "elements", "checkpoint", "stopped")


def _quoted(text: str) -> str:
    # The most frequent character of a list of indices takes no more room than it has: a link holds 4095 characters.
    return quote(text, safe="").replace("%2C", "+")


@dataclass(frozen=True, slots=True)
class FollowUp:
    """Another job follows.

    :param note: what is written down
    :param reason: a sentence for the log: what has happened, and what the next job gets
    """

    note: Note
    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    """No other job follows, although the work is not done, and a person has to look.

    :param problem: a sentence that says why
    """

    problem: str
