"""The claim: a symbolic link that lets one job run when several were submitted for one key.

FirecREST has no idempotency key, and after a lost answer it is unknown whether the job exists. So the submission is
repeated until one is known to have succeeded, and the jobs decide among themselves which of them runs. The first job
that creates a symbolic link, the *claim*, runs. All others end without running anything. Creating a link is atomic on a
POSIX file system, NFS and Lustre included, and ``ops/symlink`` does the same from outside.

This file reads the claims of a task from a listing. :mod:`firecrest_core.claims.prologue` has the lines of shell,
:mod:`firecrest_core.claims.directory` sends the requests for :mod:`firecrest_core.claims.protocol` and
:mod:`firecrest_core.claims.owner`.

Below the working directory::

    .firecrest/<identity>/<epoch>.<generation>/claim -> job-57
    .firecrest/<identity>/<epoch>.<generation>/claim -> cancelled
    .firecrest/<identity>/<epoch>.<generation>/secrets-1f0c…    (see firecrest_core.claims.secret_file)
    .firecrest/<identity>/<epoch>.<generation>/usage.json       (see firecrest_core.claims.meter)
    .firecrest/<identity>/<epoch>.<generation>/cause -> time_limit    (the generation is over: another one follows)
    .firecrest/<identity>/<epoch>.<generation>/gate -> open     (see firecrest_core.claims.gate)

A race across file systems (see :mod:`firecrest_core.claims.admission`) has, at its home, each other place and, as the
claim, the one that runs::

    .firecrest/<identity>/<epoch>.<generation>/place-5d0f… -> eiger,%2Fcapstor%2Fscratch%2Fme
    .firecrest/<identity>/<epoch>.<generation>/claim -> place-5d0f…

The targets of the links never exist, because ``ln -s`` onto a link to a directory would create one inside it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from firecrest_core.api.models import FileInfo
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.spec.place import Place
from firecrest_core.usage import USAGE_FILE

CANCELLED = "cancelled"
"""The holder of a claim that was taken from outside, so that no job gets it."""

CACHED = 90.0
"""Seconds after which what a compute node has made must be visible here: NFS clients use their cache for 60 s."""

_ENTRY = re.compile(
    r"(?:.*/)?(\d{1,9})\.(\d{1,9})(?:/(claim|cause|gate|usage\.json|secrets-[0-9a-f]+|place-[0-9a-f]+))?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims in a task's directory.

    :param holders: (epoch, generation) → a job's id, :data:`CANCELLED`, or the name of the place that runs a job
    :param epochs: the epochs that have a directory
    :param secret_files: (epoch, generation, name) of each file with secrets
    :param measured: (epoch, generation) of each job whose meter has written its file
    :param causes: (epoch, generation) → why another generation follows it, as it was written down
    :param claimed_at: (epoch, generation) → when its claim was made, as the listing gives it (``2026-11-20T15:05:40``)
    :param gates: (epoch, generation) → what its gate is, as :mod:`firecrest_core.claims.gate` says
    :param places: (epoch, generation) → the other places that race, by their names
    """

    holders: Mapping[tuple[int, int], str]
    epochs: frozenset[int]
    secret_files: Sequence[tuple[int, int, str]] = ()
    measured: frozenset[tuple[int, int]] = frozenset()
    causes: Mapping[tuple[int, int], str] = field(default_factory=dict)
    claimed_at: Mapping[tuple[int, int], str] = field(default_factory=dict)
    gates: Mapping[tuple[int, int], str] = field(default_factory=dict)
    places: Mapping[tuple[int, int], Mapping[str, Place]] = field(default_factory=dict)

    @classmethod
    def read(cls, entries: Iterable[FileInfo]) -> Claims:
        """Read the claims from a listing.

        :param entries: the recursive listing of :func:`~firecrest_core.jobs.key.claims_home`
        """
        holders: dict[tuple[int, int], str] = {}
        causes, claimed_at, gates = dict(holders), dict(holders), dict(holders)
        places: dict[tuple[int, int], dict[str, Place]] = {}
        epochs, secret_files, measured = set(), [], set()
        for entry in entries:
            match = _ENTRY.fullmatch(entry.name)
            if match is None:
                continue
            epoch, generation, name = int(match[1]), int(match[2]), match[3]
            epochs.add(epoch)
            if name == "claim" and entry.link_target:
                holder = posixpath.basename(entry.link_target)
                holders[epoch, generation] = holder.removeprefix("job-")
                claimed_at[epoch, generation] = entry.last_modified
            elif name == "cause" and entry.link_target:
                causes[epoch, generation] = posixpath.basename(entry.link_target)
            elif name == "gate" and entry.link_target:
                gates[epoch, generation] = posixpath.basename(entry.link_target)
            elif name and name.startswith("place-") and entry.link_target:
                if place := Place.parse(posixpath.basename(entry.link_target)):
                    places.setdefault((epoch, generation), {})[name] = place
            elif name == USAGE_FILE:
                measured.add((epoch, generation))
            elif name and name.startswith("secrets-"):
                secret_files.append((epoch, generation, name))
        files = tuple(secret_files), frozenset(measured)
        return cls(holders, frozenset(epochs), *files, causes, claimed_at, gates, places)

    def holder(self, key: ClaimKey) -> str | None:
        """Return the id of the job that holds the claim of a key, :data:`CANCELLED`, or ``None`` for no claim.

        Of a race across file systems, it may also be the name of a place, see :meth:`place`.
        """
        return self.holders.get((key.epoch, key.generation))

    def place(self, key: ClaimKey) -> Place | None:
        """Return the other place that runs the job of a key, if the claim names one."""
        return self.places_of(key).get(self.holder(key) or "")

    def places_of(self, key: ClaimKey) -> Mapping[str, Place]:
        """Return the other places that race for a key, by their names."""
        return self.places.get((key.epoch, key.generation), {})

    def cause(self, key: ClaimKey) -> str | None:
        """Return why another generation follows that of a key; ``None`` if none does, as far as was written down."""
        return self.causes.get((key.epoch, key.generation))

    def gate(self, key: ClaimKey) -> str | None:
        """Return what the gate of a key is; ``None`` while nobody has decided that."""
        return self.gates.get((key.epoch, key.generation))

    def causes_before(self, key: ClaimKey) -> list[str]:
        """Return what was written down of the generations before that of a key, the oldest first."""
        return [cause for _, cause in self.ends_before(key)]

    def ends_before(self, key: ClaimKey) -> list[tuple[str, str]]:
        """Return the jobs of the generations before that of a key, each with what was written down of its end."""
        return [
            (self.holders.get((epoch, generation), ""), cause)
            for (epoch, generation), cause in sorted(self.causes.items())
            if epoch == key.epoch and generation < key.generation
        ]

    def latest(self, epoch: int) -> int:
        """Return the latest generation of an epoch that is claimed; -1 for none."""
        return max((generation for each, generation in self.holders if each == epoch), default=-1)

    def has_newer_epoch(self, epoch: int) -> bool:
        """Tell whether a later epoch has begun."""
        return any(each > epoch for each in self.epochs)

    def jobs(self, epochs: Iterable[int]) -> list[str]:
        """Return the ids of the jobs that hold claims of these epochs, the latest first."""
        wanted = set(epochs)
        return [
            holder
            for of, holder in sorted(self.holders.items(), reverse=True)
            if of[0] in wanted and holder != CANCELLED and holder not in self.places.get(of, ())
        ]
