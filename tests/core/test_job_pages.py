"""The URL of a job's page in the centre's own web interface."""

from __future__ import annotations

import pytest

from firecrest_core.errors import ConfigurationError
from firecrest_core.job_pages import check_job_url, job_url


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("https://ui.example.org/{sytem}", "{sytem}, which is nothing of a job: there are {system}"),
        ("https://ui.example.org/{}", "{}, which is nothing"),
        ("https://ui.example.org/{job_id.real}", "{job_id.real}, which"),
        ("https://ui.example.org/{job_id!r:>9}", "{job_id!r:>9}, which"),
        ("https://ui.example.org/{job_id", "a brace without its other half"),
        ("javascript:alert({job_id})", "no URL of a web page"),
        ("ui.example.org/{job_id}", "no URL of a web page"),
        ("https://me:secret@ui.example.org/{job_id}", "no URL of a web page"),
        ("https://ui.example.org/ {job_id}", "no URL of a web page"),
        ("https://[ui/{job_id}", "no URL of a web page"),
    ],
)
def test_what_is_no_template_is_refused(template, complaint) -> None:
    with pytest.raises(ConfigurationError) as refused:
        check_job_url(template)
    assert complaint in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("template", "url"),
    [
        ("https://ui.example.org/{system}/jobs/{job_id}", "https://ui.example.org/daint/jobs/57"),
        ("https://ood.example.org/#/{partition}/{account}", "https://ood.example.org/#/a%20b/%3Cs1%3E"),
        (
            "http://grafana/d/x?from={start}&to={end}&var-node={nodes}",
            "http://grafana/d/x?from=1500&to=now&var-node=n%5B1%5D",
        ),
        ("https://{system}.example.org/{name}", "https://daint.example.org/..%2F%7Ba%7D"),
        ("", ""),
    ],
)
def test_values_are_quoted(template, url) -> None:
    if template:
        check_job_url(template)
    fields = {"name": "../{a}", "account": "<s1>", "partition": "a b", "nodes": "n[1]", "start": 1.5}
    assert job_url(template, system="daint", job_id="57", **fields) == url


def test_times_are_milliseconds() -> None:
    template = "https://x.example/{start}/{end}"
    assert job_url(template, system="s", job_id="1", end=2) == "https://x.example//2000"
