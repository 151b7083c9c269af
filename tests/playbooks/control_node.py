# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays the playbooks of the checkout as an operator does, on inventories whose hosts do not exist.

What must be refused is refused before the first connection. So every host has a connection that leaves a trace, and a trace is a failure.
"""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
import typing as t
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
ANSIBLE_PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
PLAYBOOKS = sorted(path.name for path in (ROOT / "playbooks").glob("*.yml"))
#: What each playbook wants of its caller before it does anything.
ARGUMENTS = {
    "uninstall.yml": ["-e", "confirm_datacenter=dc1", "-e", "uninstall_everything=true"],
    "restore.yml": ["-e", "confirm_datacenter=dc1", "-e", "consul_backup_file=/nowhere/of.snap"],
    "recover_quorum.yml": ["-e", "confirm_datacenter=dc1", "--limit", "consul-1"],
    "evict_node.yml": ["-e", "confirm_datacenter=dc1"],
    "remove_node.yml": ["-e", "confirm_datacenter=dc1", "--limit", "consul-3"],
    "drain.yml": ["--limit", "consul-1"],
}
#: Stands in for ssh: says who was called, and does not connect.
SSH = """#!/bin/sh
echo "$@" >> {trace}
echo "ssh: connect to host: Network is unreachable" >&2
exit 255
"""

SITE: dict[str, t.Any] = {
    "platform_datacenter": "dc1",
    "platform_domain": "consul",
    "platform_edge_domain": "apps.hospital.example",
    "platform_artifact_mirror": "https://releases.hashicorp.com",
}
HOSTS = {f"consul-{number}": {"ansible_host": f"192.0.2.{number}", "platform_address": f"192.0.2.{number}"} for number in (1, 2, 3)}


def inventory() -> dict[str, t.Any]:
    """Return an inventory without a mistake."""
    return copy.deepcopy(
        {
            "all": {
                "vars": SITE,
                "children": {
                    "consul_servers": {"hosts": HOSTS},
                    "docker_hosts": {"hosts": dict.fromkeys(HOSTS)},
                    "edge": {"hosts": {"consul-1": None, "consul-2": None}},
                    # No playbook may have anything to do with it.
                    "evicted_nodes": {"hosts": {"consul-9": {"ansible_host": "192.0.2.9", "platform_address": "192.0.2.9"}}},
                },
            }
        }
    )


class Outcome(t.NamedTuple):
    """How a run ended."""

    status: int
    output: str
    #: The calls of ssh: the connections that were tried.
    calls: list[str]
    #: Files that are there now and were not, below the directory of the inventory.
    written: list[str]

    @property
    def report(self) -> str:
        """The report, as one line."""
        _before, _separator, report = self.output.partition("Preflight found ")
        return " ".join(report.split())

    def refused(self, *texts: str) -> None:
        """Require one report that holds these texts, no second error, no connection and no file."""
        assert self.status == 2, self.output
        assert self.output.count("[ERROR]") == 1, self.output
        assert self.output.count("Preflight found") == 1, self.output
        assert "Traceback" not in self.output, self.output
        assert "TASK [" not in self.output, self.output
        for text in texts:
            assert text in self.report, f"{text!r} is not in\n{self.output}"
        assert self.calls == []
        assert self.written == []


class Control:
    """A control node with one inventory."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.trace = place / "calls"
        ssh = place / "bin" / "ssh"
        ssh.parent.mkdir(parents=True)
        ssh.write_text(SSH.format(trace=self.trace), encoding="utf-8")
        ssh.chmod(0o755)
        self.site = place / "site"
        self.site.mkdir()
        self.write(inventory())

    def write(self, content: t.Mapping[str, t.Any]) -> None:
        """Write the inventory."""
        (self.site / "hosts.yml").write_text(yaml.safe_dump(dict(content), sort_keys=False), encoding="utf-8")

    def play(
        self,
        playbook: str,
        *arguments: str,
        variables: t.Mapping[str, t.Any] | None = None,
        inventory: str | None = None,
        environment: t.Mapping[str, str] | None = None,
    ) -> Outcome:
        """Run a playbook.

        Args:
            playbook: its name.
            arguments: further arguments.
            variables: extra variables.
            inventory: its path instead of the one that was written; empty for none.
            environment: further environment variables.
        """
        self.trace.unlink(missing_ok=True)
        before = self._files()
        where = str(self.site) if inventory is None else inventory
        extra = ["--extra-vars", json.dumps(dict(variables))] if variables else []
        done = subprocess.run(
            [ANSIBLE_PLAYBOOK, ROOT / "playbooks" / playbook, *(["-i", where] if where else []), *extra, *arguments],
            cwd=self.place,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "LAB_"))},
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
                "ANSIBLE_SSH_EXECUTABLE": str(self.place / "bin" / "ssh"),
                "ANSIBLE_SSH_ARGS": "",
                "ANSIBLE_LOCAL_TEMP": str(self.place / "tmp"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_FORCE_COLOR": "0",
                **(environment or {}),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        calls = self.trace.read_text(encoding="utf-8").splitlines() if self.trace.exists() else []
        return Outcome(done.returncode, done.stdout, calls, sorted(self._files() - before))

    def _files(self) -> set[str]:
        return {str(path.relative_to(self.site)) for path in self.site.rglob("*")}


def lines_thrice(output: str) -> list[str]:
    """Return the lines of an output that are there three times, but for Ansible's own headings and empty ones."""
    lines = [re.sub(r"\s+", " ", line).strip() for line in output.splitlines()]
    return sorted({line for line in lines if len(line) > 30 and lines.count(line) >= 3 and not re.match(r"(TASK|PLAY) ", line)})
