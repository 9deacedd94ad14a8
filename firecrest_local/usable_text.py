"""Text that commands, files and answers can hold."""

from __future__ import annotations

from typing import Any


def is_usable(value: Any) -> bool:
    """Return whether a text, or every text in a JSON value, has no null byte and can be written as UTF-8."""
    if isinstance(value, dict):
        return all(is_usable(key) and is_usable(part) for key, part in value.items())
    if isinstance(value, list):
        return all(map(is_usable, value))
    if not isinstance(value, str):
        return True
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False
