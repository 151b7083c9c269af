# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine as it runs on a node, with a real Consul agent, while Docker holds the locks of some containers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "roles" / "registrator" / "files"
sys.path.insert(0, str(FILES))

from docker_stand import Stand
from edge_rig import Consul, poll, tool
from registrator import dockerapi


class Site:
    """A host: containers, an agent, and the engine between them."""

    def __init__(self, agent: Consul, directory: Path, **settings: t.Any) -> None:
        self.agent = agent
        self.directory = directory
        self.docker = Stand(directory / "docker.sock")
        self.log = directory / "engine.log"
        for name in ("run", "data"):
            (directory / name).mkdir()
        self.config = directory / "config.json"
        values = {"address": "192.0.2.10", "hostname": "node1", "consul_url": f"http://{agent.address}"}
        values |= {"metrics_port": 0}
        values |= {"docker_socket": str(directory / "docker.sock"), "docker_pid_file": "", "resync_seconds": 3600}
        values |= {"state_directory": str(directory / "run"), "data_directory": str(directory / "data"), **settings}
        self.config.write_text(json.dumps(values), encoding="utf-8")
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the engine."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command("run"), env=self._environment(), stderr=log)
        return self.process

    def start(self) -> None:
        """Start the engine; returns when it has compared everything and follows the events."""
        process = self.launch()

        def ready() -> bool:
            status = self.status()
            return self.docker.followed and status.get("pid") == process.pid and bool(status.get("synced"))

        poll("the engine compared everything", ready)

    def stop(self) -> None:
        """Stop the engine; the containers stay."""
        if self.process is not None:
            self.process.terminate()
            assert self.process.wait(10) == 0, self.log.read_text()
            self.process = None

    def close(self) -> None:
        self.stop()
        self.docker.close()
        for service_id in self.services():
            self.agent.ask("PUT", f"/v1/agent/service/deregister/{service_id}")

    def order(self, *words: str) -> subprocess.CompletedProcess[str]:
        """One of the engine's commands."""
        command = self._command(*words)
        return subprocess.run(
            command, env=self._environment(), capture_output=True, text=True, timeout=60, check=False
        )  # fmt: skip

    def _command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "registrator", "--config", str(self.config), *words]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(FILES)}

    def status(self) -> dict[str, t.Any]:
        """The engine's own report."""
        path = self.directory / "run" / "status.json"
        found: dict[str, t.Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return found

    def services(self) -> dict[str, tuple[str, int]]:
        """What the agent holds: address and port by id."""
        held = self.agent.ask("GET", "/v1/agent/services")
        return {key: (value["Address"], value["Port"]) for key, value in held.items()}

    def holds(self, name: str) -> tuple[str, int] | None:
        """Address and port of a container's service."""
        return self.services().get(f"node1:{name}:8081")

    def wait_for(self, name: str, wanted: tuple[str, int] | None) -> None:
        """Wait until a container is registered so, or not at all."""
        poll(f"{name} is registered at {wanted}", lambda: self.holds(name) == wanted)

    def starts(self, name: str, port: int, **labels: str) -> str:
        """A container that starts now."""
        container = self.docker.run(name, port, **labels)
        self.docker.tell("start", container)
        return container


@pytest.fixture(name="agent", scope="module")
def fixture_agent(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Consul]:
    agent = Consul(tool("consul", "CONSUL_BIN"), tmp_path_factory.mktemp("agent"))
    yield agent
    agent.stop()


@pytest.fixture(name="site")
def fixture_site(agent: Consul, tmp_path: Path) -> t.Iterator[Site]:
    site = Site(agent, tmp_path)
    try:
        yield site
    finally:
        site.close()


def test_locked_containers_do_not_hold_up_the_others(site: Site) -> None:
    site.start()
    locked = [site.docker.run(f"locked{number}", 30000 + number) for number in range(3)]
    for container in locked:
        site.docker.lock(container)
        site.docker.tell("start", container)
    poll("the engine asks for each", lambda: set(locked) <= set(site.docker.inspected))
    site.starts("free", 31000)
    site.wait_for("free", ("192.0.2.10", 31000))
    assert site.holds("locked0") is None
    for number, container in enumerate(locked):
        site.docker.unlock(container)
        site.wait_for(f"locked{number}", ("192.0.2.10", 30000 + number))


def test_what_ends_leaves_while_docker_holds_every_lock(site: Site) -> None:
    """As in a burst of kills: the networks go first, under the lock, and the event of the end comes last."""
    dying = [site.docker.run(f"dying{number}", 30000 + number) for number in range(8)]
    site.docker.run("stays", 31000)
    site.start()
    assert len(site.services()) == 9
    asked = len(site.docker.inspected)
    for container in dying:
        site.docker.lock(container)
        site.docker.end(container)
        site.docker.tell("disconnect", container)
    poll("those without a process left", lambda: len(site.services()) == 1)
    for container in dying:
        for action in ("die", "stop", "destroy"):
            site.docker.tell(action, container)
    site.starts("next", 31001)
    site.wait_for("next", ("192.0.2.10", 31001))
    assert len(site.docker.inspected) == asked + 1, "nothing that ended is inspected"
    assert site.holds("stays")


def test_a_start_is_not_inspected_before_it_is_done(site: Site) -> None:
    site.start()
    container = site.docker.run("new", 30000)
    site.docker.lock(container)
    site.docker.tell("connect", container)
    site.starts("other", 30001)
    site.wait_for("other", ("192.0.2.10", 30001))
    assert container not in site.docker.inspected
    site.docker.unlock(container)
    site.docker.tell("start", container)
    site.wait_for("new", ("192.0.2.10", 30000))


def test_an_end_and_a_start_at_once_end_with_the_new_port(site: Site) -> None:
    container = site.docker.run("again", 30000)
    site.start()
    # The answer about the former run is on its way when that ends, and arrives last.
    site.docker.lock(container)
    site.docker.tell("rename", container)
    poll("the former run is asked for", lambda: site.docker.inspected.count(container) == 2)
    site.docker.end(container)
    site.docker.tell("die", container)
    site.docker.run("again", 30999)
    site.docker.tell("connect", container)
    site.docker.tell("start", container)
    site.wait_for("again", None)
    site.docker.unlock(container)
    site.wait_for("again", ("192.0.2.10", 30999))


def test_the_answer_about_an_ended_run_counts_no_more(site: Site) -> None:
    site.start()
    container = site.docker.run("short", 30000)
    site.docker.lock(container)
    site.docker.tell("start", container)
    poll("it is asked for", lambda: container in site.docker.inspected)
    site.docker.tell("die", container)
    site.starts("mark1", 30001)
    site.wait_for("mark1", ("192.0.2.10", 30001))
    site.docker.unlock(container)
    site.starts("mark2", 30002)
    site.wait_for("mark2", ("192.0.2.10", 30002))
    assert site.holds("short") is None


def test_a_late_event_about_a_former_run_does_not_take_the_new_one_out(site: Site) -> None:
    container = site.docker.run("lives", 30000)
    site.start()
    site.docker.tell("die", container)
    site.starts("mark", 30001)
    site.wait_for("mark", ("192.0.2.10", 30001))
    assert site.holds("lives")
    assert "event=deregistered" not in site.log.read_text()


def test_a_stop_signal_before_the_first_answer_counts(site: Site) -> None:
    site.start()
    container = site.docker.run("stopped", 30000)
    site.docker.lock(container)
    site.docker.tell("start", container)
    site.docker.tell("kill", container, signal="15")
    site.starts("mark", 30001)
    site.wait_for("mark", ("192.0.2.10", 30001))
    site.docker.unlock(container)
    poll("it drains", lambda: "event=draining" in site.log.read_text())
    assert site.holds("stopped") is None


def test_a_running_containers_networks_count(agent: Consul, tmp_path: Path) -> None:
    site = Site(agent, tmp_path, internal=True)
    try:
        container = site.docker.run("moves", 30000)
        site.start()
        site.wait_for("moves", ("172.17.0.2", 8081))
        networks = site.docker.documents[container]["NetworkSettings"]["Networks"]
        networks["bridge"]["IPAddress"] = "172.18.0.9"
        site.docker.tell("connect", container)
        site.wait_for("moves", ("172.18.0.9", 8081))
        networks.clear()
        site.docker.tell("disconnect", container)
        site.wait_for("moves", None)
    finally:
        site.close()


def test_a_container_that_docker_cannot_describe_costs_only_itself(agent: Consul, tmp_path: Path) -> None:
    site = Site(agent, tmp_path, resync_seconds=1)
    try:
        broken = site.docker.run("broken", 30000)
        site.docker.broken.add(broken)
        site.docker.run("well", 30001)
        site.start()
        assert site.holds("well")
        assert site.status()["unanswered"] == [broken[:12]]
        site.starts("later", 30002)
        site.wait_for("later", ("192.0.2.10", 30002))
        assert site.log.read_text().count("event=unanswered") == 1
        assert "layer not found" in site.log.read_text()
        assert "docker-down" not in site.log.read_text()
        # While it is not known whether something still runs, nothing of others is removed.
        answer = site.order("adopt")
        assert answer.returncode == 1
        assert broken[:12] in answer.stderr
        site.docker.broken.clear()
        site.wait_for("broken", ("192.0.2.10", 30000))
        assert site.order("adopt").returncode == 0
    finally:
        site.close()


def test_a_docker_that_describes_no_container_counts_as_down(site: Site) -> None:
    for number in range(20):
        site.docker.run(f"hidden{number}", 30000 + number)
    site.docker.forbidden = True
    site.launch()
    poll("the engine says so", lambda: "docker" in (site.status().get("down") or {}))
    answer = site.order("status")
    assert answer.returncode == 1
    assert "Forbidden" in answer.stderr
    # It asks again, and not as fast as it can.
    asked = len(site.docker.inspected)
    poll("the engine tries again", lambda: len(site.docker.inspected) > asked)
    rounds = len(site.docker.inspected) / 20
    assert rounds < 20, "an answer that fails must not start the next look"
    site.docker.forbidden = False
    poll("all are registered", lambda: len(site.services()) == 20)
    assert site.order("status", "--wait", "10").returncode == 0


def test_a_docker_without_a_single_answer_is_reported(site: Site) -> None:
    broken = site.docker.run("broken", 30000)
    site.docker.broken.add(broken)
    site.start()
    answer = site.order("status")
    assert answer.returncode == 1
    assert broken[:12] in answer.stderr


def test_what_was_registered_stays_while_docker_holds_its_lock_over_a_restart(site: Site) -> None:
    container = site.docker.run("locked", 30000)
    ends = site.docker.run("ends", 30001)
    pauses = site.docker.run("pauses", 30003)
    site.start()
    site.stop()
    site.docker.end(ends)
    site.docker.documents[pauses]["State"]["Paused"] = True
    site.docker.lock(container)
    site.start()
    assert site.holds("locked") == ("192.0.2.10", 30000), "its process lives"
    assert site.holds("ends") is None
    assert site.holds("pauses") is None
    site.starts("new", 30002)
    site.wait_for("new", ("192.0.2.10", 30002))
    site.docker.end(container)
    site.docker.tell("die", container)
    site.wait_for("locked", None)


def test_a_removed_containers_drain_goes_without_an_inspection(site: Site) -> None:
    container = site.docker.run("drained", 30000)
    site.start()
    assert site.order("drain", "drained").returncode == 0
    assert site.holds("drained") is None
    asked = len(site.docker.inspected)
    site.docker.end(container)
    site.docker.tell("die", container)
    poll("it is still held", lambda: site.status()["containers"] == 0)
    assert site.status()["drained"] == ["drained"]
    site.docker.tell("destroy", container)
    poll("it is forgotten", lambda: not site.status()["drained"])
    assert len(site.docker.inspected) == asked


def test_an_order_finds_a_container_that_no_event_told_of(site: Site) -> None:
    site.start()
    site.docker.run("unheard", 30000)
    answer = site.order("drain", "unheard")
    assert answer.returncode == 0, answer.stderr
    assert site.holds("unheard") is None
    assert site.order("undrain", "unheard").returncode == 0
    assert site.holds("unheard")


def test_once_changes_nothing_while_a_container_is_unknown(site: Site) -> None:
    broken = site.docker.run("broken", 30000)
    site.start()
    site.stop()
    site.docker.broken.add(broken)
    answer = site.order("--once")
    assert answer.returncode == 1
    assert broken[:12] in answer.stderr
    assert site.holds("broken")


def test_a_network_that_comes_during_the_first_inspection_counts(agent: Consul, tmp_path: Path) -> None:
    site = Site(agent, tmp_path, internal=True)
    try:
        site.start()
        container = site.docker.run("moves", 30000)
        site.docker.lock(container)
        site.docker.tell("start", container)
        poll("it is asked for", lambda: container in site.docker.inspected)
        # The answer under way knows the former address.
        networks = site.docker.documents[container]["NetworkSettings"]["Networks"]
        networks["bridge"]["IPAddress"] = "172.18.0.9"
        site.docker.tell("connect", container)
        site.starts("mark", 30001)
        site.wait_for("mark", ("172.17.0.2", 8081))
        site.docker.unlock(container)
        site.wait_for("moves", ("172.18.0.9", 8081))
    finally:
        site.close()


def test_a_refusal_is_told_once_however_often_the_container_starts(site: Site) -> None:
    container = site.docker.run("loops", 30000, SERVICE_KEY="x")
    site.start()
    for turn in range(3):
        site.docker.end(container)
        site.docker.tell("die", container)
        site.wait_for("loops", None)
        site.starts("loops", 30001 + turn, SERVICE_KEY="x")
        site.wait_for("loops", ("192.0.2.10", 30001 + turn))
    assert site.log.read_text().count("event=refused") == 1
    # Another container of that name has its own line.
    site.docker.end(container)
    for action in ("die", "destroy"):
        site.docker.tell(action, container)
    site.wait_for("loops", None)
    site.starts("loops", 30009, SERVICE_KEY="x")
    site.wait_for("loops", ("192.0.2.10", 30009))
    poll("the second line", lambda: site.log.read_text().count("event=refused") == 2)


def test_what_starts_before_the_events_are_followed_is_not_missed(site: Site) -> None:
    """The first request for events begins before the first list of containers, not when it is answered."""
    before = time.time()
    site.start()
    (since,) = site.docker.since
    assert before <= float(since) <= time.time()


@pytest.mark.parametrize("taken", ["{}:docker", "{upper}"])
def test_nobody_takes_the_place_of_anothers_check_or_service(site: Site, taken: str) -> None:
    """A container without traffic stays without, whatever ids others choose."""
    victim = site.docker.run("victim", 30000)
    site.docker.documents[victim]["State"]["Health"] = {"Status": "unhealthy"}
    own = "node1:victim:8081"
    site.start()
    wanted = taken.format(own, upper=own.upper())
    site.starts("thief", 30001, SERVICE_NAME="thief", SERVICE_ID=wanted, SERVICE_CHECK_TTL="60s")
    site.wait_for("thief", ("192.0.2.10", 30001))
    assert wanted not in site.services()
    held = site.agent.ask("GET", "/v1/agent/checks")[f"service:{own}:docker"]
    assert (held["ServiceID"], held["Status"]) == (own, "critical")
    assert "kind=id-form" in site.log.read_text()
    poll("both are in the catalogue", lambda: len(_catalogued(site, "victim")) == len(_catalogued(site, "thief")) == 1)
    assert site.agent.ask("GET", "/v1/health/service/victim?passing") == []


def _catalogued(site: Site, name: str) -> list[t.Any]:
    found: list[t.Any] = site.agent.ask("GET", f"/v1/catalog/service/{name}")
    return found


@pytest.mark.parametrize("ping", ["version", "bare", "forbidden"])
def test_the_version_of_the_api_costs_docker_no_program(site: Site, ping: str) -> None:
    """For /version, Docker runs three programs at each request. Only one that does not tell it with a ping is asked."""
    site.docker.ping = ping
    for number in range(8):
        site.docker.run(f"first{number}", 30000 + number)
    site.start()
    assert len(site.services()) == 8
    paths = {path.partition("?")[0] for path in site.docker.asked}
    assert "/_ping" in paths
    assert ("/version" in paths) is (ping != "version")
    # It is the version that Docker told, and not the library's own.
    assert {path.split("/")[1] for path in paths - {"/_ping", "/version"}} == {"v1.41"}


def test_a_ping_without_an_answer_is_not_about_a_container(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    container = site.docker.run("waits", 30000)
    site.docker.ping = "no answer"
    monkeypatch.setattr(dockerapi, "TIMEOUT", 0.3)
    with pytest.raises(dockerapi.DockerDown, match="no answer to a ping"):
        dockerapi.DockerClient(str(site.directory / "docker.sock")).inspect(container)
