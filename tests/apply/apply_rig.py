# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real nginx with the real apply program, in a directory of its own: no systemd, no change to the machine's nginx."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "render")]

from edge_rig import free_port

PROGRAM = Path(__file__).resolve().parents[2] / "roles" / "nginx" / "files" / "nginx-edge-apply"
LIBRARY = PROGRAM.parent
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


def wait_until(what: Callable[[], Any], text: str, seconds: float = 10) -> Any:
    """Poll until something is true."""
    deadline = time.monotonic() + seconds
    while True:
        value = what()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {text}"
        time.sleep(0.02)


class Edge:
    """One edge in a directory."""

    worker_count = 2
    # What the program, and the nginx that it starts, are run by.
    prefix: tuple[str, ...] = ()
    free_port = staticmethod(free_port)
    wait_until = staticmethod(wait_until)

    def __init__(self, root: Path, state: Path) -> None:
        self.root, self.state, self.etc = root, state, root / "etc-nginx"
        self.http_port, self.status_port, self.tcp_port = free_port(), free_port(), free_port()
        self.pid_file, self.base, self.sockets = root / "nginx.pid", root / "etc-nginx-edge", root / "s"
        for path in (
            self.etc / "conf.d",
            self.etc / "modules-enabled",
            self.etc / "sites-enabled",
            self.base / "tls",
            self.sockets,
            self.state / "staging",
            self.state / "trees",
            root / "tmp",
        ):
            path.mkdir(parents=True)
        root.chmod(0o755)
        (self.etc / "nginx.conf").write_text(
            f"worker_processes {self.worker_count};\npid {self.pid_file};\nerror_log {root}/error.log;\ninclude {self.etc}/modules-enabled/*.conf;\n"
            "events { worker_connections 256; }\n"
            f"http {{\n  access_log off;\n  client_body_temp_path {root}/tmp/1; proxy_temp_path {root}/tmp/2; fastcgi_temp_path {root}/tmp/3;\n"
            f"  uwsgi_temp_path {root}/tmp/4; scgi_temp_path {root}/tmp/5;\n  include {self.etc}/conf.d/*.conf;\n  include sites-enabled/*;\n}}\n"
        )
        if STREAM_MODULE.exists():
            (self.etc / "modules-enabled" / "50-mod-stream.conf").write_text(f"load_module {STREAM_MODULE};\n")
        (self.etc / "conf.d" / "00-edge.conf").write_text(f"include {state}/live/http/*.conf;\n")
        (self.etc / "modules-enabled" / "99-edge-stream.conf").write_text(f"include {state}/live/main/*.conf;\n")
        (self.base / "http.conf").write_text(f'server {{ listen 127.0.0.1:{self.http_port} default_server; server_name _; return 404 "unknown\\n"; }}\n')
        (self.base / "main.conf").write_text("worker_shutdown_timeout 5s;\n")
        self.config = root / "apply.json"
        self.configure()

    def configure(self, **changes: Any) -> None:
        """Write the program's configuration."""
        values = {
            "state_dir": str(self.state),
            "base_dir": str(self.base),
            "socket_dir": str(self.sockets),
            "nginx_conf": str(self.etc / "nginx.conf"),
            "nginx_binary": NGINX,
            "pid_file": str(self.pid_file),
            "controller": "process",
            "status_port": self.status_port,
            "timeout": 4,
            # The services of these tests are here.
            "staged_loopback": True,
            "testing": True,
            "boot_mark": str(self.root / "boot"),
            "busy": str(self.root / "apply.busy"),
            "boot_settle": 0.2,
            **changes,
        }
        self.config.write_text(json.dumps(values))

    def command(self, *options: str) -> list[str]:
        """The command line of the program."""
        code = f"import sys; sys.path.insert(0, {str(LIBRARY)!r}); from nginx_edge.cli import main; sys.exit(main(sys.argv[1:]))"
        return [*self.prefix, sys.executable, "-ISB", "-c", code, "--config", str(self.config), *options]

    def start(self, *options: str, crash: str = "") -> subprocess.Popen[str]:
        """Start the program."""
        env = {**os.environ, "NGINX_EDGE_CRASH": crash}
        return subprocess.Popen(self.command(*options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)

    def run(self, *options: str, crash: str = "") -> subprocess.CompletedProcess[str]:
        """Run the program."""
        process = self.start(*options, crash=crash)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def apply(self, *options: str) -> dict[str, Any]:
        """Apply, and give the result."""
        done = self.run("--json", *options)
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def status(self) -> dict[str, Any]:
        """What the program says."""
        return json.loads(self.run("--status", "--json").stdout)

    def stage(self, http: str | None = None, stream: str | None = None) -> None:
        """Stage files as consul-template does: another file, then a rename."""
        for name, text in (("http.conf", http), ("stream.conf", stream)):
            if text is not None:
                temporary = self.state / "staging" / f".{name}.tmp"
                temporary.write_text(text)
                temporary.rename(self.state / "staging" / name)

    def http(self, *names: str, report: bool = True) -> str:
        """A http file that serves these names, each with its own answer."""
        parts = []
        for name in names:
            if report:
                parts.append("#! " + json.dumps({"kind": "served", "side": "http", "service": name}))
            parts.append(f"upstream http_{name} {{ server 127.0.0.1:9; }}")
            parts.append(f'server {{ listen 127.0.0.1:{self.http_port}; server_name {name}.test; return 200 "{name}\\n"; }}')
        return "\n".join(parts) + "\n"

    def stream(self, port: int | None = None, answer: str = "hello") -> str:
        """A stream file with one server that answers a line."""
        port = port or self.tcp_port
        line = json.dumps({"kind": "served", "side": "tcp", "service": "echo", "port": port})
        return f'#! {line}\nserver {{ listen 127.0.0.1:{port}; return "{answer}\\n"; }}\n'

    def ask(self, name: str) -> tuple[int, str]:
        """(status, body) for a host name; (0, "") without a connection."""
        try:
            with socket.create_connection(("127.0.0.1", self.http_port), 10) as connection:
                connection.sendall(f"GET / HTTP/1.0\r\nHost: {name}.test\r\n\r\n".encode())
                data = b"".join(iter(lambda: connection.recv(4096), b""))
        except OSError:
            return 0, ""
        head, _, body = data.decode().partition("\r\n\r\n")
        return int(head.split()[1]), body.strip()

    def ask_tcp(self, port: int | None = None) -> str:
        """The line that the stream server answers; nothing without a connection."""
        try:
            with socket.create_connection(("127.0.0.1", port or self.tcp_port), 10) as connection:
                return b"".join(iter(lambda: connection.recv(4096), b"")).decode().strip()
        except OSError:
            return ""

    def master(self) -> int:
        """Process id of the master, 0 when it does not run."""
        try:
            pid = int(self.pid_file.read_text())
            return pid if b"nginx: master" in Path(f"/proc/{pid}/cmdline").read_bytes() else 0
        except (OSError, ValueError):
            return 0

    def workers(self) -> list[int]:
        """Process ids of the workers that take connections."""
        master = self.master()
        try:
            children = Path(f"/proc/{master}/task/{master}/children").read_text().split() if master else []
            return sorted(int(pid) for pid in children if b"shutting down" not in Path(f"/proc/{pid}/cmdline").read_bytes())
        except OSError:
            # One has ended meanwhile.
            return self.workers()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End nginx, with its workers."""
        master, workers = self.master(), self.workers()
        if master:
            os.kill(master, how)
            if how == signal.SIGKILL:
                for worker in workers:
                    os.kill(worker, how)
            wait_until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in (master, *workers)), "nginx ends")
