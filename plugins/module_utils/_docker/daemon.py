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

from .._host import hostfile
from .._host.hostfile import MISSING, Entry
from .._host.unit_drift import TOLERANCE_SECONDS, parse_properties, process_age
from . import daemon_json
from .daemon_json import DaemonJsonError, Owned

CONFIG_FILE = "/etc/docker/daemon.json"
DATA_ROOT = "/var/lib/docker"
POLL_SECONDS = 0.25
REQUEST_SECONDS = 10
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
    #: The file that all of this is about.
    path: str = CONFIG_FILE


def load_state(path: str) -> State:
    """What an earlier run remembered."""
    text = hostfile.read(path).text
    if text is None:
        return State([], None, [], None)
    try:
        data = json.loads(text)
        entries = {key: Entry.from_json(data[key]) if data[key] is not None else None for key in ("good", "original")}
        owned, good_owned = ([Owned.from_json(item) for item in data[key]] for key in ("owned", "good_owned"))
        return State(owned, entries["good"], good_owned, entries["original"], str(data.get("path") or CONFIG_FILE))
    except (ValueError, KeyError, TypeError) as exc:
        raise DaemonJsonError(f"{path} is damaged ({exc}); remove it, then the settings made so far count as the operator's own") from exc


def state_of(state_file: str, path: str) -> State:
    """Return what an earlier run remembered of the file that the engine reads.

    Raises:
        DaemonJsonError: an earlier run made its settings in another file, from where they would never be taken out again.
    """
    state = load_state(state_file)
    if state.path != path and state.owned:
        raise DaemonJsonError(
            f"dockerd reads {path} (--config-file), but earlier runs made their settings in {state.path}; let dockerd read that one again, or remove"
            f" {state_file}, after which the settings in {state.path} count as your own. Nothing was changed"
        )
    return state if state.path == path else State([], None, [], None, path)


def save_state(path: str, state: State) -> None:
    """Remember this."""
    data = {
        "path": state.path,
        "owned": [item.to_json() for item in state.owned],
        "good_owned": [item.to_json() for item in state.good_owned],
        "good": state.good.to_json() if state.good is not None else None,
        "original": state.original.to_json() if state.original is not None else None,
    }
    hostfile.write(path, Entry(text=json.dumps(data, indent=2) + "\n", mode=0o600))


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


class Unanswered(Exception):
    """Why the engine does not answer, as a half sentence."""


def ask(path: str, question: str) -> t.Any:
    """Return the engine's answer to a question of its API.

    Raises:
        Unanswered: it has none, and why.
    """
    connection = UnixConnection(path)
    try:
        connection.request("GET", question)
        response = connection.getresponse()
        body = response.read()
        if response.status != http.client.OK:
            raise Unanswered(f"its API answers {response.status}: {body[:200].decode(errors='replace').strip()}")
        return json.loads(body)
    except (OSError, http.client.HTTPException, ValueError) as exc:
        raise Unanswered(f"its API at {path} does not answer ({exc})") from exc
    finally:
        connection.close()


def engine_error(path: str) -> str | None:
    """Why the engine does not answer what ``docker info`` asks; None when it does."""
    try:
        ask(path, "/info")
    except Unanswered as exc:
        return str(exc)
    return None


def in_swarm(info: t.Mapping[str, t.Any]) -> bool:
    """Return whether the engine is a member of a swarm. It is one in every state but "inactive", also without a connection."""
    return ((info.get("Swarm") or {}).get("LocalNodeState") or "inactive") != "inactive"


def swarm_on_disk(data_root: str) -> bool:
    """Return whether an engine that does not run would start as the member of a swarm."""
    return os.path.isfile(os.path.join(data_root, "swarm", "docker-state.json"))


class Engine:
    """The engine as a unit of systemd."""

    def __init__(self, run: Runner, unit: str, api: str = "") -> None:
        self.run = run
        self.unit = unit
        self.api = api

    def show(self) -> dict[str, str]:
        """What systemd says of the unit."""
        names = "LoadState,ActiveState,SubState,Result,MainPID,NeedDaemonReload,ExecStart,Environment,EnvironmentFiles,FragmentPath"
        return parse_properties(self.run(["systemctl", "show", self.unit, f"--property={names}"])[1])

    def arguments(self, shown: t.Mapping[str, str]) -> tuple[list[str], str]:
        """Return the command line of dockerd, and where it is written."""
        # systemctl quotes an assignment that has blanks.
        environment = dict(word.split("=", 1) for word in daemon_json.split_words(shown.get("Environment", "")) if "=" in word)
        files = re.findall(r"(/\S+)", shown.get("EnvironmentFiles", ""))
        if shown.get("LoadState") != "loaded":
            # The distribution's unit, not installed yet, will read this file.
            files, shown = ["/etc/default/docker"], {"ExecStart": "argv[]=dockerd $DOCKER_OPTS ;"}
        for file in files:
            environment.update(daemon_json.environment_file(hostfile.read(file).text or ""))
        argv = re.search(r"argv\[\]=(.*?) ;", shown.get("ExecStart", ""))
        where = " or ".join(filter(None, [shown.get("FragmentPath", ""), *files])) or self.unit
        return daemon_json.command_line(argv.group(1) if argv else "", environment), f"{where} (see 'systemctl cat {self.unit}')"

    def config_file(self, arguments: t.Sequence[str]) -> str:
        """Return the configuration file that dockerd reads."""
        return os.path.join("/", daemon_json.flag_value(arguments, "--config-file") or CONFIG_FILE)

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

    def info(self, shown: t.Mapping[str, str]) -> dict[str, t.Any]:
        """Return what a running engine says of itself; empty when it does not run. Asking one that does not run would start it."""
        if shown.get("ActiveState") not in ("active", "reloading"):
            return {}
        try:
            return t.cast("dict[str, t.Any]", ask(self.api, "/info"))
        except Unanswered as exc:
            raise DaemonJsonError(f"{self.unit} runs, but {exc}; see 'journalctl -u {self.unit}'. Nothing was changed") from exc

    def take_live_restore(self, wanted: bool, timeout: float) -> str | None:
        """Let a running engine read ``live-restore`` from its file again; why it did not, or None.

        A restart that brings the setting stops all containers, and so does one that takes it away. A reload does neither.
        """
        rc, stdout, stderr = self.run(["systemctl", "kill", "--signal=HUP", "--kill-who=main", self.unit])
        if rc != 0:
            return f"it could not be told to read its file again: {(stderr or stdout).strip()}"
        deadline = time.monotonic() + timeout
        reason = f"it did not take live-restore ({str(wanted).lower()}) from its file within {timeout:.0f} s"
        while time.monotonic() < deadline:
            try:
                if bool(ask(self.api, "/info").get("LiveRestoreEnabled")) is wanted:
                    return None
            except Unanswered as exc:
                reason = str(exc)
            time.sleep(POLL_SECONDS)
        return reason

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
        hostfile.write(backup, entry)
    directory, name = os.path.split(path)
    pattern = re.compile(re.escape(name) + r"\.\d{8}T\d{6}\.bak")
    copies = sorted(item for item in os.listdir(directory) if pattern.fullmatch(item)) if os.path.isdir(directory) else []
    for old in copies[: len(copies) - keep] if keep > 0 else copies:
        hostfile.write(os.path.join(directory, old), MISSING)
    return backup
