"""Everything that can go wrong, as one tree that answers three questions.

*Can it be tried again as it is?* (``retryable``) — *Is it the user's to mend?* (``user_error``: fail at once,
a retry cannot help) — *Did the job itself fail?* (``JobFailed`` and its kinds).

Messages say what happened, where, and what to do. No token, secret or presigned URL is ever in one.
"""

from __future__ import annotations

from typing import Any, ClassVar

from firecrest_core.diagnosis import advice
from firecrest_core.result import JobResult
from firecrest_core.states import JobState


class FirecRESTError(Exception):
    """The root of the tree.

    :ivar retry_after: seconds to wait before asking again, where that is known
    """

    retryable: ClassVar[bool] = False
    user_error: ClassVar[bool] = False
    retry_after: float | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Python would call the class with the message alone, which most of them are not made of.
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[FirecRESTError], args: tuple[Any, ...], state: dict[str, Any]) -> FirecRESTError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


# --- can be tried again as it is ------------------------------------------------------------------


class TransientError(FirecRESTError):
    """The same request may succeed later: nobody has to change anything.

    :param not_processed: the server certainly did not act on the request, so even a submission may be sent again
    :param retry_after: seconds that the server asked to wait, if it did
    """

    retryable = True

    def __init__(self, message: str, *, not_processed: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.not_processed = not_processed
        self.retry_after = retry_after


class ServerUnreachable(TransientError):
    """No connection, or it broke before the answer was whole."""


class RequestTimedOut(TransientError):
    """No answer in time, or 408: the server gave up waiting for a command. The work may be done all the same."""


class RateLimited(TransientError):
    """429."""


class SystemUnhealthy(TransientError):
    """503 from the server's own health probe: nothing was done, and it stays so for 60 to 120 s."""


class ServerFault(TransientError):
    """Another 5xx, or 424: the server could not open an SSH session."""


# --- the user's to mend ---------------------------------------------------------------------------


class UserError(FirecRESTError):
    """A retry cannot help: a name, a path, a script or a credential has to change."""

    user_error = True


class ConfigurationError(UserError):
    """The connection's own settings are incomplete or contradict each other."""


class InvalidJobSpec(UserError, ValueError):
    """A field of a job specification cannot be right.

    :param field: the field's name, which also begins the message
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class AuthenticationFailed(UserError):
    """The identity provider refused the client, or FirecREST its token."""


class AccessDenied(UserError):
    """403: the user may not do this."""


class HostNotFound(UserError):
    """The host's name does not resolve, also after a short, bounded retry."""


class TLSFailed(UserError):
    """The server's certificate is not trusted, or the port does not speak TLS."""


class SystemNotFound(UserError):
    """The server does not know a system of this name."""


class RequestRejected(UserError):
    """The server called the request wrong."""


class SubmissionRejected(UserError):
    """The scheduler refused the job: partition, account, script, limits."""


class RemotePathNotFound(UserError):
    """No such file or directory on the system."""


class RemotePathExists(UserError):
    """It exists already."""


class RemotePathRefused(UserError):
    """Outside the system's file systems, not permitted, or not of the right kind."""


class LocalFileNotFound(UserError):
    """No such file or directory on this side."""


class FileTooLarge(UserError):
    """Too large for every way of transfer that the system offers."""


class InvalidFileName(UserError):
    """A name that the server's shell lines or templates would break."""


class JobNotFound(UserError):
    """The scheduler does not know the job, also after the grace that a new job is given."""


class JobStuck(UserError):
    """The job can never start, and the caller asked to be told; the job is left in the queue.

    :param reason: why, in the scheduler's word
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class ClaimMissing(UserError):
    """A job ended, but the claim that lets it run is not where it must be: nothing says that it ran."""


# --- neither --------------------------------------------------------------------------------------


class SubmissionUnknown(FirecRESTError):
    """The answer to a submission was lost: the job may exist or not. Only a job with a claim is submitted again."""

    retry_after = 2.0  # seconds until a job that does exist is in the list


class TransferFailed(FirecRESTError):
    """A file did not arrive whole: its transfer job failed, or size or SHA-256 differ."""

    retryable = True


class WaitTimedOut(FirecRESTError):
    """The caller's own limit passed before the job ended; the job is left alone."""


# --- the job itself failed ------------------------------------------------------------------------


class JobFailed(FirecRESTError):
    """The job ended otherwise than COMPLETED.

    :param result: what is known of the job at its end
    :param stderr_tail: the last lines of its standard error
    :param stdout_tail: the last lines of its output; the message shows them where the standard error is empty, or where
        both are one file
    """

    def __init__(self, result: JobResult, stderr_tail: str = "", stdout_tail: str = "") -> None:
        self.result = result
        self.stderr_tail = stderr_tail
        self.stdout_tail = stdout_tail
        stdout, stderr = result.output_paths()
        silent = not stderr_tail.strip()
        tail, path = (stdout_tail, stdout) if silent and stdout_tail.strip() else (stderr_tail, stderr or stdout)
        message = " ".join(filter(None, (result.summary(), advice(result.state, result.signal))))
        if path:
            message += f" See {path}."
        if tail.strip():
            stream = "output" if path == stdout else "standard error"
            element = result.reported_element
            whose = "its" if element is None else f"array element {element.index}'s"
            message += f"\nLast lines of {whose} {stream}:\n{tail.rstrip()}"
        super().__init__(message)

    @staticmethod
    def kind(state: JobState) -> type[JobFailed]:
        """Return the class for a job that ended in ``state``."""
        return _KINDS.get(state, JobFailed)


class JobOutOfMemory(JobFailed):
    """OUT_OF_MEMORY."""


class JobTimeLimit(JobFailed):
    """TIMEOUT or DEADLINE."""


class JobNodeFailure(JobFailed):
    """NODE_FAIL or BOOT_FAIL: not the job's fault, running it again may help."""

    retryable = True


class JobPreempted(JobFailed):
    """PREEMPTED: a job of higher priority took its place, running it again may help."""

    retryable = True


class JobCancelled(JobFailed):
    """CANCELLED, by the user, an administrator, or because it could never start."""


class JobWithdrawn(JobCancelled):
    """It was cancelled before any job of it had begun, or a newer run took its place: none will run."""

    def __init__(self, result: JobResult, stderr_tail: str = "", stdout_tail: str = "") -> None:
        self.result = result
        self.stderr_tail = stderr_tail
        self.stdout_tail = stdout_tail
        FirecRESTError.__init__(
            self, f"{result.name} on {result.system}: {result.reason}, so no job of it runs. Start it anew to run it."
        )


_KINDS: dict[JobState, type[JobFailed]] = {
    JobState.OUT_OF_MEMORY: JobOutOfMemory,
    JobState.TIMEOUT: JobTimeLimit,
    JobState.DEADLINE: JobTimeLimit,
    JobState.NODE_FAIL: JobNodeFailure,
    JobState.BOOT_FAIL: JobNodeFailure,
    JobState.PREEMPTED: JobPreempted,
    JobState.CANCELLED: JobCancelled,
    JobState.REVOKED: JobCancelled,
}
