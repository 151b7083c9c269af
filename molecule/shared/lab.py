# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the scenarios share: the nodes, playbook runs, and waiting for a condition."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import typing as t
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAME = os.environ.get("LAB_NAME") or "trinode-lab"
NETWORK = os.environ.get("LAB_NETWORK") or "192.168.0"
MIRROR = os.environ.get("ARTIFACT_MIRROR") or str(ROOT / "artifacts")
INVENTORY = ROOT / "inventories" / "hospital"
NODES = {f"consul-{number}": f"{NETWORK}.{128 + number}" for number in (1, 2, 3)}
#: Nodes that only the scenario of a growing site has.
FURTHER = {f"consul-{number}": f"{NETWORK}.{128 + number}" for number in (4, 5)}
EDGES = ("consul-1", "consul-2")
#: Where the playbooks keep the secrets of a secure site.
SECRETS = Path(os.environ.get("MOLECULE_EPHEMERAL_DIRECTORY", str(ROOT / "build"))) / "secrets"
#: Playbooks that destroy something, and want the name of the datacenter.
DESTRUCTIVE = ("uninstall", "restore", "recover_quorum", "remove_node", "evict_node")
#: The name server of the containers' network knows the containers: for the platform it is the site's own one.
PUBLIC_NAMES = [f"{NAME}-{node}.{NAME}" for node in NODES]

#: For a script on a node: `ask PATH` is the agent's answer with the token of the playbooks, or on a client of operators.
#: No list of processes shows it.
ASK = """
ask() {
    printf 'X-Consul-Token: %s' "$(cat /etc/consul.d/automation.token 2>/dev/null || cat /etc/consul.d/operator.token 2>/dev/null)" |
        curl -sSf -m 5 -H @- "http://127.0.0.1:8500$@"
}
"""

T = t.TypeVar("T")


def container(node: str) -> str:
    """The container that is the node."""
    return f"{NAME}-{node}"


def know_address(node: str, address: str) -> None:
    """Let the operator's SSH know a node under a further address."""
    known = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "known_hosts"
    lines = known.read_text(encoding="utf-8").splitlines()
    keys = [line.split(" ", 1)[1] for line in lines if line.startswith(f"{({**NODES, **FURTHER})[node]} ")]
    known.write_text("\n".join([*lines, *(f"{address} {key}" for key in keys)]) + "\n", encoding="utf-8")


def testinfra_name(node: str) -> str:
    """The node as testinfra addresses it."""
    return f"docker://{container(node)}"


class Play(t.NamedTuple):
    """A run of ansible-playbook."""

    status: int
    output: str
    seconds: float

    @property
    def recap(self) -> dict[str, dict[str, int]]:
        """The counters of each host."""
        _before, _separator, recap = self.output.rpartition("PLAY RECAP")
        return {
            match["host"]: {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", match["counters"])}
            for match in re.finditer(r"^(?P<host>\S+)\s+:\s+(?P<counters>ok=.*)$", recap, re.MULTILINE)
        }

    @property
    def changed(self) -> int:
        """How many tasks changed something, on all hosts."""
        return sum(counters["changed"] for counters in self.recap.values())

    def changes(self) -> str:
        """The tasks that changed something, for an error message."""
        task, found = "", []
        for line in self.output.splitlines():
            if line.startswith(("TASK [", "RUNNING HANDLER [")):
                task = line
            elif line.startswith("changed:"):
                found.append(f"{task}\n  {line}")
        return "\n".join(found)


def play(
    playbook: str,
    *arguments: str,
    variables: t.Mapping[str, t.Any] | None = None,
    inventory: Path = INVENTORY,
    environment: t.Mapping[str, str] | None = None,
) -> Play:
    """Run a playbook of the checkout against the nodes, as an operator does.

    Args:
        playbook: its path below the root of the checkout, or the name of an installed collection's playbook.
        arguments: further arguments.
        variables: extra variables.
        inventory: whose inventory.
        environment: further environment variables.
    """
    extra = {
        "hospital_network": NETWORK,
        "platform_artifact_mirror": MIRROR,
        "platform_secrets_directory": str(SECRETS),
        "platform_public_names": PUBLIC_NAMES,
        **({"confirm_datacenter": "dc1"} if Path(playbook).stem in DESTRUCTIVE else {}),
        **(variables or {}),
    }
    command = ["ansible-playbook", playbook, "-i", str(inventory), "--extra-vars", json.dumps(extra), *arguments]
    return timed(command, cwd=ROOT, env={**os.environ, "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1", **(environment or {})})


def timed(command: t.Sequence[str], **options: t.Any) -> Play:
    """Run a command to its end, whatever that is; the options are those of subprocess.run."""
    started = time.monotonic()
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        **options,
    )
    return Play(done.returncode, done.stdout, time.monotonic() - started)


def run(node: str, command: str, check: bool = True, given: str | None = None) -> str:
    """Run a shell command on a node and return what it printed; ``given`` comes on its standard input."""
    source: dict[str, t.Any] = {"stdin": subprocess.DEVNULL} if given is None else {"input": given}
    result = subprocess.run(
        ["docker", "exec", *([] if given is None else ["-i"]), container(node), "sh", "-c", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        **source,
    )
    if check and result.returncode != 0:
        raise AssertionError(f"{node}: `{command}` ended with status {result.returncode}:\n{result.stdout}")
    return result.stdout.strip()


def manage(node: str, command: str) -> str:
    """Run a shell command on a node as one who may do everything with Consul; in the open form, that is everybody. The token comes on standard input."""
    file = SECRETS / "consul_token_management.txt"
    token = file.read_text(encoding="utf-8").strip() if file.exists() else ""
    return run(node, f"read -r CONSUL_HTTP_TOKEN; export CONSUL_HTTP_TOKEN; {command}", given=f"{token}\n")


def journal(node: str, *units: str, lines: int = 40) -> str:
    """The end of the journal of units, for an error message."""
    return "\n".join(f"--- {node}: {unit}\n" + run(node, f"journalctl --no-pager -n {lines} -u {unit}", check=False) for unit in units)


def wait_for(look: t.Callable[[], T], seconds: float, what: str, evidence: t.Callable[[], str] = lambda: "") -> T:
    """Look until the answer is true, or fail with the last one and the evidence.

    An exception of the look counts as an answer that is not true.
    """
    deadline = time.monotonic() + seconds
    answer: t.Any = None
    while time.monotonic() < deadline:
        try:
            answer = look()
        except Exception as error:  # any trouble of the look is one more reason to look again
            answer = error
        if answer and not isinstance(answer, Exception):
            return t.cast(T, answer)
        time.sleep(0.2)
    raise AssertionError(f"{what}: not so after {seconds} s; last seen: {answer!r}\n{evidence()}")
