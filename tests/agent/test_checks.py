# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a real Consul agent does with the checks that labels lead to."""

from __future__ import annotations

import http.server
import json
import sys
import threading
import typing as t
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "roles" / "registrator" / "files")]

from edge_rig import Consul, poll, tool
from registrator.consulapi import ConsulClient
from registrator.convention import registrations_of
from registrator.facts import facts_of
from registrator.model import Registration, Settings
from registrator.plan import plan

DATA = ROOT / "tests" / "unit" / "roles" / "registrator" / "data" / "20.10"
HERE = Settings(hostname="node1", address="127.0.0.1")


class Instance:
    """An HTTP server that keeps the requests that it gets."""

    def __init__(self, status: int = 200, body: str = "well", location: str = "") -> None:
        requests: list[tuple[str, str, dict[str, str]]] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                requests.append((self.command, self.path, dict(self.headers)))
                self.send_response(status)
                if location:
                    self.send_header("Location", location)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body.encode())

            def do_HEAD(self) -> None:
                self.do_GET()

            def log_message(self, *_arguments: t.Any) -> None:
                pass

        self.requests = requests
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Consul]:
    found = Consul(tool("consul", "CONSUL_BIN"), tmp_path_factory.mktemp("checks"))
    try:
        yield found
    finally:
        found.stop()


@pytest.fixture(autouse=True)
def _empty(agent: Consul) -> t.Iterator[None]:
    """The agent keeps the state of a check whose id it knows, so each test leaves it without any."""
    yield
    client = ConsulClient(f"http://{agent.address}")
    for service_id, service in client.actual().services.items():
        client.deregister(service_id, service["Service"])


@pytest.fixture
def instances() -> t.Iterator[t.Callable[..., Instance]]:
    started: list[Instance] = []

    def start(*arguments: t.Any, **more: t.Any) -> Instance:
        started.append(Instance(*arguments, **more))
        return started[-1]

    yield start
    for item in started:
        item.stop()


def registered(agent: Consul, port: int, **labels: str) -> Registration:
    """A container with this published port and these labels, as the engine registers it."""
    document = json.loads((DATA / "published.json").read_text(encoding="utf-8"))
    document["Config"]["Labels"] = {"SERVICE_NAME": "web", "SERVICE_CHECK_INTERVAL": "1s", **labels}
    document["NetworkSettings"]["Ports"] = {"8081/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}
    (item,) = registrations_of(facts_of(document), HERE).registrations
    client = ConsulClient(f"http://{agent.address}")
    poll("the agent has a leader", lambda: ask(agent, "/v1/status/leader"))
    client.register(item)
    return item


def ask(agent: Consul, path: str) -> t.Any:
    with urllib.request.urlopen(f"http://{agent.address}{path}", timeout=20) as answer:
        return json.loads(answer.read())


def checked(agent: Consul, item: Registration) -> dict[str, t.Any]:
    """The check's state, as soon as the agent asked once."""

    def state() -> t.Any:
        (check,) = [one for one in ask(agent, "/v1/agent/checks").values() if one["ServiceID"] == item.id]
        return check if check["Output"] else None

    found: dict[str, t.Any] = poll("the check was made", state)
    return found


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(agent: Consul, instances: t.Callable[..., Instance], status: int) -> None:
    """Neither is what stands behind it asked, nor does its answer get into the catalogue."""
    behind = instances(200, "a secret of the host's loopback")
    web = instances(status, "moved", f"http://127.0.0.1:{behind.port}/")
    found = checked(agent, registered(agent, web.port, SERVICE_CHECK_HTTP="/health"))
    assert web.requests[0][:2] == ("GET", "/health")
    assert (found["Status"], behind.requests) == ("critical", [])
    assert "secret" not in found["Output"]


def test_headers_and_method_arrive(agent: Consul, instances: t.Callable[..., Instance]) -> None:
    web = instances()
    labels = {"SERVICE_CHECK_HTTP": "/health?deep=1", "SERVICE_CHECK_HTTP_METHOD": "head"}
    item = registered(agent, web.port, SERVICE_CHECK_HEADER="Host: shop.example\nX-Probe: consul", **labels)
    assert checked(agent, item)["Status"] == "passing"
    method, path, headers = web.requests[0]
    assert (method, path, headers["Host"], headers["X-Probe"]) == ("HEAD", "/health?deep=1", "shop.example", "consul")


@pytest.mark.parametrize(
    "labels",
    [
        {"SERVICE_CHECK_HTTP": "/a b"},
        {"SERVICE_CHECK_TTL": "soon"},
        {"SERVICE_CHECK_HTTPP": "/"},
        {"SERVICE_CHECK_HTTP": "/", "SERVICE_CHECK_HTTP_METHOD": "DELETE"},
    ],
)
def test_a_refused_check_does_not_pass(agent: Consul, instances: t.Callable[..., Instance], labels: dict[str, str]) -> None:
    web = instances()
    item = registered(agent, web.port, **labels)

    def listed() -> t.Any:
        return ask(agent, "/v1/health/service/web")

    (entry,) = poll("the service is in the catalogue", listed)
    (check,) = [one for one in entry["Checks"] if one["ServiceID"] == item.id]
    assert (check["Status"], "SERVICE_CHECK_" in check["Notes"]) == ("critical", True)
    assert ask(agent, "/v1/health/service/web?passing") == []
    assert web.requests == []
    # Whoever reports it as healthy is corrected by the next comparison.
    client = ConsulClient(f"http://{agent.address}")
    request = f"http://{agent.address}/v1/agent/check/pass/{check['CheckID']}"
    urllib.request.urlopen(urllib.request.Request(request, method="PUT"), timeout=20).close()
    todo = plan({item.id: item}, client.actual(), HERE.hostname)
    assert [verdict.status for _item, verdict in todo.verdicts] == ["critical"]
    for one, verdict in todo.verdicts:
        client.write(one, verdict)
    assert not plan({item.id: item}, client.actual(), HERE.hostname)


def test_tags_that_others_changed_stay(agent: Consul, instances: t.Callable[..., Instance]) -> None:
    item = registered(agent, instances().port, SERVICE_TAGS="a", SERVICE_ENABLE_TAG_OVERRIDE="true")
    client = ConsulClient(f"http://{agent.address}")
    (entry,) = poll("the service is in the catalogue", lambda: ask(agent, "/v1/catalog/service/web?tag=a"))
    service = {"ID": item.id, "Service": "web", "Address": item.address, "Port": item.port, "Tags": ["changed"], "Meta": item.full_meta()}
    body = {"Node": entry["Node"], "Address": entry["Address"], "SkipNodeUpdate": True, "Service": {**service, "EnableTagOverride": True}}
    request = urllib.request.Request(f"http://{agent.address}/v1/catalog/register", json.dumps(body).encode(), method="PUT")
    urllib.request.urlopen(request, timeout=20).close()
    assert ask(agent, "/v1/catalog/service/web")[0]["ServiceTags"] == ["changed"]
    assert not plan({item.id: item}, client.actual(), HERE.hostname)
