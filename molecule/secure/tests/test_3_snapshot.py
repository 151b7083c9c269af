# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node that comes back from a snapshot of its machine, with the tokens and the gossip key of before a rotation."""

from __future__ import annotations

import lab
import secure
import snapshots
import traffic
from faults import nodes_lost, prepare_boot

NODE = "consul-2"
OTHERS = tuple(node for node in lab.NODES if node != NODE)
OTHER_EDGES = tuple(edge for edge in lab.EDGES if edge != NODE)


def members(node: str) -> set[str]:
    """The nodes that are there, as one of them sees them."""
    found = secure.ask(node, "/v1/agent/members", secure.token("operator")).json()
    return {member["Name"] for member in found if member["Status"] == 1}


def port_of_instance() -> int:
    """The port that Docker has given the instance on the node."""
    return int(lab.run(NODE, f"docker port {traffic.SERVICE}").splitlines()[0].rpartition(":")[2])


def let_a_stranger_answer(port: int) -> None:
    """Serve something else at a port of the node, as a container does that Docker has given it to."""
    lab.run(NODE, f"systemd-run -q --unit lab-stranger --property WorkingDirectory=/run/systemd python3 -m http.server {port}")
    lab.wait_for(lambda: lab.run(OTHERS[0], f"curl -so /dev/null http://{lab.NODES[NODE]}:{port}/ && echo yes", check=False), 20, "the stranger answers")


def leads_nobody_astray() -> bool:
    """Whether the edge of the node gives no answer of another service."""
    try:
        answer = traffic.ask(lab.NODES[NODE])
    except OSError:
        return True
    return answer == "" or answer[0] in "45"


def test_a_node_from_before_a_rotation_is_shut_out_and_one_run_brings_it_back() -> None:
    for node in lab.NODES:
        traffic.start_service(node)
    # Docker begins with its first port again after a boot, so the instance has another one then.
    for _ in range(3):
        lab.run(NODE, f"docker restart -t 1 {traffic.SERVICE}")
    port = port_of_instance()
    traffic.wait_until_served(*lab.NODES)
    prepare_boot(NODE)
    snapshots.take(NODE)
    run = secure.play("rotate_tokens")
    assert run.status == 0, run.output[-4000:]
    try:
        with traffic.Callers(nodes=OTHERS, edges=OTHER_EDGES) as callers:
            with nodes_lost(NODE):
                lab.wait_for(lambda: members(OTHERS[0]) == set(OTHERS), 60, "the others have noticed")
                since = secure.clock(OTHERS[0])
            # With the former key it is no member, and everybody says so. Nobody takes its old tokens either.
            for node in (NODE, OTHERS[0]):
                secure.said(node, "consul", "No installed keys could decrypt the message", since, 120)
            secure.said(NODE, "registrator", "403 ACL not found", since, 120)
            assert members(OTHERS[0]) == set(OTHERS)
            assert leads_nobody_astray(), "its edge answers right or not at all"
            lab.wait_for(lambda: lab.run(NODE, f"docker port {traffic.SERVICE}", check=False), 60, "the instance runs again")
            assert port_of_instance() != port
            let_a_stranger_answer(port)
            # One host alone does not decide which key is right.
            key = secure.secret("consul_gossip_key")
            run = secure.play("site", "--limit", NODE)
            assert run.status != 0 and run.changed == 0, run.changes()
            assert f"the agents of {NODE} do not know the gossip key" in " ".join(run.output.split()), run.output[-4000:]
            # What the documents say, and nothing else.
            run = secure.play("site")
            assert run.status == 0, run.output[-6000:]
            assert secure.secret("consul_gossip_key") == key
            lab.wait_for(lambda: members(OTHERS[0]) == set(lab.NODES), 60, "it is a member again", lambda: lab.journal(NODE, "consul"))
            traffic.wait_until_served(*lab.NODES)
        callers.saw_no_failure()
        traffic.settle()
        run = secure.play("site")
        assert run.status == 0 and run.changed == 0, run.changes()
    finally:
        lab.run(NODE, "systemctl stop lab-stranger", check=False)
        snapshots.forget(NODE)
