"""What a system can carry, and how files are cut."""

from itertools import pairwise

import pytest

from firecrest_core.api.models import SystemInfo
from firecrest_core.errors import FileTooLarge
from firecrest_core.transfer import limits

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def _no_pauses() -> None:
    """These tests are about the real sizes."""


def system(method: str | None = "s3", largest: int = 5 * MIB) -> SystemInfo:
    data = {"data_transfer": {"serviceType": method}} if method else {}
    return SystemInfo.model_validate({"name": "rig", "dataOperation": {"max_ops_file_size": largest, **data}})


def test_the_direct_limits() -> None:
    assert limits.direct_upload_limit(system()) == 5_242_880
    # Its base64 has 5,242,876 bytes; one more byte makes it 5,242,880, which fills the server's buffer.
    assert limits.direct_download_limit(system()) == 3_932_157


def test_a_staging_store_takes_anything() -> None:
    limits.require_staging(system("s3"), "f", 10**12, 1)


@pytest.mark.parametrize(
    ("method", "said"), [(None, "no staging store"), ("streamer", "'streamer'"), ("wormhole", "'wormhole'")]
)
def test_no_way_for_a_large_file(method: str | None, said: str) -> None:
    with pytest.raises(FileTooLarge, match=r"big\.bin has 6,000,000 bytes, and rig takes 5,242,880") as caught:
        limits.require_staging(system(method), "big.bin", 6_000_000, 5_242_880)
    assert said in str(caught.value)
    assert "Cut or compress" in str(caught.value)


@pytest.mark.parametrize(
    ("size", "largest", "step"),
    [
        (6 * MIB, 1024 * MIB, 5 * MIB),  # S3's smallest part
        (40 * MIB, 1024 * MIB, 10 * MIB),  # as many parts as travel at once
        (10_000 * MIB, 1024 * MIB, 64 * MIB),
        (10_000 * MIB, 16 * MIB, 16 * MIB),  # the site's word
        (2_000_000 * MIB, 1024 * MIB, 200 * MIB),  # no more than 10,000 parts
        (6 * MIB, None, 5 * MIB),
    ],
)
def test_the_size_of_parts(size: int, largest: int | None, step: int) -> None:
    assert limits.part_size(size, largest) == step


@pytest.mark.parametrize(("size", "count"), [(0, 0), (1, 1), (5, 1), (6, 2), (10, 2), (11, 3)])
def test_parts_cover_the_file(size: int, count: int) -> None:
    parts = limits.cut(size, 5)
    assert len(parts) == count
    assert [part.number for part in parts] == list(range(1, count + 1))
    assert sum(part.size for part in parts) == size
    assert all(one.stop == two.start for one, two in pairwise(parts))
