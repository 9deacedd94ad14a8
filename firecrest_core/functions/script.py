"""The script of a function's job: a program for Python that holds the call."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from firecrest_core import transfer
from firecrest_core.api.client import System
from firecrest_core.errors import InvalidJobSpec
from firecrest_core.functions import runner
from firecrest_core.functions.pickled_call import PickledCall, import_cloudpickle
from firecrest_core.functions.result_place import ResultPlace
from firecrest_core.hidden_values import hide_value
from firecrest_core.spec.jobspec import JobSpec

LARGEST_IN_SCRIPT = 256 * 1024
"""Characters of a call. Slurm takes scripts of 4 MiB (``max_script_size``), and gateways often requests of 1 MiB."""

_END = "END_OF_PROGRAM"

_REFUSED = {
    "script": "it is the function that runs",
    "script_path": "it is the function that runs",
    "command": "it is the function that runs; call the program in it",
    "launcher": "a function is called in one process; let it start others",
    "container_runtime": "let python start the container: 'apptainer exec image.sif python3'",
    "array": "a function is called once, and not by each element; name a parameter in over, or map the task",
}
_REFUSED_OVER = {
    "chain": "it is for one call; map the task instead",
    "alternatives": "the elements of an array begin one by one, so none begins first; map the task instead",
}


def check_fields(given: Mapping[str, Any], *, over: bool = False) -> None:
    """Refuse what a job cannot have that runs a function.

    :param given: fields of a job by their names, and ``exactly_once``, ``chain`` and ``alternatives``
    :param over: each element of an array calls the function
    :raises InvalidJobSpec: one says what runs, or how often, or without a claim; or an array cannot have it
    """
    for field, problem in (_REFUSED | (_REFUSED_OVER if over else {})).items():
        if given.get(field) is not None:
            raise InvalidJobSpec(field, problem)
    alternatives = given.get("alternatives")
    if isinstance(alternatives, Sequence) and any("system" in one for one in alternatives if isinstance(one, Mapping)):
        raise InvalidJobSpec("alternatives", "the function's result is looked for on one system; leave out system")
    if given.get("exactly_once") is False:
        raise InvalidJobSpec("exactly_once", "the function's result is found by the job's claim")


def check_spec(spec: JobSpec) -> None:
    """Refuse what :func:`check_fields` refuses, in a job with what its preset says.

    :param spec: the job
    :raises InvalidJobSpec: one says how often the function is called
    """
    check_fields({"launcher": spec.launcher, "container_runtime": spec.container_runtime, "array": spec.array})


def check_python(python: str) -> None:
    """Refuse what cannot start an interpreter.

    :param python: as for :func:`function_spec`
    :raises InvalidJobSpec: it is no line of shell
    """
    if not isinstance(python, str) or not python.strip() or "\n" in python:
        raise InvalidJobSpec("python", f"{python!r} does not start an interpreter; give a line such as 'python3'")


def placeholder_command(python: str, name: str, digest: str = "") -> str:
    """Return what stands for the script in a job's specification until its task is known.

    :param python: as for :func:`function_spec`
    :param name: the function's name
    :param digest: that of the call
    """
    return f"{python}  # the function {name}" + (f", {digest}" if digest else "")


def function_spec(spec: JobSpec, call: PickledCall, place: ResultPlace, python: str) -> JobSpec:
    """Return the job that runs a function, an array if each of several elements calls it.

    :param spec: what else is asked of the scheduler; its script or command is replaced
    :param call: the function and its arguments
    :param place: where it leaves what it returns
    :param python: the line of shell that starts the interpreter, such as ``python3`` or ``$HOME/venv/bin/python``
    :raises InvalidJobSpec: the job is an array, or ``python`` is no line of shell
    """
    check_python(python)
    check_spec(spec)
    if spec.array_indices is not None:
        raise InvalidJobSpec("array", _REFUSED["array"])
    hide_value(place.key.hex())
    text = "\n".join(
        [
            "#!/bin/bash",
            f"# Runs the Python function {call.name}, which was pickled by Python {call.python}.",
            f"{python} -u - <<'{_END}'",
            _program(),
            f"main(Order(**json.loads({json.dumps(_order(call, place)._asdict())!r})))",
            _END,
            "",
        ]
    )
    # PBS has no array of one element.
    array = f"0-{call.elements - 1}" if call.elements is not None and call.elements > 1 else None
    return replace(spec, command=None, script_path=None, script=text, array=array)


def _order(call: PickledCall, place: ResultPlace) -> runner.Order:
    digest = sha256(call.content).hexdigest()
    return runner.Order(
        name=call.name,
        python=call.python,
        needed=[(one.name, one.distribution, one.version, one.exact) for one in call.needed],
        source=call.source,
        call=_in_script(call),
        call_file=place.call_file(digest),
        sha256=digest,
        elements=call.elements,
        directory=place.directory,
        key=place.key.hex(),
        cloudpickle=_cloudpickle(),
    )


async def send_call(system: System, spec: JobSpec, call: PickledCall, place: ResultPlace) -> None:
    """Send a call that is too large for the script; any other costs no request.

    :param system: where the job will run
    :param spec: the job
    :param call: the function and its arguments
    :param place: where the job will look for it
    :raises FirecRESTError: as :func:`firecrest_core.transfer.upload`
    """
    if _in_script(call) is not None:
        return
    target = place.call_file(sha256(call.content).hexdigest())
    await system.make_directory(place.directory)
    await system.chmod(place.directory, "700")
    with tempfile.TemporaryDirectory(prefix="firecrest-") as directory:
        here = Path(directory, "call")
        await asyncio.to_thread(here.write_bytes, call.content)
        await transfer.upload(system, here, target, exact=True, account=spec.account)


def _in_script(call: PickledCall) -> str | None:
    if len(call.content) > 16 * LARGEST_IN_SCRIPT:  # to compress it would take long, and hardly help
        return None
    encoded = base64.b64encode(zlib.compress(call.content)).decode()
    return encoded if len(encoded) <= LARGEST_IN_SCRIPT else None


@cache
def _program() -> str:
    return inspect.getsource(runner)


@cache
def _cloudpickle() -> str:
    """Return the module's source, so that the node needs none and both sides have the same."""
    return base64.b64encode(zlib.compress(inspect.getsource(import_cloudpickle()).encode(), 9)).decode()
