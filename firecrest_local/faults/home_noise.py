"""A home directory that is not mounted: sshd complains before every command."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Literal

from firecrest_local.errors import RemoteError
from firecrest_local.faults.replacement import Answer, Rewriting

_REMOTE = re.compile(r"Remote process failed with exit status:(-?\d+)(?: and error message:(.*))?", re.DOTALL)
#: What comes before a scheduler command's standard error.
_SLURM = re.compile(r"Unexpected Slurm command response\. exit_status:\S+ std_err:|Job submission rejected: [^.]+\. ")


class HomeNoise(Rewriting):
    """sshd's line stands before the standard error of every command.

    The server judges a file command by all of its standard error, so the line can change the status too.

    :param home: the home directory that sshd could not enter.
    """

    fault: Literal["home_noise"]
    home: str = "/users/xyz"

    def rewrite(self, answer: Answer, system: str) -> Answer:
        """Put the line before the standard error that an answer shows."""
        if answer.status < 400:
            return answer
        noise = f"Could not chdir to home directory {self.home}: No such file or directory\n"
        status = answer.status

        def text(message: str) -> str:
            nonlocal status
            if remote := _REMOTE.fullmatch(message):
                error = RemoteError(int(remote[1]), f"{noise}{remote[2] or ''}".strip())
                status = error.status
                return error.message
            if slurm := _SLURM.match(message):
                return message[: slurm.end()] + noise + message[slurm.end() :]
            return message

        def change(body: Any) -> Any:
            if not isinstance(body, dict) or not isinstance(body.get("message"), str):
                return body
            causes = body.get("causedBy")
            return {
                **body,
                "message": text(body["message"]),
                "causedBy": [text(cause) for cause in causes] if causes else causes,
            }

        return replace(answer.change_json(change), status=status)
