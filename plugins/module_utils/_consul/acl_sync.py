# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Apply the wanted tokens to a Consul cluster until nothing differs, and end what an operator chose to end. Private to the collection."""

from __future__ import annotations

import typing as t

from . import acl
from . import acl_held as holdings
from . import acl_unknown as foreign

#: The second round finds nothing, unless somebody with a management token writes at the same time.
ROUNDS = 3


class Request(t.NamedTuple):
    """What the cluster should have."""

    wanted: t.Sequence[acl.Wanted]
    datacenter: str
    #: Whether to delete the platform's own tokens and policies that are not wanted any more.
    purge: bool = False
    #: Ids of unknown entries to end, or the word for all of them.
    end: t.Sequence[str] = ()
    #: The secret of the first management token of a new cluster, which is the platform's own.
    initial: str = ""


class Outcome(t.NamedTuple):
    """What was done, and what is left."""

    #: Names of policies and tokens that were made.
    made: t.Sequence[str] = ()
    #: Names of policies and tokens whose rights were not those that the platform gives, and are again.
    repaired: t.Sequence[str] = ()
    #: Names of the platform's own that were not wanted any more; with a purge they are gone.
    surplus: t.Sequence[str] = ()
    #: Lines about what the platform did not make: ended, and still there.
    ended: t.Sequence[str] = ()
    unknown: t.Sequence[str] = ()
    #: Ids to end that the cluster did not have.
    missing: t.Sequence[str] = ()


def sync(api: acl.AclApi, request: Request, dry: bool = False) -> Outcome:
    """Apply the request; a dry run returns what it would do."""
    total = Outcome()
    for number in range(ROUNDS + 1):
        held = holdings.read(api)
        known = {str(api.api.token), request.initial or str(api.api.token), *(token.secret for token in request.wanted)}
        found = foreign.find_unknown(held, known)
        if number == 0:
            _refuse_own(held, known, request.end)
            total = total._replace(missing=foreign.missing(found, request.end))
        todo = acl.plan(request.wanted, held.policies, held.tokens, request.datacenter)
        ending = foreign.choose(found, request.end)
        total = _add(total, todo, [one.text for one in ending], [one.text for one in found if one not in ending])
        if dry or not _differs(todo, ending, request.purge):
            return total
        if number < ROUNDS:
            # An intruder's token ends before new ones can be read with it.
            for one in ending:
                holdings.delete(api, one.path)
            acl.apply(api, todo, request.purge)
    raise acl.AclError(
        f"somebody else changes policies and tokens at the same time: {', '.join([*total.repaired, *total.ended])} differed {ROUNDS} times;"
        " if no other run of a playbook does that, somebody has a management token: run playbooks/rotate_tokens.yml with platform_end_unknown"
    )


def _refuse_own(held: holdings.Holdings, known: t.Collection[str], words: t.Sequence[str]) -> None:
    own = foreign.protected(held, known, words)
    if own:
        raise acl.AclError(f"{', '.join(own)} cannot be ended, because the platform or Consul needs it: take it out of the list, and rotate it instead")


def report(outcome: Outcome, purge: bool) -> list[str]:
    """Return the lines for an operator: what was repaired, ended, or is still valid and should perhaps not be."""
    lines: list[str] = []
    if outcome.repaired:
        lines.append(
            f"Rights repaired: {', '.join(outcome.repaired)}. An upgrade changes rights of policies; if there was none, somebody with a management token"
            " did: see 'A stolen token' in docs/secure_operations.md"
        )
    if outcome.surplus and not purge:
        lines.append(f"Not wanted any more and still valid: {', '.join(outcome.surplus)}. playbooks/rotate_tokens.yml ends them")
    lines += [f"Ended: {line}" for line in outcome.ended]
    lines += [f"Not in the cluster, so not ended: {word}" for word in outcome.missing]
    lines += [f"Not made by the platform, and valid: {line}" for line in outcome.unknown]
    if outcome.unknown:
        lines.append("What you do not know of these ends with playbooks/rotate_tokens.yml and its variable platform_end_unknown")
    return lines


def _differs(todo: acl.Plan, ending: t.Sequence[foreign.Unknown], purge: bool) -> bool:
    return bool(todo.policies or todo.create or todo.update or ending or (purge and (todo.surplus or todo.surplus_policies)))


def _add(total: Outcome, todo: acl.Plan, ended: t.Sequence[str], unknown: t.Sequence[str]) -> Outcome:
    made = [*(str(one["Name"]) for one in todo.policies if "ID" not in one), *(str(one["Description"]) for one in todo.create)]
    repaired = [*(str(one["Name"]) for one in todo.policies if "ID" in one), *(str(one["Description"]) for _accessor, one in todo.update)]
    surplus = [foreign.shown(name) for _identity, name in (*todo.surplus, *todo.surplus_policies)]
    return total._replace(
        made=_joined(total.made, made),
        repaired=_joined(total.repaired, repaired),
        surplus=_joined(total.surplus, surplus),
        ended=[*total.ended, *ended],
        unknown=list(unknown),
    )


def _joined(first: t.Sequence[str], second: t.Sequence[str]) -> list[str]:
    return sorted({*first, *second})
