"""All errors of this package, in one hierarchy.

- ``retryable`` errors may pass: the same call may succeed later.
- ``user_error`` marks those that the user has to correct. A retry cannot help, so the task should fail at once.
- ``JobFailed`` and its subclasses say that the job itself failed.

Messages say what happened, where, and what to do. They never contain a token, a secret or a presigned URL.
"""

from __future__ import annotations

from typing import Any

from firecrest_core.diagnosis import advice
from firecrest_core.result import JobResult
from firecrest_core.states import JobState


class FirecRESTError(Exception):
    """Base class of all errors of this package.

    :ivar retryable: the same call may succeed later
    :ivar user_error: the user has to correct something; a retry cannot help
    :ivar retry_after: seconds to wait before the next attempt, if known
    :ivar server_message: the server's own words, if it gave any
    """

    retryable: bool = False
    user_error: bool = False
    retry_after: float | None = None
    server_message: str = ""

    def __reduce__(self) -> tuple[Any, ...]:
        # By default, unpickling calls the class with the message alone. Most of these classes take other arguments.
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[FirecRESTError], args: tuple[Any, ...], state: dict[str, Any]) -> FirecRESTError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


# --- transient: the same request may succeed later ------------------------------------------------


class TransientError(FirecRESTError):
    """The same request may succeed later without any change.

    :param not_processed: the server certainly did not act on the request, so even a submission may be repeated
    :param retry_after: seconds that the server asked to wait, if it did
    :param server_message: the server's own words, if it gave any
    """

    retryable = True

    def __init__(
        self,
        message: str,
        *,
        not_processed: bool = False,
        retry_after: float | None = None,
        server_message: str = "",
    ) -> None:
        super().__init__(message)
        self.not_processed = not_processed
        self.retry_after = retry_after
        self.server_message = server_message


class ServerUnreachable(TransientError):
    """No connection could be made, or it broke before the answer was complete."""


class RequestTimedOut(TransientError):
    """No answer came in time, or the server answered 408 because a command took too long.

    The server may have done the work all the same.
    """


class RateLimited(TransientError):
    """The server answered 429: too many requests."""


class SystemUnhealthy(TransientError):
    """The server answered 503 because its own probe found the system unhealthy.

    It did not process the request. The probe needs 60 to 120 s to see that the system is healthy again.
    """


class ServerFault(TransientError):
    """The server answered another 5xx, or 424: it could not open an SSH session."""


class UnexpectedAnswer(ServerFault):
    """The answer is not FirecREST's own, although the URL was right before: a gateway or a maintenance page."""


class AnswerTooLarge(UnexpectedAnswer):
    """The answer is larger than any that was due, and was not read to its end.

    It says nothing of the request, so it is borne like an outage.
    """


# --- user errors: something has to be corrected ---------------------------------------------------


class UserError(FirecRESTError):
    """A retry cannot help: a name, a path, a script or a credential has to change."""

    user_error = True


class ConfigurationError(UserError, ValueError):
    """The connection's own settings are incomplete or contradict each other."""


class InvalidJobSpec(UserError, ValueError):
    """A field of a job specification is not valid.

    :param field: the field's name, which also begins the message
    :param message: what is wrong with it, and what would be valid
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.problem = message


class AuthenticationFailed(UserError):
    """The identity provider refused the client, or FirecREST refused its token."""


class AccessDenied(UserError):
    """The server answered 403: the user may not do this."""


class HostNotFound(UserError):
    """The host's name does not resolve, even after a few brief retries."""


class TLSFailed(UserError):
    """The server's certificate is not trusted, or the port does not speak TLS."""


class SystemNotFound(UserError):
    """The server does not know a system of this name."""


class RequestRejected(UserError):
    """The server refused the request as wrong."""


class SubmissionRejected(UserError):
    """The scheduler refused the job, for example because of its partition, account, script or limits."""


class RemotePathNotFound(UserError):
    """The file or directory does not exist on the system."""


class RemotePathExists(UserError):
    """The path on the system exists already."""


class RemotePathRefused(UserError):
    """The path is outside the system's file systems, not permitted, or of the wrong kind."""


class OutsideFileSystems(RemotePathRefused):
    """The path is on none of the system's file systems."""


class LocalFileNotFound(UserError):
    """The local file or directory does not exist."""


class LocalFileRefused(UserError):
    """The local path is not permitted, of the wrong kind, or its name is not possible."""


class FileTooLarge(UserError):
    """The file is too large for every transfer method that the system offers."""


class InvalidFileName(UserError):
    """The server's shell commands or job templates cannot handle this file name."""


class InvalidJobId(UserError):
    """What was given as the id of a job cannot be one."""


class JobNotFound(UserError):
    """The scheduler does not know the job, even after the grace period for new jobs."""


class JobStuck(UserError):
    """The job can never start, and the caller asked for an error in this case. The job stays in the queue.

    :param message: which job, why, and what to do
    :param reason: the scheduler's reason
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class PickleFailed(UserError):
    """A function or its arguments cannot be pickled, or it or its result cannot be unpickled on the other side."""


class VersionMismatch(UserError):
    """A function did not run, because the Python or a package on the node is another one than where it was pickled."""


class ResultRefused(UserError):
    """The file with a function's result was not written by its job, as far as the connection's secret tells."""


class ClaimMissing(UserError):
    """A job ended, but its claim does not exist, so nothing shows that the payload ran."""


# --- other errors ---------------------------------------------------------------------------------


class SubmissionUnknown(FirecRESTError):
    """No answer says whether a submitted job was taken, so it may or may not exist.

    Only a job with a claim is resubmitted.
    """

    retry_after = 2.0  # seconds until a job that exists appears in the list


class SubmissionLimitReached(FirecRESTError):
    """The scheduler did not take a job because a limit on submitted jobs is reached, which passes when others end.

    :param message: which limit, and where
    :param limit: the limit in the scheduler's words, for example ``AssocMaxSubmitJobLimit``
    """

    retryable = True

    def __init__(self, message: str, limit: str = "") -> None:
        super().__init__(message)
        self.limit = limit


class TransferFailed(FirecRESTError):
    """A transfer is incomplete: the transfer job failed, or size or SHA-256 differ."""

    retryable = True


class FunctionFailed(FirecRESTError):
    """A function that ran as a job raised what cannot be raised here, or left nothing; or elements of its array failed.

    Its cause is the traceback there. Of an array, it is what the first of the elements that failed has raised.
    """


class WaitTimedOut(FirecRESTError):
    """The caller's time limit passed before the job ended, or before a file came. A job is not cancelled."""


# --- the job itself failed ------------------------------------------------------------------------


class JobFailed(FirecRESTError):
    """The job ended in another state than COMPLETED, or no other job of its chain follows and the work is not done.

    Where an escalation policy or a chain has come to its bound, a person has to look, and no retry helps.

    :param result: the job's result
    :param stderr_tail: the last lines of its standard error
    :param stdout_tail: the last lines of its standard output; the message shows them if the standard error is empty or
        if both are one file
    :ivar shown_path: the path of the output whose last lines are in the message; ``None`` if it has none
    """

    def __init__(self, result: JobResult, stderr_tail: str = "", stdout_tail: str = "") -> None:
        self.result = result
        self.stderr_tail = stderr_tail
        self.stdout_tail = stdout_tail
        stdout, stderr = result.output_paths()
        silent = not stderr_tail.strip()
        tail, path = (stdout_tail, stdout) if silent and stdout_tail.strip() else (stderr_tail, stderr or stdout)
        hint = advice(result.state, result.signal, result.exit_code, f"{stderr_tail}\n{stdout_tail}")
        message = " ".join(filter(None, (result.summary(), result.problem or hint)))
        if result.course is not None and result.problem and not result.course.retry_helps:
            self.retryable, self.user_error = False, True
        if path:
            message += f" See {path}."
        self.shown_path = path if tail.strip() else None
        if tail.strip():
            stream = "output" if path == stdout else "standard error"
            element = result.reported_element
            whose = "its" if element is None else f"array element {element.index}'s"
            message += f"\nLast lines of {whose} {stream}:\n{tail.rstrip()}"
        super().__init__(message)

    @staticmethod
    def kind(state: JobState) -> type[JobFailed]:
        """Return the error class for a job that ended in ``state``."""
        return _KINDS.get(state, JobFailed)


class JobOutOfMemory(JobFailed):
    """The job ended OUT_OF_MEMORY."""


class JobTimeLimit(JobFailed):
    """The job ended in TIMEOUT or DEADLINE."""


class JobNodeFailure(JobFailed):
    """The job ended in NODE_FAIL, BOOT_FAIL, LAUNCH_FAILED or RECONFIG_FAIL.

    That is not its fault, so another run may succeed.
    """

    retryable = True


class JobPreempted(JobFailed):
    """The job was PREEMPTED by one of higher priority. Another run may succeed."""

    retryable = True


class JobCancelled(JobFailed):
    """The job was CANCELLED by the user, by an administrator, or because it could never start."""


class JobWithdrawn(JobCancelled):
    """The task was cancelled before a job of it began, or a newer run replaced it. No job of it will run."""

    def __init__(self, result: JobResult, stderr_tail: str = "", stdout_tail: str = "") -> None:
        self.result = result
        self.stderr_tail = stderr_tail
        self.stdout_tail = stdout_tail
        self.shown_path = None
        FirecRESTError.__init__(
            self, f"{result.name} on {result.system}: {result.reason}, so no job of it runs. Start it anew to run it."
        )


_KINDS: dict[JobState, type[JobFailed]] = {
    JobState.OUT_OF_MEMORY: JobOutOfMemory,
    JobState.TIMEOUT: JobTimeLimit,
    JobState.DEADLINE: JobTimeLimit,
    JobState.NODE_FAIL: JobNodeFailure,
    JobState.BOOT_FAIL: JobNodeFailure,
    JobState.LAUNCH_FAILED: JobNodeFailure,
    JobState.RECONFIG_FAIL: JobNodeFailure,
    JobState.PREEMPTED: JobPreempted,
    JobState.CANCELLED: JobCancelled,
    JobState.REVOKED: JobCancelled,
}

OF_CONNECTION = (AuthenticationFailed, HostNotFound, TLSFailed, ServerUnreachable)
"""Errors that concern a connection as a whole, so that it is of no use to try the next job with it."""
