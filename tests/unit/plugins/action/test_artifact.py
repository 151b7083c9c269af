# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the control node checks in a local mirror before it pushes anything."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ansible_collections.trinode.platform.plugins.action.artifact import local_archive
from ansible_collections.trinode.platform.plugins.module_utils._host.artifact import ArtifactError

NAME = "tool_1.2.3_linux_amd64.zip"


@pytest.fixture
def release(tmp_path: Path) -> Path:
    directory = tmp_path / "tool" / "1.2.3"
    directory.mkdir(parents=True)
    (directory / NAME).write_bytes(b"archive")
    (directory / "tool_1.2.3_SHA256SUMS").write_text(f"{hashlib.sha256(b'archive').hexdigest()}  {NAME}\n")
    return directory


def test_a_good_archive(release: Path, tmp_path: Path) -> None:
    assert local_archive(str(tmp_path), "tool", "1.2.3", NAME) == (str(release / NAME), hashlib.sha256(b"archive").hexdigest())


@pytest.mark.parametrize("name", [NAME, "tool_1.2.3_SHA256SUMS"])
def test_a_missing_file_is_named(release: Path, tmp_path: Path, name: str) -> None:
    (release / name).unlink()
    with pytest.raises(ArtifactError, match=f"{release / name} is missing on the control node.*make artifacts"):
        local_archive(str(tmp_path), "tool", "1.2.3", NAME)


def test_a_changed_archive_is_refused(release: Path, tmp_path: Path) -> None:
    (release / NAME).write_bytes(b"other")
    with pytest.raises(ArtifactError, match=f"{NAME} is wrong: expected .* found .*nothing was changed"):
        local_archive(str(tmp_path), "tool", "1.2.3", NAME)


def test_an_unreadable_list_is_named(release: Path, tmp_path: Path) -> None:
    (release / "tool_1.2.3_SHA256SUMS").unlink()
    (release / "tool_1.2.3_SHA256SUMS").mkdir()
    with pytest.raises(ArtifactError, match="SHA256SUMS on the control node cannot be read"):
        local_archive(str(tmp_path), "tool", "1.2.3", NAME)


def test_a_checksum_that_is_given_counts_in_a_directory_too(release: Path, tmp_path: Path) -> None:
    right = hashlib.sha256(b"archive").hexdigest()
    for given in ({"amd64": right}, {"arm64": "0" * 64}, {}):
        assert local_archive(str(tmp_path), "tool", "1.2.3", NAME, given) == (str(release / NAME), right)
    with pytest.raises(ArtifactError, match=f"offers {NAME} with the checksum {right}, and that of the release is 0+"):
        local_archive(str(tmp_path), "tool", "1.2.3", NAME, {"amd64": "0" * 64})


def test_an_archive_that_was_built_here_needs_no_official_checksum(tmp_path: Path) -> None:
    name = "consul_1.22.5_linux_amd64.zip"
    directory = tmp_path / "consul" / "1.22.5"
    directory.mkdir(parents=True)
    (directory / name).write_bytes(b"built")
    right = hashlib.sha256(b"built").hexdigest()
    (directory / "consul_1.22.5_SHA256SUMS").write_text(f"{right}  {name}\n")
    assert local_archive(str(tmp_path), "consul", "1.22.5", name, {})[1] == right
