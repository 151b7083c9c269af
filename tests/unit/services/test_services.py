# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sample services as real processes, and the script that builds their images."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import types
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.trinode.platform.plugins.module_utils._acceptance import samples

SERVICES = Path(__file__).resolve().parents[3] / "services"
APP = SERVICES / "app"


def load(path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(f"services_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build = load(SERVICES / "build.py")


def free_port() -> int:
    """Return a port that is free now, and that the kernel gives to no other program unasked."""
    for port in random.sample(range(25000, 32768), 100):
        with contextlib.suppress(OSError), socket.create_server(("", port)):
            return port
    raise AssertionError("none of 100 ports is free")


class Service:
    """One service as a process of its own."""

    def __init__(self, process: subprocess.Popen[str], port: int, lines: list[dict[str, object]]) -> None:
        self.process = process
        self.port = port
        self.lines = lines

    def get(self, path: str = "/", **headers: str) -> tuple[int, str, dict[str, str]]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers={key.replace("_", "-"): value for key, value in headers.items()})
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, response.read().decode(), dict(response.headers)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(), dict(error.headers)

    def event(self, name: str) -> dict[str, object]:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for line in list(self.lines):
                if line["event"] == name:
                    return line
            time.sleep(0.01)
        raise AssertionError(f"no event {name} in {self.lines}")


@contextlib.contextmanager
def running(name: str, **environment: str) -> Iterator[Service]:
    port = free_port()
    with subprocess.Popen(
        [sys.executable, str(APP / f"{name}.py")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "SAMPLE_PORT": str(port), "SAMPLE_DRAIN_SECONDS": "0.2", "PYTHONDONTWRITEBYTECODE": "1", **environment},
    ) as process:
        lines: list[dict[str, object]] = []

        def read() -> None:
            assert process.stdout
            for line in process.stdout:
                lines.append(json.loads(line))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        service = Service(process, port, lines)
        try:
            service.event("started")
            yield service
        finally:
            process.kill()
            reader.join(10)


def test_httpbackend_answers_and_logs() -> None:
    with running("httpbackend") as service:
        status, body, headers = service.get("/x", X_Request_Id="abc-1", X_Forwarded_For="192.0.2.7", Host="web.example.org")
        assert (status, body.strip()) == (200, samples.answer_of_backend())
        assert headers["X-Request-Id"] == "abc-1"
        assert headers["X-Version"] == "v1.0.0"
        line = service.event("request")
        assert (line["client"], line["host"], line["path"], line["id"]) == ("192.0.2.7", "web.example.org", "/x", "abc-1")


def test_a_bad_request_id_is_replaced() -> None:
    with running("httpbackend") as service:
        assert re.fullmatch(r"[0-9a-f]{32}", service.get("/", X_Request_Id="a b")[2]["X-Request-Id"])


def test_version_comes_from_the_environment() -> None:
    with running("httpbackend", SAMPLE_VERSION="v2.0.0") as service:
        assert service.get()[1].strip() == samples.answer_of_backend("v2.0.0")


def test_httpfront_calls_httpbackend() -> None:
    with running("httpbackend") as backend, running("httpfront", BACKEND_URL=f"http://127.0.0.1:{backend.port}") as front:
        status, body, _headers = front.get("/", X_Request_Id="chain")
        assert (status, body.strip()) == (200, samples.answer_of_front())
        assert backend.event("request")["id"] == "chain"


def test_httpfront_says_that_the_backend_is_gone() -> None:
    with running("httpfront", BACKEND_URL=f"http://127.0.0.1:{free_port()}", BACKEND_TRIES="2") as front:
        status, body, _headers = front.get()
        assert status == 502
        assert "calling backendservice failed" in body


@pytest.mark.parametrize("answer", ["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut", "nonsense\r\n\r\n"])
def test_an_answer_that_is_cut_short_is_none(answer: str) -> None:
    """A service that is killed has perhaps sent its headers, and no more."""
    with socket.create_server(("127.0.0.1", 0)) as backend:
        url = f"http://127.0.0.1:{backend.getsockname()[1]}"

        def cut() -> None:
            for _ in range(2):
                connection, _peer = backend.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer.encode())

        thread = threading.Thread(target=cut, daemon=True)
        thread.start()
        with running("httpfront", BACKEND_URL=url, BACKEND_TRIES="1") as front:
            status, body, _headers = front.get()
        assert (status, "calling backendservice failed" in body) == (502, True)
        done = subprocess.run([sys.executable, str(APP / "fetch"), url], capture_output=True, text=True, timeout=20, check=False)
        thread.join(10)
    assert (done.returncode, done.stdout[:5], done.stderr) == (1, "000 -", "")


def test_tcpfront_echoes_lines_and_ends_sessions_gracefully() -> None:
    with running("tcpfront") as service, socket.create_connection(("127.0.0.1", service.port), 5) as connection:
        stream = connection.makefile("rwb")
        for text in ("hello", "again"):
            stream.write(text.encode() + b"\n")
            stream.flush()
            assert samples.is_echo(stream.readline().decode().rstrip("\n"), text)
        service.process.send_signal(signal.SIGTERM)
        service.event("stopped")
        assert stream.readline() == b""
        assert service.process.wait(10) == 0


_OTHER_THREAD = """
import signal, threading
from sample import StopSignal
wanted = StopSignal()
threading.Thread(target=lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM)).start()
wanted.wait()
print("stopped")
"""


def test_a_stop_signal_is_heard_whichever_thread_gets_it() -> None:
    done = subprocess.run([sys.executable, "-c", _OTHER_THREAD], cwd=APP, capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout == "stopped\n", done.stderr


def test_a_running_request_is_finished_after_the_stop_signal() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as backend,
        running("httpfront", BACKEND_URL=f"http://127.0.0.1:{backend.getsockname()[1]}", BACKEND_TIMEOUT="10") as front,
    ):
        answers: list[tuple[int, str, dict[str, str]]] = []
        client = threading.Thread(target=lambda: answers.append(front.get()))
        client.start()
        connection, _peer = backend.accept()  # now the request runs
        front.process.send_signal(signal.SIGTERM)
        front.event("draining")
        # During the drain others are still answered, and told that it ends.
        assert front.get("/health")[0] == 503
        connection.recv(4096)
        body = samples.answer_of_backend().encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        connection.close()
        client.join(10)
        assert [(status, text.strip()) for status, text, _headers in answers] == [(200, samples.answer_of_front())]
        assert front.process.wait(10) == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", front.port), 1)


def test_httpsfront_needs_its_certificate() -> None:
    done = subprocess.run(
        [sys.executable, str(APP / "httpsfront.py")], capture_output=True, text=True, check=False, env={**os.environ, "TLS_CERTIFICATE": "/nonexistent/c.pem"}
    )
    assert done.returncode == 1
    assert done.stderr.startswith("httpsfront: cannot read the certificate /nonexistent/c.pem")
    assert "Traceback" not in done.stderr


def test_the_images_are_those_that_the_acceptance_starts() -> None:
    assert [image.name for image in build.IMAGES] == list(samples.IMAGES)


def test_each_image_has_its_stage_and_label() -> None:
    stages = (SERVICES / "Dockerfile").read_text().split("\nFROM ")
    for image in build.IMAGES:
        (stage,) = [stage for stage in stages if stage.split("\n", 1)[0].endswith(f" AS {image.target}")]
        assert "LABEL trinode.samples=${SOURCE_HASH}" in stage


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    for name in ("app", "image", "musl"):
        (tmp_path / name).mkdir()
    (tmp_path / "Dockerfile").write_text("FROM x\n")
    (tmp_path / "app" / "a.py").write_text("1\n")
    return tmp_path


def test_the_hash_follows_what_is_built(sources: Path) -> None:
    first = build.source_hash(sources, "sha256:1")
    assert build.source_hash(sources, "sha256:1") == first
    assert build.source_hash(sources, "sha256:2") != first
    (sources / "app" / "__pycache__").mkdir()
    (sources / "app" / "__pycache__" / "a.pyc").write_text("x")
    assert build.source_hash(sources, "sha256:1") == first
    (sources / "app" / "a.py").write_text("2\n")
    assert build.source_hash(sources, "sha256:1") != first


def test_an_archive_without_its_stamp_or_of_another_size_is_not_current(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    assert not build.is_current(archive, "h")
    archive.write_bytes(b"1234")
    assert not build.is_current(archive, "h")
    build.stamp_path(archive).write_text(json.dumps({"hash": "h", "bytes": 4}))
    assert build.is_current(archive, "h")
    assert not build.is_current(archive, "other")
    archive.write_bytes(b"12")
    assert not build.is_current(archive, "h")
    build.stamp_path(archive).write_text("{")
    assert not build.is_current(archive, "h")


def test_an_archive_that_lacks_an_image_is_refused(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    archive = tmp_path / "a.tar"
    archive.write_bytes(b"not a tar")
    with pytest.raises(build.BuildError, match="not a readable image archive"):
        build.check_archive(archive)
    for names, missing in ((samples.IMAGES[:-1], "trinode/resolve-musl:1"), (samples.IMAGES, "")):
        manifest.write_text(json.dumps([{"RepoTags": [name]} for name in names]))
        with tarfile.open(archive, "w") as tar:
            tar.add(manifest, "manifest.json")
        if missing:
            with pytest.raises(build.BuildError, match=re.escape(f"lacks {missing}")):
                build.check_archive(archive)
        else:
            build.check_archive(archive)
