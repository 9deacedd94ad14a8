"""What a client needs to reach a server, as lines to paste into a shell."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping

#: Saves the variables as a Prefect block.
SAVE_BLOCK = (
    "python -c 'from prefect_firecrest import FirecRESTCredentials as C; "
    'C.from_environment().save("firecrest-local", overwrite=True)\''
)


def airflow_connection(variables: Mapping[str, str]) -> str:
    """Return the Airflow connection to a server, as the JSON that Airflow reads in its environment.

    :param variables: the server's `FIRECREST_…` variables.
    """
    auth = variables.get("FIRECREST_AUTH")
    extra = {"system": variables["FIRECREST_SYSTEM"], **({"auth": auth} if auth else {})}
    connection: dict[str, object] = {"conn_type": "firecrest", "host": variables["FIRECREST_URL"]}
    if auth == "api_key":
        return json.dumps({**connection, "password": variables["FIRECREST_API_KEY"], "extra": extra})
    login = {"login": variables["FIRECREST_CLIENT_ID"], "password": variables["FIRECREST_CLIENT_SECRET"]}
    return json.dumps({**connection, **login, "extra": {"auth_url": variables["AUTH_TOKEN_URL"], **extra}})


def export_lines(variables: Mapping[str, str]) -> Iterator[str]:
    """Yield one `export` for each variable, and a last one for Airflow's connection `firecrest_default`.

    They hold no comments, which an interactive zsh would take for commands.

    :param variables: the server's `FIRECREST_…` variables.
    """
    for name, value in {**variables, "AIRFLOW_CONN_FIRECREST_DEFAULT": airflow_connection(variables)}.items():
        yield f"export {name}={shlex.quote(value)}"
