"""The extra of an Airflow connection of type ``firecrest``: its names, and its values in each form that Airflow stores.

Airflow's ``extra_dejson`` returns what is no mapping as it is, so the extra is read here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import PurePath
from typing import Any

from firecrest_core.connection import read_switch
from firecrest_core.errors import ConfigurationError
from firecrest_core.near_names import suggestion

NAMES = (
    "auth",
    "auth_url",
    "token_url",
    "system",
    "scopes",
    "verify",
    "client_cert",
    "proxy",
    "allow_http",
    "timeout",
    "max_in_flight",
    "base_dir",
    "paths",
    "job_url",
    "presets",
)
"""The settings in an extra. ``token_url`` is another name of ``auth_url``; Airflow hides what ``token`` is part of."""

# What users put there though the connection has a field for it.
_FIELDS = {"url": "host", "client_id": "login", "client_secret": "password", "secret": "password"}


class Extra:
    """The settings that an Airflow connection holds in its extra.

    ``null`` and empty texts count as not given. A URI has only texts, so numbers and booleans may be texts.

    :param stored: the extra as Airflow stores it
    :raises ConfigurationError: it is no JSON object, or has a name that no setting has
    """

    def __init__(self, stored: str | None) -> None:
        self._values = _parse(stored)
        for name in self._values:
            if name not in NAMES:
                raise ConfigurationError(f"its extra has {name!r}, which is no setting: {_hint(name)}")

    def text(self, name: str) -> str:
        """Return a text without the blanks and line breaks around it; empty if it is not given.

        :param name: the setting
        :raises ConfigurationError: it is something else
        """
        value = self._values.get(name)
        if isinstance(value, int) and not isinstance(value, bool):  # Airflow reads numbers in the texts of a URI
            value = str(value)
        if value is not None and not isinstance(value, str):
            raise ConfigurationError(f"{name} is no text: give one")
        return (value or "").strip()

    def words(self, name: str) -> tuple[str, ...]:
        """Return the words of a text, or of a list of texts.

        :param name: the setting
        :raises ConfigurationError: it is something else
        """
        value = self._values.get(name)
        if isinstance(value, list) and all(isinstance(word, str) for word in value):
            value = " ".join(value)
        if value is not None and not isinstance(value, str):
            raise ConfigurationError(f"{name} is {value!r}: give words with blanks between them")
        return tuple((value or "").replace(",", " ").split())

    def switch(self, name: str) -> bool:
        """Return a setting that is on or off; off if it is not given.

        :param name: the setting
        :raises ConfigurationError: it is something else
        """
        return read_switch(name, self._values.get(name))

    def switch_or_path(self, name: str) -> bool | str:
        """Return a setting that is on, off, or the path of a file; on if it is not given.

        :param name: the setting
        :raises ConfigurationError: it is something else
        """
        value = self._values.get(name)
        if isinstance(value, str) and PurePath(value.strip()).is_absolute():
            return value.strip()
        try:
            return value in (None, "") or read_switch(name, value)
        except ConfigurationError:
            raise ConfigurationError(f"{name} is {value!r}: give true, false or the whole path of a file") from None

    def path(self, name: str) -> str | None:
        """Return the path of a file; ``None`` if it is not given.

        :param name: the setting
        :raises ConfigurationError: it is something else
        """
        path = self.text(name)
        if path and not PurePath(path).is_absolute():
            raise ConfigurationError(f"{name} is {path!r}: give the whole path of a file")
        return path or None

    def mapping(self, name: str) -> Mapping[str, Any]:
        """Return a mapping; an empty one if it is not given.

        :param name: the setting
        :raises ConfigurationError: it is something else
        """
        value = self._values.get(name)
        if isinstance(value, str) and value.strip():
            with suppress(ValueError):
                value = json.loads(value)  # a URI has no mappings
        if value and not isinstance(value, Mapping):
            raise ConfigurationError(f'{name} is {value!r}: give an object such as {{"PROJECT": "/project/x"}}')
        return value or {}

    def number(self, name: str, default: float) -> float:
        """Return a number.

        :param name: the setting
        :param default: the number if it is not given
        :raises ConfigurationError: it is something else
        """
        value = self._values.get(name)
        if value is None or value == "":
            return default
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise ConfigurationError(f"{name} is {value!r}: give a number")
        return number

    def whole_number(self, name: str, default: int) -> int:
        """Return a whole number.

        :param name: the setting
        :param default: the number if it is not given
        :raises ConfigurationError: it is something else
        """
        number = self.number(name, default)
        if number % 1:
            raise ConfigurationError(f"{name} is {self._values.get(name)!r}: give a whole number")
        return int(number)


def _parse(stored: str | None) -> Mapping[str, Any]:
    try:
        values = json.loads(stored or "{}")
    except ValueError:
        raise ConfigurationError('its extra is no JSON: give an object such as {"system": "daint"}') from None
    if isinstance(values, str):
        raise ConfigurationError("its extra is a JSON text and no object: it was encoded twice, so encode it once")
    if not isinstance(values, dict):
        kind = "a list" if isinstance(values, list) else "a single value"
        raise ConfigurationError(f'its extra is {kind}: give an object such as {{"system": "daint"}}')
    return values


def _hint(name: str) -> str:
    if name in _FIELDS:
        return f"give it as the connection's field {_FIELDS[name]}"
    return suggestion(name, NAMES)
