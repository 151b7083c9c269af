# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each token of a secure site can do, call by call, on a real Consul agent with the site's own rights: the table of docs/tokens.md.

A call that would change the agent for good is made in a form that Consul refuses after it has checked the token: 403 is the answer to a caller without
the right, and anything else to one that has it.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import typing as t
import uuid
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]

from edge_rig import Consul, tool

from ansible_collections.trinode.platform.plugins.module_utils._consul import acl
from ansible_collections.trinode.platform.plugins.module_utils._consul.acl_sync import Request, sync
from ansible_collections.trinode.platform.plugins.plugin_utils._sites.tokens import SITE_WIDE, tokens

TABLE = ROOT / "docs" / "tokens.md"
OWN, OTHER = "consul-1", "worker-1"
NODES = [{"name": OWN, "consul": "server", "docker": True}, {"name": OTHER, "consul": "client", "docker": True}]
#: Columns of the table, and the tokens that each of them stands for. The agent that is asked is that of the node consul-1.
COLUMNS = {
    "anyone": ("",),
    "dns": ("dns", "wan", "consul-template"),
    "operator": ("operator",),
    "agent": (f"agent-{OWN}",),
    "other agent": (f"agent-{OTHER}",),
    "registrator": (f"registrator-{OWN}", f"registrator-{OTHER}"),
    "service": ("service-billing",),
    "automation": ("automation",),
    "maintenance": (f"maintenance-{OTHER}",),
    "keyring": ("keyring",),
    "backup": ("backup",),
    "management": ("management",),
}
YES, NO = "yes", "-"
FORBIDDEN = (401, 403)


class Answer(t.NamedTuple):
    """What the agent returned."""

    status: int
    body: str

    @property
    def done(self) -> bool:
        """Whether Consul did what was asked."""
        return self.status == 200

    @property
    def let_in(self) -> bool:
        """Whether the token was enough, whatever Consul made of the rest."""
        return self.status not in FORBIDDEN and "Permission denied" not in self.body

    @property
    def filled(self) -> bool:
        """Whether a list, from which Consul leaves out what the token may not see, has anything in it."""
        return self.done and json.loads(self.body) not in ([], {}, None)


class Rig:
    """A secure agent with the tokens of a site, and callers that have one of them."""

    def __init__(self, directory: Path, **more: t.Any) -> None:
        self.key = base64.b64encode(os.urandom(32)).decode()
        secure = yaml.safe_load((ROOT / "roles" / "consul_server" / "vars" / "main.yml").read_text(encoding="utf-8"))["__consul_server_config_security"]
        self.consul = Consul(
            tool("consul", "CONSUL_BIN"),
            directory,
            node_name=OWN,
            encrypt=self.key,
            acl={"enabled": True, "default_policy": "deny", "down_policy": "extend-cache"},
            **{"connect": secure["connect"], "peering": secure["peering"], **more},
        )
        rules = tokens(NODES, ["billing"])
        self.secrets = {str(one["name"]): str(uuid.uuid4()) for one in rules}
        self.secrets.update({"": "", "management": str(uuid.uuid4()), "wan": str(uuid.uuid4())})
        wanted = [acl.Wanted(**one, secret=self.secrets[one["name"]]) for one in rules]
        api = acl.AclApi(f"http://{self.consul.address}", self.secrets["management"])
        assert acl.bootstrap(api, 30).state == "made"
        sync(api, Request([*wanted, acl.Wanted("wan", self.secrets["wan"], SITE_WIDE["dns"])], "dc1"))

    def ask(self, token: str, method: str, path: str, body: t.Any = None) -> Answer:
        """Ask the agent with the token of this name."""
        connection = http.client.HTTPConnection("127.0.0.1", self.consul.port, timeout=20)
        headers = {"X-Consul-Token": self.secrets[token]} if token else {}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body)
        try:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read().decode("utf-8", "replace"))
        finally:
            connection.close()

    def arrange(self) -> None:
        """Have what the calls look for: a service and a node that belong to others, a key, a session."""
        for node, service in ((OTHER, "web"), (OTHER, "billing"), (OWN, "shop")):
            entry = {"Node": node, "Address": "127.0.0.1", "SkipNodeUpdate": node == OWN, "Service": {"ID": f"{service}-1", "Service": service, "Port": 80}}
            assert self.ask("management", "PUT", "/v1/catalog/register", entry).done
        assert self.ask("management", "PUT", "/v1/agent/service/register", {"Name": "held", "Port": 81}).done
        assert self.ask("management", "PUT", "/v1/kv/secret", b"x").done
        assert self.ask("management", "POST", "/v1/query", {"Name": "failover", "Service": {"Service": "web"}}).status in (200, 500)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Rig]:
    one = Rig(tmp_path_factory.mktemp("calls"))
    try:
        yield one
    finally:
        one.consul.stop()


Measure = t.Callable[[Rig, str], bool]


def gets(path: str) -> Measure:
    """A question that is answered or refused."""
    return lambda rig, token: rig.ask(token, "GET", path).done


def sees(path: str) -> Measure:
    """A list that comes without what the token may not see."""
    return lambda rig, token: rig.ask(token, "GET", path).filled


def does(method: str, path: str, body: t.Any = None) -> Measure:
    """A change that is made or refused."""
    return lambda rig, token: rig.ask(token, method, path, body).done


def may(method: str, path: str, body: t.Any = None) -> Measure:
    """A change that would end the test; asked for in a form that cannot succeed."""
    return lambda rig, token: rig.ask(token, method, path, body).let_in


def registers(node: str, service: str, known: bool = True) -> Measure:
    """An instance, straight into the catalogue."""
    entry = {"Node": node, "Address": "127.0.0.1", "SkipNodeUpdate": known, "Service": {"ID": f"test-{service}", "Service": service, "Port": 82}}

    def call(rig: Rig, token: str) -> bool:
        try:
            return rig.ask(token, "PUT", "/v1/catalog/register", entry).done
        finally:
            rig.ask("management", "PUT", "/v1/catalog/deregister", {"Node": node, "ServiceID": f"test-{service}"})

    return call


def agent_registers(service: str) -> Measure:
    """An instance at the agent, as the registrator does it."""

    def call(rig: Rig, token: str) -> bool:
        try:
            return rig.ask(token, "PUT", "/v1/agent/service/register", {"ID": "test", "Name": service, "Port": 83}).done
        finally:
            rig.ask("management", "PUT", "/v1/agent/service/deregister/test")

    return call


def removes(body: dict[str, str]) -> Measure:
    """An entry of the catalogue, made again before each call."""
    return does("PUT", "/v1/catalog/deregister", body)


def displaces(node: str, service: str) -> Measure:
    """An instance of another service, whose id differs in case only: the catalogue has one entry for both."""
    entry = {"ID": f"{service}-1".upper(), "Service": "app", "Port": 84}
    body = {"Node": node, "Address": "127.0.0.1", "SkipNodeUpdate": True, "Service": entry}

    def call(rig: Rig, token: str) -> bool:
        rig.ask(token, "PUT", "/v1/catalog/register", body)
        held = json.loads(rig.ask("management", "GET", f"/v1/catalog/node/{node}").body)["Services"]
        assert len({f"{service}-1", entry["ID"]} & set(held)) == 1
        return entry["ID"] in held

    return call


def uses_key(method: str) -> Measure:
    """The key that is in use anyway."""
    return lambda rig, token: rig.ask(token, method, "/v1/operator/keyring", {"Key": rig.key}).done


def bootstraps(rig: Rig, token: str) -> bool:
    return rig.ask(token, "PUT", "/v1/acl/bootstrap", {"BootstrapSecret": str(uuid.uuid4())}).done


def autopilot(rig: Rig, token: str) -> bool:
    present = json.loads(rig.ask("management", "GET", "/v1/operator/autopilot/configuration").body)
    return rig.ask(token, "PUT", "/v1/operator/autopilot/configuration", present).done


def reads_own_rights(rig: Rig, token: str) -> bool:
    return rig.ask(token, "GET", "/v1/acl/token/self").done


def makes_query(name: str, template: bool = False) -> Measure:
    body: dict[str, t.Any] = {"Name": name, "Service": {"Service": "web"}, **({"Template": {"Type": "name_prefix_match"}} if template else {})}

    def call(rig: Rig, token: str) -> bool:
        answer = rig.ask(token, "POST", "/v1/query", body)
        if answer.done:
            rig.ask("management", "DELETE", f"/v1/query/{json.loads(answer.body)['ID']}")
        return answer.done

    return call


def transacts(operation: dict[str, t.Any]) -> Measure:
    return does("PUT", "/v1/txn", [operation])


def filtered(service: str) -> str:
    return f"/v1/health/service/{service}"


PEER = f"id={uuid.uuid4()}"
CATCH_ALL = ""
KV_SET = {"KV": {"Verb": "set", "Key": "secret", "Value": base64.b64encode(b"x").decode()}}
NODE_SET = {"Node": {"Verb": "set", "Node": {"Node": "worker-9", "Address": "127.0.0.9"}}}
CALLS: dict[str, Measure] = {
    "see the nodes": sees("/v1/catalog/nodes"),
    "see the instances of a service": sees(filtered("web")),
    "see the members of the cluster": sees("/v1/agent/members"),
    "register a service at the agent": agent_registers("app"),
    "register a protected service at the agent": agent_registers("billing"),
    "register `consul` at the agent": agent_registers("consul"),
    "register a protected service in capitals at the agent": agent_registers("Billing"),
    "deregister another's service at the agent": does("PUT", "/v1/agent/service/deregister/held"),
    "enter a service on this node": registers(OWN, "app"),
    "enter a service on another node": registers(OTHER, "app"),
    "enter a protected service": registers(OTHER, "billing"),
    "enter `consul`": registers(OTHER, "consul"),
    "enter a service on a new node": registers("worker-9", "app", known=False),
    "remove a service of another node": removes({"Node": OTHER, "ServiceID": "web-1"}),
    "displace a protected service by its id in capitals": displaces(OTHER, "billing"),
    "remove a protected service": removes({"Node": OTHER, "ServiceID": "billing-1"}),
    "remove another node": removes({"Node": OTHER}),
    "put this node into maintenance": does("PUT", "/v1/agent/maintenance?enable=false"),
    "change another node in a transaction": transacts(NODE_SET),
    "send coordinates of another node": does("PUT", "/v1/coordinate/update", {"Node": OTHER, "Segment": "", "Coord": {"Vec": [0.0] * 8, "Height": 1e-05}}),
    "read the agent's configuration": gets("/v1/agent/self"),
    "reload the agent": does("PUT", "/v1/agent/reload"),
    "set a token of the agent": does("PUT", "/v1/agent/token/default", {"Token": ""}),
    "make the agent join another cluster": may("PUT", "/v1/agent/join/127.0.0.1:1"),
    "expel a member": may("PUT", "/v1/agent/force-leave/nobody"),
    "make the agent leave": does("PUT", "/v1/agent/leave"),
    "read a key": gets("/v1/kv/secret"),
    "write a key": does("PUT", "/v1/kv/secret", b"y"),
    "write a key in a transaction": transacts(KV_SET),
    "make a session": does("PUT", "/v1/session/create", {"Node": OWN, "NodeChecks": []}),
    "send an event": does("PUT", "/v1/event/fire/deploy", b""),
    "see the gossip keys": gets("/v1/operator/keyring"),
    "install a gossip key": uses_key("POST"),
    "use another gossip key": uses_key("PUT"),
    "see the Raft peers": gets("/v1/operator/raft/configuration"),
    "remove a Raft peer": may("DELETE", f"/v1/operator/raft/peer?{PEER}"),
    "give the leadership away": may("POST", "/v1/operator/raft/transfer-leader"),
    "see the health of the servers": gets("/v1/operator/autopilot/health"),
    "configure autopilot": autopilot,
    "see its own rights": reads_own_rights,
    "see tokens and policies": gets("/v1/acl/tokens"),
    "make a policy": may("PUT", "/v1/acl/policy", {"Name": "no name"}),
    "make a token": may("PUT", "/v1/acl/token", {"Policies": [{"Name": "there-is-none"}]}),
    "make the first management token": bootstraps,
    "see the prepared queries": sees("/v1/query"),
    "make a prepared query": makes_query("mine"),
    "make a query that catches every name": makes_query(CATCH_ALL, template=True),
    "see the intentions": sees("/v1/connect/intentions"),
    "make an intention": does("PUT", "/v1/connect/intentions/exact?source=app&destination=web", {"Action": "allow"}),
    "get a Connect certificate": gets("/v1/agent/connect/ca/leaf/app"),
    "see the Connect authority": gets("/v1/connect/ca/configuration"),
    "configure the Connect authority": does("PUT", "/v1/connect/ca/configuration", {"Provider": "consul", "Config": {}}),
    "write the defaults of a service": does("PUT", "/v1/config", {"Kind": "service-defaults", "Name": "app", "Protocol": "tcp"}),
    "write the defaults of all proxies": does("PUT", "/v1/config", {"Kind": "proxy-defaults", "Name": "global", "Config": {}}),
    "join another cluster by peering": does("POST", "/v1/peering/token", {"PeerName": "other"}),
    "take a snapshot": gets("/v1/snapshot"),
    "restore a snapshot": may("PUT", "/v1/snapshot", b"no snapshot"),
}
# What a token with all rights must do last, because the agent does not come back from it.
LAST = "make the agent leave"


def expected() -> dict[str, dict[str, str]]:
    """Read the table of the document: by call and column."""
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    start = next(number for number, row in enumerate(rows) if row[0] == "call")
    header = rows[start]
    return {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows[start + 2 : start + 2 + len(CALLS)]}


def row_of(call: str, cells: dict[str, str]) -> str:
    return f"| {call} | {' | '.join(cells[column] for column in COLUMNS)} |"


def measure(rig: Rig, call: str) -> dict[str, str]:
    """Make one call with every token; tokens of one column must not differ."""
    cells = {}
    for column, names in COLUMNS.items():
        found = set()
        for name in names:
            rig.arrange()
            found.add(YES if CALLS[call](rig, name) else NO)
        assert len(found) == 1, f"{call}: {', '.join(names)} differ"
        cells[column] = found.pop()
    return cells


def test_the_table_has_every_call_and_every_token(rig: Rig) -> None:
    table = expected()
    assert list(table) == list(CALLS) and all(list(row) == list(COLUMNS) for row in table.values())
    assert {name for names in COLUMNS.values() for name in names} == set(rig.secrets)


@pytest.mark.parametrize("call", [*(call for call in CALLS if call != LAST), LAST])
def test_each_token_can_do_what_the_table_says(rig: Rig, call: str) -> None:
    measured, wanted = row_of(call, measure(rig, call)), row_of(call, expected()[call])
    assert measured == wanted, f"docs/tokens.md should have: {measured}"


def test_connect_is_off_because_of_what_it_would_allow(tmp_path: Path) -> None:
    """The same calls with Connect on, so that a refusal in the table is not one of a wrong question."""
    rig = Rig(tmp_path, connect={"enabled": True})
    try:
        for call, token in {"get a Connect certificate": f"registrator-{OWN}", "configure the Connect authority": "automation"}.items():
            assert not CALLS[call](rig, ""), f"{call}: nobody without a token"
            assert CALLS[call](rig, token), f"{call}: {token}"
        assert CALLS["make an intention"](rig, "management") and CALLS["see the intentions"](rig, "management")
    finally:
        rig.consul.stop()
