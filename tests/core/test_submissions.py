"""The three outcomes of a submission: the job was taken, it was refused, or no answer says."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_httpserver import HTTPServer
from werkzeug import Response

from firecrest_core import errors
from firecrest_core.api.client import FirecRESTClient
from firecrest_core.api.scheduler_words import refusal
from firecrest_core.api.submit_request import SubmitRequest

JOB = SubmitRequest(name="j", working_directory="/wd", script="#!/bin/bash\n")
FAILED = "sbatch: error: Batch job submission failed: "

REFUSED = [
    "Invalid partition name specified",
    "Invalid account or account/partition combination specified",
    "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
    "User's group not permitted to use this partition",
    "Requested node configuration is not available",
    "Memory required by task is not available",
    "Requested time limit is invalid (missing or exceeds some limit)",
    "Access/permission denied",
]

OPEN = [
    "Protocol authentication error",
    "Zero Bytes were transmitted or received",
    "Resource temporarily unavailable",
    "Unable to contact slurm controller (connect failure)",
    "Socket timed out on send/recv operation",
    "Slurm backup controller in standby mode",
    "Unable to create job record, try again",
    "I/O error writing script/environment to file",
    "Invalid authentication credential",
    "Required partition not available (inactive or drain)",
    "System submissions disabled",
    "Unspecified error",
    "Words that nobody has seen before",
]

# What a login node may say before the command does.
NOISE = [
    "Could not chdir to home directory /users/xyz: No such file or directory",
    "bash: warning: setlocale: LC_ALL: cannot change locale (de_CH.UTF-8)",
    "-bash: /etc/profile.d/modules.sh: Permission denied",
    "*** Invalid use of this system is not permitted ***",
]


def said(*lines: str, exit_status: int | None = 1) -> str:
    stderr = "".join(f"{line}\n" for line in lines)
    return f"Unexpected Slurm command response. exit_status:{exit_status} std_err:{stderr}"


def rest(*problems: str, status: int = 500) -> str:
    body = {
        "meta": {"plugin": {"type": "Invalid"}},
        "errors": [{"error": text, "error_number": 1} for text in problems],
    }
    return f"Unexpected Slurm API response. status:{status} message:{json.dumps(body)}"


def answer(message: str, status: int = 500) -> Response:
    body = {"errorType": "error", "message": message, "causedBy": None, "data": None, "user": None}
    return Response(json.dumps(body), status, content_type="application/json")


@pytest.mark.parametrize("reason", REFUSED)
@pytest.mark.parametrize("exit_status", [1, -1, 0, None])
def test_words_that_name_the_job_refuse_it(reason: str, exit_status: int | None) -> None:
    assert refusal(said(FAILED + reason, exit_status=exit_status)).endswith(reason)
    assert refusal(rest(reason)) == reason


@pytest.mark.parametrize("reason", OPEN)
def test_other_words_leave_the_outcome_open(reason: str) -> None:
    assert refusal(said(FAILED + reason)) == ""
    assert refusal(rest(reason)) == ""


@pytest.mark.parametrize(
    "message",
    [
        *(said(exit_status=code) for code in (-1, 0, 1, 255, None)),
        said("bash: line 1: sbatch: command not found", exit_status=127),
        said('sbatch: error: Munge encode failed: Failed to access "/run/munge/munge.socket.2": No such file'),
        said("sbatch: error: s_p_parse_file: unable to status file /etc/slurm/slurm.conf: No such file or directory"),
        rest(),
        "Unexpected Slurm API response. status:502 message:<html>Invalid gateway</html>",
        "Unexpected Slurm API response. status:500 message:[]",
        'Unexpected Slurm API response. status:500 message:{"errors": "Invalid"}',
        'Unexpected Slurm API response. status:500 message:{"errors": [null, 7, {"error": null}]}',
        "Internal Server Error: invalid literal",
        "",
    ],
)
def test_no_words_of_the_scheduler_refuse_nothing(message: str) -> None:
    assert refusal(message) == ""


@pytest.mark.parametrize(
    "line",
    [
        "sbatch: error: Unable to open file /users/me/munge/controller.sh",
        'sbatch: error: Invalid numeric value "socket" for --nodes.',
        "sbatch: unrecognized option '--protocol'",
        "sbatch: error: This does not look like a batch script.  The first",
        "sbatch: error: Batch script contains DOS line breaks (\\r\\n)",
        "sbatch: fatal: --time requires an argument",
    ],
)
def test_what_sbatch_itself_refuses(line: str) -> None:
    assert refusal(said(line)) == line.removeprefix("sbatch: ").removeprefix("error: ").removeprefix("fatal: ")


def test_the_reason_of_a_sites_plugin() -> None:
    reason = "You have not told us your project. Use --account."
    assert refusal(said(f"sbatch: error: {reason}", f"{FAILED}Unspecified error")).startswith(reason)
    assert refusal(said("sbatch: error: munge is not running", f"{FAILED}Unspecified error")) == ""


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ("qsub: Unknown queue", True),
        ("qsub: Job violates queue and/or server resource limits", True),
        ("qsub: Tell us your project, please", True),  # a site's hook
        ("qsub: Invalid credential", False),
        ("qsub: End of File", False),
        ("qsub: cannot connect to server pbs (errno=15010)", False),
        ("bash: qsub: command not found", False),
        ("", False),
    ],
)
def test_what_qsub_says(line: str, refused: bool) -> None:
    message = f"Unexpected PBS command response. exit_status:1 std_err:{line}\n stdout:"
    assert refusal(message) == (line.removeprefix("qsub: ") if refused else "")


@given(noise=st.lists(st.sampled_from(NOISE)), reason=st.sampled_from([*REFUSED, *OPEN]))
def test_the_login_nodes_words_change_nothing(noise: list[str], reason: str) -> None:
    assert refusal(said(*noise, FAILED + reason)) == refusal(said(FAILED + reason))
    assert refusal(said(*noise)) == ""


@given(partition=st.text(st.characters(codec="ascii", exclude_characters="\n\r\v\f\x1c\x1d\x1e"), min_size=1))
def test_what_the_job_is_called_changes_nothing(partition: str) -> None:
    lines = (f"sbatch: error: invalid partition specified: {partition}", FAILED + "Invalid partition name specified")
    assert refusal(said(*lines))


@pytest.mark.parametrize("reason", ["Invalid qos specification", "Protocol authentication error"])
async def test_both_modes_of_the_server(reason: str, client: FirecRESTClient, httpserver: HTTPServer) -> None:
    refused = reason.startswith("Invalid")
    for message in (said(FAILED + reason), rest(reason)):
        httpserver.expect_oneshot_request("/compute/rig/jobs").respond_with_response(answer(message))
        with pytest.raises(errors.SubmissionRejected if refused else errors.SubmissionUnknown, match=reason):
            await client.system().submit_job(JOB)


@pytest.mark.parametrize(
    "body", ['{"jobId": null}', "{}", '{"jobId": ""}', '{"jobId": "None"}', '{"jobId": 0}', "[]", "null", '"57"']
)
async def test_taken_without_an_id(body: str, client: FirecRESTClient, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/compute/rig/jobs").respond_with_data(body, 201, content_type="application/json")
    with pytest.raises(errors.SubmissionUnknown, match="may be in the queue"):
        await client.system().submit_job(JOB)


@pytest.mark.parametrize("job_id", ['"4711"', "4711", '" 4711 "', '"4711.pbs01"'])
async def test_taken(job_id: str, client: FirecRESTClient, httpserver: HTTPServer) -> None:
    body = f'{{"jobId": {job_id}}}'
    httpserver.expect_request("/compute/rig/jobs").respond_with_data(body, 201, content_type="application/json")
    assert await client.system().submit_job(JOB) == "4711"
