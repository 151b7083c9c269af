# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A secure platform: its secrets, its API with and without a token, and a host outside of it."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
import typing as t
from collections.abc import Iterator
from pathlib import Path

import lab
import pytest

OUTSIDER = f"{lab.NAME}-outsider"
VARIABLES = {"platform_protected_services": ["billing"]}


def secret(name: str) -> str:
    """One secret of the control node."""
    return (lab.SECRETS / f"{name}.txt").read_text(encoding="utf-8").strip()


def token(name: str) -> str:
    """The token of one reader."""
    return secret(f"consul_token_{name}")


def play(playbook: str, *arguments: str, inventory: Path = lab.INVENTORY, **variables: t.Any) -> lab.Play:
    """Run a playbook as the operator of a secure platform does."""
    return lab.play(f"playbooks/{playbook}.yml", *arguments, variables={**VARIABLES, **variables}, inventory=inventory)


class Answer(t.NamedTuple):
    """What the agent said."""

    status: int
    body: str

    def json(self) -> t.Any:
        """The decoded body."""
        return json.loads(self.body)


def ask(node: str, path: str, as_: str = "", method: str = "GET", body: t.Any = None, size_only: bool = False) -> Answer:
    """Ask a node's agent on loopback, with a token's secret or as nobody. The secret goes through standard input."""
    shown = "%{size_download}" if size_only else ""
    config = [f"request = {method}", f'url = "http://127.0.0.1:8500{path}"', f'write-out = "{shown}\\n%{{http_code}}"', "silent"]
    if size_only:
        config.append('output = "/dev/null"')
    if as_:
        config.append(f'header = "X-Consul-Token: {as_}"')
    if body is not None:
        config.append(f"data = {json.dumps(json.dumps(body))}")
    done = subprocess.run(
        ["docker", "exec", "-i", lab.container(node), "curl", "--config", "-"],
        input="\n".join(config),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    text, _newline, status = done.stdout.rpartition("\n")
    # Without a number, it is Docker that speaks; without an answer, curl gives 000.
    return Answer(int(status), text) if status.isdigit() else Answer(0, done.stdout)


def outside(command: str) -> str:
    """Run a shell command on the host outside; what it printed and its exit status."""
    done = subprocess.run(
        ["docker", "exec", OUTSIDER, "sh", "-c", command + "; echo status=$?"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.stdout.strip()


def sent(address: str, port: int, text: str, seconds: int = 20) -> tuple[str, bool]:
    """What the host outside gets for a text over TCP, and whether the other side ended the connection in time."""
    script = f"timeout {seconds} bash -c 'exec 3<>/dev/tcp/{address}/{port}; cat >&3; cat <&3'"
    done = subprocess.run(["docker", "exec", "-i", OUTSIDER, "sh", "-c", script], input=text.encode(), capture_output=True, check=False)
    return done.stdout.decode(errors="replace"), done.returncode != 124


def said(node: str, unit: str, text: str, since: str, seconds: float = 15) -> str:
    """The line of a unit's journal that says so."""

    def look() -> str:
        lines = lab.run(node, f"journalctl --no-pager -o cat -u {unit} --since '{since}'", check=False).splitlines()
        return next((line for line in lines if text in line), "")

    return lab.wait_for(look, seconds, f"{node}: {unit} says {text!r}", lambda: lab.journal(node, unit))


def clock(node: str) -> str:
    """The time of a node, for its journal."""
    return lab.run(node, "date '+%F %T'")


@pytest.fixture(scope="session", name="outsider")
def fixture_outsider() -> Iterator[str]:
    """A host in the network of the nodes that is none of them; it has Consul's program and nothing else of the platform."""
    subprocess.run(["docker", "rm", "-f", OUTSIDER], capture_output=True, check=False)
    image = os.environ.get("LAB_IMAGE") or "trinode/node:bookworm"
    subprocess.run(
        ["docker", "run", "-d", "--label", "owner=molecule", "--name", OUTSIDER, "--network", lab.NAME, image, "sleep", "infinity"],
        check=True,
        capture_output=True,
    )
    program = subprocess.run(["docker", "exec", lab.container("consul-1"), "cat", "/usr/local/bin/consul"], check=True, capture_output=True).stdout
    subprocess.run(["docker", "exec", "-i", OUTSIDER, "sh", "-c", "cat > /usr/local/bin/consul && chmod 755 /usr/local/bin/consul"], input=program, check=True)
    yield OUTSIDER
    subprocess.run(["docker", "rm", "-f", "-v", OUTSIDER], capture_output=True, check=False)


def secrets(directory: Path = lab.SECRETS) -> list[str]:
    """Every secret of the control node; of a key in several lines, each. Certificates are shown to whoever connects."""
    found: list[str] = []
    for path in directory.glob("*.txt"):
        if path.stem != "consul_ca" and not path.stem.startswith("consul_certificate_"):
            found += [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("-----")]
    assert len(found) > 15 and min(map(len, found)) >= 12
    return found


class Arguments:
    """The arguments of every process, on this machine, on which the nodes run as well, looked at over and over."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.looks = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._stop.is_set():
            self.looks += 1
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(path.read_text(encoding="utf-8", errors="replace"))
                except OSError:
                    continue
            time.sleep(0.05)

    def __enter__(self) -> Arguments:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join()


def names_of(text: str, patterns: list[str]) -> list[str]:
    """Which secrets a text holds, by their first letters only."""
    return [pattern[:4] + "..." for pattern in patterns if pattern in text]
