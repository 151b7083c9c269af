# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd-resolved: the operator's settings, those that refuse a private domain, and the return to the first server.

Private to the collection.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import typing as t

from .._host.hostfile import Entry

CONF = "/etc/systemd/resolved.conf"
DROP_IN = "/etc/systemd/resolved.conf.d/60-resolvconf-dns.conf"
#: Where systemd looks for drop-ins; a file hides one of the same name in a directory before it.
CONF_PARENTS = ("/usr/lib", "/usr/local/lib", "/run", "/etc")
ANCHORS = ("/usr/lib/dnssec-trust-anchors.d", "/run/dnssec-trust-anchors.d", "/etc/dnssec-trust-anchors.d")

UNIT = "systemd-resolved.service"
RETURN_TIMER_NAME = "resolvconf-dns-return.timer"
RETURN_PROGRAM = "/usr/local/sbin/resolvconf-dns-return"
RETURN_SERVICE = "/etc/systemd/system/resolvconf-dns-return.service"
RETURN_TIMER = f"/etc/systemd/system/{RETURN_TIMER_NAME}"
RETURN_ENABLED = f"/etc/systemd/system/timers.target.wants/{RETURN_TIMER_NAME}"
RETURN_FILES = (RETURN_PROGRAM, RETURN_SERVICE, RETURN_TIMER, RETURN_ENABLED)
RETURN_SECONDS = 15

_TRUE = ("1", "yes", "y", "true", "t", "on")


class Host(t.Protocol):
    """What this file needs of a host."""

    def exists(self, path: str) -> bool:
        """Return whether there is something at a path."""
        ...

    def path(self, path: str) -> str:
        """Return where a path of the host is."""
        ...

    def text(self, path: str) -> str:
        """Return the text of a file, empty without one."""
        ...


class Setting(t.NamedTuple):
    """One assignment, and the file that it is in."""

    path: str
    key: str
    value: str


def _names(host: Host, directory: str, suffix: str) -> list[str]:
    place = host.path(directory)
    return [name for name in os.listdir(place) if name.endswith(suffix)] if os.path.isdir(place) else []


def settings(host: Host) -> list[Setting]:
    """Return the assignments of systemd-resolved's configuration in its order, without this role's own."""
    fragments: dict[str, str] = {}
    for parent in CONF_PARENTS:
        directory = f"{parent}/systemd/resolved.conf.d"
        fragments.update({name: f"{directory}/{name}" for name in _names(host, directory, ".conf")})
    fragments.pop(os.path.basename(DROP_IN), None)
    found = []
    for path in [CONF, *(fragments[name] for name in sorted(fragments))]:
        for line in host.text(path).splitlines():
            key, separator, value = line.partition("=")
            if separator and not key.lstrip().startswith(("#", ";")):
                found.append(Setting(path, key.strip(), value.strip()))
    return found


def servers(host: Host) -> list[str]:
    """Return the name servers of the operator's own configuration; an empty assignment starts the list anew."""
    found: list[str] = []
    for setting in settings(host):
        if setting.key == "DNS":
            found = [*found, *setting.value.split()] if setting.value else []
    return found


def _last(host: Host, key: str) -> Setting:
    return next((one for one in reversed(settings(host)) if one.key == key), Setting("", key, ""))


def _is_negative_anchor(host: Host, domain: str) -> bool:
    """Return whether the operator exempted the domain from DNSSEC (dnssec-trust-anchors.d(5))."""
    for directory in ANCHORS:
        for name in _names(host, directory, ".negative"):
            lines = host.text(f"{directory}/{name}").splitlines()
            if domain.lower() in [line.strip().strip(".").lower() for line in lines]:
                return True
    return False


def obstacle(host: Host, domain: str) -> str:
    """Return why systemd-resolved would refuse a domain of private name servers, with the remedy; empty if it would not."""
    dnssec, tls = _last(host, "DNSSEC"), _last(host, "DNSOverTLS")
    if tls.value.lower() in _TRUE:
        return (
            f"{tls.path}: DNSOverTLS={tls.value} makes systemd-resolved ask every name server by TLS, which the agents do not offer:"
            " set DNSOverTLS=opportunistic or no there"
        )
    if dnssec.value.lower() in (*_TRUE, "allow-downgrade") and not _is_negative_anchor(host, domain):
        return (
            f"{dnssec.path}: DNSSEC={dnssec.value} makes systemd-resolved refuse answers for {domain}, which is not signed: write the line"
            f" '{domain}' into {ANCHORS[-1]}/{domain}.negative, which exempts this domain alone, or set DNSSEC=no there"
        )
    return ""


def commands(host: Host) -> list[list[str]]:
    """Return the commands that make systemd-resolved and its timer take over what is in their files.

    Not every distribution enables it, and a host whose programs ask it needs it after the next boot, too.
    """
    restart = ["systemctl", "restart", UNIT]
    if host.exists(RETURN_TIMER):
        before = [["systemctl", "daemon-reload"], ["systemctl", "enable", "--quiet", UNIT]]
        return [*before, restart, ["systemctl", "restart", RETURN_TIMER_NAME]]
    # A pattern: on a host that never had the timer there is nothing to stop, which is not an error.
    return [restart, ["systemctl", "stop", RETURN_TIMER_NAME.replace(".timer", ".tim*")], ["systemctl", "daemon-reload"]]


class Unit(t.NamedTuple):
    """Whether systemd-resolved runs, and whether it does so after the next boot."""

    active: bool
    enabled: bool


def unit(properties: t.Mapping[str, str]) -> Unit:
    """Return the state of the unit from the properties that systemd shows of it."""
    # Static ones and links cannot be disabled.
    enabled = properties.get("UnitFileState") not in ("", None, "disabled", "masked")
    return Unit(properties.get("ActiveState") == "active", enabled)


def way_back(before: Unit) -> list[list[str]]:
    """Return the commands that put the unit into its former state, when this role started it."""
    disable = [] if before.enabled else [["systemctl", "disable", "--quiet", UNIT]]
    return [*disable, *([] if before.active else [["systemctl", "stop", UNIT]])]


# --- The return to the first name server
# ---------------------------------------------------------------------------------

_PROGRAM = '''#!/usr/bin/python3
{header}
"""Have systemd-resolved ask its first name server again.

It goes on to the next server when one does not answer, and stays there. The first one is the agent of this host: the
loss of another host must not cost a lookup here.
"""

import socket
import subprocess

SERVER = "{server}"
DOMAIN = "{domain}"
CURRENT = "{current}"
NONE = " 0 0 0"
MANAGER = ["org.freedesktop.resolve1", "/org/freedesktop/resolve1", "org.freedesktop.resolve1.Manager"]


def busctl(verb, *words):
    """Return what busctl prints."""
    done = subprocess.run(["busctl", "--timeout=5", verb, *MANAGER, *words], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def returned():
    """Return whether the first server is in use, or none yet, or systemd-resolved does not run."""
    said = busctl("get-property", "CurrentDNSServer")
    return not said.startswith("(iiay) ") or said.endswith((CURRENT, NONE))


def answers():
    """Return whether the first server answers for the domain."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in DOMAIN.split("."))
    question = b"\\x12\\x34\\x01\\x00\\x00\\x01" + bytes(6) + labels + b"\\x00\\x00\\x06\\x00\\x01"
    with socket.socket(socket.{family}, socket.SOCK_DGRAM) as asking:
        asking.settimeout(1)
        try:
            asking.connect((SERVER, 53))
            asking.send(question)
            answer = asking.recv(4096)
        except OSError:
            return False
    return answer[:2] == question[:2] and answer[3] & 0x0F == 0


def main():
    """Return to the first server, if another one is in use and the first one answers."""
    if returned() or not answers():
        return
    for action in ("try-reload-or-restart", "try-restart"):
        # A version that cannot reload is restarted: lookups fail for a tenth of a second, once after each outage of
        # the agent.
        subprocess.run(["systemctl", action, "systemd-resolved.service"], check=True)
        if returned():
            break
    print("systemd-resolved asks " + SERVER + " again", flush=True)


if __name__ == "__main__":
    main()
'''

_SERVICE = """{header}
[Unit]
Description=Have systemd-resolved ask its first name server again
After=systemd-resolved.service

[Service]
Type=oneshot
ExecStart={program}
# It runs often and has something to report rarely.
LogLevelMax=notice
SyslogLevel=notice
TimeoutStartSec=30
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
"""

_TIMER = """{header}
[Unit]
Description=Look often whether systemd-resolved has to return to its first name server

[Timer]
OnActiveSec={seconds}
OnUnitInactiveSec={seconds}
AccuracySec=1

[Install]
WantedBy=timers.target
"""


def return_files(header: str, server: str, domain: str) -> dict[str, Entry]:
    """Return the program that brings systemd-resolved back to this server, with its service and timer."""
    first = ipaddress.ip_address(server)
    family = "AF_INET" if first.version == 4 else "AF_INET6"
    number = int(socket.AF_INET if first.version == 4 else socket.AF_INET6)
    packed = " ".join(str(byte) for byte in first.packed)
    fields = {
        "header": header,
        "server": str(first),
        "domain": domain,
        "family": family,
        "current": f" {number} {len(first.packed)} {packed}",
        "program": RETURN_PROGRAM,
        "seconds": str(RETURN_SECONDS),
    }

    def filled(text: str) -> str:
        for name, value in fields.items():
            text = text.replace("{" + name + "}", value)
        return text

    return {
        RETURN_PROGRAM: Entry(text=filled(_PROGRAM), mode=0o755),
        RETURN_SERVICE: Entry(text=filled(_SERVICE)),
        RETURN_TIMER: Entry(text=filled(_TIMER)),
        RETURN_ENABLED: Entry(link=RETURN_TIMER),
    }
