# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Report, guard, state, rendering and the texts about the host."""

from __future__ import annotations

import json
import re
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from nginx_edge import addresses, sockets
from nginx_edge import state as states
from nginx_edge.check import explain, foreign_files, foreign_listeners, mirror
from nginx_edge.config import Config, load_config
from nginx_edge.errors import ApplyError
from nginx_edge.foreign import no_address, passes_to, with_port
from nginx_edge.nginxconf import Document, LeftOut, Listener, Places
from nginx_edge.render import EDGE_HTTP, EDGE_STREAM, READ_BY_NGINX, Source, Wanted, render
from nginx_edge.report import as_lines, build_report, dropped_too_many, report_lines, served
from nginx_edge.sockets import not_bound, parse_proc_net

SERVED = '#! {"kind": "served", "side": "tcp", "service": "echo", "port": 9999}\n'


def wanted(http: str = "", stream: str = "", base: str = "server { listen 80; }\n", **certificates: str) -> Wanted:
    source = Source(http, stream, base, "worker_shutdown_timeout 1m;\n", {f"{name}.pem": text for name, text in certificates.items()})
    return Wanted(source, Document(http), Document(stream), Document(base))


# -- report -----------------------------------------------------------------------------------------------------------------


def test_report_lines_are_read_and_bad_ones_told() -> None:
    text = '#! {"kind": "served", "service": "a"}\n  #! {"kind": "skipped"}\n#! {"kind"\n#! [1]\n# ! no\nfoo; #! no\n'
    assert [entry["kind"] for entry in report_lines(text)] == ["served", "skipped", "malformed", "malformed"]


def test_a_report_line_that_nests_without_end_is_malformed() -> None:
    assert report_lines("#! " + "[" * 100000)[0]["kind"] == "malformed"


def test_served_by_report_else_by_upstream() -> None:
    assert served("tcp", SERVED + "upstream x { }") == {"tcp/echo"}
    assert served("http", "upstream x { } upstream y { }") == {"http/x", "http/y"}
    assert served("http", '#! {"kind": "skipped", "service": "a"}\nupstream fallback { }') == set()


def left_out(listener: Listener, names: tuple[str, ...] = (), upstream: str = "") -> LeftOut:
    return LeftOut(f'server "{listener.port}"', listener, "is held by sshd", names, upstream)


def test_what_is_left_out_is_skipped_not_served() -> None:
    report = build_report("000001", {"http": "", "tcp": SERVED}, {"tcp": [left_out(Listener("tcp", "0.0.0.0", 9999))]})
    assert report["served"] == []
    assert report["skipped"] == [{"kind": "skipped", "side": "tcp", "service": "echo", "port": 9999, "reason": "0.0.0.0:9999/tcp is held by sshd"}]
    # A server that belongs to no report line is told by its port.
    report = build_report("000001", {"http": "", "tcp": ""}, {"tcp": [left_out(Listener("tcp", "0.0.0.0", 9999))]})
    assert report["skipped"][0]["service"] == 'server "9999"'


def test_only_what_was_left_out_is_skipped() -> None:
    """The same port on two addresses, the same service on two sides."""
    lines = [
        {"kind": "served", "service": "echo", "port": 9999, "upstream": "tcp_echo.9999"},
        {"kind": "served", "service": "echo", "port": 9999, "upstream": "internal_tcp_echo.9999", "scope": "internal"},
    ]
    tcp = "\n".join(f"#! {json.dumps(line)}" for line in lines)
    http = "\n".join(f"#! {json.dumps({'kind': 'served', 'service': 'web', 'host': host, 'port': 80})}" for host in ("web.x", "web.internal.x"))
    inside = Listener("tcp", "172.17.0.1", 9999)
    gone = {"http": [left_out(inside, names=("web.internal.x",))], "tcp": [left_out(inside, upstream="internal_tcp_echo.9999")]}
    report = build_report("000001", {"http": http, "tcp": tcp}, gone)
    assert [(entry["service"], entry.get("upstream", entry.get("host"))) for entry in report["served"]] == [("web", "web.x"), ("echo", "tcp_echo.9999")]
    assert [(entry["side"], entry["service"], entry.get("scope")) for entry in report["skipped"]] == [("http", "web", None), ("tcp", "echo", "internal")]


@pytest.mark.parametrize(
    ("before", "after", "gone"),
    [(10, 5, 0), (10, 4, 6), (10, 0, 10), (4, 0, 0), (5, 2, 3), (0, 0, 0), (10, 20, 0)],
)
def test_guard(before: int, after: int, gone: int) -> None:
    assert len(dropped_too_many({str(n) for n in range(before)}, {str(n) for n in range(after)}, 50, 5)) == gone


def test_new_services_do_not_make_up_for_lost_ones() -> None:
    assert dropped_too_many({"a", "b", "c", "d", "e"}, {"v", "w", "x", "y", "z"}, 50, 5)


# -- rendering --------------------------------------------------------------------------------------------------------------


def test_a_tree_refers_to_itself_only() -> None:
    tree = render(wanted("upstream x { }\n", SERVED + "server { listen 9999; }\n"), {}, "000007", "/state", 8098, Places())
    assert set(READ_BY_NGINX) < set(tree.files)
    assert "include /state/trees/000007/stream/*.conf;" in tree.files["main/edge.conf"]
    assert 'return 200 "000007\\n";' in tree.files["http/10-status.conf"]
    assert not any("/live" in text for text in tree.files.values())
    assert {(item.address, item.port) for item in tree.listeners} == {("0.0.0.0", 80), ("0.0.0.0", 9999), ("127.0.0.1", 8098)}
    assert all(Document(tree.files[name]) for name in READ_BY_NGINX)


def test_the_status_server_listens_where_it_is_told_to() -> None:
    source = wanted()
    alone = render(source, {}, "000001", "/s", 8098, Places()).files["http/10-status.conf"]
    assert "    listen 127.0.0.1:8098 default_server;\n    server_name" in alone
    tree = render(source, {}, "000001", "/s", 8098, Places(), "2001:DB8::5")
    assert "    listen 127.0.0.1:8098 default_server;\n    listen [2001:DB8::5]:8098 default_server;\n" in tree.files["http/10-status.conf"]
    socket = Listener("tcp", "2001:db8::5", 8098)
    assert socket in tree.listeners
    without = render(source, {"status": {socket: "can't be used"}}, "000001", "/s", 8098, Places(), "2001:DB8::5")
    assert without.files["http/10-status.conf"] == alone and socket not in without.listeners
    assert json.loads(without.files["report.json"])["skipped"] == [
        {"kind": "skipped", "side": "http", "service": "status page", "port": 8098, "reason": "[2001:db8::5]:8098/tcp can't be used"}
    ]


def test_rendering_again_is_equal() -> None:
    source = wanted("upstream x { }\n", SERVED)
    assert render(source, {}, "000001", "/s", 1, Places()) == render(source, {}, "000001", "/s", 1, Places())


def test_a_tree_has_the_certificates_that_it_needs_and_no_others() -> None:
    text = "server { ssl_certificate /etc/nginx-edge/tls/a.pem; ssl_certificate_key /etc/nginx-edge/tls/a.pem; }\n"
    tree = render(wanted(text, a="the pair", b="another"), {}, "000007", "/state", 8098, Places())
    assert {name: content for name, content in tree.files.items() if name.startswith("tls/")} == {"tls/a.pem": "the pair"}
    assert tree.files[EDGE_HTTP].count(" /state/trees/000007/tls/a.pem;") == 2
    assert tree.files["staged/http.conf"] == text


# -- state ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", "3", '{"schema": 99}', '{"schema": 1, "history": 3, "next": "x", "pending": [], "seen": null, "live": 3}']
)
def test_a_broken_state_file_is_an_empty_state(text: str | None) -> None:
    assert states.load(text) == states.empty()


def test_the_state_survives_its_file() -> None:
    state = states.empty()
    state.update(live="000002", next=3, history=[{"generation": "000002", "activated": 1.0}], pending={"from": None, "to": "000003"})
    assert states.load(states.dump(state)) == state


def test_the_state_file_is_documented() -> None:
    """The README has each key of the file, and no other."""
    text = (Path(__file__).resolve().parents[4] / "roles" / "nginx" / "README.md").read_text()
    table = text.partition("### state.json\n")[2].partition("\n`outcome` is")[0]
    documented = {key for row in table.splitlines() if row.startswith("| `") for key in re.findall(r"`([a-z_]+)`", row.split("|")[1])}
    assert documented == set(states.empty())
    outcomes = text.partition("\n`outcome` is ")[2].partition(" (and")[0]
    assert set(re.findall(r"`([a-z_]+)`", outcomes)) == set(states.OUTCOMES)


def test_generations_are_never_used_twice() -> None:
    state = states.empty()
    assert states.next_generation(state, []) == "000001"
    assert states.next_generation(state, ["000004", "junk"]) == "000005"
    state["next"] = 9
    assert states.next_generation(state, ["000004"]) == "000009"


@pytest.mark.parametrize(("keep", "expected"), [(1, ["2"]), (2, ["2", "4"]), (3, ["2", "3", "4"]), (9, ["1", "2", "3", "4"])])
def test_the_live_tree_is_never_pruned(keep: int, expected: list[str]) -> None:
    state = states.empty()
    state.update(live="2", history=[{"generation": name} for name in ("1", "2", "3", "4")])
    assert states.prune_history(state, keep) == expected


def seen(*changes: tuple[float, str]) -> dict[str, Any]:
    """A state after changes: when, and the services (one letter each) that were served from then on."""
    state = states.empty()
    for at, services in changes:
        states.remember_seen(state, set(services), at, 300)
    return state


@pytest.mark.parametrize(
    ("changes", "served", "now", "expected"),
    [
        ([], "ab", 5000, ["ab"]),
        # What is served since long ago counts until it leaves, however long ago the last change was.
        ([(1000, "abcd")], "abcd", 9000, ["abcd"]),
        ([(1000, "abcd"), (8900, "abc"), (8910, "a")], "a", 9000, ["a", "abcd"]),
        ([(1000, "abcd"), (8600, "abc"), (8910, "a")], "a", 9000, ["a", "abc"]),
        # What was never served together is never counted together.
        ([(8800, "abcd"), (8810, "a"), (8820, "ae")], "ae", 9000, ["ae", "abcd"]),
        ([(8800, "ab"), (8810, "b"), (8820, "ab")], "ab", 9000, ["b", "ab"]),
        ([(8800, "a"), (8810, "abc"), (8820, "ab")], "ab", 9000, ["a", "ab", "abc"]),
        # A clock that was set back ends nothing early.
        ([(90000, "a"), (5000, "b")], "b", 5000, ["a", "b"]),
        ([(90000, "a"), (5000, "b")], "b", 5400, ["b"]),
    ],
)
def test_moments(changes: list[tuple[float, str]], served: str, now: float, expected: list[str]) -> None:
    found = {"".join(sorted(moment)) for moment in states.moments(seen(*changes), set(served), now, 300)}
    assert found == set(expected)


@pytest.mark.parametrize("strange", [{"a": 5}, {"a": [1]}, {"a": ["x", None]}, {"a": [1, "x"]}, {"a": None}])
def test_a_strange_entry_of_what_was_seen_is_left_out(strange: dict[str, Any]) -> None:
    state = {**states.empty(), "seen": strange}
    assert states.moments(state, {"b"}, 9000, 300) == [{"b"}]
    states.remember_seen(state, {"b"}, 9000, 300)
    assert state["seen"] == {"b": [9000, None]}


def test_metrics_are_prometheus_text() -> None:
    state = states.empty()
    state.update(live="000003", history=[{"generation": "000003", "activated": 5.0}], last={"outcome": "failed", "time": 6.0, "duration_ms": 70})
    text = states.metrics(state, {"served": [{"side": "http"}], "skipped": []}, True, {"request_limit": 7, "rate_limit": 0})
    for line in ("nginx_edge_generation 3", "nginx_edge_up_to_date 0", "nginx_edge_last_duration_seconds 0.07", 'nginx_edge_services_served{side="http"} 1'):
        assert f"\n{line}\n" in text
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names)) and all(any(line.startswith(name) for line in text.splitlines()) for name in names)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"b": [], "a": None, "c": {"x": [1, 2], "y": "z"}},
        {"list": [{"b": 1, "a": '"\n\u2028é'}, [], "text", 1.5, True]},
        states.empty(),
    ],
)
def test_json_with_a_line_for_each_entry(document: dict[str, Any]) -> None:
    text = as_lines(document)
    assert json.loads(text) == document
    assert text.isascii() and text.endswith("\n}\n")
    entries = [entry for value in document.values() if isinstance(value, list) for entry in value]
    assert len(text.splitlines()) == max(3, 2 + len(document) + len(entries) + sum(1 for value in document.values() if isinstance(value, list) and value))


# -- host -------------------------------------------------------------------------------------------------------------------


def test_proc_net() -> None:
    text = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0100007F:1FA2 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n"
        "   1: 0100007F:1FA2 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n"
    )
    assert parse_proc_net(text, "tcp", "0A") == [(Listener("tcp", "127.0.0.1", 8098), "4711")]
    six = text.replace("0100007F:1FA2 00000000", "B80D0120000000000000000001000000:0050 00000000")
    assert parse_proc_net(six, "tcp", "0A") == [(Listener("tcp", "2001:db8::1", 80), "4711")]


@pytest.mark.parametrize(("address", "family", "suffix"), [("127.0.0.1", socket.AF_INET, ""), ("::1", socket.AF_INET6, "6")])
def test_listeners_are_those_of_proc(address: str, family: socket.AddressFamily, suffix: str) -> None:
    """Both ways to ask the kernel agree."""
    try:
        server = socket.create_server((address, 0), family=family)
    except OSError:
        pytest.skip(f"this machine has no {address}")
    with server:
        ours = Listener("tcp", address, server.getsockname()[1])
        asked = [entry for entry in sockets.tcp_listeners() if entry[0] == ours]
        read = [entry for entry in parse_proc_net(Path(f"/proc/net/tcp{suffix}").read_text(), "tcp", "0A") if entry[0] == ours]
    assert len(asked) == 1
    assert asked == read


def test_listeners_come_from_proc_where_the_kernel_has_no_sock_diag(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> list[tuple[Listener, str]]:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(sockets, "tcp_listeners", refuse)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert Listener("tcp", "127.0.0.1", server.getsockname()[1]) in {listener for listener, _ in sockets.listening()}


def test_a_wildcard_holds_every_address_of_its_family() -> None:
    held = {Listener("tcp", "0.0.0.0", 80)}
    assert not_bound([Listener("tcp", "192.0.2.1", 80)], held) == []
    assert not_bound([Listener("tcp", "::1", 80), Listener("udp", "0.0.0.0", 80), Listener("tcp", "0.0.0.0", 81)], held) == sorted(
        [Listener("tcp", "::1", 80), Listener("udp", "0.0.0.0", 80), Listener("tcp", "0.0.0.0", 81)]
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"statusport": 1}, "unknown key 'statusport'"),
        ({"status_port": "1"}, "status_port is '1', not a int"),
        ({"status_address": "edge.example"}, "status_address is 'edge.example', not an IPv4 or IPv6 address"),
        ({"status_host_names": ["edge; }"]}, "status_host_names has 'edge; }', not a host name"),
        ({"status_host_names": "edge"}, "status_host_names is 'edge', not a list"),
        (None, "can't be read"),
    ],
)
def test_a_wrong_configuration_is_named(tmp_path: Path, values: Any, message: str) -> None:
    (tmp_path / "apply.json").write_text(json.dumps(values) if values is not None else "{")
    with pytest.raises(ApplyError, match=message):
        load_config(str(tmp_path / "apply.json"))


# -- check ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "blame", "sentence"),
    [
        ("nginx: [emerg] no servers are inside upstream in /s/trees/1/http/50-edge.conf:2", "staged", 'staged http.conf, line 2 (upstream "x"): no servers'),
        (
            '2026/01/01 00:00:00 [emerg] 1#1: unknown directive "y" in /s/trees/1/stream/50-edge.conf:1',
            "staged",
            'staged stream.conf, line 1: unknown directive "y"',
        ),
        ("nginx: [emerg] x in /s/trees/1/main/edge.conf:3", "platform", "the edge's own main/edge.conf, line 3: x"),
        ("nginx: [emerg] x in /s/check/conf.d/00-edge.conf:3", "platform", "the edge's own /etc/nginx/conf.d/00-edge.conf, line 3: x"),
        ("nginx: [emerg] x in /s/check/sites-enabled/shop:3", "operator", "the operator's own file /etc/nginx/sites-enabled/shop, line 3: x"),
        ("nginx: [emerg] x in /opt/shop.conf:3", "operator", "the operator's own file /opt/shop.conf, line 3: x"),
        ('nginx: [emerg] cannot load certificate "/s/check/ssl/a.pem": No such file', "operator", 'cannot load certificate "/etc/nginx/ssl/a.pem"'),
        ("nginx: [emerg] bind() to 192.0.2.9:80 failed (99: Cannot assign requested address)", "host", "bind() to 192.0.2.9:80 failed"),
        ("nginx: [warn] w in /etc/x:1\nnginx: [emerg] e in /opt/x:1", "operator", "/opt/x, line 1: e"),
        ("", "host", "without saying why: no output"),
    ],
)
def test_whose_file_is_broken(said: str, blame: str, sentence: str) -> None:
    documents = {EDGE_HTTP: Document("\nupstream x { }\n"), EDGE_STREAM: Document("")}
    found = explain(said, Config(state_dir="/s"), "/s/trees/1", "/s/check", documents)
    assert found[0] == blame and sentence in found[1]


def test_the_status_page_is_no_instance() -> None:
    """On whatever port, and at the address of the management network as well."""
    servers = ["192.0.2.5:9000", "[2001:db8::5]:9000", "127.0.0.1:9000", "192.0.2.6:9000", "192.0.2.5:9001"]
    text = "".join(f"upstream u{number} {{\n    server {server};\n}}\n" for number, server in enumerate(servers))
    for address, found in (("192.0.2.5", {0, 2}), ("2001:DB8::5", {1, 2}), ("", {2})):
        own = frozenset({"192.0.2.5", "2001:db8::5", "127.0.0.1"})
        tree = render(wanted(text), {}, "000001", "/s", 9000, Places(), address, own_addresses=own)
        assert {number for number, server in enumerate(servers) if f"    server {server};" not in tree.files[EDGE_HTTP]} == found


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("duplicate listen options for 0.0.0.0:80", "take the options of the socket (reuseport, backlog= and the like) out of the other listen line"),
        ('"underscores_in_headers" directive is duplicate', "take it out of the other file; underscore_headers: true in the edge description (platform_edge)"),
        ('"client_body_timeout" directive is duplicate', "leave it to that one by nginx_http_options: {client_body_timeout: ''}"),
        ('"worker_shutdown_timeout" directive is duplicate', "leave it to that one by nginx_worker_shutdown_timeout: ''"),
        ('"sendfile" directive is duplicate', "it is there twice in the operator's own files; take it out of one of them"),
        ('"stream" directive is duplicate', "there can be one stream block, and the edge brings it; take the other one out"),
        ('host not found in upstream "shop.service.consul"', "use http_NAME for a service of the edge, or a resolver and a variable"),
    ],
)
def test_a_conflict_with_the_operators_file_has_a_remedy(tmp_path: Path, said: str, advice: str) -> None:
    tree = tmp_path / "tree"
    for name, text in (
        ("main/edge.conf", "worker_shutdown_timeout 5s;\nstream { }\n"),
        ("http/00-base.conf", "client_body_timeout 15s;\nserver { sendfile on; }\n"),
        (EDGE_HTTP, "underscores_in_headers on;\n"),
    ):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    documents = {EDGE_HTTP: Document(""), EDGE_STREAM: Document("")}
    blame, message = explain(f"nginx: [emerg] {said} in /opt/x.conf:3", Config(state_dir="/s"), str(tree), "/s/check", documents)
    assert blame == "operator"
    assert message.startswith(f"the operator's own file /opt/x.conf, line 3: {said}; ") and advice in message


def test_mirror(tmp_path: Path) -> None:
    etc, copy = tmp_path / "etc", tmp_path / "copy"
    (etc / "conf.d").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (etc / "nginx.conf").write_text(f"pid /run/nginx.pid;\ninclude {etc}/conf.d/*.conf;\n")
    (etc / "conf.d" / "a.conf").write_text("include /s/live/http/*.conf;\n")
    (etc / "conf.d" / "b.conf").symlink_to("missing")
    (etc / "mime.types").write_text("types { }\n")
    (etc / "inside").symlink_to("conf.d")
    (etc / "modules").symlink_to(tmp_path / "outside")
    mirror(str(etc), str(copy), [(f"{etc}/".encode(), f"{copy}/".encode()), (b"/s/live/", b"/s/trees/1/")])
    assert (copy / "nginx.conf").read_text() == f"pid {copy}/nginx.pid;\ninclude {copy}/conf.d/*.conf;\n"
    assert (copy / "conf.d" / "a.conf").read_text() == "include /s/trees/1/http/*.conf;\n"
    assert (copy / "mime.types").is_symlink() and (copy / "conf.d" / "b.conf").is_symlink()
    assert (copy / "inside").resolve() == copy / "conf.d" and (copy / "modules").resolve() == tmp_path / "outside"


def test_the_operators_sockets() -> None:
    dump = (
        "# configuration file /s/check/nginx.conf:\nhttp { server { listen 8080; } }\n# listen 1;\n"
        "# configuration file /s/trees/1/http/50-edge.conf:\nserver { listen 80; }\n"
        "# configuration file /etc/nginx/lua.conf:\ncontent_by_lua_block { x = '}\n"
    )
    files = foreign_files(dump, "/s/trees/1", "/s/check", "/etc/nginx")
    assert list(files) == ["/etc/nginx/nginx.conf", "/etc/nginx/lua.conf"]
    assert foreign_listeners(files.values()) == {Listener("tcp", "0.0.0.0", 8080)}


# -- the operator's files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ('the operator\'s own file /etc/x.conf, line 3: host not found in upstream "shop.service.consul"; do', ("shop.service.consul", "/etc/x.conf")),
        ('the operator\'s own file /etc/x.conf, line 3: host not found in upstream "shop:8080"; do', ("", "")),
        ('staged http.conf, line 3: host not found in upstream "shop.service.consul"; do', ("", "")),
        ('the operator\'s own file /etc/x.conf, line 3: host not found in "shop" of the "listen" directive', ("", "")),
    ],
)
def test_a_name_without_an_address(message: str, found: tuple[str, str]) -> None:
    assert no_address(message) == found


def test_a_name_with_a_port() -> None:
    assert with_port('x, line 3: upstream "shop.service.consul" may not have port 8080') == "shop.service.consul"
    assert with_port('x, line 3: host not found in upstream "shop"') == ""


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("proxy_pass http://Shop.example;", True),
        ("proxy_pass https://shop.example/app/;", True),
        ("proxy_pass 'http://shop.example';", True),
        ("proxy_pass http://shop.example.org;", False),
        ("proxy_pass http://shop.example:80;", False),
        ("# proxy_pass http://shop.example;\n", False),
    ],
)
def test_whether_a_file_still_passes_requests_to_a_name(text: str, passes: bool) -> None:
    assert passes_to(text, "shop.example") is passes


@pytest.mark.parametrize(
    ("answer", "known"),
    [
        ([("an address",)], True),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), False),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), None),
        (socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure in name resolution"), None),
        (OSError(24, "Too many open files"), None),
        (UnicodeError("label too long"), None),
    ],
)
def test_only_a_certain_answer_makes_a_name_one_without_an_address(monkeypatch: pytest.MonkeyPatch, answer: Any, known: bool | None) -> None:
    def ask(*_: object, **__: object) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    assert addresses.has_address("shop.example") is known


def test_name_servers_that_are_away_keep_no_change_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: gone.wait(60))
    try:
        assert addresses.has_address("shop.example", timeout=0.05) is None
    finally:
        gone.set()
