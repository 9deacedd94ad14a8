"""The points of a sweep as one job array: each element gets the values of its point as variables.

The values stand in the script, one line for each element, so they need no file on the cluster, and a retry finds the
same ones.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from firecrest_core.errors import InvalidJobSpec
from firecrest_core.hidden_values import looks_secret
from firecrest_core.spec import shell
from firecrest_core.spec.jobspec import JobSpec

ARRAY_SIZE = 1000
"""Elements of one array. Slurm's own ``MaxArraySize`` is 1001, so 1000 is the largest index."""

LARGEST_TABLE = 512 * 1024
"""Characters of all values. Slurm takes scripts of 4 MiB (``max_script_size``), and gateways often 1 MiB."""

Point = Mapping[str, Any]

_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_SCHEDULERS = ("SLURM", "SBATCH", "PBS")


def over_points(spec: JobSpec, points: Sequence[Point]) -> JobSpec:
    """Return an array with an element for each point, in their order from index 0.

    :param spec: what each element runs; it reads the values of its point from variables of their names
    :param points: for each element its values by name. A text is the variable's value as it is, anything else is its
        JSON: ``3``, ``0.1``, ``true``, ``[1, 2]``
    :raises InvalidJobSpec: there are no points or too many, a name cannot be a variable or is that of a secret, a value
        is no JSON, or the job is an array already
    """
    check_points(points)
    check_element(is_array=spec.array_indices is not None, has_script_path=spec.script_path is not None)
    cases = [f"{index}) {_exports(point)} ;;" for index, point in enumerate(points)]
    lines = [
        "# The values of this element's point.",
        "case ${SLURM_ARRAY_TASK_ID-${PBS_ARRAY_INDEX-}} in",
        *cases,
        '*) echo "firecrest: this array has no such element" >&2; exit 1 ;;',
        "esac",
    ]
    if sum(map(len, lines)) > LARGEST_TABLE:
        raise InvalidJobSpec(
            "over", "the values are more than 512 KiB; let each element read large ones from files of its own"
        )
    return replace(spec, array=f"0-{len(points) - 1}", setup=(*lines, *spec.setup))


def check_element(*, is_array: bool, has_script_path: bool) -> None:
    """Refuse what cannot be run by each element.

    :param is_array: the job is an array of its own
    :param has_script_path: its script is a file on the system
    :raises InvalidJobSpec: one of them
    """
    if is_array:
        raise InvalidJobSpec("array", "each point is an element of an array already; leave it out")
    if has_script_path:
        raise InvalidJobSpec("script_path", "nothing can be added to it, so no element would get its values")


def check_points(points: Any) -> None:
    """Refuse what cannot be the points of one array.

    :param points: as for :func:`over_points`
    :raises InvalidJobSpec: as there
    """
    _check_list(points)
    if len(points) > ARRAY_SIZE:
        raise InvalidJobSpec(
            "over", f"{len(points)} points are too many for one array, which has {ARRAY_SIZE} elements at most"
        )
    for number, point in enumerate(points):
        if not isinstance(point, Mapping) or not point:
            raise InvalidJobSpec("over", f"point {number} is {point!r}; a mapping of names to values is needed")
        for name, value in point.items():
            if not isinstance(name, str) or not _NAME.fullmatch(name) or name.startswith(_SCHEDULERS):
                raise InvalidJobSpec("over", f"point {number}: {name!r} cannot be the name of a variable of the job")
            if looks_secret(name, _text(number, name, value)):
                raise InvalidJobSpec(
                    "over",
                    f"point {number}: {name} looks like a secret, and points stand in the script; put it into "
                    "environment",
                )
        if point.keys() != points[0].keys():
            here, first = (", ".join(names) for names in (point, points[0]))
            raise InvalidJobSpec(
                "over", f"point {number} has the names {here}, and point 0 has {first}; all points need the same names"
            )


def in_arrays(points: Sequence[Point], size: int = ARRAY_SIZE) -> list[list[Point]]:
    """Return points in as few parts as arrays of a size need, each about as large as the others.

    :param points: the points
    :param size: the most elements of an array; one less than the site's ``MaxArraySize``
    :returns: the parts in their order
    :raises InvalidJobSpec: there are no points
    """
    _check_list(points)
    parts = -(-len(points) // size)
    bounds = [len(points) * part // parts for part in range(parts + 1)]
    return [list(points[begin:end]) for begin, end in itertools.pairwise(bounds)]


def _check_list(points: Any) -> None:
    if not isinstance(points, Sequence) or isinstance(points, str) or not points:
        raise InvalidJobSpec("over", "give a list with a mapping of values for each element, such as [{'SEED': 1}]")


def _exports(point: Point) -> str:
    return "export " + " ".join(f"{name}={shell.quote(_text(0, name, value))}" for name, value in point.items())


def _text(number: int, name: str, value: Any) -> str:
    if isinstance(value, str):
        text = value
    else:
        try:
            text = json.dumps(value)
        except (TypeError, ValueError):
            raise InvalidJobSpec("over", f"point {number}: {name} is {value!r}, which is no JSON") from None
    if "\0" in text:
        raise InvalidJobSpec("over", f"point {number}: {name} holds a NUL character")
    return text
