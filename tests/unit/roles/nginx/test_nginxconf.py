# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reader of nginx configuration texts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nginx_edge import nginxconf
from nginx_edge.nginxconf import (
    ConfigError,
    Document,
    Listener,
    Places,
    certificates,
    clash,
    listeners,
    objections,
    parse_listen,
    too_many,
    with_certificates,
    without_listeners,
    worker_connections,
)
from nginx_edge.recent import Recent


def tcp(port: int, address: str = "0.0.0.0") -> Listener:
    return Listener("tcp", address, port)


def test_directives_with_their_places() -> None:
    document = Document('# x\nupstream a { server 1.2.3.4:5 weight=2; }\n\nserver {\n  set $x "a;b\\"}";\n  return 200 ${x}y;\n}\n')
    first, second = document.directives
    assert (first.name, first.args, document.line_of(first.start)) == ("upstream", ["a"], 2)
    assert first.block is not None and first.block[0].args == ["1.2.3.4:5", "weight=2"]
    assert second.block is not None and [inner.args for inner in second.block] == [["$x", 'a;b"}'], ["200", "${x}y"]]
    assert document.text[second.start : second.end] == 'server {\n  set $x "a;b\\"}";\n  return 200 ${x}y;\n}'


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("server {\n listen 80\n}", 2, '"listen" is not ended by ";"'),
        ("}\n", 1, 'unexpected "}"'),
        ("\n;\n", 2, 'unexpected ";"'),
        ("server {\n", 2, "the text ends inside a directive or block"),
        ('\nfoo "bar;\n', 2, "a quote is never closed"),
        ("a { " * 17, 1, "nested deeper than"),
    ],
)
def test_what_cannot_be_read_is_an_error_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Document(text)
    assert caught.value.place == line and message in str(caught.value)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab;{}\"'\\#$ \n", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    line, directives = 1, []
    try:
        directives = [(base, directive) for base, piece in Document(text).pieces for directive in nginxconf.walk(piece.directives)]
    except ConfigError as error:
        line = error.place
    assert 1 <= line <= text.count("\n") + 1
    assert all(0 <= base + directive.start < base + directive.end <= len(text) for base, directive in directives)


def reading(text: str, at_once: bool = False) -> list[tuple[str, list[str], int, int, bool]] | tuple[int, str]:
    """Everything that a reading gives, or its error with its line; all at once, or in pieces that may be known already."""
    try:
        pieces = [(0, nginxconf.Piece(nginxconf.read(text)))] if at_once else Document(text).pieces
    except ConfigError as error:
        return text.count("\n", 0, error.place) + 1 if at_once else error.place, str(error)
    found = [(base, directive) for base, piece in pieces for directive in nginxconf.walk(piece.directives)]
    return [(directive.name, directive.args, base + directive.start, base + directive.end, directive.block is not None) for base, directive in found]


PIECES = st.lists(
    st.sampled_from(["ab", "a", ";", "{", "}", '"', "'", "\\", "#", "$", "${", "\n", " ", "\t", "\x0b", "\u00a0", "x y;", "z {", "\n}\n", "map {\n", "# c\n"]),
    max_size=25,
).map("".join)


@settings(max_examples=600, deadline=None)
@given(PIECES)
def test_the_short_way_of_reading_is_the_long_way(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nginxconf, "_PLAIN", re.compile("(?!)"))
        slow = reading(text, at_once=True)
    assert reading(text) == slow
    # The second time every piece is known.
    assert reading(text) == slow


def test_a_piece_is_judged_by_what_it_holds_wherever_it_is() -> None:
    places = nginxconf.Places()
    good, bad = "server {\n  listen 80;\n}\n", "server {\n  root /etc;\n}\n"
    for text, lines in ((good + bad, [5]), (bad + good + bad, [2, 8]), (good, []), ("\n" + bad, [3])):
        assert [line for line, _ in nginxconf.objections(Document(text), places)] == lines
    socket = "server {\n  proxy_pass unix:/run/edge/x.sock;\n}\n"
    assert nginxconf.objections(Document(socket), places) and not nginxconf.objections(Document(socket), nginxconf.Places(sockets="/run/edge"))


def test_what_nobody_asks_for_is_forgotten() -> None:
    made: list[str] = []
    recent = Recent(lambda text: made.append(text) or [text], limit=100)
    kept = recent.get("kept")
    for number in range(200):
        recent.get(f"a{number}")
        assert recent.get("kept") is kept
    assert made == ["kept", *(f"a{number}" for number in range(200))]
    assert len(recent.young) + len(recent.old) < 60 and "a1" not in recent.young | recent.old


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("80", [tcp(80)]),
        ("*:80 default_server", [tcp(80)]),
        ("127.0.0.1:8080", [tcp(8080, "127.0.0.1")]),
        ("192.0.2.1", [tcp(80, "192.0.2.1")]),
        ("[::]:443 ssl", [tcp(443, "::")]),
        ("[2001:db8:0::1]:80", [tcp(80, "2001:db8::1")]),
        ("53 udp", [Listener("udp", "0.0.0.0", 53)]),
        ("9000-9002", [tcp(9000), tcp(9001), tcp(9002)]),
        ("unix:/run/x.sock", []),
        ("localhost:80", []),
        ("70000", []),
        ("nonsense", []),
    ],
)
def test_listen(args: str, expected: list[Listener]) -> None:
    assert parse_listen(args.split()) == expected


def test_listeners_of_a_text() -> None:
    assert listeners(Document("server { listen 80; listen 81; } upstream x { server 1.2.3.4:9; } server { listen 82; }")) == {tcp(80), tcp(81), tcp(82)}


def test_clash() -> None:
    assert clash(tcp(80), tcp(80, "127.0.0.1")) and clash(tcp(80), tcp(80)) and clash(tcp(80, "::1"), tcp(80, "::"))
    assert not clash(tcp(80), tcp(81)) and not clash(tcp(80), tcp(80, "::")) and not clash(tcp(80, "127.0.0.1"), tcp(80, "127.0.0.2"))
    assert not clash(tcp(53), Listener("udp", "0.0.0.0", 53))


def test_left_out_servers_keep_the_lines_of_the_others() -> None:
    text = "upstream a { server 1.2.3.4:1; }\nserver {\n  listen 1;\n  proxy_pass a;\n}\nserver {\n  listen 2;\n  proxy_pass a;\n}\n"
    shorter, removed = without_listeners(Document(text), {tcp(1): "is held by sshd"})
    assert removed == [('server "1"', tcp(1), "is held by sshd", (), "a")]
    document = Document(shorter)
    assert listeners(document) == {tcp(2)}
    assert [document.line_of(base + directive.start) for base, directive in document.placed()] == [1, 6]
    assert "# left out: 0.0.0.0:1/tcp is held by sshd" in shorter


@pytest.mark.parametrize(
    "text",
    [
        "include /etc/shadow;",
        "server { location / { root /; } }",
        "server { location / { alias /; autoindex on; } }",
        "server { access_log /etc/cron.d/x; }",
        "server { access_log /var/log/nginx/../../x; }",
        "server { access_log /var/log/nginx/$host; }",
        "upstream x { server unix:/run/docker.sock; }",
        "server { location / { proxy_pass http://unix:/run/docker.sock:/; } }",
        "server { listen unix:/run/nginx-edge/apply.sock; }",
        "server { listen unix:/run/nginx-edge/tls/../apply.sock; }",
        "map $host $x { default unix:/run/docker.sock; }",
        "map $host $x { unix:/run/docker.sock 1; }",
        "server { set $x unix:/run/docker.sock; }",
        "server { ssl_certificate /etc/shadow; }",
        "server { ssl_certificate_key /etc/nginx-edge/tls/../apply.pem; }",
        "server { ssl_certificate /etc/nginx-edge/tls/$host.pem; }",
        "server { ssl_certificate data:$arg_x; }",
        "server { ssl_certificate /etc/nginx-edge/tls/apps.key; }",
        "server { ssl_dhparam /etc/shadow; }",
        "server { location / { proxy_ssl_certificate_key /etc/shadow; } }",
        "server { proxy_ssl_trusted_certificate /etc/shadow; }",
        "server { ssl_conf_command Certificate /etc/shadow; }",
        "server { location / { content_by_lua_block { os.execute(1); } } }",
        "js_import x;",
        'server { "root" /; }',
        "server { location / { proxy_store on; } }",
    ],
)
def test_what_reads_writes_or_runs_is_not_for_staged_files(text: str) -> None:
    assert objections(Document(text), Places())


@pytest.mark.parametrize(
    "text",
    [
        "map $http_upgrade $c { default upgrade; '' close; root x; }",
        "server { listen 80; access_log off; error_log /var/log/nginx/edge.log warn; location / { proxy_pass http://x; } }",
        "upstream x { zone http_x 64k; server [2001:db8::1]:80; keepalive 8; }",
        "server { listen 443; ssl_preread on; proxy_pass $backend; }",
        "log_format edge '$remote_addr root'; server { access_log syslog:server=127.0.0.1 edge; }",
        "server { listen unix:/run/nginx-edge/tls/tls-apps.sock ssl proxy_protocol; set_real_ip_from unix:; }",
        "server { ssl_certificate /etc/nginx-edge/tls/apps.pem; ssl_certificate_key /etc/nginx-edge/tls/apps.pem; ssl_session_cache shared:x:1m; }",
    ],
)
def test_what_an_edge_needs_is_allowed(text: str) -> None:
    assert objections(Document(text), Places()) == []


def test_subject_of_a_line() -> None:
    document = Document("upstream http_a {\n}\n\nserver {\n listen 80;\n server_name a.test;\n}\n")
    assert [document.subject_at(line) for line in (1, 3, 5)] == ['upstream "http_a"', "", 'server "a.test"']


# -- certificates -----------------------------------------------------------------------------------------------------------


def test_certificates_are_taken_from_elsewhere_and_lines_stay() -> None:
    text = """\
server {
    ssl_certificate /etc/nginx-edge/tls/apps.pem;
    ssl_certificate_key
        "/etc/nginx-edge/tls/apps.pem"; ssl_protocols TLSv1.3;
    # ssl_certificate /etc/nginx-edge/tls/comment.pem;
}
server { ssl_certificate /etc/nginx-edge/tls/b-2.pem; }
"""
    document = Document(text)
    assert certificates(document, Places()) == {"apps.pem": 2, "b-2.pem": 7}
    changed = with_certificates(document, Places(), "/state/trees/000001/tls")
    assert changed.count("/state/trees/000001/tls/apps.pem;") == 2
    assert "/etc/nginx-edge/tls/apps.pem" not in changed and "comment.pem" in changed
    assert changed.count("\n") == text.count("\n")
    assert changed.splitlines()[6] == "server { ssl_certificate /state/trees/000001/tls/b-2.pem; }"
    assert with_certificates(Document("server { listen 80; }\n"), Places(), "/x") == "server { listen 80; }\n"


# -- room for sockets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "connections"),
    [
        ("events { worker_connections 768; }", 768),
        ("events { use epoll; }", 512),
        ("events { worker_connections 1; worker_connections 2; }", 2),
        ("events { worker_connections many; }", None),
        ("include events.conf;", None),
        ("", None),
    ],
)
def test_worker_connections(text: str, connections: int | None) -> None:
    assert worker_connections(Document(text)) == connections


def test_the_ports_beyond_the_room() -> None:
    text = "".join(f"server {{ listen {port}; }}\n" for port in range(9001, 9005)) + "server { listen 443; listen [::]:443; ssl_preread on; }\n"
    document = Document(text)

    def beyond(room: int, *unusable: int) -> list[int]:
        return sorted({listener.port for listener in too_many(document, {Listener("tcp", "0.0.0.0", port) for port in unusable}, room)})

    assert beyond(6) == []
    assert beyond(4) == [9003, 9004], "the name-reading server comes first, with both of its sockets"
    assert beyond(1) == [443, 9002, 9003, 9004], "a server goes as a whole"
    assert beyond(4, 9001) == [9004], "who has no socket anyway takes no room"
    assert beyond(0) == [443, 9001, 9002, 9003, 9004]
