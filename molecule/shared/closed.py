# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control node of a site without internet: a container beside the nodes that got the bundle and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import lab
import pytest
from control import HOME as HOME
from control import NAME as NAME
from control import Machine
from control import docker as docker

EVERYBODY = (*lab.NODES, "control")


def bundle() -> Path:
    """The bundle of the test nodes."""
    found = sorted((lab.ROOT / "build" / "bundle" / "lab").glob("trinode-platform-*.tar"), key=lambda path: path.stat().st_mtime)
    assert found, "there is no bundle of the test nodes: run tools/bundle/make lab"
    return found[-1]


class Control(Machine):
    """What the operator of the bundle does there."""

    def play(self, playbook: str, *arguments: str, **variables: object) -> lab.Play:
        """Run a playbook of the bundle."""
        if Path(playbook).stem in lab.DESTRUCTIVE:
            variables = {"confirm_datacenter": "dc1", **variables}
        extra = f" --extra-vars '{json.dumps(variables)}'" if variables else ""
        run = self.shell(f". .venv/bin/activate && ansible-playbook {playbook} -i {HOME}/site {' '.join(arguments)}{extra}")
        print(f"{playbook} {' '.join(arguments)}: {run.seconds:.0f} s, {run.changed} changes")
        return run

    def well(self, playbook: str, *arguments: str, **variables: object) -> lab.Play:
        """Run a playbook, and it succeeds."""
        run = self.play(playbook, *arguments, **variables)
        assert run.status == 0, f"{playbook}: status {run.status}\n{run.output[-8000:]}\n{evidence()}"
        return run

    def settings(self, **values: object) -> None:
        """Write the site's inventory: the hospital's, with what the operator of this one changes."""
        lab.run("control", f"rm -rf {HOME}/site && cp -r {self.directory}/inventories/hospital {HOME}/site && chown -R ops:ops {HOME}/site")
        self.change_settings(f"{HOME}/site/group_vars/all.yml", **values)


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
    control.remove()
