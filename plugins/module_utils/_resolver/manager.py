# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The name resolution of a host: who manages it, which servers it asks, and how to point it to other ones and back.

Private to the collection. Everything is reached below ``System.root`` and through ``System.run``, so that unit tests need no host.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import json
import os
import time
import typing as t

from .._host import hostfile
from .._host.hostfile import MISSING, Entry
from .._host.unit_drift import TOLERANCE_SECONDS, parse_properties, process_age
from . import resolved
from . import site_lines as resolver_lines
from .site_lines import NO_LINES, Lines

#: libc reads no more name servers than this (MAXNS in resolv.h; musl has the same limit).
MAX_SERVERS = 3

RESOLV_CONF = "/etc/resolv.conf"
HEADER = "# Managed by Ansible, role trinode.platform.resolvconf_dns. Changes made here are lost."
BEGIN = "# BEGIN managed by Ansible, role trinode.platform.resolvconf_dns"
END = "# END managed by Ansible, role trinode.platform.resolvconf_dns"

RESOLVED_DROP_IN = resolved.DROP_IN
RESOLVED_STUB = "/run/systemd/resolve/stub-resolv.conf"
RESOLVED_UPLINKS = "/run/systemd/resolve/resolv.conf"
RESOLVED_STUB_ADDRESSES = ("127.0.0.53", "127.0.0.54")

RESOLVCONF_OUTPUT = "/run/resolvconf/resolv.conf"
RESOLVCONF_HEAD = "/etc/resolvconf/resolv.conf.d/head"
RESOLVCONF_BASE = "/etc/resolvconf/resolv.conf.d/base"
RESOLVCONF_TAIL = "/etc/resolvconf/resolv.conf.d/tail"
RESOLVCONF_RECORDS = "/run/resolvconf/interface"
OPENRESOLV_CONF = "/etc/resolvconf.conf"
HOSTS = "/etc/hosts"

#: Where a forwarder on this host (dnsmasq, alone or under NetworkManager) keeps the servers that it forwards to.
FORWARDER_UPLINKS = ("/run/NetworkManager/no-stub-resolv.conf", "/run/dnsmasq/resolv.conf")
FORWARDER_ADDRESSES = ("127.0.0.1", "127.0.1.1", "::1")

#: Addresses at which this host's own Consul agent answers: never an upstream of it.
OWN_ADDRESSES = ("127.0.0.1", "::1")

#: Programs that write /etc/resolv.conf by themselves: network managers, DHCP clients, VPN clients.
WRITERS = (
    *("NetworkManager", "connmand", "wickedd", "dhclient", "dhcpcd", "pump", "udhcpc", "rdnssd"),
    *("tailscaled", "openconnect", "vpnc", "vpnagentd", "warp-svc", "netbird", "nordvpnd", "mullvad-daemon"),
)
#: Programs that write it when their configuration says so. They are named when somebody wrote it.
POSSIBLE_WRITERS = (*WRITERS, "charon", "cloud-init", "fortivpn", "openfortivpn", "openvpn", "pppd", "starter", "xl2tpd")
#: How to make a writer leave the file alone, where one command does it.
WRITER_REMEDIES = {"tailscaled": "run 'tailscale set --accept-dns=false'"}

PACKAGES = {"resolvconf": "resolvconf", "resolved": "systemd-resolved"}

Runner = t.Callable[[list[str]], tuple[int, str, str]]


class ResolverError(Exception):
    """Something the operator has to know; one sentence with the remedy."""


class Settings(t.NamedTuple):
    """What the resolver shall do."""

    servers: list[str]
    domain: str
    search: list[str]
    options: list[str]
    #: The site's names by address, for reverse lookups: the agents answer with names of their own.
    reverse_names: t.Mapping[str, str] = {}


class Manager(t.NamedTuple):
    """What manages the resolver: ``file``, ``resolvconf`` (with its flavour, ``debian`` or ``openresolv``) or ``resolved``."""

    backend: str
    flavour: str = ""


class System:
    """The host, below a root directory."""

    def __init__(self, run: Runner, root: str = "") -> None:
        self.run = run
        self.root = root

    def path(self, path: str) -> str:
        """Where ``path`` of the host is."""
        return self.root + path

    def read(self, path: str) -> Entry:
        """What is at ``path``."""
        return hostfile.read(self.path(path))

    def text(self, path: str) -> str:
        """The text of a file, links followed; empty when there is none."""
        target = self.target(path)
        try:
            return hostfile.read(self.path(target)).text or ""
        except (IsADirectoryError, PermissionError):
            return ""

    def exists(self, path: str) -> bool:
        """Whether there is something at ``path``, a link that leads nowhere included."""
        return os.path.lexists(self.path(path))

    def target(self, path: str) -> str:
        """The path that ``path`` leads to when its links are followed, as the host sees it."""
        for _hop in range(16):
            link = self.read(path).link
            if link is None:
                break
            path = os.path.normpath(os.path.join(os.path.dirname(path), link))
        return path


# --- Reading -----------------------------------------------------------------------------------------------------------


def nameservers(text: str) -> list[str]:
    """The servers of a text in the form of resolv.conf(5), without doubles."""
    found = (line.split() for line in text.splitlines())
    return unique(words[1] for words in found if len(words) > 1 and words[0] == "nameserver")


def unique(items: t.Iterable[str]) -> list[str]:
    """The items without doubles, in their order."""
    return list(dict.fromkeys(items))


def usable_address(server: str) -> str | None:
    """The plain address of a server in the forms of resolv.conf and resolved.conf; None when another program could not use it.

    An address that is only valid on one link (``fe80::…%eth0``) cannot be handed to another program.
    """
    server = server.partition("#")[0].partition("%")[0]
    if server.startswith("["):
        server = server[1:].partition("]")[0]
    elif server.count(":") == 1:
        server = server.partition(":")[0]
    try:
        address = ipaddress.ip_address(server)
    except ValueError:
        return None
    return None if address.is_link_local or address.is_unspecified else str(address)


def flavour_of(system: System) -> str:
    """Which of the two programs named resolvconf is installed; empty without one. A link to resolvectl is neither."""
    for library in ("/usr/lib/resolvconf", "/lib/resolvconf"):
        if system.exists(f"{library}/list-records"):
            return "debian"
        if system.exists(f"{library}/libc"):
            return "openresolv"
    return ""


def libc_asks_resolved(system: System) -> bool:
    """Whether a lookup of an ordinary program goes to systemd-resolved."""
    target = system.target(RESOLV_CONF)
    if target in (RESOLVED_STUB, "/usr/lib/systemd/resolv.conf", "/lib/systemd/resolv.conf"):
        return True
    if system.exists(RESOLVED_STUB):
        if nameservers(system.text(target)) in [[address] for address in RESOLVED_STUB_ADDRESSES]:
            return True
        hosts = next((line for line in system.text("/etc/nsswitch.conf").splitlines() if line.startswith("hosts:")), "")
        words = hosts.split()
        return "resolve" in words and ("dns" not in words or words.index("resolve") < words.index("dns"))
    return False


def detect(system: System) -> Manager:
    """What manages the resolver of this host now."""
    flavour = flavour_of(system)
    target = system.target(RESOLV_CONF)
    if flavour == "debian" and target == RESOLVCONF_OUTPUT:
        return Manager("resolvconf", flavour)
    if libc_asks_resolved(system) or target == RESOLVED_UPLINKS:
        return Manager("resolved")
    if flavour == "openresolv":
        return Manager("resolvconf", flavour)
    return Manager("file")


def manager_for(system: System, backend: str) -> Manager:
    """The manager to use, for the operator's choice."""
    if backend == "auto":
        return detect(system)
    return Manager(backend, flavour_of(system) if backend == "resolvconf" else "")


def missing_package(system: System, manager: Manager) -> str | None:
    """The package that the manager comes from, when it is not installed."""
    if manager.backend == "resolvconf" and not manager.flavour:
        return PACKAGES["resolvconf"]
    if manager.backend == "resolved" and not any(system.exists(f"{lib}/systemd/systemd-resolved") for lib in ("/usr/lib", "/lib")):
        return PACKAGES["resolved"]
    return None


def asked_servers(system: System) -> list[str]:
    """The servers that the host asks now, as their manager knows them, without those that this role set."""
    manager = detect(system)
    if manager.backend == "resolved":
        return [*resolved.servers(system), *nameservers(system.text(RESOLVED_UPLINKS))]
    if manager.flavour == "openresolv":
        records = system.run(["/sbin/resolvconf", "-l"])[1]
        own = without_block(system.text(RESOLV_CONF))
        return nameservers(records) or ([] if BEGIN in system.text(OPENRESOLV_CONF) else nameservers(own))
    if manager.flavour == "debian":
        sources = [RESOLVCONF_HEAD, *_resolvconf_records(system), RESOLVCONF_BASE]
        return [server for source in sources for server in nameservers(without_block(system.text(source)))]
    text = system.text(RESOLV_CONF)
    return [] if text.startswith(HEADER) else nameservers(text)


def _resolvconf_records(system: System) -> list[str]:
    """Return the files in which Debian's resolvconf keeps what each interface brought."""
    place = system.path(RESOLVCONF_RECORDS)
    return [f"{RESOLVCONF_RECORDS}/{name}" for name in sorted(os.listdir(place))] if os.path.isdir(place) else []


def site_lines(system: System, state: t.Mapping[str, t.Any], manager: Manager) -> Lines:
    """Return the search domains, options and sort lists of the site, which stay in force next to ours.

    Resolvconf and systemd-resolved keep most of them by themselves. Of several ``options`` lines Docker passes only the
    last one, ours, on to containers.
    """
    if manager.flavour == "debian":
        sources = [RESOLVCONF_HEAD, *_resolvconf_records(system), RESOLVCONF_BASE, RESOLVCONF_TAIL]
        return resolver_lines.parse("\n".join(without_block(system.text(source)) for source in sources))._replace(search=[], others=[])
    if manager.backend != "file":
        return NO_LINES
    if state.get("site"):
        return Lines(**state["site"])
    # An earlier version remembered the file as a whole.
    return resolver_lines.parse((state.get("before") or {}).get("resolv_conf", {}).get("text") or "")


def former_servers(system: System, state: t.Mapping[str, t.Any] | None, ours: t.Iterable[str]) -> list[str]:
    """The servers that answered before this role: from their manager while it knows them, else as remembered.

    A forwarder on this host (a stub) is replaced by the servers it forwards to.
    """
    state = state or {}
    if state.get("backend") == "file" and state.get("upstreams") and detect(system).backend == "file":
        # A plain file has no manager that knows better: what somebody wrote over ours is damage, and the next task repairs it.
        return list(state["upstreams"])
    excluded = {*ours, *state.get("servers", ()), *OWN_ADDRESSES, *RESOLVED_STUB_ADDRESSES}
    found: list[str] = []
    for server in asked_servers(system):
        behind: list[str] = []
        if server in RESOLVED_STUB_ADDRESSES:
            behind = [*resolved.servers(system), *nameservers(system.text(RESOLVED_UPLINKS))]
        elif server in FORWARDER_ADDRESSES:
            behind = next(filter(None, (nameservers(system.text(path)) for path in FORWARDER_UPLINKS)), [])
        found.extend(behind or [server])
    usable = unique(address for address in map(usable_address, found) if address and address not in excluded)
    return usable or list(state.get("upstreams", ()))


def running(system: System, names: t.Collection[str]) -> set[str]:
    """Return which of these programs run on the host itself."""
    own_space = _link_of(system.path("/proc/self/ns/pid"))
    found = set()
    for process in os.listdir(system.path("/proc")):
        if process.isdigit():
            try:
                with open(system.path(f"/proc/{process}/comm"), encoding="utf-8") as file:
                    name = file.read().strip()
            except OSError:
                continue
            # A DHCP client inside a container writes the file of that container.
            if name in names and _link_of(system.path(f"/proc/{process}/ns/pid")) == own_space:
                found.add(name)
    return found


def other_writers(system: System) -> list[str]:
    """Return the running programs that would overwrite a plain /etc/resolv.conf."""
    found = running(system, WRITERS)
    if "NetworkManager" in found:
        settings = system.run(["NetworkManager", "--print-config"])[1].replace(" ", "").splitlines()
        if "dns=none" in settings or "rc-manager=unmanaged" in settings:
            found.remove("NetworkManager")
    if "tailscaled" in found:
        try:
            preferences = json.loads(system.run(["tailscale", "debug", "prefs"])[1])
        except ValueError:
            preferences = None
        if isinstance(preferences, dict) and preferences.get("CorpDNS") is False:
            found.remove("tailscaled")
    return sorted(found)


def writer_remedies(writers: t.Iterable[str]) -> str:
    """Return the commands that make these writers leave the file alone, for an error; empty without one."""
    known = [WRITER_REMEDIES[name] for name in writers if name in WRITER_REMEDIES]
    return "".join(f", {remedy}" for remedy in known)


def overwritten(system: System, reason: str) -> str:
    """Return the error for a file that somebody changed since this role wrote it: what it holds, and who may have done it."""
    text = system.text(RESOLV_CONF)
    comment = next((line.strip("#; \t") for line in text.splitlines() if line.startswith(("#", ";")) and line.strip("#; \t")), "")
    suspects = sorted(running(system, POSSIBLE_WRITERS))
    said = [
        f"another program changed the resolver's configuration again during this run: {reason}",
        f"{RESOLV_CONF} begins with '{comment[:120]}'" if comment and not text.startswith(HEADER) else "",
        f"of the programs that may write it, {', '.join(suspects)} runs" if suspects else "none of the known writers runs",
    ]
    return (
        f"{'; '.join(part for part in said if part)}: make it leave {RESOLV_CONF} alone{writer_remedies(suspects)},"
        " or set resolvconf_dns_backend to resolvconf or resolved, which take in what it writes, and play again"
    )


def _link_of(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None


# --- Texts -------------------------------------------------------------------------------------------------------------


def without_block(text: str) -> str:
    """The text without the lines that this role put into it."""
    kept, ours = [], False
    for line in text.splitlines(keepends=True):
        if line.rstrip() == BEGIN:
            ours = True
        elif line.rstrip() == END:
            ours = False
        elif not ours:
            kept.append(line)
    return "".join(kept)


def with_block(text: str, lines: t.Sequence[str], *, first: bool) -> str:
    """The text with these lines between our marks, before or after everything else."""
    others = without_block(text)
    if not lines:
        return others
    block = "".join(f"{line}\n" for line in (BEGIN, *lines, END))
    if first:
        return block + others
    return others + ("\n" if others and not others.endswith("\n") else "") + block


def libc_servers(settings: Settings) -> list[str]:
    """The servers that libc shall ask, at most as many as it reads."""
    return unique(settings.servers)[:MAX_SERVERS]


def filled_servers(settings: Settings) -> list[str]:
    """All places of libc's list, filled with our servers, so that a line that follows them is not read.

    resolvconf writes the servers of its own records behind ours. Those do not know our domain, and their "no such name" would be final.
    """
    servers = libc_servers(settings)
    return (servers * MAX_SERVERS)[:MAX_SERVERS]


def resolv_conf(settings: Settings, site: Lines = NO_LINES) -> str:
    """Return the whole /etc/resolv.conf of the ``file`` backend."""
    servers = [f"nameserver {server}" for server in libc_servers(settings)]
    search = resolver_lines.with_site_search(site.search, settings.search)
    lines = [HEADER, *_line("search", search), *servers, *site.others, *_line("options", wanted_options(settings, site))]
    return "".join(f"{line}\n" for line in lines)


def wanted_options(settings: Settings, site: Lines) -> list[str]:
    """Return the options that have to be in force: the site's, and ours where it has none of that name."""
    return resolver_lines.with_site_options(site.options, settings.options)


def _line(keyword: str, values: t.Sequence[str]) -> list[str]:
    return [f"{keyword} {' '.join(values)}"] if values else []


def base_lines(settings: Settings, site: Lines = NO_LINES) -> list[str]:
    """Return what resolvconf has to add to the search domains and options of its records."""
    return [*_line("search", settings.search), *_line("options", wanted_options(settings, site))]


def openresolv_lines(settings: Settings) -> list[str]:
    """Return the shell assignments of the same meaning for openresolv; what the operator assigned above them stays.

    Of two options of the same name libc takes the last one, which is the operator's.
    """
    head = "\n".join(f"nameserver {server}" for server in filled_servers(settings))
    lines = [f'resolv_conf_head="{head}\n${{resolv_conf_head-$(cat /etc/resolv.conf.head 2>/dev/null)}}"']
    if settings.search:
        lines.append(f'append_search="${{append_search:+$append_search }}{" ".join(settings.search)}"')
    if settings.options:
        lines.append(f'resolv_conf_options="{" ".join(settings.options)}${{resolv_conf_options:+ $resolv_conf_options}}"')
    return lines


def proof_hint(backend: str, names: t.Iterable[str]) -> str:
    """What else may be wrong with names that did not resolve, for the end of the error. resolved.conf(5), ResolveUnicastSingleLabel=."""
    short = [name for name in names if "." not in name.rstrip(".")]
    if backend != "resolved" or not short:
        return ""
    return f"; systemd-resolved asks no name server for a name without a dot, so give {', '.join(short)} with the domain, or set resolvconf_dns_search"


def resolved_drop_in(settings: Settings) -> str:
    """The drop-in for systemd-resolved.

    The list of servers starts anew: resolved asks one server of that list at a time, so all of them must know our domain.
    The servers of the links stay and answer for everything else.
    """
    domains = " ".join([f"~{settings.domain}", *settings.search])
    return f"{HEADER}\n[Resolve]\nDNS=\nDNS={' '.join(unique(settings.servers))}\nDomains={domains}\n"


def wanted(system: System, manager: Manager, settings: Settings, site: Lines = NO_LINES) -> dict[str, Entry]:
    """Return what has to be where for the manager to do as the settings say."""
    if manager.backend == "file":
        return {RESOLV_CONF: Entry(text=resolv_conf(settings, site))}
    if manager.backend == "resolved":
        entries = {RESOLVED_DROP_IN: Entry(text=resolved_drop_in(settings))}
        entries.update(resolved.return_files(HEADER, settings.servers[0], settings.domain))
        if not libc_asks_resolved(system):
            entries[RESOLV_CONF] = Entry(link=f"..{RESOLVED_STUB}")
        return entries
    if manager.flavour == "openresolv":
        return {OPENRESOLV_CONF: _blocked(system, OPENRESOLV_CONF, openresolv_lines(settings), first=False)}
    entries = {
        RESOLVCONF_HEAD: _blocked(system, RESOLVCONF_HEAD, [f"nameserver {server}" for server in filled_servers(settings)], first=True),
        RESOLVCONF_BASE: _blocked(system, RESOLVCONF_BASE, base_lines(settings, site), first=False),
    }
    if system.target(RESOLV_CONF) != RESOLVCONF_OUTPUT:
        entries[RESOLV_CONF] = Entry(link=f"..{RESOLVCONF_OUTPUT}")
    return entries


def hosts_entry(system: System, names: t.Mapping[str, str]) -> dict[str, Entry]:
    """Return what has to be in /etc/hosts, which libc and systemd-resolved read before they ask a server."""
    lines = [f"{address} {name}" for address, name in names.items()]
    return {HOSTS: _blocked(system, HOSTS, lines, first=False)} if lines or BEGIN in system.text(HOSTS) else {}


def _blocked(system: System, path: str, lines: t.Sequence[str], *, first: bool) -> Entry:
    mode = system.read(path).mode if system.exists(path) else 0o644
    return Entry(text=with_block(system.text(path), lines, first=first), mode=mode)


def undone(system: System, backend: str) -> dict[str, Entry]:
    """What has to be where so that nothing of this role is left in the manager's own files (/etc/resolv.conf aside)."""
    entries = hosts_entry(system, {})
    if backend == "resolved":
        entries.update({path: MISSING for path in (RESOLVED_DROP_IN, *resolved.RETURN_FILES) if system.exists(path)})
    if backend == "resolvconf":
        for path in (RESOLVCONF_HEAD, RESOLVCONF_BASE, OPENRESOLV_CONF):
            if BEGIN in system.text(path):
                entries[path] = Entry(text=without_block(system.text(path)), mode=system.read(path).mode)
    return entries


# --- Acting ------------------------------------------------------------------------------------------------------------


def stale(system: System, manager: Manager, settings: Settings, site: Lines = NO_LINES) -> str | None:
    """Return why the manager has not taken over what its files say; None when it has."""
    if manager.backend == "resolved":
        unit = resolved_unit(system)
        if unit.get("ActiveState") != "active":
            return f"systemd-resolved is {unit.get('ActiveState') or 'unknown'}"
        if unit.get("UnitFileState") == "disabled":
            return "systemd-resolved does not start at boot"
        age = process_age(system.text(f"/proc/{unit['MainPID']}/stat"), system.text("/proc/uptime"), int(os.sysconf("SC_CLK_TCK")))
        changed = time.time() - os.stat(system.path(RESOLVED_DROP_IN)).st_mtime
        if changed + TOLERANCE_SECONDS < age:
            return "systemd-resolved started before its configuration changed"
        missing = [server for server in settings.servers if server not in nameservers(system.text(RESOLVED_UPLINKS))]
        if missing:
            return f"systemd-resolved does not know {', '.join(missing)}"
        timer = system.run(["systemctl", "is-active", resolved.RETURN_TIMER_NAME])[1].strip()
        if timer != "active":
            return f"{resolved.RETURN_TIMER_NAME} is {timer or 'unknown'}"
        return None
    text = system.text(RESOLV_CONF)
    servers = [line.split()[1] for line in text.splitlines() if line.startswith("nameserver ")]
    expected = libc_servers(settings) if manager.backend == "file" else filled_servers(settings)
    if servers[:MAX_SERVERS] != expected:
        return f"{RESOLV_CONF} begins with the servers {', '.join(servers[:MAX_SERVERS]) or '(none)'}, not {', '.join(expected)}"
    missing = resolver_lines.missing_options(text, wanted_options(settings, site))
    return f"{RESOLV_CONF} lacks the options {', '.join(missing)}" if missing else None


def resolved_unit(system: System) -> dict[str, str]:
    """Return what systemd knows of systemd-resolved."""
    shown = system.run(["systemctl", "show", resolved.UNIT, "--property=MainPID,ActiveState,UnitFileState"])[1]
    return parse_properties(shown)


def apply(system: System, manager: Manager) -> None:
    """Make the manager take over what its files say."""
    commands = {
        "debian": [["/sbin/resolvconf", "--enable-updates"], ["/sbin/resolvconf", "-u"]],
        "openresolv": [["/sbin/resolvconf", "-u"]],
        "resolved": resolved.commands(system),
    }
    _call(system, commands.get(manager.flavour or manager.backend, []))


def leave(system: System, state: t.Mapping[str, t.Any]) -> None:
    """Stop and disable systemd-resolved where it did not run before this role, as far as that is remembered."""
    before = (state.get("before") or {}).get("resolved")
    if before is not None and state.get("backend") == "resolved":
        _call(system, resolved.way_back(resolved.Unit(**before)))


def _call(system: System, commands: t.Iterable[list[str]]) -> None:
    for command in commands:
        rc, stdout, stderr = system.run(command)
        if rc != 0:
            raise ResolverError(f"'{' '.join(command)}' failed with {rc}: {(stderr or stdout).strip() or 'no output'}")


def put(system: System, entries: t.Mapping[str, Entry], managers: t.Iterable[Manager]) -> None:
    """Write the entries and have the managers take them over.

    A link to a manager's output has to be there before, a plain file after the manager wrote for the last time.
    """
    later = entries.get(RESOLV_CONF)
    for path, entry in entries.items():
        if path != RESOLV_CONF or entry.link is not None:
            _write(system, path, entry)
    for manager in managers:
        apply(system, manager)
    if later is not None and later.link is None:
        _write(system, RESOLV_CONF, later)


def _write(system: System, path: str, entry: Entry) -> None:
    try:
        hostfile.write(system.path(path), entry)
    except OSError as exc:
        remedy = "unmount it first" if exc.errno == errno.EBUSY else "make it writable for root"
        raise ResolverError(f"{path} cannot be written ({exc.strerror}); {remedy}") from exc
    if path == RESOLVED_DROP_IN and entry == MISSING:
        # The distribution has no such directory: it came with the file.
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(system.path(path)))


def restored(system: System, state: t.Mapping[str, t.Any]) -> dict[str, Entry]:
    """What has to be where for the host to be as it was before this role."""
    backend = state["backend"]
    entries = undone(system, backend)
    before = state["before"]
    if before is not None and (backend == "file" or before["backend"] != backend) and is_ours(system, backend):
        entries[RESOLV_CONF] = Entry.from_json(before["resolv_conf"])
    return entries


def is_ours(system: System, backend: str) -> bool:
    """Whether /etc/resolv.conf still is what this role made of it, so that it may be taken away again."""
    if backend == "file":
        return is_written(system)
    if backend == "resolved":
        return system.target(RESOLV_CONF) == RESOLVED_STUB
    return flavour_of(system) == "openresolv" or system.target(RESOLV_CONF) == RESOLVCONF_OUTPUT


def load_state(path: str) -> dict[str, t.Any] | None:
    """What an earlier run remembered; None when there was none."""
    text = hostfile.read(path).text
    if text is None:
        return None
    try:
        state = json.loads(text)
    except ValueError as exc:
        raise ResolverError(
            f"{path}, where the name servers of before are remembered, is damaged ({exc}); remove it, and set resolvconf_dns_former_servers for this host"
        ) from exc
    return t.cast("dict[str, t.Any]", state)


def state_text(state: t.Mapping[str, t.Any]) -> str:
    """The form in which the state is kept."""
    return json.dumps(state, indent=2, sort_keys=True) + "\n"


def is_written(system: System) -> bool:
    """Return whether this role wrote /etc/resolv.conf."""
    return (system.read(RESOLV_CONF).text or "").startswith(HEADER)


def remembered(
    system: System,
    ours: t.Sequence[str],
    override: t.Sequence[str],
    lines: Lines = NO_LINES,
) -> dict[str, t.Any]:
    """Return the state of a host that this role has not touched yet, or whose state is lost.

    Args:
        system: the host.
        ours: the servers that this role sets.
        override: the former servers, when they cannot be found out.
        lines: the search domains and options that this role adds. What else is in a file that it wrote is the site's.
    """
    site = resolver_lines.parse(system.text(RESOLV_CONF))
    before: dict[str, t.Any] | None = None
    if is_written(system):
        site = resolver_lines.without(site, lines)
    else:
        unit = resolved.unit(resolved_unit(system))
        entry = system.read(RESOLV_CONF)
        before = {"backend": detect(system).backend, "resolv_conf": entry.to_json(), "resolved": unit._asdict()}
    return {
        "backend": None,
        "servers": [],
        "upstreams": list(override) or former_servers(system, None, ours),
        # Without a memory of it, a file of ours says nothing of what was there before.
        "before": before,
        "site": site._asdict(),
    }
