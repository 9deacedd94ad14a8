"""Errors as FirecREST answers them: one JSON shape for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException


class ApiError(Exception):
    """An answer other than success.

    Parameters:
        status: HTTP status.
        message: text for the client.
        caused_by: messages of the underlying errors.
        headers: additional response headers.
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

    Parameters:
        stderr: what the command printed, one line each.
        exit_status: the command's exit status.
    """

    def __init__(self, *stderr: str, exit_status: int = 1) -> None:
        text = "".join(f"{line}\n" for line in stderr)
        super().__init__(500, f"Unexpected Slurm command response. exit_status:{exit_status} std_err:{text}")


class CommandTimeout(ApiError):
    """A backend command took longer than it may."""

    def __init__(self) -> None:
        super().__init__(408, "Command execution timeout limit exceeded.")


class OutputTooLarge(ApiError):
    """A backend command printed more than the server reads."""

    def __init__(self) -> None:
        super().__init__(413, "Command output exceeded buffer limit.")


class RemoteError(ApiError):
    """A file system command failed; its words decide the status.

    Parameters:
        exit_status: the command's exit status.
        stderr: what it printed.
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
    """The body of every error."""
    return {"errorType": kind, "message": message, "causedBy": caused_by, "data": data, "user": user}


def validation_body(errors: Sequence[Any], user: str | None) -> dict[str, Any]:
    """The body for a request that doesn't fit its model; the field is the second part of its location."""
    plural = "" if len(errors) == 1 else "s"
    # The real server capitalizes the whole text, which lowers all but its first letter.
    message = "\n".join([f"{len(errors)} validation error{plural}:", *(f"  {error}" for error in errors)])
    fields = [
        {
            "location": str(error["loc"][0]) if error["loc"] else None,
            "name": str(error["loc"][1]) if len(error["loc"]) > 1 else None,
            "message": error["msg"],
        }
        for error in errors
    ]
    return error_body(message.capitalize(), user, kind="validation", data={"fields": fields})


def install(app: FastAPI) -> None:
    """Make `app` answer every error in FirecREST's shape."""

    def user_of(request: Request) -> str | None:
        return getattr(request.state, "user", None)

    @app.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> JSONResponse:
        body = error_body(error.message, user_of(request), caused_by=error.caused_by)
        return JSONResponse(body, error.status, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse(validation_body(error.errors(), user_of(request)), 400)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse(error_body(str(error.detail), user_of(request)), error.status_code)

    @app.exception_handler(Exception)
    async def unforeseen_error(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse(error_body(f"{error.args}", user_of(request)), 500)
