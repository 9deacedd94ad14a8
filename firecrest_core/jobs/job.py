"""A submitted job, in a form that can be stored in XComs and artifacts."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from firecrest_core.indices import Indices
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.spec.place import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A submitted job, with what was known of it at its submission.

    :param system: the system where it is
    :param job_id: its id, for example ``57``
    :param name: the user's name for it
    :param working_dir: absolute path of its working directory on the system
    :param stdout: path of its standard output, with ``%a`` for an array element's index; ``None`` if unknown
    :param stderr: path of its standard error, in the same form
    :param array_indices: the expected indices of an array, ``None`` for any other job
    :param completed_indices: those of its task's array whose elements have completed in an earlier job of its key, so
        that this one leaves them out
    :param submitted_at: Unix time of the submission; 0 for a job that was found
    :param key: the key of its claim, ``None`` for a job that was submitted without one
    :param rivals: the ids of the other jobs of its key that were submitted as alternatives to it. The first that begins
        runs, see :mod:`firecrest_core.race`
    :param home: of a race across file systems, the place whose claim decides it; else ``None``
    :param elsewhere: of such a race, while it is not decided, the jobs at other places than the home
    """

    system: str
    job_id: str
    name: str = ""
    working_dir: str = ""
    stdout: str | None = None
    stderr: str | None = None
    array_indices: Indices | None = None
    completed_indices: Indices | None = None
    submitted_at: float = 0.0
    key: ClaimKey | None = None
    rivals: tuple[str, ...] = ()
    home: Place | None = None
    elsewhere: tuple[Job, ...] = ()

    def __str__(self) -> str:
        return f"Job {self.job_id} ({self.name})" if self.name else f"Job {self.job_id}"

    @property
    def is_ours(self) -> bool:
        """Whether it was submitted through this connection, so that the connection's URL must be right."""
        return self.key is not None or self.submitted_at > 0

    @property
    def races(self) -> bool:
        """Whether it waits in several queues, and nobody knows yet where it runs."""
        return bool(self.rivals or self.elsewhere)

    @property
    def origin(self) -> Place:
        """The place where the claims of its task are."""
        return self.home or Place(self.system, self.working_dir)

    def own_path(self, path: str) -> str:
        """Return a path below the working directory at home as it is where the job runs; any other stays as it is.

        :param path: absolute path
        """
        inside = posixpath.relpath(path, self.origin.working_dir)
        return path if inside.startswith("..") else posixpath.join(self.working_dir, inside)

    def submission_message(self) -> str:
        """Return one sentence that says whether the job was submitted now or existed before."""
        where = f"{self.system}, in {self.working_dir}"
        rivals = [
            *self.rivals,
            *(
                f"{job.job_id} on {job.system}"
                for job in self.elsewhere
                if (job.system, job.job_id) != (self.system, self.job_id)
            ),
        ]
        race = f" It races with {', '.join(rivals)}: the first that begins runs." if rivals else ""
        if self.submitted_at:
            return f"{self} was submitted to {where}.{race}"
        return f"{self} is there already, on {where}: going on with it.{race}"

    def to_dict(self) -> dict[str, Any]:
        """Return the job as JSON types; :meth:`from_dict` reads them back."""
        key = None if self.key is None else self.key.to_dict()
        indices = {
            name: None if (found := getattr(self, name)) is None else str(found)
            for name in ("array_indices", "completed_indices")
        }
        others = {
            "key": key,
            "rivals": list(self.rivals),
            "home": None if self.home is None else self.home.to_dict(),
            "elsewhere": [job.to_dict() for job in self.elsewhere],
        }
        return {each.name: getattr(self, each.name) for each in fields(self)} | indices | others

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Job:
        """Return the job that :meth:`to_dict` wrote."""
        indices = {
            name: None if (text := data.get(name)) is None else Indices.parse(text)
            for name in ("array_indices", "completed_indices")
        }
        key, home = data.get("key"), data.get("home")
        others = {
            "key": None if key is None else ClaimKey.from_dict(key),
            "rivals": tuple(data.get("rivals", ())),
            "home": None if home is None else Place.from_dict(home),
            "elsewhere": tuple(map(cls.from_dict, data.get("elsewhere", ()))),
        }
        return cls(**{**data, **indices, **others})

    # What Airflow calls for an XCom.
    __version__: ClassVar[int] = 1
    serialize = to_dict

    @staticmethod
    def deserialize(data: Mapping[str, Any], version: int) -> Job:
        """Return the job that :meth:`serialize` wrote.

        :param data: what it returned
        :param version: the version of its form
        """
        return Job.from_dict(data)
