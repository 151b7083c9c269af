# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The faults and what must hold, as a table; some of each kind are part of `make test`."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import json
import typing as t

import callers
import faults
import lab
import snapshots
import traffic
from fault_report import Limit
from fault_run import NOBODY_AT_THE_EDGE_NOTICES, NOBODY_NOTICES, Case, Watch

EDGE, OTHER_EDGE = lab.EDGES
PLAIN = "consul-3"
NO_SESSION_CUT = (*NOBODY_NOTICES, Limit("tcp_cut", "=", 0))
#: Where the platform's names are gone, whoever calls by name fails.
NAMES_ARE_GONE = (*NOBODY_AT_THE_EDGE_NOTICES, Limit("tcp_cut", "=", 0))
# A question that was on its way to an agent when that was killed waits for the time-out of a second, and no longer.
NAMES_ANSWER = (Limit("dns_failed", "=", 0), Limit("dns_slowest_s", "<=", 1.5))
# An agent that starts keeps its first questions for up to a second. A name takes two, of IPv4 and of IPv6, one after
# the other, and one of them may also meet the time-out of a second.
AN_AGENT_STARTS = (
    *NOBODY_AT_THE_EDGE_NOTICES,
    *NAMES_ANSWER,
    Limit("tcp_cut", "=", 0),
    Limit("front_failed", "=", 0),
    Limit("front_slowest_s", "<=", 2.0),
)
# Who was in the middle of a request to a node that falls silent waits for an answer that does not come; whoever asks later is served by the others.
MAJORITY_SERVES = "the majority serves: a request that begins 5 s later or more is answered; no stale registration remains"
# A lost node makes no lookup on another one slow. Until it has left the catalogue, a name may still have its address, and
# who got that waits for a connection; afterwards nobody who calls another service by name notices that it is away.
NO_NAME_IS_SLOW = (Limit("dns_slow", "=", 0), Limit("front_late_trouble", "=", 0), Limit("front_slow_percent", "<=", 1.0))
MAJORITY = (
    Limit("http_failed_later", "=", 0),
    Limit("http_failed_percent", "<=", 1.0),
    Limit("front_failed_later", "=", 0),
    Limit("front_failed_percent", "<=", 1.0),
    Limit("dns_slow", "=", 0),
)
# Whoever calls an instance behind a line that loses packets, and not through the edge, meets the loss as long as it lasts.
LOSSY = tuple(limit for limit in MAJORITY if limit.figure != "front_failed_later")

BASIC = (
    Case(
        "quiet", "No fault", "0 failed: the load itself causes no errors", lambda: contextlib.nullcontext("nothing"), (*NO_SESSION_CUT, *NAMES_ANSWER), lasts=10
    ),
    Case("instance_killed", "One instance killed", "0 failed", lambda: faults.instance_killed(PLAIN)),
    Case("instance_stopped", "One instance stopped gracefully", "0 failed", lambda: faults.instance_stopped(OTHER_EDGE), NO_SESSION_CUT, lasts=5),
    Case("leader_killed", "Consul leader killed (kill -9)", "0 failed, and names are answered throughout", faults.leader_killed, AN_AGENT_STARTS),
    Case(
        "nginx_master_killed",
        "nginx master killed",
        "disruption for less than 2 s, recovers by itself, 0 wrong routes",
        lambda: faults.unit_killed(OTHER_EDGE, "nginx"),
        (Limit("trouble_span_s", "<", 2),),
    ),
    Case(
        "docker_restarted",
        "Docker daemon restarted",
        "containers keep running, 0 failed",
        lambda: faults.docker_away(EDGE, "systemctl restart docker"),
        NO_SESSION_CUT,
    ),
)

# Nodes -------------------------------------------------------------------------------------------------------------------


def let_go(*lost: str, edges: t.Sequence[str] = lab.EDGES) -> t.Callable[[Watch], None]:
    """The edges send nothing to lost nodes any more."""
    rest = [node for node in lab.NODES if node not in lost]
    return lambda watch: watch.wait("edges_right", lambda: callers.edges_right(edges, rest), 90, "the edges are right without it")


NODE_LOST = (
    Limit("http_failed", "=", 0),
    Limit("http_slow_percent", "<=", 0.1),
    Limit("front_failed", "=", 0),
    *NO_NAME_IS_SLOW,
    Limit("edges_right_s", "<=", 15),
)


@contextlib.contextmanager
def leading_node_lost() -> t.Iterator[str]:
    """It led, too."""
    faults.make_leader(PLAIN)
    with faults.nodes_lost(PLAIN) as proof:
        yield f"{proof}; it led"


@contextlib.contextmanager
def leading_node_cut(*directions: str) -> t.Iterator[str]:
    """It led, too."""
    faults.make_leader(PLAIN)
    with faults.packets_lost(PLAIN, directions) as proof:
        yield f"{proof}; it led"


NODES = (
    Case(
        "node_lost",
        "The leader's node lost for 60 s",
        "0 failed, at most 0.1 % slower than 1 s, edges correct within 15 s, full recovery",
        leading_node_lost,
        NODE_LOST,
        lasts=60,
        away=(PLAIN,),
        during=let_go(PLAIN),
    ),
    Case(
        "edge_lost",
        "The other edge lost for 60 s",
        "the same, through the remaining edge",
        lambda: faults.nodes_lost(OTHER_EDGE),
        NODE_LOST,
        lasts=60,
        edges=(EDGE,),
        away=(OTHER_EDGE,),
        during=let_go(OTHER_EDGE, edges=(EDGE,)),
    ),
    Case(
        "network_cut",
        "The leader's network cut off in both directions",
        MAJORITY_SERVES,
        lambda: leading_node_cut("in", "out"),
        # Consul gives a silent node up after 10 s or so.
        (*MAJORITY, Limit("front_late_trouble", "=", 0), Limit("edges_right_s", "<=", 20)),
        lasts=30,
        away=(PLAIN,),
        during=let_go(PLAIN),
    ),
    Case(
        "network_deaf",
        "The leader's network cut off in one direction: it sends and does not receive",
        MAJORITY_SERVES,
        lambda: leading_node_cut("in"),
        MAJORITY,
        lasts=30,
        away=(PLAIN,),
    ),
    Case(
        "packets_lost",
        "30 % of the packets to a node lost",
        MAJORITY_SERVES,
        lambda: faults.packets_lost(PLAIN, ("in",), 30),
        LOSSY,
        lasts=30,
        away=(PLAIN,),
    ),
    Case(
        "link_throttled",
        "A node's link throttled to 1 Mbit/s",
        MAJORITY_SERVES,
        lambda: faults.link_throttled(PLAIN),
        MAJORITY,
        lasts=30,
        away=(PLAIN,),
    ),
)

# Processes ---------------------------------------------------------------------------------------------------------------


def keeps_state(watch: Watch) -> None:
    """Long after the last server went, the edges have their upstreams."""

    def look() -> bool:
        kept = [{service for service, _where in callers.live(edge)} for edge in lab.EDGES]
        return watch.since() > 40 and all(services == set(callers.EXPOSED) for services in kept)

    watch.wait("kept_state", look, 55, "the edges keep what they had")


PROCESSES = (
    Case("follower_killed", "Consul follower killed", "0 failed, and names are answered throughout", faults.follower_killed, AN_AGENT_STARTS),
    Case(
        "docker_killed",
        "Docker daemon killed",
        "containers keep running, 0 failed",
        lambda: faults.docker_away(PLAIN, "systemctl kill -s KILL docker"),
        NO_SESSION_CUT,
    ),
    Case("registrator_killed", "registrator killed", "recovers by itself, 0 failed", lambda: faults.unit_killed(PLAIN, "registrator"), NO_SESSION_CUT),
    Case(
        "consul_template_killed", "consul-template killed", "recovers by itself, 0 failed", lambda: faults.unit_killed(EDGE, "consul-template"), NO_SESSION_CUT
    ),
    Case(
        "servers_stopped",
        "All Consul servers stopped for 60 s",
        "the edges keep the last good configuration, nothing is removed, full recovery",
        faults.servers_stopped,
        NAMES_ARE_GONE,
        lasts=60,
        during=keeps_state,
    ),
)

# Disk, memory, clock -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def edge_disk_full() -> t.Iterator[str]:
    """The directory of the edge, with changes that want to be written."""
    with faults.small_disk(EDGE, "/var/lib/nginx-edge", "1024", "consul-template", "nginx-edge-apply.socket") as filler:
        since = faults.clock(EDGE)
        with faults.disk_full(EDGE, filler) as proof:
            error = lab.wait_for(
                # A former generation that is removed meanwhile makes room for the next one.
                lambda: faults.fill(EDGE, filler) and faults.said_since(EDGE, since, "no space left", "consul-template", "nginx-edge-apply"),
                60,
                "the full disk is named",
                lambda: lab.journal(EDGE, "consul-template", "nginx-edge-apply"),
            )
            yield f"{proof}; the journal says: {error}"
        lab.wait_for(lambda: callers.edges_right((EDGE,)), 60, "the edge goes on as soon as there is room", callers.evidence)


_WRITE = "for number in $(seq 40); do head -c 300000 /dev/urandom | base64 -w0 | consul kv put fault/$number - >/dev/null; done"


@contextlib.contextmanager
def server_disk_full() -> t.Iterator[str]:
    """The data of a server, while the cluster has much to write."""
    faults.make_leader(EDGE)
    with faults.small_disk(PLAIN, "/var/lib/consul", "4096", "consul") as filler:
        traffic.settle()
        since = faults.clock(PLAIN)
        with faults.disk_full(PLAIN, filler) as proof:
            lab.manage(EDGE, _WRITE)
            error = lab.wait_for(
                lambda: faults.said_since(PLAIN, since, "no space left", "consul"), 60, "the full disk is named", lambda: lab.journal(PLAIN, "consul")
            )
            assert int(lab.manage(OTHER_EDGE, "consul kv get fault/40 | wc -c")) > 1, "the others go on writing"
            yield f"{proof}; the journal says: {error}"
        # All that was written meanwhile arrives.
        lab.wait_for(
            lambda: int(lab.manage(PLAIN, "consul kv get -stale fault/40 | wc -c")) > 1, 60, "the server has caught up", lambda: lab.journal(PLAIN, "consul")
        )
        traffic.settle()
        lab.manage(EDGE, "consul kv delete -recurse fault/")


def time_of_registrator() -> float:
    """As its metrics have it."""
    return float(lab.run(PLAIN, "curl -sf http://127.0.0.1:8099/metrics | awk '$1 == \"registrator_last_sync_timestamp_seconds\"{print $2}'"))


def time_of_apply() -> float:
    """As its last run has it."""
    return float(json.loads(lab.run(EDGE, "cat /var/lib/nginx-edge/status.json"))["last"]["time"])


def time_of_nginx() -> float:
    """As its answers have it."""
    line = lab.run(EDGE, "curl -sI http://127.0.0.1/ | grep -i ^date:")
    return email.utils.parsedate_to_datetime(line.partition(":")[2].strip()).timestamp()


def stays_right(watch: Watch) -> None:
    """What comes and goes meanwhile is followed."""
    watch.wait("right_meanwhile", callers.all_right, 60, "catalogue and edges are right meanwhile")


def clock_case(node: str, unit: str, shift: str, seen: t.Callable[[], float]) -> Case:
    """One component with another time."""
    return Case(
        f"clock_{unit}_{'ahead' if shift[0] == '+' else 'behind'}".replace("-", "_"),
        f"Clock of {unit} {'one hour ahead' if shift[0] == '+' else 'one hour behind'}",
        "0 failed, changes are applied, nothing is lost",
        lambda: faults.clock_shifted(node, unit, shift, seen, whole=unit == "nginx-edge-apply"),
        lasts=12,
        during=stays_right,
        only_while=True,
    )


def memory_case(node: str, unit: str, limit: str) -> Case:
    """One unit with too little memory."""
    return Case(
        f"memory_{unit}".replace("-", "_"),
        f"{unit} with MemoryMax={limit}",
        "a clear error message, 0 failed, recovery when the limit is removed",
        lambda: faults.memory_limited(node, unit, limit),
        NO_SESSION_CUT,
        lasts=15,
    )


MACHINE = (
    Case(
        "edge_disk_full", "Disk full on an edge", "a clear error message, nothing lost, recovery when space is freed", edge_disk_full, NO_SESSION_CUT, lasts=20
    ),
    Case("server_disk_full", "Disk full on a server", "a clear error message, nothing lost, recovery when space is freed", server_disk_full, lasts=20),
    *(clock_case(PLAIN, "registrator", shift, time_of_registrator) for shift in ("+1h", "-1h")),
    *(clock_case(EDGE, "nginx-edge-apply", shift, time_of_apply) for shift in ("+1h", "-1h")),
    *(clock_case(EDGE, "nginx", shift, time_of_nginx) for shift in ("+1h", "-1h")),
    memory_case(PLAIN, "registrator", "8M"),
    memory_case(EDGE, "consul-template", "8M"),
)

# The catalogue, and everything at once -----------------------------------------------------------------------------------


def refused(edge: str) -> t.Any:
    """What the guard of an edge holds back."""
    return json.loads(lab.run(edge, "nginx-edge-apply --status --json", check=False))["refused"]


def held_until_confirmed(watch: Watch) -> None:
    """Both edges hold what they had; one is told that it is right so, and lets go."""
    for edge in lab.EDGES:
        watch.wait(f"{edge.replace('-', '_')}_refused", lambda edge=edge: refused(edge), 30, f"the guard of {edge} holds")
    lab.run(OTHER_EDGE, "nginx-edge-apply --confirm-shrink", check=False)
    connection = http.client.HTTPConnection(traffic.addresses()[OTHER_EDGE], 80, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/", headers={"Host": f"{callers.WEB}.{traffic.DOMAIN}"})
        status = connection.getresponse().status
    assert status == 404, f"{OTHER_EDGE} was told to let go, and answers {status}"
    watch.load.event(f"{OTHER_EDGE} was told to let go")
    assert refused(EDGE), f"{EDGE} still holds"


def confirm_loss(word: str) -> None:
    """So many services leave at once that the operator has to say that it is right; until the edges hold nothing with the word any more."""

    def look(edge: str) -> bool:
        lab.run(edge, "nginx-edge-apply --confirm-shrink", check=False)
        return word not in lab.run(edge, "cat /var/lib/nginx-edge/live/http/*.conf /var/lib/nginx-edge/live/stream/*.conf").lower()

    for edge in lab.EDGES:
        lab.wait_for(lambda edge=edge: look(edge), 90, f"{edge} has let go of every {word} service")


CATALOGUE = (
    Case(
        "catalogue_wiped",
        "All services deregistered at once",
        "the guard holds the edge until it is confirmed",
        faults.catalogue_wiped,
        NAMES_ARE_GONE,
        lasts=20,
        edges=(EDGE,),
        during=held_until_confirmed,
    ),
    Case(
        "hostile_registrations",
        f"{faults.HOSTILE} hostile registrations",
        "0 failed on healthy services",
        faults.hostile_registrations,
        NO_SESSION_CUT,
        lasts=20,
        afterwards=lambda: confirm_loss("evil"),
    ),
    Case(
        "power_cycled",
        "All three nodes power-cycled at once",
        "the platform recovers by itself",
        lambda: faults.nodes_lost(*lab.NODES),
        (),
        lasts=5,
        away=tuple(lab.NODES),
        loaded=0.0,
    ),
    Case(
        "alone_after_power_cut",
        "All three nodes lose their power, and one returns alone",
        "its containers run without a leader; the platform recovers by itself",
        lambda: faults.alone_after_power_cut(PLAIN),
        (),
        lasts=5,
        away=tuple(lab.NODES),
        loaded=0.0,
    ),
    # In the middle of the change of ports there is trouble anyway; what counts is that no request goes astray, and that
    # the catalogue and the edges are right in the end.
    Case(
        "edge_restored",
        "An edge restored from a snapshot of its disk",
        "no wrong route, no registration is lost, full recovery",
        lambda: snapshots.restored(OTHER_EDGE),
        (),
        lasts=5,
        away=(OTHER_EDGE,),
        loaded=0.0,
        afterwards=lambda: snapshots.forget(OTHER_EDGE),
    ),
    Case(
        "all_restored",
        "All three nodes restored, each from a snapshot of another point in time",
        "no wrong route, no registration is lost, full recovery",
        lambda: snapshots.restored(*lab.NODES),
        (),
        lasts=5,
        away=tuple(lab.NODES),
        loaded=0.0,
        afterwards=lambda: snapshots.forget(*lab.NODES),
    ),
)

ALL = (*BASIC, *NODES, *PROCESSES, *MACHINE, *CATALOGUE)
# Of each kind one, which leaves its limits some room where the machine is busy.
_FURTHER = (
    "edge_lost",
    "network_cut",
    "servers_stopped",
    "edge_disk_full",
    "clock_nginx_edge_apply_ahead",
    "memory_registrator",
    "catalogue_wiped",
    "hostile_registrations",
    "power_cycled",
)
#: What `make test` has the time for.
SELECTED = (*BASIC, *(case for case in ALL if case.name in _FURTHER))
