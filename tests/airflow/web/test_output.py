"""The output of a job on its page."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from firecrest_core.connection import Connection
from firecrest_core.states import JobState
from tests.airflow.web.job_rows import JOB, signed_row


def test_output_is_read_once_for_all_viewers(browser, board, connected, connection, workdir, requests) -> None:
    (workdir / "out.txt").write_text("step 1\n<b>step 2</b>\n")
    out = f"{workdir}/out.txt"
    board.rows = [signed_row(connection, system=connected.system, stdout=out, stderr=out)]
    ada = browser()
    texts = [ada.get(f"{JOB}/output").text for _ in range(5)]
    assert all("step 1\n&lt;b&gt;step 2&lt;/b&gt;" in text for text in texts)
    assert requests["GET tail"] == 1


def test_a_file_that_somebody_has_named_instead_is_not_read(browser, board, connected, connection, workdir) -> None:
    (workdir / "key").write_text("private")
    one = signed_row(connection, system=connected.system, stdout=f"{workdir}/out.txt")
    board.rows = [replace(one, snapshot=replace(one.snapshot, stdout=f"{workdir}/key"))]
    text = browser().get(f"{JOB}/output").text
    assert "somebody has edited it" in text
    assert "private" not in text


def test_output_that_is_not_utf_8(browser, board, connected, connection, workdir) -> None:
    (workdir / "out.txt").write_bytes(b"caf\xe9 \xff\xfe\x00 end\n")
    board.rows = [signed_row(connection, system=connected.system, stdout=f"{workdir}/out.txt", stderr=None)]
    answer = browser().get(f"{JOB}/output")
    assert answer.status_code == 200
    assert "end" in answer.text or "cannot be read" in answer.text


def test_why_there_is_no_output(browser, board, connected, connection, workdir, store, stored) -> None:
    def said(signer: Connection = connection, **fields: Any) -> str:
        board.rows = [signed_row(signer, **{"system": connected.system, "stdout": f"{workdir}/out.txt"} | fields)]
        answer = browser().get(f"{JOB}/output")
        assert answer.status_code == 200
        return answer.text

    assert "removed with its directory" in said()
    assert "The job waits" in said(state=JobState.PENDING, started_at=None)
    assert "not known where" in said(connection_id="")
    assert "finds no connection &#39;gone&#39;" in said(connection_id="gone")
    store(stored | {"password": "wrong-secret"}, "refused")
    text = said(replace(connection, client_secret="wrong-secret"), connection_id="refused")
    assert "cannot be read now" in text
    assert "wrong-secret" not in text
    assert "Each element" in said(stdout="/scratch/out-%a.txt")
