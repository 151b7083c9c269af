# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an edge costs Consul. Private to the collection. No Ansible import."""

from __future__ import annotations

import re
import typing as t

from .http import http_template
from .schema import check_edge
from .tcp import tcp_template
from .values import MESH_QUESTIONS

_QUESTION = re.compile(r'\bservice \(printf "([^"]*)" \$name\)')


def edge_connections(edge: t.Any) -> int:
    """Connections to Consul that one consul-template keeps open for an edge, at most; raises ``EdgeError`` on a wrong description.

    Counted in the sources themselves, so that no question can be forgotten here: one for the list of services, and one for each service that a
    question is asked about. The same question of two sources is one. Each source asks about a bounded number of services of Consul Connect once more. A
    service of another data centre is two questions of the process that fetches it."""
    questions = set(_QUESTION.findall(http_template(edge) + tcp_template(edge)))
    settings = check_edge(edge)
    return 1 + len(questions) * int(settings["max_services"]) + 2 * MESH_QUESTIONS + 2 * len(settings["remote_services"])
