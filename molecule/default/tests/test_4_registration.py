# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine against a real Docker and a real Consul agent: whatever happens, the catalogue equals the running containers."""

from __future__ import annotations

import shlex

import lab
import pytest
from registration import PREFIX, Node

AGENT_ANSWERS = "curl -sf http://127.0.0.1:8500/v1/status/leader"


def checks_of(node: Node, name: str) -> dict[str, str]:
    """The status of each check of a container's services, by the end of the check's id."""
    return {key.rpartition(":")[2]: value["Status"] for key, value in node.api("/v1/agent/checks").items() if f":{PREFIX}{name}:" in key}


def test_containers_come_and_go(node: Node) -> None:
    node.start("a", "-p 18081:8081 -l SERVICE_NAME=reg-web -l SERVICE_TAGS=http,v1 -l SERVICE_EDGE_PORT=9999 -l SERVICE_WEIGHT=20")
    node.start("b", "-P --expose 80 --expose 81 --expose 53/udp")
    node.settled()
    assert len(node.catalogue()) == 4
    (service,) = (value for key, value in node.agent_services().items() if key.endswith(":reg-a:8081"))
    assert (service["Service"], service["Tags"], service["Port"], service["Weights"]["Passing"]) == ("reg-web", ["http", "v1"], 18081, 20)
    assert service["Meta"]["edge_port"] == "9999"
    assert service["Meta"]["edge_weight"] == "20"
    assert service["Meta"]["version"] == "1", "the image's tag"
    node.run(f"docker stop -t 0 {PREFIX}a && docker kill {PREFIX}b")
    node.settled()
    assert not node.catalogue()
    node.run(f"docker start {PREFIX}a {PREFIX}b && docker restart -t 0 {PREFIX}a")
    node.settled()
    assert len(node.catalogue()) == 4
    node.run(f"docker rename {PREFIX}a {PREFIX}c && docker rm -f {PREFIX}b")
    node.settled()
    assert {item[0] for item in node.catalogue()} == {PREFIX + "c"}


def test_paused_is_out(node: Node) -> None:
    node.start("a", "-P --expose 80")
    node.wait_for("a", True)
    node.run(f"docker pause {PREFIX}a")
    node.wait_for("a", False)
    node.run(f"docker unpause {PREFIX}a")
    node.wait_for("a", True)


def test_stop_drains_before_the_end_and_hup_does_not(node: Node) -> None:
    node.start("a", "-P --expose 80", "sh -c 'trap \"\" HUP TERM; while true; do sleep 1; done'")
    node.wait_for("a", True)
    before = node.metric("deregistered_total")
    events = node.metric("events_total")
    node.run(f"docker kill -s HUP {PREFIX}a")
    lab.wait_for(lambda: node.metric("events_total") > events, 10, "the event is seen", node.evidence)
    node.start("b", "-P --expose 80")
    node.wait_for("b", True)
    assert node.metric("deregistered_total") == before, "SIGHUP must not take an instance out"
    assert node.holds("a")
    node.run(f"docker stop -t 60 {PREFIX}a >/dev/null 2>&1 &")
    node.wait_for("a", False)
    assert node.is_running("a"), "it must leave the catalogue while it still runs"
    # A complete comparison in between must not bring it back.
    node.run(f"kill -9 {node.pid('registrator')}; registrator status --wait 20")
    assert node.is_running("a"), "the test itself was too slow"
    assert not node.holds("a")
    node.run(f"docker kill {PREFIX}a && docker start {PREFIX}a")
    node.settled()
    assert node.holds("a")


def test_drained_by_hand_over_restarts_of_everything(node: Node) -> None:
    node.start("a", "-P --expose 80 --restart always")
    node.start("b", "-P --expose 80")
    node.settled()
    assert node.run(f"registrator drain {PREFIX}a").startswith(f"container {PREFIX}a is out of service: ")
    # The answer comes when it is done.
    assert not node.holds("a")
    assert node.is_running("a")
    engine = node.pid("registrator")
    node.run(f"kill -9 {engine}; docker restart -t 0 {PREFIX}a")
    lab.wait_for(lambda: node.pid("registrator") not in ("0", engine), 20, "systemd starts the engine again", node.evidence)
    node.run("registrator status --wait 20")
    node.run("systemctl reset-failed docker docker.socket; systemctl restart docker consul")
    node.whole()
    node.wait_for("b", True)
    assert node.is_running("a")
    assert not node.holds("a")
    assert node.metric("drained") == 1
    assert f'"drained": ["{PREFIX}a"]' in node.run("registrator status")
    assert "drained by hand since" in node.run(f"registrator explain {PREFIX}a")
    identity = node.run(f"docker inspect -f '{{{{.Id}}}}' {PREFIX}a")
    assert node.run(f"registrator undrain {identity[:12]}").startswith(f"container {PREFIX}a is in service: ")
    assert node.holds("a")
    # A container that is removed takes its drain with it, and one of the same name is another one.
    node.run(f"registrator drain {PREFIX}a && docker rm -f {PREFIX}a")
    node.start("a", "-P --expose 80")
    node.wait_for("a", True)
    lab.wait_for(lambda: node.metric("drained") == 0, 10, "the removed container's drain is forgotten", node.evidence)


def test_an_order_that_cannot_be_carried_out_says_why(node: Node) -> None:
    node.start("a", "-P --expose 80")
    node.settled()
    for order, words in (
        (f"drain {PREFIX}nobody", f"there is no running container {PREFIX}nobody"),
        (f"undrain {PREFIX}a", f"no drained container has the name or id {PREFIX}a"),
        ("--once", "the engine runs and keeps the catalogue"),
    ):
        answer = node.run(f"registrator {order} 2>&1 && echo obeyed", check=False)
        assert words in answer
        assert "obeyed" not in answer
    node.run("systemctl stop consul")
    try:
        answer = node.run(f"registrator drain {PREFIX}a 2>&1 && echo obeyed", check=False)
        assert "as soon as the Consul agent answers" in answer
        assert "obeyed" not in answer
    finally:
        node.run("systemctl start consul")
    node.whole()
    node.wait_for("a", False)
    node.run("systemctl stop registrator")
    answer = node.run(f"registrator undrain {PREFIX}a 2>&1 && echo obeyed", check=False)
    assert "systemctl start registrator" in answer
    assert "obeyed" not in answer
    node.run("systemctl start registrator && registrator status --wait 20")
    assert not node.holds("a")
    node.run(f"registrator undrain {PREFIX}a")
    assert node.holds("a")


def test_who_may_stop_a_container_may_drain_it_and_nobody_else(node: Node) -> None:
    node.start("a", "-P --expose 80")
    node.settled()
    order = f"setpriv --reuid=nobody --regid=nogroup %s registrator drain {PREFIX}a 2>&1"
    assert "only root" in node.run(order % "--clear-groups", check=False)
    assert node.holds("a")
    node.run(order % "--groups=docker")
    assert not node.holds("a")


def test_the_engine_has_no_right_but_the_sockets_of_docker_and_the_agent(node: Node) -> None:
    status = dict(line.split(":\t", 1) for line in node.run(f"cat /proc/{node.pid('registrator')}/status").splitlines() if ":\t" in line)
    assert {status[key].strip() for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"].strip() == "1"
    groups = {node.run(f"getent group {number} | cut -d: -f1") for number in status["Groups"].split()}
    assert groups <= {"docker", "registrator", "consul-api"}
    assert node.run(f"ps -o user= -p {node.pid('registrator')}").strip().startswith("registr")


def test_warm_up_comes_before_traffic(node: Node) -> None:
    node.start("a", "-P --expose 80 -l SERVICE_WARMUP=4s")
    node.settled()
    assert checks_of(node, "a") == {"warmup": "critical"}
    name = next(value["Service"] for value in node.agent_services().values())
    assert node.api(f"/v1/health/service/{name}?passing") == []
    lab.wait_for(lambda: node.api(f"/v1/health/service/{name}?passing"), 20, "the warm-up ends", node.evidence)
    assert checks_of(node, "a") == {"warmup": "passing"}
    node.run(f"docker restart -t 0 {PREFIX}a")
    lab.wait_for(lambda: checks_of(node, "a") == {"warmup": "critical"}, 4, "the next start warms up again", node.evidence)


def test_docker_restart(node: Node) -> None:
    node.start("a", "-P --expose 80 --restart always")
    node.start("b", "-P --expose 80")
    node.settled()
    node.run("systemctl reset-failed docker docker.socket; systemctl restart docker")
    lab.wait_for(lambda: node.is_running("a"), 30, "Docker starts the container again", node.evidence)
    node.settled()


def test_a_stopped_docker_stays_stopped_and_leaves_no_ghost(node: Node) -> None:
    live_restore = node.run("docker info -f '{{.LiveRestoreEnabled}}'") == "true"
    node.start("a", "-P --expose 80")
    node.settled()
    process = node.run(f"docker inspect -f '{{{{.State.Pid}}}}' {PREFIX}a")
    node.run("systemctl stop docker")
    if live_restore:
        # Its process lives on without Docker, so it stays until the process ends.
        lab.wait_for(lambda: node.metric("docker_up") == 0, 10, "the engine notices", node.evidence)
        assert node.holds("a")
        node.run(f"kill -9 {process}")
    node.wait_for("a", False)
    assert node.run("systemctl is-active docker", check=False) == "inactive", "the engine must not start Docker through its socket"


def test_after_a_reboot_nothing_is_vouched_for_until_docker_answers(node: Node) -> None:
    node.start("a", "-P --expose 80 --restart always")
    node.settled()
    node.run("systemctl kill -s KILL registrator; systemctl stop registrator; systemctl stop docker; rm -f /run/registrator/state.json")
    assert node.holds("a"), "the agent kept it, as it does over a reboot"
    node.run("systemctl start registrator")
    node.wait_for("a", False)
    node.run("systemctl reset-failed docker docker.socket; systemctl start docker")
    node.wait_for("a", True, 30)
    node.settled()


def test_engine_killed_while_things_change(node: Node) -> None:
    node.start("a", "-P --expose 80")
    node.start("b", "-P --expose 80")
    node.settled()
    old = node.pid("registrator")
    node.run(f"kill -9 {old}; docker rm -f {PREFIX}a")
    node.start("c", "-P --expose 80")
    lab.wait_for(lambda: node.pid("registrator") not in ("0", old), 20, "systemd starts the engine again", node.evidence)
    node.settled()
    assert {item[0] for item in node.catalogue()} == {PREFIX + "b", PREFIX + "c"}


def test_an_engine_that_hangs_is_replaced(node: Node) -> None:
    drop_in = "/run/systemd/system/registrator.service.d"
    node.run(f"mkdir -p {drop_in} && printf '[Service]\\nWatchdogSec=2\\n' > {drop_in}/test.conf && systemctl daemon-reload && systemctl restart registrator")
    try:
        old = node.pid("registrator")
        restarts = node.run("systemctl show --property NRestarts --value registrator")
        node.start("a", "-P --expose 80")
        node.settled()
        # A healthy one lives through several of the periods.
        assert node.run("sleep 5; systemctl show --property NRestarts --value registrator") == restarts
        assert node.pid("registrator") == old
        node.run(f"kill -STOP {old}; docker rm -f {PREFIX}a")
        lab.wait_for(lambda: node.pid("registrator") not in ("0", old), 30, "the watchdog replaces it", node.evidence)
        node.settled()
    finally:
        node.run(f"rm -r {drop_in} && systemctl daemon-reload && systemctl restart registrator")


def test_quick_restarts_leave_it_in(node: Node) -> None:
    node.start("a", "-p 18081:80")
    node.run(f"for turn in 1 2 3 4 5; do docker restart -t 0 {PREFIX}a; done")
    node.settled()
    assert node.holds("a")


def test_agent_restart_heals_at_once(node: Node) -> None:
    node.start("a", "-p 18081:80")
    node.settled()
    engine = node.pid("registrator")
    # The container's own restart falls into the complete comparison; its former run's draining must not count for the new one.
    node.run(f"systemctl restart consul & docker restart -t 0 {PREFIX}a; wait")
    # Less than the time between two complete comparisons: the engine notices that the agent was away.
    lab.wait_for(lambda: node.run(AGENT_ANSWERS, check=False), 30, "the agent comes back", node.evidence)
    node.settled(20)
    assert node.pid("registrator") == engine


def test_changes_while_the_agent_is_away(node: Node) -> None:
    node.start("a", "-P --expose 80")
    node.settled()
    engine = node.pid("registrator")
    node.run("systemctl stop consul")
    try:
        node.run(f"docker rm -f {PREFIX}a")
        # What is due by time while the agent is away must not make the engine ask it without a pause.
        node.start("b", "-P --expose 80 -l SERVICE_WARMUP=1s")
        lab.wait_for(lambda: node.metric("consul_up") == 0, 10, "the engine notices", node.evidence)
        before = node.metric("consul_errors_total")
        node.run("sleep 4")
        assert node.metric("consul_errors_total") - before < 40
        assert node.run("registrator status && echo fine", check=False).count("fine") == 0
    finally:
        node.run("systemctl start consul")
    lab.wait_for(lambda: node.run(AGENT_ANSWERS, check=False), 30, "the agent comes back", node.evidence)
    node.settled(20)
    assert node.holds("b")
    assert node.pid("registrator") == engine


def test_docker_health_decides(node: Node) -> None:
    node.start("a", "-P --expose 80 --health-cmd 'test -e /ok' --health-interval 1s --health-retries 1 --health-start-period 60s")
    node.settled()
    name = next(value["Service"] for value in node.agent_services().values())

    def passing() -> int:
        return sum(PREFIX + "a" in entry["Service"]["ID"] for entry in node.api(f"/v1/health/service/{name}?passing"))

    assert passing() == 0, "a starting container gets no traffic"
    node.run(f"docker exec {PREFIX}a sh -c 'echo > /ok'")
    lab.wait_for(lambda: passing() == 1, 20, "healthy arrives", node.evidence)
    node.run(f"docker exec {PREFIX}a rm /ok")
    lab.wait_for(lambda: passing() == 0, 20, "unhealthy arrives", node.evidence)


FOREIGN = ("reg-foreign", "node:reg-ghost:80")


@pytest.fixture(name="foreign")
def fixture_foreign(node: Node) -> tuple[str, ...]:
    """Registrations of somebody else; the node's own clean-up follows the removal of these."""
    for identity in FOREIGN:
        node.put("/v1/agent/service/register", {"ID": identity, "Name": "reg-foreign", "Port": 7, "Address": "192.0.2.1"})
    return FOREIGN


def test_other_peoples_registrations_are_untouched(node: Node, foreign: tuple[str, ...]) -> None:
    try:
        before = {identity: node.api(f"/v1/agent/service/{identity}") for identity in foreign}
        node.start("a", "-P --expose 80 -l SERVICE_ID=reg-foreign")
        node.start("b", "-P --expose 80")
        node.wait_for("b", True)
        node.run("systemctl restart registrator && registrator status --wait 20 && registrator adopt")
        assert {identity: node.api(f"/v1/agent/service/{identity}") for identity in foreign} == before
        assert "reg-foreign" in node.run("journalctl -u registrator -o cat -n 200 | grep event=refused")
        node.run(f"docker rm -f {PREFIX}a")
    finally:
        node.forget(*foreign)


def test_registrators_own_registration_is_taken_over_and_its_ghosts_go_when_told(node: Node) -> None:
    node.start("a", "-P --expose 80")
    node.settled()
    identity, service = next(iter(node.agent_services().items()))
    body = {"Name": service["Service"], "Port": service["Port"], "Address": service["Address"]}
    # What a registrator container leaves: the living one without a mark, one that is gone, and the living one under the container's own name.
    left = {identity: body, f"{node.name}:reg-gone:80": {**body, "Port": 7}, "0123456789ab:reg-a:80": {**body, "Address": "127.0.1.1"}}
    for key, value in left.items():
        node.put("/v1/agent/service/register", {"ID": key, **value})
    node.run("systemctl restart registrator && registrator status --wait 20")
    assert "registrator-managed" in node.api(f"/v1/agent/service/{identity}")["Meta"]
    assert set(node.agent_services()) == set(left), "nothing of somebody else's goes unless it is told"
    preview = node.run("registrator adopt --dry-run")
    assert set(node.agent_services()) == set(left)
    told = node.run("registrator adopt").splitlines()
    assert sorted(told) == sorted(f"removed {key}" for key in left if key != identity)
    assert all(key in preview for key in left if key != identity)
    assert set(node.agent_services()) == {identity}
    assert node.run("registrator adopt") == "nothing was left behind"


def test_bad_labels_never_stop_the_rest(node: Node) -> None:
    before = node.metric("refused_total")
    labels = {"SERVICE_NAME": "reg-bad", "SERVICE_OK": "yes"}
    labels |= {"SERVICE_WEIGHT": "heavy", "SERVICE_X.Y": "1", "SERVICE_CHECK_TTL": "soon", "SERVICE_LONG": "x" * 600, "SERVICE_DB_PASSWORD": "hushhush"}
    node.start("bad", "-P --expose 80 " + " ".join("-l " + shlex.quote(f"{key}={value}") for key, value in labels.items()))
    node.start("worse", "-P --expose 80 -l 'SERVICE_NAME=a/b c'")
    node.start("good", "-P --expose 80")
    node.wait_for("good", True)
    node.wait_for("bad", True)
    (service,) = (value for key, value in node.agent_services().items() if ":reg-bad:" in key)
    assert service["Service"] == "reg-bad"
    assert service["Meta"]["ok"] == "yes"
    assert not {"long", "db_password"} & set(service["Meta"])
    assert not node.holds("worse")
    # Each is told once with container, label and reason, and counted once, however often they are compared.
    node.run("registrator adopt && registrator adopt")
    identity = node.run(f"docker inspect -f '{{{{.Id}}}}' {PREFIX}bad")[:12]
    told = node.run(f"journalctl -u registrator -o cat | grep 'event=refused container={identity}'").splitlines()
    assert sorted(line.split("key=")[1].split()[0] for line in told) == ["check_ttl", "db_password", "long", "weight", "x.y"]
    assert all(f"name={PREFIX}bad" in line and "reason=" in line for line in told)
    assert "hushhush" not in node.run("journalctl -u registrator -o cat")
    assert node.metric("refused_total") == before + 6
    assert node.metric("refused") == 6
    assert "cannot be a service name" in node.run(f"registrator explain {PREFIX}worse")
    node.run(f"docker rm -f {PREFIX}worse")


def test_hand_made_changes_heal_with_the_next_comparison(node: Node) -> None:
    config = "/etc/registrator/config.json"
    # Half a minute by default, which nobody wants to watch.
    node.run(f'cp -p {config} /run/config.json && sed -i \'s/"resync_seconds": 30/"resync_seconds": 3/\' {config} && ! cmp -s {config} /run/config.json')
    try:
        node.run("systemctl restart registrator && registrator status --wait 20")
        node.start("a", "-P --expose 80 -l SERVICE_NAME=reg-made")
        node.settled()
        identity, service = next(iter(node.agent_services().items()))
        node.forget(identity)
        node.settled(20)
        node.put("/v1/agent/service/register", {"ID": identity, "Name": "reg-made", "Port": 7, "Meta": service["Meta"]})
        node.settled(20)
        node.put("/v1/agent/service/register", {"ID": f"{node.name}:reg-ghost:80", "Name": "reg-made", "Meta": service["Meta"]})
        node.settled(20)
        assert set(node.agent_services()) == {identity}
    finally:
        node.run(f"mv /run/config.json {config} && systemctl restart registrator && registrator status --wait 20")


def test_explain_and_dry_run_change_nothing(node: Node) -> None:
    node.start("a", "-P --expose 80 -l SERVICE_NAME=reg-explained")
    node.settled()
    text = node.run(f"registrator explain {PREFIX}a")
    assert "service reg-explained" in text
    assert "the agent holds it" in text
    assert "0 to register, 0 to deregister" in node.run("registrator --dry-run --once")
