"""The body of a submission."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class SubmitRequest:
    """The body of ``POST /compute/{system}/jobs``. Each field has the API's name in Python's spelling.

    ``repr`` does not show the values of variables, which are in the script, too.
    """

    name: str | None = None
    working_directory: str
    script: str | None = field(default=None, repr=False)
    script_path: str | None = None
    account: str | None = None
    partition: str | None = None
    reservation: str | None = None
    constraints: str | None = None
    standard_output: str | None = None
    standard_error: str | None = None
    env: Mapping[str, str] | None = field(default=None, hash=False, repr=False)

    def to_json(self) -> dict[str, dict[str, Any]]:
        """Return ``{"job": {...}}`` with the API's names, without the fields that are ``None``."""
        job = {}
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if value is not None:
                first, *rest = each.name.split("_")
                job[first + "".join(word.title() for word in rest)] = dict(value) if each.name == "env" else value
        return {"job": job}
