# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories and files as they are described. What belongs to another group takes root, as on a host."""

from __future__ import annotations

import getpass
import grp
import os
import stat
import typing as t
from pathlib import Path

import pytest

from ansible_collections.trinode.platform.plugins.module_utils._host import placement
from ansible_collections.trinode.platform.plugins.module_utils._host.placement import Place, PlacementError

ME, MY_GROUP = getpass.getuser(), grp.getgrgid(os.getgid()).gr_name


def place(path: Path, mode: int = 0o644, **other: t.Any) -> Place:
    return Place(str(path), **{"owner": ME, "group": MY_GROUP, "mode": mode, **other})


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture(autouse=True)
def fixture_umask() -> t.Iterator[None]:
    """A connection whose umask would make everything unreadable for a service."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_a_directory_is_made_and_put_right(tmp_path: Path) -> None:
    outer, inner = place(tmp_path / "etc", 0o755), place(tmp_path / "etc" / "tls", 0o2750)
    assert placement.put_directory(outer, check=True)
    assert not (tmp_path / "etc").exists(), "a check makes nothing"
    for one in (outer, inner):
        assert placement.put_directory(one)
        assert not placement.put_directory(one), "the second time there is nothing to do"
    assert (mode_of(tmp_path / "etc"), mode_of(tmp_path / "etc" / "tls")) == (0o755, 0o2750), "whatever the umask is"
    (tmp_path / "etc").chmod(0o700)
    assert placement.put_directory(outer, check=True)
    assert placement.put_directory(outer)
    assert mode_of(tmp_path / "etc") == 0o755


def test_a_directory_may_lie_on_another_disk(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir(mode=0o755)
    (tmp_path / "disk").chmod(0o755)
    (tmp_path / "data").symlink_to("disk")
    assert not placement.put_directory(place(tmp_path / "data", 0o755))
    assert (tmp_path / "data").is_symlink()


@pytest.mark.parametrize("put", [placement.put_directory, lambda one: placement.put_file(one, "x")])
def test_what_is_something_else_stays(tmp_path: Path, put: t.Callable[[Place], bool]) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "directory").mkdir()
    wrong = "file" if put is placement.put_directory else "directory"
    with pytest.raises(PlacementError, match=f"{tmp_path / wrong} is there and is .*; move it away and run again"):
        put(place(tmp_path / wrong))
    assert (tmp_path / "file").read_text() == "mine"


def test_a_file_is_written_and_put_right(tmp_path: Path) -> None:
    path = tmp_path / "a"
    wanted = place(path, 0o640)
    assert placement.put_file(wanted, "ä\n", check=True)
    assert not path.exists(), "a check writes nothing"
    assert placement.put_file(wanted, "ä\n")
    assert (path.read_text(encoding="utf-8"), mode_of(path)) == ("ä\n", 0o640)
    assert not placement.put_file(wanted, "ä\n")
    before = path.stat().st_ino
    assert placement.put_file(wanted, "ö\n")
    assert path.stat().st_ino != before, "replaced, never written into"
    path.chmod(0o644)
    assert placement.put_file(wanted, "ö\n", check=True)
    assert mode_of(path) == 0o644
    assert placement.put_file(wanted, "ö\n")
    assert mode_of(path) == 0o640
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"], "no temporary file stays"


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("theirs")
    (tmp_path / "a").symlink_to("elsewhere")
    assert placement.put_file(place(tmp_path / "a"), "mine")
    assert not (tmp_path / "a").is_symlink()
    assert (tmp_path / "elsewhere").read_text() == "theirs"


def test_a_file_that_is_no_text_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xff\xfe\x00")
    assert placement.put_file(place(tmp_path / "a"), "text")
    assert (tmp_path / "a").read_text() == "text"


def test_nobody_makes_a_directory_on_the_way(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        placement.put_file(place(tmp_path / "missing" / "a"), "x")
    assert error.value.filename == str(tmp_path / "missing")


@pytest.mark.parametrize("stranger", [{"owner": "no-such-user"}, {"group": "no-such-group"}])
def test_somebody_who_is_not_there(tmp_path: Path, stranger: dict[str, str]) -> None:
    one = place(tmp_path / "a", **stranger)
    for put in (placement.put_directory, lambda one, check=False: placement.put_file(one, "x", check=check)):
        assert put(one, check=True), "on a bare host, a check comes before the user"
        with pytest.raises(PlacementError, match=f"{tmp_path / 'a'} is for the user .*, and there is none; create them first"):
            put(one)
    assert not (tmp_path / "a").exists()


# The kernel lets nobody else change an owner (chown(2), CAP_CHOWN), and a stand-in for it would show nothing. CI runs as root, and so skips nothing.
@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_owner_and_group_are_put_right(tmp_path: Path) -> None:
    path = tmp_path / "a"
    assert placement.put_file(place(path, 0o640, group="daemon"), "x")
    assert path.stat().st_gid == grp.getgrnam("daemon").gr_gid
    assert placement.put_file(place(path, 0o640, owner="daemon", group="daemon"), "x")
    assert path.owner() == "daemon"
    assert not placement.put_file(place(path, 0o640, owner="daemon", group="daemon"), "x")


@pytest.mark.parametrize("mode", ["rw-r--r--", "0888", "-1", "100000", ""])
def test_a_mode_that_is_none(mode: str) -> None:
    with pytest.raises(PlacementError, match=f'^/a: the mode is "{mode}"; write four octal digits'):
        Place.of({"path": "/a", "owner": "root", "group": "root", "mode": mode})


def test_what_is_too_much(tmp_path: Path) -> None:
    library = tmp_path / "lib"
    (library / "package" / "__pycache__").mkdir(parents=True)
    (library / "old" / "deep").mkdir(parents=True)
    for name in ("package/a.py", "package/b.py", "package/__pycache__/a.pyc", "old/deep/x"):
        (library / name).touch()
    (library / "link").symlink_to("package")
    wanted = {str(library / "package"), str(library / "package" / "a.py")}
    unwanted = placement.surplus([str(library), str(tmp_path / "missing")], wanted)
    assert unwanted == [str(library / name) for name in ("link", "old", "package/__pycache__", "package/b.py")]
    for path in unwanted:
        assert placement.remove(path, check=True)
        assert os.path.lexists(path)
        assert placement.remove(path)
        assert not placement.remove(path)
    assert sorted(str(path.relative_to(library)) for path in library.rglob("*")) == ["package", "package/a.py"]
