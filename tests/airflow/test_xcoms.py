"""What the hook returns comes back as it was from an XCom of a default deployment."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import serde
from airflow.sdk.module_loading import import_string

from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from airflow_provider_firecrest.xcom import HOOK_RESULTS
from firecrest_core.spec.jobspec import JobSpec


@pytest.fixture(autouse=True)
def _plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serde, "_extra_allowed", set(serde._extra_allowed))
    importlib.reload(importlib.import_module("airflow_provider_firecrest.plugins.firecrest"))


def through_xcom(value: Any) -> Any:
    return serde.deserialize(json.loads(json.dumps(serde.serialize(value))))


def test_what_the_hook_returns(connected, workdir: Path, tmp_path: Path) -> None:
    hook = FirecRESTHook()
    spec = JobSpec(command="exit $SLURM_ARRAY_TASK_ID", working_dir=str(workdir), array="0-2", environment={"A": "1"})
    job = hook.submit_job(spec)
    result = hook.wait_for_job(job, poll_interval=0.2, check=False)
    status = hook.get_job(job)
    (tmp_path / "a").write_text("a")
    others = [hook.upload(tmp_path / "a", f"{workdir}/"), *hook.list_files(str(workdir)), *hook.list_systems()]
    for value in (spec, job, result, status, *others):
        assert through_xcom(value) == value
    assert {f"{type(one).__module__}.{type(one).__qualname__}" for one in (spec, job, result, status, *others)} == set(
        HOOK_RESULTS
    )
    assert [element.exit_code for element in through_xcom(result).failed_elements] == [1, 2]


@pytest.mark.parametrize("name", HOOK_RESULTS)
def test_the_classes_exist(name: str) -> None:
    assert import_string(name).__qualname__ == name.rpartition(".")[2]
