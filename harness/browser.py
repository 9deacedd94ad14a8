"""A headless Chromium, for tests and screenshots of the user interfaces."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> str | None:
    """Find the Chromium that the variable CHROMIUM names, or the one in PATH."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


@contextmanager
def browser() -> Iterator[Browser]:
    """Start a Chromium and stop it.

    :raises RuntimeError: there is no Chromium
    """
    executable = chromium()
    if not executable:
        raise RuntimeError("no Chromium: install one, or name it in CHROMIUM")
    with sync_playwright() as playwright:
        chrome = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield chrome
        chrome.close()
