# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The consul-template sources that fetch the edge's services of other data centres. Private to the collection. No Ansible import."""

from __future__ import annotations

import typing as t

from .render import render
from .schema import check_edge, remote_datacenters
from .values import remote_file

#: The content of the file before that data center has answered for the first time.
NOTHING = "{}\n"


def datacenter_templates(edge: t.Any) -> list[dict[str, str]]:
    """Return one entry for each other data center, as the role consul_template takes them.

    Raises:
        EdgeError: the description is wrong.
    """
    settings = check_edge(edge)
    return [
        {
            "name": f"datacenter-{datacenter}",
            "contents": render("datacenter.ctmpl", {"datacenter": datacenter, "names": _names(settings, datacenter)}),
            "destination": remote_file(settings, datacenter),
            "initial": NOTHING,
        }
        for datacenter in remote_datacenters(settings)
    ]


def _names(settings: t.Mapping[str, t.Any], datacenter: str) -> list[str]:
    return [remote["name"] for remote in settings["remote_services"] if remote["datacenter"] == datacenter]
