# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From an open cluster with services in use to a secure one, without an outage."""

from __future__ import annotations

import threading
import time
import urllib.request

import lab
import secure

HOST = "httpfront.apps.hospital.example"


class Requests:
    """Asks both edges for a sample service, and each node's resolver for a name, all the time."""

    def __init__(self) -> None:
        self.failed: dict[str, list[str]] = {"edge": [], "name": []}
        self.asked = 0
        self._stop = threading.Event()
        targets = [(self._edge, edge) for edge in lab.EDGES] + [(self._name, node) for node in lab.NODES]
        self._threads = [threading.Thread(target=self._loop, args=target) for target in targets]

    def _loop(self, ask: object, node: str) -> None:
        while not self._stop.is_set():
            self.asked += 1
            try:
                ask(node)  # type: ignore[operator]
            except Exception as error:
                self.failed["edge" if ask == self._edge else "name"].append(f"{time.strftime('%T')} {node}: {error}")
            time.sleep(0.1)

    def _edge(self, edge: str) -> None:
        request = urllib.request.Request(f"http://{lab.NODES[edge]}/", headers={"Host": HOST})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5) as answer:
            answer.read()

    def _name(self, node: str) -> None:
        lab.run(node, "getent hosts httpbackend.service.dc1.consul")

    def __enter__(self) -> Requests:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_an_open_cluster_becomes_secure_under_load(tmp_path: object) -> None:
    # A cluster as it was before: nothing of its keys is left.
    for node in lab.NODES:
        lab.run(
            node, "systemctl stop registrator consul-template consul; rm -rf /etc/consul.d /var/lib/consul /etc/consul-template.d/consul.token", check=False
        )
        lab.run(node, "rm -f /etc/registrator/consul.token; rm -rf /etc/registrator/tokens; umount /var/lib/consul 2>/dev/null; true", check=False)
    for path in secure.SECRETS.glob("*"):
        path.unlink()
    run = secure.play("site", platform_security="open")
    assert run.status == 0, run.output[-4000:]
    run = secure.play("acceptance", platform_security="open", acceptance_report_dir=str(tmp_path), acceptance_keep_services=True)
    assert run.status == 0, run.output[-4000:]

    refused = secure.play("site", "--tags", "consul_server")
    assert refused.status != 0
    assert "Run playbooks/secure_cluster.yml once" in refused.output

    with Requests() as requests:
        run = secure.play("secure_cluster")
        assert run.status == 0, run.output[-6000:]
        after = secure.play("site")
    assert after.status == 0, after.output[-4000:]
    assert requests.asked > 200
    assert requests.failed["edge"] == []
    # A server that has just started answers for some milliseconds before it has read its log. Three steps restart three servers.
    assert len(requests.failed["name"]) <= 3 * len(lab.NODES), requests.failed
    assert secure.ask("consul-1", "/v1/catalog/nodes").json() == []
    # What was registered while everything was open is still there, and its checks go on.
    assert len(secure.ask("consul-1", "/v1/health/service/httpfront?passing", secure.token("operator")).json()) == 3


def test_it_is_as_any_other_secure_cluster() -> None:
    again = secure.play("secure_cluster")
    assert again.status == 0 and again.changed == 0, again.changes() + again.output[-2000:]
    run = secure.play("site")
    assert run.status == 0 and run.changed == 0, run.changes()
    (ring,) = secure.ask("consul-1", "/v1/operator/keyring", secure.token("automation")).json()
    assert ring["Keys"] == ring["PrimaryKeys"] == {secure.secret("consul_gossip_key"): 3}
