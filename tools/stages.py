#!/usr/bin/env python3
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the stages of the demo and of the tests: each as soon as what it needs is there, independent ones side by side.

Every line that a stage prints is shown with the stage's name before it and kept in build/logs/<stage>.log. A stage that says
nothing for a while is reported as still running. The end is a table with the time of each stage, and, where tests ran, the
line `N passed, N failed` after a line for each test that failed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import typing as t
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / "build" / "logs"
REPORTS = ROOT / "build" / "reports"
HEARTBEAT_SECONDS = 30
FAILED_TAIL_LINES = 60
FAILURES_SHOWN = 8
FAILURE_CHARACTERS = 500
PRINTED_CHARACTERS = 300


class Stage(t.NamedTuple):
    """One step: a command, and the stages that must be over before it starts."""

    command: str
    needs: tuple[str, ...] = ()
    #: Whether it takes nodes: at most one such stage runs at a time, because two sets of nodes do not fit a small machine.
    nodes: bool = False
    #: Whether it is a test stage, which must leave build/reports/<stage>*.xml with at least one test that ran.
    tests: bool = False
    #: The distribution's release of the nodes, where it is not the usual one.
    suite: str = ""


SETUP = ("packages", "python", "engine", "node-image", "artifacts", "samples")

#: The parts of the scenario ``default``, each with the beginning of its test files. A part takes nodes of its own; the stage
#: ``default`` runs all of them on the same nodes.
PARTS = {
    "platform": ("test_1_", "test_2_", "test_3_"),
    "registration": ("test_4_", "test_5_", "test_6_"),
    "selected-faults": ("test_7_", "test_8_"),
}

STAGES: dict[str, Stage] = {
    # Set-up
    "packages": Stage("tools/setup/packages"),
    "python": Stage("tools/setup/python", ("packages",)),
    "artifacts": Stage("tools/setup/artifacts", ("packages",)),
    "engine": Stage("tools/setup/engine", ("packages",)),
    "node-image": Stage("tools/setup/node-image", ("engine",)),
    "samples": Stage("tools/setup/samples", ("node-image",)),
    # Tests
    "lint": Stage("tools/lint/run", ("python",), tests=False),
    "unit": Stage("tools/test/pytest unit tests/unit", ("python",), tests=True),
    "install": Stage("tools/test/pytest install tests/install", ("python",), tests=True),
    "playbooks": Stage("tools/test/pytest playbooks tests/playbooks", ("python",), tests=True),
    "render": Stage("tools/test/pytest render tests/render tests/apply tests/agent", ("python", "artifacts"), tests=True),
    "fuzz": Stage("tools/test/pytest fuzz tests/fuzz", ("python", "artifacts"), tests=True),
    "default": Stage("tools/test/scenario default", SETUP, nodes=True, tests=True),
    **{part: Stage(f"tools/test/scenario default test {' '.join(files)}", SETUP, nodes=True, tests=True) for part, files in PARTS.items()},
    "rejected-input": Stage("tools/test/scenario rejected_input", SETUP, nodes=True, tests=True),
    "artifact": Stage("tools/test/scenario artifact", SETUP, nodes=True, tests=True),
    # What does not fit into `make test`: up to half an hour each
    "used-hosts": Stage("tools/test/scenario used_hosts", SETUP, nodes=True, tests=True),
    "former-artifacts": Stage("tools/setup/former-artifacts", ("artifacts",)),
    "day2": Stage("tools/test/scenario day2", (*SETUP, "former-artifacts"), nodes=True, tests=True),
    "secure": Stage("tools/test/scenario secure", SETUP, nodes=True, tests=True),
    "grow": Stage("tools/test/scenario grow", SETUP, nodes=True, tests=True),
    "node-image-trixie": Stage("tools/setup/node-image", ("engine",), suite="trixie"),
    "trixie": Stage("tools/test/scenario artifact", (*SETUP, "node-image-trixie"), nodes=True, tests=True, suite="trixie"),
    "node-image-bullseye": Stage("tools/setup/node-image", ("engine",), suite="bullseye"),
    "bullseye": Stage("tools/test/scenario artifact", (*SETUP, "node-image-bullseye"), nodes=True, tests=True, suite="bullseye"),
    "bundle-tar": Stage("tools/bundle/make", ("python", "artifacts", "samples")),
    "bundle-lab": Stage("tools/bundle/make lab", ("python", "artifacts", "samples")),
    "bundle-site": Stage("tools/test/scenario bundle", (*SETUP, "bundle-lab"), nodes=True, tests=True),
    "wan": Stage("tools/test/scenario wan", SETUP, nodes=True, tests=True),
    "faults": Stage("tools/test/scenario faults", SETUP, nodes=True, tests=True),
    # Demo
    "demo-nodes": Stage("tools/demo nodes", ("python", "node-image"), nodes=True),
    "demo-site": Stage("tools/demo site", ("demo-nodes", "artifacts"), nodes=True),
    "demo-acceptance": Stage("tools/demo acceptance", ("demo-site", "samples"), nodes=True),
    # Benchmarks
    "bench": Stage("tools/bench", ("python", "node-image", "artifacts"), nodes=True),
}

GOALS: dict[str, tuple[str, ...]] = {
    "setup": SETUP,
    "artifacts": ("artifacts",),
    "bundle": ("bundle-tar",),
    "demo": ("demo-acceptance",),
    "check": ("lint", "unit"),
    "test": ("lint", "unit", "playbooks", "install", "render", "fuzz", "default", "rejected-input", "artifact"),
    "test-all": (
        *("lint", "unit", "playbooks", "install", "render", "fuzz", "default", "rejected-input", "artifact"),
        *("used-hosts", "day2", "secure", "grow", "trixie", "bullseye", "bundle-site", "wan", "faults"),
    ),
}


def closure(names: t.Iterable[str]) -> list[str]:
    """The stages and all that they need, in the order of the table."""
    wanted: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name not in wanted:
            wanted.add(name)
            pending.extend(STAGES[name].needs)
    return [name for name in STAGES if name in wanted]


class Counts(t.NamedTuple):
    """What a JUnit report says."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: object) -> Counts:
        if not isinstance(other, Counts):
            return NotImplemented
        return Counts(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)


def count(report: Path) -> Counts:
    """Read a JUnit report."""
    total = Counts()
    for suite in ET.parse(report).getroot().iter("testsuite"):
        number = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
        failed = number["failures"] + number["errors"]
        total += Counts(number["tests"] - failed - number["skipped"], failed, number["skipped"])
    return total


def failures(report: Path) -> list[str]:
    """A line for each test of a JUnit report that failed: its name, the beginning of what it said and where, the end of what it printed."""
    found = []
    for case in ET.parse(report).getroot().iter("testcase"):
        # Without pytest's headlines.
        captured = " ".join(re.sub(r"^-+ Captured \w+ -+$", "", out.text or "", flags=re.MULTILINE) for out in case if out.tag.startswith("system-"))
        printed = " ".join(captured.split())
        for problem in (*case.iterfind("failure"), *case.iterfind("error")):
            said = " ".join((problem.get("message") or problem.text or "").split())
            # pytest gives the file and the line of each step, the last one last; a step of ours says more than one of a library.
            text = (problem.text or "").rstrip()
            place = next(iter(re.findall(r"^(?!/|\.venv)\S+\.py:\d+:.*$", text, re.MULTILINE)[::-1]), text.rpartition("\n")[2])
            line = f"{case.get('classname', '')}::{case.get('name', '')}: {said}"[:FAILURE_CHARACTERS]
            found.append(" | ".join(part for part in (line, place, printed[-PRINTED_CHARACTERS:]) if part))
    return found


class Runner:
    """Runs stages until all are over or one has failed."""

    def __init__(self, names: list[str], verbose: bool) -> None:
        self.names = names
        self.width = max(len(name) for name in names)
        self.verbose = verbose
        self.waiting = list(names)
        self.running: dict[str, subprocess.Popen[str]] = {}
        self.seconds: dict[str, float] = {}
        self.failed: list[str] = []
        self.lock = threading.Condition()
        self.started = time.monotonic()

    def say(self, name: str, line: str) -> None:
        """One line on the terminal, at once."""
        clock = int(time.monotonic() - self.started)
        print(f"{clock // 60:3d}:{clock % 60:02d} {name:<{self.width}} | {line}", flush=True)

    def ready(self, name: str) -> bool:
        """Whether a stage may start now."""
        stage = STAGES[name]
        if stage.nodes and any(STAGES[other].nodes for other in self.running):
            return False
        return all(need in self.seconds for need in stage.needs if need in self.names)

    def start(self, name: str) -> None:
        """Start a stage in a process group of its own, so that it can be ended with all that it started."""
        self.waiting.remove(name)
        environment = {**os.environ, "STAGE": name, "PYTHONUNBUFFERED": "1", "ANSIBLE_FORCE_COLOR": "0", "NO_COLOR": "1"}
        if STAGES[name].suite:
            environment["LAB_SUITE"] = STAGES[name].suite
        process = subprocess.Popen(
            STAGES[name].command.split(),
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.running[name] = process
        for report in REPORTS.glob(f"{name}*.xml"):
            report.unlink()
        threading.Thread(target=self.watch, args=(name, process, time.monotonic()), daemon=True).start()

    def watch(self, name: str, process: subprocess.Popen[str], started: float) -> None:
        """Show what a stage prints until it ends."""
        last_said = time.monotonic()
        lines: list[str] = []

        def heartbeat() -> None:
            nonlocal last_said
            while process.poll() is None:
                time.sleep(1)
                if time.monotonic() - last_said > HEARTBEAT_SECONDS:
                    last_said = time.monotonic()
                    recent = next((line for line in reversed(lines) if line.strip()), "")
                    self.say(name, f"... still running after {time.monotonic() - started:.0f} s: {recent[:100]}")

        threading.Thread(target=heartbeat, daemon=True).start()
        with (LOGS / f"{name}.log").open("w", encoding="utf-8") as log:
            for raw in t.cast(t.Iterable[str], process.stdout):
                line = raw.rstrip("\n")
                lines.append(line)
                log.write(f"{line}\n")
                log.flush()
                if self.verbose or not STAGES[name].tests:
                    self.say(name, line)
                    last_said = time.monotonic()
        status = process.wait()
        problem = self.verdict(name, status)
        with self.lock:
            self.seconds[name] = time.monotonic() - started
            del self.running[name]
            if problem:
                self.failed.append(name)
                if not self.verbose:
                    for line in lines[-FAILED_TAIL_LINES:]:
                        self.say(name, line)
                self.say(name, f"FAILED after {self.seconds[name]:.0f} s: {problem} (all of it: build/logs/{name}.log)")
            else:
                self.say(name, f"done in {self.seconds[name]:.0f} s")
            self.lock.notify_all()

    def verdict(self, name: str, status: int) -> str | None:
        """Why a stage failed; a test stage that ran no test has failed too."""
        if status != 0:
            return f"exit status {status}"
        if STAGES[name].tests:
            reports = list(REPORTS.glob(f"{name}*.xml"))
            total = sum((count(report) for report in reports), Counts())
            if total.failed:
                return f"{total.failed} tests failed"
            if not total.passed:
                return "it ran no test"
        return None

    def run(self) -> bool:
        """Run everything; false when a stage failed."""
        with self.lock:
            while self.running or (self.waiting and not self.failed):
                if not self.failed:
                    for name in list(self.waiting):
                        if self.ready(name):
                            self.start(name)
                    if not self.running and self.waiting:
                        raise RuntimeError(f"these stages wait for each other: {self.waiting}")
                self.lock.wait(timeout=1)
        return not self.failed

    def stop(self) -> None:
        """End what still runs, when the user interrupts."""
        for process in list(self.running.values()):
            try:
                os.killpg(process.pid, signal.SIGTERM)
            except ProcessLookupError:
                continue

    def table(self) -> str:
        """The times."""
        rows = [f"{'stage':<{self.width}}  seconds  result"]
        for name in self.names:
            result = "FAILED" if name in self.failed else "ok" if name in self.seconds else "not run"
            rows.append(f"{name:<{self.width}}  {self.seconds.get(name, 0):7.0f}  {result}")
        rows.append(f"{'all':<{self.width}}  {time.monotonic() - self.started:7.0f}  {'FAILED' if self.failed else 'ok'}")
        return "\n".join(rows)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=t.cast(str, __doc__).splitlines()[0])
    choices = [*GOALS, *(name for name in STAGES if name not in GOALS)]
    parser.add_argument("goals", nargs="+", choices=choices, metavar="GOAL", help=f"what to reach: {', '.join(choices)}")
    parser.add_argument("--verbose", action="store_true", help="show the output of test stages while they run, not only when they fail")
    arguments = parser.parse_args()
    LOGS.mkdir(parents=True, exist_ok=True)
    REPORTS.mkdir(parents=True, exist_ok=True)
    names = closure(stage for goal in arguments.goals for stage in GOALS.get(goal, (goal,)))
    runner = Runner(names, arguments.verbose)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        succeeded = runner.run()
    except (KeyboardInterrupt, SystemExit):
        runner.stop()
        print("interrupted", file=sys.stderr)
        return 130
    print(f"\n{runner.table()}\n")
    (REPORTS / "seconds.json").write_text(json.dumps(runner.seconds, indent=1) + "\n", encoding="utf-8")
    test_stages = [name for name in names if STAGES[name].tests]
    if test_stages:
        reports = [report for name in test_stages for report in REPORTS.glob(f"{name}*.xml")]
        total = sum((count(report) for report in reports), Counts())
        # Last, because the end of a long log is what people see first, and the only part that some keep.
        failed = [line for report in reports for line in failures(report)]
        for line in failed[:FAILURES_SHOWN]:
            print(f"FAILED {line}")
        if len(failed) > FAILURES_SHOWN:
            print(f"... and {len(failed) - FAILURES_SHOWN} more")
        print(f"{total.passed} passed, {total.failed} failed, {total.skipped} skipped")
    return 0 if succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
