"""Paths on Airflow's side: local ones, and those of object stores that Airflow reads with its connections."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowFailException

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

    LocalPath = str | Path | ObjectStoragePath


def open_path(path: LocalPath) -> LocalPath:
    """Return a URL as a path that Airflow can open with its connections, and a local path without ``~``.

    :param path: a local path, perhaps from ``~``, the URL of an object store, or a path object
    :raises AirflowFailException: Airflow knows no such store
    """
    if isinstance(path, str) and "://" in path:
        from airflow.sdk import ObjectStoragePath

        try:
            stored = ObjectStoragePath(path)
            stored.fs  # noqa: B018  # Airflow looks for the store's file system here
        except ValueError as error:
            raise AirflowFailException(f"{path}: {error}. Install the Airflow provider of that store.") from None
        return stored

    from firecrest_core.transfer.localside import expand_home

    return expand_home(path)
