"""A fault plan: which requests fail, and how."""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import BaseModel, ConfigDict, Field

from firecrest_local.faults.delivery import CutBody, Delay, Duplicate, LoseAnswer, Refuse, Reset, SlowBody, Trickle
from firecrest_local.faults.file_commands import DiskQuota, FileError
from firecrest_local.faults.gateway import GatewayPage, TooLarge
from firecrest_local.faults.home_noise import HomeNoise
from firecrest_local.faults.listings import ListError, UnreadableRows
from firecrest_local.faults.replaced_text import ReplacedText
from firecrest_local.faults.rule import Window
from firecrest_local.faults.staging_store import StoreError
from firecrest_local.faults.status import EarlyTokenExpiry, Status, Timeout408
from firecrest_local.faults.submissions import MissingJobId, SbatchError

RequestRule = (
    LoseAnswer
    | Timeout408
    | Status
    | Reset
    | Delay
    | SlowBody
    | Trickle
    | CutBody
    | Duplicate
    | EarlyTokenExpiry
    | GatewayPage
    | TooLarge
    | HomeNoise
    | FileError
    | DiskQuota
    | SbatchError
    | MissingJobId
    | ListError
    | UnreadableRows
    | StoreError
    | ReplacedText
)


def fault_kinds() -> dict[str, str]:
    """Return the names of all faults, each with a line about it."""
    kinds = sorted((*get_args(RequestRule), Refuse), key=_name)
    return {_name(kind): (kind.__doc__ or "").partition("\n")[0] for kind in kinds}


def _name(kind: type[Window]) -> str:
    return str(get_args(kind.model_fields["fault"].annotation)[0])


class Plan(BaseModel):
    """All faults of a server.

    :param seed: seed of the random numbers. The same requests in the same order meet the same faults.
    :param accounting_lag: seconds by which the accounting view lags; None keeps the server's own value.
    :param invisible: seconds after its submission for which a job is in no list and a GET of it answers 404.
    :param rules: the first rule that applies to a request is carried out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    accounting_lag: float | None = Field(None, ge=0)
    invisible: float = Field(0.0, ge=0)
    rules: tuple[Annotated[RequestRule | Refuse, Field(discriminator="fault")], ...] = ()
