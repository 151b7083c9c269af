# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a new generation live: build, test, switch, verify; undo it when it does not work."""

from __future__ import annotations

import os

from . import state as states
from .candidate import Candidates
from .edge import Edge
from .errors import ApplyError
from .nginxconf import LeftOut
from .render import Rendered, Wanted
from .status import Result


class Releases:
    """Makes new generations live."""

    def __init__(self, edge: Edge, candidates: Candidates) -> None:
        self.edge = edge
        self.candidates = candidates

    def make_live(self, wanted: Wanted, services: set[str], live: str | None) -> Result:
        """Make what is wanted the live generation; ``live`` is the one before."""
        edge, state = self.edge, self.edge.state
        generation = states.next_generation(state, edge.trees.names())
        rendered = self._tested(wanted, generation, live)
        edge.step("tested")
        note = f"{len(services)} services" + (f", {len(rendered.left_out)} left out" if rendered.left_out else "")
        # A number is never used for a second candidate: nginx may still be busy with the first.
        state["next"] = int(generation) + 1
        try:
            edge.set_pending(live, generation, note=note, services=sorted(services))
        except OSError:
            state["pending"] = None
            edge.trees.remove(generation)
            raise
        edge.step("journal")
        workers = frozenset(edge.nginx.active_workers(edge.nginx.master()))
        trouble = edge.switch(generation, rendered.listeners)
        if trouble:
            return self._undo(generation, live, trouble, workers)
        edge.step("verified")
        edge.commit(generation, note, services)
        edge.step("committed")
        message = f"generation {generation} is live: {len(services)} services{_remarks(rendered)}"
        return Result("applied", message, generation, True, changed=True, waiting=bool(rendered.unresolved))

    def _tested(self, wanted: Wanted, generation: str, live: str | None) -> Rendered:
        """Write and test a candidate, which then is on the disk; keep a failed one for people."""
        edge = self.edge
        try:
            rendered = self.candidates.tested(wanted, generation)
            edge.trees.sync(generation)
        except ApplyError as error:
            if live is not None and error.blame == "operator" and edge.is_refused(live):
                error.message += " (with or without this change: nginx would not start again either)"
            # That a socket cannot be had is found out before there is a tree.
            if os.path.isdir(edge.trees.path(generation)):
                edge.trees.keep_failed(generation, error.message)
            raise
        except OSError:
            edge.trees.remove(generation)
            raise
        return rendered

    def _undo(self, generation: str, live: str | None, reason: str, workers: frozenset[int]) -> Result:
        """Make the last good generation live again: nginx does not work with the candidate."""
        edge, state = self.edge, self.edge.state
        why = "there was no generation before"
        if live is not None:
            why = edge.switch(live, edge.trees.sockets(live), workers)
        else:
            os.unlink(edge.config.live)
        kept = edge.trees.keep_failed(generation, reason)
        state["live"], state["pending"], edge.state_changed = live, None, True
        text = f"generation {generation} did not come up: {reason}; kept in {kept}; "
        text += f"generation {live} is live again" if not why else f"and the edge is down: {why}"
        return Result("failed", text, live, not why, "host", changed=True)


def _remarks(rendered: Rendered) -> str:
    """Return what a message says of a generation besides its services."""
    text = _left_out(rendered.left_out)
    for missing, why in (
        (rendered.not_served, "which no service has now"),
        (rendered.unresolved, "which has no address now"),
    ):
        if missing:
            text += f"; the operator's own configuration passes requests to {', '.join(missing)}, {why}"
    return text


def _left_out(left_out: list[LeftOut]) -> str:
    """Return what was left out, by the reason: a thousand servers may want the same socket."""
    by_reason: dict[str, list[str]] = {}
    for one in left_out:
        by_reason.setdefault(one.why, []).append(one.subject)
    text = ""
    for why, subjects in by_reason.items():
        more = f" and {len(subjects) - 3} more" if len(subjects) > 3 else ""
        text += f"; left out {', '.join(subjects[:3])}{more}: {why}"
    return text
