# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Temporary listeners on the nodes, and the probes between them.

A probe sends one line with the run's token; the listener answers with a proof that it knows the token, its clock, and nothing longer than the
question. Everybody else gets silence. Nothing here imports Ansible. Runs on nodes, so Python 3.9.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
import json
import os
import secrets
import selectors
import signal
import socket
import struct
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from .._host.ports import Node, Port, wanted_paths

MAGIC = b"trinode-preflight"
SIZE = 256
_CONNECTIONS = 512
_NOBODY = 65534


# --- the lines that go over the network -------------------------------------------------------------------------------


def make_question(token: str, sender: str, nonce: str) -> bytes:
    """A question, padded so that no answer is longer than it."""
    return b" ".join([MAGIC, token.encode(), nonce.encode(), sender.encode("ascii", "replace")[:63]]).ljust(SIZE - 1) + b"\n"


def read_question(data: bytes, token: str) -> tuple[str, str] | None:
    """Sender and nonce of a valid question."""
    fields = data.split()
    if len(data) != SIZE or len(fields) != 4 or fields[0] != MAGIC or not hmac.compare_digest(fields[1], token.encode()):
        return None
    return fields[3].decode("ascii", "replace"), fields[2].decode("ascii", "replace")


def _proof(token: str, nonce: str) -> str:
    return hmac.new(token.encode(), nonce.encode(), hashlib.sha256).hexdigest()[:32]


def make_answer(token: str, nonce: str, clock: float) -> bytes:
    """The answer to a valid question."""
    return b" ".join([MAGIC, _proof(token, nonce).encode(), f"{clock:.6f}".encode()]) + b"\n"


def read_answer(data: bytes, token: str, nonce: str) -> float | None:
    """The clock of the listener, out of a valid answer."""
    fields = data.split()
    if len(fields) != 3 or fields[0] != MAGIC or not hmac.compare_digest(fields[1], _proof(token, nonce).encode()):
        return None
    try:
        return float(fields[2])
    except ValueError:
        return None


def control_name(token: str) -> str:
    """The abstract socket through which a listener is ended. The name gives the token away to nobody."""
    return "\0trinode-preflight-" + hashlib.sha256(token.encode()).hexdigest()[:24]


# --- the listener -----------------------------------------------------------------------------------------------------


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


@dataclass
class Bound:
    """What could be opened."""

    sockets: list[tuple[socket.socket, int, str]] = field(default_factory=list)
    held: list[tuple[int, str]] = field(default_factory=list)
    failed: list[tuple[int, str, str]] = field(default_factory=list)
    port: int = 0


def open_sockets(address: str, wanted: t.Iterable[tuple[int, str]]) -> Bound:
    """Bind the wanted ports that are free, and one that is always free: TCP, out of the range of published container ports.

    Raises:
        OSError: not even that one can be bound; the address is not on this host.
    """
    bound = Bound()
    for port, protocol in [(0, "tcp"), *wanted]:
        one = socket.socket(_family(address), socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
        try:
            if protocol == "tcp":
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((address, port))
            if protocol == "tcp":
                one.listen(128)
        except OSError as error:
            one.close()
            if port == 0:
                raise
            if error.errno == errno.EADDRINUSE:
                bound.held.append((port, protocol))
            else:
                bound.failed.append((port, protocol, error.strerror or str(error)))
            continue
        one.setblocking(False)
        if port == 0:
            bound.port = one.getsockname()[1]
        bound.sockets.append((one, port or bound.port, protocol))
    return bound


class Listener:
    """Serves the sockets until it is told to end or the deadline is over."""

    def __init__(self, bound: Bound, control: socket.socket, token: str, deadline: float, owner: int) -> None:
        self.token = token
        self.deadline = time.monotonic() + deadline
        self.owner = owner
        self.control = control
        self.sockets = bound.sockets
        self.selector = selectors.DefaultSelector()
        self.seen: dict[tuple[str, int, str], int] = {}
        self.open: dict[socket.socket, tuple[int, bytearray, float]] = {}
        for one, port, protocol in bound.sockets:
            self.selector.register(one, selectors.EVENT_READ, (protocol, port))
        control.setblocking(False)
        self.selector.register(control, selectors.EVENT_READ, ("control", 0))

    def serve(self) -> None:
        """The loop."""
        while time.monotonic() < self.deadline:
            for key, _events in self.selector.select(timeout=0.5):
                kind, port = key.data
                one = t.cast(socket.socket, key.fileobj)
                with contextlib.suppress(OSError):
                    if kind == "control":
                        if self._control():
                            return
                    elif kind == "udp":
                        self._datagram(one, port)
                    elif kind == "tcp":
                        self._accept(one, port)
                    else:
                        self._stream(one)
            now = time.monotonic()
            for one in [one for one, (_port, _data, end) in self.open.items() if end < now]:
                self._drop(one)

    def _answer(self, data: bytes, port: int, protocol: str) -> bytes | None:
        question = read_question(data, self.token)
        if question is None:
            return None
        sender, nonce = question
        key = (sender, port, protocol)
        self.seen[key] = self.seen.get(key, 0) + 1
        return make_answer(self.token, nonce, time.time())

    def _datagram(self, one: socket.socket, port: int) -> None:
        data, peer = one.recvfrom(SIZE + 1)
        answer = self._answer(data, port, "udp")
        if answer:
            one.sendto(answer, peer)

    def _accept(self, one: socket.socket, port: int) -> None:
        client, _peer = one.accept()
        if len(self.open) >= _CONNECTIONS:
            client.close()
            return
        client.setblocking(False)
        self.open[client] = (port, bytearray(), time.monotonic() + 5)
        self.selector.register(client, selectors.EVENT_READ, ("stream", port))

    def _stream(self, one: socket.socket) -> None:
        port, data, _end = self.open[one]
        try:
            part = one.recv(SIZE + 1)
            data += part
            if len(data) >= SIZE:
                answer = self._answer(bytes(data), port, "tcp")
                if answer:
                    one.sendall(answer)
                    data.clear()
                    # The caller closes first: no socket of ours is left in TIME_WAIT.
                    return
            elif part:
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._drop(one)

    def _drop(self, one: socket.socket) -> None:
        self.open.pop(one, None)
        self.selector.unregister(one)
        one.close()

    def _control(self) -> bool:
        client, _ = self.control.accept()
        with client:
            _pid, uid, _gid = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
            client.settimeout(1)
            if uid not in (0, self.owner) or not hmac.compare_digest(client.recv(SIZE), b"end " + self.token.encode()):
                return False
            for one, _port, _protocol in self.sockets:
                one.close()
            seen = [{"node": node, "port": port, "protocol": protocol} for node, port, protocol in sorted(self.seen)]
            client.sendall(json.dumps(seen).encode())
        return True


def _become_nobody() -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)


def _detach(keep: t.Iterable[int]) -> None:
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    kept = set(keep)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in kept:
            with contextlib.suppress(OSError):
                os.close(int(name))


def start(address: str, wanted: t.Iterable[tuple[int, str]], deadline: float, token: str = "") -> dict[str, t.Any]:
    """Open the sockets and leave a process behind that serves them.

    Raises:
        OSError: the address is not on this host, or no process can be made.
    """
    token = token or secrets.token_hex(16)
    bound = open_sockets(address, wanted)
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    control.bind(control_name(token))
    control.listen(4)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            # The child of a child belongs to init: nothing waits for it, and its end leaves no zombie.
            if os.fork() == 0:
                os.close(reader)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                owner = os.geteuid()
                _detach([writer, control.fileno(), *(one.fileno() for one, _port, _protocol in bound.sockets)])
                _become_nobody()
                listener = Listener(bound, control, token, deadline, owner)
                os.write(writer, str(os.getpid()).encode())
                os.close(writer)
                listener.serve()
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as pipe:
        pid = pipe.read()
    for one, _port, _protocol in bound.sockets:
        one.close()
    control.close()
    if not pid:
        raise OSError("the listening process ended at once")
    return {
        "token": token,
        "pid": int(pid),
        "address": address,
        "port": bound.port,
        "listening": [{"port": port, "protocol": protocol} for _one, port, protocol in bound.sockets],
        "held": [{"port": port, "protocol": protocol} for port, protocol in bound.held],
        "failed": [{"port": port, "protocol": protocol, "reason": reason} for port, protocol, reason in bound.failed],
    }


def stop(token: str, pid: int, timeout: float = 3.0) -> tuple[bool, list[dict[str, t.Any]]]:
    """End the listener of this token. Returns whether it was there, and the questions that arrived.

    Raises:
        TimeoutError: it was told to end and is still there.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(timeout)
        try:
            client.connect(control_name(token))
            client.sendall(b"end " + token.encode())
            data = b""
            while part := client.recv(65536):
                data += part
        except (ConnectionError, FileNotFoundError):
            return False, []
    end = time.monotonic() + timeout
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < end:
        time.sleep(0.01)
    if os.path.exists(f"/proc/{pid}"):
        raise TimeoutError(f"the listening process {pid} did not end in {timeout:g} s")
    return True, json.loads(data or b"[]")


# --- the probes -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Probe:
    """One path to try."""

    peer: str
    address: str
    port: int
    protocol: str
    token: str
    echo: bool = True
    sample: bool = False
    purpose: str = ""


def make_probes(node: Node, nodes: t.Sequence[Node], ports: t.Sequence[Port], listeners: t.Mapping[str, t.Mapping[str, t.Any]]) -> list[Probe]:
    """All paths from this node to those that listen.

    Args:
        node: this node.
        nodes: all nodes.
        ports: the port table.
        listeners: what :func:`start` returned, by the inventory name of the node.
    """
    probes = []
    for peer in nodes:
        listener = listeners.get(peer.host) or {}
        token = listener.get("token")
        if peer == node or not token:
            continue
        wanted = wanted_paths(node, peer, ports)
        echoing = {(one["port"], one["protocol"]) for one in listener.get("listening") or ()}
        held = {(one["port"], one["protocol"]) for one in listener.get("held") or ()}
        # The sample carries the clock, so it is tried between all nodes.
        probes.append(Probe(peer.host, peer.address, int(listener["port"]), "tcp", token, sample=True, purpose=wanted.pop((0, "tcp"), "")))
        for (port, protocol), purpose in wanted.items():
            if (port, protocol) in echoing:
                probes.append(Probe(peer.host, peer.address, port, protocol, token, purpose=purpose))
            elif (port, protocol) in held and protocol == "tcp":
                # The service itself listens there already. Over UDP nothing can be asked of it.
                probes.append(Probe(peer.host, peer.address, port, protocol, token, echo=False, purpose=purpose))
    return probes


def explain(error: OSError) -> str:
    """Why a path does not work, in words."""
    if isinstance(error, socket.timeout):
        return "no answer"
    words = {
        errno.ECONNREFUSED: "refused",
        errno.EHOSTUNREACH: "no route to the host, or rejected by a firewall",
        errno.ENETUNREACH: "no route to its network",
        errno.EACCES: "forbidden by this host's own firewall",
        errno.EPERM: "forbidden by this host's own firewall",
        errno.EADDRNOTAVAIL: "the own address is not on this host",
        errno.ECONNRESET: "the connection is reset",
        errno.ETIMEDOUT: "no answer",
    }
    return words.get(error.errno or 0, error.strerror or str(error))


def _receive(client: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n") and len(data) <= SIZE:
        part = client.recv(SIZE)
        if not part:
            break
        data += part
    return data


def _tcp(probe: Probe, sender: str, source: str, timeout: float) -> dict[str, t.Any]:
    nonce = secrets.token_hex(8)
    with socket.socket(_family(probe.address), socket.SOCK_STREAM) as client:
        client.settimeout(timeout)
        if source:
            client.bind((source, 0))
        client.connect((probe.address, probe.port))
        if not probe.echo:
            return {"ok": True}
        begin, tick = time.time(), time.monotonic()
        client.sendall(make_question(probe.token, sender, nonce))
        clock = read_answer(_receive(client), probe.token, nonce)
        rtt = time.monotonic() - tick
    if clock is None:
        return {"ok": False, "reason": "something else answers there"}
    return {"ok": True, "offset": clock - (begin + rtt / 2), "rtt": rtt}


def _udp(probe: Probe, sender: str, source: str, timeout: float) -> dict[str, t.Any]:
    nonce = secrets.token_hex(8)
    end = time.monotonic() + timeout
    with socket.socket(_family(probe.address), socket.SOCK_DGRAM) as client:
        if source:
            client.bind((source, 0))
        client.connect((probe.address, probe.port))
        refused: OSError | None = None
        for attempt in range(4):
            client.settimeout(max(0.01, min(timeout / 4, end - time.monotonic())))
            try:
                client.send(make_question(probe.token, sender, nonce))
                while time.monotonic() < end:
                    if read_answer(client.recv(SIZE), probe.token, nonce) is not None:
                        return {"ok": True, "attempts": attempt + 1}
            except socket.timeout:
                continue
            except OSError as error:
                refused = error
                time.sleep(min(0.1, timeout / 4))
        if refused is not None:
            raise refused
    return {"ok": False, "reason": "no answer"}


def run_probe(probe: Probe, sender: str, source: str, timeout: float) -> dict[str, t.Any]:
    """Try one path."""
    try:
        result = (_tcp if probe.protocol == "tcp" else _udp)(probe, sender, source, timeout)
    except OSError as error:
        result = {"ok": False, "reason": explain(error)}
    if result.get("reason") == "no answer":
        result["reason"] = f"no answer in {timeout:g} s"
    return {"peer": probe.peer, "port": probe.port, "protocol": probe.protocol, "sample": probe.sample, "purpose": probe.purpose, **result}


def run_probes(probes: t.Sequence[Probe], sender: str, source: str, timeout: float) -> list[dict[str, t.Any]]:
    """Try all paths at once."""
    if not probes:
        return []
    with ThreadPoolExecutor(max_workers=min(64, len(probes))) as pool:
        return list(pool.map(lambda probe: run_probe(probe, sender, source, timeout), probes))
