"""The nodes and partitions of a system, as its scheduler reports them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Words = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else tuple(value or ())),
]

# Slurm's features are one text, ``mc,gpu``.
Features = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda value: value.split(",") if isinstance(value, str) else tuple(value or ())),
]


class NodeLoad(StrEnum):
    """Whether jobs can run on a node now."""

    FREE = "free"
    MIXED = "mixed"
    ALLOCATED = "allocated"
    DOWN = "down"
    OTHER = "other"


# A node has several states at once, and the first of these that it has says most: a drained node may be IDLE, too.
_LOADS = (
    (NodeLoad.DOWN, {"DOWN", "DRAIN", "DRAINED", "DRAINING", "OFFLINE", "FAIL", "NOT_RESPONDING", "POWERING_DOWN"}),
    (NodeLoad.MIXED, {"MIXED"}),
    (NodeLoad.ALLOCATED, {"ALLOCATED", "BUSY", "COMPLETING"}),
    (NodeLoad.OTHER, {"RESERVED", "MAINTENANCE", "PLANNED", "POWERING_UP", "REBOOT_ISSUED"}),
    (NodeLoad.FREE, {"IDLE", "FREE"}),
)


class NodeInfo(BaseModel):
    """A node, from ``GET /status/{system}/nodes``.

    :param states: the scheduler's words
    :param cpus: all of its CPUs, as the scheduler counts them
    :param features: what a job's ``constraint`` may ask for
    :param partitions: the names of the partitions that it is in; PBS names none
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    states: Words = Field((), validation_alias="state")
    cpus: int = 0
    features: Features = ()
    partitions: Words = ()

    @property
    def load(self) -> NodeLoad:
        """Whether jobs can run on it now."""
        words = {word.upper() for word in self.states}
        return next((load for load, meant in _LOADS if words & meant), NodeLoad.OTHER)


class PartitionInfo(BaseModel):
    """A partition, from ``GET /status/{system}/partitions``.

    :param states: the scheduler's words, for example ``UP``
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    states: Words = Field((), validation_alias="partition")
    total_nodes: int | None = Field(None, validation_alias="totalNodes")

    @property
    def is_up(self) -> bool:
        """Whether it starts jobs now."""
        return not {word.upper() for word in self.states} & {"DOWN", "DRAIN", "INACTIVE"}
