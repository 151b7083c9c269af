# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plain Molecule runs without a variable, and says what this machine lacks."""

from __future__ import annotations

import importlib.util
import platform
import re
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
spec = importlib.util.spec_from_file_location("require", ROOT / "tools" / "test" / "require.py")
assert spec is not None and spec.loader is not None
require = importlib.util.module_from_spec(spec)
sys.modules["require"] = require
spec.loader.exec_module(require)

CONFIG = ROOT / ".config" / "molecule" / "config.yml"
SCENARIOS = sorted(path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml"))
VARIABLE = re.compile(r"\$\{([A-Z_]+)(:-[^}]*)?\}")


def answering(*failing: str) -> t.Callable[[t.Sequence[str]], subprocess.CompletedProcess[str]]:
    """A machine on which commands with these words fail."""

    def ask(command: t.Sequence[str]) -> subprocess.CompletedProcess[str]:
        failed = any(word in " ".join(command) for word in failing)
        said = "error: the network is taken: choose another\n" if failed else ""
        return subprocess.CompletedProcess(command, int(failed), "", said)

    return ask


def full_mirror(place: Path) -> Path:
    products = (ROOT / "tools" / "artifacts" / "products.json").read_text(encoding="utf-8")
    for name in (*require.archives(products, platform.machine()), "images/trinode-samples.tar"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).touch()
    return place


def test_the_defaults_are_those_of_the_nodes() -> None:
    lab = require.Lab.of("default", {"LAB_NAME": "", "HOME": "/x"})
    config = CONFIG.read_text(encoding="utf-8")
    for name, value in {"LAB_NAME": lab.name, "LAB_NETWORK": lab.network, "LAB_IMAGE": lab.image}.items():
        assert set(re.findall(rf"\$\{{{name}([^}}]*)\}}", config)) == {f":-{value}"}
    assert lab.mirror == ROOT / "artifacts"
    site = yaml.safe_load((ROOT / "molecule" / "shared" / "vars" / "site.yml").read_text(encoding="utf-8"))
    assert f"default('{lab.name}', true)" in site["lab_name"]
    assert f"default('{lab.network}', true)" in site["hospital_network"]
    shared = (ROOT / "molecule" / "shared" / "lab.py").read_text(encoding="utf-8")
    assert f'or "{lab.name}"' in shared and f'or "{lab.network}"' in shared


@pytest.mark.parametrize(
    "path",
    [CONFIG, *(ROOT / "molecule" / name / "molecule.yml" for name in SCENARIOS)],
    ids=lambda path: path.parent.name,
)
def test_a_scenario_needs_no_variable(path: Path) -> None:
    """Each has a default in the file, or Molecule sets it."""
    found = VARIABLE.findall(path.read_text(encoding="utf-8"))
    assert [name for name, default in found if not default and not name.startswith("MOLECULE_")] == []


def test_the_projects_own_tool_is_plain_molecule() -> None:
    """It sets nothing that Molecule would not, but the release of the nodes of some stages, which tests run, and how Molecule prints."""
    text = (ROOT / "tools" / "test" / "scenario").read_text(encoding="utf-8")
    code = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    assert set(re.findall(r"\bexport ([A-Z_]+)", code)) == {"PATH", "LAB_IMAGE", "PYTEST_ADDOPTS"}
    assert set(re.findall(r"\b([A-Z_]+)=\S+ molecule ", code)) == {"MOLECULE_COMMAND_BORDERS"}


def test_every_scenario_ends_without_nodes() -> None:
    """`molecule test --all` runs all of them, and the next one uses the same names."""
    for name in SCENARIOS:
        text = (ROOT / "molecule" / name / "molecule.yml").read_text(encoding="utf-8")
        sequence = yaml.safe_load(text)["scenario"]["test_sequence"]
        assert sequence[:3] == ["destroy", "create", "prepare"] and sequence[-1] == "destroy", name


def test_a_machine_that_has_everything(tmp_path: Path) -> None:
    lab = require.Lab.of("default", {"ARTIFACT_MIRROR": str(full_mirror(tmp_path))})
    assert require.missing(lab, answering()) == []


def test_what_is_missing_is_named_with_its_remedy(tmp_path: Path) -> None:
    lab = require.Lab.of("default", {"ARTIFACT_MIRROR": str(tmp_path)})
    said = require.missing(lab, answering("image inspect", "lab_network"))
    assert len(said) == 5, said
    assert "trinode/node:bookworm is missing: run 'make setup'" in said[0]
    assert all(str(tmp_path) in line and "run 'make setup'" in line for line in said[1:4])
    assert said[4] == "the network is taken: choose another"


def test_without_an_engine_nothing_else_is_asked(tmp_path: Path) -> None:
    lab = require.Lab.of("default", {"ARTIFACT_MIRROR": str(tmp_path)})
    said = require.missing(lab, answering("docker info"))
    assert len(said) == 1 and "make setup" in said[0]


def test_another_release_has_another_remedy(tmp_path: Path) -> None:
    lab = require.Lab.of("demo", {"ARTIFACT_MIRROR": str(tmp_path), "LAB_IMAGE": "trinode/node:trixie"})
    (said,) = require.missing(lab, answering("image inspect"))
    assert "LAB_SUITE=trixie tools/setup/node-image" in said


def test_a_scenario_makes_what_only_it_needs() -> None:
    assert set(require.EXTRA) <= set(SCENARIOS)
    calls: list[t.Sequence[str]] = []
    assert require.prepare("default", lambda command: calls.append(command) or 0) is None
    assert calls == []
    for name, command in require.EXTRA.items():
        assert (ROOT / command.split()[0]).is_file()
        assert require.prepare(name, lambda command: calls.append(command) or 0) is None
        assert calls[-1] == command.split()
        assert f"'{command}'" in str(require.prepare(name, lambda _: 3))
