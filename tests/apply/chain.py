# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole way of a change: a real Consul, a consul-template that keeps running, the request, the apply service, and nginx."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import typing as t
from pathlib import Path

import yaml
from edge_rig import http_options, tool

from ansible_collections.trinode.platform.plugins.module_utils._consul_template import plan as consul_template
from ansible_collections.trinode.platform.plugins.plugin_utils._edge.http import http_template
from ansible_collections.trinode.platform.plugins.plugin_utils._edge.tcp import tcp_template

if t.TYPE_CHECKING:
    from apply_rig import Edge

ROOT = Path(__file__).resolve().parents[2]
REQUEST = ROOT / "roles" / "nginx" / "files" / "nginx-edge-request"
DOMAIN = "apps.example"


def defaults(role: str) -> dict[str, t.Any]:
    """The defaults of a role."""
    found = yaml.safe_load((ROOT / "roles" / role / "defaults" / "main.yml").read_text())
    assert isinstance(found, dict)
    return found


class Places:
    """Instances at as many loopback addresses as are wanted, behind one socket. Each answers with the address at which it was asked."""

    def __init__(self) -> None:
        self.socket = socket.socket()
        # Reached by loopback alone, whatever the address.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("0.0.0.0", 0))
        self.socket.listen(1024)
        self.port = self.socket.getsockname()[1]
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    @staticmethod
    def address(service: int, instance: int) -> str:
        """The address of an instance."""
        return f"127.{10 + instance}.{service // 200}.{1 + service % 200}"

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while first := await asyncio.wait_for(reader.read(4096), 60):
                body = str(writer.get_extra_info("sockname")[0])
                web = first.startswith(b"GET ")
                writer.write((f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}" if web else body).encode())
                await writer.drain()
        except (OSError, asyncio.TimeoutError):
            pass
        finally:
            writer.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.server = self.loop.run_until_complete(asyncio.start_server(self._answer, sock=self.socket))
        self.loop.run_forever()

    async def _end(self) -> None:
        self.server.close()
        waiting = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    def stop(self) -> None:
        """End, with every connection."""
        asyncio.run_coroutine_threadsafe(self._end(), self.loop).result(20)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


class Chain:
    """An edge that follows a Consul."""

    def __init__(self, edge: Edge, consul_address: str, description: dict[str, t.Any] | None = None, connections: int = 0) -> None:
        self.edge = edge
        self.directory = edge.root / "chain"
        self.directory.mkdir()
        self.pipe = edge.root / "apply.request"
        os.mkfifo(self.pipe)
        # The program as it is, but for the places of its pipe and its lock.
        request = edge.root / "nginx-edge-request"
        text = REQUEST.read_text()
        assert text.count("/run/nginx-edge/") == 2
        request.write_text(text.replace("/run/nginx-edge/", f"{edge.root}/"))
        request.chmod(0o755)
        options = f"{http_options()}\n"
        (edge.base / "http.conf").write_text(options + (edge.base / "http.conf").read_text())
        self.edge_description = {
            "domain": DOMAIN,
            "http_port": edge.http_port,
            "tls_port": edge.free_port(),
            "listen_addresses": ["127.0.0.1"],
            "allow_loopback": True,
            "http_access_log": "off",
            "tcp_access_log": "off",
            **(description or {}),
        }
        settings: dict[str, t.Any] = {
            "consul": {"address": f"http://{consul_address}", "retry": {"enabled": True, "attempts": 0, "backoff": "250ms", "max_backoff": "1s"}},
            "wait": defaults("consul_template")["consul_template_wait"],
            "max_stale": defaults("consul_template")["consul_template_max_stale"],
            "block_query_wait": defaults("consul_template")["consul_template_block_query_wait"],
            "log_level": "info",
            "template_error_fatal": False,
            "kill_signal": "SIGINT",
        }
        if connections:
            settings["consul"]["transport"] = {"max_conns_per_host": connections, "max_idle_conns_per_host": connections}
        templates = [
            {
                "name": f"edge-{side}",
                "contents": source(self.edge_description),
                "perms": "0644",
                "command": f"{request} --paced",
                "destination": str(edge.state / "staging" / name),
            }
            for side, source, name in (("http", http_template, "http.conf"), ("stream", tcp_template, "stream.conf"))
        ]
        plan = consul_template.plan(str(self.directory), settings, templates, 60)
        for file in plan.files:
            Path(file.path).parent.mkdir(exist_ok=True)
            Path(file.path).write_text(file.text)
            Path(file.path).chmod(0o755 if file.executable else 0o644)
        self.log = self.directory / "consul-template.log"
        with self.log.open("w") as log:
            command = [tool("consul-template", "CONSUL_TEMPLATE_BIN"), "-config", plan.config]
            self.template = subprocess.Popen(command, stdout=log, stderr=log)
        self.service: subprocess.Popen[str] | None = None
        self.start_service()

    def start_service(self, **environment: str) -> None:
        """Start the apply service as systemd does: the pipe is descriptor 3. The pipe stays open meanwhile, so that no request is lost."""
        shell = 'LISTEN_FDS=1 LISTEN_PID=$$; export LISTEN_FDS LISTEN_PID; exec "$@" 3<>"$0"'
        command = ["sh", "-c", shell, str(self.pipe), *self.edge.command("--service")]
        with (self.directory / "apply.log").open("a") as log:
            self.service = subprocess.Popen(command, stdout=log, stderr=log, text=True, env={**os.environ, **environment})

    def stop_service(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the apply service."""
        if self.service:
            self.service.send_signal(how)
            self.service.wait(20)

    def said(self) -> str:
        """What everybody said, for a failure."""
        logs = [self.log, self.directory / "apply.log"]
        return "\n".join([*(path.read_text()[-3000:] for path in logs), json.dumps(self.edge.status().get("last"))])

    def follows(self, what: t.Callable[[], t.Any], text: str, seconds: float = 60) -> t.Any:
        """Wait until something is true; consul-template must not have ended."""

        def ask() -> t.Any:
            assert self.template.poll() is None, f"consul-template ended with {self.template.returncode}: {self.said()}"
            return what()

        try:
            return self.edge.wait_until(ask, text, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.said()}") from None

    def get(self, name: str) -> tuple[int, str]:
        """(status, body) for a service of the catalogue; (0, "") without an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.edge.http_port, timeout=10)
        try:
            connection.request("GET", "/", headers={"Host": f"{name}.{DOMAIN}", "Connection": "close"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()

    def rendered(self) -> dict[str, int]:
        """How often consul-template has written each file."""
        found = re.findall(r"rendered \"[^\"]*edge-(http|stream)\.ctmpl\"", self.log.read_text())
        return {side: found.count(side) for side in ("http", "stream")}

    def stop(self) -> None:
        """End all but nginx, which is the edge's."""
        # consul-template hands SIGTERM to its child, of which there is none, and ends on SIGINT.
        self.template.send_signal(signal.SIGINT)
        self.template.wait(20)
        self.stop_service()
