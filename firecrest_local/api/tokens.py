"""`/token`: the token endpoint."""

import base64
from typing import Annotated, Any
from urllib.parse import unquote_plus

from fastapi import APIRouter, Form, Header
from fastapi.responses import JSONResponse

from firecrest_local.access.token_issuer import TokenIssuer


def _basic_credentials(authorization: str | None) -> tuple[str, str] | None:
    """Return the credentials of an HTTP basic header, if there are any."""
    scheme, _, value = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        client_id, _, client_secret = base64.b64decode(value).decode().partition(":")
    except ValueError:
        return None
    return unquote_plus(client_id), unquote_plus(client_secret)  # RFC 6749, 2.3.1


def _refusal(status: int, error: str, description: str) -> JSONResponse:
    return JSONResponse({"error": error, "error_description": description}, status)


def router(issuer: TokenIssuer, token_auth: str | None) -> APIRouter:
    """Make the endpoint (OAuth 2, client credentials).

    :param issuer: issues the tokens.
    :param token_auth: `client_secret_post` takes form fields alone, `client_secret_basic` HTTP basic alone; None takes
        both.
    """
    routes = APIRouter()

    @routes.post("/token")
    def token(
        grant_type: Annotated[str | None, Form()] = None,
        client_id: Annotated[str, Form()] = "",
        client_secret: Annotated[str, Form()] = "",
        authorization: Annotated[str | None, Header()] = None,
    ) -> Any:
        if grant_type is None:
            return _refusal(400, "invalid_request", "Missing form parameter: grant_type")
        if grant_type != "client_credentials":
            return _refusal(400, "unsupported_grant_type", "Unsupported grant_type")
        basic = _basic_credentials(authorization)
        if token_auth not in (None, "client_secret_basic" if basic else "client_secret_post"):
            return _refusal(401, "invalid_client", "The client authenticates in a way that is not enabled for it")
        given = basic or (client_id, client_secret)
        if not issuer.accepts(*given):
            error = "unauthorized_client" if issuer.knows(given[0]) else "invalid_client"
            return _refusal(401, error, "Invalid client or Invalid client credentials")
        return {
            "access_token": issuer.issue(),
            "expires_in": int(issuer.lifetime),
            "token_type": "Bearer",
            "scope": "profile email",
        }

    return routes
