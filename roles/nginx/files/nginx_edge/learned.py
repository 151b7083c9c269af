# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nginx has reported about the operator's own files. It is kept in the state."""

from __future__ import annotations

from .addresses import has_address
from .check import Operators
from .edge import Edge
from .foreign import Foreign, names, no_address, passes_to, refused, scan, text_of, with_port
from .nginxconf import Listener


class Learned:
    """The upstreams, host names and sockets of the operator's own files."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        # Answers of the name servers. Each name is looked up once in a run: two answers would make two trees of one.
        self.addresses: dict[str, bool | None] = {}
        # Host names for which an upstream of the edge is no remedy.
        self.no_upstreams: set[str] = set()

    def listeners(self) -> list[Listener]:
        """Return the sockets of the operator's own servers."""
        return [Listener(*entry) for entry in self.edge.state["foreign"]]

    def foreign(self) -> Foreign:
        """Return the upstreams and host names in the operator's own files that nginx reads, as far as it is known.

        A file that nginx does not read passes nothing and defines nothing. Until nginx has read a new file, its
        messages are all there is to go by."""
        state = self.edge.state
        found = scan(str(path) for path in state["foreign_files"])
        written, defined = found.defined, {}
        for name, path in self._upstreams("passed").items():
            if not path or name in names(text_of(path))[0]:
                found.passed.setdefault(name, path or "nginx configuration")
        for name, path in self._upstreams("defined").items():
            if not path or name in names(text_of(path))[1]:
                defined[name] = path or written.get(name, "nginx configuration")
        pairs = (entry for entry in state["doubled_names"] if isinstance(entry, list) and len(entry) == 2)
        doubled = tuple((str(name), str(place)) for name, place in pairs)
        return Foreign(found.passed, defined, doubled, self._unresolved())

    def _upstreams(self, key: str) -> dict[str, str]:
        """Return the upstreams in nginx's messages, each with its file, if that is known."""
        found = self.edge.state["foreign_upstreams"].get(key)
        return {str(name): str(path) for name, path in found.items()} if isinstance(found, dict) else {}

    def _unresolved(self) -> dict[str, str]:
        """Return the host names in the operator's files that have no address now, each with its file."""
        known = {str(name): str(path) for name, path in self.edge.state["unresolved"].items()}
        passed = {name: path for name, path in known.items() if passes_to(text_of(path), name)}
        return {name: path for name, path in passed.items() if not self._has_address(name)}

    def _has_address(self, name: str) -> bool | None:
        if name not in self.addresses:
            self.addresses[name] = has_address(name)
        return self.addresses[name]

    # -- learning ------------------------------------------------------------------------------------------------------

    def replace(self, found: Operators, unresolved: dict[str, str]) -> bool:
        """Note what nginx has read in the operator's files; return whether anything of it is new."""
        now = {"passed": found.passed, "defined": found.defined}
        upstreams = {key: {one: path for one, path in self._upstreams(key).items() if one in now[key]} for key in now}
        learned = {
            "foreign": [list(listener) for listener in sorted(found.listeners)],
            "foreign_upstreams": upstreams,
            "doubled_names": [list(pair) for pair in sorted(found.doubled)],
            "foreign_files": found.files,
            "unresolved": dict(unresolved),
        }
        state = self.edge.state
        if all(state[key] == value for key, value in learned.items()):
            return False
        state.update(learned)
        self.edge.state_changed = True
        return True

    def add(self, message: str) -> bool:
        """Note what nginx reports about the operator's files; return whether it is new and the edge can help."""
        *found, path = refused(message)
        for key, name in zip(("passed", "defined"), found):
            known = self._upstreams(key)
            if name and known.get(name) != path:
                self.edge.state["foreign_upstreams"] = {
                    **self.edge.state["foreign_upstreams"],
                    key: {**known, name: path},
                }
                self.edge.state_changed = True
                return True
        return self._add_name(message)

    def _add_name(self, message: str) -> bool:
        """Note a host name without an address. An upstream of that name replaces it, unless nginx has refused that.

        Only a name that certainly has none: when the name servers do not answer for a moment, the operator's server
        must not lose its requests."""
        state = self.edge.state
        known, (name, path) = state["unresolved"], no_address(message)
        helpless = with_port(message) or (name if name in known else "")
        if helpless in known:
            self.no_upstreams.add(helpless)
            state["unresolved"] = {other: file for other, file in known.items() if other != helpless}
            return True
        if not name or name in self.no_upstreams or self._has_address(name) is not False:
            return False
        state["unresolved"] = {**known, name: path}
        self.edge.state_changed = True
        return True
