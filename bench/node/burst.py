# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a node: many containers start, or are killed, at once. Prints JSON: for each container when it started or ended,
and when the catalogue followed, for the engine and for the floor. All are Unix times.

Arguments: the port of the agent; `start IMAGE` or `kill`; how many containers; how many Docker clients at a time; the label of all containers;
the first part of the containers' names, which are the names of their services; what the floor puts before these.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
import typing
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from urllib.parse import quote

DOCKER = "/var/run/docker.sock"
CONSUL = "127.0.0.1"
# Many times what it takes.
LONGEST_SECONDS = 120
STOPWATCH_NICE = -15


class DockerConnection(http.client.HTTPConnection):
    """HTTP over Docker's socket."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(DOCKER)


def parse_time(text: str) -> float:
    """Return one of Docker's times with nanoseconds as Unix time."""
    seconds, _dot, fraction = text.rstrip("Z").partition(".")
    moment = datetime.strptime(seconds, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    return moment.timestamp() + float(f"0.{fraction or 0}")


class Starts:
    """Docker's start events."""

    def __init__(self, label: str) -> None:
        self.at: dict[str, float] = {}
        filters = quote(json.dumps({"type": ["container"], "event": ["start"], "label": [label]}))
        docker = DockerConnection("localhost")
        docker.request("GET", f"/events?filters={filters}")
        self._stream = docker.getresponse()
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        for line in iter(self._stream.readline, b""):
            event = json.loads(line)
            self.at[event["Actor"]["Attributes"]["name"]] = event["timeNano"] / 1e9


class Catalogue:
    """When each service appeared in the catalogue, or left it, by blocking queries."""

    def __init__(self, port: int) -> None:
        self.appeared: dict[str, float] = {}
        self.left: dict[str, float] = {}
        self._known: set[str] = set()
        self._consul = http.client.HTTPConnection(CONSUL, port)
        index = self._ask("")
        self.appeared.clear()
        threading.Thread(target=self._follow, args=(index,), daemon=True).start()

    def _ask(self, index: str) -> str:
        self._consul.request("GET", f"/v1/catalog/services?wait=60s&index={index}")
        answer = self._consul.getresponse()
        text = answer.read()
        now = time.time()
        names = set(json.loads(text))
        self.appeared.update(dict.fromkeys(names - self._known, now))
        self.left.update(dict.fromkeys(self._known - names, now))
        self._known = names
        return answer.getheader("X-Consul-Index") or ""

    def _follow(self, index: str) -> None:
        while True:
            index = self._ask(index)


def run(*words: str) -> str:
    """Run the Docker client, as a user does."""
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout


class Load:
    """Docker clients in a separate process. This process is the stopwatch, which starting programs would delay."""

    def __init__(self, work: typing.Callable[[str], object], names: list[str], clients: int) -> None:
        self._may_begin, self._begin = os.pipe()
        self._process = os.fork()
        if self._process == 0:
            os.close(self._begin)
            # Without a byte, the stopwatch is gone.
            if not os.read(self._may_begin, 1):
                os._exit(1)
            try:
                with ThreadPoolExecutor(clients) as pool:
                    list(pool.map(work, names))
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)

    def run(self) -> float:
        """Let it begin, and return how many seconds it took."""
        begun = time.time()
        os.write(self._begin, b"1")
        _process, status = os.waitpid(self._process, 0)
        if status:
            sys.exit("a Docker client failed")
        return time.time() - begun


def wait_for(wanted: set[str], found: dict[str, float]) -> None:
    """Wait until all are there; what is missing then is missing in the answer."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while not wanted <= set(found) and time.monotonic() < deadline:
        time.sleep(0.05)


def main(port: str, order: str, image: str, count: str, clients: str, label: str, prefix: str, floor: str) -> None:
    """Run one burst."""
    names = [f"{prefix}{number:03d}" for number in range(int(count))]
    if order == "start":

        def work(name: str) -> str:
            return run("run", "-d", "-P", "--name", name, "--label", label, "--label", f"SERVICE_NAME={name}", image)

    else:

        def work(name: str) -> str:
            return run("kill", name)

    load = Load(work, names, int(clients))
    # What it measures includes no wait for a processor that the load has.
    os.nice(STOPWATCH_NICE)
    catalogue, starts = Catalogue(int(port)), Starts(label)
    seconds = load.run()
    seen = catalogue.appeared if order == "start" else catalogue.left
    wait_for({*names, *(floor + name for name in names)}, seen)
    if order == "start":
        began = dict(starts.at)
    else:
        lines = run("inspect", "--format", "{{.Name}} {{.State.FinishedAt}}", *names).splitlines()
        began = {name.lstrip("/"): parse_time(moment) for name, moment in map(str.split, lines)}
        run("rm", "-f", *names)
    engine = {name: seen[name] for name in names if name in seen}
    lowest = {name: seen[floor + name] for name in names if floor + name in seen}
    print(json.dumps({"began": began, "engine": engine, "floor": lowest, "seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
