"""Secrets among the variables of this process's jobs, which no log and no message may show.

A job may print its variables, and a failed job's last lines go into logs that more people read than its output.
"""

from __future__ import annotations

import re

# The words of such names in Airflow's rule, and those of cloud providers. Prefect has no rule.
_SECRET = re.compile(r"token|secret|passw|passphrase|credential|authorization|bearer|(?:^|_)keys?(?:_|$)|apikey", re.I)

# A shorter one, such as `8` or `us`, is in many words.
_SHORTEST = 5
# What TOKENIZERS_PARALLELISM and MAX_TOKENS hold.
_NO_SECRET = re.compile(r"true|false|[\d.]*", re.I)
# Far more than the jobs of a process have. Each costs time wherever an output is shown.
_MOST = 1000

_hidden: dict[str, None] = {}


def looks_secret(name: str, value: str) -> bool:
    """Tell whether the value of a variable is a secret, to judge by its name.

    :param name: the variable's name, such as ``API_TOKEN``
    :param value: its value; a number, a truth value and a text of less than five characters are no secrets
    """
    return _SECRET.search(name) is not None and len(value) >= _SHORTEST and not _NO_SECRET.fullmatch(value)


def hide_value(value: str) -> None:
    """Let :func:`without_hidden_values` remove a value from now on, in this process.

    :param value: the secret; one of less than five characters is not removed
    """
    if len(value) < _SHORTEST:
        return
    # A key has many lines, and an output that is read piece by piece may end in the middle of it.
    for one in {value, *(line for line in value.splitlines() if len(line) >= _SHORTEST)}:
        _hidden.pop(one, None)
        _hidden[one] = None
    while len(_hidden) > _MOST:
        _hidden.pop(next(iter(_hidden)), None)


def without_hidden_values(text: str) -> str:
    """Return a text with ``***`` in the place of each value that was hidden.

    :param text: what is to be shown
    """
    for value in sorted(_hidden, key=len, reverse=True):  # one may be a part of another one
        text = text.replace(value, "***")
    return text
