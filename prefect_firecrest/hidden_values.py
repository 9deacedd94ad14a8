"""Values of a job's variables that Prefect must not show."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from prefect.blocks.system import Secret
from pydantic import SecretStr

from firecrest_core.errors import InvalidJobSpec
from firecrest_core.hidden_values import looks_secret

# What Prefect and pydantic write in the place of a secret.
_MASK = re.compile(r"\*{8,}")


def hide_values(environment: Mapping[str, Any]) -> dict[str, str | SecretStr]:
    """Return variables of which Prefect's parameters, logs and results show no secret.

    :param environment: the variables; a value may be a ``SecretStr`` or a ``Secret`` block
    :returns: the same; each of these, and each value whose name looks like that of a secret, is a ``SecretStr``
    :raises InvalidJobSpec: they cannot be the variables of a job, or a value is a mask and the secret itself is lost
    """
    from firecrest_core.spec import validation

    given = {
        name: SecretStr(str(value.get())) if isinstance(value, Secret) else value for name, value in environment.items()
    }
    texts: dict[str, str] = validation.checked("environment", given)
    for name, text in texts.items():
        if _MASK.fullmatch(text):
            raise InvalidJobSpec(
                "environment",
                f"{name} is the mask of a secret: Prefect hands no secret to another process in a parameter. Save the "
                "job as a block and load it there, or let the job read the secret from a file on the cluster",
            )
    return {
        name: SecretStr(text) if isinstance(given[name], SecretStr) or looks_secret(name) else text
        for name, text in texts.items()
    }
