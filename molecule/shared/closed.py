# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control node of a site without internet: a container beside the nodes that got the bundle and nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import typing as t
from collections.abc import Iterator
from pathlib import Path

import lab
import pytest

NAME = f"{lab.NAME}-control"
ADDRESS = f"{lab.NETWORK}.140"
IMAGE = os.environ.get("LAB_IMAGE", "trinode/node:bookworm")
HOME = "/home/ops"
EVERYBODY = (*lab.NODES, "control")
#: What the scenario's preparation left for an operator: the key, and the host keys of the nodes.
KEYS = Path(os.environ.get("MOLECULE_EPHEMERAL_DIRECTORY", str(lab.ROOT / "build")))


def bundle() -> Path:
    """The bundle of the test nodes."""
    found = sorted((lab.ROOT / "build" / "bundle" / "lab").glob("trinode-platform-*.tar"), key=lambda path: path.stat().st_mtime)
    assert found, "there is no bundle of the test nodes: run tools/bundle/make lab"
    return found[-1]


def docker(*arguments: str, **options: t.Any) -> str:
    """The engine that the nodes run in."""
    done = subprocess.run(["docker", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False, **options)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stdout}"
    return done.stdout.strip()


class Control:
    """What the operator does there."""

    def __init__(self) -> None:
        self.directory = ""

    def start(self) -> None:
        """A plain machine with Python and an SSH client, and the operator's key."""
        subprocess.run(["docker", "rm", "--force", "--volumes", NAME], capture_output=True, check=False)
        network = ("--network", lab.NAME, "--ip", ADDRESS)
        docker("run", "--detach", "--name", NAME, "--hostname", "control", "--label", "owner=molecule", *network, IMAGE, "sleep", "infinity")
        lab.run("control", f"useradd --create-home --shell /bin/bash ops && install -d -o ops -g ops -m 700 {HOME}/.ssh")
        for name in ("id_ed25519", "known_hosts"):
            docker("cp", str(KEYS / name), f"{NAME}:{HOME}/.ssh/{name}")
        lab.run("control", f"chown -R ops:ops {HOME}/.ssh && chmod 600 {HOME}/.ssh/*")

    def shell(self, command: str, seconds: int = 1800) -> lab.Play:
        """Run a command as the operator."""
        settings = ("--user", "ops", "--env", f"HOME={HOME}", "--env", "ANSIBLE_NOCOLOR=1", "--workdir", self.directory or HOME)
        return lab.timed(["docker", "exec", *settings, NAME, "bash", "-c", command], timeout=seconds)

    def play(self, playbook: str, *arguments: str, **variables: t.Any) -> lab.Play:
        """Run a playbook of the bundle."""
        if Path(playbook).stem in lab.DESTRUCTIVE:
            variables = {"confirm_datacenter": "dc1", **variables}
        extra = f" --extra-vars '{json.dumps(variables)}'" if variables else ""
        run = self.shell(f". .venv/bin/activate && ansible-playbook {playbook} -i {HOME}/site {' '.join(arguments)}{extra}")
        print(f"{playbook} {' '.join(arguments)}: {run.seconds:.0f} s, {run.changed} changes")
        return run

    def well(self, playbook: str, *arguments: str, **variables: t.Any) -> lab.Play:
        """Run a playbook, and it succeeds."""
        run = self.play(playbook, *arguments, **variables)
        assert run.status == 0, f"{playbook}: status {run.status}\n{run.output[-8000:]}\n{evidence()}"
        return run

    def settings(self, **values: t.Any) -> None:
        """The site's inventory: the hospital's, with what the operator of this one changes."""
        lab.run("control", f"rm -rf {HOME}/site && cp -r {self.directory}/inventories/hospital {HOME}/site")
        path = f"{HOME}/site/group_vars/all.yml"
        text = lab.run("control", f"cat {path}")
        for name, value in values.items():
            lines, found = text.splitlines(keepends=True), re.findall(rf"^{name}:.*\n", text, re.MULTILINE)
            text = "".join(f"{name}: {json.dumps(value)}\n" if line in found else line for line in lines)
            assert len(found) == 1, f"{name} is not in the inventory of the hospital"
        docker("exec", "-i", NAME, "sh", "-c", f"cat > {path} && chown -R ops:ops {HOME}/site", input=text)


def evidence() -> str:
    """What a person needs when the site does not come up."""
    look = "date; ip route; df -h /; cat /etc/apt/sources.list.d/trinode-packages.list; ls /var/lib/trinode/packages /var/lib/apt/lists"
    look += "; apt-cache policy docker.io nginx; tail -n 40 /var/log/apt/term.log; systemctl --failed"
    return "\n".join(f"--- {node}\n{lab.run(node, look, check=False)}" for node in lab.NODES)


@pytest.fixture(scope="session", name="control")
def fixture_control() -> Iterator[Control]:
    """The control node. What could help beside the bundle is taken away first, from it and from the nodes."""
    control = Control()
    control.start()
    for node in EVERYBODY:
        # The image holds packages for other scenarios, and the lists that they were found by.
        lab.run(node, "rm -rf /var/cache/apt/archives/*.deb /var/cache/apt/*.bin /var/lib/apt/lists/*")
    yield control
    # The network cannot be removed while it is there.
    subprocess.run(["docker", "rm", "--force", "--volumes", NAME], capture_output=True, check=False)
