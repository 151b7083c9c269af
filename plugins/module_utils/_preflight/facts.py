# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one machine is and has, read without changing it.

Nothing here imports Ansible. Runs on nodes, so Python 3.9. Every reader takes the root of the file system, so that tests can make one.
"""

from __future__ import annotations

import gzip
import ipaddress
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import time
import typing as t
import urllib.error
import urllib.parse
import urllib.request

from .._host.artifact import ArtifactError, expected_checksum
from .._host.ports import decode_address
from .._host.release_checksums import vouched_checksum

_ESTABLISHED = "01"
# What a Docker host needs of its kernel: option of the kernel's configuration, module.
KERNEL_FEATURES = {
    "overlay": ("CONFIG_OVERLAY_FS", "overlay"),
    "bridge": ("CONFIG_BRIDGE", "bridge"),
    "veth": ("CONFIG_VETH", "veth"),
    "nat": ("CONFIG_NF_NAT", "nf_nat"),
}
# The same, tried for real in a network namespace that ends with the command.
_TRIAL = """
say() { if "$@" >/dev/null 2>&1; then echo "$name yes"; else echo "$name no"; fi; }
command -v ip >/dev/null && { name=veth; say ip link add pf0 type veth peer name pf1; name=bridge; say ip link add pf2 type bridge; }
command -v iptables >/dev/null && { name=nat; say iptables -t nat -S; }
true
"""


def read(path: str) -> str:
    """The text of a file; empty when it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def at(root: str, path: str) -> str:
    """A path below the root."""
    return os.path.join(root, path.lstrip("/"))


# --- system -----------------------------------------------------------------------------------------------------------


def parse_os_release(text: str) -> dict[str, str]:
    """Distribution, version and full name."""
    values = {}
    for line in text.splitlines():
        key, separator, value = line.strip().partition("=")
        if separator and not key.startswith("#"):
            values[key] = value.strip().strip("\"'")
    return {
        "distribution": values.get("ID", "").lower(),
        "version": values.get("VERSION_ID", ""),
        "name": values.get("PRETTY_NAME") or values.get("NAME") or values.get("ID") or "an unknown system",
    }


def local_addresses(fib_trie: str, if_inet6: str) -> list[str]:
    """All addresses of the machine, loopback included."""
    found: list[str] = []
    last = ""
    for line in fib_trie.splitlines():
        text = line.strip()
        if text.startswith("|-- "):
            last = text[4:]
        elif text == "/32 host LOCAL" and last not in found:
            found.append(last)
    for line in if_inet6.splitlines():
        fields = line.split()
        if fields and len(fields[0]) == 32:
            found.append(str(ipaddress.IPv6Address(bytes.fromhex(fields[0]))))
    return found


def routes(route: str) -> list[str]:
    """Return the IPv4 networks that the machine is in, from /proc/net/route. Docker does not avoid those behind a gateway."""
    found = []
    for line in route.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[2] == "00000000" and fields[1] != "00000000":
            network = ipaddress.ip_network(f"{decode_address(fields[1])}/{decode_address(fields[7])}", strict=False)
            found.append(str(network))
    return list(dict.fromkeys(found))


def callers(tcp: str, tcp6: str) -> list[str]:
    """Return the addresses with which the machine has an open TCP connection now, from /proc/net/tcp and tcp6."""
    found = []
    for line in [*tcp.splitlines()[1:], *tcp6.splitlines()[1:]]:
        fields = line.split()
        if len(fields) > 3 and fields[3] == _ESTABLISHED:
            found.append(decode_address(fields[2].rsplit(":", 1)[0]))
    return sorted(one for one in set(found) if not ipaddress.ip_address(one).is_loopback)


def name_servers(resolv_conf: str) -> list[str]:
    """The name servers of a resolv.conf."""
    found = []
    for line in resolv_conf.splitlines():
        fields = line.split()
        if len(fields) > 1 and fields[0] == "nameserver" and fields[1] not in found:
            found.append(fields[1])
    return found


def dns_servers(root: str = "/") -> list[str]:
    """The name servers in use; behind the stub of systemd-resolved, those that it asks."""
    found = name_servers(read(at(root, "etc/resolv.conf")))
    if found and all(server in ("127.0.0.53", "127.0.0.54") for server in found):
        return name_servers(read(at(root, "run/systemd/resolve/resolv.conf"))) or found
    return found


def runs_systemd(root: str = "/") -> bool:
    """Whether systemd is the first process."""
    return read(at(root, "proc/1/comm")).strip() == "systemd" and os.path.isdir(at(root, "run/systemd/system"))


def memory_mb(meminfo: str) -> int:
    """Memory of the machine."""
    match = re.search(r"^MemTotal:\s+(\d+) kB", meminfo, re.MULTILINE)
    return int(match.group(1)) // 1024 if match else 0


def free_mb(path: str) -> int:
    """Free space for others than root where `path` is, or will be."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    state = os.statvfs(path)
    return state.f_bavail * state.f_frsize // (1024 * 1024)


def read_only(path: str, root: str = "/") -> bool:
    """Whether the mount that carries a path is read-only."""
    try:
        return bool(os.statvfs(at(root, path)).f_flag & os.ST_RDONLY)
    except OSError:
        return False


# --- kernel -----------------------------------------------------------------------------------------------------------


def kernel_config(release: str, root: str = "/") -> str:
    """The configuration that the kernel was built with, when the system tells."""
    try:
        with gzip.open(at(root, "proc/config.gz"), "rt", encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return read(at(root, f"boot/config-{release}"))


def _in_configuration(option: str, config: str) -> bool | None:
    if not config:
        return None
    match = re.search(rf"^{option}=([ym])$", config, re.MULTILINE)
    if match is None:
        return False
    # "m" says that a module was built, not that it is installed.
    return True if match.group(1) == "y" else None


def feature_known(name: str, release: str, config: str, root: str = "/") -> bool | None:
    """Whether the kernel has a feature, from what it and its modules' directory tell; None when they don't."""
    option, module = KERNEL_FEATURES[name]
    if os.path.isdir(at(root, f"sys/module/{module}")):
        return True
    if name == "overlay" and re.search(r"\boverlay$", read(at(root, "proc/filesystems")), re.MULTILINE):
        return True
    modules = at(root, f"lib/modules/{release}")
    listed = read(os.path.join(modules, "modules.builtin")) + read(os.path.join(modules, "modules.dep"))
    if re.search(rf"(^|/){module}\.ko", listed, re.MULTILINE):
        return True
    known = _in_configuration(option, config)
    if known is None and listed:
        return False
    return known


def try_features() -> dict[str, bool]:
    """Features tried in a network namespace of their own; one that cannot be tried is left out."""
    if not shutil.which("unshare"):
        return {}
    try:
        done = subprocess.run(["unshare", "--net", "sh", "-c", _TRIAL], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return {name: word == "yes" for name, word in (line.split() for line in done.stdout.splitlines() if len(line.split()) == 2)}


def kernel_features(root: str = "/", trial: t.Callable[[], dict[str, bool]] = try_features) -> dict[str, bool | None]:
    """Each feature: there, not there, or (None) not known."""
    release = platform.release()
    config = kernel_config(release, root)
    found = {name: feature_known(name, release, config, root) for name in KERNEL_FEATURES}
    if all(found.values()):
        return found
    # What works counts more than what a file says.
    tried = trial()
    return {name: value or tried.get(name, value) for name, value in found.items()}


def cgroup_controllers(root: str = "/") -> list[str] | None:
    """Controllers that are switched on; None when no cgroup file system is mounted."""
    mounts = [line.split() for line in read(at(root, "proc/mounts")).splitlines()]
    kinds = {fields[2] for fields in mounts if len(fields) > 2}
    if not kinds & {"cgroup", "cgroup2"}:
        return None
    unified = read(at(root, "sys/fs/cgroup/cgroup.controllers")).split()
    if unified:
        return sorted(unified)
    rows = [line.split() for line in read(at(root, "proc/cgroups")).splitlines()]
    return sorted(row[0] for row in rows if len(row) == 4 and row[3] == "1")


# --- Docker -----------------------------------------------------------------------------------------------------------


def unit_properties(name: str, names: t.Sequence[str]) -> dict[str, str]:
    """Properties of a unit; empty where systemd does not answer."""
    try:
        done = subprocess.run(["systemctl", "show", name, "--property=" + ",".join(names)], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def ping(path: str, timeout: float = 3.0) -> str:
    """Ask the engine on its socket whether it is alive; empty when it is, else the reason."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(timeout)
        try:
            client.connect(path)
            client.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            answer = client.recv(4096).split(b"\r\n", 1)[0].decode("latin-1")
        except socket.timeout:
            return f"no answer on {path} in {timeout:g} s"
        except OSError as error:
            return f"{path}: {error.strerror or error}"
    return "" if " 200" in answer else f"{path} answered {answer!r}"


# --- Consul -----------------------------------------------------------------------------------------------------------

CONSUL_DIRECTORY = "/etc/consul.d"
#: Configuration that the role consul_server writes there.
CONSUL_FILES = frozenset({"consul.json", "tokens.json"})


def foreign_consul_files(root: str = "/") -> list[str]:
    """Return the configuration files of Consul's directory that the platform did not write."""
    directory = at(root, CONSUL_DIRECTORY)
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    return [os.path.join(CONSUL_DIRECTORY, name) for name in names if name.endswith((".hcl", ".json")) and name not in CONSUL_FILES]


def foreign_consul_unit(unit: t.Mapping[str, str], artifact_root: str, root: str = "/") -> str:
    """Return the file of a consul.service that another installation brought; empty when there is none."""
    if unit.get("LoadState") != "loaded":
        return ""
    # The platform's program is a link into its own directory.
    program = os.path.realpath(at(root, "usr/local/bin/consul"))
    ours = os.path.realpath(at(root, os.path.join(artifact_root, "consul")))
    return "" if program.startswith(ours + os.sep) else unit.get("FragmentPath") or "consul.service"


def consul_state(artifact_root: str, root: str = "/") -> dict[str, t.Any]:
    """Return what another installation of Consul left on the machine."""
    unit = unit_properties("consul.service", ("LoadState", "FragmentPath"))
    return {"files": foreign_consul_files(root), "unit": foreign_consul_unit(unit, artifact_root, root)}


# --- artifacts --------------------------------------------------------------------------------------------------------


def fetch(url: str, timeout: float = 8.0) -> tuple[str, str]:
    """Text of a small file and the reason why there is none."""
    request = urllib.request.Request(url, headers={"User-Agent": "trinode.platform.preflight"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.read(1024 * 1024).decode("utf-8", "replace"), ""
    except urllib.error.HTTPError as error:
        return "", f"it answers {error.code} {error.reason}"
    except (OSError, ValueError) as error:
        return "", str(getattr(error, "reason", None) or error)


def artifact_state(
    wanted: t.Mapping[str, t.Any],
    architecture: str,
    root: str,
    mirror: str,
    get: t.Callable[[str], tuple[str, str]] = fetch,
) -> dict[str, t.Any]:
    """Return whether a version is installed, and otherwise whether this machine gets it from a mirror with a URL."""
    product, version = str(wanted["product"]), str(wanted["version"])
    state: dict[str, t.Any] = {"product": product, "version": version, "url": "", "reason": ""}
    state["installed"] = os.path.isfile(os.path.join(root, product, version, product))
    if state["installed"] or not mirror.startswith(("http://", "https://")):
        return state
    url = f"{mirror.rstrip('/')}/{product}/{version}/{product}_{version}_SHA256SUMS"
    parts = urllib.parse.urlsplit(url)
    # Without a password that it may carry.
    state["url"] = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    text, state["reason"] = get(url)
    if not state["reason"] and architecture:
        state["reason"] = _checksum_fault(wanted, architecture, state["url"], text)
    return state


def _checksum_fault(wanted: t.Mapping[str, t.Any], architecture: str, url: str, text: str) -> str:
    """Return why an archive is not taken from a mirror with this list; empty when it is."""
    product, version = str(wanted["product"]), str(wanted["version"])
    archive = f"{product}_{version}_linux_{architecture}.zip"
    if archive not in text:
        return f"it does not list {archive}"
    trust, unencrypted = bool(wanted.get("trust_mirror")), bool(wanted.get("allow_unencrypted_mirror"))
    try:
        listed = expected_checksum(text, url, archive)
        vouched_checksum(product, version, architecture, url, listed, wanted.get("checksums"), trust, unencrypted)
    except ArtifactError as error:
        return str(error)
    return ""


# --- all of it --------------------------------------------------------------------------------------------------------


def gather(root: str = "/", docker: bool = False) -> dict[str, t.Any]:
    """What the report judges."""
    release = parse_os_release(read(at(root, "etc/os-release")) or read(at(root, "usr/lib/os-release")))
    return {
        **release,
        "architecture": platform.machine(),
        "kernel": platform.release(),
        "python": ".".join(map(str, sys.version_info[:3])),
        "root": os.geteuid() == 0,
        "systemd": runs_systemd(root),
        "addresses": local_addresses(read(at(root, "proc/net/fib_trie")), read(at(root, "proc/net/if_inet6"))),
        "routes": routes(read(at(root, "proc/net/route"))),
        "callers": callers(read(at(root, "proc/net/tcp")), read(at(root, "proc/net/tcp6"))),
        "dns": dns_servers(root),
        "memory_mb": memory_mb(read(at(root, "proc/meminfo"))),
        "free_mb": {path: free_mb(at(root, path)) for path in ("/opt", "/var/lib")},
        "clock": time.time(),
        "features": kernel_features(root) if docker else {},
        "cgroups": cgroup_controllers(root),
        "proc_sys_read_only": read_only("proc/sys", root),
    }
