"""What a notifier's template may say of a job that has failed, as docs/howto/notify.md shows it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from firecrest_core.errors import JobFailed

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "notify.md"


def test_the_templates_of_the_page(connected, workdir, run_task, ti, mocker) -> None:
    [code] = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    names: dict = {}
    exec(compile(ast.parse(code), "the block", "exec"), names)
    from airflow_provider_firecrest.operators import FirecRESTSubmitOperator

    def make() -> FirecRESTSubmitOperator:
        script = "#!/bin/bash\necho '<b>no GPU</b>' >&2\nexit 3\n"
        return FirecRESTSubmitOperator(task_id="train", script=script, working_dir=str(workdir), poll_interval=0.2)

    try:
        run_task(make)
    except JobFailed as error:
        failure = error
    ti.xcom_pull = lambda key: ti.pushed[key]
    notifier = names["tell_me"]
    context = {"ti": ti, "exception": failure}
    notifier.render_template_fields(context)
    assert notifier.subject == f"dag.task: job {ti.pushed['job_id']} has failed"
    assert notifier.html_content.startswith("FAILED after ")
    assert "&lt;b&gt;no GPU&lt;/b&gt;" in notifier.html_content
    assert "<b>" not in notifier.html_content
