# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The changelog is made from all fragments, and a stale one is noticed."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import typing as t
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
spec = importlib.util.spec_from_file_location("changelog", ROOT / "tools" / "changelog.py")
assert spec is not None and spec.loader is not None
changelog = importlib.util.module_from_spec(spec)
sys.modules["changelog"] = changelog
spec.loader.exec_module(changelog)


@pytest.fixture(name="root")
def fixture_root(tmp_path: Path) -> Path:
    """A collection with one fragment and an up-to-date changelog."""
    for folder in ("plugins/filter", "roles", "playbooks", "meta", "changelogs/fragments"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("galaxy.yml", "changelogs/config.yaml", "meta/runtime.yml"):
        shutil.copy(ROOT / name, tmp_path / name)
    fragment(tmp_path, "one", minor_changes=["one - the first change."])
    assert changelog.main([], tmp_path) == 0
    return tmp_path


def fragment(root: Path, name: str, **sections: t.Any) -> None:
    (root / "changelogs" / "fragments" / f"{name}.yml").write_text(yaml.safe_dump(sections), encoding="utf-8")


def test_a_new_fragment_makes_the_page_stale(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert changelog.main(["--check"], root) == 0
    fragment(root, "two", bugfixes=["two - the second change."])
    assert changelog.main(["--check"], root) == 1
    said = capsys.readouterr()
    assert "two - the second change." in said.out and "run 'make changelog'" in said.err
    assert changelog.main([], root) == 0
    assert "two \\- the second change" in (root / "CHANGELOG.md").read_text(encoding="utf-8")
    assert changelog.main(["--check"], root) == 0


def test_a_fragment_that_was_edited_or_removed_makes_it_stale(root: Path) -> None:
    fragment(root, "one", minor_changes=["one - another sentence."])
    assert changelog.main(["--check"], root) == 1
    assert changelog.main([], root) == 0
    page = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "another sentence" in page and "the first change" not in page
    fragment(root, "two", bugfixes=["two - the second change."])
    (root / "changelogs" / "fragments" / "one.yml").unlink()
    assert changelog.main([], root) == 0
    assert "another sentence" not in (root / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_date_stays_until_another_is_given(root: Path) -> None:
    record = root / "changelogs" / "changelog.yaml"
    version = yaml.safe_load((root / "galaxy.yml").read_text(encoding="utf-8"))["version"]

    def date() -> str:
        return str(yaml.safe_load(record.read_text(encoding="utf-8"))["releases"][version]["release_date"])

    assert changelog.main(["--date", "2026-01-02"], root) == 0
    assert date() == "2026-01-02"
    fragment(root, "two", bugfixes=["two - the second change."])
    assert changelog.main([], root) == 0
    assert date() == "2026-01-02"


def test_a_broken_fragment_is_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fragment(root, "two", no_such_section=["x"])
    assert changelog.main([], root) == 1
    assert "no_such_section" in capsys.readouterr().err
