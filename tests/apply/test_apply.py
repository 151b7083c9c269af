# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checked apply against a real nginx: what is good goes live, whatever goes wrong leaves the old traffic served."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import pytest

if TYPE_CHECKING:
    from apply_rig import Edge

STEPS = ("built", "tested", "journal", "swapped", "signalled", "verified", "committed")


def old_traffic(edge: Edge) -> bool:
    """Whether the services of the ``serving`` edge answer."""
    return edge.ask("one") == (200, "one") and edge.ask("two") == (200, "two") and edge.ask_tcp() == "hello"


def reasons(edge: Edge) -> list[str]:
    """The reasons that are kept beside failed candidates."""
    return [path.read_text() for path in sorted((edge.state / "failed").glob("*/reason.txt"))]


# -- what is good -----------------------------------------------------------------------------------------------------------


def test_an_edge_without_services_comes_up(edge: Edge) -> None:
    result = edge.apply("--strict")
    assert (result["outcome"], result["serving"]) == ("applied", True)
    assert edge.ask("unknown") == (404, "unknown")
    assert edge.status()["answered"] == result["generation"] == "000001"


def test_services_of_both_sides_are_served(serving: Edge) -> None:
    assert old_traffic(serving)
    assert serving.ask("other")[0] == 404
    document = serving.status()
    assert document["up_to_date"] and document["serving"]
    assert {(entry["side"], entry["service"]) for entry in document["services"]} == {("http", "one"), ("http", "two"), ("tcp", "echo")}


def test_unchanged_writes_nothing_and_does_not_reload(serving: Edge) -> None:
    def picture() -> dict[str, tuple[int, int]]:
        return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_ino) for path in serving.state.rglob("*") if path.name not in ("lock", "state")}

    before, workers = picture(), serving.workers()
    serving.stage(serving.http("one", "two"), serving.stream())
    before.update({key: value for key, value in picture().items() if "/staging" in key})
    result = serving.apply("--strict")
    assert (result["outcome"], result["changed"]) == ("unchanged", False)
    assert serving.workers() == workers
    assert picture() == before


def test_a_missing_staged_file_keeps_the_live_counterpart(serving: Edge) -> None:
    (serving.state / "staging" / "stream.conf").unlink()
    serving.stage(serving.http("one", "two", "three"))
    assert serving.apply()["outcome"] == "applied"
    assert old_traffic(serving) and serving.ask("three") == (200, "three")


def test_the_status_server_answers(serving: Edge) -> None:
    assert get(serving, "/generation")[1] == "000001\n"
    assert json.loads(get(serving, "/status")[1])["generation"] == "000001"
    assert len(json.loads(get(serving, "/report")[1])["served"]) == 3
    metrics = get(serving, "/metrics")[1]
    assert "nginx_edge_generation 1\n" in metrics and 'nginx_edge_services_served{side="http"} 2\n' in metrics
    assert "Active connections" in get(serving, "/nginx")[1]
    assert "404" in get(serving, "/state.json")[0] and "404" in get(serving, "/status.html")[0]


def get(edge: Edge, path: str, address: str = "127.0.0.1") -> tuple[str, str]:
    """(head, body) of an answer of the status server."""
    with socket.create_connection((address, edge.status_port), 5) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        head, _, body = b"".join(iter(lambda: connection.recv(65536), b"")).decode().partition("\r\n\r\n")
    return head, body


def asked_by(edge: Edge, host: str) -> str:
    """Return the status of the answer to a caller who asks by this host name."""
    with socket.create_connection(("127.0.0.1", edge.status_port), 5) as connection:
        connection.sendall(f"GET /report HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return connection.makefile("rb").readline().decode().split()[1]


def test_the_status_server_answers_to_no_name_of_others(serving: Edge) -> None:
    """With a name that leads to 127.0.0.1, a web page reads what its visitor's browser reaches."""
    own = ("127.0.0.1", f"127.0.0.1:{serving.status_port}", "localhost:8098", "LOCALHOST", "[::1]:8098", "192.0.2.1")
    assert {host: asked_by(serving, host) for host in own} == dict.fromkeys(own, "200")
    others = ("evil.example", "evil.example:8098", "127.0.0.1.evil.example", "localhost.evil.example", "edge-1.lan", "a127.0.0.1")
    assert {host: asked_by(serving, host) for host in others} == dict.fromkeys(others, "421")
    serving.configure(status_host_names=["Edge-1.lan"])
    assert serving.apply("--strict")["outcome"] == "applied"
    assert (asked_by(serving, "edge-1.lan:8098"), asked_by(serving, "x.edge-1.lan"), asked_by(serving, "127.0.0.1")) == ("200", "421", "200")


HOSTILE = "</td><script>alert(1)</script><img src=x onerror=alert(2)>\"'`&\u202e"


def test_the_status_page(serving: Edge) -> None:
    """It follows each change, and what a registration holds is shown and never run."""
    head, body = get(serving, "/")
    assert "200 OK" in head and "Content-Type: text/html; charset=utf-8" in head
    assert "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'" in head
    assert "generation 000001 is live and up to date" in body and ">one</td>" in body
    hostile = json.dumps({"kind": "skipped", "side": "http", "service": HOSTILE, "instance": HOSTILE, "address": HOSTILE, "port": 1, "reason": HOSTILE})
    serving.stage(f"#! {hostile}\n{serving.http('one', 'two')}")
    assert serving.apply()["outcome"] == "applied"
    body = get(serving, "/")[1]
    assert "generation 000002 is live" in body and "&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror=alert(2)&gt;&quot;&#39;&#96;&amp;\ufffd" in body
    assert "<script" not in body and "<img" not in body
    serving.stage("upstream empty { }\n")
    assert serving.apply()["outcome"] == "failed"
    body = get(serving, "/")[1]
    assert "the last change failed, generation 000002 stays live" in body
    assert body.count("no servers are inside upstream") >= 2, "the last failure and the candidate that is kept"


def test_the_status_server_on_a_management_address(serving: Edge) -> None:
    """Loopback alone unless it is asked for; an address that this host does not have, yet, costs the page there and nothing else."""
    with pytest.raises(OSError, match="refused"):
        get(serving, "/", "127.0.0.77")
    serving.configure(status_address="127.0.0.77")
    assert serving.apply("--strict")["outcome"] == "applied"
    assert "up to date" in get(serving, "/", "127.0.0.77")[1] and get(serving, "/generation")[1] == "000002\n"
    serving.configure(status_address="192.0.2.77")
    serving.stage(serving.http("one", "two", "three"))
    result = serving.apply("--strict")
    assert result["outcome"] == "applied" and "can't be used: Cannot assign requested address" in result["message"]
    assert [entry["service"] for entry in serving.status()["skipped"]] == ["status page"]
    assert old_traffic(serving) and serving.ask("three") == (200, "three") and "up to date" in get(serving, "/")[1]
    with pytest.raises(OSError, match="refused"):
        get(serving, "/", "127.0.0.77")


# -- what is refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("http", "stream", "expected"),
    [
        ("upstream empty { }\n", None, 'staged http.conf, line 1 (upstream "empty"): no servers are inside upstream'),
        (None, "server { listen svc; return x; }\n", 'staged stream.conf, line 1 (server "svc"): "listen svc" is not allowed'),
        # Its own port: another program's would cost the server alone.
        (None, "server { listen @own; listen @own; return x; }\n", 'staged stream.conf, line 1 (server "@own @own"): duplicate'),
        ("\n\nserver {\n  listen 80\n}\n", None, 'staged http.conf, line 4: "listen" is not ended by ";"'),
        ("server { location / { root /; } }\n", None, 'directive "root" is not allowed in "location"'),
        ("server { access_log /etc/cron.d/x; }\n", None, '"access_log /etc/cron.d/x" is not allowed in "server"'),
        ("upstream x { server unix:/run/docker.sock; }\n", None, '"server unix:/run/docker.sock" is not allowed'),
        ("include /etc/shadow;\n", None, 'directive "include" is not allowed at the outermost level of the http side'),
    ],
)
def test_a_bad_staged_file_changes_nothing(serving: Edge, http: str | None, stream: str | None, expected: str) -> None:
    workers = serving.workers()
    own = f"127.0.0.1:{serving.tcp_port}"
    serving.stage(http, stream and stream.replace("@own", own))
    done = serving.run()
    assert done.returncode == 0, "a command of consul-template must never fail"
    result = serving.apply("--strict")
    assert (result["outcome"], result["blame"], result["serving"]) == ("failed", "staged", True)
    assert expected.replace("@own", own) in result["message"]
    assert old_traffic(serving) and serving.workers() == workers
    assert serving.run("--check").returncode == 1
    assert not serving.status()["up_to_date"]
    serving.stage(serving.http("one", "two"), serving.stream())
    assert serving.apply()["outcome"] == "unchanged"
    assert serving.status()["up_to_date"]


def test_the_failed_candidate_and_its_reason_are_kept_once(serving: Edge) -> None:
    serving.stage("upstream empty { }\n")
    for _ in range(3):
        serving.apply()
    assert len(reasons(serving)) == 1 and "no servers are inside upstream" in reasons(serving)[0]
    kept = next((serving.state / "failed").glob("*/http/50-edge.conf"))
    assert kept.read_text() == "upstream empty { }\n"


def test_a_bad_first_file_still_brings_up_an_edge_without_services(edge: Edge) -> None:
    edge.stage("upstream empty { }\n")
    result = edge.apply()
    assert (result["outcome"], result["serving"]) == ("failed", True)
    assert edge.ask("unknown")[0] == 404


@pytest.mark.parametrize("kind", ["link", "fifo", "directory", "hard link", "binary", "nul", "large"])
def test_staging_is_not_trusted(serving: Edge, kind: str) -> None:
    path = serving.state / "staging" / "http.conf"
    path.unlink()
    if kind == "link":
        path.symlink_to("/etc/passwd")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "hard link":
        (serving.root / "other").write_text("# x\n")
        os.link(serving.root / "other", path)
    elif kind == "binary":
        path.write_bytes(b"\xff\xfe")
    elif kind == "nul":
        path.write_bytes(b"# x\n\0")
    else:
        serving.configure(max_staged_bytes=1000)
        path.write_text("#" * 1001)
    result = serving.apply()
    assert (result["outcome"], result["blame"], result["serving"]) == ("failed", "staged", True)
    assert "staging/http.conf" in result["message"]
    assert old_traffic(serving)


# -- the operator's own files ---------------------------------------------------------------------------------------------------


def test_the_operators_broken_file_is_named_as_such(serving: Edge) -> None:
    (serving.etc / "sites-enabled" / "shop").write_text("server { listen 127.0.0.1:1; nonsense; }\n")
    serving.stage(serving.http("one", "two", "three"))
    result = serving.apply()
    assert (result["outcome"], result["blame"]) == ("failed", "operator")
    assert f"the operator's own file {serving.etc}/sites-enabled/shop, line 1" in result["message"]
    assert "with or without this change" in result["message"]
    assert old_traffic(serving)
    (serving.etc / "sites-enabled" / "shop").unlink()
    assert serving.apply()["outcome"] == "applied"


def test_a_second_stream_block_is_named_with_a_remedy(serving: Edge) -> None:
    with (serving.etc / "nginx.conf").open("a") as handle:
        handle.write("stream { }\n")
    serving.stage(serving.http("one"))
    message = serving.apply()["message"]
    assert f"{serving.etc}/nginx.conf" in message and "there can be one stream block" in message


def test_an_operators_port_is_not_taken(serving: Edge) -> None:
    port = serving.free_port()
    (serving.etc / "sites-enabled" / "shop").write_text(f'server {{ listen 127.0.0.1:{port}; return 200 "shop"; }}\n')
    os.kill(serving.master(), signal.SIGHUP)
    serving.wait_until(lambda: port_open(port), "the operator's site answers")
    serving.stage(stream=serving.stream() + f'server {{ listen 127.0.0.1:{port}; return "no"; }}\n')
    result = serving.apply()
    assert result["outcome"] == "applied" and "is used by the operator's own nginx configuration" in result["message"]
    assert old_traffic(serving)
    workers = serving.workers()
    assert serving.apply()["outcome"] == "unchanged" and serving.workers() == workers


def shop(edge: Edge, target: str = "http://http_shop") -> Path:
    """The operator's own server in front of the service shop: the way to a host name, a path or a time-out of its own."""
    path = edge.etc / "conf.d" / "www.conf"
    path.write_text(f"server {{ listen 127.0.0.1:{edge.http_port}; server_name www.test; location / {{ proxy_pass {target}; }} }}\n")
    return path


@pytest.mark.parametrize("target", ["http://http_shop", "http://http_shop/app/", "https://http_shop", "http://internal_http_shop", "http://http_shop.canary"])
def test_an_operators_server_in_front_of_a_service_that_is_gone(edge: Edge, target: str) -> None:
    """Only its own name suffers; what happens to other services goes on, and it recovers with the service."""
    name = target.split("/")[2]
    with_shop = edge.http("one", "shop").replace("upstream http_shop", f"upstream {name}")
    edge.stage(with_shop, edge.stream())
    assert edge.apply("--strict")["outcome"] == "applied"
    path = shop(edge, target)
    assert edge.apply()["outcome"] == "unchanged", "nothing has to be known of it as long as the service is there"
    edge.stage(edge.http("one", "two"))
    result = edge.apply("--strict")
    assert result["outcome"] == "applied" and f"passes requests to {name}, which no service has now" in result["message"]
    assert edge.ask("www")[0] == 502 and old_traffic(edge)
    status = edge.status()
    assert status["up_to_date"] and [(entry["service"], entry["reason"]) for entry in status["warnings"]] == [
        (name, f"{path} passes requests to upstream {name}, which no service has now: they get 502")
    ]
    assert f"WARNING     http/{name}: {path} passes" in edge.run("--status").stdout
    assert ">Warnings<" in get(edge, "/")[1] and "nginx_edge_warnings 1\n" in get(edge, "/metrics")[1]
    assert edge.apply()["outcome"] == "unchanged"
    edge.stage(with_shop.replace("one", "three"))
    result = edge.apply("--strict")
    assert "no service has now" not in result["message"] and edge.ask("three") == (200, "three")
    assert edge.status()["warnings"] == [] and "Warnings" not in get(edge, "/")[1]
    edge.stage(edge.http("one"))
    path.unlink()
    edge.apply("--strict")
    assert edge.status()["warnings"] == []


def test_an_operators_server_that_is_read_from_elsewhere(edge: Edge) -> None:
    """What is outside of nginx's directory is learned from nginx itself."""
    path = shop(edge)
    elsewhere = edge.root / "www.conf"
    path.rename(elsewhere)
    path.write_text(f"include {elsewhere};\n")
    edge.stage(edge.http("one"))
    assert "http_shop, which no service has now" in edge.apply("--strict")["message"]
    assert edge.ask("one") == (200, "one") and edge.ask("www")[0] == 502
    edge.stage(edge.http("one", "shop"))
    assert "which no service" not in edge.apply("--strict")["message"]
    path.unlink()
    edge.stage(edge.http("one", "two"))
    assert "which no service" not in edge.apply("--strict")["message"]
    assert edge.status()["warnings"] == []


def shop_upstream(edge: Edge) -> str:
    """Return a service that is served through an upstream of its own, which nobody answers for."""
    server = f"server {{ listen 127.0.0.1:{edge.http_port}; server_name shop.test;"
    line = {"kind": "served", "side": "http", "service": "shop", "host": "shop.test", "upstream": "http_shop"}
    upstream = "upstream http_shop { server 127.0.0.1:10; }"
    return f"#! {json.dumps(line)}\n{upstream}\n{server} location / {{ proxy_pass http://http_shop; }} }}\n"


@pytest.mark.parametrize("read_from_elsewhere", [False, True])
def test_an_operators_upstream_of_the_same_name(serving: Edge, read_from_elsewhere: bool) -> None:
    """A service whose upstream the operator has already is left out, with a word; the others are not kept waiting."""
    path = serving.etc / "conf.d" / "www.conf"
    text = "upstream http_shop { server 127.0.0.1:9; }\n"
    path.write_text(text)
    if read_from_elsewhere:
        (serving.root / "www.conf").write_text(text)
        path.write_text(f"include {serving.root}/www.conf;\n")
    serving.stage(shop_upstream(serving) + serving.http("one", "two", "three"))
    result = serving.apply("--strict")
    assert result["outcome"] == "applied" and "has an upstream http_shop; give it another name" in result["message"]
    assert serving.ask("three") == (200, "three") and serving.ask("shop")[0] == 404
    skipped = serving.status()["skipped"]
    assert [(entry["service"], entry["host"]) for entry in skipped] == [("shop", "shop.test")]
    assert "has an upstream http_shop" in skipped[0]["reason"] and serving.status()["warnings"] == []
    path.unlink()
    (serving.root / "www.conf").write_text("")
    assert serving.apply("--strict")["outcome"] == "applied" and serving.ask("shop")[0] == 502
    assert serving.status()["skipped"] == []


@pytest.mark.parametrize("place", ["sites-available/shop", "conf.d/shop.conf.bak"])
def test_an_upstream_in_a_file_that_nginx_does_not_read_takes_nothing_off_the_edge(serving: Edge, place: str) -> None:
    unread = serving.etc / place
    unread.parent.mkdir(exist_ok=True)
    unread.write_text("upstream http_shop { server 127.0.0.1:9; }\n")
    serving.stage(shop_upstream(serving) + serving.http("one"))
    assert serving.apply("--strict")["outcome"] == "applied"
    assert serving.ask("shop")[0] == 502 and serving.status()["skipped"] == []


def test_a_host_name_that_the_operator_has_already_is_a_warning(serving: Edge) -> None:
    """nginx uses the first of two servers without a word in its answer: whose name it is must not depend on who registers."""
    path = serving.etc / "conf.d" / "www.conf"
    path.write_text(f'server {{ listen 127.0.0.1:{serving.http_port}; server_name three.test; return 200 "operator"; }}\n')
    serving.stage(serving.http("one", "two"))
    assert serving.apply("--strict")["outcome"] == "unchanged" and serving.status()["warnings"] == []
    serving.stage(serving.http("one", "two", "three"))
    assert serving.apply("--strict")["outcome"] == "applied"
    assert [(entry["service"], "two servers have this host name" in entry["reason"]) for entry in serving.status()["warnings"]] == [("three.test", True)]
    assert serving.apply()["outcome"] == "unchanged" and old_traffic(serving)
    serving.stage(serving.http("one", "two", "four"))
    assert serving.apply("--strict")["outcome"] == "applied" and serving.status()["warnings"] == []


# An address that no host has (RFC 5737): what the address of Docker's bridge is while Docker does not run.
ABSENT = "192.0.2.77"


def internal(http_port: int, tcp_port: int) -> tuple[str, str]:
    """A service that is reached at an address of its own, as http and as tcp."""
    lines = [
        {"kind": "served", "side": "http", "service": "inner", "scope": "internal", "host": "inner.test", "port": http_port},
        {"kind": "served", "side": "tcp", "service": "inner", "scope": "internal", "port": tcp_port, "upstream": "internal_tcp_inner"},
    ]
    http = f'#! {json.dumps(lines[0])}\nserver {{ listen {ABSENT}:{http_port}; server_name inner.test; return 200 "inner\\n"; }}\n'
    upstream = "upstream internal_tcp_inner { server 127.0.0.1:9; }\n"
    return http, f"#! {json.dumps(lines[1])}\n{upstream}server {{ listen {ABSENT}:{tcp_port}; proxy_pass internal_tcp_inner; }}\n"


def test_an_address_that_is_not_there_costs_only_what_wants_it(serving: Edge) -> None:
    """Also while nginx is down: the public side must come up without Docker."""
    http, stream = internal(serving.free_port(), serving.free_port())
    serving.stage(serving.http("one", "two") + http, serving.stream() + stream)
    result = serving.apply("--strict")
    assert result["outcome"] == "applied", result
    assert result["message"].count("can't be used: Cannot assign requested address") == 2
    assert old_traffic(serving)
    document = serving.status()
    assert document["up_to_date"]
    assert {(entry["service"], entry["side"], entry["scope"]) for entry in document["skipped"]} == {("inner", "http", "internal"), ("inner", "tcp", "internal")}
    assert {(entry["side"], entry["service"]) for entry in document["services"]} == {("http", "one"), ("http", "two"), ("tcp", "echo")}
    workers = serving.workers()
    assert serving.apply()["outcome"] == "unchanged" and serving.workers() == workers
    serving.stop()
    assert serving.apply("--strict")["outcome"] == "repaired"
    assert old_traffic(serving)


def test_an_address_goes_while_nginx_is_down(serving: Edge) -> None:
    """The live generation wants a socket that can't be had any more: the next run starts nginx without it."""
    port = serving.free_port()
    serving.stage(serving.http("one", "two") + f"server {{ listen 127.0.0.1:{port}; server_name inner.test; }}\n")
    assert serving.apply("--strict")["outcome"] == "applied"
    serving.stop()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        result = serving.apply("--strict")
        assert result["outcome"] == "applied" and f'left out server "inner.test": 127.0.0.1:{port}/tcp is held by' in result["message"], result
        assert old_traffic(serving)
    assert serving.apply("--strict")["outcome"] == "applied"
    assert port_open(port)


def test_an_address_may_be_absent_where_nginx_listens_on_all(edge: Edge) -> None:
    """There, nginx tells the sides apart by the address that a connection came to, and has one socket for both."""
    (edge.base / "http.conf").write_text(f'server {{ listen {edge.http_port} default_server; server_name _; return 404 "unknown\\n"; }}\n')
    http = internal(edge.http_port, edge.tcp_port)[0]
    edge.stage(edge.http("one", "two").replace("listen 127.0.0.1:", "listen ") + http, edge.stream())
    result = edge.apply("--strict")
    assert result["outcome"] == "applied" and "left out" not in result["message"], result
    assert old_traffic(edge) and edge.ask("inner")[0] == 404
    assert edge.status()["skipped"] == []
    assert edge.apply()["outcome"] == "unchanged"


def test_what_the_site_itself_needs_is_not_left_out(serving: Edge) -> None:
    (serving.base / "http.conf").write_text(f"server {{ listen {ABSENT}:{serving.http_port} default_server; }}\n")
    result = serving.apply("--strict")
    assert (result["outcome"], result["blame"]) == ("failed", "host")
    assert f"{ABSENT}:{serving.http_port}/tcp can't be used: Cannot assign requested address" in result["message"]
    assert old_traffic(serving)


def test_a_hook_that_is_not_read_is_an_error(serving: Edge) -> None:
    (serving.etc / "conf.d" / "00-edge.conf").unlink()
    serving.stage(serving.http("one"))
    result = serving.apply()
    assert result["outcome"] == "failed" and "does not read" in result["message"]
    assert old_traffic(serving)


def test_links_in_the_configuration_directory_are_followed(edge: Edge) -> None:
    (edge.etc / "sites-available").mkdir()
    (edge.etc / "sites-available" / "shop").write_text(f"include {edge.etc}/snippets/*.conf;\n")
    (edge.root / "elsewhere").mkdir()
    (edge.root / "elsewhere" / "a.conf").write_text(f'server {{ listen 127.0.0.1:{edge.http_port}; server_name shop.test; return 200 "shop\\n"; }}\n')
    (edge.etc / "snippets").symlink_to(edge.root / "elsewhere")
    (edge.etc / "sites-enabled" / "shop").symlink_to(edge.etc / "sites-available" / "shop")
    assert edge.apply("--strict")["outcome"] == "applied"
    assert edge.ask("shop") == (200, "shop")


# -- ports ----------------------------------------------------------------------------------------------------------------------


def port_open(port: int) -> bool:
    """Whether something answers on a port."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def test_a_held_tcp_port_costs_only_its_service(serving: Edge) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        serving.stage(serving.http("one", "two", "three"), serving.stream() + serving.stream(port, "other"))
        result = serving.apply("--strict")
        assert result["outcome"] == "applied" and f"127.0.0.1:{port}/tcp is held by " in result["message"]
        assert old_traffic(serving) and serving.ask("three") == (200, "three")
        skipped = serving.status()["skipped"]
        assert [entry["port"] for entry in skipped] == [port] and "is held by" in skipped[0]["reason"]
        assert serving.apply()["outcome"] == "unchanged"
    assert serving.apply()["outcome"] == "applied"
    assert serving.ask_tcp(port) == "other" and not serving.status()["skipped"]


def test_a_held_http_port_is_refused_with_its_holder(serving: Edge) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        (serving.base / "http.conf").write_text(f"server {{ listen 127.0.0.1:{port}; }}\n")
        workers = serving.workers()
        result = serving.apply()
        assert (result["outcome"], result["blame"]) == ("failed", "host")
        assert f"127.0.0.1:{port}/tcp is held by {Path('/proc/self/comm').read_text().strip()}; free it" in result["message"]
        assert old_traffic(serving) and serving.workers() == workers


def test_the_first_run_names_who_holds_the_port(edge: Edge) -> None:
    with socket.create_server(("127.0.0.1", edge.http_port)):
        result = edge.apply("--strict")
        assert (result["outcome"], result["blame"], result["serving"]) == ("failed", "host", False)
        assert f"127.0.0.1:{edge.http_port}/tcp is held by {Path('/proc/self/comm').read_text().strip()}; free it" in result["message"]
    assert edge.apply("--strict")["outcome"] == "applied"


def test_more_ports_than_worker_connections(serving: Edge) -> None:
    """nginx refuses more sockets than it has connections. Half of them are for ports, the name-reading port first; what is too many loses, and says why."""
    first = 21000
    listen = f"127.0.0.1:{serving.free_port()}"
    names = "upstream tls_x { server 127.0.0.1:9; }\n"
    names += f"server {{ listen {listen}; ssl_preread on; proxy_pass tls_x; }}\n"
    ports = [port for port in range(first, first + 400) if not port_open(port)][:300]
    serving.stage(serving.http("one", "two", "three"), serving.stream() + "".join(serving.stream(port, "more") for port in ports) + names)
    result = serving.apply("--strict")
    assert result["outcome"] == "applied"
    # 256 connections in the test's nginx.conf; one of the 128 is the echo service's, one reads names.
    assert serving.ask_tcp(ports[125]) == "more" and serving.ask_tcp(ports[126]) == ""
    assert old_traffic(serving) and serving.ask("three") == (200, "three")
    skipped = serving.status()["skipped"]
    assert [entry["port"] for entry in skipped] == ports[126:]
    assert f"is one too many for the 256 worker_connections in {serving.etc}/nginx.conf: public ports get half of them" in skipped[0]["reason"]
    assert serving.apply()["outcome"] == "unchanged"
    conf = serving.etc / "nginx.conf"
    conf.write_text(conf.read_text().replace("worker_connections 256", "worker_connections 700"))
    assert serving.apply("--strict")["outcome"] == "applied"
    assert serving.ask_tcp(ports[299]) == "more" and not serving.status()["skipped"]
    conf.write_text(conf.read_text().replace("worker_connections 700", "worker_connections 100"))
    # With or without the edge's change, what is live no longer fits.
    serving.stage(serving.http("one", "two"))
    assert serving.apply("--strict")["serving"] and serving.ask("three")[0] == 404 and old_traffic(serving)
    assert len(serving.status()["skipped"]) == 252


def test_a_port_that_is_taken_after_the_test(serving: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    """nginx -t says 0 and so does the reload: only asking the running nginx shows that it did not take the change."""
    serving.configure(timeout=1)
    port = serving.free_port()
    serving.stage(serving.http("one", "two", "three"), serving.stream() + serving.stream(port, "other"))
    monkeypatch.setenv("NGINX_EDGE_HALT", "tested")
    process = serving.start("--strict", "--json")
    serving.wait_until(lambda: Path(f"/proc/{process.pid}/stat").read_text().split()[2] == "T", "the program halts")
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        process.send_signal(signal.SIGCONT)
        result = json.loads(process.communicate(timeout=60)[0])
        assert (result["outcome"], result["serving"], process.returncode) == ("failed", True, 1)
        assert "000002 did not come up" in result["message"] and "generation 000001 is live again" in result["message"]
        assert os.readlink(serving.state / "live") == "trees/000001"
        assert old_traffic(serving) and serving.ask("three")[0] == 404
        assert len(reasons(serving)) == 1
        monkeypatch.delenv("NGINX_EDGE_HALT")
        # For two and a half seconds the master still tries to bind for the first candidate.
        serving.configure(timeout=8)
        assert "is held by" in serving.apply("--strict")["message"]
        assert serving.ask("three") == (200, "three")


def test_a_change_that_nginx_does_not_take_is_rolled_back(serving: Edge) -> None:
    """The master is stopped: the reload signal is accepted by the kernel and nothing happens."""
    serving.configure(timeout=1)
    master = serving.master()
    os.kill(master, signal.SIGSTOP)
    try:
        serving.stage(serving.http("one", "two", "three"))
        result = serving.apply()
    finally:
        os.kill(master, signal.SIGCONT)
    assert (result["outcome"], result["serving"]) == ("failed", True)
    assert "did not come up: nginx answers with generation 000001, not 000002" in result["message"]
    assert os.readlink(serving.state / "live") == "trees/000001"
    serving.wait_until(lambda: old_traffic(serving), "the old services answer")
    assert serving.apply()["outcome"] == "applied"
    assert serving.ask("three") == (200, "three")


# -- bad days -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGQUIT, signal.SIGKILL])
def test_a_stopped_nginx_is_started(serving: Edge, how: signal.Signals) -> None:
    serving.stop(how)
    assert not serving.status()["serving"]
    result = serving.apply("--strict")
    assert (result["outcome"], result["serving"]) == ("repaired", True)
    assert old_traffic(serving)


def test_a_stopped_nginx_is_started_with_the_change(serving: Edge) -> None:
    serving.stop()
    serving.stage(serving.http("one", "two", "three"))
    assert serving.apply("--strict")["outcome"] == "applied"
    assert serving.ask("three") == (200, "three")


def test_an_nginx_that_cannot_start_is_explained(serving: Edge) -> None:
    serving.stop()
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", serving.http_port))
        holder.listen()
        result = serving.apply()
        assert (result["outcome"], result["serving"]) == ("failed", False)
        assert f"127.0.0.1:{serving.http_port}/tcp is held by" in result["message"]
    assert serving.apply()["outcome"] == "repaired"
    assert old_traffic(serving)


@pytest.mark.parametrize("nginx_dies", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_each_step(serving: Edge, step: str, nginx_dies: bool) -> None:
    serving.stage(serving.http("one", "two", "three"))
    assert serving.run(crash=step).returncode == -signal.SIGKILL
    assert old_traffic(serving), "traffic flows while nobody has cleaned up yet"
    if nginx_dies:
        serving.stop(signal.SIGKILL)
    result = serving.apply("--strict")
    assert result["serving"], result
    assert old_traffic(serving) and serving.ask("three") == (200, "three")
    state = json.loads((serving.state / "state.json").read_text())
    assert state["pending"] is None and state["live"] == os.readlink(serving.state / "live").split("/")[1]
    assert sorted(path.name for path in (serving.state / "trees").iterdir()) == [entry["generation"] for entry in state["history"]]
    assert serving.apply()["outcome"] == "unchanged"


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_each_step_of_the_first_run(edge: Edge, step: str) -> None:
    edge.stage(edge.http("one", "two"), edge.stream())
    assert edge.run(crash=step).returncode == -signal.SIGKILL
    assert edge.apply("--strict")["serving"]
    assert old_traffic(edge)


def test_killed_with_a_change_that_does_not_come_up(serving: Edge) -> None:
    """Killed after the swap, and the new tree is damaged since: the next run goes back to the last good one."""
    serving.stage(serving.http("one", "two", "three"))
    serving.run(crash="swapped")
    (serving.state / "live" / "http" / "50-edge.conf").write_text("nonsense;\n")
    serving.configure(timeout=1)
    result = serving.apply()
    assert result["serving"] and old_traffic(serving)
    assert serving.ask("three") == (200, "three"), "what is staged is applied in the same run"


def test_the_service_answers_requests_from_its_pipe(serving: Edge) -> None:
    """As systemd starts it: the pipe is descriptor 3, a byte in it is a request, and the program stays for the next one."""
    pipe = serving.root / "apply.request"
    os.mkfifo(pipe)
    command = ["sh", "-c", 'LISTEN_FDS=1 LISTEN_PID=$$; export LISTEN_FDS LISTEN_PID; exec "$@" 3<>"$0"', str(pipe), *serving.command("--service")]
    serving.stage(serving.http("one", "two", "three"))
    service = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        serving.wait_until(lambda: serving.ask("three") == (200, "three"), "what was staged before the start is served", 20)
        for name in ("four", "five"):
            serving.stage(serving.http("one", "two", name))
            with pipe.open("r+b", buffering=0) as request:
                request.write(b"\n\n\n")
            serving.wait_until(lambda name=name: serving.ask(name) == (200, name), f"{name} is served", 20)
            assert service.poll() is None, service.stderr and service.stderr.read()
    finally:
        service.terminate()
        service.communicate(timeout=10)


def test_a_change_that_the_operators_file_held_up_follows_when_it_is_mended(serving: Edge) -> None:
    """No other change may come for days. The journal has one line about the trouble, however often it was tried meanwhile."""
    pipe = serving.root / "apply.request"
    os.mkfifo(pipe)
    serving.configure(retry=0.2)
    broken = serving.etc / "sites-enabled" / "shop"
    broken.write_text("server { listen 127.0.0.1:1; nonsense; }\n")
    serving.stage(serving.http("one", "two", "three"))
    command = ["sh", "-c", 'LISTEN_FDS=1 LISTEN_PID=$$; export LISTEN_FDS LISTEN_PID; exec "$@" 3<>"$0"', str(pipe), *serving.command("--service")]
    service = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        serving.wait_until(lambda: json.loads((serving.state / "state.json").read_text())["counters"]["failed"] >= 3, "it was tried again", 20)
        broken.unlink()
        serving.wait_until(lambda: json.loads((serving.state / "state.json").read_text())["counters"]["applied"] == 2, "what was held up is live", 20)
        assert serving.ask("three") == (200, "three")
    finally:
        service.terminate()
        said = service.communicate(timeout=10)[1]
    assert said.count("failed: ") == 1 and "sites-enabled/shop, line 1" in said, said
    assert len(reasons(serving)) == 1


def test_two_starts_at_once(serving: Edge) -> None:
    serving.stage(serving.http("one", "two", "three"))
    running = [serving.start("--strict", "--json") for _ in range(4)]
    results = [json.loads(process.communicate(timeout=60)[0]) for process in running]
    assert sorted(result["outcome"] for result in results) == ["applied", "unchanged", "unchanged", "unchanged"]
    assert old_traffic(serving)


@pytest.mark.parametrize("damage", ["state lost", "state broken", "link gone", "link dangling", "tree damaged", "state and link lost"])
def test_damage_to_our_own_files_is_repaired(serving: Edge, damage: str) -> None:
    state, link = serving.state / "state.json", serving.state / "live"
    if "state" in damage:
        state.unlink()
    if damage == "state broken":
        state.write_text('{"schema": 1, "history": 3, "live": [')
    if "link" in damage:
        link.unlink()
    if damage == "link dangling":
        link.symlink_to("trees/000099")
    if damage == "tree damaged":
        (serving.state / "trees" / "000001" / "http" / "50-edge.conf").write_text("")
    assert serving.apply("--strict")["serving"]
    assert old_traffic(serving)
    serving.stop()
    assert serving.apply("--strict")["serving"] and old_traffic(serving)


def test_a_full_disk_changes_nothing(edge: Edge, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if os.getuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=192k,mode=755", "tmpfs", str(small)], check=False).returncode != 0:
        pytest.skip("needs the right to mount a small file system")
    other = tmp_path / "other"
    other.mkdir()
    full = type(edge)(other, small / "state")
    try:
        full.stage(full.http("one", "two"), full.stream())
        assert full.apply("--strict")["outcome"] == "applied"
        full.stage(full.http("one", "two", "three"))
        with (small / "ballast").open("wb", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(b"x" * 4096)
            except OSError:
                pass
        result = full.apply()
        assert (result["outcome"], result["blame"], result["serving"]) == ("failed", "host", True)
        assert "No space left on device" in result["message"]
        assert old_traffic(full)
        (small / "ballast").unlink()
        assert full.apply("--strict")["outcome"] == "applied"
        assert full.ask("three") == (200, "three")
    finally:
        full.stop()
        subprocess.run(["umount", "-l", str(small)], check=True)


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the wall clock of the programs that the test starts, and of those that run, to so many seconds from now."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler: apt-get install gcc libc6-dev")
    library, offset = tmp_path / "clock.so", tmp_path / "clock-offset"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(Path(__file__).with_name("clock.c"))], check=True, timeout=60)

    def step(seconds: int) -> None:
        temporary = offset.with_suffix(".new")
        temporary.write_text(str(seconds))
        temporary.rename(offset)

    step(0)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("CLOCK_OFFSET_FILE", str(offset))
    return step


YEAR = 365 * 24 * 3600


@pytest.mark.parametrize("steps", [(YEAR, -YEAR), (-YEAR, YEAR), (-3 * YEAR, 3600, -3600)])
def test_clock_steps_between_runs(serving: Edge, clock: Callable[[int], None], steps: tuple[int, ...]) -> None:
    """Generations, history and failures follow the order of events, whatever the clock says about it."""
    serving.configure(shrink_min_services=1000)
    for number, offset in enumerate(steps):
        clock(offset)
        serving.stage(serving.http("one", "two", f"n{number}"))
        result = serving.apply("--strict")
        assert (result["outcome"], result["generation"]) == ("applied", f"{number + 2:06d}"), result
        assert abs(serving.status()["last"]["time"] - time.time() - offset) < 600, "the program had the other clock"
        assert old_traffic(serving) and serving.ask(f"n{number}") == (200, f"n{number}")
        serving.stage(f"upstream empty{number} {{ }}\n")
        for _ in range(2):
            assert serving.apply()["outcome"] == "failed"
        told = [entry["reason"] for entry in serving.status()["failed"]]
        assert len(told) == number + 1, "the same failure is kept once"
        assert all(f'"empty{index}"' in reason for index, reason in enumerate(told)), "newest last"
    assert [entry["generation"] for entry in serving.status()["history"]] == [f"{number + 1:06d}" for number in range(len(steps) + 1)]
    assert serving.run("--rollback").returncode == 0
    assert serving.status()["generation"] == f"{len(steps):06d}" and old_traffic(serving)


def test_the_guard_outlives_a_clock_that_is_set_back(edge: Edge, clock: Callable[[int], None]) -> None:
    """What was served a moment ago counts, also when that moment is in the future now."""
    edge.stage(many(edge, 10))
    edge.apply("--strict")
    clock(-YEAR)
    edge.stage(many(edge, 6))
    assert edge.apply()["outcome"] == "applied"
    edge.stage(many(edge, 3))
    assert edge.apply()["outcome"] == "refused"


@pytest.mark.parametrize("offset", [YEAR, -YEAR])
@pytest.mark.parametrize("step", ["tested", "swapped", "signalled"])
def test_a_clock_step_in_the_middle_of_a_run(serving: Edge, clock: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, step: str, offset: int) -> None:
    """Deadlines go by the clock that nobody sets: a step ends no waiting early and lets none go on for ever."""
    monkeypatch.setenv("NGINX_EDGE_HALT", step)
    serving.stage(serving.http("one", "two", "three"))
    process = serving.start("--strict", "--json")
    serving.wait_until(lambda: Path(f"/proc/{process.pid}/stat").read_text().split()[2] == "T", "the program halts")
    clock(offset)
    process.send_signal(signal.SIGCONT)
    result = json.loads(process.communicate(timeout=60)[0])
    assert (result["outcome"], result["serving"]) == ("applied", True), result
    assert 0 <= result["duration_ms"] < 60000
    monkeypatch.delenv("NGINX_EDGE_HALT")
    assert abs(serving.status()["last"]["time"] - time.time() - offset) < 600, "the clock was set while the program ran"
    assert old_traffic(serving) and serving.ask("three") == (200, "three")
    assert serving.apply()["outcome"] == "unchanged"


# -- guard, history, rollback ------------------------------------------------------------------------------------------------


def many(edge: Edge, count: int) -> str:
    """A http file with some services."""
    return edge.http(*[f"s{number}" for number in range(count)])


def test_a_shrink_needs_to_be_confirmed(edge: Edge) -> None:
    edge.stage(many(edge, 10))
    edge.apply("--strict")
    workers = edge.workers()
    edge.stage(many(edge, 4))
    for _ in range(2):
        result = edge.apply("--strict")
        assert result["outcome"] == "refused" and "6 of 10 services would vanish at once" in result["message"]
    assert edge.ask("s9") == (200, "s9") and edge.workers() == workers
    assert edge.status()["refused"]["gone_count"] == 6
    assert edge.run("--confirm-shrink").returncode == 0
    assert edge.ask("s9")[0] == 404 and edge.ask("s1") == (200, "s1")
    assert edge.status()["refused"] is None and edge.status()["up_to_date"]


def test_a_shrink_in_steps_is_a_shrink(edge: Edge) -> None:
    edge.stage(many(edge, 10))
    edge.apply("--strict")
    edge.stage(many(edge, 6))
    assert edge.apply()["outcome"] == "applied"
    edge.stage(many(edge, 3))
    assert edge.apply()["outcome"] == "refused"
    edge.stage(many(edge, 8))
    assert edge.apply()["outcome"] == "applied"
    assert edge.status()["refused"] is None


def test_a_change_that_takes_nothing_away_is_no_shrink(edge: Edge) -> None:
    """Services that were let go while there were too few for the guard are not held against one that comes."""
    edge.stage(many(edge, 4))
    edge.apply("--strict")
    edge.stage(many(edge, 1))
    assert edge.apply()["outcome"] == "applied"
    for names in (["s0", "s10"], ["s0", "s10", "s11"]):
        edge.stage(edge.http(*names))
        assert edge.apply()["outcome"] == "applied", names
    assert edge.status()["refused"] is None


def test_services_that_were_never_there_together_are_no_shrink(edge: Edge) -> None:
    """Four that were let go, and one that comes and goes later, are not five that vanish."""
    for names in (["s0", "s1", "s2", "s3"], [], ["s4"], []):
        edge.stage(edge.http(*names))
        assert edge.apply("--strict")["outcome"] == "applied", names
    assert edge.status()["refused"] is None and edge.status()["up_to_date"]


def test_an_empty_catalogue_without_report_lines_is_a_shrink(edge: Edge) -> None:
    with socket.create_server(("127.0.0.1", 0)) as instance:
        text = edge.http(*[f"s{number}" for number in range(6)], report=False)
        edge.stage(text.replace("127.0.0.1:9;", f"127.0.0.1:{instance.getsockname()[1]};"))
        edge.apply("--strict")
        edge.stage("")
        assert edge.apply()["outcome"] == "refused"


def test_a_rollback_without_generations_serves_nothing(edge: Edge) -> None:
    result = json.loads(edge.run("--rollback", "--json").stdout)
    assert (result["outcome"], result["blame"], result["serving"]) == ("failed", "operator", False)


def test_rollback_holds_until_resume(serving: Edge) -> None:
    serving.stage(serving.http("one", "two", "three"))
    serving.apply("--strict")
    assert serving.run("--rollback").returncode == 0
    assert serving.ask("three")[0] == 404 and old_traffic(serving)
    assert serving.apply()["outcome"] == "held"
    assert not serving.status()["up_to_date"] and serving.status()["hold"]["from"] == "000002"
    assert serving.run("--resume").returncode == 0
    assert serving.ask("three") == (200, "three")
    assert serving.run("--rollback", "77").returncode == 1


def test_history_and_diff(serving: Edge) -> None:
    serving.configure(history=3)
    for number in range(4):
        serving.stage(serving.http("one", "two", *[f"n{index}" for index in range(number + 1)]))
        serving.apply("--strict")
    trees = sorted(path.name for path in (serving.state / "trees").iterdir())
    assert trees == ["000003", "000004", "000005"]
    diff = serving.run("--diff").stdout
    assert "+upstream http_n3" in diff and "http_n2" not in diff.replace(" upstream http_n2", "")
    assert "+upstream http_n2" in serving.run("--diff", "3", "5").stdout
    assert serving.run("--diff", "1").returncode == 1


def test_check_judges_and_changes_nothing(serving: Edge) -> None:
    def picture() -> dict[str, int]:
        return {str(path): path.lstat().st_mtime_ns for path in serving.state.rglob("*") if path.is_file() and path.name != "lock"}

    serving.stage(serving.http("one", "two", "three"))
    before, workers = picture(), serving.workers()
    done = serving.run("--check", "--json")
    result = json.loads(done.stdout)
    assert (done.returncode, result["outcome"], result["changed"], result["generation"]) == (0, "unchanged", True, "000001")
    assert "is good and would become generation 000002 with 4 services" in result["message"]
    assert picture() == before and serving.workers() == workers and serving.ask("three")[0] == 404
    assert serving.apply("--strict")["outcome"] == "applied"
    assert "is live as generation 000002" in serving.run("--check").stdout


def test_status_for_people(serving: Edge) -> None:
    done = serving.run("--status")
    assert done.returncode == 0
    for line in ("generation  000001 (nginx serves it)", "up to date  yes", "served      http/one", "served      tcp/echo"):
        assert line in done.stdout.splitlines()
    serving.stage("upstream empty { }\n")
    serving.apply()
    done = serving.run("--status")
    assert done.returncode == 1 and "up to date  NO" in done.stdout and "no servers are inside upstream" in done.stdout


def test_the_sites_own_part_is_applied_checked(serving: Edge) -> None:
    (serving.base / "main.conf").write_text("worker_shutdown_timeout 7s;\n")
    assert serving.apply("--strict")["outcome"] == "applied"
    (serving.base / "main.conf").write_text("worker_shutdown_timeout soon;\n")
    result = serving.apply()
    assert (result["outcome"], result["blame"]) == ("failed", "platform") and "main/edge.conf, line 2" in result["message"]
    assert old_traffic(serving)


# -- the whole time -------------------------------------------------------------------------------------------------------------


def test_traffic_flows_while_everything_goes_wrong(serving: Edge) -> None:
    failures: list[Any] = []
    asked, end = [0], threading.Event()

    def ask() -> None:
        while not end.wait(0.002):
            for answer in (serving.ask("one"), serving.ask_tcp()):
                asked[0] += 1
                if answer not in ((200, "one"), "hello"):
                    failures.append((time.monotonic(), answer))

    serving.configure(shrink_min_services=1000)
    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for number in range(6):
            serving.stage("upstream empty { }\n")
            assert serving.apply()["outcome"] == "failed"
            serving.stage(serving.http("one", "two", f"n{number}"))
            serving.run(crash=STEPS[number])
            assert serving.apply("--strict")["serving"]
    finally:
        end.set()
        thread.join()
    assert asked[0] > 100
    # The window between the end of an old worker's listening and the connections that already wait in it is nginx's own; none is expected on a shared socket.
    assert failures == []
