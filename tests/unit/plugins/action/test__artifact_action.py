# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the control node checks in a local mirror before it pushes anything."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ansible_collections.trinode.platform.plugins.action.artifact import local_archive
from ansible_collections.trinode.platform.plugins.module_utils._artifact import ArtifactError

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
