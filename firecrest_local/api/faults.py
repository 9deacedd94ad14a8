"""`/faults`: shows and changes the fault plan of a running server."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header

from firecrest_local.access.token_issuer import TokenIssuer
from firecrest_local.errors import ApiError
from firecrest_local.faults.control import CONTROL_PATH, FaultControl
from firecrest_local.faults.plan import Plan


def router(control: FaultControl, issuer: TokenIssuer) -> APIRouter:
    """Make the endpoint. Every request needs the client's secret in the header `X-Client-Secret`."""

    def require_secret(x_client_secret: Annotated[str, Header()] = "") -> None:
        if not issuer.accepts(issuer.client_id, x_client_secret):
            raise ApiError(401, "The header X-Client-Secret doesn't hold the client's secret.")

    routes = APIRouter(prefix=CONTROL_PATH, dependencies=[Depends(require_secret)])

    @routes.get("")
    async def show() -> dict[str, Any]:
        return {"plan": control.plan.model_dump(exclude_defaults=True), "injected": dict(control.counts)}

    @routes.put("", status_code=204)
    async def replace(plan: Plan) -> None:
        control.set(plan)

    @routes.delete("", status_code=204)
    async def clear() -> None:
        control.clear()

    return routes
