# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node was broken into: with the copy of its disk, somebody tries every door of the site while the node is evicted. The last of the scenario."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
import typing as t
from collections.abc import Iterator
from pathlib import Path

import lab
import pytest
import secure
import traffic
import yaml

LOST = "consul-3"
STAY = [node for node in lab.NODES if node != LOST]
PLACE = "/stolen"
PROGRAM = Path(__file__).resolve().parents[2] / "shared" / "stolen_disk.py"
#: What the platform keeps on a node.
ON_DISK = "/etc/consul.d /var/lib/consul /etc/registrator /etc/consul-template.d"
#: While all agents start anew no name is answered. How long that takes says the output; here it only has an end.
MOST_NAMES = 10 * 60


class Doors:
    """The program that tries them on the host outside, and what it has found."""

    def __init__(self) -> None:
        self.found: list[dict[str, t.Any]] = []
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        command = f"python3 {PLACE}/stolen_disk.py {PLACE} {' '.join(lab.NODES[node] for node in STAY)}"
        self._process = subprocess.Popen(["docker", "exec", secure.OUTSIDER, "sh", "-c", f"{command} 2>{PLACE}/errors"], stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            self.found.append(json.loads(line))

    def stop(self) -> None:
        secure.outside(f"touch {PLACE}/stop")
        if self._process is not None:
            self._process.wait(60)
        if self._thread is not None:
            self._thread.join(30)

    def state(self, since: float = 0) -> dict[tuple[str, str], bool]:
        """Each door of each node, as it was found last."""
        return {(one["door"], one["node"]): one["open"] for one in list(self.found) if one["at"] >= since}

    def shut(self) -> None:
        """Require that every door is shut, at a try from now on."""
        since, doors = time.time(), set(self.state())
        lab.wait_for(lambda: set(self.state(since)) == doors, 120, "every door was tried again", self.evidence)
        assert not [door for door, opened in self.state(since).items() if opened]

    def evidence(self) -> str:
        return secure.outside(f"cat {PLACE}/errors; tail -n 20 {PLACE}/member.log") + f"\n{self.state()}"


@pytest.fixture(scope="module", name="evicted")
def fixture_evicted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The inventory of the operator, who has moved the node."""
    place = tmp_path_factory.mktemp("evicted") / "site"
    shutil.copytree(lab.INVENTORY, place, ignore=shutil.ignore_patterns("secrets"))
    path = place / "hosts.yml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    groups = content["all"]["children"]
    variables = groups["consul_servers"]["hosts"][LOST]
    for group in groups.values():
        if group:
            group["hosts"].pop(LOST, None)
    groups["evicted_nodes"] = {"hosts": {LOST: variables}}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return place


@pytest.fixture(scope="module", name="doors")
def fixture_doors(outsider: str) -> Iterator[Doors]:
    """The copy of the disk on the host outside; the node itself is cut off."""
    for node in STAY:
        traffic.start_service(node)
    lab.run(LOST, f"docker rm -f {traffic.SERVICE}", check=False)
    traffic.wait_until_served(*STAY)
    disk = subprocess.run(["docker", "exec", lab.container(LOST), "sh", "-c", f"tar cf - {ON_DISK} 2>/dev/null"], capture_output=True, check=False).stdout
    subprocess.run(["docker", "exec", "-i", outsider, "sh", "-c", f"mkdir -p {PLACE}; tar xf - -C {PLACE}"], input=disk, check=True)
    subprocess.run(["docker", "exec", "-i", outsider, "sh", "-c", f"cat > {PLACE}/stolen_disk.py"], input=PROGRAM.read_bytes(), check=True)
    lab.run(LOST, "systemctl disable --now registrator; systemctl disable consul; systemctl kill -s KILL consul; systemctl stop consul")
    doors = Doors()
    doors.start()
    yield doors
    doors.stop()


def stolen_tokens() -> dict[str, str]:
    """The tokens on the disk of the node."""
    names = ("dns", "operator", "automation", "backup", f"agent-{LOST}", f"registrator-{LOST}", "service-billing")
    return {name: secure.token(name) for name in names}


def members() -> set[str]:
    return {one["Name"] for one in secure.ask("consul-1", "/v1/agent/members", secure.token("operator")).json() if one["Status"] == 1}


def peers() -> set[str]:
    servers = secure.ask("consul-1", "/v1/operator/raft/configuration", secure.token("operator")).json()["Servers"]
    return {one["Address"].partition(":")[0] for one in servers}


def test_every_door_is_open_before_and_shut_after(doors: Doors, evicted: Path) -> None:
    tokens = stolen_tokens()
    lab.wait_for(lambda: (state := doors.state()) and all(state.values()) and len(state) > 20, 60, "every door is open", doors.evidence)
    lab.wait_for(lambda: "stolen" in members(), 60, "the copy is a member of the cluster", doors.evidence)
    # Consul itself takes the node that is down off the voters, once the copy has come in its place.
    lab.wait_for(lambda: peers() - {*lab.NODES.values()}, 60, "and a server", doors.evidence)
    clocks = {node: secure.clock(node) for node in STAY}

    with traffic.Callers(STAY) as callers:
        run = secure.play("evict_node", inventory=evicted)
        assert run.status == 0, run.output[-8000:]
    print(f"evict_node.yml: {run.seconds:.0f} s; {callers.story()}; missed names: {callers.missed_names()}")
    callers.saw_no_failure(names=MOST_NAMES)
    said = " ".join(run.output.split())
    assert f"Nothing that was on {LOST} is believed any more" in said and "Run site.yml" in said
    assert LOST not in run.recap, "no connection is made to the evicted host"

    doors.shut()
    assert members() == set(STAY) and peers() == {lab.NODES[node] for node in STAY}
    for name, token in tokens.items():
        assert secure.ask("consul-1", "/v1/acl/token/self", token).status == 403, f"the token {name} is still valid"
    (ring,) = secure.ask("consul-1", "/v1/operator/keyring", secure.token("keyring")).json()
    assert ring["Keys"] == ring["PrimaryKeys"] == {secure.secret("consul_gossip_key"): len(STAY)}
    for node in STAY:
        secure.said(node, "consul", "No installed keys could decrypt the message", clocks[node])
        secure.said(node, "consul", "certificate signed by unknown authority", clocks[node])
    assert not list(lab.SECRETS.glob(f"*{LOST}.txt"))
    catalogue = {one["Node"] for one in secure.ask("consul-1", "/v1/catalog/nodes", secure.token("operator")).json()}
    assert catalogue == set(STAY), "neither the node nor the copy is in it"


def test_it_is_repeated_and_the_site_goes_on(doors: Doors, evicted: Path) -> None:
    run = secure.play("evict_node", inventory=evicted)
    assert run.status == 0, run.output[-8000:]
    assert f"Nothing of {LOST} is among the secrets" in " ".join(run.output.split())
    two = {"preflight_tolerated": ["servers"]}
    run = secure.play("site", inventory=evicted, **two)
    assert run.status == 0, run.output[-6000:]
    for node in STAY:
        assert lab.NODES[LOST] not in lab.run(node, "cat /etc/resolv.conf /etc/docker/daemon.json"), "nobody asks the evicted host for a name"
        lab.run(node, "getent hosts consul.service.dc1.consul")
    run = secure.play("site", inventory=evicted, **two)
    assert run.status == 0 and run.changed == 0, run.changes()
    doors.shut()


def test_the_node_comes_back_when_it_was_installed_again(doors: Doors) -> None:
    doors.stop()
    # What the intruder has registered stays until somebody removes it.
    for node in STAY:
        assert "stolen" in secure.ask(node, "/v1/agent/services", secure.token("operator")).json()
        assert secure.ask(node, "/v1/agent/service/deregister/stolen", secure.token("management"), "PUT").status == 200
    # What an installation leaves is nothing of what the node knew.
    gone = "/etc/systemd/system/consul.service /etc/consul.d /var/lib/consul /etc/registrator/consul.token /etc/registrator/tokens"
    lab.run(LOST, f"systemctl stop registrator consul; rm -rf {gone} /etc/consul-template.d/consul.token; systemctl daemon-reload", check=False)
    run = secure.play("site")
    assert run.status == 0, run.output[-6000:]
    assert members() == set(lab.NODES) and peers() == {*lab.NODES.values()}
    run = secure.play("site")
    assert run.status == 0 and run.changed == 0, run.changes()
