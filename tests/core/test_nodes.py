"""What the states of nodes mean for somebody who waits for one."""

from __future__ import annotations

import pytest

from firecrest_core.api.nodes import NodeInfo, NodeLoad, PartitionInfo


@pytest.mark.parametrize(
    ("state", "load"),
    [
        (["IDLE"], NodeLoad.FREE),
        (["free"], NodeLoad.FREE),
        (["MIXED"], NodeLoad.MIXED),
        (["ALLOCATED"], NodeLoad.ALLOCATED),
        (["IDLE", "DRAIN"], NodeLoad.DOWN),
        (["ALLOCATED", "DRAINING"], NodeLoad.DOWN),
        ("DOWN", NodeLoad.DOWN),
        (["RESERVED", "IDLE"], NodeLoad.OTHER),
        (["NEW_WORD"], NodeLoad.OTHER),
        ([], NodeLoad.OTHER),
        (None, NodeLoad.OTHER),
    ],
)
def test_the_load_of_a_node(state: object, load: NodeLoad) -> None:
    assert NodeInfo.model_validate({"name": "nid001", "state": state}).load is load


def test_a_partition_whose_scheduler_tells_little() -> None:
    partition = PartitionInfo.model_validate({"name": "normal", "partition": ["UP", "DRAIN"]})
    assert (partition.states, partition.total_nodes) == (("UP", "DRAIN"), None)
