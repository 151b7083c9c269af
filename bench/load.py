# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to the nodes: single ones, a watch for the first right answer, a steady load, and wrk. All bounded in number and time, all
only to endpoints that were confirmed right before."""

from __future__ import annotations

import re
import socket
import threading
import time
import typing as t

from bench.lab import Endpoint, Lab, LabError, Node, wait_for

TIMEOUT = 5.0


class Answer(t.NamedTuple):
    """What came back. The status is 0 when no whole answer came; then the body says why."""

    status: int
    body: str


def parse_answer(data: bytes) -> Answer:
    """An answer to a request that asked for the connection to be closed."""
    head, separator, body = data.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if not separator or len(words) < 2 or not words[1].isdigit():
        return Answer(0, f"no whole answer: {data[:80]!r}")
    return Answer(int(words[1]), body.decode("utf-8", "replace").strip())


def ask(endpoint: Endpoint, host: str, timeout: float = TIMEOUT) -> Answer:
    """One request on a new connection, as a new client makes it."""
    try:
        with socket.create_connection((endpoint.node.address, endpoint.port), timeout) as connection:
            connection.sendall(f"GET / HTTP/1.0\r\nHost: {host}\r\n\r\n".encode("ascii"))
            data = b""
            while part := connection.recv(65536):
                data += part
    except OSError as error:
        return Answer(0, f"{type(error).__name__}: {error}")
    return parse_answer(data)


class Watch:
    """Asks several endpoints until each has given the wanted answer, and notes when it did."""

    PAUSE = 0.004
    MOST_REQUESTS = 20_000

    def __init__(self, lab: Lab, endpoints: t.Sequence[Endpoint], host: str, wanted: t.Callable[[Answer], bool], seconds: float = 60) -> None:
        lab.confirm(endpoints)
        self._host = host
        self._wanted = wanted
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self.at: dict[Endpoint, float] = {}
        self.last: dict[Endpoint, Answer] = {}
        self._threads = [threading.Thread(target=self._work, args=(endpoint,), daemon=True) for endpoint in endpoints]

    def start(self) -> Watch:
        """Begin to ask."""
        for thread in self._threads:
            thread.start()
        return self

    def _work(self, endpoint: Endpoint) -> None:
        for _ in range(self.MOST_REQUESTS):
            answer = ask(endpoint, self._host)
            now = time.time()
            self.last[endpoint] = answer
            if self._wanted(answer):
                self.at[endpoint] = now
                return
            if time.monotonic() >= self._deadline:
                return
            time.sleep(self.PAUSE)

    def result(self) -> dict[Endpoint, float]:
        """The Unix time of the first wanted answer of each endpoint.

        Raises:
            LabError: one never gave it.
        """
        for thread in self._threads:
            thread.join(self._seconds + TIMEOUT + 5)
        missing = [endpoint for endpoint in self.last if endpoint not in self.at]
        if missing or not self.at:
            words = "; ".join(f"{endpoint.node.name}:{endpoint.port} answered {self.last[endpoint]}" for endpoint in missing)
            raise LabError(f"the answer for {self._host} was not the wanted one within {self._seconds:g} s: {words}")
        return self.at


class Count(t.NamedTuple):
    """What a steady load saw."""

    requests: int
    failed: int
    resent: int
    errors: tuple[str, ...]


class SteadyLoad:
    """Requests at a fixed rate to each endpoint, half of them on new connections and half on kept ones.

    A kept connection may be closed by a server at any time between two answers. A request that meets such an end without having got a byte of an
    answer is sent once more on a new connection, as HTTP clients do (RFC 9112, section 9.3.1), and counted as resent.
    """

    ERRORS_KEPT = 5

    def __init__(self, lab: Lab, endpoints: t.Sequence[Endpoint], host: str, rate: float, seconds: float, right: t.Callable[[Answer], bool]) -> None:
        """Args:
        rate: requests per second, to each endpoint, on each of the two kinds of connection.
        seconds: the longest time that it runs; with the rate, it bounds the number of requests.
        """
        lab.confirm(endpoints)
        self._host = host
        self._pause = 1 / rate
        self._most = int(rate * seconds)
        self._end = time.monotonic() + seconds
        self._right = right
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._requests = self._failed = self._resent = 0
        self._errors: list[str] = []
        self._threads = [threading.Thread(target=self._work, args=(endpoint, kept), daemon=True) for endpoint in endpoints for kept in (False, True)]

    def start(self) -> SteadyLoad:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> Count:
        """End, and say what was seen."""
        self._stop.set()
        for thread in self._threads:
            thread.join(3 * TIMEOUT)
        return Count(self._requests, self._failed, self._resent, tuple(self._errors))

    def _work(self, endpoint: Endpoint, kept: bool) -> None:
        connection = KeptConnection(endpoint, self._host) if kept else None
        due = time.monotonic()
        for _ in range(self._most):
            if self._stop.is_set() or time.monotonic() >= self._end:
                break
            answer = connection.ask() if connection else ask(endpoint, self._host)
            with self._lock:
                self._requests += 1
                if not self._right(answer):
                    self._failed += 1
                    if len(self._errors) < self.ERRORS_KEPT:
                        self._errors.append(f"{endpoint.node.name}:{endpoint.port}, {'kept' if kept else 'new'} connection: {answer}")
            due = max(due + self._pause, time.monotonic() - self._pause)
            self._stop.wait(max(0.0, due - time.monotonic()))
        if connection:
            with self._lock:
                self._resent += connection.resent
            connection.close()


class KeptConnection:
    """A client that keeps its connection."""

    def __init__(self, endpoint: Endpoint, host: str) -> None:
        self._endpoint = endpoint
        self._request = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("ascii")
        self._socket: socket.socket | None = None
        self.resent = 0

    def close(self) -> None:
        """Drop the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def ask(self) -> Answer:
        """One request."""
        used = self._socket is not None
        answer, anything = self._once()
        if answer.status == 0 and used and not anything:
            self.resent += 1
            answer, _ = self._once()
        return answer

    def _once(self) -> tuple[Answer, bool]:
        """One try: the answer, and whether a byte of it came."""
        data = b""
        try:
            if self._socket is None:
                self._socket = socket.create_connection((self._endpoint.node.address, self._endpoint.port), TIMEOUT)
            self._socket.sendall(self._request)
            while True:
                part = self._socket.recv(65536)
                if not part:
                    raise ConnectionError("the connection ended before the answer did")
                data += part
                head, separator, body = data.partition(b"\r\n\r\n")
                if separator:
                    length = re.search(rb"^content-length:\s*(\d+)\s*$", head, re.IGNORECASE | re.MULTILINE)
                    if length is None:
                        raise ConnectionError("an answer without a length")
                    if len(body) >= int(length[1]):
                        break
        except OSError as error:
            self.close()
            return Answer(0, f"{type(error).__name__}: {error}"), bool(data)
        if re.search(rb"^connection:\s*close\s*$", head, re.IGNORECASE | re.MULTILINE):
            self.close()
        return parse_answer(data), True


class WrkResult(t.NamedTuple):
    """What wrk measured. Latencies are in milliseconds."""

    rate: float
    p50: float
    p99: float
    bad_answers: int
    socket_errors: int


_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


def parse_wrk(text: str) -> WrkResult:
    """Read what ``wrk --latency`` prints.

    Raises:
        ValueError: it is not that.
    """

    def latency(share: str) -> float:
        match = re.search(rf"^\s*{share}%\s+([\d.]+)(us|ms|s|m)\s*$", text, re.MULTILINE)
        if match is None:
            raise ValueError(f"wrk printed no {share} % latency: {text[-500:]}")
        return float(match[1]) * _UNITS[match[2]]

    rate = re.search(r"^Requests/sec:\s+([\d.]+)", text, re.MULTILINE)
    if rate is None:
        raise ValueError(f"wrk printed no rate: {text[-500:]}")
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    return WrkResult(float(rate[1]), latency("50"), latency("99"), int(bad[1]) if bad else 0, sum(map(int, errors.groups())) if errors else 0)


def wrk(lab: Lab, caller: Node, endpoint: Endpoint, host: str, seconds: int, connections: int) -> WrkResult:
    """Run wrk, with one thread, on a node against an endpoint.

    Raises:
        LabError: it did not get right answers only, so its rate would mean nothing.
    """
    lab.confirm([endpoint, Endpoint(caller, 0)])
    command = f"wrk -t1 -c{connections} -d{seconds}s --latency -H 'Host: {host}' http://{endpoint.node.address}:{endpoint.port}/"
    result = parse_wrk(caller.run(command, timeout=seconds + 60))
    if result.bad_answers or result.rate == 0:
        raise LabError(f"wrk against {endpoint.node.name}:{endpoint.port} got {result.bad_answers} wrong answers at {result.rate:g} requests/s")
    return result


def wait_for_answer(lab: Lab, endpoints: t.Sequence[Endpoint], host: str, wanted: t.Callable[[Answer], bool], seconds: float = 60) -> None:
    """Wait, without a hurry, until every endpoint gives the wanted answer."""
    lab.confirm(endpoints)
    for endpoint in endpoints:
        wait_for(lambda at=endpoint: wanted(ask(at, host)), seconds, f"{endpoint.node.name}:{endpoint.port} answers for {host} as wanted")  # type: ignore[misc]
