# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said about each thing that the nodes tell."""

from __future__ import annotations

import copy
import hashlib
import typing as t
from pathlib import Path

import pytest

from ansible_collections.trinode.platform.plugins.module_utils._host.ports import Node, parse_ports
from ansible_collections.trinode.platform.plugins.plugin_utils._certificates.tls import Checked, Finding
from ansible_collections.trinode.platform.plugins.plugin_utils._preflight.inventory_rules import Names, Problem
from ansible_collections.trinode.platform.plugins.plugin_utils._preflight.report import Host, Report, Settings, archive_fault, failure, make_report, sentence

NODES = [Node(f"n{number}", f"n{number}", f"192.0.2.{number}", "server", True, number < 3) for number in (1, 2, 3)]
PORTS = parse_ports(
    [
        {"port": 8300, "nodes": ["server"], "peers": ["server"], "owner": ["consul"], "purpose": "Consul RPC"},
        {"port": 8301, "protocol": "udp", "nodes": ["server"], "peers": ["server"], "owner": ["consul"], "purpose": "Consul gossip"},
        {"port": 0, "nodes": ["docker"], "peers": ["docker", "edge"], "purpose": "published container ports"},
    ]
)
SETTINGS = Settings(Names("dc1", "consul", "apps.hospital.example"), {"debian": ["11", "12", "13"], "ubuntu": ["22.04", "24.04"]})
FACTS: dict[str, t.Any] = {
    "distribution": "debian",
    "version": "12",
    "name": "Debian GNU/Linux 12 (bookworm)",
    "architecture": "x86_64",
    "kernel": "6.1.0-40-amd64",
    "python": "3.11.2",
    "root": True,
    "systemd": True,
    "dns": ["192.0.2.53"],
    "memory_mb": 4000,
    "free_mb": {"/opt": 9000, "/var/lib": 9000},
    "clock": 0.0,
    "features": {"overlay": True, "bridge": True, "veth": True, "nat": None},
    "cgroups": ["cpu", "memory"],
    "proc_sys_read_only": False,
    "docker": {"load": "loaded", "active": "active", "sub": "running", "result": "success", "engines": [], "reason": ""},
}
ARTIFACT = {"product": "consul", "version": "1.2.3", "installed": False, "url": "", "reason": ""}


def hosts(**facts: t.Any) -> dict[str, Host]:
    """Three good hosts; the facts of the first can be changed."""
    made = {}
    for number in (1, 2, 3):
        values = copy.deepcopy(FACTS)
        values["addresses"] = ["127.0.0.1", f"192.0.2.{number}", "fe80::1"]
        if number == 1:
            values.update(facts)
        others = [f"n{other}" for other in (1, 2, 3) if other != number]
        made[f"n{number}"] = Host(
            variables={"problems": []},
            facts={"facts": values, "conflicts": [], "artifacts": []},
            listener={"token": f"t{number}", "pid": number, "port": 40000 + number},
            probe={"results": [result(other, 40000 + int(other[1]), sample=True, purpose="published container ports") for other in others]},
            stop={"stopped": True, "seen": []},
        )
    return made


def result(peer: str, port: int, protocol: str = "tcp", ok: bool = True, **more: t.Any) -> dict[str, t.Any]:
    """One result of a probe."""
    values = {"peer": peer, "port": port, "protocol": protocol, "ok": ok, "sample": False, "purpose": "Consul gossip", **more}
    if ok and protocol == "tcp":
        values.setdefault("offset", 0.001)
        values.setdefault("rtt", 0.002)
    return values


def report(found: dict[str, Host], settings: Settings = SETTINGS, nodes: list[Node] | None = None) -> Report:
    """The report on some hosts."""
    return make_report(NODES if nodes is None else nodes, PORTS, found, settings)


def only(found: Report) -> str:
    """The text of the only problem."""
    assert len(found.problems) == 1, sentence(found, 3)
    return str(found.problems[0])


def test_good_hosts() -> None:
    found = report(hosts())
    assert (found.problems, found.warnings, found.unchecked, found.paths) == ([], [], [], 6)
    assert sentence(found, 3) == "Preflight found no problem: 3 hosts and 6 paths between them are ready."


@pytest.mark.parametrize(
    ("facts", "check", "text"),
    [
        (
            {"distribution": "fedora", "version": "44", "name": "Fedora Linux 44"},
            "platform",
            "n1 (192.0.2.1) runs Fedora Linux 44 (fedora 44), which is not supported; use one of debian 11, 12, 13; ubuntu 22.04, 24.04, or add yours to",
        ),
        ({"version": "10"}, "platform", "(debian 10), which is not supported"),
        ({"version": ""}, "platform", "(debian without a version)"),
        ({"architecture": "riscv64"}, "architecture", "n1 (192.0.2.1) has the unknown architecture 'riscv64'; use an x86_64 or an aarch64 machine."),
        ({"architecture": "armv7l"}, "architecture", "has the unknown architecture 'armv7l'"),
        ({"python": "3.8.20"}, "python", "n1 (192.0.2.1) is worked on by Python 3.8.20; let ansible_python_interpreter name Python 3.9 or later."),
        ({"root": False}, "root", "n1 (192.0.2.1): Ansible is not root there; set become: true"),
        ({"systemd": False}, "systemd", "n1 (192.0.2.1) was not started by systemd"),
        (
            {"addresses": ["127.0.0.1", "::1", "192.0.2.77", "fe80::2"]},
            "address",
            "n1: the platform_address 192.0.2.1 is not on the host, which has 192.0.2.77; correct platform_address",
        ),
        ({"kernel": "3.16.0-4-amd64"}, "kernel", "n1 (192.0.2.1): the kernel 3.16.0-4-amd64 is too old for containers; boot a kernel of 4.0 or later."),
        ({"features": {"overlay": False}}, "kernel", "n1 (192.0.2.1): the kernel 6.1.0-40-amd64 lacks the overlay file system"),
        ({"features": {"veth": False}}, "kernel", "lacks virtual Ethernet pairs"),
        ({"features": {"nat": False}}, "kernel", "lacks address translation, through which ports are published; boot the distribution's own kernel"),
        ({"cgroups": None}, "kernel", "n1 (192.0.2.1) has no control groups mounted"),
        ({"proc_sys_read_only": True}, "kernel", "n1 (192.0.2.1) has /proc/sys mounted read-only, so that Docker cannot set up its network; run: mount -o"),
        (
            {"docker": {"load": "loaded", "active": "failed", "result": "exit-code"}},
            "docker",
            "n1 (192.0.2.1): Docker is not answering: docker.service has failed (exit-code); see: journalctl -u docker; then run: systemctl restart docker.",
        ),
        (
            {"docker": {"load": "loaded", "active": "active", "reason": "no answer on /var/run/docker.sock in 3 s"}},
            "docker",
            "n1 (192.0.2.1): Docker is not answering although docker.service is active: no answer on /var/run/docker.sock in 3 s; see: journalctl -u docker",
        ),
        ({"docker": {"load": "masked", "active": "inactive"}}, "docker", "docker.service is masked; run: systemctl unmask docker."),
        ({"docker": {"load": "bad-setting", "active": "inactive"}}, "docker", "docker.service is not readable by systemd; see: systemctl status docker."),
        (
            {"consul": {"unit": "/lib/systemd/system/consul.service", "files": []}},
            "consul",
            "n1 (192.0.2.1): /lib/systemd/system/consul.service runs a Consul of another installation; end it (systemctl disable --now consul)",
        ),
        (
            {"consul": {"unit": "", "files": ["/etc/consul.d/consul.hcl"]}},
            "consul",
            "n1 (192.0.2.1): /etc/consul.d/consul.hcl is not of this platform, whose agent does not read it; move what is to stay",
        ),
        (
            {"consul": {"unit": "", "files": ["/etc/consul.d/a.hcl", "/etc/consul.d/b.json"]}},
            "consul",
            "n1 (192.0.2.1): /etc/consul.d/a.hcl and /etc/consul.d/b.json are not of this platform, whose agent does not read them",
        ),
    ],
)
def test_one_host(facts: dict[str, t.Any], check: str, text: str) -> None:
    found = report(hosts(**facts))
    assert text in only(found)
    assert (found.problems[0].host, found.problems[0].check) == ("n1", check)


def test_a_host_without_docker_needs_no_kernel_features() -> None:
    nodes = [Node("n1", "n1", "192.0.2.1", "server"), *NODES[1:]]
    assert report(hosts(features={"overlay": False}, cgroups=None, proc_sys_read_only=True, kernel="3.2.0"), nodes=nodes).problems == []


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"memory_mb": 512}, "n1 (192.0.2.1) has 512 MB of memory; give it 900 MB or more."),
        ({"free_mb": {"/opt": 100, "/var/lib": 9000}}, "n1 (192.0.2.1) has 100 MB free for /opt; make it 2048 MB or more."),
        ({"dns": []}, "n1 (192.0.2.1) has no name server in /etc/resolv.conf"),
        ({"cgroups": ["cpu"]}, "has no memory control group"),
        ({"docker": {"load": "loaded", "active": "inactive"}}, "n1 (192.0.2.1): docker.service is stopped; this run starts it."),
    ],
)
def test_warnings(facts: dict[str, t.Any], text: str) -> None:
    found = report(hosts(**facts))
    assert found.problems == []
    assert [text in str(warning) for warning in found.warnings] == [True]


CONFLICT = {
    "port": 53,
    "protocol": "udp",
    "address": "127.0.0.1",
    "process": "dnsmasq",
    "pid": 812,
    "user": "dnsmasq",
    "unit": "dnsmasq.service",
    "container": "",
    "owner": ["consul"],
    "purpose": "Consul DNS",
}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {},
            "n1 (192.0.2.1): port 53/udp at 127.0.0.1 is held by dnsmasq (pid 812, user dnsmasq, dnsmasq.service), but Consul DNS needs it; stop it",
        ),
        ({"process": "my-dns", "unit": "my-dns.service"}, "stop it (systemctl disable --now my-dns) or give it another port."),
        ({"process": "nc", "unit": "session-1.scope"}, "is held by nc (pid 812, user dnsmasq, session-1.scope), but Consul DNS needs it; end it (kill 812)"),
        ({"process": "docker-proxy", "unit": "docker.service"}, "remove the container that publishes it (docker ps --filter publish=53)."),
        ({"process": "app", "unit": "", "container": "ab" * 32}, "is held by app (pid 812, user dnsmasq, container abababababab)"),
        ({"process": "app", "unit": "", "container": "ab" * 32}, "remove the container (docker rm -f abababababab) or give it another port."),
        ({"process": "systemd", "unit": "init.scope"}, "find its socket unit (systemctl list-sockets) and disable that."),
        ({"process": "", "pid": 0, "unit": ""}, "is held by no process that can be seen"),
        ({"address": "::"}, "port 53/udp at [::] is held"),
    ],
)
def test_held_ports(changes: dict[str, t.Any], text: str) -> None:
    found = hosts()
    found["n1"].facts = {**found["n1"].facts, "conflicts": [{**CONFLICT, **changes}]}
    assert text in only(report(found))


def test_blocked_paths() -> None:
    found = hosts()
    found["n1"].probe = {
        "results": [
            result("n3", 8301, "udp", ok=False, reason="no answer in 2 s"),
            result("n3", 8300, "tcp", ok=False, reason="refused", purpose="Consul RPC"),
            result("n2", 8301, "udp"),
        ]
    }
    texts = [str(problem) for problem in report(found).problems]
    assert texts == [
        "n1 (192.0.2.1) cannot reach n3 (192.0.2.3) on 8301/udp (Consul gossip): no answer in 2 s; allow it in the firewalls of both hosts and between them.",
        "n1 (192.0.2.1) cannot reach n3 (192.0.2.3) on 8300/tcp (Consul RPC): refused; allow it in the firewalls of both hosts and between them.",
    ]


def test_blocked_ports_of_a_pair_are_joined() -> None:
    found = hosts()
    found["n1"].probe = {
        "results": [
            result("n3", 40003, ok=False, reason="no answer in 2 s", sample=True, purpose="published container ports"),
            result("n3", 8301, "udp", ok=False, reason="no answer in 2 s"),
            # Nothing needs this sample; it only carries the clock.
            result("n2", 40002, ok=False, reason="no answer in 2 s", sample=True, purpose=""),
        ]
    }
    text = only(report(found))
    assert "on 40003/tcp (a free port, as Docker publishes them) and 8301/udp (published container ports and Consul gossip): no answer in 2 s" in text


def test_an_answer_that_is_dropped() -> None:
    found = hosts()
    found["n1"].probe = {"results": [result("n3", 8301, "udp", ok=False, reason="no answer in 2 s")]}
    found["n3"].stop = {"stopped": True, "seen": [{"node": "n1", "port": 8301, "protocol": "udp"}]}
    assert "no answer in 2 s, although the question arrived there: its answer is dropped" in only(report(found))


@pytest.mark.parametrize(("offset", "rtt", "bad"), [(4.9, 0.0, False), (5.2, 0.6, False), (5.2, 0.2, True), (-5.2, 0.2, True)])
def test_clocks_within_the_round_trip(offset: float, rtt: float, bad: bool) -> None:
    found = hosts()
    found["n1"].probe = {"results": [result("n2", 1, offset=offset, rtt=rtt)]}
    assert bool(report(found).problems) is bad


def test_a_pair_of_clocks_is_named_once_and_below_the_one_that_is_wrong() -> None:
    found = hosts()
    found["n1"].probe = {"results": [result("n2", 1), result("n3", 1, offset=3605.0)]}
    found["n2"].probe = {"results": [result("n1", 1), result("n3", 1, offset=3605.1)]}
    found["n3"].probe = {"results": [result("n1", 1, offset=-3605.0), result("n2", 1, offset=-3605.0)]}
    problems = report(found).problems
    assert [problem.host for problem in problems] == ["n3", "n3"]
    assert str(problems[0]) == (
        "the clocks of n3 (192.0.2.3) and n1 (192.0.2.1) differ by 3605.0 s: n3 is ahead; let NTP set them (timedatectl set-ntp true, or chrony) and "
        "compare with: timedatectl."
    )


def test_a_host_that_cannot_be_reached_spoils_nothing() -> None:
    found = hosts()
    found["n2"] = Host(facts={"unreachable": True, "msg": "Task failed: Failed to connect:\n no route"}, listener={"skipped": True}, probe={"skipped": True})
    report_ = report(found)
    assert only(report_) == "n2 cannot be reached by Ansible: Failed to connect: no route; correct ansible_host, ansible_user or the network."
    assert report_.unchecked == ["n2"]


def test_a_module_that_fails() -> None:
    found = hosts()
    found["n2"] = Host(facts={"failed": False, "msg": "not found.", "module_stderr": "sh: python9\n"})
    assert only(report(found)).startswith("n2 cannot be read: not found: sh: python9; see that Python 3.9")
    assert len(failure({"msg": "x" * 1000})) <= 400
    assert failure({}) == "no answer"


def test_a_listener_and_a_probe_that_fail() -> None:
    found = hosts()
    found["n1"].listener = {"msg": "cannot listen on 192.0.2.1: boom"}
    found["n1"].probe = {"skipped": True}
    found["n2"].probe = {"msg": "boom"}
    found["n3"].stop = {"stopped": False, "msg": "did not end"}
    assert [str(problem) for problem in report(found).problems] == [
        "n1 (192.0.2.1): the paths to it cannot be tried: cannot listen on 192.0.2.1: boom; correct this and run again.",
        "n2 (192.0.2.2): the paths from it cannot be tried: boom; correct this and run again.",
        "n3 (192.0.2.3): the listener of this check (process 3) does not end: did not end; it ends by itself within a minute.",
    ]


def test_hosts_outside_of_the_run_are_named() -> None:
    found = {"n2": hosts()["n2"]}
    found["n2"].probe = {"results": []}
    report_ = report(found)
    assert report_.problems == []
    assert sentence(report_, 1).splitlines() == [
        "Preflight found no problem: 1 host and 0 paths between them are ready.",
        "Not checked, because no part of this run or not reached: n1, n3.",
    ]


def test_a_host_that_is_no_node() -> None:
    found = {**hosts(), "stranger": Host()}
    assert "stranger takes part in the play but is no node of the platform" in only(report(found))


def test_variables_are_told_once_for_all_hosts() -> None:
    found = hosts()
    problem = {"check": "variable", "message": "nginx_prot is no variable", "remedy": "remove it"}
    for host in found.values():
        host.variables = {"problems": [problem]}
    assert only(report(found)) == "n1, n2 and n3: nginx_prot is no variable; remove it."


def test_all_problems_in_the_order_of_the_inventory() -> None:
    found = hosts(systemd=False)
    found["n3"].facts["facts"]["root"] = False  # type: ignore[index]
    found["n3"].facts["facts"]["architecture"] = "s390x"  # type: ignore[index]
    settings = Settings(Names("dc 1", "consul", "apps.hospital.example"), SETTINGS.platforms)
    report_ = report(found, settings)
    assert [(problem.host, problem.check) for problem in report_.problems] == [
        ("", "datacenter"),
        ("n1", "systemd"),
        ("n3", "architecture"),
        ("n3", "root"),
    ]
    lines = sentence(report_, 3).splitlines()
    assert lines[0] == "Preflight found 4 problems. Nothing was changed on any host."
    assert [line.split(".")[0] for line in lines[1:]] == ["1", "2", "3", "4"]


def test_tolerated_checks_only_warn() -> None:
    settings = Settings(SETTINGS.names, SETTINGS.platforms, tolerated=["systemd"])
    report_ = report(hosts(systemd=False), settings)
    assert report_.problems == []
    assert [warning.check for warning in report_.warnings] == ["systemd"]


# --- the edge ---


def test_the_edge_description_is_checked() -> None:
    settings = Settings(SETTINGS.names, SETTINGS.platforms, edge={"domain": "apps.hospital.example", "http_port": 0, "ipv7": True})
    assert [str(problem) for problem in report(hosts(), settings).problems] == [
        "The edge description is wrong: 'ipv7' is not a known key, the nearest known key is ipv6; correct platform_edge.",
        "The edge description is wrong: http_port: 0 is not allowed, it must be an integer from 1 to 65535; correct platform_edge.",
    ]
    assert report(hosts(), Settings(SETTINGS.names, SETTINGS.platforms, edge={"domain": "apps.hospital.example"})).problems == []


def test_a_release_without_security_updates_is_warned_of_once() -> None:
    old = {"version": "11", "name": "Debian GNU/Linux 11 (bullseye)"}
    found = hosts(**old)
    assert [str(warning) for warning in report(found).warnings] == [
        "n1 runs Debian GNU/Linux 11 (bullseye), which has had no security updates since 2026-08-31; upgrade to a later release."
    ]
    found["n3"].facts["facts"].update(old)
    assert [str(warning).partition(" Debian")[0] for warning in report(found).warnings] == ["n1 and n3 run"]
    assert report(found).problems == []


def test_certificates_are_problems_and_warnings() -> None:
    checked = Checked(errors=[Finding("certificate old: it has expired", "get a new one")], warnings=[Finding("certificate soon: it expires", "get one")])
    report_ = report(hosts(), Settings(SETTINGS.names, SETTINGS.platforms, certificates=checked))
    assert [(problem.check, str(problem)) for problem in report_.problems] == [("certificate", "Certificate old: it has expired; get a new one.")]
    assert [str(warning) for warning in report_.warnings] == ["Certificate soon: it expires; get one."]


# --- artifacts ---


def mirror(root: Path, content: bytes = b"zip", checksum: str = "") -> str:
    """A mirror with one release."""
    directory = root / "consul" / "1.2.3"
    directory.mkdir(parents=True)
    (directory / "consul_1.2.3_linux_amd64.zip").write_bytes(content)
    digest = checksum or hashlib.sha256(content).hexdigest()
    (directory / "consul_1.2.3_SHA256SUMS").write_text(f"{digest}  consul_1.2.3_linux_amd64.zip\n")
    return str(root)


def artifacts(path: str, **states: dict[str, t.Any]) -> Report:
    """The report on hosts that need a release."""
    found = hosts()
    for name, host in found.items():
        host.facts = {**host.facts, "artifacts": [{**ARTIFACT, **states.get(name, {})}]}
    return report(found, Settings(SETTINGS.names, SETTINGS.platforms, mirror=path))


def test_a_good_mirror(tmp_path: Path) -> None:
    assert artifacts(mirror(tmp_path)).problems == []


def test_a_missing_release_is_told_once(tmp_path: Path) -> None:
    text = only(artifacts(str(tmp_path), n2={"installed": True}))
    assert text == (
        f"n1 and n3 need consul 1.2.3, but {tmp_path}/consul/1.2.3/consul_1.2.3_SHA256SUMS is missing on the control node; "
        "fill the mirror (make artifacts) or correct platform_artifact_mirror."
    )


def test_what_is_installed_needs_no_mirror() -> None:
    installed = {"installed": True}
    assert artifacts("/nowhere", n1=installed, n2=installed, n3=installed).problems == []


def test_a_bad_checksum(tmp_path: Path) -> None:
    text = only(artifacts(mirror(tmp_path, checksum="0" * 64)))
    assert "n1, n2 and n3 need consul 1.2.3, but the checksum of" in text
    assert "is wrong: expected 0000" in text


def test_a_url_that_does_not_answer() -> None:
    state = {"url": "https://mirror.example/x_SHA256SUMS", "reason": "timed out"}
    text = only(artifacts("https://mirror.example", n1=state, n2={"installed": True}, n3={"url": "https://mirror.example/x_SHA256SUMS"}))
    assert text.startswith("n1 (192.0.2.1) does not get consul 1.2.3 from https://mirror.example/x_SHA256SUMS: timed out; open the way there")


def test_faults_of_a_mirror(tmp_path: Path) -> None:
    assert "neither a URL nor an absolute directory" in archive_fault("artifacts", "consul", "1.2.3", "amd64")
    assert "does not list consul_1.2.3_linux_arm64.zip" in archive_fault(mirror(tmp_path), "consul", "1.2.3", "arm64")
    (tmp_path / "consul/1.2.3/consul_1.2.3_linux_amd64.zip").unlink()
    assert "consul_1.2.3_linux_amd64.zip is missing on the control node" in archive_fault(str(tmp_path), "consul", "1.2.3", "amd64")
    assert "is not valid" in archive_fault(str(tmp_path), "consul", "../x", "amd64")


def test_problem_is_a_sentence() -> None:
    assert str(Problem("", "x", "the platform is wrong", "correct it")) == "The platform is wrong; correct it."
    assert str(Problem("n1", "x", "n1 is wrong", "correct it")) == "n1 is wrong; correct it."
