"""The systems as servers of all versions describe them, and their names."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from firecrest_core import errors
from firecrest_core.api.client import FirecRESTClient
from firecrest_core.api.filesystem import UnreadableTicket
from firecrest_core.transfer.limits import require_staging

SYSTEM = {"name": "rig", "scheduler": {"type": "slurm", "version": "22.05"}, "fileSystems": []}
# As "firecrest.config.DataOperation" of versions 2.3.1 to 2.5.6 is written: its own names in Python's spelling.
OPERATION = {
    "max_ops_file_size": 1048576,
    "data_transfer": {
        "serviceType": "s3",
        "name": "s3",
        "multipart": {"use_split": False, "max_part_size": 1073741824},
    },
}
STORAGE = {"name": "s3", "max_ops_file_size": 2097152, "multipart": {"use_split": False, "max_part_size": 1073741824}}


def serve(httpserver: HTTPServer, *systems: Any, **beside: Any) -> None:
    httpserver.expect_request("/status/systems").respond_with_json({"systems": list(systems), **beside})


@pytest.mark.parametrize(
    ("own", "beside", "limit", "method", "part"),
    [
        ({"dataOperation": OPERATION}, {}, 1048576, "s3", 1073741824),  # since 2.5.0
        ({}, {"dataOperation": OPERATION}, 1048576, "s3", 1073741824),  # 2.3.1 to 2.4.2
        ({"dataOperation": None}, {"dataOperation": OPERATION}, 1048576, "s3", 1073741824),
        ({"dataOperation": OPERATION}, {"dataOperation": {"max_ops_file_size": 1}}, 1048576, "s3", 1073741824),
        ({}, {"dataOperation": {"max_ops_file_size": 99, "data_transfer": None}}, 99, None, None),
        ({}, {"storage": STORAGE}, 2097152, "storage", None),  # 2.2.0 to 2.3.0
        ({}, {"storage": None, "dataOperation": None}, 5242880, None, None),
        ({}, {"storage": "odd", "dataOperation": "odd"}, 5242880, None, None),
    ],
)
async def test_every_version_describes_its_transfers(
    own: Any,
    beside: Any,
    limit: int,
    method: str | None,
    part: int | None,
    client: FirecRESTClient,
    httpserver: HTTPServer,
) -> None:
    serve(httpserver, SYSTEM | own, **beside)
    (info,) = await client.list_systems()
    assert (info.max_ops_file_size, info.transfer_method, info.max_part_size) == (limit, method, part)


async def test_a_staging_store_that_is_too_old(client: FirecRESTClient, httpserver: HTTPServer) -> None:
    serve(httpserver, SYSTEM, storage=STORAGE)
    with pytest.raises(errors.FileTooLarge, match=r"older than 2\.4\.0"):
        require_staging(await client.system().info(), "big.h5", 10**9, 2097152)
    # 2.3.1 describes its store as later versions do, but asks for other fields and answers with others.
    missing = {
        "errorType": "validation",
        "message": "",
        "data": {"fields": [{"name": "fileName", "message": "missing"}]},
    }
    httpserver.expect_request("/filesystem/rig/transfer/upload").respond_with_json(missing, 400)
    ticket = {"transferJob": {"jobId": 7, "system": "rig"}, "downloadUrl": "https://s3.example.org/x?sig=secret"}
    httpserver.expect_request("/filesystem/rig/transfer/download").respond_with_json(ticket, 201)
    with pytest.raises(errors.RequestRejected, match=r"older than 2\.4\.0"):
        await client.system().start_upload("/f", 10**9)
    with pytest.raises(UnreadableTicket, match=r"older than 2\.4\.0") as caught:
        await client.system().start_download("/f")
    assert "secret" not in str(caught.value)
    assert caught.value.job.job_id == "7"  # which the caller cancels


@pytest.mark.parametrize(("asked", "name"), [("Daint", "daint"), ("daint", "Daint"), (" DAINT ", "daint")])
async def test_a_systems_name_in_another_case(
    asked: str, name: str, client: FirecRESTClient, httpserver: HTTPServer
) -> None:
    serve(httpserver, SYSTEM | {"name": name}, SYSTEM)
    system = client.system(asked)
    assert (await system.info()).name == system.name == name


async def test_the_case_decides_if_only_the_case_differs(client: FirecRESTClient, httpserver: HTTPServer) -> None:
    serve(httpserver, SYSTEM | {"name": "daint"}, SYSTEM | {"name": "Daint"})
    assert (await client.system("Daint").info()).name == "Daint"
    with pytest.raises(errors.SystemNotFound, match="Daint, daint"):
        await client.system("DAINT").info()
