# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What manages a resolver, which servers it asks, and what is written for it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ansible_collections.trinode.platform.plugins.module_utils._host.hostfile import MISSING, Entry
from ansible_collections.trinode.platform.plugins.module_utils._resolver import manager as resolver
from ansible_collections.trinode.platform.plugins.module_utils._resolver.manager import Manager, ResolverError, Settings, System

SETTINGS = Settings(["127.0.0.1", "192.168.0.130"], "consul", [], ["timeout:1", "edns0"])
STUB = "/run/systemd/resolve/stub-resolv.conf"
UPLINKS = "/run/systemd/resolve/resolv.conf"


class Host(System):
    """A host in a directory; the commands it is asked to run are recorded."""

    def __init__(self, root: Path) -> None:
        super().__init__(self._run, str(root))
        self.commands: list[list[str]] = []
        self.outputs: dict[str, tuple[int, str, str]] = {}

    def _run(self, command: list[str]) -> tuple[int, str, str]:
        self.commands.append(command)
        return self.outputs.get(command[0], (0, "", ""))

    def put(self, path: str, text: str) -> None:
        file = Path(self.path(path))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def link(self, path: str, target: str) -> None:
        file = Path(self.path(path))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.symlink_to(target)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
def plain(host: Host) -> Host:
    host.put("/etc/resolv.conf", "search site.example\nnameserver 10.0.0.1\nnameserver 10.0.0.2\n")
    return host


@pytest.fixture
def resolved(host: Host) -> Host:
    host.put(STUB, "nameserver 127.0.0.53\n")
    host.put(UPLINKS, "nameserver 10.0.0.1\nnameserver fe80::1%eth0\n")
    host.link("/etc/resolv.conf", f"..{STUB}")
    return host


@pytest.fixture
def resolvconf(host: Host) -> Host:
    host.put("/usr/lib/resolvconf/list-records", "")
    host.put("/run/resolvconf/interface/eth0.dhclient", "nameserver 10.0.0.1\n")
    host.put("/run/resolvconf/resolv.conf", "nameserver 10.0.0.1\n")
    host.put("/etc/resolvconf/resolv.conf.d/head", "# a comment\n")
    host.put("/etc/resolvconf/resolv.conf.d/base", "")
    host.link("/etc/resolv.conf", "../run/resolvconf/resolv.conf")
    return host


def test_a_plain_file_is_a_file(plain: Host) -> None:
    assert resolver.detect(plain) == Manager("file")


def test_nothing_at_all_is_a_file(host: Host) -> None:
    assert resolver.detect(host) == Manager("file")


@pytest.mark.parametrize("target", [STUB, UPLINKS])
def test_resolved_is_known_by_the_link(host: Host, target: str) -> None:
    host.put(target, "")
    host.link("/etc/resolv.conf", target)
    # An absolute link is one below the host's root.
    assert resolver.detect(host) == Manager("resolved")


def test_resolved_is_known_by_a_copied_stub_file(host: Host) -> None:
    host.put(STUB, "")
    host.put("/etc/resolv.conf", "nameserver 127.0.0.53\n")
    assert resolver.detect(host) == Manager("resolved")


@pytest.mark.parametrize(("line", "backend"), [("hosts: files resolve [!UNAVAIL=return] dns", "resolved"), ("hosts: files dns resolve", "file")])
def test_resolved_is_known_by_nsswitch(plain: Host, line: str, backend: str) -> None:
    plain.put(STUB, "")
    plain.put("/etc/nsswitch.conf", f"passwd: files\n{line}\n")
    assert resolver.detect(plain) == Manager(backend)


def test_resolvconf_is_known_by_the_link(resolvconf: Host) -> None:
    assert resolver.detect(resolvconf) == Manager("resolvconf", "debian")


def test_resolvconf_that_does_not_have_the_file_does_not_manage_it(plain: Host) -> None:
    plain.put("/usr/lib/resolvconf/list-records", "")
    assert resolver.detect(plain) == Manager("file")


def test_openresolv_is_told_from_the_other(plain: Host) -> None:
    plain.put("/lib/resolvconf/libc", "")
    assert resolver.detect(plain) == Manager("resolvconf", "openresolv")


def test_a_package_is_missed(plain: Host) -> None:
    assert resolver.missing_package(plain, resolver.manager_for(plain, "resolvconf")) == "resolvconf"
    assert resolver.missing_package(plain, resolver.manager_for(plain, "resolved")) == "systemd-resolved"
    assert resolver.missing_package(plain, resolver.manager_for(plain, "auto")) is None


def test_former_servers_of_a_plain_file(plain: Host) -> None:
    assert resolver.former_servers(plain, None, ["127.0.0.1"]) == ["10.0.0.1", "10.0.0.2"]


def test_former_servers_keep_the_resolver_of_a_docker_network(host: Host) -> None:
    host.put("/etc/resolv.conf", "nameserver 127.0.0.11\n")
    assert resolver.former_servers(host, None, []) == ["127.0.0.11"]


def test_former_servers_see_through_resolved(resolved: Host) -> None:
    resolved.put("/etc/systemd/resolved.conf", "[Resolve]\n#DNS=9.9.9.9\nDNS=10.0.0.9#dns.site.example\n")
    assert resolver.former_servers(resolved, None, []) == ["10.0.0.9", "10.0.0.1"]


def test_former_servers_see_through_dnsmasq(host: Host) -> None:
    host.put("/etc/resolv.conf", "nameserver 127.0.0.1\n")
    assert resolver.former_servers(host, None, []) == []
    host.put("/run/dnsmasq/resolv.conf", "nameserver 10.0.0.7\n")
    assert resolver.former_servers(host, None, []) == ["10.0.0.7"]


def test_our_own_servers_are_never_former_ones(host: Host) -> None:
    host.put("/etc/resolv.conf", "nameserver 192.168.0.130\nnameserver 192.168.0.131\nnameserver 10.0.0.1\n")
    state = {"servers": ["192.168.0.131"], "upstreams": ["10.9.9.9"]}
    assert resolver.former_servers(host, state, ["192.168.0.130"]) == ["10.0.0.1"]


def test_former_servers_are_remembered_behind_our_file(plain: Host) -> None:
    state = resolver.remembered(plain, SETTINGS.servers, [])
    resolver.put(plain, resolver.wanted(plain, Manager("file"), SETTINGS), [Manager("file")])
    assert resolver.former_servers(plain, state, SETTINGS.servers) == ["10.0.0.1", "10.0.0.2"]
    # The cluster grew: what our file still says is no upstream either.
    assert resolver.former_servers(plain, state, ["127.0.0.1"]) == ["10.0.0.1", "10.0.0.2"]


def test_a_plain_file_that_somebody_overwrote_is_damage_and_no_news(plain: Host) -> None:
    plain.put("/etc/resolv.conf", "nameserver 192.0.2.53\n")
    state = {"backend": "file", "servers": ["127.0.0.1"], "upstreams": ["10.0.0.1"]}
    assert resolver.former_servers(plain, state, ["127.0.0.1"]) == ["10.0.0.1"]


def test_former_servers_follow_the_records_of_resolvconf(resolvconf: Host) -> None:
    state = resolver.remembered(resolvconf, SETTINGS.servers, [])
    resolver.put(resolvconf, resolver.wanted(resolvconf, Manager("resolvconf", "debian"), SETTINGS), [])
    resolvconf.put("/run/resolvconf/interface/eth0.dhclient", "nameserver 10.0.0.66\n")
    assert resolver.former_servers(resolvconf, state, SETTINGS.servers) == ["10.0.0.66"]
    Path(resolvconf.path("/run/resolvconf/interface/eth0.dhclient")).unlink()
    assert resolver.former_servers(resolvconf, state, SETTINGS.servers) == ["10.0.0.1"]


def test_our_file_without_a_memory_says_nothing_of_before(plain: Host) -> None:
    resolver.put(plain, resolver.wanted(plain, Manager("file"), SETTINGS), [])
    state = resolver.remembered(plain, SETTINGS.servers, [])
    assert (state["before"], state["upstreams"]) == (None, [])
    assert resolver.restored(plain, {**state, "backend": "file"}) == {}


@pytest.mark.parametrize(
    ("server", "address"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("10.0.0.1:53", "10.0.0.1"),
        ("[2001:db8::1]:53", "2001:db8::1"),
        ("2001:db8::1#dns.example", "2001:db8::1"),
        ("fe80::1%eth0", None),
        ("0.0.0.0", None),
        ("dns.example", None),
    ],
)
def test_addresses_of_servers(server: str, address: str | None) -> None:
    assert resolver.usable_address(server) == address


def test_the_plain_file_lists_only_our_servers() -> None:
    settings = SETTINGS._replace(servers=["10.1.0.1", "10.1.0.2", "10.1.0.2", "10.1.0.3", "10.1.0.4"], search=["site.example"])
    assert resolver.resolv_conf(settings).splitlines()[1:] == [
        "search site.example",
        "nameserver 10.1.0.1",
        "nameserver 10.1.0.2",
        "nameserver 10.1.0.3",
        "options timeout:1 edns0",
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_resolvconf_leaves_no_place_for_other_servers(count: int) -> None:
    servers = [f"10.1.0.{number}" for number in range(1, count + 1)]
    filled = resolver.filled_servers(SETTINGS._replace(servers=servers))
    assert len(filled) == resolver.MAX_SERVERS
    assert set(filled) == set(servers[:3])


def test_resolved_sends_only_our_domain_and_starts_its_list_anew() -> None:
    assert resolver.resolved_drop_in(SETTINGS).splitlines()[1:] == ["[Resolve]", "DNS=", "DNS=127.0.0.1 192.168.0.130", "Domains=~consul"]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("text", ["", "one\ntwo\n", "no end of line"])
def test_a_block_comes_and_goes(text: str, first: bool) -> None:
    once = resolver.with_block(text, ["ours"], first=first)
    assert resolver.with_block(once, ["ours"], first=first) == once
    assert resolver.without_block(once).rstrip("\n") == text.rstrip("\n")
    assert "ours" not in resolver.without_block(once)


def test_openresolv_reads_the_lines_as_shell() -> None:
    lines = resolver.openresolv_lines(SETTINGS)
    assert "".join(lines).splitlines()[:3] == ['resolv_conf_head="nameserver 127.0.0.1', "nameserver 192.168.0.130", "nameserver 127.0.0.1"]


@pytest.mark.parametrize(
    ("site", "head", "search", "options"),
    [
        ("", "", "sub.example", "timeout:1 edns0"),
        (
            'resolv_conf_head="# by the site"\nappend_search=klinik.example\nresolv_conf_options="ndots:2 timeout:3"\n',
            "# by the site",
            "klinik.example sub.example",
            "timeout:1 edns0 ndots:2 timeout:3",
        ),
    ],
)
def test_openresolv_keeps_what_the_site_assigned(site: str, head: str, search: str, options: str) -> None:
    lines = resolver.openresolv_lines(SETTINGS._replace(search=["sub.example"]))
    shown = 'printf "%s|" "$resolv_conf_head" "$append_search" "$resolv_conf_options"'
    script = site + "\n".join([*lines, shown])
    parts = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.split("|")
    assert parts[0].splitlines()[3:] == ([head] if head else [])
    assert parts[1:3] == [search, options]


def test_resolvconf_keeps_the_lines_of_others_and_gives_them_back(resolvconf: Host) -> None:
    manager = Manager("resolvconf", "debian")
    state = {**resolver.remembered(resolvconf, SETTINGS.servers, []), "backend": "resolvconf"}
    resolver.put(resolvconf, resolver.wanted(resolvconf, manager, SETTINGS), [manager])
    assert resolvconf.commands[-2:] == [["/sbin/resolvconf", "--enable-updates"], ["/sbin/resolvconf", "-u"]]
    head = resolvconf.text("/etc/resolvconf/resolv.conf.d/head")
    assert head.splitlines()[1] == "nameserver 127.0.0.1"
    assert head.endswith("# a comment\n")
    resolver.put(resolvconf, resolver.restored(resolvconf, state), [manager])
    assert resolvconf.text("/etc/resolvconf/resolv.conf.d/head") == "# a comment\n"
    assert resolvconf.text("/etc/resolvconf/resolv.conf.d/base") == ""
    assert resolvconf.read("/etc/resolv.conf").link == "../run/resolvconf/resolv.conf"


def test_a_host_that_got_resolved_gets_its_file_back(plain: Host) -> None:
    before = plain.read("/etc/resolv.conf")
    state = {**resolver.remembered(plain, SETTINGS.servers, []), "backend": "resolved"}
    plain.put(STUB, "nameserver 127.0.0.53\n")
    resolver.put(plain, resolver.wanted(plain, Manager("resolved"), SETTINGS), [Manager("resolved")])
    assert plain.target("/etc/resolv.conf") == STUB
    resolver.put(plain, resolver.restored(plain, state), [Manager("resolved")])
    assert plain.read("/etc/resolv.conf") == before
    assert plain.read(resolver.RESOLVED_DROP_IN) == MISSING
    assert not Path(plain.path(resolver.RESOLVED_DROP_IN)).parent.exists()


def test_a_file_that_somebody_else_wrote_since_is_left_alone(plain: Host) -> None:
    state = {**resolver.remembered(plain, SETTINGS.servers, []), "backend": "file"}
    resolver.put(plain, resolver.wanted(plain, Manager("file"), SETTINGS), [])
    plain.put("/etc/resolv.conf", "nameserver 10.0.0.99\n")
    assert resolver.restored(plain, state) == {}


def test_a_file_that_is_overwritten_is_stale(plain: Host) -> None:
    assert resolver.stale(plain, Manager("file"), SETTINGS) is not None
    resolver.put(plain, resolver.wanted(plain, Manager("file"), SETTINGS), [])
    assert resolver.stale(plain, Manager("file"), SETTINGS) is None


def test_resolved_that_does_not_run_is_stale(resolved: Host) -> None:
    resolved.outputs["systemctl"] = (0, "MainPID=0\nActiveState=failed\n", "")
    assert resolver.stale(resolved, Manager("resolved"), SETTINGS) == "systemd-resolved is failed"


def test_a_manager_that_fails_is_named(resolvconf: Host) -> None:
    resolvconf.outputs["/sbin/resolvconf"] = (1, "", "no lock")
    with pytest.raises(ResolverError, match="--enable-updates' failed with 1: no lock"):
        resolver.apply(resolvconf, Manager("resolvconf", "debian"))


SITE = "domain old.example\nsearch klinik.example ad.klinik.example\nsortlist 10.0.0.0\noptions ndots:2 timeout:4\n# options rotate\n"


def test_a_plain_file_keeps_the_lines_of_the_site(host: Host) -> None:
    host.put("/etc/resolv.conf", f"{SITE}nameserver 10.0.0.1\noptions edns0\n")
    state = resolver.remembered(host, SETTINGS.servers, [])
    site = resolver.site_lines(host, state, Manager("file"))
    settings = SETTINGS._replace(search=["ad.klinik.example", "more.example"], options=["timeout:5", "attempts:3", "timeout:1"])
    lines = resolver.resolv_conf(settings, site).splitlines()[1:]
    assert lines == [
        "search klinik.example ad.klinik.example more.example",
        "nameserver 127.0.0.1",
        "nameserver 192.168.0.130",
        "sortlist 10.0.0.0",
        "options ndots:2 timeout:4 edns0 attempts:3",
    ]
    # Our own file, overwritten or not, is never taken for the site's.
    resolver.put(host, resolver.wanted(host, Manager("file"), settings, site), [])
    assert resolver.site_lines(host, state, Manager("file")) == site


def test_a_state_of_an_earlier_version_gives_the_site_its_lines_back(host: Host) -> None:
    host.put("/etc/resolv.conf", f"{SITE}nameserver 10.0.0.1\n")
    state = resolver.remembered(host, SETTINGS.servers, [])
    earlier = {key: value for key, value in state.items() if key != "site"}
    host.put("/etc/resolv.conf", f"{resolver.HEADER}\nnameserver 127.0.0.1\noptions timeout:2 attempts:3 rotate\n")
    site = resolver.site_lines(host, earlier, Manager("file"))
    assert (site.search, site.options) == (["klinik.example", "ad.klinik.example"], ["ndots:2", "timeout:4"])
    assert "rotate" not in resolver.resolv_conf(SETTINGS, site)


def test_the_lines_of_a_stub_are_remembered_too(resolved: Host) -> None:
    resolved.put(STUB, "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n")
    state = resolver.remembered(resolved, SETTINGS.servers, [])
    assert resolver.site_lines(resolved, state, Manager("file")) == (([], ["edns0", "trust-ad"], []))


def test_resolvconf_gets_the_options_of_the_site_in_the_line_that_docker_copies(resolvconf: Host) -> None:
    manager = Manager("resolvconf", "debian")
    resolvconf.put("/etc/resolvconf/resolv.conf.d/base", "options ndots:2\n")
    resolvconf.put("/run/resolvconf/interface/eth0.dhclient", "search klinik.example\noptions timeout:3\nnameserver 10.0.0.1\n")
    for _again in range(2):
        site = resolver.site_lines(resolvconf, {}, manager)
        resolver.put(resolvconf, resolver.wanted(resolvconf, manager, SETTINGS, site), [])
    base = resolvconf.text("/etc/resolvconf/resolv.conf.d/base")
    assert base.splitlines() == ["options ndots:2", resolver.BEGIN, "options timeout:3 ndots:2 edns0", resolver.END]


def test_options_that_are_not_in_force_are_stale(resolvconf: Host) -> None:
    manager = Manager("resolvconf", "debian")
    servers = "".join(f"nameserver {server}\n" for server in resolver.filled_servers(SETTINGS))
    resolvconf.put("/run/resolvconf/resolv.conf", f"{servers}options timeout:2 rotate\n")
    assert resolver.stale(resolvconf, manager, SETTINGS) == "/etc/resolv.conf lacks the options timeout:1, edns0"
    resolvconf.put("/run/resolvconf/resolv.conf", f"{servers}options timeout:1 edns0\n")
    assert resolver.stale(resolvconf, manager, SETTINGS) is None


def test_resolved_without_its_return_timer_is_stale(resolved: Host) -> None:
    resolved.put(UPLINKS, "".join(f"nameserver {server}\n" for server in SETTINGS.servers))
    resolved.put(resolver.RESOLVED_DROP_IN, "")
    resolved.put("/proc/1/stat", f"1 (x) {' '.join(['0'] * 50)}")
    resolved.put("/proc/uptime", "0.0 0.0\n")
    resolved.outputs["systemctl"] = (0, "MainPID=1\nActiveState=active\n", "")
    # The recorded answer is that of `show`, so `is-active` sees neither word.
    assert "resolvconf-dns-return.timer is" in str(resolver.stale(resolved, Manager("resolved"), SETTINGS))


def _process(host: Host, number: str, name: str, space: str) -> None:
    host.put(f"/proc/{number}/comm", f"{name}\n")
    host.link(f"/proc/{number}/ns/pid", space)


def test_writers_are_found_in_our_own_process_space_only(plain: Host) -> None:
    plain.link("/proc/self/ns/pid", "pid:[1]")
    _process(plain, "10", "dhclient", "pid:[1]")
    _process(plain, "11", "dhcpcd", "pid:[2]")
    _process(plain, "12", "sshd", "pid:[1]")
    _process(plain, "13", "NetworkManager", "pid:[1]")
    assert resolver.other_writers(plain) == ["NetworkManager", "dhclient"]
    plain.outputs["NetworkManager"] = (0, "[main]\ndns = none\n", "")
    assert resolver.other_writers(plain) == ["dhclient"]


def test_the_names_of_the_site_come_into_the_hosts_file_and_out_of_it(plain: Host) -> None:
    assert resolver.hosts_entry(plain, {}) == {}
    before = "127.0.0.1 localhost\n"
    plain.put("/etc/hosts", before)
    assert resolver.hosts_entry(plain, {}) == {}
    names = {"192.168.0.129": "srv1.hospital.example srv1", "192.168.0.130": "srv2.hospital.example"}
    resolver.put(plain, resolver.hosts_entry(plain, names), [])
    lines = plain.text("/etc/hosts").splitlines()
    assert lines[0] == before.strip() and lines[2:4] == [f"{address} {name}" for address, name in names.items()]
    resolver.put(plain, resolver.undone(plain, "file"), [])
    assert plain.text("/etc/hosts") == before


@pytest.mark.parametrize(
    ("preferences", "named"),
    [
        ('{\n\t"RouteAll": false,\n\t"CorpDNS": true,\n\t"RunSSH": false\n}\n', True),
        ('{\n\t"RouteAll": false,\n\t"CorpDNS": false,\n\t"RunSSH": false\n}\n', False),
        ('{"CorpDNS":false}', False),
        ('{"RouteAll": false}', True),
        ("[]", True),
        ("", True),
    ],
)
def test_tailscale_is_a_writer_unless_it_leaves_names_alone(plain: Host, preferences: str, named: bool) -> None:
    plain.link("/proc/self/ns/pid", "pid:[1]")
    _process(plain, "10", "tailscaled", "pid:[1]")
    plain.outputs["tailscale"] = (0, preferences, "")
    assert resolver.other_writers(plain) == (["tailscaled"] if named else [])
    assert "--accept-dns=false" in resolver.writer_remedies(["tailscaled"])


@pytest.mark.parametrize("name", ["openconnect", "vpnc", "warp-svc", "wickedd"])
def test_vpn_clients_and_network_managers_are_writers(plain: Host, name: str) -> None:
    plain.link("/proc/self/ns/pid", "pid:[1]")
    _process(plain, "10", name, "pid:[1]")
    assert resolver.other_writers(plain) == [name]


def test_whoever_wrote_the_file_again_is_described(plain: Host) -> None:
    plain.link("/proc/self/ns/pid", "pid:[1]")
    plain.put("/etc/resolv.conf", "# resolv.conf(5) file generated by tailscale\nnameserver 100.100.100.100\n")
    _process(plain, "10", "openvpn", "pid:[1]")
    said = resolver.overwritten(plain, "/etc/resolv.conf differs")
    assert "begins with 'resolv.conf(5) file generated by tailscale'" in said
    assert "openvpn runs" in said and "resolvconf_dns_backend" in said
    # Not among those that are refused beforehand: most of its configurations leave the file alone.
    assert resolver.other_writers(plain) == []


def test_a_damaged_memory_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "state"
    assert resolver.load_state(str(path)) is None
    path.write_text("{")
    with pytest.raises(ResolverError, match="resolvconf_dns_former_servers"):
        resolver.load_state(str(path))


def test_a_state_survives_its_file(plain: Host, tmp_path: Path) -> None:
    state = resolver.remembered(plain, [], [])
    path = tmp_path / "state"
    path.write_text(resolver.state_text(state))
    loaded = resolver.load_state(str(path))
    assert loaded == state
    assert loaded is not None
    assert Entry.from_json(loaded["before"]["resolv_conf"]) == plain.read("/etc/resolv.conf")


@pytest.mark.parametrize(
    ("backend", "names", "named"),
    [("resolved", ["printer", "www.example.org"], "printer"), ("resolved", ["www.example.org"], ""), ("file", ["printer"], "")],
)
def test_a_name_without_a_dot_is_a_hint_under_resolved_only(backend: str, names: list[str], named: str) -> None:
    hint = resolver.proof_hint(backend, names)
    assert (named in hint and "resolvconf_dns_search" in hint) if named else hint == ""
    assert "www" not in hint
