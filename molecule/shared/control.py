# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container next to the nodes that acts as a control node.

It is a plain machine with the operator's key and nothing of the project.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import typing as t
from pathlib import Path

import lab

NAME = f"{lab.NAME}-control"
ADDRESS = f"{lab.NETWORK}.140"
IMAGE = os.environ.get("LAB_IMAGE") or "trinode/node:bookworm"
HOME = "/home/ops"
#: What the scenario's preparation left for an operator: the key, and the host keys of the nodes.
KEYS = Path(os.environ.get("MOLECULE_EPHEMERAL_DIRECTORY", str(lab.ROOT / "build")))


def docker(*arguments: str, **options: t.Any) -> str:
    """Call the engine that the nodes run in."""
    done = subprocess.run(
        ["docker", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        **options,
    )
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stdout}"
    return done.stdout.strip()


def with_settings(text: str, **values: t.Any) -> str:
    """Return the settings of a site with other values; each setting must be in it once."""
    for name, value in values.items():
        line = f"{name}: {json.dumps(value)}\n".replace("\\", r"\\")
        text, count = re.subn(rf"^{name}:.*\n", line, text, flags=re.MULTILINE)
        assert count == 1, f"{name} is {count} times in the inventory of the hospital"
    return text


class Machine:
    """The control node, and what its operator does there."""

    def __init__(self) -> None:
        self.directory = ""

    def start(self) -> None:
        """Start a plain machine with an SSH client and the operator's key."""
        self.remove()
        network = ("--network", lab.NAME, "--ip", ADDRESS)
        docker(
            "run",
            "--detach",
            "--name",
            NAME,
            "--hostname",
            "control",
            "--label",
            "owner=molecule",
            *network,
            IMAGE,
            "sleep",
            "infinity",
        )
        lab.run("control", "useradd --create-home --shell /bin/bash ops")
        lab.run("control", f"install -d -o ops -g ops -m 700 {HOME}/.ssh")
        for name in ("id_ed25519", "known_hosts"):
            docker("cp", str(KEYS / name), f"{NAME}:{HOME}/.ssh/{name}")
        lab.run("control", f"chown -R ops:ops {HOME}/.ssh && chmod 600 {HOME}/.ssh/*")

    @staticmethod
    def remove() -> None:
        """Remove the machine; the network cannot be removed while it is there."""
        subprocess.run(["docker", "rm", "--force", "--volumes", NAME], capture_output=True, check=False)

    def shell(self, command: str, seconds: int = 1800) -> lab.Play:
        """Run a command as the operator."""
        settings = (
            "--user",
            "ops",
            "--env",
            f"HOME={HOME}",
            "--env",
            "ANSIBLE_NOCOLOR=1",
            "--workdir",
            self.directory or HOME,
        )
        return lab.timed(["docker", "exec", *settings, NAME, "bash", "-c", command], timeout=seconds)

    def change_settings(self, path: str, **values: t.Any) -> None:
        """Change settings in a file of the operator's."""
        text = with_settings(lab.run("control", f"cat {path}") + "\n", **values)
        docker("exec", "--interactive", "--user", "ops", NAME, "sh", "-c", f"cat > {path}", input=text)
