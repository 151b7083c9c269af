# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Catalogues with a name: what was found once, what is too rare to wait for, and what shows that the net itself has no holes."""

from __future__ import annotations

import re
import typing as t

import pytest
from edge_rig import poll
from fuzz_rig import NETWORK, PORTS, Rig, kind_of
from grammar import Rogue, read
from named import EVERYTHING, NAMED
from oracle import REASONS, Oracle, Settings

from ansible_collections.trinode.platform.plugins.plugin_utils._edge import go


def test_every_reason_has_a_catalogue() -> None:
    found: set[str] = set()
    for catalogue in NAMED.values():
        refused = Oracle(catalogue.instances, catalogue.settings, PORTS).work_out().refused
        found |= {kind_of(reason) for side in refused.values() for _, _, reason in side}
    assert found == REASONS


@pytest.mark.parametrize("name", NAMED)
def test_named(rig: Rig, name: str) -> None:
    rig.check(NAMED[name])


def test_a_closed_port_stays_closed_when_consul_cuts_it(rig: Rig) -> None:
    """A running consul-template gets such a port cut to 32 bits: the guard judges what it got, and what it got is what is written."""
    follower = rig.follow(Settings())
    try:
        rig.fill(NAMED["ports of more than 32 bits"])
        text = poll("the running consul-template has both", lambda: follower.has("http") if follower.has("http").count('"shop"') > 0 else "", 60)
        assert f"{NETWORK.address(1 + ord('s') % 200, 1)}:8500" not in text and "server_name shop" in text and "return 503" in text
    finally:
        follower.stop()
        rig.clear()


# -- the net itself -------------------------------------------------------------------------------------------------------------


def without(text: str) -> t.Callable[[str], str]:
    """Takes a piece out of a template."""
    return lambda source: source.replace(text, "")


def instead(old: str, new: str) -> t.Callable[[str], str]:
    """Puts another piece in its place."""
    return lambda source: source.replace(old, new)


SABOTAGE: dict[str, t.Callable[[str], str]] = {
    "any address is taken": instead(go.IPV4, r"\A[1-9].*\z"),
    "any loopback address is taken": instead(go.IPV4_LOOPBACK, r"\A[1-9].*\z"),
    "any IPv6 address is taken": instead(go.IPV6, r"\A[1-9].*\z"),
    "an address of the link is taken": instead('sprig_hasPrefix "169.254."', 'sprig_hasPrefix "never"'),
    "any name is taken": instead(go.NAME, ".*"),
    "any weight is taken": instead(go.PERCENT, "1.*"),
    "any port is taken": instead(go.PORT, r"[1-9].*"),
    "one spelling gets the instances of another": without("(eq .Name $name) "),
    "the ill get traffic": instead('ne .Status "passing"', 'eq .Status "maintenance"'),
    "those in maintenance get traffic": instead('ne .Status "passing"', 'eq .Status "critical"'),
    "who did not ask is exposed": lambda source: re.sub(r'service \(printf "(http|tcp|tls)\.', 'service (printf "', source).replace(
        '(.Tags | contains "http")', "true"
    ),
    "a closed port is open": instead(" 8500 ", " "),
    "the port of another is taken": instead("ne $owner $name", "false"),
    "UDP is taken for TCP": without('(.Tags | contains "udp") '),
    "the end of an id is not looked at": without('(sprig_hasSuffix ":udp" .ID) '),
    "any protocol is taken": without(' (and $protocol (ne $protocol "tcp"))'),
    "sidecars are instances": instead('(index .ServiceTaggedAddresses "consul-virtual").Address', "false"),
    "all of the mesh is refused": instead('index $natives (printf "%s %s" .Node .ID)', "false"),
    "the edge may be its own instance": instead("index $edges .Address", "false"),
    "a port of the edge may be an instance of it": without('(index $claimed (printf "%d" .Port))'),
    "a service that is not the edge's takes a port": instead("if not $foreign", "if true"),
    "gateways are services": instead('"mesh-gateway" ', ""),
    "every spelling has the port": instead("(not $why) (ne $owner .Name)", "false"),
    "what looks protected is served": instead("sprig_set $impostors .Name $other", "sprig_set $guarded $label $other"),
    "looks are not told": without("{{ $_ := sprig_set $alike .Name $other }}"),
    "punycode is served": instead('sprig_hasPrefix "xn--"', 'sprig_hasPrefix "never"'),
    "other spellings are not told": instead("and (ne $owner .Name) (or", "and false (or"),
    "weight 0 is no weight": instead('eq . "0"', "false"),
    "weights are forgotten": without("{{- else }}{{ $weight = divide 100 (multiply $weight (parseInt .)) }}"),
    "Consul's weights are forgotten": instead("multiply 100 $consul", "100"),
    "refusals of instances are not told": lambda source: re.sub(
        r'\{\{- define "skip instance" \}\}.*?\{\{- end \}\}', '{{- define "skip instance" }}{{ end }}', source, flags=re.DOTALL
    ),
    "refusals of services are not told": lambda source: re.sub(
        r'\{\{- define "skip service" \}\}.*?\{\{- end \}\}', '{{- define "skip service" }}{{ end }}', source, flags=re.DOTALL
    ),
    "the report holds what it was given": instead("toJSON .", "."),
    "the PROXY protocol is forgotten": without("    proxy_protocol on;"),
    "canaries are nobody": instead("$group = $canary", "$group = $stable"),
    "a share of its own is forgotten": instead("$asked = parseInt .", "$asked = 101"),
    "a place is used twice": instead("index $stable $server", "false"),
    "a line that has no place there": instead("    zone http_{{ $label }}{{ $pool }} ", "    # {{ $name }}\n    zone http_{{ $label }}{{ $pool }} "),
}


@pytest.mark.parametrize("name", SABOTAGE)
def test_a_broken_template_is_noticed(rig: Rig, name: str) -> None:
    """Each guard of the templates is taken out once: the checks of these tests must not pass without it."""
    before = rig.sources(EVERYTHING.settings)
    rig.sabotage = SABOTAGE[name]
    rig.baselines.clear()
    try:
        assert rig.sources(EVERYTHING.settings) != before, "the templates do not hold what was to be broken: name it as it is now"
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            rig.check(EVERYTHING)
    finally:
        rig.sabotage = str
        rig.baselines.clear()


GOOD = "upstream http_web {\n    zone http_web 64k;\n    server 192.0.2.1:80 max_fails=1 fail_timeout=5s;\n}\n"


def test_the_reader_takes_what_is_good() -> None:
    blocks = read("http", GOOD, ()).blocks
    assert [block.servers for block in blocks] == [[("192.0.2.1:80", 1, False)]]


@pytest.mark.parametrize(
    "line",
    [
        "    server 192.0.2.1:80; server 192.0.2.2:80;",
        "    server 192.0.2.1:80 max_fails=1 fail_timeout=5s; }",
        "    server 192.0.2.1:080 max_fails=1 fail_timeout=5s;",
        "    server unix:/run/x max_fails=1 fail_timeout=5s;",
        "    server example.org:80 max_fails=1 fail_timeout=5s;",
        "    server 192.0.2.1:80 max_fails=1 fail_timeout=5s;\r",
        "    include /etc/passwd;",
        "    # a comment",
        "#! {}",
        "}}",
        "",
    ],
)
def test_the_reader_refuses_what_is_not_on_its_list(line: str) -> None:
    with pytest.raises(Rogue):
        read("http", GOOD.replace("}\n", f"{line}\n}}\n"), ("    include /etc/passwd;",))


@pytest.mark.parametrize("text", ["#! {", "#! []", '#! {"kind": "else"}', '#! {"kind": "served", "x": "ä"}', f'#! {{"kind": "served", "x": "{"x" * 4096}"}}'])
def test_the_reader_refuses_report_lines_that_are_none(text: str) -> None:
    with pytest.raises(Rogue):
        read("http", f"{text}\n", ())
