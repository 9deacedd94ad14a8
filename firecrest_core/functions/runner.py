"""Run a pickled function on a compute node, and leave what it returned or raised in a file.

The text of this file is a part of the job's script, and nothing else of this package is there. Python 3.6 can read it,
because what a cluster calls ``python3`` may be old, and this program is what says so.
"""

import asyncio
import base64
import hashlib
import hmac
import inspect
import json
import linecache
import os
import pickle
import platform
import re
import sys
import traceback
import types
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, NoReturn


class Order(NamedTuple):
    """What is to run, and how.

    :param name: the function's name
    :param python: the version of the Python that pickled the call
    :param needed: for each module its name, or ``None`` for a package that was named; the distribution, its version,
        and whether another version is an error
    :param source: the function's file, the number of its first line, and its lines
    :param call: the pickle, compressed and in base64; ``None`` if it is in ``call_file``
    :param call_file: absolute path of the pickle
    :param sha256: that of the pickle
    :param elements: how many elements of an array call the function; ``None`` if it is called once
    :param directory: where the result goes
    :param key: what the result is signed with, in hexadecimal
    :param cloudpickle: the source of that module, compressed and in base64
    """

    name: str
    python: str
    needed: "list[tuple[str | None, str | None, str | None, bool]]"
    source: "tuple[str, int, str] | None"
    call: "str | None"
    call_file: str
    sha256: str
    elements: "int | None"
    directory: str
    key: str
    cloudpickle: str


class _Refused(Exception):
    """The function cannot run here, or its result cannot leave."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def main(order: Order) -> None:
    """Run the function of an order, and end the process unless it returned: with exit code 1.

    :param order: what to run
    """
    # multiprocessing would look for the file of this program, which came by the standard input.
    vars(sys.modules["__main__"]).pop("__file__", None)
    try:
        _check_python(order)
        content = _content(order)
        dumps = _provide_cloudpickle(order)
        function, args, kwargs = _load(content, order, _compare_packages(order))
        body = _dump(_call(order, function, args, kwargs, dumps), order, dumps)
    except _Refused as refusal:
        _leave(order, {"kind": refusal.kind, "text": str(refusal)})
        sys.exit(f"firecrest: {refusal}")
    _leave(order, {"kind": "returned"}, body)


def _where() -> str:
    return f"{sys.executable} on {platform.node()}"


def _check_python(order: Order) -> None:
    here = platform.python_version()
    if here.split(".")[:2] != order.python.split(".")[:2]:
        raise _Refused(
            "VersionMismatch",
            f"{order.name} was pickled by Python {order.python}, and {_where()} is Python {here}, so it did not run: "
            "functions are exchanged between equal minor versions alone. Name another interpreter (python=...), or "
            "load another environment.",
        )


def _content(order: Order) -> bytes:
    if order.call is not None:
        return zlib.decompress(base64.b64decode(order.call))
    try:
        content = Path(order.call_file).read_bytes()
    except OSError as error:
        raise _Refused("PickleFailed", f"the call of {order.name} cannot be read: {error}") from None
    # Whoever else may write there could let this job run something else.
    if hashlib.sha256(content).hexdigest() != order.sha256:
        raise _Refused("PickleFailed", f"{order.call_file} is not what was sent, so {order.name} did not run.")
    return content


def _provide_cloudpickle(order: Order) -> "Callable[[object], bytes]":
    """Make a module of the source that was sent, so that both sides have the same."""
    package, module = types.ModuleType("cloudpickle"), types.ModuleType("cloudpickle.cloudpickle")
    sys.modules[package.__name__], sys.modules[module.__name__] = package, module
    text = zlib.decompress(base64.b64decode(order.cloudpickle)).decode()
    exec(compile(text, "cloudpickle.py", "exec"), module.__dict__)
    package.__dict__.update({name: value for name, value in vars(module).items() if not name.startswith("__")})
    package.__dict__.update(__path__=[], cloudpickle=module)
    return module.dumps  # type: ignore[no-any-return]


def _compare_packages(order: Order) -> "list[str]":
    """Return how packages differ, and say so in the job's output."""
    from importlib import metadata

    differences = []
    for name, distribution, version, exact in order.needed:
        if name is not None and find_spec(name) is None:
            installed = f" ({distribution} {version})" if distribution else ""
            raise _Refused(
                "VersionMismatch",
                f"{order.name} uses the module {name}{installed}, which {_where()} does not have, so it did not run. "
                "Install it there, or load an environment that has it.",
            )
        if distribution is None:
            continue
        try:
            found = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            found = "missing"
        if found != version:
            differences.append(
                f"{distribution} is {version} where {order.name} was pickled, and {found} for {_where()}"
            )
            if exact:
                raise _Refused("VersionMismatch", f"{differences[-1]}, so it did not run.")
    for line in differences:
        sys.stderr.write(f"firecrest: {line}\n")
    return differences


def _load(content: bytes, order: Order, differences: "list[str]") -> Any:
    try:
        function, arguments, places, elements = pickle.loads(content)
        args, kwargs = pickle.loads(arguments)
        if order.elements is not None:
            args = list(args)
            values = pickle.loads(elements[_index()])
            for number, place in enumerate(places):
                (args if isinstance(place, int) else kwargs)[place] = values[number]
    except Exception as error:
        problem = f"{order.name} cannot be unpickled by {_where()}: {type(error).__name__}: {error}."
        raise _Refused("PickleFailed", " ".join([problem, *(f"{line}." for line in differences)])) from None
    if order.source is not None:  # so that tracebacks show its lines; cloudpickle may leave out the name of its file
        path, first, text = order.source
        function.__code__ = function.__code__.replace(co_filename=path)
        linecache.cache[path] = (len(text), None, ["\n"] * (first - 1) + text.splitlines(True), path)
    _provide_module(function)
    return function, args, kwargs


def _provide_module(function: Any) -> None:
    """Let processes that are forked from this one find what was sent of the function's module by its name."""
    name = function.__module__
    if name not in sys.modules:
        module = sys.modules[name] = types.ModuleType(name)
        vars(module).update(function.__globals__, **{function.__name__: function})
        sys.modules["cloudpickle"].register_pickle_by_value(module)  # the other side has another one


def _call(order: Order, function: Any, args: Any, kwargs: Any, dumps: "Callable[[object], bytes]") -> Any:
    try:
        value = function(*args, **kwargs)
        return asyncio.run(value) if inspect.iscoroutine(value) else value
    except BaseException as error:
        _end_with(order, error, dumps)


def _end_with(order: Order, error: BaseException, dumps: "Callable[[object], bytes]") -> NoReturn:
    below = error.__traceback__ and error.__traceback__.tb_next  # without this program's own frame
    text = "".join(traceback.format_exception(type(error), error, below))
    sys.stdout.flush()
    sys.stderr.write(text)
    summary = traceback.format_exception_only(type(error), error)[-1].strip()
    body = b""
    if isinstance(error, Exception):  # the others end a process
        try:
            body = dumps(error)
            pickle.loads(body)
        except Exception:
            body = b""
    _leave(order, {"kind": "raised", "text": text, "summary": summary}, body)
    sys.exit(1)


def _dump(value: object, order: Order, dumps: "Callable[[object], bytes]") -> bytes:
    try:
        return dumps(value)
    except Exception as error:
        raise _Refused(
            "PickleFailed",
            f"{order.name} returned a {type(value).__name__} that cannot be pickled: {type(error).__name__}: {error}. "
            "Let it return plain values, or write a file.",
        ) from None


def _index() -> int:
    """Return the index of this element; an array of one element is a plain job."""
    return int(os.environ.get("SLURM_ARRAY_TASK_ID") or os.environ.get("PBS_ARRAY_INDEX") or 0)


def _job_id() -> str:
    """Return the id of this job, which is that of the whole array."""
    names = "SLURM_ARRAY_JOB_ID", "SLURM_JOB_ID", "PBS_ARRAY_ID", "PBS_JOBID"
    return re.sub("[^0-9].*", "", next(filter(None, map(os.environ.get, names)), ""))


def _leave(order: Order, header: "dict[str, str]", body: bytes = b"") -> None:
    """Write the file, which nobody else may read and which appears when it is complete."""
    directory, label = Path(order.directory), _job_id()
    final = directory / f"result-{label}"
    if order.elements is not None:
        label += f"_{_index()}"
        # No listing of the claims shows what is in a hidden directory.
        final = directory / ".results" / label
        final.parent.mkdir(0o700, exist_ok=True)
    content = json.dumps(header).encode() + b"\n" + body
    signed = hmac.new(bytes.fromhex(order.key), f"{label}\n".encode() + content, hashlib.sha256)
    # Not beside the claim: what vanishes while the claims are listed would break the listing.
    new = directory.parent / f".result-{directory.name}-{label}"
    if os.path.lexists(str(new)):
        new.unlink()
    with os.fdopen(os.open(str(new), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(signed.hexdigest().encode() + b"\n" + content)
        file.flush()
        os.fsync(file.fileno())
    new.rename(final)
