"""Values of a job's variables that Prefect must not show."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from prefect.blocks.system import Secret
from pydantic import SecretStr

from firecrest_core.errors import InvalidJobSpec
from firecrest_core.hidden_values import looks_secret
from prefect_firecrest.handed_over import is_mask


def hide_values(environment: Mapping[str, Any], secret_variables: Collection[str] = ()) -> dict[str, str | SecretStr]:
    """Return variables of which Prefect's parameters, logs and results show no secret.

    :param environment: the variables; a value may be a ``SecretStr`` or a ``Secret`` block
    :param secret_variables: names of variables that are secrets, whatever their values are
    :returns: the same; each of these, and each value whose name looks like that of a secret, is a ``SecretStr``
    :raises InvalidJobSpec: they cannot be the variables of a job, or a value is a mask and the secret itself is lost
    """
    from firecrest_core.spec import validation

    given = {
        name: SecretStr(str(value.get())) if isinstance(value, Secret) else value for name, value in environment.items()
    }
    checked: dict[str, str | SecretStr] = validation.checked("environment", given)
    hidden = {}
    for name, value in checked.items():
        text = value if isinstance(value, str) else value.get_secret_value()
        if is_mask(text):
            raise InvalidJobSpec(
                "environment",
                f"{name} is the mask of a secret: Prefect hands no secret to another process in a parameter. Save the "
                "job as a block and load it there, or let the job read the secret from a file on the cluster",
            )
        is_secret = not isinstance(value, str) or name in secret_variables or looks_secret(name, text)
        hidden[name] = SecretStr(text) if is_secret else text
    return hidden
