# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which port a label is about, and what a port is registered as."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from registrator.attributes import Key, read_key
from registrator.convention import registrations_of
from registrator.facts import facts_of
from registrator.model import MARK, PROTOCOL, Facts, Outcome, Settings
from registrator.plan import Actual, equal, merge
from registrator.tags import split_tags

NODE = Settings(hostname="node1", address="192.0.2.10")


def outcome(document: dict[str, Any], **changes: Any) -> Outcome:
    return registrations_of(facts_of(document), replace(NODE, **changes))


def ports(document: dict[str, Any], published: dict[str, str]) -> dict[str, Any]:
    """The document with these published ports, each with address:port of the host."""
    document["Config"]["ExposedPorts"] = {port: {} for port in published}
    document["NetworkSettings"]["Ports"] = {
        port: [dict(zip(("HostIp", "HostPort"), binding.rsplit(":", 1)))] if binding else None for port, binding in published.items()
    }
    return document


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("SERVICE_NAME", Key("name")),
        ("SERVICE_80_NAME", Key("name", 80)),
        ("SERVICE_80_name", Key("name", 80)),
        ("SERVICE_53_UDP_NAME", Key("name", 53, 0, "udp")),
        ("SERVICE_53_TCP_CHECK_HTTP", Key("check_http", 53, 0, "tcp")),
        ("SERVICE_80_TCP", Key("tcp", 80)),
        ("SERVICE_9300-9400_NAME", Key("name", 9300, 9400)),
        ("SERVICE_9300-9400_UDP_TAGS", Key("tags", 9300, 9400, "udp")),
        ("SERVICE_80", Key("80")),
        ("SERVICE_2FA_URL", Key("2fa_url")),
        ("SERVICE_3D_MODEL", Key("3d_model")),
        ("SERVICE_", Key("")),
        ("service_name", None),
        ("OTHER", None),
    ],
)
def test_keys(text: str, key: Key | None) -> None:
    assert read_key(text) == key


NO_PORTS = ["0", "080", "65536", "100000", "-1", "9" * 50, "80-", "80-70", "0-5", "1-65536", "80:90", "80,81", "80/tcp", "53-udp", "1.5"]


@pytest.mark.parametrize("head", NO_PORTS)
def test_numbers_that_are_no_ports(head: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        read_key(f"SERVICE_{head}_NAME")


def test_what_names_the_port_most_exactly_wins(document: Any) -> None:
    published = {"53/tcp": "0.0.0.0:1053", "53/udp": "0.0.0.0:1053", "54/tcp": "0.0.0.0:1054", "60/udp": "0.0.0.0:1060"}
    labels = {
        "SERVICE_REGION": "all", "SERVICE_50-59_REGION": "range", "SERVICE_50-59_TCP_REGION": "range tcp",
        "SERVICE_53_REGION": "port", "SERVICE_53_UDP_REGION": "port udp",
    }  # fmt: skip
    text = ports(document("published", **labels), published)
    # A variable that is more exact wins over a label that is not; of two that are the same a label wins.
    text["Config"]["Env"] = ["SERVICE_60_UDP_REGION=variable", "SERVICE_53_UDP_REGION=variable"]
    found = {item.id: item.meta["region"] for item in outcome(text).registrations}
    assert found == {
        "node1:published:53": "port",
        "node1:published:53:udp": "port udp",
        "node1:published:54": "range tcp",
        "node1:published:60:udp": "variable",
    }


def test_tcp_and_udp_on_one_port(document: Any) -> None:
    """Each has its own name and tags where they are given, and udp is told apart in three ways, whatever labels say."""
    labels = {"SERVICE_53_UDP_NAME": "dns-udp", "SERVICE_53_TCP_NAME": "dns", "SERVICE_53_TCP_TAGS": "tcp", "SERVICE_EDGE_PORT": "5353"}
    tcp, udp = outcome(document("udp_and_tcp", **labels)).registrations
    assert (tcp.name, tcp.tags, tcp.id, PROTOCOL in tcp.full_meta()) == ("dns", ("tcp",), "node1:udp_and_tcp:53", False)
    assert (udp.name, udp.tags, udp.id, udp.full_meta()[PROTOCOL]) == ("dns-udp", ("udp",), "node1:udp_and_tcp:53:udp", "udp")
    general = outcome(document("udp_and_tcp", SERVICE_TAGS="tcp", SERVICE_ID="mine", **{f"SERVICE_{PROTOCOL.upper()}": "tcp"}))
    udp = general.registrations[1]
    assert (udp.tags, udp.id, udp.full_meta()[PROTOCOL]) == (("tcp", "udp"), "mine-53:udp", "udp")
    assert [item.key for item in general.refusals] == [PROTOCOL]


def test_an_id_for_a_port_with_tcp_and_udp(document: Any) -> None:
    """Both are registered, under different ids."""
    found = outcome(document("udp_and_tcp", SERVICE_53_ID="mine"))
    assert [item.id for item in found.registrations] == ["mine", "mine:udp"]
    desired, refused = merge([(facts_of(document("udp_and_tcp")), found)])
    assert (sorted(desired), refused) == (["mine", "mine:udp"], [])
    each = outcome(document("udp_and_tcp", SERVICE_53_TCP_ID="a", SERVICE_53_UDP_ID="b"))
    assert [item.id for item in each.registrations] == ["a", "b"]
    alone = outcome(ports(document("published", SERVICE_53_ID="mine"), {"53/udp": "0.0.0.0:53"}))
    assert [item.id for item in alone.registrations] == ["mine"]
    beside = {"132/tcp": "0.0.0.0:132", "132/sctp": "0.0.0.0:132"}
    sctp = outcome(ports(document("published", SERVICE_CHECK_TCP="true"), beside)).registrations
    assert {item.id: len(item.checks) for item in sctp} == {"node1:published:132:sctp": 0, "node1:published:132": 1}
    assert sctp[0].full_meta()[PROTOCOL] == "sctp"
    ranged = outcome(document("port_range", **{"SERVICE_9100-9101_ID": "x", "SERVICE_9100-9101_NAME": "pool"}))
    assert [(item.id, item.name) for item in ranged.registrations] == [
        ("x-9100", "pool"),
        ("x-9101", "pool"),
        ("node1:port_range:9102", "range-9102"),
    ]


@pytest.mark.parametrize("other", ["127.0.0.1:9090", ":::9090"])
def test_every_published_port_counts_for_the_suffix(document: Any, other: str) -> None:
    """As for registrator: also one that other hosts cannot reach."""
    text = ports(document("published", SERVICE_NAME="w08"), {"80/tcp": "0.0.0.0:8080", "9090/tcp": other})
    assert [item.name for item in outcome(text).registrations] == ["w08-80"]
    unpublished = ports(document("published", SERVICE_NAME="w08"), {"80/tcp": "0.0.0.0:8080", "9090/tcp": ""})
    assert [item.name for item in outcome(unpublished).registrations] == ["w08"]


IMAGE_IDS = ["sha256:" + "4a" * 32, "4a" * 32, "4ab4c602aa5e"]


@pytest.mark.parametrize("image", IMAGE_IDS)
def test_an_image_without_a_name(document: Any, image: str) -> None:
    """Two containers of two images without names must not become one service."""

    def name(labels: dict[str, str], **changes: Any) -> list[str]:
        text = document("published", SERVICE_NAME="", **labels)
        text["Config"]["Image"] = image
        return [item.name for item in registrations_of(replace(facts_of(text), **changes), NODE).registrations]

    assert name({"com.docker.compose.service": "shop"}) == ["shop"]
    assert name({"com.docker.swarm.service.name": "stack-shop"}) == ["stack-shop"]
    assert name({}) == ["published"]
    assert name({}, name="") == []


def test_a_label_names_a_port_that_the_image_does_not_expose(document: Any, recorded: Any) -> None:
    text = document("host_network", SERVICE_9042_NAME="cass", SERVICE_5353_UDP_NAME="mdns")
    found = outcome(text)
    assert ("cass", "192.0.2.10", 9042) in [(item.name, item.address, item.port) for item in found.registrations]
    assert [(item.port, item.protocol) for item in found.registrations if item.name == "mdns"] == [(5353, "udp")]
    assert not found.warnings
    # In a network of its own the port would have to be published.
    assert [item.kind for item in outcome(document("published", SERVICE_9042_NAME="cass")).warnings] == ["port-unknown"]
    inner = outcome(document("published", SERVICE_9042_NAME="cass"), internal=True)
    assert [(item.name, item.port) for item in inner.registrations] == [("cass", 9042), ("httpbackend-8081", 8081)][::-1]
    sharer, owner = facts_of(recorded("network_sharer")), facts_of(recorded("network_owner"))
    sharer = replace(sharer, exposed=(), labels={"SERVICE_80_NAME": "sidecar"}, env={})
    assert [(item.name, item.port) for item in registrations_of(sharer, NODE, owner).registrations] == [("sidecar", 8190)]


def test_a_port_of_another_protocol_is_none_of_its_own(document: Any) -> None:
    text = document("host_network", SERVICE_53_NAME="dns", SERVICE_53_IGNORE="false")
    first = outcome(text).registrations[0]
    assert (first.name, first.port, first.protocol) == ("dns", 53, "udp")


def on_the_lan(facts: Facts) -> Facts:
    """A container beside the bridge: as macvlan or ipvlan gives it an address on the site's network."""
    return replace(
        facts,
        network_mode="lan",
        bindings=(),
        addresses=("192.0.2.77", "172.18.0.4", "2001:db8::77"),
        networks=(("lan", "192.0.2.77"), ("back", "172.18.0.4"), ("lan", "2001:db8::77")),
    )


@pytest.mark.parametrize(
    ("label", "host", "address"),
    [
        ("container", "192.0.2.10", "192.0.2.77"),
        ("container/lan", "192.0.2.10", "192.0.2.77"),
        ("container/back", "192.0.2.10", "172.18.0.4"),
        ("container", "2001:db8::1", "2001:db8::77"),
    ],
)
def test_a_container_with_an_address_of_its_own(document: Any, label: str, host: str, address: str) -> None:
    facts = on_the_lan(facts_of(document("published", SERVICE_ADDRESS=label, SERVICE_9042_NAME="cass")))
    found = registrations_of(facts, replace(NODE, address=host))
    assert [(item.address, item.port) for item in found.registrations] == [(address, 8081), (address, 9042)]
    assert not found.warnings
    assert "address" not in found.registrations[0].meta


@pytest.mark.parametrize("label", ["container", "container/shapes"])
def test_the_own_address_is_what_docker_reports(recorded: Any, label: str) -> None:
    text = recorded("compose", SERVICE_ADDRESS=label)
    address = text["NetworkSettings"]["Networks"]["shapes"]["IPAddress"]
    found = outcome(text).registrations
    assert [(item.address, item.port) for item in found] == [(address, 53), (address, 80), (address, 443)]


@pytest.mark.parametrize("label", ["192.0.2.99", "container:lan", "node", "container/none"])
def test_a_label_claims_no_foreign_address(document: Any, label: str) -> None:
    facts = on_the_lan(facts_of(document("published", SERVICE_ADDRESS=label)))
    assert registrations_of(facts, NODE).registrations == ()
    published = outcome(document("published", SERVICE_ADDRESS=label)).registrations
    assert {item.address for item in published} <= {"192.0.2.10"}


@pytest.mark.parametrize("name", ["consul", "Consul", "CONSUL", "edge", "EDGE"])
def test_reserved_names(document: Any, name: str) -> None:
    found = outcome(document("published", SERVICE_NAME=name), reserved_names=("consul", "edge"))
    assert not found.registrations
    assert [item.kind for item in found.refusals] == ["name-reserved"]


def test_protected_names_in_their_own_spelling_only(document: Any) -> None:
    def kinds(name: str) -> list[str]:
        found = outcome(document("published", SERVICE_NAME=name), protected_names=("billing", "Archive"))
        assert bool(found.registrations) is not bool(found.refusals)
        return [item.kind for item in (*found.refusals, *found.warnings)]

    assert kinds("billing") == kinds("Archive") == []
    assert kinds("Billing") == kinds("BILLING") == kinds("archive") == ["name-spelling"]
    assert kinds("Bill") == ["name-case"]
    # The kelvin sign is no letter of a name, and folds to one.
    assert outcome(document("published", SERVICE_NAME="\u212a"), protected_names=("k",)).registrations == ()


@pytest.mark.parametrize(("name", "reserved", "protected", "taken_for"), [
    ("rnail", ("consul",), ("mail",), "protected service 'mail'"),
    ("mall", ("consul",), ("mail",), "protected service 'mail'"),
    ("con-sul", ("consul",), ("mail",), "reserved name 'consul'"),
    ("vvard_1", (), ("Ward-1",), "protected service 'Ward-1'"),
    ("consu1", ("consul",), ("consu1",), ""),
    ("mall", ("consul",), ("mail", "mall"), ""),
    ("node2", (), ("node1", "node-11"), ""),
    ("mail2", (), ("mail",), ""),
])  # fmt: skip
def test_no_name_is_taken_for_another(
    document: Any,
    name: str,
    reserved: tuple[str, ...],
    protected: tuple[str, ...],
    taken_for: str,
) -> None:
    """A protected service may look like another one: the operator wanted both."""
    found = outcome(document("published", SERVICE_NAME=name), reserved_names=reserved, protected_names=protected)
    assert [item.kind for item in found.refusals] == (["name-look"] if taken_for else [])
    assert all(f"{name!r} looks like the {taken_for};" in item.reason for item in found.refusals)
    assert [item.name for item in found.registrations] == ([] if taken_for else [name])


def test_a_letter_of_another_script_is_in_no_name(document: Any) -> None:
    """A Cyrillic i, wide letters, a letter with an invisible mark, a dotless i, a long s."""
    for name in ("b\u0456lling", "\uff42illing", "bi\u200blling", "b\u0131lling", "con\u017ful"):
        found = outcome(document("published", SERVICE_NAME=name), protected_names=("billing",))
        assert [item.kind for item in found.refusals] == ["name-characters"] and not found.registrations


TAGS = [
    (r"a\,b", ["a,b"]), (r"a\\,b", ["a\\,b"]), (r"a\\\,b", ["a\\\\,b"]), (r"a\b,c", ["a\\b", "c"]), ("a,b,", ["a", "b"]),
    (r"/(;\,:-_)/", ["/(;,:-_)/"]), (",,a", ["a"]), ("", []), (r"a\,", ["a,"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "tags"), TAGS)
def test_commas_and_backslashes_as_registrator_reads_them(text: str, tags: list[str]) -> None:
    assert split_tags(text) == tags


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ('"http"', ("http",)),
        ("'http,v2'", ("http", "v2")),
        ('"http","v2"', ("http", "v2")),
        ('["http","v2"]', ("http", "v2")),
        ("['http', 'v2']", ("http", "v2")),
        ("[http,v2]", ("http", "v2")),
        ('["a,b"]', ("a,b",)),
        ("[]", ()),
        ("http tcp", ("http tcp",)),
        ("HTTP", ("HTTP",)),
        ("t" * 4096, ("t" * 4096,)),
        ("{{.ID}}", ("{{.ID}}",)),
    ],
)
def test_forms_of_tags(document: Any, text: str, tags: tuple[str, ...]) -> None:
    found = outcome(document("published", SERVICE_TAGS=text))
    assert found.registrations[0].tags == tags
    assert not found.refusals
    assert bool(found.warnings) is (len(text) < 4096), "what is altered or doubtful is reported"


@pytest.mark.parametrize("text", ["urlprefix-/foo strip=/foo", "traefik.http.routers.x.rule=Host(`a`) && Path(`/b`)", "Prod", "v2.1"])
def test_tags_of_other_proxies_are_left_alone(document: Any, text: str) -> None:
    found = outcome(document("published", SERVICE_TAGS=text))
    assert (found.registrations[0].tags, found.warnings) == ((text,), ())


def test_others_may_change_the_tags(document: Any) -> None:
    """With SERVICE_ENABLE_TAG_OVERRIDE the engine leaves changed tags alone, and still follows a changed label."""
    (item,) = outcome(document("published", SERVICE_TAGS="a", SERVICE_ENABLE_TAG_OVERRIDE="true")).registrations
    assert item.payload()["EnableTagOverride"] is True
    assert "enable_tag_override" not in item.meta
    actual = Actual()
    actual.record(item)
    assert equal(item, actual)
    actual.services[item.id] = {**actual.services[item.id], "Tags": ["changed"]}
    assert equal(item, actual)
    (other,) = outcome(document("published", SERVICE_TAGS="b", SERVICE_ENABLE_TAG_OVERRIDE="true")).registrations
    assert not equal(other, actual)
    (fixed,) = outcome(document("published", SERVICE_TAGS="changed")).registrations
    assert not equal(fixed, actual)
    assert MARK in fixed.full_meta()
