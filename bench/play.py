# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of the playbooks as an operator makes them, with their time and their slowest tasks. What reads their output is pure."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
import typing as t
from pathlib import Path

from bench.lab import LabError

ROOT = Path(__file__).resolve().parent.parent
SHOWN = 2000


class TaskTime(t.NamedTuple):
    """One task of a run, over all hosts."""

    name: str
    seconds: float


class Recap(t.NamedTuple):
    """What a run did on one host."""

    changed: int
    failed: int
    unreachable: int


class Run(t.NamedTuple):
    """One run of a playbook that came to its end."""

    seconds: float
    tasks: list[TaskTime]
    hosts: dict[str, Recap]

    @property
    def changed(self) -> int:
        """Changes on all hosts."""
        return sum(recap.changed for recap in self.hosts.values())


def parse_tasks(text: str) -> list[TaskTime]:
    """The table that the callback ansible.posix.profile_tasks prints at the end of a run, slowest first.

    Raises:
        ValueError: there is none.
    """
    _, found, end = text.rpartition("TASKS RECAP")
    if not found:
        raise ValueError(f"the run printed no times of its tasks: {text[-SHOWN:]}")
    rows = re.findall(r"^(\S.*?) -+ (\d+\.\d\d)s$", end, re.MULTILINE)
    return [TaskTime(name, float(seconds)) for name, seconds in rows]


def parse_recap(text: str) -> dict[str, Recap]:
    """The recap of a run: host -> what was done there."""
    rows = re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", text, re.MULTILINE)
    return {host: Recap(int(changed), int(failed), int(unreachable)) for host, changed, unreachable, failed in rows}


def slowest(runs: t.Sequence[t.Sequence[TaskTime]], most: int) -> list[tuple[str, list[float]]]:
    """The tasks that took longest in the median run, each with its times. A task that a run does not name took less than those that it names."""
    times: dict[str, list[float]] = {}
    for run in runs:
        # Two tasks of one name, such as the same role for two kinds of hosts, count as one.
        sums: dict[str, float] = {}
        for task in run:
            sums[task.name] = sums.get(task.name, 0.0) + task.seconds
        for name, seconds in sums.items():
            times.setdefault(name, []).append(seconds)

    def rank(row: tuple[str, list[float]]) -> float:
        padded = sorted(row[1] + [0.0] * (len(runs) - len(row[1])))
        return -padded[len(padded) // 2]

    return sorted(times.items(), key=rank)[:most]


def environment(lab: str, network: str) -> dict[str, str]:
    """What the playbooks and tools/demo take from the environment."""
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")},
        "PATH": f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
        "LAB_NAME": lab,
        "LAB_NETWORK": network,
        "ARTIFACT_MIRROR": os.environ.get("ARTIFACT_MIRROR") or str(ROOT / "artifacts"),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_CALLBACKS_ENABLED": "ansible.posix.profile_tasks",
        "ANSIBLE_NOCOLOR": "1",
        "LC_ALL": "C.UTF-8",
    }


def call(words: t.Sequence[str], lab: str, network: str, timeout: float) -> tuple[int, str]:
    """Run a program of the checkout; gives its status and all that it printed. On the way out it is ended with what it started.

    Raises:
        LabError: it did not end in time.
    """
    process = subprocess.Popen(
        list(words),
        cwd=ROOT,
        env=environment(lab, network),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{words[0]} {' '.join(words[1:])[:200]} did not end within {timeout:g} s") from error
    finally:
        if process.poll() is None:
            _end(process)
    return process.returncode, output.decode("utf-8", "replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its whole session."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(10)
            return
        except subprocess.TimeoutExpired:
            continue


def demo(step: str, lab: str, network: str) -> None:
    """A step of tools/demo: `nodes` or `down`.

    Raises:
        LabError: it failed.
    """
    status, output = call(["tools/demo", step], lab, network, timeout=900)
    if status != 0:
        raise LabError(f"tools/demo {step} for {lab} ended with status {status}: {output.strip()[-SHOWN:]}")


def play(playbook: str, lab: str, network: str, *arguments: str, variables: t.Mapping[str, t.Any] | None = None) -> Run:
    """Run a playbook on the nodes of a lab.

    Raises:
        LabError: it failed.
    """
    words = ["ansible-playbook", playbook, "-i", "inventories/demo", *arguments]
    if variables:
        words += ["--extra-vars", json.dumps(variables)]
    # Found here, because the environment of this process may know another one, or none.
    words[0] = str(ROOT / ".venv" / "bin" / words[0])
    began = time.monotonic()
    status, output = call(words, lab, network, timeout=1800)
    seconds = time.monotonic() - began
    if status != 0:
        raise LabError(f"ansible-playbook {playbook} on {lab} ended with status {status}: {output.strip()[-SHOWN:]}")
    return Run(seconds, parse_tasks(output), parse_recap(output))
