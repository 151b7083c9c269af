# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine against a real Docker and a real Consul agent: whatever happens, the catalogue equals the running containers."""

from __future__ import annotations

import shlex

from registrator_node import PREFIX, Node, wait_until


def holds(node: Node, name: str) -> bool:
    return any(container == PREFIX + name for container, _address, _port, _protocol in node.catalogue())


def wait_for(node: Node, name: str, present: bool, seconds: float = 5.0) -> None:
    wait_until(lambda: holds(node, name) is present, seconds, lambda: f"{name} present={present}: {node.catalogue()}")


def test_containers_come_and_go(node: Node) -> None:
    node.start("a", "-p 18081:8081 -l SERVICE_NAME=reg-web -l SERVICE_TAGS=http,v1 -l SERVICE_EDGE_PORT=9999 -l SERVICE_WEIGHT=20")
    node.start("b", "-P --expose 80 --expose 81 --expose 53/udp")
    node.settled()
    assert len(node.catalogue()) == 4
    (service,) = (value for key, value in node.agent_services().items() if key.endswith(":reg-a:8081"))
    assert (service["Service"], service["Tags"], service["Port"], service["Weights"]["Passing"]) == ("reg-web", ["http", "v1"], 18081, 20)
    assert service["Meta"]["edge_port"] == "9999"
    assert service["Meta"]["edge_weight"] == "20"
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
    wait_for(node, "a", True)
    node.run(f"docker pause {PREFIX}a")
    wait_for(node, "a", False)
    node.run(f"docker unpause {PREFIX}a")
    wait_for(node, "a", True)


def test_stop_drains_before_the_end_and_hup_does_not(node: Node) -> None:
    node.start("a", "-P --expose 80", "sh -c 'trap \"\" HUP TERM; while true; do sleep 1; done'")
    wait_for(node, "a", True)
    before = node.metric("deregistered_total")
    events = node.metric("events_total")
    node.run(f"docker kill -s HUP {PREFIX}a")
    wait_until(lambda: node.metric("events_total") > events, 5, lambda: "the event was not seen")
    node.start("b", "-P --expose 80")
    wait_for(node, "b", True)
    assert node.metric("deregistered_total") == before, "SIGHUP must not take an instance out"
    assert holds(node, "a")
    node.run(f"docker stop -t 60 {PREFIX}a >/dev/null 2>&1 &")
    wait_for(node, "a", False)
    assert node.run(f"docker inspect -f '{{{{.State.Running}}}}' {PREFIX}a") == "true", "it must leave the catalogue while it still runs"
    # A complete comparison in between must not bring it back.
    node.run(f"kill -9 {node.pid('registrator')} && registrator status --wait 20")
    assert node.run(f"docker inspect -f '{{{{.State.Running}}}}' {PREFIX}a") == "true", "the test itself was too slow"
    assert not holds(node, "a")
    node.run(f"docker kill {PREFIX}a && docker start {PREFIX}a")
    node.settled()
    assert holds(node, "a")


def test_docker_restart(node: Node) -> None:
    node.start("a", "-P --expose 80 --restart always")
    node.start("b", "-P --expose 80")
    node.settled()
    node.run("systemctl reset-failed docker docker.socket; systemctl restart docker")
    wait_until(lambda: PREFIX + "a" in node.run("docker ps --format '{{.Names}}'"), 30, lambda: "Docker did not start the container again")
    node.settled(10)


def test_a_stopped_docker_stays_stopped_and_leaves_no_ghost(node: Node) -> None:
    live_restore = node.run("docker info -f '{{.LiveRestoreEnabled}}'") == "true"
    node.start("a", "-P --expose 80")
    node.settled()
    process = node.run(f"docker inspect -f '{{{{.State.Pid}}}}' {PREFIX}a")
    node.run("systemctl stop docker")
    if live_restore:
        # Its process lives on without Docker, so it stays until the process ends.
        wait_until(lambda: node.metric("docker_up") == 0, 10, lambda: "the engine did not notice")
        assert holds(node, "a")
        node.run(f"kill -9 {process}")
    wait_for(node, "a", False, 10)
    assert node.run("systemctl is-active docker", check=False) == "inactive", "the engine must not start Docker through its socket"


def test_after_a_reboot_nothing_is_vouched_for_until_docker_answers(node: Node) -> None:
    node.start("a", "-P --expose 80 --restart always")
    node.settled()
    node.run("systemctl kill -s KILL registrator; systemctl stop registrator; systemctl stop docker; rm -f /run/registrator/state.json")
    assert holds(node, "a"), "the agent kept it, as it does over a reboot"
    node.run("systemctl start registrator")
    wait_for(node, "a", False, 10)
    node.run("systemctl reset-failed docker docker.socket; systemctl start docker")
    wait_for(node, "a", True, 30)
    node.settled()


def test_engine_killed_while_things_change(node: Node) -> None:
    node.start("a", "-P --expose 80")
    node.start("b", "-P --expose 80")
    node.settled()
    old = node.pid("registrator")
    node.run(f"kill -9 {old}; docker rm -f {PREFIX}a")
    node.start("c", "-P --expose 80")
    wait_until(lambda: node.pid("registrator") not in ("0", old), 10, lambda: "systemd did not start the engine again")
    node.settled(10)
    assert {item[0] for item in node.catalogue()} == {PREFIX + "b", PREFIX + "c"}


def test_quick_restarts_leave_it_in(node: Node) -> None:
    node.start("a", "-p 18081:80")
    node.run(f"for turn in 1 2 3 4 5; do docker restart -t 0 {PREFIX}a; done")
    node.settled()
    assert holds(node, "a")


def test_agent_restart_heals_at_once(node: Node) -> None:
    node.start("a", "-p 18081:80")
    node.settled()
    engine = node.pid("registrator")
    # The container's own restart falls into the complete comparison; its former run's draining must not count for the new one.
    node.run(f"systemctl restart consul & docker restart -t 0 {PREFIX}a; wait")
    # Less than the time between two complete comparisons: the engine notices that the agent was away.
    wait_until(lambda: node.run("curl -sf http://127.0.0.1:8500/v1/agent/self", check=False) != "", 30, lambda: "the agent did not come back")
    node.settled(15)
    assert node.pid("registrator") == engine


def test_changes_while_the_agent_is_away(node: Node) -> None:
    node.start("a", "-P --expose 80")
    node.settled()
    engine = node.pid("registrator")
    node.run("systemctl stop consul")
    try:
        node.run(f"docker rm -f {PREFIX}a")
        node.start("b", "-P --expose 80")
        wait_until(lambda: node.metric("consul_up") == 0, 10, lambda: "the engine did not notice")
        assert node.run("registrator status && echo fine", check=False) == ""
    finally:
        node.run("systemctl start consul")
    wait_until(lambda: node.run("curl -sf http://127.0.0.1:8500/v1/agent/self", check=False) != "", 30, lambda: "the agent did not come back")
    node.settled(15)
    assert holds(node, "b")
    assert node.pid("registrator") == engine


def test_docker_health_decides(node: Node) -> None:
    node.start("a", "-P --expose 80 --health-cmd 'test -e /ok' --health-interval 1s --health-retries 1 --health-start-period 60s")
    node.settled()
    name = next(value["Service"] for value in node.agent_services().values())

    def passing() -> int:
        return sum(PREFIX + "a" in entry["Service"]["ID"] for entry in node.api(f"/v1/health/service/{name}?passing"))

    assert passing() == 0, "a starting container gets no traffic"
    node.run(f"docker exec {PREFIX}a sh -c 'echo > /ok'")
    wait_until(lambda: passing() == 1, 20, lambda: "healthy did not arrive")
    node.run(f"docker exec {PREFIX}a sh -c '/bin/busybox rm /ok'")
    wait_until(lambda: passing() == 0, 20, lambda: "unhealthy did not arrive")


def test_other_peoples_registrations_are_untouched(node: Node) -> None:
    for identity in ("reg-foreign", "node:reg-ghost:80"):
        node.put("/v1/agent/service/register", {"ID": identity, "Name": "reg-foreign", "Port": 7, "Address": "192.0.2.1"})
    try:
        before = node.api("/v1/agent/service/reg-foreign")
        node.start("a", "-P --expose 80 -l SERVICE_ID=reg-foreign")
        node.start("b", "-P --expose 80")
        wait_for(node, "b", True)
        node.run("systemctl restart registrator && registrator status --wait 20")
        assert node.api("/v1/agent/service/reg-foreign") == before
        assert node.api("/v1/agent/service/node:reg-ghost:80")["Port"] == 7
        assert "reg-foreign" in node.run("journalctl -u registrator -o cat -n 200 | grep event=refused")
    finally:
        for identity in ("reg-foreign", "node:reg-ghost:80"):
            node.put(f"/v1/agent/service/deregister/{identity}")
        node.run(f"docker ps -aq --filter name=^{PREFIX} | xargs -r docker rm -f")


def test_registrators_own_registration_is_taken_over(node: Node) -> None:
    node.start("a", "-P --expose 80")
    node.settled()
    identity, service = next(iter(node.agent_services().items()))
    body = {"ID": identity, "Name": service["Service"], "Port": service["Port"], "Address": service["Address"]}
    node.put("/v1/agent/service/register", body)
    node.run("systemctl restart registrator && registrator status --wait 20")
    assert "registrator-managed" in node.api(f"/v1/agent/service/{identity}")["Meta"]


def test_bad_labels_never_stop_the_rest(node: Node) -> None:
    before = node.metric("refused_total")
    labels = {"SERVICE_NAME": "reg-bad", "SERVICE_OK": "yes"}
    labels |= {"SERVICE_WEIGHT": "heavy", "SERVICE_X.Y": "1", "SERVICE_CHECK_TTL": "soon", "SERVICE_LONG": "x" * 600}
    node.start("bad", "-P --expose 80 " + " ".join("-l " + shlex.quote(f"{key}={value}") for key, value in labels.items()))
    node.start("worse", "-P --expose 80 -l 'SERVICE_NAME=a/b c'")
    node.start("good", "-P --expose 80")
    wait_for(node, "good", True)
    wait_for(node, "bad", True)
    (service,) = (value for key, value in node.agent_services().items() if ":reg-bad:" in key)
    assert service["Service"] == "reg-bad"
    assert service["Meta"]["ok"] == "yes"
    assert "long" not in service["Meta"]
    assert not holds(node, "worse")
    assert node.metric("refused_total") == before + 5
    assert "cannot be a service name" in node.run(f"registrator explain {PREFIX}worse")
    node.run(f"docker rm -f {PREFIX}worse")


def test_hand_made_changes_heal_with_the_next_comparison(node: Node) -> None:
    node.start("a", "-P --expose 80")
    node.settled()
    node.put(f"/v1/agent/service/deregister/{next(iter(node.agent_services()))}")
    node.settled(40)
    assert holds(node, "a")


def test_explain_and_dry_run_change_nothing(node: Node) -> None:
    node.start("a", "-P --expose 80 -l SERVICE_NAME=reg-explained")
    node.settled()
    text = node.run(f"registrator explain {PREFIX}a")
    assert "service reg-explained" in text
    assert "the agent holds it" in text
    assert "0 to register, 0 to deregister" in node.run("registrator run --once --dry-run")
