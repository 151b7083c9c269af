#!/usr/bin/env python3
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that this machine has what the nodes of a scenario need, and name the command that brings what it lacks.

molecule/shared/create.yml runs it before the nodes are created, so plain Molecule gets the same answer as the
project's own tools.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import typing as t
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: The names of an architecture in releases, by those of the kernel.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
#: The demo's scenario only makes containers.
WITHOUT_MIRROR = ("demo",)
#: Scenarios that also need what the others do not, and the command that makes it.
EXTRA = {"day2": "tools/setup/former-artifacts", "bundle": "tools/bundle/make lab"}

Answers = t.Callable[[t.Sequence[str]], "subprocess.CompletedProcess[str]"]


class Lab(t.NamedTuple):
    """What a scenario is run with."""

    scenario: str
    name: str
    network: str
    image: str
    mirror: Path

    @classmethod
    def of(cls, scenario: str, environment: t.Mapping[str, str]) -> Lab:
        """Read the settings; the defaults are those of .config/molecule/config.yml."""
        return cls(
            scenario,
            environment.get("LAB_NAME") or "trinode-lab",
            environment.get("LAB_NETWORK") or "192.168.0",
            environment.get("LAB_IMAGE") or "trinode/node:bookworm",
            Path(environment.get("ARTIFACT_MIRROR") or ROOT / "artifacts"),
        )


def answers(command: t.Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command; one that does not exist has failed."""
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))


def archives(products: str, machine: str) -> list[str]:
    """The files of the mirror that every site takes, by their names in it."""
    arch = ARCHITECTURES.get(machine, machine)
    releases = [(found["name"], found["version"]) for found in json.loads(products)["products"] if found["default"]]
    return [f"{name}/{version}/{name}_{version}_linux_{arch}.zip" for name, version in releases]


def missing(lab: Lab, ask: Answers = answers) -> list[str]:
    """Return a sentence for each thing that is not there."""
    found = []
    if ask(["docker", "info"]).returncode != 0:
        # What follows needs it.
        return ["no Docker engine answers: run 'make setup', which installs and starts one, or start yours"]
    if ask(["docker", "image", "inspect", lab.image]).returncode != 0:
        suite = lab.image.rpartition(":")[2]
        remedy = "make setup" if suite == "bookworm" else f"LAB_SUITE={suite} tools/setup/node-image"
        found.append(f"the nodes' image {lab.image} is missing: run '{remedy}'")
    if lab.scenario not in WITHOUT_MIRROR:
        products = (ROOT / "tools" / "artifacts" / "products.json").read_text(encoding="utf-8")
        for name in (*archives(products, platform.machine()), "images/trinode-samples.tar"):
            if not (lab.mirror / name).is_file():
                remedy = "run 'make setup', or name a full mirror with ARTIFACT_MIRROR"
                found.append(f"the mirror {lab.mirror} lacks {name}: {remedy}")
    network = ask([sys.executable, str(ROOT / "tools" / "lab_network.py"), lab.name, lab.network])
    if network.returncode != 0:
        found.append((network.stderr or network.stdout).strip().removeprefix("error: "))
    return found


def prepare(scenario: str, run: t.Callable[[t.Sequence[str]], int]) -> str | None:
    """Make what only this scenario needs, where it is missing; return what went wrong."""
    command = EXTRA.get(scenario)
    if command is None:
        return None
    status = run(command.split())
    what = f"'{command}', which makes what scenario {scenario} needs"
    return f"{what}, ended with status {status}: see above" if status else None


def run(command: t.Sequence[str]) -> int:
    """Run a command of the checkout and show what it prints; return its status."""
    return subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False).returncode


def main() -> int:
    """Entry point: require.py SCENARIO."""
    (scenario,) = sys.argv[1:]
    problems = missing(Lab.of(scenario, os.environ))
    if not problems:
        problem = prepare(scenario, run)
        problems += [problem] if problem else []
    for problem in problems:
        print(f"{scenario}: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
