"""The text of a script as people write it, in triple quotes or on Windows, made into one that a scheduler reads."""

from __future__ import annotations

import os
import re

_DIRECTIVE = re.compile(r"[ \t]*#(SBATCH|PBS)\s")


def with_unix_lines(text: str) -> str:
    """Return a text with the line breaks of Unix: sbatch refuses those of DOS."""
    return "\n".join(line.rstrip("\r") for line in text.split("\n"))


def not_of_a_file(text: str) -> str | None:
    """Return what a text holds that no script can hold, ``None`` if it holds nothing like that."""
    if "\0" in text:
        return "a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "half of a character (a surrogate), which UTF-8 cannot express"
    return None


def at_the_margin(script: str) -> str:
    """Return a script without what stands before its first line and before each line, in triple quotes for example."""
    first, *others = re.sub(r"\A\ufeff?(?:[ \t]*\n)*", "", script).split("\n")
    margin = _margin(others) if first.startswith("#!") else _indent(first)
    return "\n".join([first.removeprefix(margin), *(line.removeprefix(margin) for line in others)])


def _margin(lines: list[str]) -> str:
    """Return the white space before lines whose first line, ``#!``, stands right behind the quotes.

    What a directive and the first command have before them is the margin, although a here-document may be without it.
    A directive that is indented alone is left so, as no scheduler reads it, and is warned of.
    """
    written = [line for line in lines if line.strip()]
    command = next((line for line in written if not line.lstrip().startswith("#")), "")
    if written and _DIRECTIVE.match(written[0]) and command.startswith(_indent(written[0])):
        return _indent(written[0])
    return os.path.commonprefix([_indent(line) for line in written])  # noqa: RUF071 (characters are what is meant)


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" \t"))]
