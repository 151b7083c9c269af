# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a host that can be put back."""

from __future__ import annotations

import errno
import os
import stat
import typing as t
from pathlib import Path

import pytest

from ansible_collections.trinode.platform.plugins.module_utils._host import hostfile
from ansible_collections.trinode.platform.plugins.module_utils._host.hostfile import MISSING, Entry


@pytest.mark.parametrize("entry", [Entry(text="a\r\nb", mode=0o640), Entry(text="\udcff"), Entry(link="../elsewhere"), MISSING])
def test_what_is_read_can_be_written_again(tmp_path: Path, entry: Entry) -> None:
    path = str(tmp_path / "etc" / "file")
    hostfile.write(path, entry)
    assert hostfile.read(path)[:2] == entry[:2]
    assert hostfile.same(path, entry)
    assert Entry.from_json(entry.to_json()) == entry
    if entry.text is not None:
        assert stat.S_IMODE(os.stat(path).st_mode) == entry.mode


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("old")
    link = tmp_path / "link"
    link.symlink_to("target")
    hostfile.write(str(link), Entry(text="new"))
    assert (target.read_text(), link.read_text(), link.is_symlink()) == ("old", "new", False)


def test_a_file_goes_away(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("text")
    hostfile.write(str(path), MISSING)
    hostfile.write(str(path), MISSING)
    assert not path.exists()


def _busy(*_arguments: t.Any) -> t.NoReturn:
    raise OSError(errno.EBUSY, "Device or resource busy")


def test_a_mount_point_is_overwritten_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("a longer text than the new one")
    inode = path.stat().st_ino
    monkeypatch.setattr(os, "replace", _busy)
    hostfile.write(str(path), Entry(text="new"))
    assert (path.read_text(), path.stat().st_ino, os.listdir(tmp_path)) == ("new", inode, ["resolv.conf"])


def test_a_mount_point_cannot_become_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("text")
    monkeypatch.setattr(os, "replace", _busy)
    with pytest.raises(OSError, match="busy"):
        hostfile.write(str(path), Entry(link="elsewhere"))
    assert (path.read_text(), os.listdir(tmp_path)) == ("text", ["resolv.conf"])


def test_a_new_file_is_nobody_elses_until_it_has_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = tmp_path / "secret", []
    change = os.fchown

    def fchown(descriptor: int, user: int, group: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        change(descriptor, user, group)

    monkeypatch.setattr(os, "fchown", fchown)
    hostfile.write(str(path), Entry(text="x", mode=0o640), (os.getuid(), os.getgid()))
    assert seen == [0o600]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640 and path.read_text() == "x"
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret"]
