"""A client's secret that is rotated while tasks wait: they take up the new one from Airflow's connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from airflow_provider_firecrest.operators import FirecRESTSubmitOperator
from airflow_provider_firecrest.triggers.file import FirecRESTFileTrigger
from firecrest_local import LocalFirecREST, Settings

pytestmark = pytest.mark.timeout(60)

WAITING = "#!/bin/bash\nuntil [ -e go ]; do sleep 0.05; done\n"


@pytest.fixture
def short_lived(tmp_path: Path) -> Iterator[LocalFirecREST]:
    """A server whose tokens the client renews every second."""
    with LocalFirecREST(Settings(root=tmp_path / "cluster", token_lifetime=36, accounting_lag=0.2)) as server:
        yield server


@pytest.fixture
def keep(short_lived: LocalFirecREST, store: Callable[..., None]) -> Callable[[], None]:
    """Store the server's secret, as it is now, in Airflow's connection."""

    def keep() -> None:
        extra = {"auth_url": short_lived.token_url, "system": short_lived.system}
        store(
            {
                "conn_type": "firecrest",
                "host": short_lived.url,
                "login": short_lived.client_id,
                "password": short_lived.client_secret,
                "extra": extra,
            }
        )

    keep()
    return keep


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often a client was refused a token so far."""
    from firecrest_core.api.client_tokens import ClientTokens
    from firecrest_core.errors import AuthenticationFailed

    count, ask = 0, ClientTokens.fetch

    async def counted(self: ClientTokens) -> Any:
        nonlocal count
        try:
            return await ask(self)
        except AuthenticationFailed:
            count += 1
            raise

    monkeypatch.setattr(ClientTokens, "fetch", counted)
    return lambda: count


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.05)


def deferred(workdir: Path, name: str, ti: Any) -> Any:
    task = FirecRESTSubmitOperator(task_id=name, script=WAITING, working_dir=str(workdir), poll_interval=0.2)
    with pytest.raises(TaskDeferred) as deferral:
        task.execute({"ti": ti, "task_state_store": ti.state_store})
    return deferral.value.trigger


@pytest.mark.parametrize("number", [1, 4], ids=["alone", "among others"])
def test_jobs_are_waited_for_with_the_new_secret(
    short_lived: LocalFirecREST, keep: Any, refused: Any, ti: Any, number: int
) -> None:
    workdir = short_lived.home
    question = "/compute/{system_name}/jobs/{job_id}" if number == 1 else "/compute/{system_name}/jobs"
    triggers = [deferred(workdir, "job", type(ti)(run_id=f"run{each}")) for each in range(number)]

    async def wait() -> list[dict[str, Any]]:
        waiting = [asyncio.create_task(trigger.event()) for trigger in triggers]
        await until(lambda: short_lived.requests[("GET", question)])
        short_lived.issuer.rotate()
        await until(refused)  # Airflow does not know the new secret yet
        keep()
        (workdir / "go").touch()
        return list(await asyncio.gather(*waiting))

    events = asyncio.run(wait())
    assert [event["status"] for event in events] == ["success"] * number
    assert {event["result"]["state"] for event in events} == {"COMPLETED"}


def test_files_are_waited_for_with_the_new_secret(short_lived: LocalFirecREST, keep: Any, refused: Any) -> None:
    path = short_lived.home / "late"
    trigger = FirecRESTFileTrigger(
        system=None, path=str(path), firecrest_conn_id="firecrest_default", poll_interval=0.1
    )

    async def wait() -> dict[str, Any]:
        waiting = asyncio.create_task(trigger.event())
        await until(lambda: short_lived.requests[("GET", "/filesystem/{system_name}/ops/ls")])
        short_lived.issuer.rotate()
        await until(refused)
        keep()
        path.touch()
        return await waiting

    assert asyncio.run(wait())["status"] == "success"


def test_a_secret_that_stays_wrong_is_reported(short_lived: LocalFirecREST, keep: Any) -> None:
    short_lived.issuer.rotate()
    ok, message = FirecRESTHook().test_connection()
    assert not ok
    assert "Check the client's id, secret and scopes" in message


def test_jobs_are_waited_for_with_a_new_api_key(tmp_path: Path, store: Callable[..., None], ti: Any) -> None:
    settings = Settings(root=tmp_path / "cluster", api_keys=("old-key",), accounting_lag=0.2)

    def keep(key: str) -> None:
        extra = {"auth": "api_key", "system": settings.system}
        store({"conn_type": "firecrest", "host": server.url, "password": key, "extra": extra})

    async def wait() -> dict[str, Any]:
        waiting = asyncio.create_task(trigger.event())
        await until(lambda: server.requests[("GET", "/compute/{system_name}/jobs/{job_id}")])
        object.__setattr__(settings, "api_keys", ("new-key",))
        keep("new-key")
        (server.home / "go").touch()
        return dict(await waiting)

    with LocalFirecREST(settings) as server:
        keep("old-key")
        trigger = deferred(server.home, "job", ti)
        event = asyncio.run(wait())
    assert event["status"] == "success"
    assert event["result"]["state"] == "COMPLETED"
