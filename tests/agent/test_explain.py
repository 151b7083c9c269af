# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator is told of labels: by the journal, by `explain` and by a dry run, with a real Consul agent."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

from edge_rig import Consul, poll, tool
from test_engine import Site

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYW5vbiJ9.c2lnbmF0dXJl"

# A container's labels, and words of the line about them.
LABELS = {
    "shown-secret": ({"SERVICE_KEY": JWT}, "refused", "key", "the name says that this is a secret"),
    "shown-tags": ({"SERVICE_TAGS": '["http","v2"]'}, "warning", "tags", "brackets and quotes are taken off"),
    "shown-check": ({"SERVICE_CHECK_HTTP": "http://other:80/h"}, "refused", "check_http", "SERVICE_CHECK_HTTP=/h"),
    "shown-port": ({"SERVICE_0_NAME": "x"}, "refused", "0_name", "neither a port"),
    "shown-reserved": ({"SERVICE_NAME": "Consul"}, "refused", "name", "reserved for the platform"),
    "shown-spelling": ({"SERVICE_NAME": "Billing"}, "refused", "name", "protected service 'billing'"),
    "shown-look": ({"SERVICE_NAME": "bi11-ing"}, "refused", "name", "looks like the protected service 'billing'"),
    "shown-script": ({"SERVICE_NAME": "xn--blling-xyf"}, "refused", "name", "other letters than it has"),
    "shown-elder": ({"SERVICE_ID": "shown-id"}, "", "", ""),
    "shown-younger": ({"SERVICE_ID": "shown-id"}, "refused", "id", "already used by container"),
    "shown-foreign": ({"SERVICE_ID": "shown-other"}, "refused", "id", "belongs to a registration of another program"),
}


@pytest.fixture(name="site")
def fixture_site(tmp_path: Path) -> t.Iterator[Site]:
    agent = Consul(tool("consul", "CONSUL_BIN"), tmp_path)
    try:
        site = Site(agent, tmp_path, protected_names=["billing"])
        try:
            poll("the agent answers", lambda: agent.ask("GET", "/v1/status/leader"))
            yield site
        finally:
            site.close()
    finally:
        agent.stop()


def test_each_line_is_in_the_journal_once_and_in_explain(site: Site) -> None:
    site.agent.ask("PUT", "/v1/agent/service/register", {"ID": "shown-other", "Name": "other", "Port": 7})
    ids = {}
    for number, (name, (labels, *_words)) in enumerate(LABELS.items()):
        container = ids[name] = site.docker.run(name, 18000 + number)
        site.docker.documents[container]["Config"]["Labels"].update(labels)
        site.docker.documents[container]["Created"] = f"2026-01-01T00:00:0{number}Z"
    preview = site.order("--once", "--dry-run").stdout
    site.start()
    assert site.order("adopt").returncode == 0, "one more comparison"
    journal = site.log.read_text(encoding="utf-8").splitlines()
    for name, (_labels, event, key, words) in LABELS.items():
        explained = site.order("explain", ids[name]).stdout
        if not event:
            assert "refused:" not in explained
            continue
        told = [line for line in journal if f"event={event} " in line and f"name={name} " in line]
        assert len(told) == 1, (name, told)
        assert f" key={key} kind=" in told[0]
        (line,) = [line for line in explained.splitlines() if line.startswith(f"{event}: SERVICE_{key.upper()}: ")]
        reason = line.split(": ", 2)[2]
        assert words in reason
        assert reason.replace('"', '\\"') in told[0]
        assert reason in preview
    held = site.services()
    assert not {f"node1:shown-{name}:8081" for name in ("reserved", "spelling", "look", "script")} & set(held)
    assert (held["shown-id"][1], held["shown-other"][1]) == (18008, 7)
    everything = "\n".join([*journal, preview, str(site.agent.ask("GET", "/v1/agent/services"))])
    assert JWT not in everything
