# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd-resolved: settings that refuse a private domain, and the program that brings it back to its first server."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ansible_collections.trinode.platform.plugins.module_utils._resolver import resolved
from ansible_collections.trinode.platform.plugins.module_utils._resolver.manager import System

SITE = "/etc/systemd/resolved.conf.d/site.conf"


class Host(System):
    """A host in a directory."""

    def __init__(self, root: Path) -> None:
        super().__init__(lambda _command: (0, "", ""), str(root))

    def put(self, path: str, text: str) -> None:
        """Write a file."""
        file = Path(self.path(path))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


@pytest.fixture(name="host")
def fixture_host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize("value", ["yes", "true", "1", "on", "YES", "allow-downgrade"])
def test_dnssec_is_an_obstacle_for_a_domain_that_is_not_signed(host: Host, value: str) -> None:
    host.put(SITE, f"[Resolve]\nDNSSEC = {value}\n")
    said = resolved.obstacle(host, "consul")
    assert said.startswith(f"{SITE}: DNSSEC={value} ")
    assert "/etc/dnssec-trust-anchors.d/consul.negative" in said and "DNSSEC=no" in said


@pytest.mark.parametrize("value", ["yes", "true", "1", "on"])
def test_tls_to_every_name_server_is_an_obstacle(host: Host, value: str) -> None:
    host.put("/etc/systemd/resolved.conf", f"[Resolve]\nDNSOverTLS={value}\n")
    assert "/etc/systemd/resolved.conf: DNSOverTLS=" in resolved.obstacle(host, "consul")


@pytest.mark.parametrize("text", ["", "#DNSSEC=yes\n", "; DNSOverTLS=yes\n", "DNSSEC=no\n", "DNSOverTLS=opportunistic\n", "DNSSEC=yes\nDNSSEC=no\n"])
def test_everything_else_is_no_obstacle(host: Host, text: str) -> None:
    host.put(SITE, f"[Resolve]\n{text}")
    assert resolved.obstacle(host, "consul") == ""


def test_the_last_drop_in_counts_and_hides_its_namesakes(host: Host) -> None:
    host.put("/etc/systemd/resolved.conf", "DNSSEC=no\n")
    host.put("/usr/lib/systemd/resolved.conf.d/90-vendor.conf", "DNSSEC=yes\n")
    assert "/usr/lib/systemd/resolved.conf.d/90-vendor.conf" in resolved.obstacle(host, "consul")
    host.put("/etc/systemd/resolved.conf.d/90-vendor.conf", "# nothing\n")
    assert resolved.obstacle(host, "consul") == ""


@pytest.mark.parametrize(("line", "clear"), [("consul", True), ("Consul.", True), ("; consul", False), ("other", False)])
def test_a_negative_trust_anchor_exempts_the_domain(host: Host, line: str, clear: bool) -> None:
    host.put(SITE, "DNSSEC=yes\n")
    host.put("/etc/dnssec-trust-anchors.d/site.negative", f"10.in-addr.arpa\n{line}\n")
    assert (resolved.obstacle(host, "consul") == "") is clear


def test_an_empty_assignment_starts_the_list_of_servers_anew(host: Host) -> None:
    host.put("/etc/systemd/resolved.conf", "DNS=10.0.0.1\n")
    host.put(SITE, "DNS=\nDNS=10.0.0.2 10.0.0.3\n")
    assert resolved.servers(host) == ["10.0.0.2", "10.0.0.3"]


# The program that is put on the host, with stand-ins for the two commands that it runs.

_BUSCTL = "#!/bin/sh\ncat {place}/current\n"
_SYSTEMCTL = '#!/bin/sh\necho "$@" >> {place}/calls\nif [ "$1" = {works} ]; then echo \'{first}\' > {place}/current; fi\n'
FIRST, OTHER, NONE = "(iiay) 0 2 4 127 0 0 1", "(iiay) 0 2 4 192 168 0 130", "(iiay) 0 0 0"


def _run(place: Path, current: str, works: str, port: int) -> list[str]:
    for name, text in {"busctl": _BUSCTL, "systemctl": _SYSTEMCTL}.items():
        (place / name).write_text(text.format(place=place, works=works, first=FIRST), encoding="utf-8")
        (place / name).chmod(0o755)
    (place / "current").write_text(f"{current}\n", encoding="utf-8")
    program = resolved.return_files("# header", "127.0.0.1", "consul")[resolved.RETURN_PROGRAM].text or ""
    assert "(SERVER, 53)" in program
    file = place / "program"
    file.write_text(program.replace("(SERVER, 53)", f"(SERVER, {port})"), encoding="utf-8")
    subprocess.run([sys.executable, str(file)], env={"PATH": f"{place}:/usr/bin:/bin"}, check=True, timeout=30)
    calls = place / "calls"
    return calls.read_text(encoding="utf-8").splitlines() if calls.exists() else []


@pytest.fixture(name="agent")
def fixture_agent() -> int:
    """The port of a name server that answers one question with the same bytes and no error."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listening.bind(("127.0.0.1", 0))

    def answer() -> None:
        question, asker = listening.recvfrom(4096)
        assert b"\x06consul\x00\x00\x06\x00\x01" in question
        listening.sendto(question, asker)

    threading.Thread(target=answer, daemon=True).start()
    return int(listening.getsockname()[1])


@pytest.mark.parametrize(
    ("works", "calls"),
    [("try-reload-or-restart", ["try-reload-or-restart"]), ("try-restart", ["try-reload-or-restart", "try-restart"])],
)
def test_it_returns_to_the_first_server_that_answers(tmp_path: Path, agent: int, works: str, calls: list[str]) -> None:
    assert _run(tmp_path, OTHER, works, agent) == [f"{call} systemd-resolved.service" for call in calls]


@pytest.mark.parametrize("current", [FIRST, NONE, "", "Failed to get property"])
def test_it_leaves_alone_what_needs_no_return(tmp_path: Path, agent: int, current: str) -> None:
    assert _run(tmp_path, current, "try-restart", agent) == []


def test_it_does_not_return_to_a_server_that_is_down(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        port = int(closed.getsockname()[1])
    assert _run(tmp_path, OTHER, "try-restart", port) == []
