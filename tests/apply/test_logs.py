# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A flood of requests, with the role's rotation by a real logrotate: the logs keep their bound, and each refusal counts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from apply_rig import Edge

ROLE = Path(__file__).resolve().parents[2] / "roles" / "nginx"
LOGROTATE = shutil.which("logrotate", path="/usr/sbin:/usr/bin")
MEGABYTE = 1 << 20
SIZE, KEPT = 1, 3
# Of about 1 kB each, so that every flood has more than a megabyte.
FLOODS, REQUESTS, LINE = 10, 1200, 1100
FIELDS = '{"time":"$time_iso8601","client":"$remote_addr","limited":"$edge_limited_by","uri":"$request_uri"}'


def rotation(log: Path, pid_file: Path) -> str:
    """Return the configuration of logrotate that the role writes, for one log and an nginx without systemd."""
    variables: dict[str, Any] = {"ansible_managed": "managed"}
    for name in ("defaults", "vars"):
        variables.update(DataLoader().load_from_file(str(ROLE / name / "main.yml"), trusted_as_template=True))
    variables.update(nginx_log_max_size_mb=SIZE, nginx_log_rotations=KEPT, __nginx_logs=[str(log)])
    variables["__nginx_reopen"] = f"kill -USR1 $(cat {pid_file})"
    templar = Templar(loader=DataLoader(), variables=variables)
    return str(templar.template(trust_as_template((ROLE / "templates" / "logrotate.conf.j2").read_text())))


class Rotated:
    """A log, and the ones that were rotated away."""

    def __init__(self, edge: Edge, log: Path) -> None:
        assert LOGROTATE, "this test needs logrotate: apt-get install logrotate"
        self.log, self.state = log, edge.root / "logrotate.state"
        self.config = edge.root / "logrotate.conf"
        self.config.write_text(rotation(log, edge.pid_file))
        # logrotate takes no file that others than its user can write.
        self.config.chmod(0o644)

    def rotate(self) -> None:
        """Do what the timer does."""
        command = [str(LOGROTATE), "--state", str(self.state), str(self.config)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0 and not done.stderr, done.stderr

    def files(self) -> dict[str, int]:
        """Sizes by name."""
        return {path.name: path.stat().st_size for path in self.log.parent.glob(f"{self.log.name}*")}


@pytest.fixture(name="rotated")
def fixture_rotated(edge: Edge, log: Path) -> Iterator[Rotated]:
    """The log of the edge, under the role's rotation."""
    made = Rotated(edge, log)
    yield made
    for name in made.files():
        (log.parent / name).unlink()


def limited(edge: Edge, log: Path) -> str:
    """Return a staged file whose only service takes a request a second of each client."""
    return (
        'map $limit_req_status $edge_limited_by { default ""; REJECTED rate_limit; }\n'
        f"log_format edge_http escape=json '{FIELDS}';\n"
        "map $remote_addr $edge_rated { default $remote_addr; }\n"
        "limit_req_zone $edge_rated zone=edge_rate:1m rate=1r/s;\n"
        "upstream http_one { server 127.0.0.1:9; }\n"
        f"server {{\n    listen 127.0.0.1:{edge.http_port};\n    server_name one.test;\n"
        f"    access_log {log} edge_http buffer=32k flush=1s;\n"
        "    limit_req zone=edge_rate;\n    limit_req_status 429;\n"
        "    location / { proxy_pass http://http_one; }\n}\n"
    )


def flood(edge: Edge, count: int) -> int:
    """Send so many long requests on kept connections; return how many were refused."""
    request = f"GET /{'u' * 900} HTTP/1.1\r\nHost: one.test\r\n\r\n".encode()
    refused = 0
    while count > 0:
        # nginx ends a kept connection after 1000 requests.
        batch = min(count, 500)
        with socket.create_connection(("127.0.0.1", edge.http_port), 10) as client, client.makefile("rb") as answers:
            for _ in range(batch):
                client.sendall(request)
                status = answers.readline().split()[1]
                length = 0
                while (header := answers.readline()) != b"\r\n":
                    if header.lower().startswith(b"content-length:"):
                        length = int(header.split(b":")[1])
                answers.read(length)
                refused += status == b"429"
        count -= batch
    return refused


class Count:
    """What the program has counted of the refusals in the log."""

    def __init__(self, edge: Edge, log: Path) -> None:
        self.edge, self.path, self.log = edge, edge.state / "limited.json", log
        self.is_followed()

    def document(self) -> dict[str, Any]:
        """What it keeps."""
        found: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {"places": {}}
        return found

    def is_followed(self) -> None:
        """Wait until the program reads the present log."""
        inode = self.log.stat().st_ino
        place = str(self.log)
        self.edge.wait_until(lambda: inode in self.document()["places"].get(place, ()), "the log is followed", 20)

    def is_at(self, refused: int) -> None:
        """Wait for a number of refusals."""
        self.edge.wait_until(lambda: self.document()["hits"]["rate_limit"][0] == refused, f"{refused} are counted", 20)


@pytest.fixture(name="count")
def fixture_count(edge: Edge, log: Path, service: Callable[[], None]) -> Count:
    """The program, which follows the log of a service that takes a request a second."""
    edge.configure(watch=0.1)
    edge.stage(limited(edge, log))
    service()
    edge.wait_until(log.exists, "nginx has the log", 20)
    return Count(edge, log)


def rotate_amid_flood(edge: Edge, rotated: Rotated) -> int:
    """Rotate the log while requests come in, as soon as there is enough. Returns how many were refused."""
    before, refused = rotated.log.stat().st_ino, []
    flooding = threading.Thread(target=lambda: refused.append(flood(edge, REQUESTS)))
    flooding.start()
    edge.wait_until(lambda: rotated.rotate() or rotated.log.stat().st_ino != before, "the log is rotated", 30)
    flooding.join()
    return int(refused[0])


def test_a_flood_ends_below_the_bound_and_is_counted(edge: Edge, rotated: Rotated, count: Count) -> None:
    refused = 0
    for _ in range(FLOODS):
        refused += rotate_amid_flood(edge, rotated)
        count.is_at(refused)
        # The timer leaves more time between two rotations than the program between two looks.
        count.is_followed()
    assert refused > FLOODS * REQUESTS * 0.9
    files, name = rotated.files(), rotated.log.name
    assert set(files) == {name, *(f"{name}.{number}{'.gz' if number > 1 else ''}" for number in range(1, KEPT + 1))}
    # What comes between two looks at the size is on top: two floods, when a look takes as long as one.
    assert max(files.values()) < SIZE * MEGABYTE + 2 * REQUESTS * LINE, files
    assert sum(files.values()) < FLOODS * REQUESTS * LINE / 2, files


def test_what_is_logged_before_nginx_opens_the_new_log_counts(
    edge: Edge,
    log: Path,
    rotated: Rotated,
    count: Count,
) -> None:
    """After a rotation that is slow to tell nginx, and a count in between."""
    refused = flood(edge, 20)
    count.is_at(refused)
    log.rename(f"{log}.1")
    log.touch()
    count.is_followed()
    refused += flood(edge, 20)
    count.is_at(refused)
    os.kill(edge.master(), signal.SIGUSR1)
    more: list[int] = []
    edge.wait_until(lambda: more.append(flood(edge, 1)) or log.stat().st_size > 0, "nginx writes to the new log", 20)
    count.is_at(refused + sum(more))
    assert rotated.files().keys() == {log.name, f"{log.name}.1"}


def test_a_small_log_is_left_alone(edge: Edge, log: Path, rotated: Rotated) -> None:
    edge.stage(limited(edge, log))
    assert edge.apply("--strict")["outcome"] == "applied"
    flood(edge, 100)
    edge.wait_until(lambda: log.stat().st_size > 0, "the log has lines")
    rotated.rotate()
    assert set(rotated.files()) == {log.name}


def test_no_log_yet_is_no_fault(rotated: Rotated) -> None:
    rotated.rotate()
    assert not rotated.files()
