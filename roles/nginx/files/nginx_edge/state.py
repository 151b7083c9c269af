# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state file, the metrics and the status document. No I/O."""

from __future__ import annotations

import json
from typing import Any

from .report import as_lines

SCHEMA = 1
OUTCOMES = ("applied", "failed", "refused", "held", "repaired", "rolled_back")


def empty() -> dict[str, Any]:
    """The state of an edge that never applied anything."""
    return {
        "schema": SCHEMA,
        "live": None,
        "next": 1,
        "pending": None,
        "history": [],
        "hold": None,
        "refused": None,
        "seen": {},
        "foreign": [],
        "doubled_names": [],
        "foreign_upstreams": {"passed": {}, "defined": {}},
        "foreign_files": [],
        "unresolved": {},
        "last": None,
        "last_failure": None,
        "counters": dict.fromkeys(OUTCOMES, 0),
    }


def load(text: str | None) -> dict[str, Any]:
    """The state from its file. A file that can't be used gives the empty state: everything in it can be found again."""
    state = empty()
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        found = {}
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        return state
    for key, default in state.items():
        value = found.get(key, default)
        if default is None or isinstance(value, type(default)):
            state[key] = value
    for key in ("pending", "hold", "refused", "last", "last_failure"):
        if not isinstance(state[key], dict):
            state[key] = None
    if not isinstance(state["live"], str):
        state["live"] = None
    pending = state["pending"]
    if pending is not None and not isinstance(pending.get("to"), str):
        state["pending"] = None
    state["history"] = [entry for entry in state["history"] if isinstance(entry, dict) and isinstance(entry.get("generation"), str)]
    return state


def dump(state: dict[str, Any]) -> str:
    """The text of the state file."""
    return as_lines(state)


def next_generation(state: dict[str, Any], existing: list[str]) -> str:
    """A name that no tree has or had."""
    numbers = [int(name) for name in existing if name.isdigit()]
    return f"{max([state['next'] - 1, *numbers]) + 1:06d}"


def _spans(state: dict[str, Any], now: float) -> dict[str, list[float]]:
    """When each service came and when it left. One that is still served leaves later than now; a clock that was set back ends nothing early."""
    found = {}
    for name, span in state["seen"].items():
        if isinstance(span, list) and len(span) == 2 and isinstance(span[0], (int, float)) and isinstance(span[1], (int, float, type(None))):
            since, until = span
            found[name] = [float(since) if since <= now else 0.0, float("inf") if until is None else min(float(until), now)]
    return found


def remember_seen(state: dict[str, Any], services: set[str], now: float, window: float) -> None:
    """Note when each service came and, once it is served no more, when it left; forget those that left before the window."""
    kept: dict[str, list[float | None]] = {}
    for name, (since, until) in _spans(state, now).items():
        if name not in services and now - until <= window:
            kept[name] = [since, min(until, now)]
        elif name in services:
            kept[name] = [since if until > now else now, None]
    state["seen"] = {**{name: [now, None] for name in sorted(services)}, **kept}


def moments(state: dict[str, Any], served: set[str], now: float, window: float) -> list[set[str]]:
    """What was served at each moment of the window at which something came, and what is served now.

    A catalogue that melts away in steps is a shrink, too; services that were never served together are not."""
    spans = {name: span for name, span in _spans(state, now).items() if span[1] > now - window}
    starts = sorted({max(since, now - window) for since, _until in spans.values()})
    return [served, *({name for name, (since, until) in spans.items() if since <= start < until} for start in starts)]


def prune_history(state: dict[str, Any], keep: int) -> list[str]:
    """Cut the history to its newest entries (the live one always stays); names of the trees that are kept."""
    history = state["history"]
    live = [entry for entry in history if entry["generation"] == state["live"]]
    others = [entry for entry in history if entry["generation"] != state["live"]]
    room = max(0, keep - len(live))
    kept = (others[-room:] if room else []) + live
    state["history"] = [entry for entry in history if entry in kept]
    return [entry["generation"] for entry in state["history"]]


def status(state: dict[str, Any], report: dict[str, Any], serving: bool, starting: bool = False) -> dict[str, Any]:
    """What people and monitoring want to know. ``starting``: nothing that was rendered since the host started is live."""
    last = state["last"] or {}
    return {
        "schema": SCHEMA,
        "generation": state["live"],
        "serving": serving,
        "starting": starting,
        "up_to_date": serving and not starting and last.get("outcome") in (None, "applied", "repaired"),
        "services": report.get("served", []),
        "skipped": report.get("skipped", []),
        "warnings": report.get("warnings", []),
        "certificates": report.get("certificates", {}),
        "malformed_report_lines": len(report.get("malformed", [])),
        "hold": state["hold"],
        "refused": state["refused"],
        "last": state["last"],
        "last_failure": state["last_failure"],
        "history": state["history"],
        "counters": state["counters"],
    }


def metrics(state: dict[str, Any], report: dict[str, Any], serving: bool, limited: dict[str, int], starting: bool = False) -> str:
    """The same for Prometheus. ``limited`` is what each limit refused."""
    last = state["last"] or {}
    good = state["history"][-1]["activated"] if state["history"] else 0
    lines: list[str] = []

    def add(name: str, kind: str, text: str, *samples: tuple[str, float]) -> None:
        lines.append(f"# HELP nginx_edge_{name} {text}")
        lines.append(f"# TYPE nginx_edge_{name} {kind}")
        lines.extend(f"nginx_edge_{name}{labels} {value:.15g}" for labels, value in samples)

    live = state["live"] or ""
    add("generation", "gauge", "Number of the live generation.", ("", int(live) if live.isdigit() else 0))
    add("serving", "gauge", "1 when nginx answered with the live generation at the end of the last run.", ("", int(serving)))
    add("up_to_date", "gauge", "1 when what was staged last is what is live.", ("", int(status(state, report, serving, starting)["up_to_date"])))
    add("last_attempt_timestamp_seconds", "gauge", "End of the last run that changed something or failed.", ("", last.get("time", 0)))
    add("last_success_timestamp_seconds", "gauge", "When the newest generation went live.", ("", good))
    add("last_duration_seconds", "gauge", "Duration of the last run that changed something or failed.", ("", last.get("duration_ms", 0) / 1000))
    runs = ((f'{{outcome="{key}"}}', state["counters"].get(key, 0)) for key in OUTCOMES)
    add("runs_total", "counter", "Runs by outcome; runs that found nothing to do are not counted.", *runs)
    for name, text in (("served", "Services that are served."), ("skipped", "Services that were skipped.")):
        entries = report.get(name, [])
        add(f"services_{name}", "gauge", text, *((f'{{side="{side}"}}', sum(1 for entry in entries if entry.get("side") == side)) for side in ("http", "tcp")))
    add("warnings", "gauge", "What is served but needs somebody to look at it.", ("", len(report.get("warnings", []))))
    ends = [(f'{{certificate="{name}"}}', end) for name, end in report.get("certificates", {}).items() if end is not None]
    if ends:
        add("certificate_expiry_timestamp_seconds", "gauge", "When a certificate of the live generation ends.", *ends)
    refusals = ((f'{{limit="{limit}"}}', count) for limit, count in limited.items())
    add("limited_total", "counter", "Requests and connections that a limit for one client refused, as far as they are logged.", *refusals)
    add("shrink_refused", "gauge", "1 while a change waits for --confirm-shrink.", ("", int(state["refused"] is not None)))
    add("starting", "gauge", "1 while nothing that was rendered since the start of the host is live.", ("", int(starting)))
    add("held", "gauge", "1 while changes are held after --rollback.", ("", int(state["hold"] is not None)))
    return "\n".join(lines) + "\n"
