# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server of a real cluster makes room for another one, and one gets another address, as docs/operations.md says."""

from __future__ import annotations

import contextlib
import json
import subprocess
import typing as t
from pathlib import Path

import pytest
import yaml
from edge_rig import free_port, poll, tool

from ansible_collections.trinode.platform.plugins.module_utils._consul import cluster, member
from ansible_collections.trinode.platform.plugins.module_utils._consul.cluster import ConsulApi, Server

ROOT = Path(__file__).resolve().parents[2]
#: Settings of the role that decide who votes and how fast.
ROLE = yaml.safe_load((ROOT / "roles" / "consul_server" / "vars" / "main.yml").read_text(encoding="utf-8"))


class Agent:
    """A server on a loopback address of its own, so that the ports are the same everywhere."""

    def __init__(self, directory: Path, name: str, address: str, ports: dict[str, int], expected: int, join: t.Sequence[str]) -> None:
        self.name, self.address = name, address
        directory.mkdir(exist_ok=True)
        config: dict[str, t.Any] = {
            "server": True,
            "node_name": name,
            "bind_addr": address,
            "advertise_addr": address,
            "client_addr": address,
            "data_dir": str(directory / "data"),
            "bootstrap_expect": expected,
            "retry_join": list(join),
            "retry_interval": "1s",
            "ports": {**ports, "dns": -1, "grpc": -1, "grpc_tls": -1, "serf_wan": -1},
            "disable_update_check": True,
            "performance": {"raft_multiplier": 1},
            **{key: ROLE["__consul_server_config_agent"][key] for key in ("rejoin_after_leave",)},
            "skip_leave_on_interrupt": True,
            "autopilot": ROLE["__consul_server_config_server"]["autopilot"],
        }
        (directory / "consul.json").write_text(json.dumps(config), encoding="utf-8")
        self.log = directory / "log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([tool("consul", "CONSUL_BIN"), "agent", f"-config-file={directory / 'consul.json'}"], stdout=log, stderr=log)
        self.api = ConsulApi(f"http://{address}:{ports['http']}")

    def stop(self) -> None:
        """End the agent as a stopped unit does: it does not leave."""
        self.process.send_signal(2)
        self.process.wait(30)

    def voters(self) -> dict[str, str]:
        """Return the addresses of the voters."""
        found = (self.api.optional("/v1/operator/raft/configuration") or {}).get("Servers") or ()
        return {one["Node"]: cluster.split_address(one["Address"]) for one in found if one["Voter"]}

    def problems(self, servers: t.Sequence[Server]) -> list[str]:
        """Return what the health gate of the role says."""
        return cluster.evaluate(self.api.state("server"), servers, self.name, "server")


@pytest.fixture(name="start")
def fixture_start(tmp_path: Path) -> t.Iterator[t.Callable[..., Agent]]:
    ports = {name: free_port() for name in ("http", "server", "serf_lan")}
    agents: list[Agent] = []

    def make(name: str, address: str, servers: t.Sequence[str]) -> Agent:
        join = [f"{one}:{ports['serf_lan']}" for one in servers if one != address]
        agents.append(Agent(tmp_path / name, name, address, ports, len(servers), join))
        return agents[-1]

    try:
        yield make
    finally:
        for agent in agents:
            with contextlib.suppress(OSError):
                agent.process.kill()
            agent.process.wait(20)
            print(f"--- {agent.name} {agent.address}\n{agent.log.read_text(errors='replace')[-1500:]}")


def healthy(agent: Agent, servers: dict[str, str]) -> None:
    """Wait until the gate has nothing to say and exactly these servers vote."""
    expected = [Server(name, address) for name, address in servers.items()]
    poll(f"{sorted(servers)} vote", lambda: agent.voters() == servers and not agent.problems(expected), 90)


def remove(agent: Agent, name: str) -> None:
    """Remove what is left of a server, as remove_node.yml does."""

    def gone() -> bool:
        left = member.look(agent.api, name)
        for trace in left:
            agent.api.request(trace.path, trace.method, trace.body)
        return not left

    poll(f"nothing of {name} is left", gone, 60)


def test_a_server_makes_room_and_one_gets_another_address(start: t.Callable[..., Agent]) -> None:
    three = {f"s{number}": f"127.0.13.{number}" for number in (1, 2, 3)}
    agents = {name: start(name, address, list(three.values())) for name, address in three.items()}
    healthy(agents["s1"], three)
    agents["s1"].api.request("/v1/kv/kept", "PUT", "yes")

    # The new one joins first, then the old one goes: three vote all the time.
    four = {**three, "s4": "127.0.13.4"}
    agents["s4"] = start("s4", four["s4"], list(four.values()))
    healthy(agents["s1"], four)
    agents["s3"].stop()
    remove(agents["s1"], "s3")
    changed = {name: address for name, address in four.items() if name != "s3"}
    healthy(agents["s1"], changed)
    assert "s3" not in [node["Node"] for node in agents["s1"].api.request("/v1/catalog/nodes")]

    # Another address: the same data, so the same server for the cluster.
    assert agents["s1"].api.state("server", "s1").entered
    assert agents["s1"].api.state("server", "s3").entered is False
    # While members leave, an agent may be busy for longer than one call waits.
    identity = poll("s4 says who it is", lambda: agents["s4"].api.request("/v1/agent/self")["Config"]["NodeID"])
    agents["s4"].stop()
    moved = {**changed, "s4": "127.0.13.5"}
    agents["s4"] = start("s4", moved["s4"], list(moved.values()))
    healthy(agents["s1"], moved)
    poll("the catalogue knows the address", lambda: agents["s1"].api.request("/v1/catalog/node/s4")["Node"]["Address"] == moved["s4"], 60)
    assert agents["s4"].api.request("/v1/agent/self")["Config"]["NodeID"] == identity
    assert agents["s4"].api.request("/v1/kv/kept")[0]["Key"] == "kept"
