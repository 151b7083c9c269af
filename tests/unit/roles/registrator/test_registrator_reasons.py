# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody wrote has its effect, or one line says why not: every way in which a label is refused or questioned."""

from __future__ import annotations

import ast
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from registrator.cli import explain_text
from registrator.config import Config
from registrator.convention import WHOLE_PORT, registrations_of
from registrator.facts import facts_of
from registrator.model import Facts, Outcome, Settings
from registrator.plan import Actual, merge, plan
from registrator.reasons import REASONS
from registrator.reconciler import Reconciler

ROLE = Path(__file__).resolve().parents[4] / "roles" / "registrator"
NODE = Settings(hostname="node1", address="192.0.2.10", protected_names=("billing",))
EDGE = {"known_meta": (("edge_port", ("tcp",)), ("edge_keepalive", ("http",)), ("edge_weight", ("http", "tcp")))}
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYW5vbiJ9.c2lnbmF0dXJl"


@dataclass(frozen=True)
class Row:
    """Labels that lead to one refusal or warning, and what becomes of the container."""

    kind: str
    key: str
    labels: dict[str, str]
    # Whether the service is registered, and what it is then.
    registered: bool = True
    warning: bool = False
    # The check that was asked for cannot be made, so the service is critical.
    critical: bool = False
    container: str = "published"
    settings: dict[str, Any] = field(default_factory=dict)
    image: str = ""
    environment: dict[str, str] = field(default_factory=dict)


def warns(kind: str, key: str, labels: dict[str, str], **more: Any) -> Row:
    return Row(kind, key, labels, warning=True, **more)


ROWS = [
    Row("port-number", "0_name", {"SERVICE_0_NAME": "x"}),
    Row("port-number", "080_name", {"SERVICE_080_NAME": "x"}),
    Row("port-number", "100000_name", {"SERVICE_100000_NAME": "x"}),
    Row("port-number", "-1_name", {"SERVICE_-1_NAME": "x"}),
    Row("port-number", "9400-9300_tags", {"SERVICE_9400-9300_TAGS": "x"}),
    Row("port-number", "9300-_tags", {"SERVICE_9300-_TAGS": "x"}),
    Row("port-number", "80,443_name", {"SERVICE_80,443_NAME": "x"}),
    Row("port-number", "53/udp_name", {"SERVICE_53/UDP_NAME": "x"}),
    warns("port-unknown", "80_*", {"SERVICE_80_NAME": "x"}),
    warns("port-unknown", "8081_udp_*", {"SERVICE_8081_UDP_NAME": "x"}),
    warns("port-unknown", "9300-9400_*", {"SERVICE_9300-9400_NAME": "x"}),
    warns("port-unknown", "9042_*", {"SERVICE_9042_TAGS": "x"}, container="host_network"),
    warns("port-not-registered", "80_*", {"SERVICE_80_NAME": "x"}, container="exposed_only", registered=False),
    warns("port-not-registered", "80_*", {"SERVICE_80_NAME": "x"}, container="loopback_only", registered=False),
    warns("port-not-registered", "80_*", {"SERVICE_80_NAME": "x"}, container="ipv6_binding", registered=False),
    warns("port-not-registered", "8081_*", {"SERVICE_8081_TAGS": "x", "SERVICE_NAME": ""}, registered=False,
          settings={"explicit": True}),
    warns("not-registered", "*", {"SERVICE_NAME": "x"}, container="no_ports", registered=False),
    warns("not-registered", "*", {"SERVICE_NAME": "x"}, container="none_network", registered=False),
    warns("not-registered", "*", {"SERVICE_NAME": "x"}, container="swarm_mesh", registered=False),
    warns("protocol-place", "udp_name", {"SERVICE_UDP_NAME": "x"}),
    warns("protocol-place", "tcp_8081_tags", {"SERVICE_TCP_8081_TAGS": "x"}),
    warns("prefix-case", "name", {"service_name": "x"}),
    warns("prefix-case", "check_http", {"Service_8081_Check_Http": "/"}),
    Row("same-key", "name", {"SERVICE_NAME": "a", "SERVICE_Name": "b"}),
    Row("label-count", "*", {f"SERVICE_A{number:04}": "x" for number in range(2001)}, registered=False),
    Row("port-count", "*", {}, container="thousand_ports"),
    warns("typo", "tag", {"SERVICE_TAG": "http"}),
    warns("typo", "chek_http", {"SERVICE_CHEK_HTTP": "/h"}),
    warns("typo", "checkhttp", {"SERVICE_8081_CHECKHTTP": "/h"}),
    warns("typo", "checks_tcp", {"SERVICE_CHECKS_TCP": "true"}),
    warns("typo", "healthcheck_http", {"SERVICE_HEALTHCHECK_HTTP": "/h"}),
    warns("typo", "8o81_name", {"SERVICE_8O81_NAME": "x"}),
    warns("typo", "8081-name", {"SERVICE_8081-NAME": "x"}),
    warns("typo", "8081check_http", {"SERVICE_8081CHECK_HTTP": "/h"}),
    warns("prefix-case", "tags", {" SERVICE_TAGS": "x"}),
    warns("typo", "names", {"SERVICE_NAMES": "x"}),
    warns("quotes", "name", {"SERVICE_NAME": '"x"'}),
    warns("quotes", "check_http", {"SERVICE_CHECK_HTTP": "'/health'"}),
    warns("quotes", "edge_port", {"SERVICE_EDGE_PORT": '"80"'}),
    Row("name-characters", "name", {"SERVICE_NAME": "a/b"}, registered=False),
    Row("name-characters", "name", {"SERVICE_NAME": "n26-"}, registered=False),
    Row("name-reserved", "name", {"SERVICE_NAME": "CONSUL"}, registered=False),
    Row("name-reserved", "name", {"SERVICE_NAME": ""}, registered=False, image="hashicorp/consul:1.22"),
    Row("name-reserved", "name", {"SERVICE_NAME": "Edge"}, registered=False, settings={"reserved_names": ("edge",)}),
    Row("name-spelling", "name", {"SERVICE_NAME": "Billing"}, registered=False),
    Row("name-look", "name", {"SERVICE_NAME": "bi11ing"}, registered=False),
    Row("name-look", "name", {"SERVICE_NAME": "Bil-ling"}, registered=False),
    Row("name-look", "name", {"SERVICE_NAME": "c0nsul"}, registered=False),
    Row("name-look", "name", {"SERVICE_NAME": ""}, registered=False, image="example/consu1:2"),
    Row("name-look", "name", {"SERVICE_8081_NAME": "billing_"}, registered=False),
    Row("name-punycode", "name", {"SERVICE_NAME": "xn--blling-xyf"}, registered=False),
    Row("name-punycode", "name", {"SERVICE_NAME": "shop.XN--blling-xyf"}, registered=False),
    Row("name-secret", "name", {"SERVICE_NAME": JWT}, registered=False),
    warns("name-case", "name", {"SERVICE_NAME": "Shop"}),
    warns("name-dns", "name", {"SERVICE_NAME": "my_shop"}),
    Row("name-missing", "name", {"SERVICE_NAME": ""}, registered=False, image="sha256:" + "a" * 64, container="nameless"),
    Row("id-characters", "id", {"SERVICE_ID": "my id/1"}),
    Row("id-form", "id", {"SERVICE_ID": "node1:other:80"}),
    Row("id-form", "id", {"SERVICE_ID": "NODE1:OTHER:80"}),
    Row("id-form", "id", {"SERVICE_ID": "node1:other:80:docker"}),
    Row("id-secret", "id", {"SERVICE_ID": JWT}),
    warns("tag-list", "tags", {"SERVICE_TAGS": '["http","v2"]'}),
    warns("tag-list", "tags", {"SERVICE_TAGS": "\"http\",'v2'"}),
    warns("tag-separator", "tags", {"SERVICE_TAGS": "http tcp"}),
    warns("tag-separator", "tags", {"SERVICE_TAGS": "http;v2"}),
    warns("tag-case", "tags", {"SERVICE_TAGS": "HTTP"}),
    warns("tag-template", "tags", {"SERVICE_TAGS": "{{.Config.Hostname}}"}),
    warns("tag-udp", "tags", {"SERVICE_TAGS": "udp"}),
    Row("tag-characters", "tags", {"SERVICE_TAGS": "a\nb"}),
    Row("tag-characters", "tags", {"SERVICE_TAGS": "\x9b31m"}),
    Row("tag-characters", "tags", {"SERVICE_TAGS": "\u202egat"}),
    Row("tag-count", "tags", {"SERVICE_TAGS": ",".join(f"{number:05}" + "t" * 4000 for number in range(20))}),
    Row("tag-length", "tags", {"SERVICE_TAGS": "t" * 4097}),
    Row("tag-secret", "tags", {"SERVICE_TAGS": "db=postgres://u:hunter2@h/d"}),
    Row("meta-key", "", {"SERVICE_": "x"}),
    Row("meta-key", "bad.key", {"SERVICE_BAD.KEY": "x"}),
    Row("meta-reserved", "registrator-managed", {"SERVICE_REGISTRATOR-MANAGED": "x"}),
    Row("meta-reserved", "registrator-protocol", {"SERVICE_REGISTRATOR-PROTOCOL": "tcp"}),
    Row("meta-reserved", "consul-x", {"SERVICE_CONSUL-X": "x"}),
    Row("meta-secret-key", "db_password", {"SERVICE_DB_PASSWORD": "hunter2"}),
    Row("meta-secret-value", "database_url", {"SERVICE_DATABASE_URL": "postgres://u:hunter2@h/d"}),
    Row("meta-environment", "region", {}, environment={"SERVICE_REGION": "x"}, settings={"environment_meta": False}),
    Row("meta-length", "long", {"SERVICE_LONG": "x" * 513}),
    Row("meta-characters", "lines", {"SERVICE_LINES": "a\nb"}),
    Row("meta-count", "a69", {f"SERVICE_A{number:02}": "x" for number in range(70)}),
    warns("typo", "edge_keepalvie", {"SERVICE_EDGE_KEEPALVIE": "false"}, settings=EDGE),
    warns("typo", "edge-port", {"SERVICE_EDGE-PORT": "80", "SERVICE_TAGS": "tcp"}, settings=EDGE),
    warns("typo", "egde_port", {"SERVICE_8081_EGDE_PORT": "80"}, settings=EDGE),
    warns("typo", "edgeport", {"SERVICE_EDGEPORT": "80"}, settings=EDGE),
    warns("meta-unknown", "edge_colour", {"SERVICE_EDGE_COLOUR": "red"}, settings=EDGE),
    warns("meta-tags", "edge_port", {"SERVICE_EDGE_PORT": "80"}, settings=EDGE),
    warns("meta-tags", "edge_port", {"SERVICE_EDGE_PORT": "80", "SERVICE_TAGS": "http,TCP"}, settings=EDGE),
    warns("meta-tags", "edge_weight", {"SERVICE_EDGE_WEIGHT": "80"}, settings=EDGE),
    warns("meta-empty", "edge_port", {"SERVICE_EDGE_PORT": "", "SERVICE_TAGS": "tcp"}, settings=EDGE),
    Row("weight", "weight", {"SERVICE_WEIGHT": "ten"}),
    Row("warmup", "warmup", {"SERVICE_WARMUP": "30"}),
    warns("address-value", "address", {"SERVICE_ADDRESS": "192.0.2.99"}),
    warns("address-host", "address", {"SERVICE_ADDRESS": "container"}, container="host_network"),
    Row("address-none", "address", {"SERVICE_ADDRESS": "container/lan"}, registered=False),
    Row("check-unknown", "check_headers", {"SERVICE_CHECK_HEADERS": "a: b"}),
    Row("check-unknown", "check_docker", {"SERVICE_CHECK_DOCKER": "false"}),
    Row("check-unsupported", "check", {"SERVICE_CHECK": "http"}, critical=True),
    Row("check-unsupported", "check_path", {"SERVICE_CHECK_PATH": "/health"}, critical=True),
    Row("check-unsupported", "check_http_path", {"SERVICE_CHECK_HTTP_PATH": "/health"}, critical=True),
    Row("check-unsupported", "check_httpp", {"SERVICE_CHECK_HTTPP": "/"}, critical=True),
    Row("check-unsupported", "check_docker", {"SERVICE_CHECK_DOCKER": "true"}, critical=True),
    Row("check-path", "check_http", {"SERVICE_CHECK_HTTP": "/a b"}, critical=True),
    Row("check-url", "check_http", {"SERVICE_CHECK_HTTP": "http://other:80/health"}, critical=True),
    Row("check-url", "check_http", {"SERVICE_CHECK_HTTP": "https://localhost:8081/health"}, critical=True),
    Row("check-url", "check_https", {"SERVICE_CHECK_HTTPS": "localhost:9999/health"}, critical=True),
    Row("check-url", "check_http", {"SERVICE_CHECK_HTTP": "http://localhost:x/"}, critical=True),
    warns("check-url-path", "check_http", {"SERVICE_CHECK_HTTP": "http://localhost:8081/health"}),
    Row("check-word", "check_http", {"SERVICE_CHECK_HTTP": "true"}, critical=True),
    Row("check-secret", "check_http", {"SERVICE_CHECK_HTTP": "/health?token=hunter2"}, critical=True),
    Row("check-secret", "check_http", {"SERVICE_CHECK_HTTP": "http://u:hunter2@localhost:8081/"}, critical=True),
    Row("check-port", "check_tcp", {"SERVICE_CHECK_TCP": "localhost:9000"}, critical=True),
    Row("check-port", "check_grpc", {"SERVICE_CHECK_GRPC": ":9000/svc"}, critical=True),
    Row("check-grpc", "check_grpc", {"SERVICE_CHECK_GRPC": "a b"}, critical=True),
    Row("check-grpc", "check_grpc", {"SERVICE_CHECK_GRPC": "s" * 256}, critical=True),
    Row("check-method", "check_http_method", {"SERVICE_CHECK_HTTP": "/", "SERVICE_CHECK_HTTP_METHOD": "POST"}, critical=True),
    Row("check-header", "check_header", {"SERVICE_CHECK_HTTP": "/", "SERVICE_CHECK_HEADER": "Host"}, critical=True),
    Row("check-header", "check_header", {"SERVICE_CHECK_HTTP": "/", "SERVICE_CHECK_HEADER": '{"Host": 1}'}, critical=True),
    Row("check-header-secret", "check_header", critical=True,
        labels={"SERVICE_CHECK_HTTP": "/", "SERVICE_CHECK_HEADER": '{"Authorization": ["Basic aHVudGVyMg=="]}'}),
    Row("check-header", "check_header", critical=True,
        labels={"SERVICE_CHECK_HTTP": "/", "SERVICE_CHECK_HEADER": "\n".join(f"X-{one}: a" for one in range(65))}),
    Row("check-ttl", "check_ttl", {"SERVICE_CHECK_TTL": "soon"}, critical=True),
    # Digits of other scripts, which Consul would refuse together with the service.
    Row("check-ttl", "check_ttl", {"SERVICE_CHECK_TTL": "\u0661\u0660s"}, critical=True),
    Row("check-duration", "check_interval", {"SERVICE_CHECK_TCP": "true", "SERVICE_CHECK_INTERVAL": "\u0661\u0660s"}),
    Row("check-duration", "check_timeout", {"SERVICE_CHECK_TCP": "true", "SERVICE_CHECK_TIMEOUT": "1s" * 51}),
    Row("check-script", "check_script", {"SERVICE_CHECK_SCRIPT": "true"}, critical=True),
    Row("check-script", "check_cmd", {"SERVICE_CHECK_CMD": "/ok"}, critical=True),
    Row("check-duration", "check_interval", {"SERVICE_CHECK_TCP": "true", "SERVICE_CHECK_INTERVAL": "15"}),
    Row("check-status", "check_initial_status", {"SERVICE_CHECK_TCP": "true", "SERVICE_CHECK_INITIAL_STATUS": "fine"}),
    Row("check-second", "check_tcp", {"SERVICE_CHECK_HTTP": "/", "SERVICE_CHECK_TCP": "true"}),
    warns("check-option", "check_interval", {"SERVICE_CHECK_TTL": "10s", "SERVICE_CHECK_INTERVAL": "5s"}),
    warns("check-option", "check_http_method", {"SERVICE_CHECK_TCP": "true", "SERVICE_CHECK_HTTP_METHOD": "HEAD"}),
    warns("check-empty", "check_http", {"SERVICE_CHECK_HTTP": ""}),
    warns("check-empty", "check_tcp", {"SERVICE_CHECK_TCP": "true", "SERVICE_8081_CHECK_TCP": " "}),
    warns("check-empty", "check_ttl", {"SERVICE_CHECK_HTTP": "/", "SERVICE_CHECK_TTL": ""}),
    warns("check-option-empty", "check_interval", {"SERVICE_CHECK_TCP": "true", "SERVICE_CHECK_INTERVAL": ""}),
    warns("check-option-empty", "check_header", {"SERVICE_CHECK_HEADER": ""}),
    warns("check-alone", "check_interval", {"SERVICE_CHECK_INTERVAL": "5s"}),
    warns("check-udp", "check_tcp", {"SERVICE_CHECK_TCP": "true"}, container="udp_and_tcp"),
    Row("check-udp", "check_tcp", {"SERVICE_53_UDP_CHECK_TCP": "true"}, critical=True, container="udp_and_tcp"),
]  # fmt: skip

# What needs more than one container, or a fault in the engine.
ELSEWHERE = {"id-taken", "id-twice", "id-foreign", "engine"}


def looked_at(document: Any, row: Row) -> Facts:
    recorded = {"nameless": "published", "thousand_ports": "host_network"}.get(row.container, row.container)
    text = document(recorded, **row.labels)
    if row.container == "thousand_ports":
        text["Config"]["ExposedPorts"] = {f"{port}/tcp": {} for port in range(1, 1011)}
    text["Config"]["Env"] = [*(text["Config"]["Env"] or []), *("=".join(item) for item in row.environment.items())]
    text["Config"]["Image"] = row.image or text["Config"]["Image"]
    if row.container == "nameless":
        text["Name"] = ""
    return facts_of(text)


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.kind}-{row.key}" for row in ROWS])
def test_each_reason(document: Any, row: Row, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = looked_at(document, row)
    settings = replace(NODE, **row.settings)
    found = registrations_of(facts, settings)
    notices = found.warnings if row.warning else found.refusals
    (notice,) = [item for item in notices if (item.kind, item.key) == (row.kind, row.key)]
    # A bad label costs only itself.
    labels = {name: value for name, value in facts.labels.items() if name not in row.labels}
    before = registrations_of(replace(facts, labels=labels), settings)
    assert bool(found.registrations) is row.registered
    assert len(found.registrations) in (0, len(before.registrations))
    assert any(check["Status"] == "critical" and notice.reason in check["Notes"] and check["CheckID"].endswith(":refused")
               for item in found.registrations for check in item.checks if "Notes" in check) is row.critical  # fmt: skip
    # The log has the line once, `explain` has the same, and neither nor the catalogue has the secret.
    config = Config(address=NODE.address, hostname=NODE.hostname, state_directory=str(tmp_path), protected_names=("billing",))
    reconciler = Reconciler(replace(config, **row.settings))
    reconciler.world.put(facts, "token")
    for _pass in range(2):
        reconciler.publisher.report(reconciler.world.desired(time.time())[1])
    log = [line for line in capsys.readouterr().err.splitlines() if f" key={row.key} " in line or f' key="{row.key}" ' in line]
    assert sum(f"event={'warning' if row.warning else 'refused'} " in line for line in log) == 1, log
    explained = explain_text(facts, found, "", None)
    assert f"{'warning' if row.warning else 'refused'}: SERVICE_{row.key.upper()}: {notice.reason}" in explained
    for secret in ("hunter2", "aHVudGVyMg", JWT):
        assert secret not in explained + "".join(log) + repr([item.payload() for item in found.registrations])


def test_every_reason_is_tried() -> None:
    """A new reason needs a row; one that nothing gives is removed."""
    assert {row.kind for row in ROWS} | ELSEWHERE == set(REASONS)


def test_reasons_come_from_the_table_alone() -> None:
    for path in (ROLE / "files" / "registrator").glob("*.py"):
        made = [
            node.lineno
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Refusal"
        ]
        assert len(made) == (path.name == "reasons.py"), f"{path.name}:{made}: use reasons.refusal"


def test_every_reason_is_documented() -> None:
    """With the line that it leads to, in the README's table."""
    text = (ROLE / "README.md").read_text(encoding="utf-8").partition("### Refusals and warnings")[2].partition("\n## ")[0]
    rows = [[cell.strip(" `") for cell in line.split("|")[1:4]] for line in text.splitlines() if line.startswith("| `")]
    documented = {kind: line for kind, line, _follows in rows}
    assert set(documented) == set(REASONS)
    for row in ROWS:
        assert ("warning" if row.warning else "refused") in documented[row.kind]


def test_conflicts_of_ids(document: Any) -> None:
    def pair(name: str, container: str, **labels: str) -> tuple[Facts, Outcome]:
        text = document(container, **labels)
        facts = replace(facts_of(text), id=name * 64, created=name)
        return facts, registrations_of(facts, NODE)

    one, two = pair("a", "published", SERVICE_ID="mine"), pair("b", "published", SERVICE_ID="mine")
    desired, refused = merge([one, two])
    assert [(owner[0], item.kind) for owner, item in refused] == [("b", "id-taken")]
    twice = pair("c", "port_range", SERVICE_9100_ID="x", SERVICE_9101_ID="x")
    assert [(owner[0], item.kind) for owner, item in merge([twice])[1]] == [("c", "id-twice")]
    foreign = Actual(services={"mine": {"ID": "mine", "Service": "web", "Meta": {}}})
    assert [(owner[0], item.kind) for owner, item in plan(desired, foreign, "node1").refusals] == [("a", "id-foreign")]


def test_ids_of_checks_and_of_other_cases_are_claimed(document: Any) -> None:
    """An agent has one check of each id, and the catalogue one service, whatever the case of its letters."""

    def one(created: str, settings: Settings = NODE, **labels: str) -> tuple[Facts, Outcome]:
        facts = replace(facts_of(document("unhealthy", **labels)), id=created * 64, created=created)
        return facts, registrations_of(facts, settings)

    def refused(*found: tuple[Facts, Outcome]) -> list[tuple[str, str]]:
        desired, refusals = merge(found)
        assert len(desired) == 1
        return [(owner[0], item.kind) for owner, item in refusals]

    thief = one("b", SERVICE_ID="x:docker", SERVICE_CHECK_TTL="9s")
    assert refused(one("a", SERVICE_ID="x"), thief) == [("b", "id-taken")]
    assert refused(one("a", SERVICE_ID="x"), one("b", SERVICE_ID="X")) == [("b", "id-taken")]
    for labels in ({"SERVICE_ID": "web:1", "SERVICE_CHECK_TTL": "9s"}, {"SERVICE_ID": "WEB"}):
        desired, _refusals = merge([one("a", **labels)])
        checks = {"service:web:1": {"ServiceID": "web"}}
        foreign = Actual(services={"web": {"ID": "web", "Service": "web", "Meta": {}}}, checks=checks)
        found = plan(desired, foreign, "node1")
        assert [item.kind for _owner, item in found.refusals] == ["id-foreign"]
        assert not found.register
    # What has its own id stays, and what took its check is undone.
    desired, _refusals = merge([one("a")])
    (item,) = desired.values()
    actual = Actual()
    actual.record(item)
    assert not plan(desired, actual, "node1").register
    actual.checks[item.check_ids()[0]] = {"ServiceID": "another", "Status": "critical"}
    assert plan(desired, actual, "node1").register == [item]


def test_the_default_id_may_be_written_out(document: Any) -> None:
    found = registrations_of(facts_of(document("published", SERVICE_ID="node1:published:8081")), NODE)
    assert [item.id for item in found.registrations] == ["node1:published:8081"]
    assert not found.refusals


def test_what_is_written_commands_no_terminal(document: Any) -> None:
    labels = {"SERVICE_X\nis not registered\x1b[2J": "1", "SERVICE_COLOUR": "red\u202e"}
    facts = facts_of(document("published", **labels))
    explained = explain_text(facts, registrations_of(facts, NODE), "", None)
    assert all(line.isprintable() for line in explained.split("\n"))
    assert not [line for line in explained.split("\n") if line.startswith("IS NOT REGISTERED")]


def test_a_deep_list_of_tags_costs_only_itself(document: Any) -> None:
    facts = facts_of(document("published", SERVICE_TAGS="[" * 100_000 + "]" * 100_000))
    assert len(registrations_of(facts, NODE).registrations) == 1


def test_many_labels_and_ports_hold_nothing_up(document: Any) -> None:
    text = document("host_network")
    text["Config"]["Env"] = []
    text["Config"]["Labels"] = {f"SERVICE_{port}_NAME": "x" for port in range(65_536 - 1500, 65_536)}
    ports = range(1, 65_536)
    text["Config"]["ExposedPorts"] = {f"{port}/{protocol}": {} for port in ports for protocol in ("tcp", "udp")}
    # Whatever grows with the square of them would not come back from here.
    found = registrations_of(facts_of(text), NODE)
    assert {item.name for item in found.registrations} == {"x"}, "those that labels name come first"
    assert len(found.registrations) == 1000
    assert {item.kind for item in found.refusals} == {"port-count"}
    text["Config"]["Labels"] = {f"SERVICE_{port}_NAME": "x" for port in ports}
    found = registrations_of(facts_of(text), NODE)
    assert ([item.kind for item in found.refusals], found.registrations) == (["label-count"], ())


# One value of each attribute that is not its default, right or wrong.
VOCABULARY = {
    "NAME": ["shop", "a/b", "consul", '"shop"'], "TAGS": ["http", '["a"]', "a b", "HTTP", "a\nb", r"a\\,b"], "ID": ["mine", "a b"],
    "WEIGHT": ["5", "x"], "WARMUP": ["10s", "x"], "ADDRESS": ["container", "192.0.2.1", "container/x"],
    "VERSION": ["2"], "ENABLE_TAG_OVERRIDE": ["true"], "REGION": ["x", "a\nb"], "TOKEN": ["x"], "TAG": ["x"],
    "EDGE_PORT": ["80"], "CHECK_HTTP": ["/h", "http://x/", "/a b", "true"], "CHECK_HTTPS": ["/h", " "],
    "CHECK_CMD": ["x"], "CHECK_SCRIPT": ["x"], "CHECK_TTL": ["10s", "x"], "CHECK_TCP": ["true", "x:1"],
    "CHECK_GRPC": ["true", ":1"], "CHECK_HTTP_METHOD": ["HEAD", "PUT"], "CHECK_HTTPS_METHOD": ["HEAD", "PUT"],
    "CHECK_HEADER": ["Host: a", "x"], "CHECK_TLS_SKIP_VERIFY": ["true"], "CHECK_GRPC_USE_TLS": ["true"],
    "CHECK_INTERVAL": ["5s", "x"], "CHECK_TIMEOUT": ["1s", "x"], "CHECK_INITIAL_STATUS": ["passing", "x"],
    "CHECK_DEREGISTER_AFTER": ["10m", "x"], "CHECK_DOCKER": ["x"], "CHECK_FOO": ["x"], "CHECK": ["x"], "UDP_NAME": ["x"],
}  # fmt: skip
_WHERE = st.sampled_from(["", "80_", "53_UDP_", "9999_", "0_", "1-99_", "50-60_UDP_", "9-1_"])
_WRITTEN = st.dictionaries(st.sampled_from(sorted(VOCABULARY)), st.tuples(_WHERE, st.integers(0, 9)), min_size=1, max_size=6)
_SHAPES = ("several_ports", "udp_and_tcp", "exposed_only", "host_network", "published", "none_network")


@hypothesis_settings(max_examples=400, deadline=None)
@given(written=_WRITTEN, shape=st.sampled_from(_SHAPES), allow=st.booleans())
def test_nothing_is_dropped_silently(documents: Any, written: dict[str, tuple[str, int]], shape: str, allow: bool) -> None:
    labels = {}
    for name, (where, number) in written.items():
        labels[f"SERVICE_{where if name != 'UDP_NAME' else ''}{name}"] = VOCABULARY[name][number % len(VOCABULARY[name])]
    facts = replace(facts_of(documents(shape)), labels=labels, env={})
    settings = replace(NODE, allow_scripts=allow)
    found = registrations_of(facts, settings)
    said = {item.kind for item in (*found.refusals, *found.warnings)}
    if said & WHOLE_PORT:
        # A port that is not registered has one line for all of its labels.
        return
    if not found.registrations:
        assert said & {"not-registered", "port-number"}
        return
    assert len(found.registrations) >= len(registrations_of(replace(facts, labels={}), settings).registrations)
    refused = "check-udp" in said or any(item.kind.startswith("check-") for item in found.refusals)
    unknown = tuple("SERVICE_" + item.key[:-1].upper() for item in found.warnings if item.kind == "port-unknown")
    for key, value in labels.items():
        # So do a port that does not exist, and a check that cannot be made.
        if not value.strip() or key.startswith(unknown) or ("_CHECK_" in key and refused):
            continue
        without = registrations_of(replace(facts, labels={name: text for name, text in labels.items() if name != key}), settings)
        assert without != found, f"{key}={value!r} changes nothing, and nobody is told"
