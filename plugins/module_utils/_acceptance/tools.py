# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tools of the acceptance: the record of the steps, commands, polls with a deadline, http and TCP questions. Private to the collection."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import shlex
import socket
import ssl
import subprocess
import time
import traceback
import typing as t
import urllib.error
import urllib.parse
import urllib.request

PASSED = "passed"
FAILED = "failed"
SKIPPED = "skipped"
NOTE = "note"

#: A transcript is for reading; what is longer is cut in the middle.
OUTPUT_LIMIT = 4000
_ID_SAFE = re.compile(r"^[^:]*:(?P<container>[^:]+):\d+(?::udp)?$")

T = t.TypeVar("T")


class AcceptanceError(Exception):
    """A step could not be done; the text is for the operator."""


class Run(t.NamedTuple):
    """A command that ran."""

    command: str
    status: int
    output: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether it ended well."""
        return self.status == 0


class Answer(t.NamedTuple):
    """An http answer, with the address that we asked from and the certificate that the server showed."""

    status: int
    body: str
    headers: dict[str, str]
    source: str
    certificate: bytes

    @property
    def instance(self) -> str:
        """The instance that answered, as the sample services name themselves."""
        return self.headers.get("x-instance", "")


def shorten(text: str, limit: int = OUTPUT_LIMIT) -> str:
    """The text, without its middle when it is too long."""
    text = text.rstrip()
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


class Recorder:
    """What was done on one node, in order."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.steps: list[dict[str, t.Any]] = []

    def _add(self, check: int, title: str, status: str, command: str, output: str, message: str, seconds: float) -> None:
        self.steps.append(
            {
                "check": check,
                "title": title,
                "node": self.node,
                "status": status,
                "command": command,
                "output": shorten(output),
                "message": message,
                "seconds": round(seconds, 3),
                "at": round(time.time(), 3),
            }
        )

    def add(self, check: int, title: str, ok: bool, message: str = "", *, command: str = "", output: str = "", seconds: float = 0.0) -> bool:
        """Record a step that passed or failed. The message says what was wrong and is dropped when nothing was."""
        self._add(check, title, PASSED if ok else FAILED, command, output, "" if ok else message or "it was not so", seconds)
        return ok

    def note(self, check: int, title: str, *, command: str = "", output: str = "", seconds: float = 0.0) -> None:
        """Record something to know, which is neither right nor wrong."""
        self._add(check, title, NOTE, command, output, "", seconds)

    def skip(self, check: int, title: str, why: str) -> None:
        """Record a step that was not done. The check then does not count as passed."""
        self._add(check, title, SKIPPED, "", "", f"skipped: {why}", 0.0)

    @contextlib.contextmanager
    def guard(self, check: int, title: str) -> t.Iterator[None]:
        """Whatever goes wrong inside fails this step and nothing else."""
        started = time.monotonic()
        try:
            yield
        except (AcceptanceError, OSError, ValueError, http.client.HTTPException) as error:
            self.add(check, title, False, str(error) or type(error).__name__, seconds=time.monotonic() - started)
        except Exception as error:  # an error of ours is a failed step too: the following checks still run
            self.add(check, title, False, f"unexpected error: {error!r}", output=traceback.format_exc(), seconds=time.monotonic() - started)


def show(argv: t.Sequence[str]) -> str:
    """A command as one would type it."""
    return " ".join(shlex.quote(part) for part in argv)


def run(argv: t.Sequence[str], timeout: float = 20, environment: dict[str, str] | None = None) -> Run:
    """Run a command; a missing program or a time-out is a status, not an exception."""
    started = time.monotonic()
    try:
        done = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})},
        )
        status, output = done.returncode, done.stdout.decode("utf-8", "replace")
    except subprocess.TimeoutExpired as error:
        status, output = 124, (error.stdout or b"").decode("utf-8", "replace") + f"\n(no end after {timeout:g} s)"
    except OSError as error:
        status, output = 127, str(error)
    return Run(show(argv), status, output.strip(), time.monotonic() - started)


def must(argv: t.Sequence[str], timeout: float = 20) -> str:
    """Run a command that has to work; return what it printed."""
    done = run(argv, timeout)
    if not done.ok:
        raise AcceptanceError(f"{done.command} ended with {done.status}: {shorten(done.output, 600)}")
    return done.output


def poll(question: t.Callable[[], T], good: t.Callable[[t.Any], bool], seconds: float, interval: float = 0.1) -> tuple[T | None, float, str]:
    """Ask until the answer is good or the time is over.

    Returns the last answer (None when there was none), the seconds it took, and the last error.
    """
    started = time.monotonic()
    answer: T | None = None
    error = ""
    while True:
        try:
            answer, error = question(), ""
            if good(answer):
                return answer, time.monotonic() - started, ""
        except (AcceptanceError, OSError, ValueError, http.client.HTTPException) as problem:
            error = str(problem) or type(problem).__name__
        if time.monotonic() - started > seconds:
            return answer, time.monotonic() - started, error or "not so"
        time.sleep(interval)


def get(
    address: str,
    port: int = 80,
    path: str = "/",
    *,
    host: str = "",
    headers: dict[str, str] | None = None,
    timeout: float = 5,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """One http or https request over a connection of its own. With TLS the server's certificate has to be good for the host."""
    connection = http.client.HTTPConnection(address, port, timeout=timeout)
    certificate = b""
    try:
        connection.connect()
        if tls is not None:
            wrapped = tls.wrap_socket(connection.sock, server_hostname=host or address)
            connection.sock = wrapped
            certificate = wrapped.getpeercert(binary_form=True) or b""
        source = connection.sock.getsockname()[0]
        connection.request("GET", path, headers={"Host": host or address, "Connection": "close", "User-Agent": "trinode-acceptance", **(headers or {})})
        response = connection.getresponse()
        body = response.read(1_000_000).decode("utf-8", "replace").strip()
        return Answer(response.status, body, {key.lower(): value for key, value in response.getheaders()}, source, certificate)
    finally:
        connection.close()


def echo(address: str, port: int, line: str, timeout: float = 5) -> str:
    """Send a line and return the line that comes back."""
    with socket.create_connection((address, port), timeout) as connection:
        connection.settimeout(timeout)
        connection.sendall(line.encode() + b"\n")
        data = b""
        while not data.endswith(b"\n"):
            part = connection.recv(4096)
            if not part:
                break
            data += part
    if not data.endswith(b"\n"):
        raise AcceptanceError(f"{address}:{port} closed the connection after {len(data)} bytes without a whole line")
    return data.decode("utf-8", "replace").rstrip("\r\n")


def tls_context(ca: str) -> ssl.SSLContext:
    """A client that trusts this CA and no other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ca)
    return context


def fingerprint(certificate: bytes) -> str:
    """The SHA-256 of a certificate in DER form."""
    return hashlib.sha256(certificate).hexdigest()


class Consul:
    """The few questions to the agent's API that the acceptance has."""

    def __init__(self, url: str, token: str = "") -> None:
        self.url = url.rstrip("/")
        self.token = token

    def get(self, path: str) -> t.Any:
        """The JSON answer to a path."""
        request = urllib.request.Request(self.url + path, headers={"X-Consul-Token": self.token} if self.token else {})
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            raise AcceptanceError(f"{self.url}{path} answered {error.code}: {error.read(300).decode('utf-8', 'replace').strip()}") from error

    def instances(self, service: str) -> list[dict[str, t.Any]]:
        """The instances of a service in the catalogue."""
        result: list[dict[str, t.Any]] = self.get(f"/v1/catalog/service/{urllib.parse.quote(service, safe='')}")
        return result


def spelled_twice(names: t.Iterable[str]) -> list[str]:
    """Return the names that differ from another one only in case. To DNS they are one name, to the rights of tokens they are not."""
    spelled: dict[str, list[str]] = {}
    for name in sorted(names):
        spelled.setdefault(name.lower(), []).append(name)
    return [" and ".join(found) for found in spelled.values() if len(found) > 1]


def endpoint(instance: t.Mapping[str, t.Any]) -> str:
    """Address and port of a catalogue entry."""
    return f"{instance.get('ServiceAddress') or instance.get('Address')}:{instance.get('ServicePort')}"


def container_of(service_id: str) -> str:
    """The container's name in a service id of the form C(host:container:port), else nothing."""
    match = _ID_SAFE.match(service_id)
    return match.group("container") if match else ""


class RaftPeer(t.NamedTuple):
    """One line of C(consul operator raft list-peers)."""

    node: str
    address: str
    state: str
    voter: bool


def parse_raft_peers(text: str) -> list[RaftPeer]:
    """The peers, read by the names of the columns, which differ between versions of Consul."""
    lines = [line for line in text.splitlines() if line.strip()]
    for start, line in enumerate(lines):
        columns = re.split(r"\s{2,}", line.strip())
        if {"Node", "Address", "State", "Voter"} <= set(columns):
            peers = []
            for row in lines[start + 1 :]:
                cells = re.split(r"\s{2,}", row.strip())
                if len(cells) < len(columns):
                    continue
                named = dict(zip(columns, cells))
                peers.append(RaftPeer(named["Node"], named["Address"].rsplit(":", 1)[0], named["State"], named["Voter"] == "true"))
            return peers
    raise AcceptanceError(f"this is no list of raft peers: {shorten(text, 300)}")


def listeners(ports: t.Collection[int], proc: str = "/proc") -> dict[int, str]:
    """Which of these TCP ports are listened on, and by which program, as the kernel says."""
    inodes: dict[str, int] = {}
    for table in ("tcp", "tcp6"):
        try:
            with open(f"{proc}/net/{table}", encoding="ascii") as file:
                rows = file.read().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            cells = row.split()
            if len(cells) > 9 and cells[3] == "0A" and int(cells[1].rsplit(":", 1)[1], 16) in ports:
                inodes[cells[9]] = int(cells[1].rsplit(":", 1)[1], 16)
    found = dict.fromkeys(inodes.values(), "")
    if not inodes:
        return found
    for pid in filter(str.isdigit, os.listdir(proc)):
        with contextlib.suppress(OSError):
            for descriptor in os.scandir(f"{proc}/{pid}/fd"):
                with contextlib.suppress(OSError):
                    link = os.readlink(descriptor.path)
                    if link.startswith("socket:[") and link[8:-1] in inodes:
                        with open(f"{proc}/{pid}/comm", encoding="utf-8") as file:
                            found[inodes[link[8:-1]]] = file.read().strip()
    return found


def parse_request_log(text: str, marker: str) -> list[dict[str, str]]:
    """The requests of this run in a sample service's log. Lines of anything else are passed over."""
    found = []
    for line in text.splitlines():
        if marker not in line:
            continue
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("event") == "request" and str(entry.get("path", "")).startswith(marker):
            found.append({"path": str(entry["path"]), "client": str(entry.get("client", "")), "host": str(entry.get("host", ""))})
    return found
