# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The service meta that the edge reads. Private to the collection, pure."""

from __future__ import annotations

import typing as t

from .schema import check_edge

#: Meta key -> what an instance needs for it to have an effect: a tag of that kind, and for "share" meta edge_canary too.
META = {
    "edge_canary": "http",
    "edge_canary_share": "share",
    "edge_https": "https",
    "edge_keepalive": "http",
    "edge_port": "tcp",
    "edge_proxy_protocol": "tcp",
    "edge_weight": "any",
}


def tags_by_kind(settings: t.Mapping[str, t.Any]) -> dict[str, tuple[str, ...]]:
    """Return the tags that a key needs, by the kind that it has in ``META``."""
    internal = settings["internal"] if settings["internal"]["listen_addresses"] else {}
    tags = {
        "http": (settings["http_tag"], internal.get("http_tag")),
        "https": (settings["http_tag"],),
        "tcp": (settings["tcp_tag"], internal.get("tcp_tag")),
        "tls": (settings["tls_tag"],),
    }
    return {kind: tuple(dict.fromkeys(tag for tag in found if tag)) for kind, found in tags.items()}


def edge_meta(edge: t.Any) -> dict[str, list[str]]:
    """Return the meta keys that an edge reads, each with the tags with which it has an effect.

    Raises:
        EdgeError: the description is wrong.
    """
    tags = tags_by_kind(check_edge(edge))
    every = list(dict.fromkeys(tag for found in tags.values() for tag in found))
    return {key: list(tags.get("http" if kind == "share" else kind, every)) for key, kind in META.items()}
