"""Errors as FirecREST answers them: an HTTP status, and one JSON shape for all."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """An answer other than success.

    :param status: HTTP status.
    :param message: text for the client.
    :param caused_by: messages of the underlying errors.
    :param headers: additional response headers.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        caused_by: list[str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.caused_by = caused_by
        self.headers = headers


class SchedulerError(ApiError):
    """A scheduler's command failed: 500 with the command's own words.

    :param stderr: the lines that the command printed.
    :param exit_status: the command's exit status; `None` in words if it ended without one.
    """

    def __init__(self, *stderr: str, exit_status: int | str = 1) -> None:
        text = "".join(f"{line}\n" for line in stderr)
        super().__init__(500, f"Unexpected Slurm command response. exit_status:{exit_status} std_err:{text}")


class NoJobId(ApiError):
    """sbatch succeeded, and printed no line from which the real server could read a job id."""

    def __init__(self) -> None:
        super().__init__(500, "Unable to submit new job")


class PolicyLimitExceeded(ApiError):
    """sbatch was refused by a limit of the accounting: 403 with sbatch's own words.

    :param stderr: the lines that sbatch printed.
    """

    def __init__(self, *stderr: str) -> None:
        words = "\n".join(stderr).strip()
        super().__init__(403, f"Job submission rejected: accounting/QOS policy limit exceeded. {words}")


class CommandTimeout(ApiError):
    """A backend command took longer than it may."""

    def __init__(self) -> None:
        super().__init__(408, "Command execution timeout limit exceeded.")


class OutputTooLarge(ApiError):
    """A backend command printed more than the server reads."""

    def __init__(self) -> None:
        super().__init__(413, "Command output exceeded buffer limit.")


class RemoteError(ApiError):
    """A file system command failed. The words on its standard error decide the status.

    :param exit_status: the command's exit status.
    :param stderr: what the command printed.
    """

    STATUSES = (
        ("No such file or directory", 404),
        ("Permission denied", 403),
        ("Operation not permitted", 403),
        ("File exists", 400),
        ("invalid user", 400),
    )

    def __init__(self, exit_status: int, stderr: str) -> None:
        status = next((status for words, status in self.STATUSES if words in stderr), 500)
        super().__init__(status, f"Remote process failed with exit status:{exit_status} and error message:{stderr}")


def error_body(
    message: str,
    user: str | None,
    *,
    kind: str = "error",
    caused_by: list[str] | None = None,
    data: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Make the body of an error."""
    # A message may name a file whose name is not UTF-8.
    message = message.encode(errors="replace").decode()
    return {"errorType": kind, "message": message, "causedBy": caused_by, "data": data, "user": user}
