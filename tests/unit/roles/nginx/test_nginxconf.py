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
    parse_listen,
    too_many,
    with_certificates,
    without_listeners,
    without_upstreams,
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
    ("word", "taken"),
    [
        (r"a\"b", 'a"b'),
        (r"\"a", '"a'),
        (r'"a\"b\'c"', "a\"b'c"),
        (r"'a\\b'", "a\\b"),
        (r'"~^\s*\k<a>\.x"', r"~^\s*\k<a>\.x"),
        (r'"a\n\t\r"', "a\n\t\r"),
        (r"a\nb", "a\nb"),
        (r'"in\clude"', r"in\clude"),
        ("${a}b", "${a}b"),
        ("${{", "${{"),
        ("a$${b}", "a$${b}"),
    ],
)
def test_a_word_is_what_nginx_takes_it_for(word: str, taken: str) -> None:
    (directive,) = Document(f"set {word};").directives
    assert directive.args == [taken]


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
        ("UNIX:/run/x.sock", []),
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


@pytest.mark.parametrize("name", ["a\ninclude /t;", "a\rb", "\x1b[31m", "\u2028include x;", "\udc80"])
def test_the_name_of_a_process_never_becomes_configuration(name: str) -> None:
    text = "upstream a { server 1.2.3.4:1; }\nserver {\n  listen 1;\n  proxy_pass a;\n}\n"
    reasons = {tcp(1): f"is held by {name}"}
    shorter = without_listeners(Document(text), reasons)[0]
    bare = without_upstreams(Document(text), {"a": f"is held by {name}"})[0]
    for left, kept in ((shorter, {"upstream"}), (bare, set())):
        assert {directive.name for directive in Document(left).directives} == kept
        assert left.count("\n") == text.count("\n") and left.replace("\n", "").isprintable()


BLOCKS = st.lists(
    st.sampled_from(
        [
            "server { listen 1; }",
            "server {\n listen 1; }",
            "server { listen 2; proxy_pass a; }",
            "upstream a { }",
            'map $host $edge_x { default "\ninclude /etc/shadow;\n"; }',
            'map $host $edge_x { default "\n}\n"; }',
            "map $host $edge_x { a '}'; }",
            "# a comment {\n",
            "\n",
            " ",
            "\t",
        ]
    ),
    max_size=12,
).map("".join)


def words(directives: list[nginxconf.Directive]) -> list[object]:
    """Return what directives say, without their places."""
    return [(one.name, one.args, one.block is not None and words(one.block)) for one in directives]


@settings(max_examples=500, deadline=None)
@given(BLOCKS)
def test_what_is_left_out_changes_nothing_of_the_rest(text: str) -> None:
    """A comment in the place of a block must not take anything else with it."""
    document = Document(text)
    kept = [one for one in document.directives if tcp(1) not in nginxconf.server_listeners(one)]
    shorter = Document(without_listeners(document, {tcp(1): "is held by sshd"})[0])
    assert words(shorter.directives) == words(kept)
    kept = [one for one in document.directives if "a" not in one.args and "proxy_pass" not in str(words([one]))]
    assert words(Document(without_upstreams(document, {"a": "is the operator's"})[0]).directives) == words(kept)
    assert shorter.text.count("\n") == text.count("\n")


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
