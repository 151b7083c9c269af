# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people call, besides apply: check, rollback, resume and diff."""

from __future__ import annotations

import time

from . import boot, former, staged
from . import state as states
from .check import check_tree
from .difference import unified
from .edge import Edge
from .errors import ApplyError
from .render import READ_BY_NGINX, Wanted
from .run import Run
from .status import Result
from .trees import Trees


def check(run: Run) -> Result:
    """Test what is staged; change nothing that nginx reads."""
    started, edge = time.monotonic(), run.edge
    live, message, outcome, blame, changed = None, "", "unchanged", "", False
    try:
        with edge.lock():
            run.begin()
            live = edge.trees.live()
            wanted = staged.parse(edge.config, staged.source(edge.config))
            changed = live is None or not edge.trees.has(live, run.candidates.rendered(wanted, live).files)
            message = _tested(run, wanted) if changed else f"what is staged is live as generation {live}"
    except ApplyError as error:
        outcome, message, blame = "refused" if error.blame == "guard" else "failed", error.message, error.blame
    except OSError as error:
        outcome, message, blame = "failed", str(error), "host"
    duration = round((time.monotonic() - started) * 1000)
    return Result(outcome, message, live, edge.is_served(live), blame, changed, duration)


def _tested(run: Run, wanted: Wanted) -> str:
    """Test a candidate and remove it; return what it would become."""
    edge = run.edge
    generation = states.next_generation(edge.state, edge.trees.names())
    services = wanted.source.services()
    run.guard.check(run.guard.served_before(), services, False)
    try:
        run.candidates.tested(wanted, generation)
    finally:
        edge.trees.remove(generation)
    return f"what is staged is good and would become generation {generation} with {len(services)} services"


def rollback(run: Run, target: str | None) -> Result:
    """Go back to an earlier generation and stay there until --resume."""
    started, edge = time.monotonic(), run.edge
    with edge.lock():
        run.begin()
        run.recovery.recover()
        live = edge.trees.live()
        try:
            target = _target(edge, live, target)
        except ApplyError as error:
            return Result("failed", error.message, live, edge.is_served(live), error.blame)
        try:
            check_tree(edge.config, edge.trees.path(target), {})
            edge.set_pending(live, target, note="rollback")
            _switch_back(edge, live, target)
        except (ApplyError, OSError) as error:
            return run.status.record(started, Result("failed", str(error), live, edge.is_served(live), "host"))
        _note_rollback(edge, live, target)
        others = [name for name, what in former.marks(edge.trees.path(target)).items() if what == former.REPLACED]
        message = f"generation {target} is live again"
        message += f" with the present certificate {', '.join(others)}" if others else ""
        message += "; changes are held until nginx-edge-apply --resume"
        return run.end(started, Result("rolled_back", message, target, True, changed=True))


def _target(edge: Edge, live: str | None, target: str | None) -> str:
    """Return the generation to go back to, which has only present certificates then."""
    trees = edge.trees
    history = [entry["generation"] for entry in edge.state["history"]]
    known = [one for one in history if one != live and trees.complete(one)]
    if target is None:
        target = known[-1] if known else None
    elif target.isdigit():
        target = f"{int(target):06d}"
    if target is None or target not in known:
        reason = f"no such generation to go back to; there are: {', '.join(known) or 'none'}"
        raise ApplyError("operator", reason)
    # What recovery has found is on the disk before a generation that it may need is changed.
    edge.write_state()
    former.refresh(trees.path(target), former.Present(trees).text)
    lost = former.lost(trees.path(target))
    if lost:
        able = ", ".join(one for one in known if not former.lost(trees.path(one))) or "none"
        reason = f"generation {target} needs certificate {', '.join(lost)}, which was withdrawn"
        advice = f"give it in nginx_tls_certificates again, or go back to another generation; there are: {able}"
        raise ApplyError("operator", f"{reason}: {advice}")
    return target


def _switch_back(edge: Edge, live: str | None, target: str) -> None:
    """Make the target live, or again what was live before."""
    trouble = edge.switch(target, edge.trees.sockets(target))
    if trouble:
        back = edge.switch(str(live), edge.trees.sockets(str(live)))
        edge.state["pending"] = None
        rest = f"{live} neither: {back}" if back else f"{live} is live again"
        raise ApplyError("host", f"generation {target} did not come up: {trouble}; {rest}")


def _note_rollback(edge: Edge, live: str | None, target: str) -> None:
    """Note that changes are held at the target, which becomes the newest generation of the history."""
    # A rollback asks for all of that generation, whatever the start of the host has changed.
    boot.end(edge.config)
    state, now = edge.state, round(time.time(), 3)
    found = [entry for entry in state["history"] if entry["generation"] == target]
    others = [entry for entry in state["history"] if entry["generation"] != target]
    state["history"] = others + [{**entry, "activated": now} for entry in found]
    state.update(live=target, pending=None, refused=None, hold={"since": now, "from": live, "to": target})


def resume(run: Run) -> Result:
    """End the hold of a rollback and apply what is staged."""
    with run.edge.lock():
        run.edge.load()
        run.edge.state["hold"] = None
        run.edge.write_state()
    return run.apply()


def diff(edge: Edge, old: str | None, new: str | None) -> str:
    """Return the difference between two generations; by default between the live one and the one before it."""
    edge.load()
    trees, names = edge.trees, [entry["generation"] for entry in edge.state["history"]]
    new = new or trees.live() or ""
    if old is None:
        old = next((name for name in reversed(names) if name != new), new)
    old, new = (f"{int(one):06d}" if one.isdigit() else one for one in (old, new))
    for one in (old, new):
        if not trees.complete(one):
            reason = f"there is no generation {one or '(none)'}; there are: {', '.join(trees.names())}"
            raise ApplyError("operator", reason)
    lines: list[str] = []
    for name in sorted(READ_BY_NGINX):
        before, after = (_without_number(trees, one, name).splitlines(keepends=True) for one in (old, new))
        lines += unified(before, after, f"{old}/{name}", f"{new}/{name}")
    return "".join(lines + former.changed(trees.path(old), trees.path(new)))


def _without_number(trees: Trees, generation: str, name: str) -> str:
    """Return a text of a generation without its number, which is in its own paths and in the status server's answer."""
    text = trees.text(generation, name).replace(f"/{generation}/", "/GENERATION/")
    return text.replace(f'"{generation}\\n"', '"GENERATION\\n"')
