# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prepared queries of a Consul data centre: what there is, what there should be, and the calls between them.

Private to the collection. All but L(apply) is pure.
"""

from __future__ import annotations

import re
import typing as t

if t.TYPE_CHECKING:
    from .cluster import ConsulApi

#: A query of Consul has no place for a remark, so this says whose it is: a tag that no instance has, and that none may have. It is in the query itself, so
#: that no other record can disagree with it: neither a run that broke off, nor a snapshot that was put back.
MARK = "!made-by-trinode.platform"
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SERVICE = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,125}[A-Za-z0-9_])?")
_TAG = re.compile(r"!?[^!\s][^\s]{0,126}")
_DATACENTER = re.compile(r"[a-z0-9_-]{1,63}")
_NEAR = re.compile(r"(?:_agent|_ip|[A-Za-z0-9][A-Za-z0-9-]{0,62})?")
_TTL = re.compile(r"(?:[1-9][0-9]{0,5}(?:ms|s|m|h))?")
_NEAREST_MAX = 100


class QueryError(ValueError):
    """The queries cannot be what is wanted; the message names the remedy."""


class Plan(t.NamedTuple):
    """What has to be done."""

    #: Bodies of queries to make.
    create: tuple[dict[str, t.Any], ...] = ()
    #: Id and body of queries to change.
    update: tuple[tuple[str, dict[str, t.Any]], ...] = ()
    #: Id and name of queries that are ours and that nobody wants any more.
    delete: tuple[tuple[str, str], ...] = ()
    #: Those of ours that there are, and those that there will be, without what is empty; for a diff.
    before: tuple[dict[str, t.Any], ...] = ()
    after: tuple[dict[str, t.Any], ...] = ()


def faults(queries: t.Sequence[t.Mapping[str, t.Any]], datacenter: str = "", others: t.Sequence[str] | None = None) -> list[str]:
    """All that is wrong with descriptions of queries, each as "the query 'x' …".

    Args:
        queries: the descriptions.
        datacenter: the data centre that they are for, where it is known.
        others: the names of the other data centres, where they are known.
    """
    found: list[str] = []
    seen: set[str] = set()
    for query in queries:
        name = str(query.get("name") or "")
        if malformed := _malformed(query):
            found += [f"the prepared query {name!r}: {key} must be {allowed}" for key, allowed in malformed]
            continue
        if not _LABEL.fullmatch(name):
            found.append(f"the prepared query {name!r} has no name that DNS can ask for, which is 1 to 63 lower-case letters, digits and inner hyphens")
        elif name in seen:
            found.append(f"the prepared query {name!r} is there twice")
        seen.add(name)
        failover = query.get("failover") or {}
        checks = [
            ("service", _SERVICE, query.get("service") or name, "the name of a service"),
            ("near", _NEAR, query.get("near") or "", "a node, or _agent for the one that is asked"),
            ("ttl", _TTL, query.get("ttl") or "", "a whole number with one of the units ms, s, m, h, such as 10s"),
            *(("tags", _TAG, tag, "a tag without blanks, with ! in front where an instance must not have it") for tag in query.get("tags") or ()),
            *(("failover.datacenters", _DATACENTER, one, "the name of a data centre") for one in failover.get("datacenters") or ()),
        ]
        found += [
            f"the prepared query {name!r}: {key} is {value!r}, it must be {allowed}" for key, pattern, value, allowed in checks if not _fits(pattern, value)
        ]
        nearest = failover.get("nearest_n") or 0
        if isinstance(nearest, bool) or not str(nearest).isdecimal() or int(nearest) > _NEAREST_MAX:
            found.append(f"the prepared query {name!r}: failover.nearest_n is {nearest!r}, it must be a number from 0 to {_NEAREST_MAX}")
        for one in failover.get("datacenters") or ():
            if datacenter and one == datacenter:
                found.append(f"the prepared query {name!r}: failover.datacenters names {one}, which is the data centre itself")
            elif others is not None and _fits(_DATACENTER, one) and one not in others:
                found.append(f"the prepared query {name!r}: failover.datacenters names {one}, which is none of platform_wan_datacenters")
    return found


def _malformed(query: t.Mapping[str, t.Any]) -> list[tuple[str, str]]:
    """Return the keys whose value has not the form that the other rules rely on, each with that form."""
    failover = query.get("failover") or {}
    if not isinstance(failover, t.Mapping):
        return [("failover", "a dictionary")]
    lists = {"tags": query.get("tags"), "failover.datacenters": failover.get("datacenters")}
    return [(key, "a list") for key, value in lists.items() if value and not isinstance(value, (list, tuple))]


def _fits(pattern: re.Pattern[str], value: t.Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def definition(query: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """A description as Consul wants to have it; https://developer.hashicorp.com/consul/api-docs/query."""
    failover = query.get("failover") or {}
    service: dict[str, t.Any] = {
        "Service": query.get("service") or query["name"],
        "Tags": [*(query.get("tags") or ()), MARK],
        "OnlyPassing": bool(query.get("only_passing", True)),
        "Near": query.get("near") or "",
        "Failover": {"NearestN": int(failover.get("nearest_n") or 0), "Datacenters": list(failover.get("datacenters") or ())},
    }
    return {"Name": query["name"], "Service": service, "DNS": {"TTL": query.get("ttl") or ""}}


def essence(value: t.Any) -> t.Any:
    """A query without what is empty and what Consul adds to it; what is left of two that do the same is equal."""
    if isinstance(value, t.Mapping):
        kept = {key: essence(item) for key, item in value.items() if key not in ("ID", "CreateIndex", "ModifyIndex")}
        return {key: item for key, item in kept.items() if item not in (None, "", 0, False, [], {})}
    if isinstance(value, (list, tuple)):
        return [essence(item) for item in value]
    return value


def is_ours(query: t.Mapping[str, t.Any]) -> bool:
    """Whether a query of Consul was made here."""
    return MARK in ((query.get("Service") or {}).get("Tags") or ())


def plan(wanted: t.Sequence[t.Mapping[str, t.Any]], found: t.Sequence[t.Mapping[str, t.Any]]) -> Plan:
    """What turns the queries that there are into those that are wanted; raises L(QueryError) where one of somebody else has a wanted name."""
    bodies = {str(query["name"]): definition(query) for query in wanted}
    ours = {str(query.get("Name")): query for query in found if is_ours(query)}
    for query in found:
        # Consul asks for names in any case.
        if not is_ours(query) and str(query.get("Name", "")).lower() in bodies:
            raise QueryError(
                f"somebody else made a prepared query {query['Name']!r} (id {query['ID']}): take that one away, with"
                f" curl -X DELETE http://127.0.0.1:8500/v1/query/{query['ID']}, or give the one of the inventory another name"
            )
    return Plan(
        create=tuple(body for name, body in bodies.items() if name not in ours),
        update=tuple((str(ours[name]["ID"]), body) for name, body in bodies.items() if name in ours and essence(ours[name]) != essence(body)),
        delete=tuple((str(query["ID"]), name) for name, query in ours.items() if name not in bodies),
        before=tuple(essence(ours[name]) for name in sorted(ours)),
        after=tuple(essence(bodies[name]) for name in sorted(bodies)),
    )


def apply(api: ConsulApi, todo: Plan) -> None:
    """Do what was planned; raises OSError."""
    for identity, _name in todo.delete:
        api.request(f"/v1/query/{identity}", "DELETE")
    for identity, body in todo.update:
        api.request(f"/v1/query/{identity}", "PUT", body)
    for body in todo.create:
        api.request("/v1/query", "POST", body)
