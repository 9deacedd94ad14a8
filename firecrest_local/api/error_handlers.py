"""Answers every error of an application in FirecREST's shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from firecrest_local.errors import ApiError, error_body


def validation_body(errors: Sequence[Any], user: str | None) -> dict[str, Any]:
    """Make the body for a request that doesn't fit its model; the field is the second part of its location."""
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


def install_error_handlers(app: FastAPI) -> None:
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

    @app.exception_handler(RecursionError)
    async def too_deep(request: Request, error: RecursionError) -> JSONResponse:
        return JSONResponse(error_body("Directories or values are nested too deeply.", user_of(request)), 400)

    @app.exception_handler(ClientDisconnect)
    async def disconnected(request: Request, error: ClientDisconnect) -> JSONResponse:
        # Nobody reads this answer.
        return JSONResponse(error_body("The request ended too early.", user_of(request)), 400)

    @app.exception_handler(Exception)
    async def unforeseen_error(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse(error_body(f"{error.args}", user_of(request)), 500)
