"""What the site shows of the repository beside docs/: pages of the root, and the files that pages link to.

In the repository, links lead to files, as GitHub and editors show them. In the site they lead to these pages.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
PAGES = {
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "tests/README.md": "tests.md",
}
REPOSITORY_PATHS = {page: file for file, page in PAGES.items()}
FILES = ["LICENSE", *(str(path.relative_to(ROOT)) for path in ROOT.glob("example_*/*.py"))]
# Docstrings name code as Sphinx does, :class:`~package.module.Name`.
_ROLE = re.compile(r":\w+:<code>(?:~[\w.]*\.)?(\w[^<]*)</code>")
_LINK = re.compile(r"(?<!!)\[(?P<text>[^]]*)\]\((?P<target>[^)\s]+)\)|(?<=\]\()(?P<image>[^)\s]+)(?=\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add pages and files of the repository."""
    for file, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / file).read_text()))
    for file in FILES:
        files.append(File.generated(config, f"source/{file}", abs_src_path=str(ROOT / file)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let the links of a page lead to where the site has their targets."""
    here = page.file.src_uri
    origin = posixpath.dirname(REPOSITORY_PATHS.get(here, f"docs/{here}"))

    def moved(link: str) -> str | None:
        path, mark, anchor = link.partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return link
        target = posixpath.normpath(posixpath.join(origin, path))
        if (ROOT / target).is_dir():
            return None
        uri = PAGES.get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else f"source/{target}")
        return posixpath.relpath(uri, posixpath.dirname(here) or ".") + mark + anchor

    def link(found: re.Match[str]) -> str:
        if found["image"]:
            return moved(found["image"]) or found["image"]
        target = moved(found["target"])
        return found["text"] if target is None else f"[{found['text']}]({target})"

    return _LINK.sub(link, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Show the names in docstrings without Sphinx's roles."""
    return _ROLE.sub(r"<code>\1</code>", html)
