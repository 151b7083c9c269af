# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts real Consul, consul-template and nginx for the generated templates, and instances to ask. Nothing here is a stand-in."""

from __future__ import annotations

import http.client
import http.server
import json
import os
import re
import shutil
import signal
import socket
import socketserver
import ssl
import struct
import subprocess
import threading
import time
import typing as t
from pathlib import Path

import pytest
import yaml

ROLE = Path(__file__).resolve().parents[2] / "roles" / "nginx"
DOMAIN = "apps.example"
STREAM_MODULE = "ngx_stream_module.so"
MODULE_DIRECTORIES = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules")


def tool(name: str, variable: str) -> str:
    path = os.environ.get(variable) or shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if not path or not os.access(path, os.X_OK):
        pytest.fail(f"{name} is needed for these tests and was not found: put it into PATH or name it in {variable}", pytrace=False)
    return path


# The kernel may give a port twice before its first taker listens.
_given: set[int] = set()


def free_port() -> int:
    """Return a port that no program listens on, another one at each call."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _given:
            _given.add(port)
            return port


def poll(what: str, ask: t.Callable[[], t.Any], seconds: float = 20.0) -> t.Any:
    """The first true answer; fails when the deadline passes without one."""
    deadline = time.monotonic() + seconds
    last: t.Any = None
    while time.monotonic() < deadline:
        try:
            last = ask()
            if last:
                return last
        except (OSError, http.client.HTTPException) as error:
            last = error
        time.sleep(0.02)
    return pytest.fail(f"{what}: not within {seconds} s, last answer: {last!r}")


class Consul:
    """A Consul agent in development mode, and what is registered in it."""

    def __init__(self, binary: str, directory: Path, port: int = 0, max_connections: int = 5000, wan: int = -1, dns: int = -1, **more: t.Any) -> None:
        self.port = port or free_port()
        self.dns = dns
        config: dict[str, t.Any] = {
            "bind_addr": "127.0.0.1",
            "node_name": "edge-under-test",
            "ports": {"http": self.port, "dns": dns, "grpc": -1, "grpc_tls": -1, "serf_lan": free_port(), "serf_wan": wan, "server": free_port()},
            "limits": {"http_max_conns_per_client": max_connections},
            "disable_update_check": True,
            "log_level": "ERROR",
            **more,
        }
        path = directory / "agent.json"
        path.write_text(json.dumps(config))
        self.log = directory / "agent.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen([binary, "agent", "-dev", "-config-file", str(path)], stdout=log, stderr=subprocess.STDOUT, cwd=directory)
        self.nodes: set[str] = set()
        try:
            poll("the Consul agent has a leader", lambda: self.process.poll() is not None or self.ask("GET", "/v1/status/leader") not in ("", None))
            assert self.process.poll() is None, self.log.read_text()
        except BaseException:
            self.stop()
            raise

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: t.Any = None) -> t.Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise RuntimeError(f"Consul answered {answer.status} to {method} {path}: {text.decode()}")
        return json.loads(text) if text.strip() else None

    def addresses(self, name: str) -> set[str]:
        """The A records of a name, as the DNS of this agent tells them."""
        question = struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0\0\1\0\1"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            client.sendto(question, ("127.0.0.1", self.dns))
            answer = client.recv(4096)
        found, at = set(), len(question)
        for _number in range(struct.unpack(">H", answer[6:8])[0]):
            kind, length = struct.unpack(">H", answer[at + 2 : at + 4])[0], struct.unpack(">H", answer[at + 10 : at + 12])[0]
            if kind == 1:
                found.add(socket.inet_ntoa(answer[at + 12 : at + 16]))
            at += 12 + length
        return found

    def register(
        self,
        name: str,
        port: int = 8080,
        *,
        tags: t.Sequence[str] = ("http",),
        address: str = "192.0.2.1",
        meta: dict[str, str] | None = None,
        status: str = "passing",
        node: str = "",
        instance: str = "",
        weights: dict[str, int] | None = None,
    ) -> None:
        """One instance, straight into the catalogue: so also what an agent would refuse to register."""
        node = node or f"node-{len(self.nodes):04d}"
        instance = instance or f"{name}-{node}"
        service: dict[str, t.Any] = {"ID": instance, "Service": name, "Tags": list(tags), "Address": address, "Port": port, "Meta": meta or {}}
        if weights:
            service["Weights"] = weights
        checks: list[dict[str, str]] = []
        if status == "maintenance":
            checks = [{"Node": node, "CheckID": f"_service_maintenance:{instance}", "Name": "maintenance", "Status": "critical", "ServiceID": instance}]
        elif status != "none":
            checks = [{"Node": node, "CheckID": f"check-{instance}", "Name": "check", "Status": status, "ServiceID": instance}]
        self.nodes.add(node)
        self.ask("PUT", "/v1/catalog/register", {"Node": node, "Address": "192.0.2.250", "Service": service, "Checks": checks})

    def clear(self) -> None:
        for node in sorted(self.nodes):
            self.ask("PUT", "/v1/catalog/deregister", {"Node": node})
        self.nodes.clear()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)


class Rendered:
    """One rendered side, with its report lines."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.report = [json.loads(line[2:]) for line in text.split("\n") if line.startswith("#!")]

    def served(self) -> set[str]:
        return {entry["service"] for entry in self.report if entry["kind"] == "served"}

    def skipped(self) -> set[tuple[str, str]]:
        """(service, reason); an instance's refusal counts under its service."""
        return {(entry["service"], entry["reason"]) for entry in self.report if entry["kind"] == "skipped"}

    def line(self, service: str) -> dict[str, t.Any]:
        return next(entry for entry in self.report if entry["kind"] == "served" and entry["service"] == service)


def http_options() -> str:
    """The directives that the role writes into nginx's http block."""
    constants = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())
    return "\n".join(f"{name} {value};" for name, value in constants["__nginx_http_defaults"].items())


class Nginx:
    """nginx with the rendered files, in a directory of its own."""

    worker_processes, worker_connections = 2, 1024

    def __init__(self, binary: str, directory: Path) -> None:
        self.binary = binary
        self.directory = directory
        self.process: subprocess.Popen[bytes] | None = None
        built = subprocess.run([binary, "-V"], capture_output=True, text=True, timeout=10, check=True).stderr
        found = re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", built)
        assert found, built
        self.version = tuple(map(int, found.groups()))
        # Debian's loads the stream module, other builds have it inside.
        modules = [Path(place) / STREAM_MODULE for place in MODULE_DIRECTORIES if "--with-stream" not in built.split()]
        self.module = next((path for path in modules if path.exists()), None)

    def write(self, http_side: str, tcp_side: str) -> Path:
        (self.directory / "http.conf").write_text(http_side)
        (self.directory / "stream.conf").write_text(tcp_side)
        temp = "\n".join(f"{name}_temp_path {self.directory}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        path = self.directory / "nginx.conf"
        path.write_text(
            (f"load_module {self.module};\n" if self.module else "")
            + ("user root;\n" if os.geteuid() == 0 else "")
            + f"daemon off;\nworker_processes {self.worker_processes};\npid {self.directory}/nginx.pid;\nerror_log {self.directory}/error.log info;\n"
            + f"events {{ worker_connections {self.worker_connections}; }}\n"
            + f"http {{\n{temp}\n{http_options()}\nvariables_hash_max_size 4096;\n"
            + f"include {self.directory}/http.conf;\n}}\nstream {{\ninclude {self.directory}/stream.conf;\n}}\n"
        )
        return path

    def test(self, http_side: str = "", tcp_side: str = "") -> None:
        """Fails with nginx's own words when it refuses the files, or warns about them."""
        path = self.write(http_side, tcp_side)
        done = subprocess.run([self.binary, "-t", "-p", str(self.directory), "-c", str(path)], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert "[warn]" not in done.stderr, done.stderr

    def start(self, http_side: str, tcp_side: str, ports: t.Iterable[int]) -> None:
        path = self.write(http_side, tcp_side)
        self.process = subprocess.Popen([self.binary, "-p", str(self.directory), "-c", str(path)], stderr=subprocess.PIPE)
        for port in ports:
            poll(f"nginx listens on {port}", lambda port=port: socket.create_connection(("127.0.0.1", port), 1).close() is None)

    def workers(self) -> set[int]:
        """Process ids of the workers that take connections."""
        assert self.process
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return {int(pid) for pid in children if b"shutting down" not in Path(f"/proc/{pid}/cmdline").read_bytes()}

    def reload(self, http_side: str, tcp_side: str) -> None:
        """Let the running nginx take other files, and wait until no worker of before takes connections."""
        assert self.process
        before = self.workers()
        self.write(http_side, tcp_side)
        self.process.send_signal(signal.SIGHUP)
        poll("nginx has new workers only", lambda: (now := self.workers()) and not now & before)

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(10)
            if self.process.stderr:
                self.process.stderr.close()
            self.process = None


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet for head and body, no delayed acknowledgement between them

    def setup(self) -> None:
        self.server.connections += 1  # type: ignore[attr-defined]
        super().setup()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.do_GET()

    def do_GET(self) -> None:
        if self.path == "/slow":
            self.server.asked.set()  # type: ignore[attr-defined]
            assert self.server.gate.wait(60)  # type: ignore[attr-defined]
        self.server.seen.append({key.lower(): value for key, value in self.headers.items()})  # type: ignore[attr-defined]
        body = self.server.identity.encode()  # type: ignore[attr-defined]
        self.send_response(101 if self.headers.get("Upgrade") == "websocket" else 200)
        if self.headers.get("Upgrade") == "websocket":
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "upgrade")
            self.end_headers()
            self.wfile.flush()
            self.wfile.write(self.rfile.readline())
            self.close_connection = True
            return
        for _ in range(int(self.path.partition("/cookies/")[2] or 0)):
            # A field of 1024 bytes, with its name and what ends the line.
            self.send_header("Set-Cookie", "a=" + "x" * (1024 - len("Set-Cookie: a=\r\n")))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: t.Any) -> None:
        """Silent."""


class _Echo(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(f"{self.server.identity} ".encode() + line)  # type: ignore[attr-defined]


class _Closing(socketserver.StreamRequestHandler):
    """Takes a request and hangs up."""

    def handle(self) -> None:
        self.server.seen.append(self.rfile.readline().decode().split()[0])  # type: ignore[attr-defined]


class _Threading(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = True


def make_certificate(path: Path, *hosts: str) -> Path:
    """A self-signed certificate for these host names, with its key in the same file."""
    key = path.with_suffix(".key")
    names = ",".join(f"DNS:{host}" for host in hosts)
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    request += ["-subj", f"/CN={path.stem}", "-addext", f"subjectAltName={names}", "-keyout", str(key), "-out", str(path)]
    subprocess.run(request, check=True, capture_output=True, timeout=30)
    path.write_text(path.read_text() + key.read_text())
    return path


# Where the TLS clients of these tests come from: not where nginx itself comes from.
CLIENT = "127.0.0.7"


class Tls:
    """An edge that ends TLS with one certificate for every name and one for ``shop``, and clients of it."""

    def __init__(self, edge: t.Callable[..., int], directory: Path, http2: str) -> None:
        self._edge, self.directory, self.http2, self.port, self.http_port = edge, directory, http2, free_port(), 0
        (directory / "s").mkdir()
        self.every = make_certificate(directory / "every.pem", f"*.{DOMAIN}")
        self.shop = make_certificate(directory / "shop.pem", f"shop.{DOMAIN}")
        self.certificates = [{"name": "every"}, {"name": "shop", "host_names": [f"shop.{DOMAIN}"]}]

    def options(self, **more: t.Any) -> dict[str, t.Any]:
        """The part ``tls`` of the description."""
        at = {"certificate_directory": str(self.directory), "socket_directory": str(self.directory / "s")}
        return {"certificates": self.certificates, "http2": self.http2, **at, **more}

    def start(self, options: dict[str, t.Any] | None = None, **more: t.Any) -> None:
        """Render, and serve."""
        self.http_port = self._edge([self.port], tls_port=self.port, tls=self.options(**(options or {})), **more)

    def connect(
        self, name: str, trust: Path | None = None, *, alpn: t.Sequence[str] = (), version: ssl.TLSVersion | None = None, source: str = CLIENT
    ) -> ssl.SSLSocket:
        """A connection whose certificate was verified for the name."""
        context = ssl.create_default_context(cafile=str(trust or self.every))
        if alpn:
            context.set_alpn_protocols(list(alpn))
        if version:
            context.minimum_version = context.maximum_version = version
            if version < ssl.TLSVersion.TLSv1_2:
                context.set_ciphers("ALL:@SECLEVEL=0")
        return context.wrap_socket(socket.create_connection(("127.0.0.1", self.port), 10, (source, 0)), server_hostname=f"{name}.{DOMAIN}")

    def get(
        self, name: str, trust: Path | None = None, headers: dict[str, str] | None = None, host: str = "", path: str = "/"
    ) -> tuple[int, str, http.client.HTTPMessage]:
        """Status, body and headers of one request over HTTPS."""
        with self.connect(name, trust) as connection:
            lines = "".join(f"{key}: {value}\r\n" for key, value in (headers or {}).items())
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host or f'{name}.{DOMAIN}'}\r\nConnection: close\r\n{lines}\r\n".encode())
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            return answer.status, answer.read().decode(), answer.headers


class Backends:
    """Instances that say who they are."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.servers: list[t.Any] = []

    def serve(self, server: t.Any, identity: str) -> t.Any:
        """Run a server until the test ends."""
        server.identity = identity
        server.seen = []
        server.connections = 0
        # For /slow: set when the request is there, and what lets it go on.
        server.asked, server.gate = threading.Event(), threading.Event()
        server.daemon_threads = True
        self.servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return server

    def http(self, identity: str) -> t.Any:
        return self.serve(http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler), identity)

    def echo(self, identity: str) -> t.Any:
        return self.serve(_Threading(("127.0.0.1", 0), _Echo), identity)

    def closing(self, identity: str) -> t.Any:
        return self.serve(_Threading(("127.0.0.1", 0), _Closing), identity)

    def tls(self, identity: str, host: str) -> tuple[t.Any, Path]:
        """A TLS echo with a certificate of its own, and that certificate."""
        certificate = make_certificate(self.directory / f"{identity}.pem", host)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)

        class Server(_Threading):
            def get_request(self) -> t.Any:
                connection, address = super().get_request()
                connection.settimeout(10)
                return context.wrap_socket(connection, server_side=True), address

        return self.serve(Server(("127.0.0.1", 0), _Echo), identity), certificate

    def stop(self) -> None:
        for server in self.servers:
            server.gate.set()
            server.shutdown()
            server.server_close()


def ask(port: int, host: str, headers: dict[str, str] | None = None, *, at: str = "127.0.0.1", source: str = "") -> tuple[int, str]:
    """Status and body of one request to the edge."""
    connection = http.client.HTTPConnection(at, port, timeout=10, source_address=(source, 0) if source else None)
    try:
        connection.request("GET", "/", headers={"Host": host, **(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def say(port: int, line: str, *, at: str = "127.0.0.1", source: str = "") -> str:
    """What a TCP service answers to a line; an empty text when the connection is closed or refused."""
    try:
        with socket.create_connection((at, port), 10, (source, 0) if source else None) as connection:
            connection.sendall(line.encode() + b"\n")
            return connection.makefile().readline().strip()
    except OSError:
        return ""
