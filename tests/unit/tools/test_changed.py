# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which test stages a change needs."""

from __future__ import annotations

import fnmatch
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools"))

import changed
import stages


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("docs/faults.md", ["lint", "unit"]),
        ("README.md", ["lint", "unit", "rejected-input"]),
        ("roles/registrator/files/registrator/plan.py", ["lint", "unit", "render", "registration"]),
        ("roles/nginx/files/nginx_edge/cli.py", ["lint", "unit", "render", "fuzz", "platform", "selected-faults"]),
        ("roles/nginx/templates/main.conf.j2", ["lint", "unit", "platform", "rejected-input", "artifact"]),
        ("plugins/plugin_utils/_edge/http.py", ["lint", "unit", "playbooks", "render", "fuzz", "platform"]),
        ("playbooks/rotate_tokens.yml", ["lint", "unit", "playbooks", "platform", "secure"]),
        ("molecule/default/molecule.yml", ["lint", "unit", "default"]),
        ("molecule/default/tests/test_4_registration.py", ["lint", "unit", "registration"]),
        ("molecule/wan/tests/test_two_sites.py", ["lint", "unit", "wan"]),
        ("tests/agent/test_engine.py", ["lint", "unit", "render"]),
    ],
)
def test_a_path_needs_these_stages(path: str, expected: list[str]) -> None:
    assert changed.stages_for([path]) == expected


def test_every_rule_names_test_stages_and_matches_a_file() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    for pattern, names in changed.RULES:
        assert set(names) <= {name for name, stage in stages.STAGES.items() if stage.tests or name == "lint"}, pattern
        assert any(fnmatch.fnmatch(path, pattern) for path in tracked), f"{pattern} matches no file"


def test_every_scenario_is_reached_by_its_own_files() -> None:
    for name, stage in stages.STAGES.items():
        if stage.command.startswith("tools/test/scenario ") and name not in stages.PARTS:
            assert name in changed.stages_for([f"molecule/{stage.command.split()[1]}/molecule.yml"]), name


def test_each_test_of_default_is_in_one_part() -> None:
    for path in (ROOT / "molecule" / "default" / "tests").glob("test_*.py"):
        parts = [part for part, files in stages.PARTS.items() if path.name.startswith(files)]
        assert len(parts) == 1, f"{path.name}: {parts}"


def test_a_change_is_what_differs_from_the_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-b", "main")
    (tmp_path / "old").write_text("1")
    git("add", "."), git("commit", "-m", "one"), git("checkout", "-b", "work")
    (tmp_path / "committed").write_text("1")
    git("add", "."), git("commit", "-m", "two")
    (tmp_path / "old").write_text("2")
    (tmp_path / "untracked").write_text("1")
    monkeypatch.setattr(changed, "ROOT", tmp_path)
    assert changed.changed_paths("main") == ["committed", "old", "untracked"]
