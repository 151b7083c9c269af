# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The layout of a mirror, and the installation of a version into real directories."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import string
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.trinode.platform.plugins.module_utils._host import artifact
from ansible_collections.trinode.platform.plugins.module_utils._host.artifact import ArtifactError, Target

ONE, TWO = "a" * 64, "b" * 64


def archive(path: Path, version: str, script: str | None = None, product: str = "tool") -> str:
    """A zip with a program that says its version; returns its checksum."""
    with zipfile.ZipFile(path, "w") as bundle:
        bundle.writestr(product, script if script is not None else f"#!/bin/sh\necho Tool v{version}\n")
        bundle.writestr("LICENSE.txt", "free\n")
        bundle.writestr("other", "left out\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target("tool", "1.2.3", str(tmp_path / "opt"), str(tmp_path / "bin"))


def install(target: Target, tmp_path: Path, script: str | None = None, checksum: str | None = None) -> list[str]:
    """What the module does for a version that is not there."""
    package = tmp_path / f"tool_{target.version}.zip"
    right = archive(package, target.version, script)
    artifact.make_directory(target.home)
    previous = target.linked_version()
    with artifact.explained(target), artifact.locked(target.home):
        with artifact.incoming(target) as directory:
            artifact.put_in_place(str(package), checksum or right, target, directory, ["-version"], package.name)
        artifact.set_link(target)
        return artifact.prune(target, previous)


def version(target: Target, number: str) -> Target:
    return Target(target.product, number, target.root, target.link_dir)


@pytest.mark.parametrize(("machine", "name"), [("x86_64", "amd64"), ("aarch64", "arm64"), ("armv7l", "arm"), ("i686", "386"), ("s390x", "s390x")])
def test_architecture(machine: str, name: str) -> None:
    assert artifact.go_architecture(machine) == name


def test_unknown_architecture_is_named() -> None:
    with pytest.raises(ArtifactError, match=r"'mips64' is unknown.*x86_64"):
        artifact.go_architecture("mips64")


@pytest.mark.parametrize(("product", "number"), [("../consul", "1.0"), ("consul", "../1"), ("", "1.0"), ("consul", ""), ("a/b", "1"), ("consul", "1.0\n")])
def test_names_that_leave_the_directory_are_refused(product: str, number: str) -> None:
    with pytest.raises(ArtifactError, match="is not valid"):
        artifact.check_names(product, number)


@pytest.mark.parametrize("number", ["1.22.5", "1.22.0-rc1", "1.22.5+ent", "0.42.1"])
def test_usual_versions_are_valid(number: str) -> None:
    artifact.check_names("consul-template", number)


def test_checksums_both_forms_and_blank_lines() -> None:
    assert artifact.parse_checksums(f"{ONE}  a.zip\n\n{TWO.upper()} *b.zip\r\n", "list") == {"a.zip": ONE, "b.zip": TWO}


@pytest.mark.parametrize("text", ["", "\n", "<html>", f"{ONE}", f"{ONE[1:]}  a.zip", f"{ONE}  ../a.zip", f"{ONE}  a.zip\n{TWO}  a.zip"])
def test_a_damaged_list_is_refused_by_name(text: str) -> None:
    with pytest.raises(ArtifactError, match="the-list"):
        artifact.parse_checksums(text, "the-list")


@given(st.dictionaries(st.text(string.ascii_letters + string.digits + "._-+", min_size=1), st.binary(min_size=32, max_size=32), min_size=1))
def test_checksums_survive_writing_and_reading(sums: dict[str, bytes]) -> None:
    wanted = {name: digest.hex() for name, digest in sums.items()}
    text = "".join(f"{digest}  {name}\n" for name, digest in wanted.items())
    assert artifact.parse_checksums(text, "list") == wanted


def test_an_archive_that_is_not_listed_is_named() -> None:
    with pytest.raises(ArtifactError, match=r"SUMS does not list b\.zip"):
        artifact.expected_checksum(f"{ONE}  a.zip\n", "SUMS", "b.zip")


@pytest.mark.parametrize(
    ("output", "right"),
    [
        ("Consul v1.2.3\n", True),
        ("tool 1.2.3 (abc)", True),
        ("v1.2.3+ent", True),
        ("v1.2.30", False),
        ("v11.2.3", False),
        ("v1.2.3.4", False),
        ("v0.1.2.3", False),
        ("", False),
    ],
)
def test_only_the_exact_version_counts(output: str, right: bool) -> None:
    assert artifact.shows_version(output, "1.2.3") is right


def test_first_installation(target: Target, tmp_path: Path) -> None:
    assert not artifact.inspect(target).usable
    install(target, tmp_path)
    assert artifact.inspect(target).complete
    assert os.readlink(target.link) == target.binary
    assert sorted(os.listdir(target.directory)) == [".artifact.json", "LICENSE.txt", "tool"]
    for path in (target.home, target.directory, target.binary):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o755
    assert os.listdir(target.home) == ["1.2.3"], "nothing incoming may stay"


def test_the_previous_version_is_kept_and_older_ones_go(target: Target, tmp_path: Path) -> None:
    os.makedirs(os.path.join(target.home, "notes"))
    assert install(version(target, "1.0.0"), tmp_path) == []
    assert install(version(target, "1.1.0"), tmp_path) == []
    assert install(version(target, "1.2.3"), tmp_path) == ["1.0.0"]
    assert sorted(os.listdir(target.home)) == ["1.1.0", "1.2.3", "notes"], "a directory that is not ours stays"
    assert not artifact.inspect(version(target, "1.1.0")).linked
    assert artifact.inspect(version(target, "1.1.0")).usable, "going back needs no mirror"


@pytest.mark.parametrize(
    ("script", "checksum", "message"),
    [
        (None, ONE, r"tool_2.0.0.zip is wrong: expected aaaa.*found [0-9a-f]{64}"),
        ("#!/bin/sh\necho Tool v1.2.3\n", None, "instead of version 2.0.0"),
        ("#!/bin/sh\necho broken; exit 7\n", None, "exit status 7.*broken"),
        ("\x7fELF not really", None, "cannot be executed on this host.*another architecture"),
        ("", None, "cannot be executed|instead of version"),
    ],
)
def test_a_bad_release_leaves_the_version_in_use(target: Target, tmp_path: Path, script: str | None, checksum: str | None, message: str) -> None:
    install(target, tmp_path)
    before = sorted(str(path) for path in tmp_path.rglob("*") if not path.name.endswith(".zip"))
    with pytest.raises(ArtifactError, match=message):
        install(version(target, "2.0.0"), tmp_path, script, checksum)
    assert os.readlink(target.link) == target.binary
    assert sorted(str(path) for path in tmp_path.rglob("*") if not path.name.endswith(".zip")) == before


def unpack(content: bytes, target: Target, tmp_path: Path) -> None:
    package, place = tmp_path / "a.zip", tmp_path / "place"
    package.write_bytes(content)
    place.mkdir()
    artifact.make_directory(target.home)
    artifact.unpack(str(package), target, str(place), "a.zip")


def test_broken_archives_are_named(target: Target, tmp_path: Path) -> None:
    package = tmp_path / "good.zip"
    archive(package, "1.2.3")
    good = package.read_bytes()
    # one bit inside the stored program: the archive's own CRC must notice
    spot = good.index(b"echo Tool")
    for number, content in enumerate([b"", b"<html>", good[: len(good) // 2], good[:spot] + b"E" + good[spot + 1 :]]):
        (tmp_path / str(number)).mkdir()
        with pytest.raises(ArtifactError, match=r"a\.zip is not a usable zip archive"):
            unpack(content, target, tmp_path / str(number))


def test_an_archive_without_the_program_is_named(target: Target, tmp_path: Path) -> None:
    package = tmp_path / "sub.zip"
    with zipfile.ZipFile(package, "w") as bundle:
        bundle.writestr("sub/tool", "x")
    with pytest.raises(ArtifactError, match="does not contain the file tool at its top level"):
        unpack(package.read_bytes(), target, tmp_path)


def test_a_full_file_system_is_noticed_before_writing(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"the file system has only [0-9]+ MiB left"):
        artifact.require_space(str(tmp_path), 1 << 60, "tool 1.2.3")


def test_a_full_device_is_one_sentence(target: Target) -> None:
    with pytest.raises(ArtifactError, match="is full; free space"), artifact.explained(target), open("/dev/full", "wb", buffering=0) as full:
        full.write(b"x")


@pytest.mark.parametrize(("number", "message"), [(errno.EACCES, "run as root"), (errno.EROFS, "read-only"), (errno.EIO, "Input/output error")])
def test_errors_of_the_system_are_sentences(target: Target, number: int, message: str) -> None:
    with pytest.raises(ArtifactError, match=f"tool 1.2.3 cannot be installed.*{message}"), artifact.explained(target):
        raise OSError(number, os.strerror(number), "/opt/tool")


@pytest.mark.parametrize("damage", ["truncate", "content", "missing", "manifest", "garbage", "link"])
def test_a_damaged_version_is_seen_and_repaired(target: Target, tmp_path: Path, damage: str) -> None:
    install(target, tmp_path)
    binary, manifest = Path(target.binary), Path(target.directory) / artifact.MANIFEST
    if damage == "truncate":
        os.truncate(binary, 3)
    elif damage == "content":
        binary.write_bytes(b"X" * binary.stat().st_size)
        os.utime(binary, (1, 1))
    elif damage == "missing":
        binary.unlink()
    elif damage == "manifest":
        manifest.unlink()
    elif damage == "garbage":
        manifest.write_text("[]")
    else:
        binary.rename(binary.with_name("moved"))
        binary.symlink_to("moved")
    assert not artifact.inspect(target).usable
    install(target, tmp_path)
    assert artifact.inspect(target).complete


def test_another_time_alone_is_no_damage(target: Target, tmp_path: Path) -> None:
    install(target, tmp_path)
    os.utime(target.binary, (1, 1))
    assert artifact.inspect(target).complete


def test_a_drifted_mode_is_corrected(target: Target, tmp_path: Path) -> None:
    install(target, tmp_path)
    os.chmod(target.binary, 0o775)
    state = artifact.inspect(target)
    assert state.usable
    assert state.drifted == [target.binary]
    artifact.correct_modes(state.drifted)
    assert artifact.inspect(target).complete


def test_what_an_interrupted_run_left_is_removed(target: Target, tmp_path: Path) -> None:
    left = Path(target.home) / ".incoming-old" / "version"
    left.mkdir(parents=True)
    (left / "tool").write_text("half")
    # A version's directory without a record is what no run of ours leaves, but others may.
    Path(target.directory).mkdir()
    install(target, tmp_path)
    assert os.listdir(target.home) == ["1.2.3"]
    assert json.loads((Path(target.directory) / artifact.MANIFEST).read_text())["archive"] == "tool_1.2.3.zip"


def test_a_foreign_file_in_the_place_of_the_link_is_kept_once(target: Target, tmp_path: Path) -> None:
    os.makedirs(target.link_dir)
    Path(target.link).write_text("by hand")
    install(target, tmp_path)
    kept = Path(f"{target.link}.orig")
    assert kept.read_text() == "by hand"
    os.unlink(target.link)
    Path(target.link).write_text("again by hand")
    install(target, tmp_path)
    assert kept.read_text() == "by hand"
    assert sorted(os.listdir(target.link_dir)) == ["tool", "tool.orig"]


def test_a_directory_in_the_place_of_the_link_is_an_error(target: Target, tmp_path: Path) -> None:
    os.makedirs(target.link)
    with pytest.raises(ArtifactError, match="is a directory; move it away"):
        install(target, tmp_path)


def test_the_link_never_misses_while_it_moves(target: Target, tmp_path: Path) -> None:
    """The name is replaced by a rename: the directory never lists it as absent, also when a temporary link was left."""
    install(target, tmp_path)
    Path(target.link_dir, f".tool.{os.getpid()}.tmp").symlink_to("/nowhere")
    inode = os.lstat(target.link).st_ino
    install(version(target, "1.3.0"), tmp_path)
    assert os.lstat(target.link).st_ino != inode
    assert os.listdir(target.link_dir) == ["tool"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a program as another user")
def test_a_new_program_first_runs_as_nobody(target: Target, tmp_path: Path) -> None:
    """It comes from a mirror, and root's rights are more than a look at its version needs."""
    own = tmp_path / "of-root"
    own.write_text("secret", encoding="ascii")
    own.chmod(0o600)
    # The shell opens neither: the directory of this test is closed to others, and the file has its own mode.
    attempt = f"#!/bin/sh\nid -u; id -G; cat {own} >/dev/null 2>&1 && echo read; echo Tool v1.2.3\n"
    seen: list[str] = []
    shows = artifact.shows_version

    def spy(output: str, version: str) -> bool:
        seen.append(output)
        return shows(output, version)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(artifact, "shows_version", spy)
        install(target, tmp_path, attempt)
    lines = seen[0].splitlines()
    assert lines[0] == str(artifact.unprivileged()["user"]) != "0" and lines[1] != "0" and "read" not in lines
    assert os.readlink(target.link) == target.binary
