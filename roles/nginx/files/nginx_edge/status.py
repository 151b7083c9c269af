# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the edge is: the result of a run, and the files in which people and monitoring find it."""

from __future__ import annotations

import os
import time
from typing import Any, NamedTuple

from . import boot, former, logins
from . import state as states
from .edge import Edge
from .errors import ApplyError
from .files import Lock, read_text, replace_file
from .journal import log
from .limited import Counted, logs_of
from .page import page
from .render import EDGE_HTTP, EDGE_STREAM
from .report import as_lines


class Result(NamedTuple):
    """How a run ended. ``outcome`` is about what was wanted, ``serving`` about the edge."""

    outcome: str
    message: str
    generation: str | None
    serving: bool
    blame: str = ""
    changed: bool = False
    duration_ms: int = 0
    # Whether a later run may end better, although nothing new is staged.
    waiting: bool = False


class Status:
    """Writes down how the edge is."""

    # The access logs of the generation that they were last asked for: its texts are large.
    known_logs: tuple[tuple[str, str | None], list[str]] = (("", None), [])

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self._counted: Counted | None = None

    def limited(self) -> Counted:
        """Return what the limits refused, as far as it was counted."""
        if self._counted is None:
            self._counted = Counted(f"{self.edge.config.state_dir}/limited.json")
        return self._counted

    def save(self, serving: bool) -> None:
        """Write the state, then what is derived from it."""
        edge, folder, limited = self.edge, self.edge.config.state_dir, self.limited()
        edge.write_state()
        report = edge.trees.report(edge.state["live"])
        starting = boot.begun(edge.config)
        document = states.status(edge.state, report, serving, starting)
        document["limited"] = limited.document()
        counts = {limit: hits.count for limit, hits in limited.hits.items()}
        texts = {
            "status.json": as_lines(document),
            "status.html": page(os.uname().nodename, document, edge.trees.failed()),
            "metrics.prom": states.metrics(edge.state, report, serving, counts, starting),
        }
        for name, text in texts.items():
            replace_file(f"{folder}/{name}", text, sync=False)

    def now(self) -> dict[str, Any]:
        """Return the status now, not that of the last run."""
        edge = self.edge
        edge.load()
        live, answered = edge.trees.live(), edge.nginx.generation()
        serving = live is not None and answered == live
        document = states.status(edge.state, edge.trees.report(live), serving, boot.begun(edge.config))
        return {
            **document,
            "generation": live,
            "answered": answered,
            "failed": edge.trees.failed(),
            "logins": logins.recent(logins.log_of(edge.trees.text(live, EDGE_HTTP)) if live else ""),
            "limited": self.limited().document(),
            "former_certificates": former.sentences(edge.trees),
        }

    # -- the end of a run ----------------------------------------------------------------------------------------------

    def record(self, started: float, result: Result, again: bool = False) -> Result:
        """Write down and log how a run ended. A full disk must not hide the result."""
        edge = self.edge
        result = result._replace(duration_ms=round((time.monotonic() - started) * 1000))
        same = self._note(result)
        if edge.state_changed:
            try:
                self.save(result.serving)
                edge.state_changed = False
            except OSError as error:
                log("failed", f"the state can't be written: {error}")
        if not (again and same) and (result.outcome != "unchanged" or edge.config.testing):
            log(result.outcome, result.message + (" (again)" if same else ""))
        return result

    def _note(self, result: Result) -> bool:
        """Note a result in the state; return whether the run before ended in the same way."""
        edge, state = self.edge, self.edge.state
        before = state["last"] or {}
        noted = {key: value for key, value in result._asdict().items() if key not in ("changed", "waiting")}
        entry = {"time": round(time.time(), 3), **noted}
        if result.outcome == "unchanged":
            good = before.get("outcome") in (None, "applied", "repaired", "unchanged") and before.get("serving", True)
            if not good:
                state["last"], state["refused"], edge.state_changed = {**entry, "outcome": "applied"}, None, True
        else:
            state["counters"][result.outcome] = state["counters"].get(result.outcome, 0) + 1
            state["last"], edge.state_changed = entry, True
            if result.outcome in ("failed", "refused"):
                state["last_failure"] = entry
        return all(before.get(key) == entry[key] for key in ("outcome", "message", "generation", "serving", "blame"))

    # -- limits --------------------------------------------------------------------------------------------------------

    def count_limited(self) -> None:
        """Count what the limits refused since the last time. A run that is under way does not wait for this."""
        edge = self.edge
        try:
            with Lock(f"{edge.config.state_dir}/lock", 0):
                counted = self.limited()
                new = counted.follow(self._logs(), time.time())
                counted.save()
                if new:
                    edge.load()
                    self.save(edge.is_served(edge.trees.live()))
        except (ApplyError, OSError):
            # It is counted the next time.
            pass

    def _logs(self) -> list[str]:
        """Return the access logs of the live generation, which are searched for once in each."""
        live = self.edge.config.live
        key = (self.edge.config.state_dir, self.edge.trees.live())
        if Status.known_logs[0] != key:
            texts = [read_text(f"{live}/{name}") or "" for name in (EDGE_HTTP, EDGE_STREAM)]
            Status.known_logs = (key, sorted({path for text in texts for path in logs_of(text)}))
        return Status.known_logs[1]
