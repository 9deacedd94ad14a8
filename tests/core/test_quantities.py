from __future__ import annotations

from datetime import timedelta

import pytest

from firecrest_core.spec import quantities


@pytest.mark.parametrize(
    ("given", "slurm"),
    [
        (30, "00:30:00"),
        (1500, "1-01:00:00"),
        ("30", "00:30:00"),
        ("10:00", "00:10:00"),
        ("1:30:00", "01:30:00"),
        ("1:75:00", "02:15:00"),
        ("36:00:00", "1-12:00:00"),
        ("2-00", "2-00:00:00"),
        ("1-2:30", "1-02:30:00"),
        ("2-00:00:01", "2-00:00:01"),
        (timedelta(hours=1.5), "01:30:00"),
        (timedelta(seconds=0.2), "00:00:01"),
        ("unlimited", "UNLIMITED"),
        ("infinite", "UNLIMITED"),
    ],
)
def test_time_limit_has_one_form(given, slurm):
    assert quantities.slurm_time(quantities.seconds(given)) == slurm
    assert quantities.seconds(slurm) == quantities.seconds(given)


def test_pbs_counts_hours_only():
    assert quantities.clock(quantities.seconds("2-01:00:05")) == "49:00:05"


@pytest.mark.parametrize("wrong", ["30m", "1h", "", "1:2:3:4", "1-", "-5", -5, 0, "0", timedelta(0), True, 1.5, None])
def test_what_is_no_time_limit(wrong):
    with pytest.raises(ValueError):
        quantities.seconds(wrong)


@pytest.mark.parametrize(
    ("given", "slurm", "mebibytes"),
    [
        (2048, "2048M", 2048),
        ("2048", "2048M", 2048),
        ("4G", "4G", 4096),
        ("4gb", "4G", 4096),
        ("500M", "500M", 500),
        ("1T", "1T", 1024 * 1024),
        ("512K", "512K", 0.5),
        (0, "0M", 0),
    ],
)
def test_memory_has_one_form(given, slurm, mebibytes):
    assert quantities.memory(given) == slurm
    assert quantities.mebibytes(given) == mebibytes


@pytest.mark.parametrize("wrong", ["4X", "4GiB", "0.5G", "-4G", -1, "", "G", True, 1.5, None])
def test_what_is_no_memory(wrong):
    with pytest.raises(ValueError):
        quantities.memory(wrong)
