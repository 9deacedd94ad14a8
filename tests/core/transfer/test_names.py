"""Names that break the server's shell lines and templates."""

import pytest

from firecrest_core.errors import InvalidFileName
from firecrest_core.transfer import names


@pytest.mark.parametrize("path", ["/a/it's", "/it's/a", "/a/new\nline", "/a/tab\t", "/a/\x00", "", "  "])
def test_refused(path: str) -> None:
    with pytest.raises(InvalidFileName):
        names.check(path)


@pytest.mark.parametrize("path", ["/a/b.txt", "/a/with space", "/a/ü", "/a/a&b", '/a/a"b', "/a/$HOME", "/a/`id`"])
def test_taken(path: str) -> None:
    assert names.check(path) == path


@pytest.mark.parametrize("path", ["/a/b-1_2.tar.gz", "/a/ångström.dat", "/a/t=0.1,x+y@z:1"])
def test_plain(path: str) -> None:
    assert names.plain(path)


@pytest.mark.parametrize("character", list(" &<>\"'$`\\;*?()[]{}|~!#\t"))
def test_not_plain(character: str) -> None:
    assert not names.plain(f"/a/b{character}c")


@pytest.mark.parametrize(
    ("path", "parts"), [("/a/b", ("/a", "b")), ("/a/b/", ("/a", "b")), ("/a", ("/", "a")), ("/", ("/", ""))]
)
def test_split(path: str, parts: tuple[str, str]) -> None:
    assert names.split(path) == parts
