"""Blocks that reach another process as parameters of a flow run.

Prefect writes asterisks in the place of their secrets, beside the id of the block that was saved. So the block is read
again by its id.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from prefect_firecrest.prefect_internals import handed_over_id, read_block_values

# What Prefect and pydantic write in the place of a secret.
_MASK = re.compile(r"\*{8,}")
_LOST = "*" * 8


def is_mask(value: object) -> bool:
    """Tell whether a value stands in the place of a secret that is lost."""
    return isinstance(value, str) and _MASK.fullmatch(value) is not None


def read_credentials_again(values: Mapping[str, Any], slug: str) -> Mapping[str, Any]:
    """Return the values of credentials, read from the block that was saved if they have lost a secret.

    All but the system is read: the values that were handed over could name another server, and send the secret there.

    :param values: as they were given
    :param slug: of the block's type
    :raises ValueError: the secret is lost for good, with what to do
    """
    lost = next((name for name, value in values.items() if is_mask(value)), None)
    if lost is None:
        return values
    happened = f"{lost} arrived as asterisks, since Prefect hands no secret to another process in a parameter"
    block_id = handed_over_id(values)
    if block_id is None:
        raise ValueError(
            f"{happened}, and these credentials were never saved. Save them (FirecRESTCredentials.save), load the "
            "block and give that."
        )
    saved = read_block_values(block_id, slug)
    if saved is None:
        raise ValueError(f"{happened}, and the block of these credentials is gone. Save them again.")
    kept = {name: value for name, value in values.items() if name.startswith("_") or name == "system"}
    return {**saved, **kept}


def read_job_again(values: Mapping[str, Any], slug: str) -> Mapping[str, Any]:
    """Return the values of a job, with what was lost of its variables and credentials, if the job itself was saved.

    :param values: as they were given
    :param slug: of the block's type
    """
    environment, credentials = values.get("environment"), values.get("credentials")
    environment = environment if isinstance(environment, Mapping) else {}
    credentials = credentials if isinstance(credentials, Mapping) else {}
    lost = [name for name, value in environment.items() if is_mask(value)]
    of_job = any(map(is_mask, credentials.values())) and handed_over_id(credentials) is None
    block_id = handed_over_id(values) if lost or of_job else None
    saved = read_block_values(block_id, slug) if block_id is not None else None
    if saved is None:
        return values
    again = dict(values)
    if lost:
        again["environment"] = {**environment, **{name: saved.get("environment", {}).get(name, _LOST) for name in lost}}
    if of_job:
        again["credentials"] = saved["credentials"]
    return again
