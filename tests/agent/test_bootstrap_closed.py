# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The management token of a new cluster: callers that ask for it from the first moment on get nothing, at the first try of a site and at later ones.

A server and a client run with the configuration and the command that the role writes, but for ports and directories.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import shlex
import signal
import ssl
import subprocess
import threading
import typing as t
import uuid
from collections import Counter
from pathlib import Path

import pytest
from edge_rig import free_port, poll, tool
from local_play import ROOT, play
from test_datacenters_secure import Authority, new_key

from ansible_collections.trinode.platform.plugins.module_utils._consul import acl

SERVER, CLIENT = "127.0.21.1", "127.0.21.2"
RENDER = """
- name: Files of an agent
  hosts: all
  gather_facts: false
  vars_files: [ROLE/defaults/main.yml, ROLE/vars/main.yml]
  tasks:
    - name: Write them
      ansible.builtin.copy:
        content: "{{ item.content }}"
        dest: "{{ target }}/{{ item.name }}"
        mode: "0600"
      loop:
        - {name: consul.json, content: "{{ __consul_server_config | to_json }}"}
        - {name: tokens.json, content: "{}"}
        - {name: initial.json, content: "{{ __consul_server_secret_files.contents[-1] }}"}
        - {name: consul.service, content: "{{ lookup('ansible.builtin.template', 'ROLE/templates/consul.service.j2') }}"}
"""
TOKENS = """
- name: Tokens
  hosts: all
  gather_facts: false
  tasks:
    - name: Make them
      ansible.builtin.include_role: {name: trinode.platform.consul_acl}
"""


class Agent:
    """An agent as the role configures it."""

    def __init__(self, site: Site, address: str, mode: str) -> None:
        self.site, self.address, self.mode = site, address, mode
        self.directory = site.place / mode
        self.http = free_port()
        self.log = self.directory / "log"
        self.process: subprocess.Popen[bytes] | None = None
        (self.directory / "etc" / "tls").mkdir(parents=True)
        (self.directory / "data" / "serf").mkdir(parents=True)
        (self.directory / "data" / "serf" / "local.keyring").write_text(json.dumps([site.gossip]))
        issued = site.authority.issue(self.directory / "issued", f"{mode}.dc1.consul")
        tls = self.directory / "etc" / "tls"
        (tls / "ca.pem").write_text(site.authority.pem)
        for name in ("certificate", "key"):
            (tls / f"{name}.pem").write_text(Path(issued[f"{'cert' if name == 'certificate' else name}_file"]).read_text())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    def configure(self, initial: str) -> None:
        """Write what the role writes."""
        variables = {
            "target": str(self.directory / "etc"),
            "consul_server_security": "require",
            "consul_server_mode": self.mode,
            "consul_server_node_name": self.mode,
            "consul_server_address": self.address,
            "consul_server_servers": [{"name": "server", "address": SERVER}],
            "consul_server_http_port": self.http,
            "consul_server_https_port": self.site.https,
            "consul_server_dns_port": -1,
            "consul_server_recursors": [],
            "consul_server_initial_token": initial,
        }
        done = play(self.site.place, RENDER.replace("ROLE", str(ROOT / "roles" / "consul_server")), **variables)
        assert done.status == 0, done.output
        for path in (self.directory / "etc").glob("*.json"):
            path.write_text(self.placed(path.read_text()))

    def placed(self, text: str) -> str:
        return text.replace("/etc/consul.d", str(self.directory / "etc")).replace("/var/lib/consul", str(self.directory / "data"))

    def start(self) -> None:
        unit = (self.directory / "etc" / "consul.service").read_text()
        line = next(line for line in unit.splitlines() if line.startswith("ExecStart="))
        arguments = shlex.split(self.placed(line.removeprefix("ExecStart=")))[1:]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([tool("consul", "CONSUL_BIN"), *arguments], stdout=log, stderr=log)

    def stop(self) -> None:
        """End the agent as its unit does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)


class Site:
    """A site whose agents have never run."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.authority, self.gossip, self.https = Authority("Consul dc1.consul"), new_key(), free_port()
        self.initial, self.management = str(uuid.uuid4()), str(uuid.uuid4())
        self.server, self.client = Agent(self, SERVER, "server"), Agent(self, CLIENT, "client")

    @property
    def root(self) -> acl.AclApi:
        return acl.AclApi(self.server.url, self.management)

    def start(self, initial: str) -> None:
        for agent in (self.server, self.client):
            agent.configure(initial)
            agent.start()

    def stop(self) -> None:
        for agent in (self.client, self.server):
            if agent.process is not None:
                # A client that leaves takes its time, and the next test wants its addresses.
                agent.process.kill()
                agent.process.wait(30)

    def has_leader(self) -> bool:
        return bool(self.root.leader())

    def knows_tokens(self) -> bool:
        """Return whether a leader has read its tokens; for some milliseconds it has not."""
        try:
            return bool(self.root.tokens())
        except acl.Refused:
            return False

    def management_tokens(self) -> dict[str, str]:
        """Return secret and description of what has full access."""
        return {
            token["SecretID"]: token["Description"]
            for token in self.root.tokens()
            if any(policy["ID"] == acl.MANAGEMENT_POLICY_ID for policy in token.get("Policies") or ())
        }

    def tokens(self, **variables: str) -> None:
        """Run the role that makes the tokens."""
        wanted = [{"name": "dns", "secret": str(uuid.uuid4()), "rules": 'node_prefix "" { policy = "read" }'}]
        known = {"consul_acl_url": self.server.url, "consul_acl_management_token": self.management, "consul_acl_tokens": wanted}
        done = play(self.place, TOKENS, **known, **variables)
        assert done.status == 0, done.output
        # It is the platform's own as long as it is there.
        assert "Initial Management Token" not in done.output, done.output
        assert self.initial not in done.output and self.management not in done.output


class Attack:
    """Strangers on the host of each agent, who ask for the management token as fast as they are answered."""

    def __init__(self, *agents: Agent) -> None:
        self.won: list[str] = []
        self.answers: Counter[tuple[str, str]] = Counter()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(agent,)) for agent in agents]

    def __enter__(self) -> Attack:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, agent: Agent) -> None:
        while not self._ended.wait(0.002):
            connection = http.client.HTTPConnection("127.0.0.1", agent.http, timeout=10)
            with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
                connection.request("PUT", "/v1/acl/bootstrap")
                answer = connection.getresponse()
                text = answer.read().decode()
                self.answers[agent.mode, f"{answer.status} {text.strip()}"] += 1
                if answer.status == 200:
                    self.won.append(text)

    def refused(self, agent: Agent, word: str) -> int:
        return sum(count for (mode, text), count in self.answers.items() if mode == agent.mode and text.startswith("403") and word in text)


def ask(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
    """Ask for the management token."""
    with contextlib.closing(connection):
        connection.request("PUT", "/v1/acl/bootstrap")
        return connection.getresponse()


@pytest.fixture
def site(tmp_path: Path) -> t.Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.stop()
    for agent in (made.server, made.client):
        if agent.log.exists():
            print(f"--- {agent.log}\n{agent.log.read_text()[-3000:]}")


def test_without_a_first_token_the_stranger_wins(site: Site) -> None:
    """The attack works: what the other tests see is not its weakness."""
    with Attack(site.server) as attack:
        site.start("")
        poll("the stranger has the management token", lambda: attack.won, 60)


@pytest.mark.parametrize("interrupted", [False, True], ids=["at once", "after a run that was interrupted"])
def test_nobody_else_gets_the_management_token(site: Site, interrupted: bool) -> None:
    with Attack(site.server, site.client) as attack:
        site.start(site.initial)
        poll("there is a leader", site.has_leader, 60)
        if interrupted:
            # The play ended here, and the host is started again before somebody repeats it.
            seen = attack.answers.total()
            poll("the stranger goes on", lambda: attack.answers.total() > seen + 200, 60)
            site.server.stop()
            site.server.start()
            poll("there is a leader again", site.has_leader, 60)
        site.tokens(consul_acl_initial_token=site.initial)
        poll("both refuse", lambda: min(attack.refused(one, acl.BLOCKED) for one in (site.server, site.client)) > 50, 60)
        assert site.management_tokens() == {site.initial: "Initial Management Token", site.management: "Management token"}

        # A new leader would make the first token again, so the server starts without it before it ends.
        site.server.stop()
        site.server.configure("")
        assert (site.server.directory / "etc" / "initial.json").read_text() == ""
        site.server.start()
        poll("the leader knows the tokens", site.knows_tokens, 60)
        site.tokens(consul_acl_ended_token=site.initial)
        assert site.management_tokens() == {site.management: "Management token"}
        site.server.stop()
        site.server.start()
        poll("the next leader knows the tokens", site.knows_tokens, 60)
        assert site.management_tokens() == {site.management: "Management token"}
        poll("the server answers that it is too late", lambda: attack.refused(site.server, "no longer allowed") > 50, 60)
    assert attack.won == []


def test_the_api_on_the_network_wants_a_certificate_first(site: Site) -> None:
    """So a stranger on the network cannot even ask."""
    site.start(site.initial)
    poll("there is a leader", site.has_leader, 60)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for agent in (site.server, site.client):
        connection = http.client.HTTPSConnection(agent.address, site.https, timeout=10, context=context)
        # In TLS 1.3 the answer to a missing certificate comes with the first read.
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(connection)
        with pytest.raises(ConnectionRefusedError):
            http.client.HTTPConnection(agent.address, agent.http, timeout=10).connect()


def test_a_client_sends_no_one_to_the_bootstrap(site: Site) -> None:
    """Not even a run that is limited to clients, where the management token is lost."""
    site.start("")
    poll("there is a leader", site.has_leader, 60)
    with pytest.raises(acl.AclError, match="refuses to make a management token: run again for all servers"):
        acl.bootstrap(acl.AclApi(site.client.url, site.management), 60)
