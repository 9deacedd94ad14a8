"""Which place runs the job of a race across file systems.

Jobs on two file systems have no claim in common. So one place, the *home*, decides: its claim names one of its own
jobs, as always, or another place. A job at another place has a gate (see :mod:`firecrest_core.claims.gate`), which
somebody opens only after the claim at home was made for that place. From then on the claim there lets one of the jobs
there run. Whoever comes after a crash finds at home the link ``claim -> place-…``, and does the rest.
"""

from __future__ import annotations

import math
from functools import partial

from firecrest_core.api.backoff import retry_transient
from firecrest_core.claims.directory import ClaimDirectory
from firecrest_core.claims.gate import CLOSED, decide
from firecrest_core.followup import Cause, Note
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.spec.place import Place


async def choose(home: ClaimDirectory, key: ClaimKey, place: Place) -> bool:
    """Let the claim at home name a place where a job has begun, unless its jobs have given up, or it is taken.

    :param home: the claims at home
    :param key: the key
    :param place: the place
    :returns: ``False`` if its jobs have given up, because nobody has let them in for too long
    """
    if await has_given_up(home, key, place):
        return False
    await retry_transient(partial(home.take, key, place.name), math.inf)
    return True


async def has_given_up(home: ClaimDirectory, key: ClaimKey, place: Place) -> bool:
    """Tell whether the jobs of a place have closed their gate themselves.

    :param home: the claims at home
    :param key: the key
    :param place: the place
    """
    return (await retry_transient(home.at(place).read, math.inf)).gate(key) == CLOSED


async def admit(home: ClaimDirectory, key: ClaimKey, place: Place) -> bool:
    """Open the gate of the place that the claim at home names.

    If it was closed by a job that has given up, nothing of the key's generation has run or ever will. That is written
    down, so that another generation follows.

    :param home: the claims at home
    :param key: the key, whose claim at home is known to name the place
    :param place: the place
    :returns: whether a job there may run
    """
    # Whoever begins a newer epoch makes its directory first, and reads the claims second. This is read after the claim
    # was made, so at least one of the two finds the other.
    found = await retry_transient(home.read, math.inf)
    if found.has_newer_epoch(key.epoch):
        return False
    if found.cause(key) is None and await decide(home.at(place), key, opens=True):
        return True
    await give_up(home, key)
    return False


async def give_up(home: ClaimDirectory, key: ClaimKey) -> None:
    """Write down that another generation follows, because nothing of this one has run or ever will.

    :param home: the claims at home
    :param key: the key of this one
    """
    await retry_transient(partial(home.note_cause, key, Note(Cause.RETRY).to_text()), math.inf)
