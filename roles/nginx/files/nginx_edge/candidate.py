# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A candidate: as much of what is wanted as nginx can have now, tested by nginx."""

from __future__ import annotations

from .addresses import own_addresses, ports_given_anew
from .check import check_tree
from .edge import Edge
from .errors import ApplyError
from .files import read_text
from .learned import Learned
from .nginxconf import ConfigError, Document, Listener, clash, listeners, too_many, worker_connections
from .render import EDGE_HTTP, EDGE_STREAM, Rendered, Wanted, management, render


class Candidates:
    """Renders and tests candidates."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.learned = Learned(edge)

    def rendered(self, wanted: Wanted, generation: str) -> Rendered:
        """Return the tree for what is wanted, as far as its sockets can be had now."""
        config, nginx = self.edge.config, self.edge.nginx
        fixed = (
            *(generation, config.state_dir, config.status_port, config.places, config.status_address),
            *(self.learned.foreign(), own_addresses(), config.status_host_names),
            ports_given_anew() if self.edge.start.late else range(0),
        )
        complete = render(wanted, {}, *fixed)
        missing = nginx.unusable(complete.listeners, nginx.master())
        for listener in sorted(wanted.needed(config.status_port) & missing.keys()):
            advice = "free it, or give the edge another port or address"
            raise ApplyError("host", f"{listener} {missing[listener]}; {advice}")
        unusable = self._unusable(wanted, missing)
        return render(wanted, unusable, *fixed) if any(unusable.values()) else complete

    def _unusable(self, wanted: Wanted, missing: dict[Listener, str]) -> dict[str, dict[Listener, str]]:
        """Return the sockets that each side cannot have, with the reason."""
        config = self.edge.config
        status = management(config.status_port, config.status_address)[1]
        http = {listener: missing[listener] for listener in listeners(wanted.http) & missing.keys()}
        tcp = {listener: missing[listener] for listener in listeners(wanted.stream) & missing.keys()}
        http_side, foreign = wanted.listeners(config.status_port), self.learned.listeners()
        for listener in listeners(wanted.stream):
            if any(clash(listener, other) for other in http_side):
                tcp[listener] = "is the http side's"
            elif any(clash(listener, other) for other in foreign):
                tcp[listener] = "is used by the operator's own nginx configuration"
        self._reserve_connections(wanted.stream, tcp)
        return {"status": {status: missing[status]} if status and status in missing else {}, "http": http, "tcp": tcp}

    def _reserve_connections(self, stream: Document, unusable: dict[Listener, str]) -> None:
        """Add the public ports that would take more than half of the connections of a worker.

        Each socket takes a connection from every worker, and nginx does not start with more sockets than
        ``worker_connections``. So thousands of registered ports cost the surplus of them, not the edge."""
        conf = self.edge.config.nginx_conf
        try:
            connections = worker_connections(Document(read_text(conf) or ""))
        except ConfigError:
            # nginx reports it.
            return
        if connections is not None:
            limit = f"{connections} worker_connections in {conf}"
            reason = f"is one too many for the {limit}: public ports get half of them"
            unusable.update(dict.fromkeys(too_many(stream, unusable, connections // 2), reason))

    def tested(self, wanted: Wanted, generation: str) -> Rendered:
        """Build a tree and let nginx test it.

        Test once more when the operator's own servers turn out to use a port or an upstream of it."""
        edge, documents = self.edge, {EDGE_HTTP: wanted.http, EDGE_STREAM: wanted.stream}
        while True:
            rendered = self.rendered(wanted, generation)
            tree = edge.trees.build(generation, rendered.files)
            edge.step("built")
            try:
                found = check_tree(edge.config, tree, documents)
            except ApplyError as error:
                if not self.learned.add(error.message):
                    raise
                continue
            new = self.learned.replace(found, rendered.unresolved)
            if not new or self.rendered(wanted, generation).files == rendered.files:
                return rendered
