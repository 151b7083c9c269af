# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The running Docker engine: its unit, its API, and the daemon.json that it last started with. Private to the collection."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import time
import typing as t

from ansible_collections.trinode.platform.plugins.module_utils import _daemon_json, _hostfile
from ansible_collections.trinode.platform.plugins.module_utils._daemon_json import DaemonJsonError, Owned
from ansible_collections.trinode.platform.plugins.module_utils._hostfile import MISSING, Entry
from ansible_collections.trinode.platform.plugins.module_utils._unit_drift import TOLERANCE_SECONDS, parse_properties, process_age

POLL_SECONDS = 0.25
REQUEST_SECONDS = 5
JOURNAL_SECONDS = 3
JOURNAL_LINES = 30

#: What dockerd prefixes to the reason when it does not start.
_REASON = re.compile(r"(?:unable to configure the Docker daemon|failed to start daemon|Error starting daemon|level=fatal|failed to load).*")

Runner = t.Callable[[list[str]], tuple[int, str, str]]


class State(t.NamedTuple):
    """What the role remembers on the host."""

    owned: list[Owned]
    #: The daemon.json with which the engine last ran, and what was ours in it; None when that is not known.
    good: Entry | None
    good_owned: list[Owned]
    #: The daemon.json before the role's first change; None when there was no change yet.
    original: Entry | None


def load_state(path: str) -> State:
    """What an earlier run remembered."""
    text = _hostfile.read(path).text
    if text is None:
        return State([], None, [], None)
    try:
        data = json.loads(text)
        entries = {key: Entry.from_json(data[key]) if data[key] is not None else None for key in ("good", "original")}
        owned, good_owned = ([Owned.from_json(item) for item in data[key]] for key in ("owned", "good_owned"))
        return State(owned, entries["good"], good_owned, entries["original"])
    except (ValueError, KeyError, TypeError) as exc:
        raise DaemonJsonError(f"{path} is damaged ({exc}); remove it, then the settings made so far count as the operator's own") from exc


def save_state(path: str, state: State) -> None:
    """Remember this."""
    data = {
        "owned": [item.to_json() for item in state.owned],
        "good_owned": [item.to_json() for item in state.good_owned],
        "good": state.good.to_json() if state.good is not None else None,
        "original": state.original.to_json() if state.original is not None else None,
    }
    _hostfile.write(path, Entry(text=json.dumps(data, indent=2) + "\n", mode=0o600))


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the engine's socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=REQUEST_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(REQUEST_SECONDS)
        self.sock.connect(self._path)


def engine_error(path: str) -> str | None:
    """Why the engine does not answer what ``docker info`` asks; None when it does."""
    connection = UnixConnection(path)
    try:
        connection.request("GET", "/info")
        response = connection.getresponse()
        body = response.read()
        if response.status != http.client.OK:
            return f"its API answers {response.status}: {body[:200].decode(errors='replace').strip()}"
        json.loads(body)
    except (OSError, http.client.HTTPException, ValueError) as exc:
        return f"its API at {path} does not answer ({exc})"
    finally:
        connection.close()
    return None


class Engine:
    """The engine as a unit of systemd."""

    def __init__(self, run: Runner, unit: str, api: str = "") -> None:
        self.run = run
        self.unit = unit
        self.api = api

    def show(self) -> dict[str, str]:
        """What systemd says of the unit."""
        names = "LoadState,ActiveState,SubState,Result,MainPID,ExecStart,Environment,EnvironmentFiles,FragmentPath"
        return parse_properties(self.run(["systemctl", "show", self.unit, f"--property={names}"])[1])

    def flags(self, shown: t.Mapping[str, str]) -> tuple[dict[str, str], str]:
        """The keys that the command line sets, and where that command line is written."""
        environment = _daemon_json.environment_file("\n".join(shown.get("Environment", "").split()))
        files = re.findall(r"(/\S+)", shown.get("EnvironmentFiles", ""))
        if shown.get("LoadState") != "loaded":
            # The distribution's unit, not installed yet, will read this file.
            files, shown = ["/etc/default/docker"], {"ExecStart": "argv[]=dockerd $DOCKER_OPTS ;"}
        for file in files:
            environment.update(_daemon_json.environment_file(_hostfile.read(file).text or ""))
        argv = re.search(r"argv\[\]=(.*?) ;", shown.get("ExecStart", ""))
        arguments = _daemon_json.command_line(argv.group(1) if argv else "", environment)
        where = " or ".join(filter(None, [shown.get("FragmentPath", ""), *files])) or self.unit
        return _daemon_json.flag_keys(arguments), f"{where} (see 'systemctl cat {self.unit}')"

    def runs_with(self, shown: t.Mapping[str, str], path: str) -> bool:
        """Whether the engine runs and has read the present file at its start."""
        if shown.get("ActiveState") != "active" or shown.get("MainPID", "0") == "0":
            return False
        try:
            with open(f"/proc/{shown['MainPID']}/stat", encoding="utf-8") as stat, open("/proc/uptime", encoding="utf-8") as uptime:
                age = process_age(stat.read(), uptime.read(), int(os.sysconf("SC_CLK_TCK")))
            return time.time() - os.stat(path).st_mtime + TOLERANCE_SECONDS >= age
        except FileNotFoundError:
            return not os.path.exists(path)

    def start(self, timeout: float) -> str | None:
        """Restart the engine and wait until it answers; why it does not, or None."""
        before = self.show().get("MainPID", "0")
        # The unit has no time limit of its own, so this side must not wait for systemctl.
        for command in (["daemon-reload"], ["enable", self.unit], ["reset-failed", self.unit, "docker.socket"], ["--no-block", "restart", self.unit]):
            rc, stdout, stderr = self.run(["systemctl", *command])
            if rc != 0 and command[0] != "reset-failed":
                return f"'systemctl {' '.join(command)}' failed: {(stderr or stdout).strip()}"
        deadline = time.monotonic() + timeout
        reason = "it did not start"
        while time.monotonic() < deadline:
            shown = self.show()
            state = f"{shown.get('ActiveState')}/{shown.get('SubState')}"
            if shown.get("ActiveState") == "failed" or (shown.get("SubState") == "auto-restart" and shown.get("Result") != "success"):
                return f"it does not start ({state}, {shown.get('Result')})"
            if shown.get("ActiveState") == "active" and shown.get("MainPID", "0") not in ("0", before):
                error = engine_error(self.api)
                if error is None:
                    return None
                reason = error
            else:
                reason = f"it is {state}"
            time.sleep(POLL_SECONDS)
        return f"after {timeout:.0f} s {reason}"

    def stop(self) -> None:
        """End the attempts of systemd to start the engine."""
        self.run(["systemctl", "stop", self.unit])

    def journal(self, since: float) -> list[str]:
        """What the engine wrote since then. Its last words may reach the journal a moment after its end."""
        # With --since, --lines would give the first lines and not the last.
        command = ["journalctl", "--no-pager", "--output=cat", f"--unit={self.unit}", f"--since=@{int(since)}"]
        deadline = time.monotonic() + JOURNAL_SECONDS
        while True:
            lines = [line for line in self.run(command)[1].splitlines() if line.strip()]
            if time.monotonic() > deadline or any(_REASON.search(line) for line in lines):
                return lines[-JOURNAL_LINES:]
            time.sleep(POLL_SECONDS)


def reason_in(journal: t.Sequence[str]) -> str:
    """The line of the journal that says why the engine did not start."""
    for line in reversed(journal):
        found = _REASON.search(line)
        if found:
            return found.group().strip()
    return journal[-1].strip() if journal else "its journal says nothing"


def back_up(path: str, entry: Entry, keep: int, now: float) -> str | None:
    """Keep a copy of a file that is about to change, and only the newest of such copies."""
    backup = None
    if entry.text is not None and keep > 0:
        backup = f"{path}.{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now))}.bak"
        _hostfile.write(backup, entry)
    directory, name = os.path.split(path)
    pattern = re.compile(re.escape(name) + r"\.\d{8}T\d{6}\.bak")
    copies = sorted(item for item in os.listdir(directory) if pattern.fullmatch(item)) if os.path.isdir(directory) else []
    for old in copies[: len(copies) - keep] if keep > 0 else copies:
        _hostfile.write(os.path.join(directory, old), MISSING)
    return backup
