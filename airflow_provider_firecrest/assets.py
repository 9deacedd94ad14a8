"""Files that were copied, as Airflow's assets: what outlets say of them, and what lineage tools hear.

A file on a system is the asset ``firecrest://<system>/<path>``. One on Airflow's side has the URI by which
``ObjectStoragePath`` opens it, or ``file://`` and its absolute path.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

if TYPE_CHECKING:
    from airflow.sdk import Asset, BaseHook, Context

    from firecrest_core.transfer import Transferred

SCHEME = "firecrest"

# Files that an event of a single outlet names. Airflow keeps events for ever.
_MOST = 20
# Characters of an asset's URI that Airflow's database takes.
_LONGEST = 1500


@dataclass(frozen=True)
class Copied:
    """A file or directory that was copied between Airflow's side and a system.

    :param system: the system
    :param file: what was copied
    :param fetched: it came from the system; ``False`` if it went there
    """

    system: str
    file: Transferred
    fetched: bool

    @property
    def remote(self) -> str:
        """The URI of the file on the system."""
        return remote_uri(self.system, self.file.remote)

    @property
    def local(self) -> str:
        """The URI of the file on Airflow's side."""
        return local_uri(self.file.local)

    @property
    def target(self) -> str:
        """The URI of what was made."""
        return self.local if self.fetched else self.remote

    def facts(self) -> dict[str, Any]:
        """Return what an asset event says of it, in JSON types."""
        facts = {"system": self.system, "remote": self.file.remote, "size": self.file.size}
        return facts | ({"sha256": self.file.sha256} if self.file.sha256 else {})


def remote_uri(system: str, path: str) -> str:
    """Return the URI of a file on a system.

    :param system: the system
    :param path: the file's absolute path there
    """
    return f"{SCHEME}://{system}{quote(path)}"


def local_uri(path: str) -> str:
    """Return the URI of a file on Airflow's side, without the connection that a URL names.

    :param path: a local path, or the URL of an object store
    """
    if "://" not in path:
        return f"file://{quote(str(Path(path).absolute()))}"
    scheme, _, rest = path.partition("://")
    store, slash, key = rest.partition("/")
    return f"{scheme}://{store.rpartition('@')[2]}{slash}{quote(key)}"


def tell_outlets(
    outlets: Sequence[Any], context: Context, copied: Iterable[Copied], job: dict[str, Any] | None = None
) -> None:
    """Say in the events of a task's outlets what was copied, so that a DAG that they start finds it.

    An outlet that is one of the files, or is inside of a directory that was copied, gets that one's facts. Any other
    asset gets the facts of all files (``files``), and an alias gets an event for each file.

    :param outlets: the task's
    :param context: the task's
    :param copied: what was copied
    :param job: what to say of the job beside them
    """
    if not outlets:
        return
    from airflow.sdk import Asset, AssetAlias

    every = list(copied)
    about_job = job or {}
    events: Any = context["outlet_events"]
    for outlet in outlets:
        if isinstance(outlet, AssetAlias):
            for one in every:
                if len(one.target) <= _LONGEST:
                    events[outlet].add(Asset(one.target), extra=about_job | one.facts())
            continue
        own = next((one for one in every if isinstance(outlet, Asset) and _is_in(outlet.uri, one)), None)
        files = {"files": [one.facts() for one in every[:_MOST]]} if every else {}
        events[outlet].extra.update(about_job | (own.facts() if own else files))


def _is_in(uri: str, one: Copied) -> bool:
    wanted = unquote(uri).rstrip("/")
    target = unquote(one.target).rstrip("/")
    return wanted == target or (one.file.sha256 is None and wanted.startswith(f"{target}/"))


def report_lineage(hook: BaseHook, copied: Iterable[Copied]) -> None:
    """Tell Airflow's lineage collector what was copied. It listens if somebody reads it, as OpenLineage's provider.

    :param hook: the hook that copied it
    :param copied: what was copied
    """
    for one in copied:
        source, target = (one.remote, one.local) if one.fetched else (one.local, one.remote)
        _collect(hook, inputs=[source], outputs=[target])


def report_job_lineage(hook: BaseHook, sources: Iterable[str], fetched: Iterable[Copied]) -> None:
    """Tell Airflow's lineage collector what a job has read and made, as far as the task knows it.

    :param hook: the hook with which the job was run
    :param sources: paths on Airflow's side of what was sent before
    :param fetched: what was fetched afterwards
    """
    made = [uri for one in fetched for uri in (one.remote, one.local)]
    _collect(hook, inputs=map(local_uri, sources), outputs=made)


def _collect(hook: BaseHook, *, inputs: Iterable[str], outputs: Iterable[str]) -> None:
    from airflow.sdk.lineage import get_hook_lineage_collector

    collector = get_hook_lineage_collector()
    for uri in inputs:
        if len(uri) <= _LONGEST:
            collector.add_input_asset(context=hook, uri=uri)
    for uri in outputs:
        if len(uri) <= _LONGEST:
            collector.add_output_asset(context=hook, uri=uri)


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Check the URI of an asset, as Airflow asks for each one that a DAG declares.

    :param uri: the URI, in its parts
    :raises ValueError: it names no system or no file
    """
    if not uri.netloc or not uri.path.strip("/"):
        raise ValueError(f"URI format {SCHEME}://<system>/<path> must contain the name of a system and a path.")
    return uri


def to_openlineage(asset: Asset, lineage_context: Any) -> Any:
    """Return the OpenLineage dataset of an asset.

    :param asset: a file on a system
    :param lineage_context: the hook that copied it; the asset says all itself
    """
    from airflow.providers.common.compat.openlineage.facet import Dataset

    parts = urlsplit(asset.uri)
    return Dataset(namespace=f"{SCHEME}://{parts.netloc}", name=unquote(parts.path))
