# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One node as if it had its processors for itself: its engine writes into an agent of its own, and the other nodes rest.

The three nodes of the benchmarks share the processors of one machine. While many containers start on one of them, the
servers of the other two write every change to disk and their edges render it, which takes processor time that a real
node would not lose. The unit of the engine is the one of the platform, with all its settings.
"""

from __future__ import annotations

import contextlib
import json
import typing as t

from bench.lab import Lab, Node, undo, wait_for
from bench.sides import DIRECTORY

AGENT_PORT = 18500
AGENT_UNIT = "bench-agent.service"
ENGINE_UNIT = "registrator.service"
CONFIG = "/etc/registrator/config.json"
DROP_IN = f"/run/systemd/system/{ENGINE_UNIT}.d/bench.conf"
#: An agent in memory, of a cluster of its own.
AGENT_COMMAND = (
    f"consul agent -dev -node=bench -bind=127.0.0.1 -client=127.0.0.1 -log-level=warn -http-port={AGENT_PORT} "
    "-dns-port=-1 -grpc-port=-1 -grpc-tls-port=-1 -serf-wan-port=-1 -server-port=18300 -serf-lan-port=18301"
)


def alone_config(text: str) -> str:
    """Return the engine's configuration, changed to write into the agent of its own without a token."""
    config = json.loads(text)
    config.update(consul_url=f"http://127.0.0.1:{AGENT_PORT}", consul_token_file="", consul_token_directory="", consul_ca_file="")
    return json.dumps(config)


@contextlib.contextmanager
def engine_alone(lab: Lab, node: Node) -> t.Iterator[None]:
    """Let the node's engine write into an agent of its own, and the edges of the other nodes rest, for a while."""
    edges = [edge for edge in lab.edges if edge != node]
    weight = node.run("systemctl show -p CPUWeight --value consul.service")
    share = f"--property=CPUWeight={weight} " if weight.isdigit() else ""
    try:
        lab.each(edges, "systemctl stop consul-template")
        node.run(f"systemd-run --quiet --collect {share}--unit={AGENT_UNIT} {AGENT_COMMAND}")
        leader = f"curl -sf http://127.0.0.1:{AGENT_PORT}/v1/status/leader"
        wait_for(lambda: ":" in node.run(leader, check=False), 30, "the agent of the engine's own has a leader")
        node.put(f"{DIRECTORY}/alone.json", alone_config(node.run(f"cat {CONFIG}")))
        node.put(DROP_IN, f"[Service]\nExecStart=\nExecStart=/usr/local/bin/registrator --config {DIRECTORY}/alone.json run\n")
        node.run(f"systemctl daemon-reload && systemctl restart {ENGINE_UNIT} && registrator status --wait 30 >/dev/null", timeout=60)
        yield
    finally:
        undo(
            lambda: node.run(f"rm -rf $(dirname {DROP_IN}) {DIRECTORY}/alone.json && systemctl daemon-reload && systemctl restart {ENGINE_UNIT}"),
            lambda: node.run(f"systemctl stop {AGENT_UNIT}", check=False),
            lambda: lab.each(edges, "systemctl start consul-template"),
        )
