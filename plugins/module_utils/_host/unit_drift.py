# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a running service is what its files say it should be.

Private to the collection. Pure: facts come in, reasons go out, so that a unit test reaches every rule.
"""

from __future__ import annotations

import typing as t

# A process start is known to one clock tick (10 ms); a file written that close to the start was there when it was read.
TOLERANCE_SECONDS = 0.05

PROPERTIES = (
    "LoadState",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "MainPID",
    "NeedDaemonReload",
    "FragmentPath",
    "DropInPaths",
    "StateChangeTimestampMonotonic",
)


class FileAge(t.NamedTuple):
    """A file and the seconds since its last change; None when it does not exist."""

    path: str
    seconds: float | None


class UnitState(t.NamedTuple):
    """What systemd and the kernel say of the unit."""

    properties: t.Mapping[str, str]
    #: Seconds since the main process started, or, for a unit that reloads, since its last reload. None without a process.
    loaded_seconds: float | None
    #: The program that the main process runs, as /proc/PID/exe names it. None without a process.
    running_executable: str | None


def parse_properties(text: str) -> dict[str, str]:
    """Read the output of ``systemctl show``: one ``Key=value`` per line."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {key: value for key, separator, value in pairs if separator}


def process_age(stat: str, uptime: str, ticks_per_second: int) -> float:
    """Seconds since a process started, from /proc/PID/stat and /proc/uptime (proc(5)).

    Both count from boot, so a step of the clock does not matter. The command name in ``stat`` may hold spaces and
    parentheses; the fields are counted from the last closing one.
    """
    fields = stat.rpartition(")")[2].split()
    return float(uptime.split()[0]) - int(fields[19]) / ticks_per_second


def newer(state: UnitState, files: t.Iterable[FileAge]) -> list[str]:
    """Return the files that changed after the process read them; none without a process."""
    loaded = state.loaded_seconds
    if loaded is None:
        return []
    return [file.path for file in files if file.seconds is not None and file.seconds + TOLERANCE_SECONDS < loaded]


def reasons(state: UnitState, files: t.Iterable[FileAge], executable: str | None) -> list[str]:
    """Why the unit has to be (re)started; empty when it runs and has read what is on the disk.

    Args:
        state: what systemd and the kernel say of the unit.
        files: the files that the process reads when it starts.
        executable: the program it should run, links resolved; None when that does not matter.
    """
    unit = state.properties
    if unit.get("LoadState") != "loaded":
        return [f"the unit is not loaded ({unit.get('LoadState') or 'unknown'})"]
    found = []
    if unit.get("NeedDaemonReload") == "yes":
        found.append("its unit file changed on disk since systemd read it")
    if unit.get("UnitFileState") in ("disabled", "masked"):
        found.append(f"it is {unit['UnitFileState']} and would not come back after a reboot")
    if unit.get("ActiveState") not in ("active", "reloading") or state.loaded_seconds is None:
        found.append(f"it is not running ({unit.get('ActiveState')}/{unit.get('SubState')})")
        return found
    found += [f"{path} is newer than the running process" for path in newer(state, files)]
    if executable is not None and state.running_executable != executable:
        found.append(f"it runs {state.running_executable}, not {executable}")
    return found
