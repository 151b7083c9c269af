# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a staged file may hold: all that the generators write, and nothing besides."""

from __future__ import annotations

import re
import sys
import typing as t
from pathlib import Path

import pytest
from nginx_edge.allowed import ENTRY, objections, rules
from nginx_edge.nginxconf import Directive, Document, Places

sys.path.insert(0, str(Path(__file__).parent))

from generated_texts import texts

ROOT = Path(__file__).resolve().parents[4]
PLACES = Places()
# For staged files of an operator's own program: an answer without a service behind it.
NOT_GENERATED = {("stream", "server", "return")}
GENERATED = list(texts())


def refused(text: str, side: str = "http", places: Places = PLACES) -> list[str]:
    """Return why a text is refused."""
    return [reason for _, reason in objections(Document(text), side, places)]


# -- complete ------------------------------------------------------------------------------------------------------


def test_whatever_the_generators_write_is_allowed() -> None:
    wrong = {reason: f"{name}, {side}" for name, side, text in GENERATED for reason in refused(text, side)}
    assert not wrong, "\n".join(f"{name}: {reason}" for reason, name in wrong.items())


def _used(directives: list[Directive], side: str, kind: str) -> t.Iterator[tuple[str, str, str]]:
    for one in directives:
        name = one.name if one.name in rules(side, PLACES)[kind] else ENTRY
        yield side, kind, name
        if one.block is not None:
            yield from _used(one.block, side, rules(side, PLACES)[kind][name].block)


def listed() -> set[tuple[str, str, str]]:
    """Return (side, block, directive) of every rule."""
    return {(side, kind, name) for side in ("http", "stream") for kind, known in rules(side, PLACES).items() for name in known}


def test_nothing_is_allowed_that_no_generator_writes() -> None:
    used = {entry for _, side, text in GENERATED for entry in _used(Document(text).directives, side, "")}
    assert listed() - used == NOT_GENERATED


def test_the_readme_lists_what_is_allowed() -> None:
    text = (ROOT / "roles" / "nginx" / "README.md").read_text()
    rows = re.findall(r"^\| (http|stream) \| (the file|`\w+`) \| (.*) \|$", text, re.MULTILINE)
    kinds = {"the file": ""}
    told = {(side, kinds.get(kind, kind.strip("`")), name) for side, kind, names in rows for name in re.findall(r"`(\w+)`", names)}
    assert told == {entry for entry in listed() if entry[2] != ENTRY}


# -- refused -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        # Files, by each way that nginx reads one.
        ("include /etc/shadow;", 'directive "include" is not allowed at the outermost level of the http side'),
        ("map $host $edge_x { include /etc/shadow; }", '"include /etc/shadow" is not allowed in "map"'),
        ("map $host $edge_x { 'include' /etc/shadow; }", '"include /etc/shadow" is not allowed in "map"'),
        ("map $host $edge_x { volatile; }", '"volatile" is not allowed in "map"'),
        ("geo $remote_addr $edge_x { include /etc/shadow; }", '"include /etc/shadow" is not allowed in "geo"'),
        ("geo $remote_addr $edge_x { ranges; }", '"ranges" is not allowed in "geo"'),
        ("geo $remote_addr $edge_x { proxy 10.0.0.0/8; }", '"proxy 10.0.0.0/8" is not allowed in "geo"'),
        ("types { include /etc/shadow; }", 'directive "types" is not allowed'),
        ("charset_map koi8-r utf-8 { include /etc/shadow; }", 'directive "charset_map" is not allowed'),
        (
            "split_clients $request_id $edge_x { include /etc/shadow; }",
            '"include /etc/shadow" is not allowed in "split_clients"',
        ),
        ("upstream a { include /etc/shadow; }", 'directive "include" is not allowed in "upstream"'),
        ("server { location / { root /; } }", 'directive "root" is not allowed in "location"'),
        ("server { location / { alias /; autoindex on; } }", 'directive "alias" is not allowed'),
        ("server { location ~ / { } }", '"location ~ /" is not allowed'),
        ("server { location / { location / { } } }", 'directive "location" is not allowed in "location"'),
        ('server { "root" /; }', 'directive "root" is not allowed'),
        ("server { access_log /etc/cron.d/x edge_http; }", "it is off, or names a file in /var/log/nginx/"),
        (
            "server { access_log /var/log/nginx/../../x edge_http; }",
            '"access_log /var/log/nginx/../../x edge_http" is not allowed',
        ),
        ("server { access_log /var/log/nginx/$host edge_http; }", "access_log"),
        ("server { access_log syslog:server=192.0.2.1 edge_http; }", "access_log"),
        ("server { error_log /var/log/nginx/x; }", 'directive "error_log" is not allowed'),
        ("server { ssl_certificate /etc/shadow; }", "it names a file NAME.pem in /etc/nginx-edge/tls/"),
        ("server { ssl_certificate_key /etc/nginx-edge/tls/../apply.pem; }", "ssl_certificate_key"),
        ("server { ssl_certificate /etc/nginx-edge/tls/$host.pem; }", "ssl_certificate"),
        ("server { ssl_certificate data:$arg_x; }", "ssl_certificate"),
        ("server { ssl_certificate engine:x:y; }", "ssl_certificate"),
        (
            "ssl_certificate /etc/nginx-edge/tls/apps.pem;",
            'directive "ssl_certificate" is not allowed at the outermost level',
        ),
        ("server { ssl_dhparam /etc/shadow; }", "ssl_dhparam"),
        ("server { ssl_conf_command Certificate /etc/shadow; }", "ssl_conf_command"),
        ("server { location / { proxy_ssl_certificate_key /etc/shadow; } }", "proxy_ssl_certificate_key"),
        ("server { location / { proxy_store on; } }", "proxy_store"),
        # Code.
        ("js_import x;", "js_import"),
        ("server { location / { content_by_lua_block { os.execute(1); } } }", "content_by_lua_block"),
        # Sockets, and places that only the edge itself reaches.
        ("upstream a { server unix:/run/docker.sock; }", "or a unix socket in /run/nginx-edge/tls/"),
        (
            "upstream a { server UNIX:/run/nginx-edge/tls/tls-a.sock; }",
            '"server UNIX:/run/nginx-edge/tls/tls-a.sock" is not allowed',
        ),
        ("upstream a { server unix:/run/nginx-edge/tls/../apply.sock; }", "server unix:"),
        ("upstream a { server backend.example:80; }", '"server backend.example:80" is not allowed'),
        ("upstream a { server 192.0.2.1:80 resolve; }", "resolve"),
        ("upstream a { server 127.0.0.1:8500; }", "its address is not that of another host"),
        ("upstream a { server 0.0.0.0:8500; }", "its address is not that of another host"),
        ("upstream a { server 169.254.169.254:80; }", "its address is not that of another host"),
        ("upstream a { server [::1]:80; }", "its address is not that of another host"),
        ("upstream a { server [::ffff:7f00:1]:80; }", "its address is not that of another host"),
        ("server { listen UNIX:/root-only/x.sock; }", "it names a port, an address and a port, or a unix socket"),
        ("server { listen unix:/run/nginx-edge/apply.sock; }", "listen unix:"),
        (
            "server { location / { proxy_pass http://unix:/run/docker.sock:/; } }",
            "it names http:// and an upstream of the same file",
        ),
        ("server { location / { proxy_pass http://UNIX:/run/docker.sock:/; } }", "proxy_pass"),
        ("server { location / { proxy_pass http://un$edge_service; } }", "proxy_pass"),
        ("server { location / { proxy_pass http://127.0.0.1:8500; } }", "proxy_pass"),
        ("server { location / { proxy_pass https://a; } }", "proxy_pass"),
        ("server { location / { proxy_pass http://operators; } }", '"operators" is not an upstream of this file'),
        ("server { location / { fastcgi_pass unix:/run/php.sock; } }", "fastcgi_pass"),
        ('server { set $edge_upstream "unix:/run/docker.sock:"; }', "set $edge_upstream"),
        ('server { set $edge_upstream "operators"; }', '"operators" is not an upstream of this file'),
        ('server { set $host "ix:/"; }', "set $host"),
        (
            "server { if ($edge_canary_5) { set $edge_upstream operators; } }",
            '"operators" is not an upstream of this file',
        ),
        ("map $host $edge_upstream { default operators; }", '"operators" is not an upstream of this file'),
        ("map $host $edge_upstream { default $arg_to; }", '"$arg_to" is not an upstream of this file'),
        ("map $host $edge_x { default UNIX:/run/docker.sock; }", "UNIX:"),
        ("map $host $host { default x; }", "it sets a variable $edge_..."),
        ('map $host $edge_x { "~(?<edge_upstream>.*)" 1; }', 'the group "edge_upstream" of a regular expression'),
        ("map $host $edge_x { \"~(?'host'.*)\" 1; }", 'the group "host" of a regular expression'),
        ('map $host $edge_x { "~(?P<args>.*)" 1; }', 'the group "args" of a regular expression'),
        # Blocks where none belongs, and the other way round.
        ("server;", 'directive "server" needs a block at the outermost level'),
        ("server { listen 80 { } }", 'directive "listen" has no block in "server"'),
        ("map $host $edge_x { a { b c; } }", "has no block"),
        ("server { if (-f /etc/shadow) { return 403; } }", '"if (-f /etc/shadow)" is not allowed'),
        ("server { rewrite ^ /x; }", "rewrite"),
        ("server { server_name ~^(?<edge_upstream>.*)$; }", "server_name"),
        ("log_format edge_http escape=none $uri;", ""),
        ("SERVER { }", 'directive "SERVER" is not allowed'),
        ("\ufeffserver { }", 'directive "?server" is not allowed'),
    ],
)
def test_what_is_not_listed_is_refused(text: str, reason: str) -> None:
    found = refused(text)
    assert found and reason in found[0]
    assert found[0].isprintable()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("server { listen 1234; proxy_pass unix:/run/docker.sock; }", "it names an upstream of the same file"),
        ("server { listen 1234; proxy_pass 127.0.0.1:8500; }", "proxy_pass"),
        ("server { listen 1234; proxy_pass $arg_x; }", "proxy_pass"),
        ("server { listen 1234; proxy_pass operators; }", '"operators" is not an upstream of this file'),
        ("server { listen 1234; ssl_certificate /etc/shadow; }", "ssl_certificate"),
        ("server { listen 1234; access_log /var/log/nginx/x edge_http; }", "access_log"),
        (
            "map $ssl_preread_server_name $edge_tls_upstream { default $ssl_preread_server_name; }",
            "is not an upstream of this file",
        ),
        ("map $ssl_preread_server_name $edge_passed_upstream { a.test unix:/run/docker.sock; }", "unix:"),
        ("split_clients $remote_addr $edge_x { * 0; }", 'directive "split_clients" is not allowed'),
        ("server { location / { } }", 'directive "location" is not allowed in "server" of the stream side'),
        ("js_import x;", "js_import"),
    ],
)
def test_what_is_not_listed_is_refused_on_the_stream_side(text: str, reason: str) -> None:
    found = refused(text, "stream")
    assert found and reason in found[0]


def test_loopback_is_for_edges_that_allow_it() -> None:
    text = "upstream a { server 127.0.0.1:80; server [::1]:80; }"
    assert len(refused(text)) == 2 and not refused(text, places=PLACES._replace(loopback=True))


def test_other_places() -> None:
    text = "upstream a { server unix:/srv/s/tls-a.sock; }\n"
    text += "server { listen unix:/srv/s/tls-a.sock ssl; ssl_certificate /srv/t/a.pem; }"
    assert len(refused(text)) == 3 and not refused(text, places=Places("/srv/s", "/srv/t"))
    # The places are no patterns.
    assert refused("upstream a { server unix:/srvxs/tls-a.sock; }", places=Places("/srv.s", "/srv/t"))


def test_a_piece_is_judged_by_what_it_holds_wherever_it_is() -> None:
    good, bad = "server {\n  listen 80;\n}\n", "server {\n  root /etc;\n}\n"
    for text, lines in ((good + bad, [5]), (bad + good + bad, [2, 8]), (good, []), ("\n" + bad, [3])):
        assert [line for line, _ in objections(Document(text), "http", PLACES)] == lines
    # The same text on another side, in other places, and with and without the upstream that it names.
    passed = "server {\n  proxy_pass a;\n}\n"
    assert refused(passed, "http") and refused(passed, "stream") and not refused(passed + "upstream a {\n}\n", "stream")
    socket = "upstream a {\n  server unix:/run/edge/x.sock;\n}\n"
    assert refused(socket) and not refused(socket, places=Places(sockets="/run/edge"))
