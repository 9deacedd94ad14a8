"""The accounts of the embedded cluster."""

from __future__ import annotations

from typing import Any

REFUSAL = (
    "Unexpected Slurm command response. exit_status:1 std_err:sbatch: error: Batch job submission failed: "
    "Invalid account or account/partition combination specified\n"
)


def test_unknown_account_is_refused(serve: Any, connect: Any) -> None:
    server = serve()
    api = connect(server)
    in_script = "#!/bin/sh\n#SBATCH --account=nope\n"
    for answer in (api.try_submit("#!/bin/sh\n", server.home, account="nope"), api.try_submit(in_script, server.home)):
        assert (answer.status_code, answer.json()["message"]) == (500, REFUSAL)
    assert api.list() == []


def test_accounts_are_a_setting(serve: Any, connect: Any) -> None:
    server = serve(accounts=("proj1", "proj2"))
    api = connect(server)
    accounts = api.http.get(f"/status/{server.system}/userinfo").json()["accounts"]
    assert accounts == [{"name": "proj1", "default": True}, {"name": "proj2", "default": False}]
    assert api.row(api.submit("#!/bin/sh\nsleep 9\n", server.home))["account"] == "proj1"
    assert api.row(api.submit("#!/bin/sh\nsleep 9\n", server.home, account="Proj2"))["account"] == "proj2"
    assert api.try_submit("#!/bin/sh\n", server.home, account="test").status_code == 500
