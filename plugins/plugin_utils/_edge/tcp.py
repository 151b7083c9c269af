# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The consul-template source of the edge's tcp side (stream): ports of their own, and TLS by name.

Private to the collection. No Ansible import.
"""

from __future__ import annotations

import typing as t

from .render import render
from .schema import check_edge
from .value_checks import in_milliseconds
from .values import Settings, common_values

#: How often an only instance behind the TLS port is tried.
TLS_TRIES = 3


def tcp_template(edge: t.Any) -> str:
    """Return the consul-template source that renders the edge's stream side.

    Raises:
        EdgeError: the description is wrong.
    """
    settings = check_edge(edge)
    values = {
        **common_values("tcp", settings),
        **_logged(settings),
        "total": "(add (len $servers) (len $spares_here))" if settings["remote_services"] else "(len $servers)",
        "tries": {"count": settings["next_upstream_tries"], "timeout": settings["next_upstream_timeout"]},
        "tls_tries": _tls_tries(settings),
        "TLS_TRIES": TLS_TRIES,
    }
    return render("tcp.ctmpl", values)


def _logged(settings: Settings) -> dict[str, str]:
    """Return the variables of nginx for client and port: where TLS is ended, the PROXY protocol has them."""
    if settings["tls"]["certificates"] and settings["public"]:
        return {"log_client": "$edge_client", "log_port": "$edge_port"}
    return {"log_client": "$remote_addr", "log_port": "$server_port"}


def _tls_tries(settings: Settings) -> dict[str, t.Any]:
    """Return tries and their time for the TLS port, where an only instance is tried several times."""
    timeout = settings["next_upstream_timeout"]
    needed = TLS_TRIES * in_milliseconds(settings["connect_timeout"])
    return {
        "count": max(settings["next_upstream_tries"], TLS_TRIES),
        "timeout": timeout if in_milliseconds(timeout) >= needed else f"{needed}ms",
    }
