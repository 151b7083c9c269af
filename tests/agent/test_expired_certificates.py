# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A site whose certificates have ended: no server finds a leader, and new certificates that are read again are enough."""

from __future__ import annotations

import datetime
import signal
import typing as t
import uuid
from pathlib import Path

import pytest
from cryptography import x509
from edge_rig import free_port, poll
from test_datacenters_secure import Authority, new_key
from test_eviction import SERVERS, Agent, Site

from ansible_collections.trinode.platform.plugins.module_utils._consul import acl

HOUR = datetime.timedelta(hours=1)


class EndedCertificates(Authority):
    """An authority whose certificates of nodes have ended an hour ago."""

    def issue(self, directory: Path, *names: str) -> dict[str, str]:
        self.ends = datetime.datetime.now(datetime.timezone.utc) - HOUR
        return super().issue(directory, *names)

    def _build(self, subject: x509.Name, key: t.Any) -> x509.CertificateBuilder:
        built = super()._build(subject, key)
        if not hasattr(self, "ends"):
            return built
        names = {"_not_valid_before": self.ends - 24 * HOUR, "_not_valid_after": self.ends}
        for name, value in names.items():
            setattr(built, name, value.replace(tzinfo=None))
        return built


class EndedAuthority(EndedCertificates):
    """An authority that has ended itself."""

    def __init__(self, name: str) -> None:
        self.ends = datetime.datetime.now(datetime.timezone.utc) - HOUR
        super().__init__(name)


class Expired(Site):
    """Three servers that start after their certificates have ended."""

    def __init__(self, place: Path, authority: Authority) -> None:
        self.ports = {name: free_port() for name in ("http", "https", "server", "serf_lan")}
        self.management, self.authority, self.gossip = str(uuid.uuid4()), authority, new_key()
        self.agents = {name: Agent(self, name, place / name, address) for name, address in SERVERS.items()}
        for agent in self.agents.values():
            agent.directory.mkdir()
            agent.equip()
            agent.start()


@pytest.mark.parametrize("kind", [EndedCertificates, EndedAuthority])
def test_new_certificates_are_enough(tmp_path: Path, kind: type[Authority]) -> None:
    site = Expired(tmp_path, kind("Consul dc1.consul"))
    try:
        agents = list(site.agents.values())
        # They ask each other before there is a cluster, and refuse each other's answers. Before they run, they read nothing again.
        told = ("Consul agent running!", "Failed to confirm peer status", "certificate has expired")
        poll("the agents refuse each other", lambda: all(text in one.log.read_text() for text in told for one in agents), 60)
        assert not any(one.root.leader() for one in agents)
        site.authority = Authority("Consul dc1.consul")
        for agent in agents:
            agent.equip()
            assert agent.process is not None
            agent.process.send_signal(signal.SIGHUP)
        poll("there is a leader", lambda: all(one.root.leader() for one in agents), 60)
        assert acl.bootstrap(agents[0].root, 60).state == "made"
    finally:
        for agent in site.agents.values():
            agent.stop()
            print(f"--- {agent.log}\n{agent.log.read_text()[-3000:]}")
