# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One fault under load: inject it, watch, let go, wait until all is right, and compare the figures with what must hold."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import time
import typing as t
from pathlib import Path

import callers
import fault_report
import faults
import lab
import traffic
from fault_report import Limit, Record

#: How long there is load before a fault and after everything is right again.
QUIET_SECONDS = 5.0
RIGHT_SECONDS = 180.0
#: For those who call no other service by name.
NOBODY_AT_THE_EDGE_NOTICES = (Limit("http_failed", "=", 0), Limit("tcp_failed", "=", 0), Limit("tls_failed", "=", 0))
NOBODY_NOTICES = (*NOBODY_AT_THE_EDGE_NOTICES, Limit("front_failed", "=", 0), Limit("front_slow_percent", "<=", 0.1))


class Watch:
    """What a case may do and note while its fault lasts."""

    def __init__(self, load: callers.Callers, struck: float) -> None:
        self.load = load
        self.struck = struck
        self.figures: dict[str, float] = {}

    def since(self) -> float:
        """Seconds since the fault."""
        return time.monotonic() - self.struck

    def wait(self, name: str, look: t.Callable[[], t.Any], seconds: float, what: str) -> None:
        """Until it is so; the figure tells after how many seconds."""
        lab.wait_for(look, seconds, what, callers.evidence)
        self.figures[f"{name}_s"] = round(self.since(), 2)
        self.load.event(what)


def _nothing(_watch: Watch) -> None:
    pass


class Case(t.NamedTuple):
    """A fault, and what must hold."""

    name: str
    title: str
    must: str
    inject: t.Callable[[], contextlib.AbstractContextManager[str]]
    limits: tuple[Limit, ...] = NOBODY_NOTICES
    #: Seconds for which the fault lasts; 0: it is a moment.
    lasts: float = 0.0
    #: Edges that are asked, and nodes on which no container comes and goes meanwhile.
    edges: tuple[str, ...] = lab.EDGES
    away: tuple[str, ...] = ()
    #: What else is looked at while it lasts.
    during: t.Callable[[Watch], None] = _nothing
    #: Calls count from the moment at which the fault is in force: to inject it and to take it away, the test itself has to start a unit anew.
    only_while: bool = False
    #: The share of the rate that there has to be at the least, because the nodes share the machine.
    loaded: float = 0.25
    #: What an operator has to do afterwards.
    afterwards: t.Callable[[], None] = lambda: None


class Report:
    """The faults of this run, written after each of them. FAULTS_KEEP=1 keeps those of an earlier run that were not tried again."""

    def __init__(self, name: str) -> None:
        self.path = lab.ROOT / "build" / "reports" / f"{name}.json"
        self.records: dict[str, Record] = {}
        if os.environ.get("FAULTS_KEEP") and self.path.exists():
            self.records = {record.name: record for record in fault_report.read(self.path)}
        commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=lab.ROOT, capture_output=True, text=True, check=False).stdout.strip()
        self.machine = {
            "commit": commit or "unknown",
            "processors": os.cpu_count(),
            "kernel": platform.release(),
            "rate_per_edge": callers.RATE,
            "load_before": round(os.getloadavg()[0], 1),
        }

    def add(self, record: Record) -> None:
        """One more."""
        self.records[record.name] = record
        fault_report.write(self.path, list(self.records.values()), self.machine)

    @property
    def page(self) -> Path:
        """For people."""
        return self.path.with_suffix(".html")


def prepare() -> str:
    """The services on every node, everything right; gives the certificate of the TLS service."""
    certificate = callers.certificate()
    callers.everywhere(mend)
    lab.wait_for(callers.all_right, RIGHT_SECONDS, "everything is right before the first fault", callers.evidence)
    return certificate


def mend(node: str) -> None:
    """Whatever a fault left that was broken off: with a hand, so that it does not spoil the next one."""
    faults.power_on(node)
    lab.wait_for(lambda: lab.run(node, "systemctl is-system-running", check=False) in ("running", "degraded"), 120, f"{node} has started")
    faults.prepare_boot(node)
    lab.run(node, "systemctl reset-failed docker docker.socket; systemctl start consul docker registrator", check=False)
    if node in lab.EDGES:
        lab.run(node, "systemctl start nginx consul-template nginx-edge-apply.socket", check=False)
    lab.wait_for(lambda: lab.run(node, "docker info >/dev/null && echo well"), 90, f"{node}: Docker answers", lambda: lab.journal(node, "docker"))
    callers.start_services(node)
    callers.remove_churn(node)


def _measured(record: Record, load: callers.Callers, watch: Watch, ended: float, case: Case) -> None:
    load.collect_names()
    samples = [sample for sample in load.samples if sample.at < ended] if case.only_while else load.samples
    record.seconds = round(load.ended - load.begun, 1)
    record.events = load.events
    found = fault_report.figures(samples, watch.struck, watch.struck if case.only_while else -1.0, case.away)
    sessions = [at for at in load.cut if not case.only_while or watch.struck <= at < ended]
    found["front_late_trouble"] = fault_report.late_troubles(load.samples, watch.struck, ended)
    record.figures = {**found, "tcp_cut": len(sessions), "kept_reopened": load.reopened, **watch.figures}
    record.figures["http_per_second_and_edge"] = round(
        sum(1 for sample in load.samples if sample.kind in (*fault_report.HTTP, *fault_report.FRONT)) / record.seconds / len(load.edges),
        1,
    )
    record.lanes = fault_report.lanes(load.samples, load.begun, record.seconds)
    record.troubles = fault_report.troubles(load.samples, load.begun)


def measure(case: Case, certificate: str, report: Report) -> None:
    """Try it."""
    callers.everywhere(mend)
    lab.wait_for(callers.all_right, RIGHT_SECONDS, "everything is right before the fault", callers.evidence)
    traffic.settle()
    record = Record(case.name, case.title, case.must, measured=time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime()))
    # Wrong routes are right under no circumstances, and without load nothing is proven.
    record.limits = [*case.limits, Limit("http_wrong", "=", 0), Limit("http_per_second_and_edge", ">=", case.loaded * callers.RATE)]
    load = callers.Callers(certificate, case.edges, case.away)
    watch = Watch(load, 0.0)
    ended = 0.0
    try:
        with load:
            _load_for(QUIET_SECONDS)
            watch.struck = load.event("fault")
            with case.inject() as record.proof:
                if case.only_while:
                    watch.struck = load.event("in force")
                case.during(watch)
                _load_for(watch.struck + case.lasts - time.monotonic())
                ended = load.event("end of the fault") if case.lasts else watch.struck
            case.afterwards()
            lab.wait_for(callers.all_right, RIGHT_SECONDS, "catalogue and edges are right again", callers.evidence)
            lab.wait_for(faults.everything_runs, 60, "every unit runs again", callers.evidence)
            watch.figures["right_s"] = round(load.event("all is right") - ended, 2)
            _load_for(QUIET_SECONDS)
    except BaseException as error:
        record.notes.append(f"It was broken off: {str(error)[:1000]}")
        raise
    finally:
        with contextlib.suppress(AssertionError):
            callers.everywhere(callers.remove_churn)
        _measured(record, load, watch, ended or load.ended, case)
        report.add(record)
        shown = {key: value for key, value in record.figures.items() if value}
        print(f"{case.title}: {record.proof}\n{shown}\n" + "\n".join(record.troubles[:12]))
    assert not record.unmet(), "; ".join(record.unmet()) + "\n" + "\n".join([record.proof, str(record.events), *record.troubles])


def _load_for(seconds: float) -> None:
    """Not a wait for something: so long the load goes on."""
    time.sleep(max(0.0, seconds))
