# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registration engine's calls against a real Consul agent that guards its services with ACLs."""

from __future__ import annotations

import json
import sys
import typing as t
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "roles" / "registrator" / "files")]

from edge_rig import Consul, poll, tool
from registrator.consulapi import ConsulClient, ConsulRefused
from registrator.convention import registrations_of
from registrator.facts import facts_of
from registrator.model import Registration, Settings
from registrator.plan import merge, plan

MANAGEMENT = "00000000-0000-0000-0000-000000000001"
DATA = ROOT / "tests" / "unit" / "roles" / "registrator" / "data" / "20.10"
NODE = Settings(hostname="node1", address="192.0.2.10")


class Guarded:
    """An agent that denies what no token allows, and the token files of an engine."""

    def __init__(self, agent: Consul, directory: Path) -> None:
        self.agent = agent
        self.directory = directory
        (directory / "tokens").mkdir()

    def ask(self, method: str, path: str, body: t.Any = None) -> t.Any:
        request = urllib.request.Request(
            f"http://{self.agent.address}{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"X-Consul-Token": MANAGEMENT},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read() or b"null")

    def token(self, file: str, rules: str) -> None:
        """A token with these rules, in a file below the engine's directory."""
        name = file.replace("/", "-").replace(".", "-")
        policy = self.ask("PUT", "/v1/acl/policy", {"Name": name, "Rules": rules})
        made = self.ask("PUT", "/v1/acl/token", {"Policies": [{"ID": policy["ID"]}]})
        (self.directory / file).write_text(made["SecretID"] + "\n", encoding="utf-8")

    def client(self, *, own_tokens: bool = True) -> ConsulClient:
        directory = str(self.directory / "tokens") if own_tokens else ""
        return ConsulClient(f"http://{self.agent.address}", str(self.directory / "default"), token_directory=directory)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Guarded]:
    directory = tmp_path_factory.mktemp("agent")
    acl = {"enabled": True, "default_policy": "deny", "tokens": {"initial_management": MANAGEMENT, "agent": MANAGEMENT}}
    agent = Consul(tool("consul", "CONSUL_BIN"), directory, acl=acl)
    try:
        found = Guarded(agent, directory)

        def ready() -> bool:
            try:
                return bool(found.ask("GET", "/v1/acl/tokens"))
            except urllib.error.HTTPError:
                return False

        poll("the agent has its ACLs", ready)
        found.token("default", 'node_prefix "" { policy = "read" } service_prefix "" { policy = "read" } service_prefix "free-" { policy = "write" }')
        for name in ("web", "db"):
            found.token(f"tokens/{name}", f'service "{name}" {{ policy = "write" }}')
        yield found
    finally:
        agent.stop()


@pytest.fixture(autouse=True)
def _empty(guarded: Guarded) -> t.Iterator[None]:
    yield
    for service_id in guarded.ask("GET", "/v1/agent/services"):
        guarded.ask("PUT", f"/v1/agent/service/deregister/{urllib.parse.quote(service_id, safe='')}")


def shape(name: str, **labels: str) -> tuple[Registration, ...]:
    document = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))
    document["Config"]["Labels"] = {**(document["Config"].get("Labels") or {}), **labels}
    facts = facts_of(document)
    return registrations_of(facts, NODE, now=facts.started_at + 1).registrations


def test_each_service_is_written_with_its_own_token(guarded: Guarded) -> None:
    client = guarded.client()
    for name in ("web", "db", "free-for-all"):
        (one,) = shape("healthcheck_starting", SERVICE_NAME=name)
        client.register(one)
        held = client.actual()
        assert held.services[one.id]["Service"] == name
        client.write(one, replace(one.verdicts[0], status="passing", output="well"))
        assert client.actual().checks[one.verdicts[0].check_id]["Status"] == "passing"
        client.deregister(one.id, name)
        assert one.id not in client.actual().services
        client.deregister(one.id, name)


def test_without_its_own_token_a_guarded_service_is_refused(guarded: Guarded) -> None:
    (one,) = shape("published", SERVICE_NAME="web")
    with pytest.raises(ConsulRefused) as refused:
        guarded.client(own_tokens=False).register(one)
    assert refused.value.status == 403
    guarded.client().register(one)
    with pytest.raises(ConsulRefused):
        guarded.client(own_tokens=False).deregister(one.id, "web")
    assert one.id in guarded.client().actual().services
    # A token for one service opens no other.
    (guarded.directory / "tokens" / "other").write_text((guarded.directory / "tokens" / "web").read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(ConsulRefused):
        guarded.client().register(replace(one, id="node1:x:1", name="other"))


def test_a_name_changes_by_two_tokens(guarded: Guarded) -> None:
    client = guarded.client()
    (web,) = shape("published", SERVICE_NAME="web")
    (db,) = shape("published", SERVICE_NAME="db")
    client.register(web)
    with pytest.raises(ConsulRefused):
        client.register(db)
    client.deregister(web.id, "web")
    client.register(db)
    assert client.actual().services[db.id]["Service"] == "db"


HARD = {
    "longest name": {"SERVICE_NAME": "free-" + "n" * 123},
    "full meta": {f"SERVICE_{chr(65 + number // 26)}{chr(65 + number % 26)}": "v" * 512 for number in range(80)},
    "widest values": {"SERVICE_WIDE": "ä" * 256, "SERVICE_" + "K" * 128: "\u2603" * 170, "SERVICE_EMPTY": ""},
    "odd tags": {"SERVICE_TAGS": 'a b,"quoted",\\,,ä,' + "t" * 255 + ",urlprefix-/x{};"},
    "odd id": {"SERVICE_ID": "Free.id_1:2@3-" + "x" * 241},
    "longest durations": {
        "SERVICE_CHECK_HTTP": "/",
        "SERVICE_CHECK_INTERVAL": "87600h",
        "SERVICE_CHECK_TIMEOUT": "87600h",
        "SERVICE_CHECK_DEREGISTER_AFTER": "1ns",
    },
    "shortest durations": {"SERVICE_CHECK_TTL": "1ns", "SERVICE_WARMUP": "87600h"},
    "odd path": {"SERVICE_CHECK_HTTP": "/%zz?a=b#c\\\"'<>[]{}|^`", "SERVICE_CHECK_HTTP_METHOD": "HEAD"},
    "longest tag": {"SERVICE_TAGS": "t" * 4096 + r",a\\\\,b"},
    "headers": {"SERVICE_CHECK_HTTP": "/", "SERVICE_CHECK_HEADER": '{"Host": ["shop.example"], "X-Probe": "a, b"}'},
    "check that cannot be made": {"SERVICE_CHECK_HTTP": "/a b \u2603"},
    "tags that others change": {"SERVICE_TAGS": "a", "SERVICE_ENABLE_TAG_OVERRIDE": "true"},
    "every kind at once": {
        "SERVICE_CHECK_HTTP": "/",
        "SERVICE_CHECK_HTTPS": "/",
        "SERVICE_CHECK_TTL": "1s",
        "SERVICE_CHECK_TCP": "1",
        "SERVICE_CHECK_GRPC": "1",
    },
    "tcp": {"SERVICE_CHECK_TCP": "true", "SERVICE_CHECK_INITIAL_STATUS": "warning", "SERVICE_WARMUP": "30s"},
    "grpc": {"SERVICE_CHECK_GRPC": "a/b c", "SERVICE_CHECK_GRPC_USE_TLS": "1", "SERVICE_CHECK_TLS_SKIP_VERIFY": "1"},
    "weights": {"SERVICE_WEIGHT": "0"},
    "forged characters": {"SERVICE_NAME": "free-x\n", "SERVICE_LINE\n": "x", "SERVICE_NUL": "\0", "SERVICE_TAGS": "a\nb,good"},
}


@pytest.mark.parametrize("labels", HARD.values(), ids=HARD)
def test_consul_takes_what_the_convention_lets_through(guarded: Guarded, labels: dict[str, str]) -> None:
    """And gives it back so that the next comparison finds nothing to do."""
    client = guarded.client()
    wanted = shape("healthcheck", **{"SERVICE_NAME": "free-web", **labels})
    assert wanted, "what is refused here would be no proof"
    desired = {item.id: item for item in wanted}
    for item in wanted:
        client.register(item)
    todo = plan(desired, client.actual(), NODE.hostname)
    assert not todo, (todo.register, todo.verdicts, client.actual().services)


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in sorted(DATA.glob("*.json"))])
def test_every_recorded_container_is_held_as_it_was_written(guarded: Guarded, path: Path) -> None:
    facts = facts_of(json.loads(path.read_text(encoding="utf-8")))
    outcome = registrations_of(facts, NODE)
    desired, _refused = merge([(facts, replace(outcome, registrations=tuple(replace(item, name="free-" + item.name) for item in outcome.registrations)))])
    client = guarded.client()
    for item in plan(desired, client.actual(), NODE.hostname).register:
        client.register(item)
    actual = client.actual()
    assert set(actual.services) == set(desired)
    assert not plan(desired, actual, NODE.hostname)
