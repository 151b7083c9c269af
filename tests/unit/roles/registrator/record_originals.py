#!/usr/bin/env python3
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Record what the original registrator and its best-kept fork register of the containers of ``originals_cases.py``.

    record_originals.py --consul BIN [--original NAME=BIN ...] [--output FILE]

It starts the containers on this machine's Docker, then, mode by mode, each original and the project's own engine, each
with a Consul agent of its own. The engine must register what its convention says of the containers' documents; this is
the comparison on real containers, and it also runs without an original. With ``--output``, the documents and what the
originals registered are written there, one container a line. All containers are removed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import typing as t
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILES = HERE.parents[3] / "roles" / "registrator" / "files"
sys.path[:0] = [str(HERE), str(FILES)]

from originals import ADDRESS, HOSTNAME, MODES, Record, Service, registered, settings_of
from originals_cases import CASES, IMAGES, PREFIX, Case
from registrator.facts import facts_of

_OWNER = re.compile(re.escape(PREFIX) + r"[a-z]\d\d")
# The originals register one container after the other, without a sign of their end.
QUIET_SECONDS = 4.0
LONGEST_SECONDS = 180.0


def shell(script: str, check: bool = True) -> str:
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=False)
    if check and done.returncode:
        sys.exit(f"{script}: {done.stderr}")
    return done.stdout.strip()


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _number in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class Agent:
    """A Consul server that keeps its services and checks in files."""

    def __init__(self, binary: str, directory: Path) -> None:
        self.data = directory / "data"
        http, lan, server = free_ports(3)
        self.address = f"127.0.0.1:{http}"
        ports = {"http": http, "dns": -1, "grpc": -1, "grpc_tls": -1, "serf_lan": lan, "serf_wan": -1, "server": server}
        config = {"server": True, "bootstrap_expect": 1, "bind_addr": "127.0.0.1", "data_dir": str(self.data)}
        config |= {"enable_script_checks": True, "disable_update_check": True, "log_level": "ERROR", "ports": ports}
        path = directory / "agent.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        self._process = subprocess.Popen([binary, "agent", "-config-file", str(path)], stdout=subprocess.DEVNULL)
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if self.ask("/v1/status/leader") and self.ask("/v1/catalog/nodes"):
                    return
            except OSError:
                pass
            time.sleep(0.1)
        sys.exit("the Consul agent does not start")

    def ask(self, path: str) -> t.Any:
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=20) as answer:
            return json.loads(answer.read())

    def quiet(self) -> None:
        """Wait until nothing has been registered for a while."""
        last, since, deadline = -1, 0.0, time.monotonic() + LONGEST_SECONDS
        while time.monotonic() < deadline:
            count = len(self.ask("/v1/agent/services"))
            if count != last:
                last, since = count, time.monotonic()
            elif count and time.monotonic() - since > QUIET_SECONDS:
                return
            time.sleep(0.2)
        sys.exit("the registrations do not come to an end")

    def services(self) -> dict[str, list[Service]]:
        """What is registered, by container."""
        checks: dict[str, list[dict[str, t.Any]]] = {}
        for path in sorted((self.data / "checks").glob("*")):
            kept_check = json.loads(path.read_text(encoding="utf-8"))
            definition = {**kept_check["ChkType"], "CheckID": kept_check["Check"]["CheckID"]}
            definition["Name"] = kept_check["Check"]["Name"]
            checks.setdefault(kept_check["Check"]["ServiceID"], []).append(definition)
        found: dict[str, list[Service]] = {}
        for key, value in self.ask("/v1/agent/services").items():
            owner = _OWNER.search(key)
            if owner:
                found.setdefault(owner.group(), []).append(Service.of_agent(value, checks.get(key, ())))
        return {owner: sorted(items, key=lambda item: item.id) for owner, items in found.items()}

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(20)


def run_original(binary: str, agent: Agent, mode: str) -> dict[str, list[Service]]:
    """Let an original register everything."""
    command = [binary, "-ip", ADDRESS, *MODES[mode].arguments, f"consul://{agent.address}"]
    environment = {**os.environ, "DOCKER_HOST": "unix:///var/run/docker.sock"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            agent.quiet()
            return agent.services()
        finally:
            process.kill()


def run_engine(agent: Agent, mode: str, directory: Path) -> dict[str, list[Service]]:
    """Let the project's engine compare once."""
    for name in ("state", "lib"):
        (directory / name).mkdir()
    settings = settings_of(mode)
    config = {"address": ADDRESS, "hostname": HOSTNAME, "consul_url": f"http://{agent.address}", "docker_pid_file": ""}
    config |= {"internal": settings.internal, "explicit": settings.explicit, "tags": list(settings.tags)}
    config |= {"allow_scripts": settings.allow_scripts, "metrics_port": 0}
    config |= {"state_directory": str(directory / "state"), "data_directory": str(directory / "lib")}
    path = directory / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    command = [sys.executable, "-m", "registrator", "--config", str(path), "--once"]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(FILES)}, stderr=subprocess.DEVNULL, check=False)
    return agent.services()


def start(case: Case) -> None:
    shell(f"docker run -d --name {case.name} {case.options} {case.image} {case.command}")
    for order in case.then:
        shell(f"docker {order} {case.name}")


def slim(document: dict[str, t.Any]) -> dict[str, t.Any]:
    """Keep what the convention reads."""
    network, state = document["NetworkSettings"], document["State"]
    keys = ("IPAddress", "GlobalIPv6Address")
    return {
        **{key: document[key] for key in ("Created", "Id", "Name")},
        "Config": {key: document["Config"].get(key) for key in ("Env", "ExposedPorts", "Image", "Labels")},
        "HostConfig": {"NetworkMode": document["HostConfig"]["NetworkMode"]},
        "NetworkSettings": {
            "IPAddress": network.get("IPAddress", ""),
            "Networks": {name: {key: entry[key] for key in keys} for name, entry in network["Networks"].items()},
            "Ports": network["Ports"],
        },
        "State": {
            **{key: state[key] for key in ("Running", "Paused", "Restarting", "Dead", "Pid", "StartedAt")},
            "Health": {"Status": (state.get("Health") or {}).get("Status", "")},
        },
    }


def documents() -> dict[str, dict[str, t.Any]]:
    text = shell(f"docker ps -aq --filter name=^/{PREFIX} | xargs docker inspect")
    return {document["Name"].lstrip("/"): slim(document) for document in json.loads(text)}


def compare_engine(mode: str, live: dict[str, list[Service]], known: dict[str, t.Any]) -> list[str]:
    """Return what the running engine registered otherwise than its convention says of the documents."""
    problems = []
    for case in CASES:
        shared = _OWNER.search(case.options) if "container:" in case.options else None
        owner = facts_of(known[shared.group()]) if shared else None
        expected = [service.as_data() for service in registered(known[case.name], mode, owner)]
        actual = [service.as_data() for service in live.get(case.name, ())]
        if expected != actual:
            problems.append(f"{case.name} [{mode}]\n  expected {json.dumps(expected)}\n  live     {json.dumps(actual)}")
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--consul", required=True)
    parser.add_argument("--original", action="append", default=[], metavar="NAME=BIN")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--keep", action="store_true", help="leave the containers")
    options = parser.parse_args()
    originals = dict(item.split("=", 1) for item in options.original)
    if socket.gethostname() != HOSTNAME and originals:
        sys.exit(f"the originals put the host's name into their ids: run `hostname {HOSTNAME}` on this test machine")
    results: dict[str, dict[str, dict[str, t.Any]]] = {case.name: {} for case in CASES}
    problems: list[str] = []
    try:
        shell(IMAGES)
        shell(f"docker network create {PREFIX}net; docker network create {PREFIX}two", check=False)
        for case in CASES:
            start(case)
        time.sleep(5)  # A health check of each kind has run.
        known = documents()
        for mode in MODES:
            for name in ["ours", *originals]:
                with tempfile.TemporaryDirectory() as place:
                    directory = Path(place)
                    agent = Agent(options.consul, directory)
                    try:
                        if name == "ours":
                            live = run_engine(agent, mode, directory)
                            problems += compare_engine(mode, live, known)
                            continue
                        found = run_original(originals[name], agent, mode)
                    finally:
                        agent.stop()
                for case in CASES:
                    services = found.get(case.name, ())
                    results[case.name].setdefault(name, {})[mode] = [service.as_data() for service in services]
            print(f"mode {mode}: done")
    finally:
        if not options.keep:
            shell(f"docker ps -aq --filter name=^/{PREFIX} | xargs -r docker rm -f", check=False)
            images = " ".join(sorted({case.image for case in CASES}))
            shell(f"docker network rm {PREFIX}net {PREFIX}two; docker rmi {images}", check=False)
    done = f"the engine registers {len(CASES)} containers in {len(MODES)} modes as its convention says"
    print("\n".join(problems) or done)
    if options.output and originals:
        lines = []
        for case in CASES:
            options_text = " ".join(shlex.split(case.options))
            record = {"name": case.name, "options": options_text, "image": case.image, "then": list(case.then)}
            record |= {"document": known[case.name], "originals": Record.slim(results[case.name])}
            lines.append(json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False))
        options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
