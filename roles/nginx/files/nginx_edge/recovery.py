# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recovery: finish or undo what an interrupted run left, and keep the last good generation live."""

from __future__ import annotations

import os
import time
from typing import Any

from . import former, staged
from .candidate import Candidates
from .check import check_tree
from .edge import Edge
from .errors import ApplyError
from .files import swap_link
from .release import Releases
from .render import Source
from .status import Result

GIVEN_ANEW = "instances at ports that Docker gives anew"


class Recovery:
    """Brings the edge back to a good generation."""

    def __init__(self, edge: Edge, candidates: Candidates, releases: Releases) -> None:
        self.edge = edge
        self.candidates = candidates
        self.releases = releases

    # -- what an earlier run left --------------------------------------------------------------------------------------

    def recover(self) -> list[str]:
        """Finish or undo what an earlier run left half done; return what was done, in words."""
        edge, state = self.edge, self.edge.state
        done: list[str] = []
        if state["pending"] is not None:
            done += self._end_pending(state["pending"])
            state["pending"], edge.state_changed = None, True
        linked = edge.trees.live()
        if linked is None or not edge.trees.complete(linked):
            linked, words = self._find_live(linked)
            done += words
        if state["live"] != linked:
            state["live"], edge.state_changed = linked, True
        if not state["history"] and linked is not None:
            # The state file was lost: the trees are all there is to go back to.
            names = [name for name in edge.trees.names() if name != linked and edge.trees.complete(name)]
            now = round(time.time(), 3)
            entry: dict[str, Any] = {"activated": now, "services": None, "note": "found"}
            state["history"] = [{"generation": name, **entry} for name in (*names, linked)]
        edge.trees.remove_all_but({entry["generation"] for entry in state["history"]} | {linked})
        return done

    def _end_pending(self, pending: dict[str, Any]) -> list[str]:
        """Finish or undo the change of an interrupted run; return what was done, in words."""
        edge, trees = self.edge, self.edge.trees
        target, before = pending["to"], pending.get("from")
        if edge.start.booting or edge.start.late:
            # Nothing of before is served only to verify it.
            if not trees.complete(before):
                return []
            swap_link(edge.config.live, f"trees/{before}")
            trees.remove(target)
            return [f"generation {target} of a run that the start of the host ended was taken back"]
        if trees.live() != target:
            trees.remove(target)
            return []
        if not trees.complete(target):
            return []
        trouble = edge.serve(target, trees.sockets(target))
        if not trouble:
            edge.commit(target, str(pending.get("note", "")), set(pending.get("services") or []))
            return [f"generation {target} of an interrupted run was verified and kept"]
        if not trees.complete(before):
            return []
        trees.keep_failed(target, f"after an interrupted run: {trouble}")
        edge.switch(str(before), trees.sockets(str(before)))
        return [f"generation {target} of an interrupted run was taken back: {trouble}"]

    def _find_live(self, linked: str | None) -> tuple[str | None, list[str]]:
        """Link the newest good generation, because the link is gone or broken; return it, and this in words."""
        edge, trees, state = self.edge, self.edge.trees, self.edge.state
        known = [entry["generation"] for entry in state["history"]]
        candidates = [state["live"], *reversed(known), *reversed(trees.names())]
        found = next((name for name in candidates if trees.complete(name) and not edge.is_refused(name)), None)
        if found is not None:
            swap_link(edge.config.live, f"trees/{found}")
            return found, [f"the live link was gone or broken and names generation {found} again"]
        if linked is not None:
            os.unlink(edge.config.live)
        return None, []

    # -- when a change cannot be made ----------------------------------------------------------------------------------

    def fall_back(self, trouble: ApplyError) -> Result:
        """Keep what was live, because the change cannot be made; without that, serve an edge without services."""
        edge = self.edge
        booting = edge.start.booting
        edge.start.keep_to_before()
        live = edge.trees.live()
        if live is None and trouble.blame == "staged":
            try:
                source = Source("", "", *staged.base(edge.config), {})
                live = self.releases.make_live(staged.parse(edge.config, source), set(), None).generation
            except ApplyError as other:
                trouble.message += f"; {other.message}"
        serving, why, note = False, "there is no generation yet", ""
        try:
            if live is not None and (booting or trouble.blame in ("staged", "guard")):
                live, note = self.renew(live)
            if live is not None:
                serving, _, why = edge.ensure(live)
        except OSError as error:
            why = str(error)
        rest = (f"generation {live} stays live" if serving else f"and the edge is down: {why}") + note
        outcome = "refused" if trouble.blame == "guard" else "failed"
        blame = "staged" if outcome == "refused" else trouble.blame
        return Result(outcome, f"{trouble.message}; {rest}", live, serving, blame)

    def without_given_anew(self, result: Result) -> Result:
        """Serve the generation before without what may be another service's since the host started."""
        self.edge.start.keep_to_before()
        if result.generation is None:
            return result
        live, note = self.renew(result.generation)
        serving, _, why = self.edge.ensure(live)
        message = result.message + note + (f"; {why}" if why else "")
        return result._replace(generation=live, serving=serving, message=message)

    def renew(self, live: str) -> tuple[str, str]:
        """Renew the live generation while what is staged has to wait; return (what is live, a note).

        It gets the present certificates, and after a start of the host it loses what may be another service's now."""
        edge, config = self.edge, self.edge.config
        late, refused = edge.start.late, edge.state["refused"]
        if former.REPLACED not in former.Present(edge.trees).waiting().values() and not late:
            return live, ""
        try:
            source = staged.source_with(config, *edge.trees.staged(live).values())
            wanted = staged.parse(config, source)
            if edge.trees.has(live, self.candidates.rendered(wanted, live).files):
                return live, ""
            result = self.releases.make_live(wanted, edge.trees.services(edge.state["live"]), live)
        except (ApplyError, OSError) as error:
            what = f"{GIVEN_ANEW} cannot be left out" if late else "certificates cannot be renewed"
            return live, f"; its {what}: {error}"
        edge.state["refused"] = refused
        what = f"without {GIVEN_ANEW}" if late else "with the present certificates"
        note = f"; generation {result.generation} is {live} {what}"
        return str(result.generation), note if result.outcome == "applied" else f"; {result.message}"

    def blame(self, live: str, why: str) -> None:
        """Raise the best known reason why nginx does not serve what is live, unless a new generation can avoid it."""
        try:
            check_tree(self.edge.config, self.edge.trees.path(live), {})
        except ApplyError as error:
            if self.candidates.learned.add(error.message):
                return
            message = f"nginx does not serve generation {live}: {error.message}"
            raise ApplyError(error.blame, message) from error
        raise ApplyError("host", why)
