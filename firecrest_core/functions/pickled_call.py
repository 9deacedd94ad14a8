"""The call of a function, pickled here for a Python elsewhere.

The function goes by value, with all that its own module defines: a DAG's file is no module on the cluster. What it uses
of other modules goes by their names, so these have to be there.
"""

from __future__ import annotations

import inspect
import io
import platform
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import metadata
from types import ModuleType
from typing import Any

from firecrest_core.errors import ConfigurationError, InvalidJobSpec, PickleFailed
from firecrest_core.functions.over import SplitCall

# Which modules go by value is known to all of the process.
_by_value = threading.Lock()

# Where the node has these modules from is not asked: they are Python's, or sent along.
_EVERYWHERE = sys.stdlib_module_names | {"__main__", "cloudpickle"}


@dataclass(frozen=True, slots=True)
class NeededModule:
    """A module that has to be where the function runs.

    :param name: its top-level name, such as ``numpy``
    :param distribution: the name of the distribution that brings it here; ``None`` for a module of one's own
    :param version: the distribution's version here
    :param exact: another version there is an error, and not only a warning
    """

    name: str | None
    distribution: str | None
    version: str | None
    exact: bool = False


@dataclass(frozen=True, slots=True)
class PickledCall:
    """A function and its arguments.

    :param name: the function's name
    :param content: the pickle of the function, and of the pickles of its arguments: those that are the same for all
        elements of an array, where each element puts its own, and these for each element
    :param digest: equal only for the same function with the same arguments; the pickle may differ from one process to
        the next
    :param needed: what has to be there
    :param source: the function's file, the number of its first line, and its lines, for tracebacks
    :param elements: how many elements of an array call the function; ``None`` if it is called once
    """

    name: str
    content: bytes = field(repr=False)
    digest: str
    needed: tuple[NeededModule, ...]
    source: tuple[str, int, str] | None = field(repr=False)
    elements: int | None = None

    @property
    def python(self) -> str:
        """The version of the Python that pickled it, such as ``3.11.7``."""
        return platform.python_version()


def check_function(function: Callable[..., Any]) -> None:
    """Refuse what cannot run as a job, before anything is pickled.

    :param function: the function
    :raises InvalidJobSpec: it is no function, or a generator
    """
    if not inspect.isfunction(function):
        raise InvalidJobSpec("function", f"{function!r} is no function that def or lambda has made")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidJobSpec(
            "function", f"{function.__name__} is a generator, and a job returns one value; let it return a list"
        )


def check_packages(packages: Sequence[str]) -> None:
    """Refuse packages that are not installed here, whose version the job's Python could not be compared with.

    :param packages: names of distributions
    :raises ConfigurationError: one is not installed here, or they are no list of names
    """
    if isinstance(packages, str) or not all(isinstance(name, str) for name in packages):
        raise ConfigurationError(f"packages: give a list of names such as ['numpy'], not {packages!r}")
    for name in packages:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            raise ConfigurationError(
                f"packages: {name} is not installed here, so there is no version to compare with that on the system. "
                "Install it, or leave it out."
            ) from None


def pickle_call(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    packages: Sequence[str] = (),
    over: Sequence[str] = (),
) -> PickledCall:
    """Pickle a function with its arguments.

    :param function: the function
    :param args: its positional arguments
    :param kwargs: its keyword arguments
    :param packages: names of distributions whose versions have to be the same where it runs
    :param over: names of its parameters of which each element of an array gets its own value, of a list of them
    :raises InvalidJobSpec: what is given for ``over`` cannot be the values of an array's elements
    :raises PickleFailed: it cannot be pickled; the message says what, as far as Python does
    :raises ConfigurationError: cloudpickle is not installed, or a package is not
    """
    check_packages(packages)
    split = SplitCall.of(function, args, kwargs, over)
    name = function.__name__
    try:
        source, first = inspect.getsourcelines(function)
    except (OSError, TypeError):
        source, first = [], 0
    with _own_module_by_value(function):
        arguments, modules = _dumps((split.args, dict(split.kwargs)), f"The arguments of {name}")
        elements = []
        for number, values in enumerate(split.elements):
            element, of_element = _dumps(values, f"The arguments of element {number} of {name}")
            elements.append(element)
            modules |= of_element
        whole = function, arguments, split.places, elements
        content, of_function = _dumps(whole, f"The function {name}, or what it uses,")
    code = "".join(source).encode() or function.__code__.co_code
    parts = (f"{function.__module__}.{function.__qualname__} {split.places}".encode(), code, arguments, *elements)
    digest = sha256(b"\n".join(parts))
    own = function.__module__.partition(".")[0]
    needed = [_needed(module) for module in sorted((modules | of_function) - _EVERYWHERE - {own})]
    exact = [NeededModule(None, one, metadata.version(one), exact=True) for one in packages]
    text = (inspect.getfile(function), first, "".join(source)) if source else None
    return PickledCall(name, content, digest.hexdigest(), (*exact, *needed), text, len(elements) if over else None)


@contextmanager
def _own_module_by_value(function: Callable[..., Any]) -> Iterator[None]:
    cloudpickle = import_cloudpickle()
    module = sys.modules.get(function.__module__)
    with _by_value:
        registers = module is not None and module.__name__ not in cloudpickle.list_registry_pickle_by_value()
        if registers:
            cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            if registers:
                cloudpickle.unregister_pickle_by_value(module)


def import_cloudpickle() -> Any:
    """Return the module, which an extra of this distribution installs.

    :raises ConfigurationError: it is not installed
    """
    try:
        import cloudpickle.cloudpickle
    except ImportError:
        raise ConfigurationError(
            "Functions as jobs need cloudpickle here: pip install 'firecrest-workflows[functions]'."
        ) from None
    return cloudpickle.cloudpickle


def _dumps(what: Any, words: str) -> tuple[bytes, set[str]]:
    """Return the pickle, and the top-level names of the modules that it refers to."""
    modules: set[str] = set()

    class Pickler(import_cloudpickle().Pickler):  # type: ignore[misc]  # its base is found when it is needed
        def reducer_override(self, obj: Any) -> Any:
            reduced = super().reducer_override(obj)
            if isinstance(obj, ModuleType):
                modules.add(obj.__name__.partition(".")[0])
            elif reduced is NotImplemented:  # by the name of its module, or of its type's
                owner = obj if hasattr(obj, "__qualname__") else type(obj)
                modules.add(str(getattr(owner, "__module__", None) or "builtins").partition(".")[0])
            return reduced

    file = io.BytesIO()
    try:
        Pickler(file).dump(what)
    except Exception as error:  # whatever an object's own methods raise
        raise PickleFailed(
            f"{words} cannot be pickled: {type(error).__name__}: {error}. What the job needs has to be made in the "
            "function itself (open files, connections, locks), or passed as plain values."
        ) from None
    return file.getvalue(), modules


def _needed(module: str) -> NeededModule:
    try:
        return NeededModule(module, module, metadata.version(module))
    except metadata.PackageNotFoundError:
        distribution = next(iter(metadata.packages_distributions().get(module, ())), None)
        return NeededModule(module, distribution, distribution and metadata.version(distribution))
