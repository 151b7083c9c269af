# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures around :mod:`edge_rig`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import typing as t
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from edge_rig import DOMAIN, Backends, Consul, Nginx, Rendered, Tls, free_port, tool

from ansible_collections.trinode.platform.plugins.plugin_utils._edge.http import http_template
from ansible_collections.trinode.platform.plugins.plugin_utils._edge.tcp import tcp_template


@pytest.fixture(scope="session")
def _agent(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Consul]:
    agent = Consul(tool("consul", "CONSUL_BIN"), tmp_path_factory.mktemp("consul"))
    yield agent
    agent.stop()


@pytest.fixture
def consul(_agent: Consul) -> t.Iterator[Consul]:
    """A Consul agent with an empty catalogue."""
    yield _agent
    _agent.clear()


@pytest.fixture
def nginx(tmp_path: Path) -> t.Iterator[Nginx]:
    """nginx, not yet started."""
    server = Nginx(tool("nginx", "NGINX_BIN"), tmp_path)
    yield server
    server.stop()


@pytest.fixture
def backends(tmp_path: Path) -> t.Iterator[Backends]:
    """Instances to ask."""
    running = Backends(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def render(consul: Consul, tmp_path: Path) -> t.Callable[..., Rendered]:
    """Renders one side of an edge by consul-template."""
    binary = tool("consul-template", "CONSUL_TEMPLATE_BIN")
    sources = {"http": http_template, "tcp": tcp_template}

    def run(side: str, **options: t.Any) -> Rendered:
        edge = {"domain": DOMAIN, "http_access_log": f"{tmp_path}/http.log", "tcp_access_log": f"{tmp_path}/tcp.log", **options}
        source, result = tmp_path / f"{side}.ctmpl", tmp_path / f"{side}.conf"
        source.write_text(sources[side](edge))
        result.unlink(missing_ok=True)
        done = subprocess.run(
            [binary, "-once", f"-consul-addr=http://{consul.address}", f"-template={source}:{result}", "-log-level=warn", "-consul-retry=false"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return Rendered(result.read_text())

    return run


@pytest.fixture
def edge(render: t.Callable[..., Rendered], nginx: Nginx) -> t.Callable[..., int]:
    """Renders both sides and serves them; gives the HTTP port."""

    def run(wait_for: t.Iterable[int] = (), **options: t.Any) -> int:
        port = free_port()
        settings = {"http_port": port, "tls_port": free_port(), "allow_loopback": True, "listen_addresses": ["127.0.0.1"], **options}
        nginx.start(render("http", **settings).text, render("tcp", **settings).text, [port, *wait_for])
        return port

    return run


@pytest.fixture
def tls(edge: t.Callable[..., int], nginx: Nginx) -> t.Iterator[Tls]:
    """An edge that ends TLS, not yet started. The path of a unix socket is short, and so its directory is not pytest's."""
    with tempfile.TemporaryDirectory(prefix="edge-", dir="/tmp") as directory:
        yield Tls(edge, Path(directory), "directive" if nginx.version >= (1, 25, 1) else "listen")
        nginx.stop()
