# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The live configuration as data."""

from __future__ import annotations

from ansible_collections.trinode.platform.plugins.module_utils._acceptance import nginx

DUMP = r"""
# configuration file /etc/nginx/nginx.conf:
user www-data;  # a comment; with { signs }
include /etc/nginx/modules-enabled/*.conf;
http {
    include mime.types;
    log_format edge escape=json '{"a": "$b;", "c": "${d}"}';
    include /etc/nginx/conf.d/*.conf;
}

# configuration file /etc/nginx/modules-enabled/50-stream.conf:
stream { include /var/lib/edge/live/stream.conf; }

# configuration file /etc/nginx/mime.types:
types { text/html html htm; }

# configuration file /etc/nginx/conf.d/edge.conf:
include /var/lib/edge/live/http.conf;

# configuration file /var/lib/edge/live/http.conf:
upstream http_web {
    zone http_web 64k;
    server 192.0.2.1:32768 weight=100 max_fails=1;
    server 192.0.2.2:32769;
    server 192.0.2.3:32770 down;
    server 192.0.2.4:32770 backup;
    keepalive 32;
}
map $http_x_canary $choice { default "stable"; "~^always$" canary; }
server {
    listen 80;
    listen [::]:80;
    server_name web.apps.example.org other.example.org;
    location / { if ($x) { set $y 1; } proxy_pass http://http_web; }
}

# configuration file /var/lib/edge/live/stream.conf:
upstream tcp_echo { least_conn; server 192.0.2.1:40000; }
server { listen 192.0.2.1:9999; proxy_pass tcp_echo; }
"""


def test_includes_are_followed_into_their_context() -> None:
    live = nginx.parse_dump(DUMP)
    assert set(nginx.upstreams(live, "http")) == {"http_web"}
    assert set(nginx.upstreams(live, "stream")) == {"tcp_echo"}


def test_servers_without_traffic_do_not_count() -> None:
    web = nginx.upstreams(nginx.parse_dump(DUMP), "http")["http_web"]
    assert web.servers == {"192.0.2.1:32768": ("weight=100", "max_fails=1"), "192.0.2.2:32769": ()}
    assert not web.least_conn


def test_stream_server_and_balance() -> None:
    live = nginx.parse_dump(DUMP)
    assert nginx.upstreams(live, "stream")["tcp_echo"].least_conn
    (server,) = nginx.servers(live, "stream")
    assert server == (("192.0.2.1:9999",), (), ("tcp_echo",))
    assert nginx.listens_on(server, 9999)
    assert not nginx.listens_on(server, 999)


def test_http_server() -> None:
    (server,) = nginx.servers(nginx.parse_dump(DUMP), "http")
    assert server.names == ("web.apps.example.org", "other.example.org")
    assert server.passes == ("http://http_web",)
    assert nginx.listens_on(server, 80)
    assert not nginx.listens_on(server, 8080)


def test_quotes_hold_signs() -> None:
    (directive,) = nginx.parse("""add_header X "a; { } \\" b" 'c;d';""")
    assert directive.words == ("add_header", "X", 'a; { } \\" b', "c;d")


def test_a_cut_text_gives_what_was_whole() -> None:
    assert [directive.name for directive in nginx.parse("a 1; b { c 2; d")] == ["a", "b"]
    assert nginx.parse("") == []
    assert nginx.parse("} } ;") == []


def test_an_include_of_itself_ends() -> None:
    text = "# configuration file /etc/nginx/nginx.conf:\ninclude nginx.conf;\nuser x;\n"
    assert any(directive.name == "user" for directive in nginx.parse_dump(text))
