# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Labels -> Consul checks."""

from __future__ import annotations

import math
from typing import Any

import pytest
from registrator.attributes import duration_seconds
from registrator.checks import own_checks
from registrator.convention import registrations_of
from registrator.facts import facts_of
from registrator.model import Outcome, Registration, Settings

NODE = Settings(hostname="node1", address="192.0.2.10")


def registration(document: Any, name: str = "published", allow_scripts: bool = False, address: str = "192.0.2.10", **labels: str) -> Registration:
    settings = Settings(hostname="node1", address=address, allow_scripts=allow_scripts)
    return registrations_of(facts_of(document(name, **labels)), settings).registrations[0]


def refused(document: Any, **labels: str) -> list[str]:
    return [item.key for item in registrations_of(facts_of(document("published", **labels)), NODE).refusals]


CHECKS = [
    ({"CHECK_HTTP": "/health"}, {"HTTP": "http://192.0.2.10:8081/health", "Interval": "10s"}),
    ({"CHECK_HTTP": "health?a=1", "CHECK_HTTP_METHOD": "head"}, {"HTTP": "http://192.0.2.10:8081/health?a=1", "Method": "HEAD", "Interval": "10s"}),
    (
        {"CHECK_HTTPS": "/h", "CHECK_INTERVAL": "15s", "CHECK_TIMEOUT": "1s", "CHECK_TLS_SKIP_VERIFY": "true"},
        {"HTTP": "https://192.0.2.10:8081/h", "Interval": "15s", "Timeout": "1s", "TLSSkipVerify": True},
    ),
    ({"CHECK_TCP": "true", "CHECK_DEREGISTER_AFTER": "10m"}, {"TCP": "192.0.2.10:8081", "Interval": "10s", "DeregisterCriticalServiceAfter": "10m"}),
    ({"CHECK_TTL": "30s", "CHECK_INITIAL_STATUS": "passing"}, {"TTL": "30s", "Status": "passing"}),
    ({"CHECK_GRPC": "true"}, {"GRPC": "192.0.2.10:8081", "GRPCUseTLS": False, "Interval": "10s"}),
    ({"CHECK_GRPC": "svc", "CHECK_GRPC_USE_TLS": "1"}, {"GRPC": "192.0.2.10:8081/svc", "GRPCUseTLS": True, "Interval": "10s"}),
    ({"8081_CHECK_HTTP": "/special", "CHECK_HTTP": "/general"}, {"HTTP": "http://192.0.2.10:8081/special", "Interval": "10s"}),
]


@pytest.mark.parametrize(("labels", "expected"), CHECKS, ids=[next(iter(labels)) for labels, _expected in CHECKS])
def test_checks(document: Any, labels: dict[str, str], expected: dict[str, Any]) -> None:
    found = registration(document, **{"SERVICE_" + key: value for key, value in labels.items()})
    assert len(found.checks) == 1
    check = dict(found.checks[0])
    assert check.pop("CheckID") == "service:node1:published:8081"
    check.pop("Name")
    if "HTTP" in check:
        assert check.pop("DisableRedirects") is True
    assert check == expected
    assert not any(key.startswith("check_") for key in found.meta)


def test_ipv6_addresses_get_brackets(document: Any) -> None:
    assert registration(document, "ipv6_binding", address="2001:db8::1", SERVICE_CHECK_TCP="true").checks[0]["TCP"] == "[2001:db8::1]:8185"


def test_programs_only_when_allowed(document: Any) -> None:
    assert refused(document, SERVICE_CHECK_SCRIPT="true") == ["check_script"]
    assert refused(document, SERVICE_CHECK_CMD="true") == ["check_cmd"]
    found = registration(document, allow_scripts=True, SERVICE_CHECK_SCRIPT="nc $SERVICE_IP $SERVICE_PORT").checks[0]
    assert found["Args"] == ["/bin/sh", "-c", "nc 192.0.2.10 8081"]
    found = registration(document, allow_scripts=True, SERVICE_CHECK_CMD="/ok").checks[0]
    assert found["Args"][0] == "check-cmd"
    assert found["Args"][2:] == ["8081", "/ok"]


@pytest.mark.parametrize(
    ("labels", "keys"),
    [
        ({"SERVICE_CHECK_HTTP": "/", "SERVICE_CHECK_INTERVAL": "15"}, ["check_interval"]),
        ({"SERVICE_CHECK_HTTP": "/", "SERVICE_CHECK_TIMEOUT": "0s"}, ["check_timeout"]),
        ({"SERVICE_CHECK_HTTP": "/ x"}, ["check_http"]),
        ({"SERVICE_CHECK_HTTP": "/", "SERVICE_CHECK_HTTP_METHOD": "GET /"}, ["check_http_method"]),
        ({"SERVICE_CHECK_TTL": "soon"}, ["check_ttl"]),
        ({"SERVICE_CHECK_TCP": "true", "SERVICE_CHECK_INITIAL_STATUS": "fine"}, ["check_initial_status"]),
        ({"SERVICE_CHECK_HTTP": "/", "SERVICE_CHECK_TCP": "true"}, ["check_tcp"]),
    ],
)
def test_refused_values_leave_the_registration(document: Any, labels: dict[str, str], keys: list[str]) -> None:
    assert refused(document, **labels) == keys
    assert registration(document, **labels).name == "httpbackend"


def test_a_check_that_is_switched_off_is_none(document: Any) -> None:
    assert not registration(document, SERVICE_CHECK_TCP="false").checks


@pytest.mark.parametrize(("name", "status"), [("healthcheck", "passing"), ("healthcheck_starting", "critical"), ("unhealthy", "critical")])
def test_docker_health(document: Any, name: str, status: str) -> None:
    found = registration(document, name)
    (verdict,) = found.verdicts
    assert verdict.status == found.checks[0]["Status"] == status
    assert verdict.check_id == found.checks[0]["CheckID"] == f"service:{found.id}:docker"
    both = registration(document, name, SERVICE_CHECK_TCP="true")
    assert [check["CheckID"] for check in both.checks] == [f"service:{both.id}", f"service:{both.id}:docker"]


def test_a_changed_verdict_is_no_new_registration(document: Any) -> None:
    starting = document("healthcheck_starting")
    healthy = document("healthcheck_starting")
    healthy["State"]["Health"]["Status"] = "healthy"
    one, two = (registrations_of(facts_of(text), NODE).registrations[0] for text in (starting, healthy))
    assert one.mark() == two.mark()
    assert [item.verdicts[0].status for item in (one, two)] == ["critical", "passing"]


DURATIONS = [
    ("10s", 10.0), ("1m30s", 90.0), ("1.5h", 5400.0), ("300ms", 0.3), ("1h1m1s1ms", 3661.001), ("87600h", 87600 * 3600.0),
    ("", 0.0), ("10", 0.0), ("10 s", 0.0), ("-1s", 0.0), ("1d", 0.0), ("0s", 0.0), ("0.1ns", 0.0), ("87601h", 0.0), ("1234567890s", 0.0), ("1s\n", 0.0),
    ("9" * 5000 + "s", 0.0), ("soon", 0.0), ("s", 0.0), ("1..5s", 0.0),
]  # fmt: skip


@pytest.mark.parametrize(("text", "seconds"), DURATIONS, ids=[repr(text[:12]) for text, _seconds in DURATIONS])
def test_durations(text: str, seconds: float) -> None:
    assert duration_seconds(text) == pytest.approx(seconds)


def test_warm_up_keeps_traffic_away_and_ends_by_itself(document: Any) -> None:
    facts = facts_of(document("healthcheck", SERVICE_WARMUP="30s", SERVICE_CHECK_TCP="true"))

    def at(seconds: float) -> Outcome:
        return registrations_of(facts, NODE, now=facts.started_at + seconds)

    early, late = at(29.9), at(30.0)
    identity = early.registrations[0].id
    assert [check["CheckID"] for check in early.registrations[0].checks] == [f"service:{identity}{tail}" for tail in ("", ":docker", ":warmup")]
    assert [[verdict.status for verdict in found.registrations[0].verdicts] for found in (early, late)] == [["passing", "critical"], ["passing", "passing"]]
    assert (early.until, late.until) == (facts.started_at + 30, math.inf)
    assert early.registrations[0].mark() == late.registrations[0].mark(), "the end of the warm-up is no new registration"
    assert "warmup" not in early.registrations[0].meta
    # A clock that was set back must not take a serving container out.
    assert at(-5.0).registrations[0].verdicts[1].status == "passing"


def test_warm_up_of_one_port(document: Any) -> None:
    found = registrations_of(facts_of(document("port_range", SERVICE_9101_WARMUP="1h")), NODE, now=0.0)
    assert [len(item.verdicts) for item in found.registrations] == [0, 1, 0]


def test_a_warm_up_that_cannot_be_read_is_none(document: Any) -> None:
    assert refused(document, SERVICE_WARMUP="30") == ["warmup"]
    assert not registration(document, SERVICE_WARMUP="30").checks


def test_a_refusal_repeats_no_long_or_secret_value(document: Any) -> None:
    labels = {"SERVICE_CHECK_HTTP": "/ ?token=hush", "SERVICE_WEIGHT": "w" * 5000, "SERVICE_API_TOKEN": "hush", "SERVICE_NAME": "n" * 5000 + " "}
    for item in registrations_of(facts_of(document("published", **labels)), NODE).refusals:
        assert "hush" not in item.reason
        assert len(item.reason) < 200


def check_of(document: Any, labels: dict[str, str], container: str = "published") -> dict[str, Any]:
    """Return the only check that labels lead to."""
    found = registration(document, container, **{"SERVICE_" + key: value for key, value in labels.items()})
    (check,) = found.checks
    return dict(check)


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("http://localhost:8081/health?deep=1", "/health?deep=1"),
        ("http://127.0.0.1:8081", "/"),
        ("http://127.1.2.3:8081/a#b", "/a"),
        ("http://192.0.2.10:8081/health", "/health"),
        ("http://$SERVICE_IP:$SERVICE_PORT/health", "/health"),
        ("localhost:8081/health", "/health"),
        (":8081/health", "/health"),
        ("http://[::1]:8081/health", "/health"),
        ("/redirect?to=http://other:80/", "/redirect?to=http://other:80/"),
        ("health/http://x", "/health/http://x"),
    ],
)
def test_a_url_of_the_port_itself_is_its_path(document: Any, value: str, url: str) -> None:
    assert check_of(document, {"CHECK_HTTP": value})["HTTP"] == "http://192.0.2.10:8081" + url


@pytest.mark.parametrize(
    ("value", "right"),
    [
        ("http://localhost:80/health", "SERVICE_CHECK_HTTP=/health"),
        ("http://localhost/health", "SERVICE_CHECK_HTTP=/health"),
        ("https://localhost:8081/health", "SERVICE_CHECK_HTTPS=/health"),
        ("http://other.example:8081/health", "SERVICE_CHECK_HTTP=/health"),
        ("http://169.254.169.254:8081/latest", "SERVICE_CHECK_HTTP=/latest"),
        ("localhost:99999/health", "SERVICE_CHECK_HTTP=/"),
        ("ftp://localhost:8081/x", "SERVICE_CHECK_HTTP=/x"),
    ],
)
def test_a_url_of_something_else_is_refused_with_the_right_form(document: Any, value: str, right: str) -> None:
    check = check_of(document, {"CHECK_HTTP": value})
    assert "HTTP" not in check
    assert check["Status"] == "critical"
    assert right in check["Notes"]


def test_the_published_port_is_the_port_itself(document: Any) -> None:
    assert check_of(document, {"CHECK_HTTP": "http://localhost:80/h"}, "network_owner")["HTTP"].endswith(":8190/h")
    assert check_of(document, {"CHECK_HTTP": "http://localhost:8190/h"}, "network_owner")["HTTP"].endswith(":8190/h")


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("Host: shop.example", {"Host": ["shop.example"]}),
        ("Host: a\nX-Probe: b : c", {"Host": ["a"], "X-Probe": ["b : c"]}),
        ('{"Host": ["a"], "X-Probe": "b"}', {"Host": ["a"], "X-Probe": ["b"]}),
        ('{"Accept": ["a", "b"]}', {"Accept": ["a", "b"]}),
    ],
)
def test_headers(document: Any, text: str, header: dict[str, list[str]]) -> None:
    assert check_of(document, {"CHECK_HTTP": "/", "CHECK_HEADER": text})["Header"] == header


BAD_HEADERS = [
    "Host", ": x", "{}", '{"a": {}}', '{"a": null}', "{bad", '{"a": "b\\r\\nc: d"}', "a b: c", '{"a": [1]}', "a: " + "x" * 513, "[" * 2000,
    "Authorization: Basic dXNlcjpwdw==", "Cookie: a=b", "X-Api-Key: k", "X-Custom: Bearer abcdefgh1234", "X-Vault-Token: x",
]  # fmt: skip


@pytest.mark.parametrize("text", BAD_HEADERS)
def test_a_header_that_is_refused_takes_the_check_along(document: Any, text: str) -> None:
    """Without it, another answer could count as healthy than the one that was asked for."""
    check = check_of(document, {"CHECK_HTTP": "/", "CHECK_HEADER": text})
    assert ("HTTP" in check, check["Status"]) == (False, "critical")
    assert "dXNlcjpwdw" not in check["Notes"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PROPFIND", "OPTIONS", "get /"])
def test_a_check_only_reads(document: Any, method: str) -> None:
    for labels in ({"CHECK_HTTP": "/", "CHECK_HTTP_METHOD": method}, {"CHECK_HTTPS": "/", "CHECK_HTTPS_METHOD": method}):
        assert check_of(document, labels)["Status"] == "critical"


NOT_MADE = [
    {"CHECK_HTTP": "/a b"}, {"CHECK_HTTP": "true"}, {"CHECK_HTTPS": "/" + "x" * 1024}, {"CHECK_TTL": "soon"}, {"CHECK_TTL": "0s"},
    {"CHECK_SCRIPT": "true"}, {"CHECK_CMD": "true"}, {"CHECK_TCP": "8080"}, {"CHECK_TCP": "localhost:8080"}, {"CHECK_GRPC": "h:1"},
    {"CHECK_HTTTP": "/"}, {"CHECK_UDP": "true"}, {"CHECK_DOCKER": "true"}, {"CHECK_H2PING": "true"},
    {"CHECK_HTTP": "/?token=x", "CHECK_INITIAL_STATUS": "passing"}, {"CHECK_HTTP": "/a b", "CHECK_TCP": "true"},
]  # fmt: skip


@pytest.mark.parametrize("labels", NOT_MADE, ids=[str(labels) for labels in NOT_MADE])
def test_a_check_that_cannot_be_made_keeps_the_service_critical(document: Any, labels: dict[str, str]) -> None:
    """It never counts as healthy without the check that was asked for."""
    found = registration(document, **{"SERVICE_" + key: value for key, value in labels.items()})
    (check,), (verdict,) = found.checks, found.verdicts
    assert check["CheckID"] == verdict.check_id == f"service:{found.id}:refused"
    assert (check["Status"], verdict.status) == ("critical", "critical")
    assert check["CheckID"] in own_checks(found.id), "another registrator could not end it, so `release` does"
    assert {"HTTP", "TCP", "GRPC", "Args"}.isdisjoint(check)


@pytest.mark.parametrize("labels", [{"CHECK_TCP": "false"}, {"CHECK_HTTP": "no"}, {"CHECK_HTTP": ""}, {"CHECK_TTL": "off"}])
def test_a_check_that_is_switched_off_does_not_hide_another(document: Any, labels: dict[str, str]) -> None:
    assert not registration(document, **{"SERVICE_" + key: value for key, value in labels.items()}).checks
    assert "GRPC" in check_of(document, {**labels, "CHECK_GRPC": "true"})


def test_checks_of_udp_ports(document: Any) -> None:
    """What cannot ask a udp port is not made there: it is for the tcp port when there is one, else it cannot be made."""
    for labels in ({"SERVICE_CHECK_TCP": "true"}, {"SERVICE_53_CHECK_HTTP": "/"}):
        found = registrations_of(facts_of(document("udp_and_tcp", **labels)), NODE)
        assert [len(item.checks) for item in found.registrations] == [1, 0]
        assert [item.kind for item in found.warnings] == ["check-udp"]
    only_udp = registrations_of(facts_of(document("udp_and_tcp", SERVICE_53_UDP_CHECK_TCP="true")), NODE)
    assert [[check["Status"] for check in item.checks] for item in only_udp.registrations] == [[], ["critical"]]
    ttl = registrations_of(facts_of(document("udp_and_tcp", SERVICE_CHECK_TTL="10s")), NODE)
    assert [item.checks[0]["TTL"] for item in ttl.registrations] == ["10s", "10s"]


def test_what_a_healthcheck_prints_stays_in_docker(document: Any) -> None:
    text = document("unhealthy")
    text["State"]["Health"]["Log"] = [{"Output": "cannot reach postgres://app:hunter2@db/app"}]
    found = registrations_of(facts_of(text), NODE).registrations[0]
    assert found.verdicts[0].output == "unhealthy"
    assert "hunter2" not in repr((found.payload(), found.verdicts))
