# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An archive of packages on its way to becoming a source of apt, with real files."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from ansible_collections.trinode.platform.plugins.module_utils._host import package_source
from ansible_collections.trinode.platform.plugins.module_utils._host.package_source import SourceError

GOOD = {"nginx_1.22.1-9+deb12u1_amd64.deb": b"package", "Packages": b"index", "Release": b"label"}


def tar(path: Path, members: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> str:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.type = kind
            # What the archive says of owner and mode is nobody's business.
            member.mode, member.uid, member.size = 0o4777, 1000, len(content) if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(content) if kind == tarfile.REGTYPE else None)
    return str(path)


def test_an_archive_is_there_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "trinode" / "packages" / "0123"
    archive = tar(tmp_path / "a.tar", GOOD)
    umask = os.umask(0o077)
    try:
        package_source.unpack(archive, str(target))
    finally:
        os.umask(umask)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == GOOD
    assert {path.stat().st_mode & 0o7777 for path in target.iterdir()} == {0o644}
    # apt reads it as a user of its own.
    assert {path.stat().st_mode & 0o777 for path in (target, target.parent, target.parent.parent)} == {0o755}
    assert [path.name for path in target.parent.iterdir()] == ["0123"]


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"../../etc/passwd": b"", **GOOD}, "no file of a package source"),
        ({"/etc/passwd": b"", **GOOD}, "no file of a package source"),
        ({"a/b": b"", **GOOD}, "no file of a package source"),
        ({".hidden": b"", **GOOD}, "no file of a package source"),
        ({"Packages": b""}, "holds no Release"),
    ],
)
def test_what_is_no_package_source_is_refused(tmp_path: Path, members: dict[str, bytes], said: str) -> None:
    target = tmp_path / "packages" / "0123"
    with pytest.raises(SourceError, match=said):
        package_source.unpack(tar(tmp_path / "a.tar", members), str(target))
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
def test_only_files_are_unpacked(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(SourceError, match="no file of a package source"):
        package_source.unpack(tar(tmp_path / "a.tar", {"Release": b""}, kind), str(tmp_path / "packages" / "0123"))


def test_half_an_archive_is_refused(tmp_path: Path) -> None:
    path = Path(tar(tmp_path / "a.tar", {"nginx.deb": b"x" * 100_000, **GOOD}))
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(SourceError, match="no whole tar file"):
        package_source.unpack(str(path), str(tmp_path / "packages" / "0123"))
    assert list((tmp_path / "packages").iterdir()) == []


def test_a_killed_run_does_not_stop_the_next(tmp_path: Path) -> None:
    left = tmp_path / "packages" / package_source.INCOMING
    left.mkdir(parents=True)
    (left / "Release").write_text("half")
    package_source.unpack(tar(tmp_path / "a.tar", GOOD), str(tmp_path / "packages" / "0123"))
    assert not left.exists()


def test_the_source_and_its_preference() -> None:
    text = package_source.source_text("# by whom\n", "/var/lib/x/0123")
    assert text == "# by whom\ndeb [trusted=yes check-date=no check-valid-until=no] file:/var/lib/x/0123 ./\n"
    assert package_source.preferences_text("# by whom\n", 995) == f"# by whom\nPackage: *\nPin: release l={package_source.LABEL}\nPin-Priority: 995\n"


def test_only_this_source_is_updated() -> None:
    command = package_source.update_command("/etc/apt/sources.list.d/own.list")
    assert "Dir::Etc::sourcelist=/etc/apt/sources.list.d/own.list" in command and "Dir::Etc::sourceparts=/dev/null" in command
    # The lists of the others stay.
    assert "APT::Get::List-Cleanup=false" in command


def test_the_lists_of_a_source(tmp_path: Path) -> None:
    for name in ("_var_lib_x_0123_._Packages", "_var_lib_x_0123_._Release", "_var_lib_x_4567_._Packages", "other_dists_stable_InRelease"):
        (tmp_path / name).touch()
    assert [Path(path).name for path in package_source.lists_of(str(tmp_path), "/var/lib/x/0123")] == [
        "_var_lib_x_0123_._Packages",
        "_var_lib_x_0123_._Release",
    ]
    assert len(package_source.lists_of(str(tmp_path), "/var/lib/x")) == 3
    assert package_source.lists_of(str(tmp_path / "none"), "/var/lib/x") == []


def test_what_earlier_archives_left(tmp_path: Path) -> None:
    for name in ("0123", "4567", ".incoming"):
        (tmp_path / name).mkdir()
    assert [Path(path).name for path in package_source.others(str(tmp_path), "0123")] == [".incoming", "4567"]
    assert package_source.others(str(tmp_path / "none"), "0123") == []


def test_names() -> None:
    assert package_source.archive_name("bookworm", package_source.architecture("x86_64")) == "bookworm_amd64.tar"
    assert package_source.architecture("riscv64") == "riscv64"
    digest = "0123456789abcdef" * 4
    assert package_source.expected_checksum(f"{digest}  bookworm_amd64.tar\n", "x.sha256") == digest
    assert package_source.identity(digest) == "0123456789abcdef"
    with pytest.raises(SourceError, match=r"x\.sha256 is not"):
        package_source.expected_checksum("", "x.sha256")
