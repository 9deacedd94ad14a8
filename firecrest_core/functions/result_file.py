"""The file that one call of a function has left: the value that it returned, or the exception that it raised."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError

from firecrest_core.errors import FunctionFailed, PickleFailed, ResultRefused, VersionMismatch
from firecrest_core.functions.result_place import ResultPlace


class RemoteTraceback(Exception):
    """The traceback on the node, as the cause of what is raised here.

    :param text: its lines
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text.rstrip()}"


class _Header(BaseModel):
    """The line before the pickle, as :mod:`firecrest_core.functions.runner` writes it."""

    kind: Literal["returned", "raised", "PickleFailed", "VersionMismatch"]
    text: str = ""
    summary: Annotated[str, Field(max_length=100_000)] = ""


@dataclass(frozen=True, slots=True)
class ResultFile:
    """What is in the file.

    :param name: the function's name
    :param where: the file's path and system, for messages
    :param header: says what the pickle is
    :param body: the pickle
    """

    name: str
    where: str
    header: _Header
    body: bytes = field(repr=False)

    @classmethod
    def read(cls, content: bytes, place: ResultPlace, label: str, name: str, where: str) -> Self:
        """Return what a call has left, if its job has signed it.

        :param content: the file's
        :param place: where it was left
        :param label: what was signed with it, as for :meth:`ResultPlace.is_signed`
        :param name: the function's name
        :param where: the file's path and system, for messages
        :raises ResultRefused: somebody else has written it, or the connection's secret has changed
        :raises FunctionFailed: it has another form
        """
        signature, _, content = content.partition(b"\n")
        if not place.is_signed(signature.decode(errors="replace"), label, content):
            raise ResultRefused(
                f"{name}: {where} is not signed with this connection's secret, so it is not unpickled: it was not "
                "written by this task's job, or the connection's secret has changed since the submission. Look who can "
                "write there, and run the task again."
            )
        line, _, body = content.partition(b"\n")
        try:
            header = _Header.model_validate(json.loads(line))
        except (ValueError, ValidationError):
            raise FunctionFailed(f"{name}: {where} has another form; was it written by a newer release?") from None
        return cls(name, where, header, body)

    @property
    def has_value(self) -> bool:
        """Whether the function has returned."""
        return self.header.kind == "returned"

    def error(self) -> Exception:
        """Return what the function raised, with the traceback there as its cause, or why it did not run."""
        if self.header.kind == "VersionMismatch":
            return VersionMismatch(self.header.text)
        if self.header.kind == "PickleFailed":
            return PickleFailed(self.header.text)
        error: Any = None
        if self.body:
            try:
                error = pickle.loads(self.body)
            except Exception:
                error = None
        if not isinstance(error, Exception) or isinstance(error, StopIteration):  # no coroutine can raise that
            error = FunctionFailed(f"{self.name} raised {self.header.summary}")
        error.__cause__ = RemoteTraceback(self.header.text)
        return error  # type: ignore[no-any-return]

    def value(self) -> Any:
        """Return what the function returned.

        :raises PickleFailed: it cannot be unpickled here
        """
        try:
            return pickle.loads(self.body)
        except Exception as error:  # whatever an object's own methods raise
            raise PickleFailed(
                f"{self.name}: its result cannot be unpickled here: {type(error).__name__}: {error}. Install here what "
                f"it needs, or let the function return plain values. The job has ended well; see {self.where}."
            ) from None
