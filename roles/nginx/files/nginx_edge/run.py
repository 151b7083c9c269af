# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run: read what is staged, build, test, switch, verify; or keep what was live, and say why."""

from __future__ import annotations

import time
from collections.abc import Callable

from . import former
from .candidate import Candidates
from .config import Config
from .edge import Edge
from .errors import ApplyError
from .guard import Guard
from .journal import log
from .recovery import Recovery
from .release import Releases
from .render import STAGED_HTTP, STAGED_STREAM
from .status import Result, Status


class Run:
    """A checked change on one host.

    Args:
        config: the configuration.
        before_news: called before the run waits for what is staged next.
    """

    def __init__(self, config: Config, before_news: Callable[[], None] = lambda: None) -> None:
        self.edge = Edge(config)
        self.status = Status(self.edge)
        self.guard = Guard(self.edge, before_news)
        self.candidates = Candidates(self.edge)
        self.releases = Releases(self.edge, self.candidates)
        self.recovery = Recovery(self.edge, self.candidates, self.releases)

    def apply(self, confirm_shrink: bool = False, again: bool = False) -> Result:
        """Make what is staged live. A run ``again`` after a failure logs nothing when it ends like the one before."""
        started = time.monotonic()
        try:
            with self.edge.lock():
                return self._apply(started, confirm_shrink, again)
        except (ApplyError, OSError) as error:
            # Reached when the state directory cannot be used: the result cannot be written down.
            log("failed", str(error))
            live = self.edge.trees.live()
            blame = getattr(error, "blame", "host")
            return Result("failed", str(error), live, self.edge.is_served(live), blame)

    def begin(self) -> None:
        """Read what is known of the edge, and of the start of the host."""
        self.edge.load()
        self.edge.start.look()

    def end(self, started: float, result: Result, again: bool = False) -> Result:
        """Write down how the run ended, and remove the keys that are no longer needed."""
        result = self.status.record(started, result, again)
        # As long as the disk says that a change is on its way, the generation before it may be needed as it was.
        if not self.edge.state_changed:
            former.forget(self.edge.trees)
        return result

    def _apply(self, started: float, confirm_shrink: bool, again: bool) -> Result:
        edge = self.edge
        self.begin()
        recovered: list[str] = []
        try:
            recovered = self.recovery.recover()
            result = self._change(confirm_shrink)
            if edge.start.booting and result.outcome == "failed":
                result = self.recovery.without_given_anew(result)
        except ApplyError as error:
            result = self.recovery.fall_back(error)
        except OSError as error:
            reason = f"{error.strerror}{f': {error.filename}' if error.filename else ''}"
            result = self.recovery.fall_back(ApplyError("host", reason))
        except Exception as error:
            # An unexpected input must not end this program: the edge has to stay up, and the reason to be recorded.
            import traceback

            traceback.print_exc()
            reason = f"unexpected {type(error).__name__}: {error}"
            result = self.recovery.fall_back(ApplyError("platform", reason))
        if recovered:
            outcome = "repaired" if result.outcome == "unchanged" else result.outcome
            message = "; ".join([*recovered, result.message])
            result = result._replace(outcome=outcome, message=message, changed=True)
        # The status shows whether the mark is there.
        edge.state_changed |= edge.start.let_nginx_start()
        return self.end(started, result, again)

    def _change(self, confirm_shrink: bool) -> Result:
        edge, live = self.edge, self.edge.trees.live()
        if edge.state["hold"] is not None and live is not None:
            return self._held(live)
        before = self.guard.served_before()
        wanted, services = self.guard.wait_until_settled(before, confirm_shrink)
        texts = {STAGED_HTTP: wanted.source.http, STAGED_STREAM: wanted.source.stream}
        # Rendered for the comparison only where nothing else was staged: most runs have a change to make.
        if live is not None and edge.trees.has(live, texts):
            same = self.candidates.rendered(wanted, live)
            if edge.trees.has(live, same.files):
                serving, did, why = edge.ensure(live)
                if serving:
                    outcome = "repaired" if did else "unchanged"
                    note = "; nginx was started or reloaded, because it did not serve it" if did else ""
                    message, waiting = f"generation {live} is live{note}", bool(same.unresolved)
                    return Result(outcome, message, live, True, changed=did, waiting=waiting)
                self.recovery.blame(live, why)
        self.guard.check(before, services, confirm_shrink)
        return self.releases.make_live(wanted, services, live)

    def _held(self, before: str) -> Result:
        """Keep what a rollback made live."""
        edge = self.edge
        edge.start.keep_to_before()
        live, note = self.recovery.renew(before)
        serving, did, why = edge.ensure(live)
        changed = did or live != before
        if not serving:
            return Result("failed", why, live, serving, "host", changed)
        message = f"changes are held after a rollback to {edge.state['hold'].get('to')}"
        message += f"; nginx-edge-apply --resume ends it{note}"
        return Result("held", message, live, serving, "", changed)
