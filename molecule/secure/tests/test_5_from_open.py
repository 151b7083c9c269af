# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From an open cluster with services in use to a secure one, without an outage."""

from __future__ import annotations

import lab
import secure
import traffic


def test_an_open_cluster_becomes_secure_under_load() -> None:
    # A cluster as it was before: nothing of its keys is left.
    for node in lab.NODES:
        lab.run(
            node, "systemctl stop registrator consul-template consul; rm -rf /etc/consul.d /var/lib/consul /etc/consul-template.d/consul.token", check=False
        )
        lab.run(node, "rm -f /etc/registrator/consul.token; rm -rf /etc/registrator/tokens; umount /var/lib/consul 2>/dev/null; true", check=False)
    for path in lab.SECRETS.glob("*"):
        path.unlink()
    run = secure.play("site", platform_security="open")
    assert run.status == 0, run.output[-4000:]
    for node in lab.NODES:
        traffic.start_service(node)
    traffic.wait_until_served(*lab.NODES)

    refused = secure.play("site", "--tags", "consul_server")
    assert refused.status != 0
    assert "Run playbooks/secure_cluster.yml once" in refused.output

    with traffic.Callers() as callers:
        run = secure.play("secure_cluster")
        assert run.status == 0, run.output[-6000:]
        after = secure.play("site")
    assert after.status == 0, after.output[-4000:]
    # A server that has just started answers for some milliseconds before it has read its log. Three steps restart three servers.
    callers.saw_no_failure(names=3 * len(lab.NODES))
    assert secure.ask("consul-1", "/v1/catalog/nodes").json() == []
    # What was registered while everything was open is still there, and its checks go on.
    assert len(secure.ask("consul-1", f"/v1/health/service/{traffic.SERVICE}?passing", secure.token("operator")).json()) == 3


def test_it_is_as_any_other_secure_cluster() -> None:
    again = secure.play("secure_cluster")
    assert again.status == 0 and again.changed == 0, again.changes() + again.output[-2000:]
    run = secure.play("site")
    assert run.status == 0 and run.changed == 0, run.changes()
    (ring,) = secure.ask("consul-1", "/v1/operator/keyring", secure.token("keyring")).json()
    assert ring["Keys"] == ring["PrimaryKeys"] == {secure.secret("consul_gossip_key"): 3}
