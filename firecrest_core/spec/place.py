"""A place where jobs of one task may run: a system, and a directory on one of its file systems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any
from urllib.parse import quote, unquote


@dataclass(frozen=True, slots=True)
class Place:
    """A place.

    :param system: the name of the system
    :param working_dir: absolute path of the jobs' working directory there
    """

    system: str
    working_dir: str

    def __str__(self) -> str:
        return f"{self.system}, in {self.working_dir}"

    @property
    def name(self) -> str:
        """A file name that is equal for equal places."""
        return f"place-{sha256(self.to_text().encode()).hexdigest()[:16]}"

    def to_text(self) -> str:
        """Return the place as the name of a file; :meth:`parse` reads it back."""
        return f"{self.system},{quote(self.working_dir, safe='')}"

    @classmethod
    def parse(cls, text: str) -> Place | None:
        """Return the place of a text; ``None`` if it has another form.

        :param text: what a claim directory holds, which a person may have changed
        """
        system, comma, working_dir = text.partition(",")
        return cls(system, unquote(working_dir)) if system and comma and working_dir else None

    def to_dict(self) -> dict[str, Any]:
        """Return the place as JSON types; :meth:`from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Place:
        """Return the place that :meth:`to_dict` wrote."""
        return cls(**data)
