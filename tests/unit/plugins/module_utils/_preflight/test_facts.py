# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts, out of files as they are found on real hosts."""

from __future__ import annotations

import gzip
import http.server
import platform
import socket
import threading
import typing as t
from pathlib import Path

import pytest

from ansible_collections.trinode.platform.plugins.module_utils._preflight import facts

FIB_TRIE = """Main:
  +-- 0.0.0.0/0 3 0 4
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.0
           /8 host LOCAL
        |-- 127.0.0.1
           /32 host LOCAL
     +-- 192.0.2.0/24 2 0 2
        |-- 192.0.2.0
           /24 link UNICAST
        |-- 192.0.2.129
           /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
Local:
  +-- 0.0.0.0/0 3 0 4
        |-- 192.0.2.129
           /32 host LOCAL
"""


def write(root: Path, path: str, text: str) -> None:
    """A file below the root."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n', ("debian", "12", "Debian GNU/Linux 12 (bookworm)")),
        ("ID=ubuntu\nVERSION_ID='24.04'\n# NAME=x\nNAME=Ubuntu\n", ("ubuntu", "24.04", "Ubuntu")),
        ("ID=arch\n", ("arch", "", "arch")),
        ("", ("", "", "an unknown system")),
    ],
)
def test_os_release(text: str, expected: tuple[str, str, str]) -> None:
    found = facts.parse_os_release(text)
    assert (found["distribution"], found["version"], found["name"]) == expected


def test_addresses() -> None:
    six = "20010db8000000000000000000000001 02 40 00 80     eth0\n00000000000000000000000000000001 01 80 10 80       lo\n"
    assert facts.local_addresses(FIB_TRIE, six) == ["127.0.0.1", "192.0.2.129", "2001:db8::1", "::1"]


def test_routes_and_callers() -> None:
    route = (
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
        "eth0\t000012AC\t010200C0\t0003\t0\t0\t0\t0000FEFF\t0\t0\t0\n"
        "docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
    )
    assert facts.routes(route) == ["192.0.2.0/24", "172.17.0.0/16"]
    head = "  sl  local_address rem_address   st tx_queue rx_queue\n"
    tcp = f"{head}   0: 810200C0:0016 070311AC:D431 01 0:0\n   1: 00000000:0016 00000000:0000 0A 0:0\n   2: 0100007F:0016 0100007F:D431 01 0:0\n"
    mapped = f"{head}   0: 0000000000000000FFFF0000810200C0:0016 0000000000000000FFFF0000080311AC:D431 01 0:0\n"
    assert facts.callers(tcp, mapped) == ["172.17.3.7", "172.17.3.8"]
    assert facts.routes("") == [] and facts.callers("", "") == []


def test_files_of_another_consul(tmp_path: Path) -> None:
    assert facts.foreign_consul_files(str(tmp_path)) == []
    for name in ("consul.json", "tokens.json", "operator.token", "tls/ca.json", "consul.hcl", "web.json", "consul.env", "consul.json.bak"):
        write(tmp_path, f"etc/consul.d/{name}", "x")
    assert facts.foreign_consul_files(str(tmp_path)) == ["/etc/consul.d/consul.hcl", "/etc/consul.d/web.json"]


def test_a_unit_of_another_consul(tmp_path: Path) -> None:
    root, unit = str(tmp_path), {"LoadState": "loaded", "FragmentPath": "/lib/systemd/system/consul.service"}
    assert facts.foreign_consul_unit({"LoadState": "not-found"}, "/opt", root) == ""
    assert facts.foreign_consul_unit(unit, "/opt", root) == "/lib/systemd/system/consul.service"
    write(tmp_path, "usr/local/bin/consul", "a program of its own")
    assert facts.foreign_consul_unit(unit, str(tmp_path / "opt"), root) == "/lib/systemd/system/consul.service"
    write(tmp_path, "opt/consul/1.22.5/consul", "the platform's")
    (tmp_path / "usr/local/bin/consul").unlink()
    (tmp_path / "usr/local/bin/consul").symlink_to(tmp_path / "opt/consul/1.22.5/consul")
    assert facts.foreign_consul_unit(unit, "/opt", root) == ""


def test_name_servers_behind_the_stub_of_resolved(tmp_path: Path) -> None:
    write(tmp_path, "etc/resolv.conf", "search x\nnameserver 127.0.0.53\noptions edns0\n")
    assert facts.dns_servers(str(tmp_path)) == ["127.0.0.53"]
    write(tmp_path, "run/systemd/resolve/resolv.conf", "nameserver 192.0.2.53\nnameserver 192.0.2.53\nnameserver 192.0.2.54\n")
    assert facts.dns_servers(str(tmp_path)) == ["192.0.2.53", "192.0.2.54"]
    write(tmp_path, "etc/resolv.conf", "nameserver 127.0.0.1\n")
    assert facts.dns_servers(str(tmp_path)) == ["127.0.0.1"]
    (tmp_path / "etc/resolv.conf").unlink()
    assert facts.dns_servers(str(tmp_path)) == []


def test_first_process(tmp_path: Path) -> None:
    write(tmp_path, "proc/1/comm", "systemd\n")
    assert not facts.runs_systemd(str(tmp_path))
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert facts.runs_systemd(str(tmp_path))
    write(tmp_path, "proc/1/comm", "init\n")
    assert not facts.runs_systemd(str(tmp_path))


def test_resources(tmp_path: Path) -> None:
    assert facts.memory_mb("MemTotal:        1015808 kB\nMemFree: 1 kB\n") == 992
    assert facts.memory_mb("") == 0
    assert facts.free_mb(str(tmp_path / "not" / "there")) > 0


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"sys/module/veth/x": ""}, True),
        ({"config": "CONFIG_VETH=y\n"}, True),
        ({"config": "CONFIG_VETH=m\n"}, None),
        ({"config": "# CONFIG_VETH is not set\n"}, False),
        ({"lib/modules/R/modules.dep": "kernel/drivers/net/veth.ko.zst:\n", "config": "CONFIG_VETH=m\n"}, True),
        ({"lib/modules/R/modules.builtin": "kernel/drivers/net/veth.ko\n"}, True),
        ({"lib/modules/R/modules.dep": "kernel/net/bridge/bridge.ko:\n", "config": "CONFIG_VETH=m\n"}, False),
        ({"boot/config-R": "CONFIG_VETH=y\n"}, True),
    ],
)
def test_kernel_features(tmp_path: Path, files: dict[str, str], expected: bool | None) -> None:
    for path, text in files.items():
        if path == "config":
            (tmp_path / "proc").mkdir()
            (tmp_path / "proc/config.gz").write_bytes(gzip.compress(text.encode()))
        else:
            write(tmp_path, path, text)
    assert facts.feature_known("veth", "R", facts.kernel_config("R", str(tmp_path)), str(tmp_path)) is expected


def test_overlay_is_a_file_system_too(tmp_path: Path) -> None:
    write(tmp_path, "proc/filesystems", "nodev\tsysfs\nnodev\toverlay\n")
    assert facts.feature_known("overlay", "R", "", str(tmp_path)) is True


def test_what_was_tried_counts_more(tmp_path: Path) -> None:
    write(tmp_path, f"boot/config-{platform.release()}", "CONFIG_OVERLAY_FS=y\n")
    found = facts.kernel_features(str(tmp_path), lambda: {"veth": True, "bridge": False})
    assert found == {"overlay": True, "veth": True, "bridge": False, "nat": False}


def test_cgroups(tmp_path: Path) -> None:
    root = str(tmp_path)
    write(tmp_path, "proc/mounts", "proc /proc proc rw 0 0\n")
    assert facts.cgroup_controllers(root) is None
    write(tmp_path, "proc/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n")
    write(tmp_path, "sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n")
    assert facts.cgroup_controllers(root) == ["cpu", "cpuset", "io", "memory", "pids"]
    (tmp_path / "sys/fs/cgroup/cgroup.controllers").unlink()
    write(tmp_path, "proc/cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t2\t1\nmemory\t2\t2\t0\n")
    assert facts.cgroup_controllers(root) == ["cpu"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\nOK", ""),
        (b"HTTP/1.0 500 Internal Server Error\r\n\r\n", "answered 'HTTP/1.0 500 Internal Server Error'"),
        (None, "no answer on"),
    ],
)
def test_the_engine_is_asked(tmp_path: Path, answer: bytes | None, reason: str) -> None:
    path = str(tmp_path / "docker.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.recv(1000)
                if answer:
                    client.sendall(answer)
                else:
                    client.recv(1000)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        found = facts.ping(path, 0.5)
        thread.join(5)
    assert found == "" if not reason else reason in found


def test_an_engine_that_is_not_there(tmp_path: Path) -> None:
    assert facts.ping(str(tmp_path / "none")).endswith("No such file or directory")


RELEASE = {"product": "consul", "version": "1.2.3"}


def test_an_installed_release_needs_no_mirror(tmp_path: Path) -> None:
    write(tmp_path, "consul/1.2.3/consul", "binary")
    state = facts.artifact_state(RELEASE, "amd64", str(tmp_path), "https://mirror.example", pytest.fail)
    assert state["installed"]
    assert state["url"] == ""


def test_a_directory_is_not_looked_for_on_the_node(tmp_path: Path) -> None:
    state = facts.artifact_state(RELEASE, "amd64", str(tmp_path), "/mirror", pytest.fail)
    assert (state["installed"], state["url"], state["reason"]) == (False, "", "")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((f"{'0' * 64}  consul_1.2.3_linux_amd64.zip\n", ""), ""),
        ((f"{'0' * 64}  consul_1.2.3_linux_arm64.zip\n", ""), "it does not list consul_1.2.3_linux_amd64.zip"),
        (("", "it answers 404 Not Found"), "it answers 404 Not Found"),
    ],
)
def test_a_url_is_asked(tmp_path: Path, answer: tuple[str, str], reason: str) -> None:
    asked = []

    def get(url: str) -> tuple[str, str]:
        asked.append(url)
        return answer

    trusting, mirror = {**RELEASE, "trust_mirror": True}, "https://me:secret@mirror.example/x/"
    state = facts.artifact_state(trusting, "amd64", str(tmp_path), mirror, get)
    assert state["reason"] == reason
    assert asked == ["https://me:secret@mirror.example/x/consul/1.2.3/consul_1.2.3_SHA256SUMS"]
    assert state["url"] == "https://mirror.example/x/consul/1.2.3/consul_1.2.3_SHA256SUMS"


def test_a_release_that_only_its_mirror_vouches_for_is_reported(tmp_path: Path) -> None:
    text = f"{'0' * 64}  consul_1.2.3_linux_amd64.zip\n"

    def ask(wanted: dict[str, t.Any], mirror: str) -> str:
        return str(facts.artifact_state(wanted, "amd64", str(tmp_path), mirror, lambda _url: (text, ""))["reason"])

    reason = ask(RELEASE, "https://me:secret@mirror.example")
    assert "no checksum of consul_1.2.3_linux_amd64.zip is known" in reason and "secret" not in reason
    assert ask({**RELEASE, "checksums": {"amd64": "0" * 64}}, "http://mirror.example") == ""


def test_fetch() -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/there" else 404)
            self.end_headers()
            self.wfile.write(b"text")

        def log_message(self, *args: t.Any) -> None:
            """Silence."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_address[1]}"
        assert facts.fetch(f"{base}/there") == ("text", "")
        assert facts.fetch(f"{base}/other") == ("", "it answers 404 Not Found")
        server.shutdown()
    assert "refused" in facts.fetch(f"{base}/there")[1].lower()


def test_this_machine() -> None:
    found = facts.gather()
    assert "127.0.0.1" in found["addresses"]
    assert found["memory_mb"] > 0
