"""Several systems behind one embedded server."""

from __future__ import annotations

from pathlib import Path

import pytest

from firecrest_core.api.client import FirecRESTClient
from firecrest_core.connection import Connection
from firecrest_core.errors import OutsideFileSystems, RemotePathNotFound
from firecrest_local import LocalFirecREST, Settings


async def test_each_has_its_own_files_and_jobs(tmp_path: Path) -> None:
    settings = Settings(root=tmp_path, system="Daint", other_systems=("Eiger",), accounting_lag=0.0)
    with LocalFirecREST(settings) as server:
        (server.home_on("daint") / "here").touch()
        (server.home_on("eiger") / "there").touch()
        async with FirecRESTClient(Connection.from_environment(server.environ)) as client:
            assert [one.name for one in await client.list_systems()] == ["daint", "eiger"]
            daint, eiger = client.system("daint"), client.system("eiger")
            home, other = str(server.home_on("daint")), str(server.home_on("eiger"))
            assert [row.name for row in await daint.list_files(home)] == ["here"]
            assert [row.name for row in await eiger.list_files(other)] == ["there"]
            with pytest.raises((OutsideFileSystems, RemotePathNotFound)):
                await daint.list_files(other)
            assert (await daint.get_jobs(), await eiger.get_jobs()) == ([], [])


def test_each_name_is_checked() -> None:
    with pytest.raises(ValueError, match=r"the system's name is '\.\./x'"):
        Settings(other_systems=("../x",))
