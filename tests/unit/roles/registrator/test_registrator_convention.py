# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recorded containers -> registrations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from registrator.convention import NAME, image_name, registrations_of
from registrator.facts import facts_of, parse_signal, parse_time
from registrator.meta import META_KEY, image_version
from registrator.model import MARK, Binding, Facts, Outcome, Settings

DATA = Path(__file__).resolve().parent / "data"
NODE = Settings(hostname="node1", address="192.0.2.10")


def outcome(document: dict[str, Any], **changes: Any) -> Outcome:
    return registrations_of(facts_of(document), Settings(**{**vars(NODE), **changes}))


def brief(found: Outcome) -> list[tuple[str, str, str, int]]:
    return [(item.id, item.name, item.address, item.port) for item in found.registrations]


# Recorded container -> (id, service, address, port) of all its registrations.
SHAPES = [
    ("published", [("node1:published:8081", "httpbackend", "192.0.2.10", 8081)]),
    ("compose", [("node1:compose:80", "shop-web", "192.0.2.10", 8090)]),
    ("host_network", [("node1:host_network:80", "edge", "192.0.2.10", 80), ("node1:host_network:443", "edge-tls", "192.0.2.10", 443)]),
    ("no_ports", []),
    ("exposed_only", []),
    ("none_network", []),
    (
        "port_range",
        [
            ("node1:port_range:9100", "range-9100", "192.0.2.10", 9100),
            ("node1:port_range:9101", "range-9101", "192.0.2.10", 9101),
            ("node1:port_range:9102", "range-9102", "192.0.2.10", 9102),
        ],
    ),
    (
        "many_bindings",
        [
            ("node1:many_bindings:80", "bb", "192.0.2.10", 8180),
            ("node1:many_bindings:80:8181", "bb", "192.0.2.10", 8181),
            ("node1:many_bindings:80:8183", "bb", "198.51.100.7", 8183),
        ],
    ),
    ("loopback_only", []),
    # Docker does not answer for IPv4 there.
    ("ipv6_binding", []),
    ("udp_and_tcp", [("node1:udp_and_tcp:53", "dns-53", "192.0.2.10", 1053), ("node1:udp_and_tcp:53:udp", "dns-53", "192.0.2.10", 1053)]),
    ("healthcheck", [("node1:healthcheck:80", "bb", "192.0.2.10", 8186)]),
    ("healthcheck_starting", [("node1:healthcheck_starting:80", "bb", "192.0.2.10", 8188)]),
    ("unhealthy", [("node1:unhealthy:80", "bb", "192.0.2.10", 8187)]),
    ("stop_signal", [("node1:stop_signal:80", "bb", "192.0.2.10", 8191)]),
    ("network_owner", [("node1:network_owner:80", "bb", "192.0.2.10", 8190)]),
    ("swarm_task", [("node1:shop_task.1.TASK:80", "bb", "192.0.2.10", 8320)]),
    ("swarm_mesh", []),
    ("restart_loop", []),
    ("paused", []),
    ("stopped", []),
]


@pytest.mark.parametrize(("name", "expected"), SHAPES, ids=[name for name, _expected in SHAPES])
def test_shapes(recorded: Any, name: str, expected: list[tuple[str, str, str, int]]) -> None:
    document = recorded(name)
    task = document["Config"]["Labels"].get("com.docker.swarm.task.id", "")
    found = outcome(document)
    assert brief(found) == [(identity.replace("TASK", task), *rest) for identity, *rest in expected]
    if not expected:
        assert found.notes, "a container that is not registered must have a reason"
    assert found.refusals == ()


def test_every_recorded_shape_is_looked_at() -> None:
    elsewhere = {"several_ports", "network_sharer"}
    for engine in DATA.iterdir():
        assert {path.stem for path in engine.glob("*.json")} == {name for name, _expected in SHAPES} | elsewhere, engine.name


def test_a_restart_loop_is_registered_while_it_runs(recorded: Any) -> None:
    document = recorded("restart_loop")
    document["State"] |= {"Restarting": False, "Running": True}
    # While it waits for its next try, Docker has taken its ports away.
    assert "not published" in outcome(document).notes[0]
    document["NetworkSettings"]["Ports"] = {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8189"}]}
    assert brief(outcome(document)) == [("node1:restart_loop:80", "bb", "192.0.2.10", 8189)]


def test_swarms_own_words(recorded: Any) -> None:
    meta = outcome(recorded("swarm_task")).registrations[0].meta
    assert (meta["swarm_service"], meta["swarm_stack"]) == ("shop_task", "shop")
    assert "mode=host" in outcome(recorded("swarm_mesh")).notes[-1]


def test_several_ports_take_random_host_ports_and_a_suffix(recorded: Any) -> None:
    found = outcome(recorded("several_ports"))
    assert [item.name for item in found.registrations] == ["from-image-53", "from-image-80", "from-image-443"]
    assert all(item.port > 1024 for item in found.registrations)
    assert found.registrations[0].tags == ("udp",)
    assert found.registrations[0].id == "node1:several_ports:53:udp"
    # What the image says about one port stays with that port.
    assert [item.meta.get("region") for item in found.registrations] == [None, "image", None]


def test_labels_win_over_environment_and_ports_over_both(document: Any) -> None:
    labels = {"SERVICE_NAME": "label", "SERVICE_443_NAME": "tls", "SERVICE_REGION": "label"}
    found = outcome(document("several_ports", **labels))
    assert [item.name for item in found.registrations] == ["label-53", "label-80", "tls"]
    assert [item.meta["region"] for item in found.registrations] == ["label", "image", "label"]


def test_tags_and_meta(document: Any) -> None:
    labels = {"SERVICE_TAGS": r"http, a\,b,,http", "SERVICE_EDGE_PORT": "9999", "SERVICE_EDGE_CANARY": "true", "SERVICE_VERSION": "2"}
    registration = outcome(document("published", **labels), tags=("dc",)).registrations[0]
    assert registration.tags == ("http", "a,b", "dc")
    assert registration.meta == {"edge_port": "9999", "edge_canary": "true", "version": "2"}
    assert set(registration.payload()["Meta"]) == {"edge_port", "edge_canary", "version", MARK}


def test_network_of_another_container(recorded: Any) -> None:
    sharer = facts_of(recorded("network_sharer"))
    owner = facts_of(recorded("network_owner"))
    assert sharer.network_owner == owner.id
    found = registrations_of(sharer, NODE, owner)
    assert brief(found) == [("node1:network_sharer:80", "sidecar", "192.0.2.10", 8190)]
    assert "does not run" in registrations_of(sharer, NODE, None).notes[0]


def test_internal_takes_the_containers_own_address(recorded: Any) -> None:
    text = recorded("compose")
    address = text["NetworkSettings"]["Networks"]["shapes"]["IPAddress"]
    found = outcome(text, internal=True)
    assert [(item.address, item.port) for item in found.registrations] == [(address, 53), (address, 80), (address, 443)]


def test_explicit_takes_named_ports_only(document: Any) -> None:
    assert brief(outcome(document("port_range"), explicit=True))
    assert not brief(outcome(document("healthcheck"), explicit=True))


@pytest.mark.parametrize(("value", "ignored"), [("true", True), ("yes", True), ("1", True), ("please", True), ("false", False), ("0", False), ("", False)])
def test_ignore(document: Any, value: str, ignored: bool) -> None:
    assert (not outcome(document("published", SERVICE_IGNORE=value)).registrations) is ignored


def test_ignore_of_one_port_keeps_the_others(document: Any) -> None:
    found = outcome(document("port_range", SERVICE_9101_IGNORE="true"))
    assert [item.port for item in found.registrations] == [9100, 9102]


def test_a_port_that_the_container_does_not_have_is_named(document: Any) -> None:
    found = outcome(document("published", SERVICE_80_NAME="x", SERVICE_8081_TAGS="a"))
    assert [item.key for item in found.warnings] == ["80_*"]
    assert found.registrations[0].tags == ("a",)


def test_numbers_that_no_machine_can_hold(document: Any) -> None:
    text = document("published", **{f"SERVICE_{'9' * 5000}_NAME": "x", "SERVICE_99999_NAME": "y", "SERVICE_WEIGHT": "9" * 5000})
    text["Config"]["ExposedPorts"]["9" * 5000 + "/tcp"] = {}
    text["Config"]["StopSignal"] = "9" * 5000
    found = outcome(text)
    assert brief(found) == [("node1:published:8081", "httpbackend", "192.0.2.10", 8081)]


def test_ids(document: Any) -> None:
    registration = outcome(document("published", SERVICE_ID="mine")).registrations[0]
    assert (registration.id, registration.default_id) == ("mine", False)
    assert [item.id for item in outcome(document("port_range", SERVICE_ID="x", SERVICE_9102_ID="y")).registrations] == ["x-9100", "x-9101", "y"]
    found = outcome(document("published", SERVICE_ID="a/../b"))
    assert found.registrations[0].id == "node1:published:8081"
    assert found.refusals[0].key == "id"


@pytest.mark.parametrize(
    ("bindings", "address", "expected"),
    [
        # The engine may choose different host ports for the two families: only the one of the announced address is true.
        ([("0.0.0.0", 32768), ("::", 32769)], "192.0.2.10", [("192.0.2.10", 32768)]),
        ([("0.0.0.0", 32768), ("::", 32769)], "2001:db8::1", [("2001:db8::1", 32769)]),
        ([("0.0.0.0", 80), ("::", 80)], "192.0.2.10", [("192.0.2.10", 80)]),
        ([("", 80)], "192.0.2.10", [("192.0.2.10", 80)]),
        ([("", 80)], "2001:db8::1", [("2001:db8::1", 80)]),
        ([("::", 80)], "192.0.2.10", []),
        ([("0.0.0.0", 80)], "2001:db8::1", []),
        ([("2001:db8::5", 80)], "192.0.2.10", [("2001:db8::5", 80)]),
        ([("127.0.0.1", 80), ("::1", 80)], "192.0.2.10", []),
        ([("127.0.0.1", 80)], "127.0.0.1", [("127.0.0.1", 80)]),
        ([("10.0.0.1", 80), ("10.0.0.2", 80)], "192.0.2.10", [("10.0.0.1", 80), ("10.0.0.2", 80)]),
    ],
)
def test_bindings(document: Any, bindings: list[tuple[str, int]], address: str, expected: list[tuple[str, int]]) -> None:
    text = document("published")
    text["NetworkSettings"]["Ports"] = {"8081/tcp": [{"HostIp": ip, "HostPort": str(port)} for ip, port in bindings]}
    orders = [outcome(text, address=address)]
    text["NetworkSettings"]["Ports"]["8081/tcp"].reverse()
    orders.append(outcome(text, address=address))
    assert orders[0] == orders[1], "the order of the bindings must not matter"
    assert [(item.address, item.port) for item in orders[0].registrations] == expected
    ids = [item.id for item in orders[0].registrations]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(("text", "passing", "edge"), [("0", 1, "0"), ("1", 1, "1"), ("20", 20, "20"), ("100", 100, "100"), ("", 1, None)])
def test_weight(document: Any, text: str, passing: int, edge: str | None) -> None:
    found = outcome(document("published", SERVICE_WEIGHT=text))
    assert found.registrations[0].weight_passing == passing
    assert found.registrations[0].meta.get("edge_weight") == edge
    assert not found.refusals


@pytest.mark.parametrize("text", ["101", "-1", "1.5", "ten", "1e2", "٣", "05x"])
def test_bad_weight_is_refused_and_the_rest_stands(document: Any, text: str) -> None:
    found = outcome(document("published", SERVICE_WEIGHT=text, SERVICE_COLOUR="blue"))
    assert found.registrations[0].meta == {"colour": "blue"}
    assert [item.key for item in found.refusals] == ["weight"]


def test_edge_weight_of_its_own_wins(document: Any) -> None:
    registration = outcome(document("published", SERVICE_WEIGHT="5", SERVICE_EDGE_WEIGHT="0")).registrations[0]
    assert (registration.weight_passing, registration.meta["edge_weight"]) == (5, "0")


@pytest.mark.parametrize(
    ("labels", "refused"),
    [
        ({"SERVICE_BAD.KEY": "x"}, "bad.key"),
        ({"SERVICE_LONG": "x" * 513}, "long"),
        ({"SERVICE_WIDE": "ä" * 257}, "wide"),
        ({"SERVICE_" + "K" * 129: "x"}, "k" * 129),
        ({"SERVICE_LINES": "a\nb"}, "lines"),
        ({"SERVICE_registrator-managed": "x"}, MARK),
        ({"SERVICE_CONSUL-X": "x"}, "consul-x"),
        ({"SERVICE_LINE\n": "x"}, "line\n"),
        ({"SERVICE_TOKEN": "x"}, "token"),
        ({"SERVICE_DB_PASSWORD": "x"}, "db_password"),
        ({"SERVICE_AWS_SECRET_ACCESS_KEY": "x"}, "aws_secret_access_key"),
        ({"SERVICE_API-KEY": "x"}, "api-key"),
    ],
)
def test_meta_that_consul_would_refuse(document: Any, labels: dict[str, str], refused: str) -> None:
    found = outcome(document("published", SERVICE_GOOD="yes", **labels))
    assert found.registrations[0].meta == {"good": "yes"}
    assert [item.key for item in found.refusals] == [refused]


def test_no_more_meta_pairs_than_consul_takes(document: Any) -> None:
    found = outcome(document("published", SERVICE_WEIGHT="7", SERVICE_VERSION="2", **{f"SERVICE_A{number:02}": "x" for number in range(70)}))
    assert len(found.registrations[0].full_meta()) == 64
    assert found.registrations[0].meta["edge_weight"] == "7"
    assert found.registrations[0].meta["version"] == "2"
    assert len(found.refusals) == 10


@pytest.mark.parametrize("name", ["a/b", "a b", "a:b", "-a", "x" * 129, 'x"', "ü", "a\nb", ".a"])
def test_names_that_break_readers_are_refused(document: Any, name: str) -> None:
    found = outcome(document("published", SERVICE_NAME=name))
    assert not found.registrations
    assert found.refusals[0].key == "name"


@pytest.mark.parametrize("name", ["my_app", "a.b", "x" * 64])
def test_names_outside_of_dns_get_a_warning(document: Any, name: str) -> None:
    found = outcome(document("published", SERVICE_NAME=name))
    assert found.registrations[0].name == name
    assert found.warnings[0].key == "name"


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("redis", "redis"),
        ("redis:7", "redis"),
        ("registry.example:5000/team/web:1.2", "web"),
        ("registry.example:5000/web", "web"),
        ("web@sha256:0123", "web"),
        ("team/web:1@sha256:0123", "web"),
    ],
)
def test_default_name(image: str, name: str) -> None:
    assert image_name(image) == name


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("web:1.2", "1.2"),
        ("registry.example:5000/team/web:v2-rc.1", "v2-rc.1"),
        ("web:1.2@sha256:0123", "1.2"),
        ("web", ""),
        ("web:latest", ""),
        ("registry.example:5000/web", ""),
        ("web@sha256:0123", ""),
        ("sha256:" + "a" * 64, ""),
        ("a" * 64, ""),
        ("web:" + "x" * 129, ""),
    ],
)
def test_version_from_the_image(document: Any, image: str, version: str) -> None:
    assert image_version(image) == version
    text = document("published")
    text["Config"]["Image"] = image
    assert outcome(text).registrations[0].meta.get("version", "") == version
    text["Config"]["Labels"]["SERVICE_VERSION"] = "mine"
    assert outcome(text).registrations[0].meta["version"] == "mine"


def test_what_compose_and_swarm_say_is_meta(document: Any, recorded: Any) -> None:
    meta = outcome(recorded("compose")).registrations[0].meta
    assert (meta["compose_project"], meta["compose_service"]) == ("shop", "web")
    meta = outcome(document("compose", SERVICE_COMPOSE_PROJECT="mine")).registrations[0].meta
    assert meta["compose_project"] == "mine", "what somebody wrote wins"
    full = {f"SERVICE_A{number:02}": "x" for number in range(70)}
    assert "compose_project" not in outcome(document("compose", **full)).registrations[0].meta, "and what nobody wrote takes no place of it"


def test_times_and_signals() -> None:
    assert parse_time("0001-01-01T00:00:00Z") == 0.0
    assert parse_time("2026-11-23T09:38:11.075078173Z") == pytest.approx(1795426691.075078, abs=1e-5)
    assert parse_time("2026-11-23T10:38:11+01:00") == 1795426691.0
    assert parse_time("yesterday") == 0.0
    assert [parse_signal(text) for text in ("", None, "SIGQUIT", "quit", "9", "SIGRTMIN+3", "NONSENSE")] == [15, 15, 3, 3, 9, 37, 15]


def test_stop_signal_and_time_out_are_taken_from_the_container(document: Any) -> None:
    facts = facts_of(document("stop_signal"))
    assert (facts.stop_signal, facts.stop_timeout) == (3, 120.0)


_KEYS = st.one_of(
    st.sampled_from(
        ["NAME", "TAGS", "ID", "IGNORE", "WEIGHT", "CHECK_HTTP", "CHECK_TTL", "CHECK_INTERVAL", "CHECK_TCP", "CHECK_SCRIPT", "80_NAME", "80_ID", "_", "80_"]
    ),
    st.text(max_size=20),
)


@settings(max_examples=300, deadline=None)
@given(
    labels=st.dictionaries(_KEYS.map(lambda key: "SERVICE_" + key), st.text(max_size=600), max_size=80),
    host_ip=st.sampled_from(["", "0.0.0.0", "::", "10.1.1.1", "127.0.0.1", "nonsense"]),
    ports=st.sets(st.integers(min_value=1, max_value=65535), min_size=1, max_size=3),
)
def test_no_label_can_break_it(labels: dict[str, str], host_ip: str, ports: set[int]) -> None:
    facts = Facts(
        id="0" * 64, name="c", image="img", running=True, paused=False, restarting=False, pid=1, created="", started_at=1.0, labels=labels, env={},
        network_mode="bridge", network_owner="", exposed=tuple((port, "tcp") for port in sorted(ports | {80})),
        bindings=tuple(Binding(port, "tcp", host_ip, port) for port in sorted(ports | {80})), addresses=("172.17.0.2",),
        health="", stop_signal=15, stop_timeout=10.0,
    )  # fmt: skip
    found = registrations_of(facts, NODE)
    for registration in found.registrations:
        meta = registration.full_meta()
        assert len(meta) <= 64
        assert all(META_KEY.fullmatch(key) and len(value.encode("utf-8")) <= 512 for key, value in meta.items())
        assert NAME.fullmatch(registration.name)
        assert registration.address
        assert 0 < registration.port < 65536
        assert not any("Args" in check for check in registration.checks)
        assert 1 <= registration.weight_passing <= 100
    assert found.registrations or found.refusals or found.notes
    assert registrations_of(facts, NODE) == found
