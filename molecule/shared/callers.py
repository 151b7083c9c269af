# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The services that faults are tried on, and callers of every kind that do not stop meanwhile.

They call over http, with new and with kept connections, a service that calls another one by name, and one that does not;
they keep TCP sessions, use TLS that is passed through, and look names up on every host and in a container of each.
Containers come and go.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import http.client
import os
import shlex
import socket
import ssl
import threading
import time
import typing as t

import lab
import traffic
from fault_report import WRONG, Sample

ECHO_PORT = 9998
# By the end of its name, a service owns a port that others may want too.
WEB, ECHO, TLS = "faultweb", f"faultecho-{ECHO_PORT}", "faulttls"
#: The service that looks up and calls another one, at a fixed port, for each request.
FRONT, BACK, BACK_PORT = "faultfront", "faultback", 18081
EXPOSED = (WEB, FRONT, ECHO, TLS)
SERVICES = (*EXPOSED, BACK)
#: So many services more, of which nobody is asked: the guard looks at shares.
OTHERS = [f"faultmore-{number}" for number in range(1, 7)]
NAME = f"{WEB}.service.dc1.consul"
#: Requests a second and edge for the service that calls another one, half of them over new connections. FAULT_RATE lowers
#: it where callers and nodes share a weak machine. The service that calls no other one gets a fifth of it.
RATE = int(os.environ.get("FAULT_RATE", "100"))
DIRECT_RATE = RATE / 5
WORKERS, DIRECT_WORKERS = 8, 2
TIMEOUT = 10
CHURN_SECONDS = 4.0
LINES, LINE_SECONDS = 10, 0.2

DIRECTORY = "/var/lib/faults"
# Asks for the name five times a second, as every program does, and writes down when, how long it took, and what was said. The clock is that of the one
# kernel which all nodes share.
_PROBE = f"""
import socket, sys, time
log = open(sys.argv[1], "a", buffering=1)
while True:
    began = time.monotonic()
    try:
        socket.getaddrinfo("{NAME}", 80, socket.AF_INET, socket.SOCK_STREAM)
        said = "ok"
    except OSError as error:
        said = str(error).replace(chr(10), " ")
    now = time.monotonic()
    log.write(f"{{began:.3f}} {{now - began:.3f}} {{said}}\\n")
    time.sleep(max(0.0, began + 0.2 - now))
"""
# Something answers at the port of each of the others: what does not has ended, for the guard.
_ANSWERS = f"""
import socket, threading

def answer(port):
    listener = socket.create_server(("", port))
    while True:
        listener.accept()[0].close()

for port in range(9100, {9100 + len(OTHERS)}):
    threading.Thread(target=answer, args=(port,)).start()
"""
_UNIT = f"""
[Unit]
Description=Asks for a name

[Service]
ExecStart=/usr/bin/python3 {DIRECTORY}/probe.py {DIRECTORY}/host.log
Restart=always

[Install]
WantedBy=multi-user.target
"""
_RUN = "docker run -d -P --restart always"
# What a node has to run. A service says its own name as its version, so an answer from a wrong one is seen.
_CONTAINERS = {
    WEB: f"-l SERVICE_NAME={WEB} -l SERVICE_TAGS=http -e SAMPLE_VERSION={WEB} trinode/httpbackend:v1.0.0",
    ECHO: f"-l SERVICE_NAME={ECHO} -l SERVICE_TAGS=tcp -e SAMPLE_VERSION={ECHO} trinode/tcpfront:v1.0.0",
    BACK: f"-p {BACK_PORT}:8081 -l SERVICE_NAME={BACK} -e SAMPLE_VERSION={BACK} trinode/httpbackend:v1.0.0",
    # It waits as long for one instance as the edge does. Until a lost node has left the catalogue, a name may still have
    # its address, and only that: so it looks the name up again for each try.
    FRONT: f"-l SERVICE_NAME={FRONT} -l SERVICE_TAGS=http -e SAMPLE_VERSION={FRONT} -e BACKEND_TIMEOUT=0.4 -e BACKEND_TRIES=10"
    f" -e BACKEND_URL=http://{BACK}.service.dc1.consul:{BACK_PORT} trinode/httpfront:v1.0.0",
    TLS: f"-l SERVICE_NAME={TLS} -l SERVICE_TAGS=tls -e SAMPLE_VERSION={TLS} -v {DIRECTORY}/tls:/tls:ro trinode/httpsfront:v1.0.0",
    "faultdns": f"-l SERVICE_IGNORE=true -v {DIRECTORY}:/watch trinode/httpbackend:v1.0.0 python3 /watch/probe.py /watch/container.log",
}


def _write(node: str, path: str, text: str) -> None:
    lab.run(node, f"mkdir -p {os.path.dirname(path)} && printf %s {shlex.quote(text)} > {path}")


def everywhere(work: t.Callable[[str], t.Any], nodes: t.Iterable[str] = tuple(lab.NODES)) -> None:
    """On several nodes at the same time; the first error is raised."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for _ in pool.map(work, nodes):
            pass


def certificate() -> str:
    """The certificate of the TLS service, the same on every node; the edge has no part in it."""
    command = (
        f"mkdir -p {DIRECTORY}/tls && cd {DIRECTORY}/tls && test -s certificate.pem || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1"
        f" -nodes -days 30 -keyout key.pem -out certificate.pem -subj /CN={TLS} -addext subjectAltName=DNS:{TLS}.{traffic.DOMAIN} 2>&1"
    )
    lab.run("consul-1", command)
    for node in lab.NODES:
        for name in ("certificate.pem", "key.pem"):
            _write(node, f"{DIRECTORY}/tls/{name}", lab.run("consul-1", f"cat {DIRECTORY}/tls/{name}") + "\n")
        lab.run(node, f"chmod 644 {DIRECTORY}/tls/*")
    return lab.run("consul-1", f"cat {DIRECTORY}/tls/certificate.pem")


def start_services(node: str) -> None:
    """What the node has to run, as far as it does not."""
    traffic.load_samples(node)
    lab.run(node, f"mkdir -p {DIRECTORY} && chmod 777 {DIRECTORY}")
    _write(node, f"{DIRECTORY}/probe.py", _PROBE)
    _write(node, "/etc/systemd/system/faultdns.service", _UNIT)
    lab.run(node, "systemctl daemon-reload && systemctl enable -q --now faultdns")
    more = " ".join(
        f"--expose {9100 + number} -l SERVICE_{9100 + number}_NAME={name} -l SERVICE_{9100 + number}_TAGS=http" for number, name in enumerate(OTHERS)
    )
    others = f"{more} -l SERVICE_8081_IGNORE=true trinode/httpbackend:v1.0.0 python3 -c {shlex.quote(_ANSWERS)}"
    for name, options in {**_CONTAINERS, "faultmore": others}.items():
        # One that was stopped or killed by a fault that was broken off is there and does not run.
        lab.run(node, f"docker start {name} >/dev/null 2>&1 || {_RUN} --name {name} {options} >/dev/null")


def remove_churn(node: str) -> None:
    """The containers that came and went."""
    lab.run(node, "docker ps -aq --filter name=^faultchurn- | xargs -r docker rm -f >/dev/null")


def remove_services(node: str) -> None:
    """Everything of the above."""
    lab.run(node, "docker ps -aq --filter name=^fault | xargs -r docker rm -f >/dev/null")
    # Some tests clean up twice.
    lab.run(node, "test ! -e /etc/systemd/system/faultdns.service || systemctl disable -q --now faultdns")
    lab.run(node, f"rm -rf {DIRECTORY} /etc/systemd/system/faultdns.service")


# Whether all is right --------------------------------------------------------------------------------------------------

_RUNNING = "docker ps --format '{{.Names}} {{.Ports}}' --filter name=^fault"
_LIVE = r"""
cd /var/lib/nginx-edge && generation=$(basename $(readlink live)) && test "$(curl -s -m 2 http://127.0.0.1:8098/generation)" = "$generation" || exit 1
for service in %s; do
    sed -n "/^upstream .*$service[^a-z]/,/^}/p" live/http/*.conf live/stream/*.conf | grep -o 'server [0-9.]*:[0-9]*' | sed "s/^server/$service/"
done
true
"""
# Whoever asks without ?stale is answered by the leader.
_HEALTH = (
    lab.ASK
    + r"""
for service in @SERVICES@; do
    ask "/v1/health/service/$service?passing" || exit 1
    echo
done | python3 -c '
import json, sys
for line in sys.stdin:
    for entry in json.loads(line):
        print(entry["Service"]["Service"], "{Address}:{Port}".format(**entry["Service"]))
'
"""
)


def _service_of(container: str) -> str:
    return WEB if container.startswith("faultchurn-") else container


def running(nodes: t.Iterable[str] = tuple(lab.NODES)) -> set[tuple[str, str]]:
    """Service, and address with port, of every container that should get traffic."""
    found = set()
    for node in nodes:
        for line in lab.run(node, _RUNNING).splitlines():
            name, _space, ports = line.partition(" ")
            if _service_of(name) in SERVICES:
                found |= {
                    (_service_of(name), f"{lab.NODES[node]}:{port.split(':')[1].split('->')[0]}") for port in ports.split(", ") if port.startswith("0.0.0.0:")
                }
    return found


def catalogue(node: str) -> set[tuple[str, str]]:
    """The same as Consul has it; that asks the leader."""
    lines = lab.run(node, _HEALTH.replace("@SERVICES@", " ".join(SERVICES))).splitlines()
    return {(line.split()[0], line.split()[1]) for line in lines}


def live(edge: str) -> set[tuple[str, str]]:
    """The same as the running nginx has it: its workers answer with the generation that is linked."""
    lines = lab.run(edge, _LIVE % " ".join(EXPOSED)).splitlines()
    return {(line.split()[0], line.split()[1]) for line in lines}


def edges_right(edges: t.Iterable[str] = lab.EDGES, nodes: t.Iterable[str] = tuple(lab.NODES)) -> bool:
    """Whether the edges send requests to what runs on these nodes, and to nothing else."""
    wanted = {(service, where) for service, where in running(nodes) if service in EXPOSED}
    return {service for service, _where in wanted} == set(EXPOSED) and all(live(edge) == wanted for edge in edges)


def all_right() -> bool:
    """Whether the catalogue and both edges are what runs."""
    wanted = running()
    return len({where.partition(":")[0] for _service, where in wanted}) == len(lab.NODES) and catalogue("consul-1") == wanted and edges_right()


def evidence() -> str:
    """What a person needs when it is not."""
    parts = []
    for what, look in [
        ("running", running),
        ("catalogue", lambda: catalogue("consul-1")),
        *((edge, lambda edge=edge: live(edge)) for edge in lab.EDGES),
    ]:
        try:
            parts.append(f"{what}: {sorted(look())}")
        except AssertionError as error:
            parts.append(f"{what}: {error}")
    parts += [lab.run(edge, "nginx-edge-apply --status | head -n 4", check=False) for edge in lab.EDGES]
    return "\n".join([*parts, *(lab.journal(node, "consul", "registrator", "docker", lines=8) for node in lab.NODES)])


# Callers ---------------------------------------------------------------------------------------------------------------


def judged(answer: http.client.HTTPResponse, service: str) -> str:
    """Return what is wrong with an answer; empty when nothing is."""
    body = answer.read().decode(errors="replace").strip()
    if answer.status != 200:
        return f"{answer.status} {body}"
    # The service that calls another one shows the answer that it got.
    wanted = [service, BACK] if service == FRONT else [service]
    return "" if all(f"version: {name}" in body for name in wanted) else f"{WRONG}: {body}"


class Kept:
    """Asks over one connection for as long as it is kept.

    One that was closed between two requests is opened again, as every client does; that is not a failure.
    """

    def __init__(self, address: str, port: int = 80, service: str = WEB) -> None:
        self.reopened = 0
        self._service = service
        self._connection = http.client.HTTPConnection(address, port, timeout=TIMEOUT)

    def _once(self) -> str:
        try:
            self._connection.request("GET", "/", headers={"Host": f"{self._service}.{traffic.DOMAIN}"})
            return judged(self._connection.getresponse(), self._service)
        except BaseException:
            self._connection.close()
            raise

    def ask(self) -> str:
        """One request."""
        kept = self._connection.sock is not None
        try:
            return self._once()
        except ConnectionError:
            # Nothing of an answer had come.
            if not kept:
                raise
        self.reopened += 1
        return self._once()


class Callers:
    """Everybody who calls, from the beginning to the end of a block.

    Args:
        edges: which edges are asked.
        away: nodes on which no container comes and goes, because they will be away.
        trust: the certificate of the TLS service.
    """

    def __init__(self, trust: str, edges: t.Iterable[str] = lab.EDGES, away: t.Iterable[str] = ()) -> None:
        proven = traffic.addresses()
        self.edges = {edge: proven[edge] for edge in edges}
        self.nodes = [node for node in lab.NODES if node not in tuple(away)]
        self.samples: list[Sample] = []
        self.events: list[tuple[float, str]] = []
        self._kept: list[Kept] = []
        self.cut: list[float] = []
        self.begun = self.ended = time.monotonic()
        self._stop = threading.Event()
        self._tls = ssl.create_default_context(cadata=trust)
        self._threads = [threading.Thread(target=self._churn, daemon=True)]
        for edge, address in self.edges.items():
            for kind, service, rate, workers in (("front", FRONT, RATE, WORKERS), ("http", WEB, DIRECT_RATE, DIRECT_WORKERS)):
                each = rate / 2 / workers
                kept = [Kept(address, service=service) for _ in range(workers)]
                self._kept += kept
                self._threads += [self._thread(edge, f"{kind} kept", each, one.ask) for one in kept]
                new = functools.partial(self._ask_new, address, service)
                self._threads += [self._thread(edge, f"{kind} new", each, new) for _ in range(workers)]
            self._threads += [self._thread(edge, "tls", 5, lambda address=address: self._ask_tls(address))]
            self._threads += [threading.Thread(target=self._sessions, args=(edge, address), daemon=True) for _ in range(3)]

    def __enter__(self) -> Callers:
        self.begun = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=TIMEOUT + 20)
        self.ended = time.monotonic()

    @property
    def reopened(self) -> int:
        """How often a kept connection had been closed between two requests."""
        return sum(one.reopened for one in self._kept)

    def event(self, text: str) -> float:
        """Note what happened; gives the moment."""
        at = time.monotonic()
        self.events.append((round(at - self.begun, 2), text))
        return at

    def collect_names(self) -> None:
        """Take what was asked for names meanwhile from the nodes."""
        for node in lab.NODES:
            for kind in ("host", "container"):
                text = lab.run(node, f"awk '$1 >= {self.begun:.3f} && $1 <= {self.ended:.3f}' {DIRECTORY}/{kind}.log", check=False)
                for line in text.splitlines():
                    at, took, said = line.split(" ", 2)
                    self.samples.append(Sample(f"dns {kind}", node, float(at), float(took), "" if said == "ok" else said))

    # -- one kind each

    def _thread(self, edge: str, kind: str, rate: float, ask: t.Callable[[], str]) -> threading.Thread:
        return threading.Thread(target=self._work, args=(edge, kind, rate, ask), daemon=True)

    def _work(self, edge: str, kind: str, rate: float, ask: t.Callable[[], str]) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                problem = ask()
            except (OSError, http.client.HTTPException) as error:
                problem = f"{type(error).__name__}: {error}"
            self.samples.append(Sample(kind, edge, began, time.monotonic() - began, problem[:200]))
            # A slow answer does not make a burst afterwards.
            due = max(due + 1 / rate, time.monotonic())
            self._stop.wait(max(0.0, due - time.monotonic()))

    @staticmethod
    def _ask_new(address: str, service: str) -> str:
        with contextlib.closing(http.client.HTTPConnection(address, 80, timeout=TIMEOUT)) as connection:
            connection.request("GET", "/", headers={"Host": f"{service}.{traffic.DOMAIN}", "Connection": "close"})
            return judged(connection.getresponse(), service)

    def _ask_tls(self, address: str) -> str:
        name = f"{TLS}.{traffic.DOMAIN}"
        with socket.create_connection((address, 443), timeout=TIMEOUT) as plain, self._tls.wrap_socket(plain, server_hostname=name) as connection:
            connection.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            return judged(answer, TLS)

    def _sessions(self, edge: str, address: str) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                with socket.create_connection((address, ECHO_PORT), timeout=TIMEOUT) as connection, connection.makefile("rwb") as lines:
                    problem = self._echo(lines, "first")
                    self.samples.append(Sample("tcp", edge, began, time.monotonic() - began, problem))
                    if not problem:
                        self._go_on(lines)
                    # The edge may still be gone for the next one.
                    self._stop.wait(LINE_SECONDS if problem else 0.0)
            except OSError as error:
                self.samples.append(Sample("tcp", edge, began, time.monotonic() - began, f"{type(error).__name__}: {error}"))
                self._stop.wait(LINE_SECONDS)

    def _go_on(self, lines: t.IO[bytes]) -> None:
        for number in range(LINES):
            if self._stop.wait(LINE_SECONDS):
                return
            try:
                problem = self._echo(lines, str(number))
            except OSError as error:
                problem = str(error) or type(error).__name__
            if problem:
                self.cut.append(time.monotonic())
                return

    @staticmethod
    def _echo(lines: t.IO[bytes], text: str) -> str:
        lines.write(f"{text}\n".encode())
        lines.flush()
        answer = lines.readline(4096).decode(errors="replace").strip()
        if not answer:
            return "the connection was closed"
        return "" if answer.startswith(f"[{ECHO}]") and answer.endswith(f"[{text}]") else f"{WRONG}: {answer[:100]}"

    def _churn(self) -> None:
        """One container more and one fewer every few seconds, on one node after the other. On a node that is away, nothing happens."""
        alive: list[tuple[str, str]] = []
        number = 0
        # The names of before may still be there.
        run = f"{time.monotonic():.0f}"
        while self.nodes and not self._stop.is_set():
            node, name = self.nodes[number % len(self.nodes)], f"faultchurn-{run}-{number}"
            number += 1
            said = lab.run(node, f"docker run -d -P --name {name} {_CONTAINERS[WEB]} >/dev/null && echo started", check=False)
            if said.endswith("started"):
                alive.append((node, name))
            if self._stop.wait(CHURN_SECONDS / 2):
                return
            # At most two: while nobody tells the edges that they have gone, a request tries both of them and then one that lives.
            if len(alive) > 1:
                node, name = alive.pop(0)
                lab.run(node, f"docker stop -t 20 {name} >/dev/null && docker rm {name} >/dev/null", check=False)
            self._stop.wait(CHURN_SECONDS / 2)
