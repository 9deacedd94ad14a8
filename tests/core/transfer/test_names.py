"""Names that break the server's shell lines and templates."""

from pathlib import Path

import pytest

from firecrest_core.errors import InvalidFileName
from firecrest_core.transfer import check_downloads, check_uploads, names, plain_files


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


@pytest.mark.parametrize("name", ["a.txt", "ü", "a b"])
def test_survives_multipart(name: str) -> None:
    assert names.survives_multipart(name)


@pytest.mark.parametrize("name", ['a".txt', "a\\b"])
def test_does_not_survive_multipart(name: str) -> None:
    assert not names.survives_multipart(name)


@pytest.mark.parametrize("second", ["/p2/r.out", "/p2/r.out/", "r.out"])
def test_two_files_of_one_name(second: str) -> None:
    with pytest.raises(InvalidFileName, match=r"/p1/r\.out and .* would both become r\.out in results/\."):
        check_downloads(plain_files(["/p1/r.out", "/p1/log", second]), "results/")


def test_one_file_twice() -> None:
    check_downloads(plain_files(["/p1/r.out", "/p1/r.out", "/p1/log"]), "results/")


def test_two_local_files_of_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidFileName, match="would both become in.txt in /wd"):
        check_uploads([tmp_path / "a" / "in.txt", "b/in.txt"], "/wd")
    with pytest.raises(InvalidFileName, match=f"would both become {tmp_path.name} in /wd"):
        check_uploads([".", tmp_path], "/wd")
    check_uploads(["a", "b"], "/wd")
