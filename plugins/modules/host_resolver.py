#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Point a host's name resolution to given servers, prove it, or put it back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_resolver
short_description: Point a host's name resolution to given servers, prove it, or put it back
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Makes the host ask O(servers), through whatever manages its resolver, and proves the result with lookups of O(proof_names).
  - Before the first change the former name servers and the former C(/etc/resolv.conf) are remembered in O(state_file).
  - When the manager does not take the change over or a name does not resolve after it, everything is put back as it was before this run,
    and the module fails with the reason.
options:
  state:
    description:
      - V(present) points the resolver to O(servers).
      - V(remembered) only remembers what there is, for a task that installs a resolver's package afterwards, and names that package.
      - V(verified) changes nothing, and fails when another program has changed what V(present) wrote.
      - V(absent) puts the resolver back as it was before the first V(present), and stops and disables a
        systemd-resolved that did not run before. Without O(state_file) it removes what V(present) added to the settings
        of a manager, and refuses to leave a plain C(/etc/resolv.conf) of V(present) behind.
    type: str
    choices: [present, remembered, verified, absent]
    default: present
  servers:
    description:
      - The addresses of name servers that all answer for every name. libc reads no more than three; V(resolved) uses all.
    type: list
    elements: str
    default: []
  domain:
    description: [The domain that only O(servers) know. V(resolved) asks nobody else for it.]
    type: str
    default: consul
  search:
    description: Domains to try for short names, beside those of the manager.
    type: list
    elements: str
    default: []
  options:
    description: [The options of resolv.conf(5). V(resolved) has none.]
    type: list
    elements: str
    default: []
  reverse_names:
    description:
      - Names by address, as lines of C(/etc/hosts), for reverse lookups. An address may have several names, parted by blanks.
    type: dict
    default: {}
  backend:
    description:
      - What manages the resolver. V(auto) finds it out. V(file) is a plain C(/etc/resolv.conf) that nobody else writes.
      - V(resolvconf) is either Debian's resolvconf or openresolv, whichever is installed.
    type: str
    choices: [auto, resolvconf, resolved, file]
    default: auto
  former_servers:
    description: The name servers that were there before, when they cannot be found out.
    type: list
    elements: str
    default: []
  proof_names:
    description: [Names that the system's resolver must resolve at the end.]
    type: list
    elements: str
    default: []
  proof_timeout:
    description: [Seconds after which a name that still does not resolve is a failure.]
    type: int
    default: 30
  state_file:
    description: [Where the former state is remembered.]
    type: path
    default: /var/lib/trinode/resolver.json
attributes:
  check_mode:
    description: Can run in check mode and tells what it would change. Names are only looked up when nothing would change.
    support: full
  diff_mode:
    description: Shows each file that changes, before and after.
    support: full
seealso:
  - module: trinode.platform.host_resolver_facts
"""

EXAMPLES = r"""
- name: Ask the Consul agents for everything
  trinode.platform.host_resolver:
    servers: [127.0.0.1, 192.168.0.130, 192.168.0.131]
    domain: consul
    options: ["timeout:1", "attempts:3"]
    proof_names: [consul.service.dc1.consul, www.hospital.example]

- name: Put the resolver back
  trinode.platform.host_resolver:
    state: absent
"""

RETURN = r"""
backend:
  description: What manages the resolver.
  type: str
  returned: always
reasons:
  description: Why the resolver had to be changed, one sentence each.
  type: list
  elements: str
  returned: always
missing_package:
  description: The package of the backend when it is not installed, else empty.
  type: str
  returned: always
added_backend:
  description: With O(state=absent), the backend that this host did not use before, else empty.
  type: str
  returned: O(state=absent)
resolved:
  description: The addresses of each of O(proof_names).
  type: dict
  returned: when names were looked up
"""

import ipaddress
import platform
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._host import hostfile
from ..module_utils._host.hostfile import Entry
from ..module_utils._resolver import lookup, resolved
from ..module_utils._resolver import manager as resolver
from ..module_utils._resolver.manager import Manager, ResolverError, Settings, System
from ..module_utils._resolver.site_lines import Lines

ARGUMENTS: dict[str, dict[str, t.Any]] = {
    "state": {"type": "str", "choices": ["present", "remembered", "verified", "absent"], "default": "present"},
    "servers": {"type": "list", "elements": "str", "default": []},
    "domain": {"type": "str", "default": "consul"},
    "search": {"type": "list", "elements": "str", "default": []},
    "options": {"type": "list", "elements": "str", "default": []},
    "reverse_names": {"type": "dict", "default": {}},
    "backend": {"type": "str", "choices": ["auto", "resolvconf", "resolved", "file"], "default": "auto"},
    "former_servers": {"type": "list", "elements": "str", "default": []},
    "proof_names": {"type": "list", "elements": "str", "default": []},
    "proof_timeout": {"type": "int", "default": 30},
    "state_file": {"type": "path", "default": "/var/lib/trinode/resolver.json"},
}


class HostResolver:
    """One run of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.system = System(lambda command: t.cast("tuple[int, str, str]", module.run_command(command)))
        self.state_path: str = self.params["state_file"]
        self.state = resolver.load_state(self.state_path)
        #: What this run remembered.
        self.kept: t.Mapping[str, t.Any] | None = None
        self.result: dict[str, t.Any] = {"changed": False, "reasons": [], "missing_package": "", "diff": []}

    def settings(self) -> Settings:
        """The arguments, checked."""
        for key in ("servers", "former_servers"):
            for server in self.params[key]:
                try:
                    ipaddress.ip_address(server)
                except ValueError as exc:
                    raise ResolverError(f"'{server}' in {key} is not an IP address; write the address of a name server") from exc
        for address in self.params["reverse_names"]:
            try:
                ipaddress.ip_address(address)
            except ValueError as exc:
                raise ResolverError(f"'{address}' in reverse_names is not an IP address; write '<address>: <name>'") from exc
        names = {address: str(name) for address, name in self.params["reverse_names"].items()}
        domain = self.params["domain"].strip(".")
        return Settings(self.params["servers"], domain, self.params["search"], self.params["options"], names)

    def present(self) -> None:
        """Point the resolver to the servers."""
        settings = self.settings()
        manager = resolver.manager_for(self.system, self.params["backend"])
        self.result["backend"] = manager.backend
        missing = resolver.missing_package(self.system, manager)
        if missing:
            self._missing(missing)
            return
        self._check_obstacle(manager)
        if manager.backend == "file":
            self._check_writers()
        state = self.state or self._remembered()
        former = Manager(state["backend"], resolver.flavour_of(self.system)) if state["backend"] else manager
        entries = resolver.undone(self.system, former.backend) if former.backend != manager.backend else {}
        managers = [former, manager] if entries else [manager]
        site = resolver.site_lines(self.system, state, manager)
        self._warn_of_rotate(resolver.wanted_options(settings, site))
        entries.update(resolver.wanted(self.system, manager, settings, site))
        entries.update(resolver.hosts_entry(self.system, settings.reverse_names))
        entries = self._differing(entries)
        self.result["reasons"] = [f"{path} differs" for path in entries]
        if not entries:
            reason = resolver.stale(self.system, manager, settings, site)
            self.result["reasons"] = [reason] if reason else []
        first = state["backend"] is None
        state = {**state, "backend": manager.backend, "servers": settings.servers}
        self.result["changed"] = bool(self.result["reasons"]) or state != self.state
        if self.module.check_mode and self.result["changed"]:
            return
        if not self.result["changed"]:
            self._prove()
            return
        # Remembered before the first change: whatever happens next, the former servers are not lost.
        saved = {path: self.system.read(path) for path in {**entries, resolver.RESOLV_CONF: None}}
        if first and state["before"] is not None:
            # On the first run a package that was just installed may have left the host without any name server.
            saved[resolver.RESOLV_CONF] = Entry.from_json(state["before"]["resolv_conf"])
        saved_state = hostfile.read(self.state_path)
        self._keep_state(state)
        try:
            if self.result["reasons"]:
                resolver.put(self.system, entries, managers)
                reason = resolver.stale(self.system, manager, settings, site)
                if reason:
                    raise ResolverError(f"after the change {reason}; another program writes it or {manager.backend} is misconfigured")
            self._prove()
        except ResolverError as exc:
            if not self.result["reasons"]:
                raise
            self.result["changed"] = False
            raise ResolverError(f"{exc}. {self._put_back(saved, saved_state, managers)}") from exc

    def remembered(self) -> None:
        """Remember what there is and name the missing package."""
        manager = resolver.manager_for(self.system, self.params["backend"])
        self.result["backend"] = manager.backend
        self.result["missing_package"] = resolver.missing_package(self.system, manager) or ""
        self._check_obstacle(manager)
        if self.state is None and self.result["missing_package"]:
            self.result["changed"] = True
            self.result["reasons"] = ["the present name servers are not remembered yet"]
            if not self.module.check_mode:
                self._keep_state(self._remembered())

    def _remembered(self) -> dict[str, t.Any]:
        """Return what there is before the first change, or what is left to see of it when the memory is lost."""
        if resolver.is_written(self.system):
            self.module.warn(
                f"{platform.node()}: {self.state_path}, where the former configuration of the resolver was remembered,"
                f" is lost: the search domains and options in {resolver.RESOLV_CONF} that are not this role's count as"
                " the site's, and state absent cannot put the former file back"
            )
        ours = Lines(self.params["search"], self.params["options"], [])
        return resolver.remembered(self.system, self.params["servers"], self.params["former_servers"], ours)

    def verified(self) -> None:
        """Fail when somebody has changed the resolver since this role set it."""
        settings = self.settings()
        if self.state is None or not self.state["backend"]:
            self.result["backend"] = ""
            return
        manager = Manager(self.state["backend"], resolver.flavour_of(self.system))
        self.result["backend"] = manager.backend
        # In check mode the changes of this run were not made.
        if self.module.check_mode:
            return
        site = resolver.site_lines(self.system, self.state, manager)
        changed = [f"{path} differs" for path in self._differing(resolver.wanted(self.system, manager, settings, site))]
        reason = ", ".join(changed) or resolver.stale(self.system, manager, settings, site)
        if reason:
            raise ResolverError(resolver.overwritten(self.system, reason))

    def absent(self) -> None:
        """Put the resolver back as it was."""
        self.result.update(backend=resolver.detect(self.system).backend, added_backend="")
        if self.state is None:
            self._without_memory()
            return
        self.result["changed"] = True
        if self.state["backend"]:
            before = self.state["before"]
            if before is not None and before["backend"] != self.state["backend"]:
                self.result["added_backend"] = self.state["backend"]
            manager = Manager(self.state["backend"], resolver.flavour_of(self.system))
            entries = self._differing(resolver.restored(self.system, self.state))
            self.result["reasons"] = [f"{path} is put back" for path in entries]
            if self.module.check_mode:
                return
            # A manager that is gone needs no telling.
            gone = resolver.missing_package(self.system, manager)
            resolver.put(self.system, entries, [] if gone else [manager])
            if not gone:
                resolver.leave(self.system, self.state)
        if not self.module.check_mode:
            hostfile.write(self.state_path, hostfile.MISSING)

    def _without_memory(self) -> None:
        """Remove what this role wrote, although what was there before is not remembered.

        Raises:
            ResolverError: the host would be left without a name server.
        """
        if resolver.is_written(self.system):
            raise ResolverError(
                f"{resolver.RESOLV_CONF} is this role's, and {self.state_path}, where the former one was remembered,"
                f" is lost: write the site's name servers into {resolver.RESOLV_CONF}, without its first line, and run"
                " again"
            )
        ours = {name: self._differing(resolver.undone(self.system, name)) for name in ("resolved", "resolvconf")}
        entries = {path: entry for found in ours.values() for path, entry in found.items()}
        self.result.update(changed=bool(entries), reasons=[f"{path} is put back" for path in entries])
        if entries and not self.module.check_mode:
            managers = [resolver.manager_for(self.system, name) for name, found in ours.items() if found]
            there = [one for one in managers if not resolver.missing_package(self.system, one)]
            resolver.put(self.system, entries, there)

    def _missing(self, package: str) -> None:
        self.result["missing_package"] = package
        if not self.module.check_mode:
            raise ResolverError(f"the package {package} is not installed; install it, or set resolvconf_dns_backend to auto")
        self.result.update(changed=True, reasons=[f"the package {package} is not installed"])

    def _check_obstacle(self, manager: Manager) -> None:
        obstacle = resolved.obstacle(self.system, self.params["domain"].strip(".")) if manager.backend == "resolved" else ""
        if obstacle:
            raise ResolverError(f"{obstacle}. Nothing was changed")

    def _warn_of_rotate(self, options: t.Sequence[str]) -> None:
        if "rotate" in options:
            self.module.warn(
                f"{platform.node()}: the option rotate of {resolver.RESOLV_CONF} spreads lookups over all agents, so that many of them wait while"
                " one node is down: remove it from the site's own configuration of the resolver, or from resolvconf_dns_options"
            )

    def _check_writers(self) -> None:
        found = resolver.other_writers(self.system)
        writers = ", ".join(found)
        if not writers:
            return
        if self.params["backend"] == "file":
            self.module.warn(f"{writers} runs on {platform.node()} and may overwrite {resolver.RESOLV_CONF}")
            return
        raise ResolverError(
            f"{resolver.RESOLV_CONF} is a plain file and {writers} runs, which would overwrite it; set resolvconf_dns_backend to resolvconf,"
            f" which takes in the servers of {writers}{resolver.writer_remedies(found)}, or set it to file when {writers} is"
            " configured to leave the file alone"
        )

    def _differing(self, entries: t.Mapping[str, Entry]) -> dict[str, Entry]:
        differing = {path: entry for path, entry in entries.items() if not hostfile.same(self.system.path(path), entry)}
        for path, entry in differing.items():
            self.result["diff"].append({"before_header": path, "after_header": path, "before": self.system.read(path).shown(), "after": entry.shown()})
        return differing

    def _keep_state(self, state: t.Mapping[str, t.Any]) -> None:
        self.kept = state
        hostfile.write(self.state_path, Entry(text=resolver.state_text(state)))

    def _prove(self) -> None:
        names = self.params["proof_names"]
        if not names:
            return
        self.result["resolved"], said = lookup.prove(names, self.params["proof_timeout"])
        if said:
            texts = "; ".join(f"{name}: {text}" for name, text in said.items())
            holds = " | ".join(line for line in self.system.text(resolver.RESOLV_CONF).splitlines() if line and not line.startswith("#"))
            raise ResolverError(
                f"the system resolver does not resolve {texts} (asked for {self.params['proof_timeout']} s;"
                f" {resolver.RESOLV_CONF} holds: {holds or 'nothing'}). Check that the name servers answer at port 53 and forward what they do not know"
                f"{resolver.proof_hint(self.result['backend'], said)}"
            )

    def _put_back(self, saved: t.Mapping[str, Entry], saved_state: Entry, managers: t.Iterable[Manager]) -> str:
        try:
            resolver.put(self.system, {path: entry for path, entry in saved.items() if not hostfile.same(self.system.path(path), entry)}, managers)
            if not hostfile.same(self.system.path(resolver.RESOLV_CONF), saved[resolver.RESOLV_CONF]):
                resolver.put(self.system, {resolver.RESOLV_CONF: saved[resolver.RESOLV_CONF]}, [])
            if saved_state == hostfile.MISSING and self.kept is not None:
                resolver.leave(self.system, self.kept)
            hostfile.write(self.state_path, saved_state)
        except (ResolverError, OSError) as exc:
            return f"Putting the former configuration back failed too ({exc}); {self.state_path} holds the former servers"
        return "The former configuration is back in place"


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, required_if=[("state", "present", ["servers"])])
    if module.params["state"] in ("present", "verified") and not module.params["servers"]:
        module.fail_json(msg=f"Host {platform.node()}: servers is empty; give at least one name server.")
    try:
        run = HostResolver(module)
    except ResolverError as exc:
        module.fail_json(msg=f"Host {platform.node()}: {exc}.")
    try:
        getattr(run, module.params["state"])()
    except (ResolverError, OSError) as exc:
        module.fail_json(msg=f"Host {platform.node()}: {exc}.", **run.result)
    module.exit_json(**run.result)


if __name__ == "__main__":
    main()
