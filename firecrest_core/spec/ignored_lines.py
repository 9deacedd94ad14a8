"""Lines of a script that look like directives and that the scheduler does not follow.

Facts: tried with sbatch 22.05. It reads directives up to the first command, and only lines that begin with exactly
``#SBATCH`` or ``#PBS``. It refuses a script for a word that belongs to no option; older ones leave it out. qsub's
manual says the same of ``#PBS`` lines behind the first command.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from firecrest_core.spec.options import split_words
from firecrest_core.spec.script import is_directive, lines, starts_component

# A line with an option. Somebody who writes two # signs has put a directive out of use.
_LIKE_DIRECTIVE = re.compile(r"\s*#(?!#)\s*(SBATCH|PBS)\b[\s:]*-", re.IGNORECASE)
_HERE_DOCUMENT = re.compile(r"(?<!<)<<(?!<)-?\s*(['\"]?)(\w+)\1")
# sbatch's short options that take no value and may stand before others in one word.
_SHORT_FLAGS = frozenset("HIOQWXksv")


def ignored_lines(script: str) -> list[str]:
    """Return one sentence for each line that asks for something in vain.

    :param script: the text of a batch script
    :returns: sentences that name the line and say what to write
    """
    return [f"line {number}, {line.strip()!r}: {problem}" for number, line, problem in _problems(script)]


def _problems(script: str) -> Iterator[tuple[int, str, str]]:
    has_begun, document_end = False, None
    for number, line in enumerate(lines(script)[1:], start=2):
        if document_end is not None:  # it may be another script
            if line.strip() == document_end:
                document_end = None
        elif not line.lstrip().startswith("#"):
            has_begun = has_begun or bool(line.strip())
            if match := _HERE_DOCUMENT.search(line):
                document_end = match[2]
        elif is_directive(line) and not has_begun:
            if word := _unread(line):
                yield (
                    number,
                    line,
                    (
                        f"{word!r} belongs to no option, so the scheduler refuses the script or leaves it out. A value "
                        "with spaces takes quotes, as in --job-name='two words'."
                    ),
                )
        elif match := _LIKE_DIRECTIVE.match(line):
            reason = (
                "it stands behind the first command; move it to the top."
                if is_directive(line)
                else f"a directive begins with #{match[1].upper()} at the very beginning of the line."
            )
            yield number, line, f"the scheduler ignores it, because {reason}"


def _unread(directive: str) -> str | None:
    """Return the first word of an ``#SBATCH`` line that belongs to no option."""
    if not directive.startswith("#SBATCH") or starts_component(directive):
        return None
    return _without_option(split_words(directive.removeprefix("#SBATCH")))


def _without_option(words: Sequence[str]) -> str | None:
    takes_value = False
    for word in words:
        if word.startswith("--"):
            takes_value = "=" not in word  # whether an option has a value is not known here
        elif word.startswith("-"):
            takes_value = len(word) == 2 or word[1] in _SHORT_FLAGS
        elif takes_value:
            takes_value = False
        else:
            return word
    return None
