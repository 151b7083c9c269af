# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role's own files against each other, the log's form, and the installer."""

from __future__ import annotations

import grp
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from registrator import control, metrics, state
from registrator.cli import draining_text, main, status_of
from registrator.config import Config
from registrator.consulapi import ConsulClient, ConsulRefused
from registrator.drain import Drains
from registrator.facts import facts_of
from registrator.journal import line
from registrator.model import Registration
from registrator.reconciler import Reconciler

ROLE = Path(__file__).resolve().parents[4] / "roles" / "registrator"
VARS = yaml.safe_load((ROLE / "vars" / "main.yml").read_text(encoding="utf-8"))


def test_every_module_is_installed(role_variable: Callable[..., Any]) -> None:
    source = {path.name: path.read_text(encoding="utf-8") for path in (ROLE / "files" / "registrator").glob("*.py")}
    paths = [f"/usr/local/lib/registrator/registrator/{name}" for name in sorted(source)]
    program = {one["path"]: one["content"] for one in role_variable("registrator", "__registrator_program")}
    assert list(program) == [*paths, "/usr/local/bin/registrator"]
    assert list(program.values())[:-1] == [source[name] for name in sorted(source)]
    assert set(paths) < set(role_variable("registrator", "__registrator_files"))


def test_every_setting_of_the_engine_is_written_by_the_role() -> None:
    assert set(VARS["__registrator_config"]) == set(Config.__dataclass_fields__) - {"state_directory", "data_directory"}


def test_log_lines_cannot_be_forged() -> None:
    text = line("warning", "refused", name='a"b\nevent=registered', key="x")
    assert text == '<4>event=refused name="a\\"b\\x0aevent=registered" key=x'


def test_metrics_text() -> None:
    numbers = metrics.Metrics()
    numbers.add("events_total", 3)
    assert "\nregistrator_events_total 3\n" in numbers.text()
    assert "# TYPE registrator_events_total counter" in numbers.text()


def test_status() -> None:
    good = {"pid": os.getpid(), "synced": True, "down": {}, "last_sync": 1000.0}
    assert status_of(good, 30, 1010.0) == ""
    assert "seconds ago" in status_of(good, 30, 2000.0)
    assert "Docker does not answer: why" in status_of({**good, "down": {"docker": "why"}}, 30, 1010.0)
    assert "not finished" in status_of({**good, "synced": False}, 30, 1010.0)
    assert "docker inspect x" in status_of({**good, "containers": 0, "unanswered": ["x"]}, 30, 1010.0)
    assert status_of({**good, "containers": 1, "unanswered": ["x"]}, 30, 1010.0) == "", "the others are registered"
    assert "does not run" in status_of({}, 30, 1010.0)
    assert "does not run" in status_of({**good, "pid": 2**22 + 1}, 30, 1010.0)


def test_state_survives_and_rubbish_does_not(tmp_path: Path) -> None:
    state.write(str(tmp_path), "x.json", {"a": 1})
    assert state.read(str(tmp_path), "x.json") == {"a": 1}
    (tmp_path / "x.json").write_text("[1", encoding="utf-8")
    assert state.read(str(tmp_path), "x.json") == {}
    assert state.read(str(tmp_path), "absent.json") == {}


def test_only_one_keeps_the_catalogue(tmp_path: Path) -> None:
    script = "import sys; from registrator import state; state.lock(sys.argv[1]); print('locked', flush=True); input()"
    environment = {**os.environ, "PYTHONPATH": str(ROLE / "files"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as other:
        assert other.stdout
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(state.AlreadyRuns):
            state.lock(str(tmp_path))
        other.communicate("\n", timeout=20)
    os.close(state.lock(str(tmp_path)))
    with pytest.raises(FileNotFoundError):
        state.lock(str(tmp_path / "absent"))


@pytest.fixture(name="orders")
def fixture_orders(tmp_path: Path) -> Iterator[queue.SimpleQueue[control.Request]]:
    """What arrives at a listening engine's queue."""
    arrived: queue.SimpleQueue[control.Request] = queue.SimpleQueue()
    (tmp_path / "docker.sock").touch()
    server = control.listen(str(tmp_path), str(tmp_path / "docker.sock"), arrived.put)
    yield arrived
    server.close()


def test_an_order_and_its_answer(tmp_path: Path, orders: queue.SimpleQueue[control.Request]) -> None:
    def obey() -> None:
        request = orders.get(timeout=20)
        request.answer(request.container == "web", f"{request.order} of {request.container}")

    for container, done in (("web", True), ("db", False)):
        engine = threading.Thread(target=obey)
        engine.start()
        assert control.ask(str(tmp_path), "drain", container) == (done, f"drain of {container}")
        engine.join(20)


@pytest.mark.parametrize("line", [b"rubbish\n", b"[]\n", b'{"order": "stop"}\n', b'{"order": "drain", "container": 7}\n', b"x" * 9000 + b"\n", b"no end"])
def test_rubbish_is_no_order(tmp_path: Path, orders: queue.SimpleQueue[control.Request], line: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(tmp_path / control.SOCKET))
        client.sendall(line)
        client.shutdown(socket.SHUT_WR)
        try:
            assert b"does not know" in client.recv(4096)
        except ConnectionResetError:
            assert len(line) > 4096, "only a flood is cut off"
    assert orders.empty()


def test_only_who_may_stop_a_container_may_drain_it(tmp_path: Path) -> None:
    docker = tmp_path / "docker.sock"
    docker.touch()
    os.chown(docker, -1, grp.getgrnam("daemon").gr_gid)
    server = control.listen(str(tmp_path), str(docker), lambda _request: None)
    found = (tmp_path / control.SOCKET).stat()
    assert (found.st_mode & 0o777, found.st_gid) == (0o660, grp.getgrnam("daemon").gr_gid)
    server.close()
    # Where nobody knows the group, root alone.
    server = control.listen(str(tmp_path), str(tmp_path / "absent"), lambda _request: None)
    assert (tmp_path / control.SOCKET).stat().st_mode & 0o777 == 0o600
    server.close()


def test_an_engine_that_does_not_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(control.ControlError, match="does not run"):
        control.ask(str(tmp_path), "adopt")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / control.SOCKET))
    with pytest.raises(control.ControlError, match="does not run"):
        control.ask(str(tmp_path), "adopt")


def test_a_new_token_is_an_old_registration(tmp_path: Path) -> None:
    """The agent keeps each service with the token that it was written with, so what is kept with another one is written again."""
    token = tmp_path / "token"
    token.write_text("one\n", encoding="utf-8")
    config = Config(address="192.0.2.10", hostname="node1", consul_token_file=str(token), state_directory=str(tmp_path), data_directory=str(tmp_path))
    catalogue = Reconciler(config).catalogue
    item = Registration("node1:a:80", "web", "192.0.2.10", 80, (), {}, 1, 1, (), container="c" * 64)
    desired = {item.id: item}
    assert catalogue.outdated(desired) == {item.id}, "nobody knows with which token it is kept"
    catalogue.credentials[item.id] = catalogue.consul.credential("web")
    assert catalogue.outdated(desired) == set()
    token.write_text("two\n", encoding="utf-8")
    assert catalogue.outdated(desired) == {item.id}
    without = Reconciler(replace(config, consul_token_file="")).catalogue
    assert without.outdated(desired) == set(), "without tokens there is nothing to compare"


def test_a_token_file_for_each_service(tmp_path: Path) -> None:
    default, directory = tmp_path / "consul.token", tmp_path / "tokens"
    directory.mkdir()
    (directory / "web").write_text("for-web\n", encoding="utf-8")
    default.write_text("for-all", encoding="utf-8")
    client = ConsulClient("http://127.0.0.1:1", str(default), token_directory=str(directory))
    for name, token in (("web", "for-web"), ("db", "for-all"), ("", "for-all"), ("../consul.token", "for-all"), (".", "for-all")):
        assert client.headers(name) == {"X-Consul-Token": token}, name
    (directory / "web").write_text("newer", encoding="utf-8")
    assert client.headers("web") == {"X-Consul-Token": "newer"}, "a new token needs no restart"
    assert client.credential("web") != client.credential("db")
    assert "newer" not in client.credential("web")
    assert ConsulClient("http://127.0.0.1:1", token_directory=str(directory)).headers("db") == {}
    default.unlink()
    with pytest.raises(ConsulRefused, match="does not exist"):
        client.headers("db")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "a command is missing"),
        (["--dry-run"], "--dry-run needs --once"),
        (["run", "--dry-run"], "--dry-run needs --once"),
        (["--once", "drain", "x"], "--once does not go with drain"),
        (["drain"], "container"),
    ],
)
def test_a_command_line_that_makes_no_sense(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_explain_says_who_drained_it(document: Any) -> None:
    sharer, owner = facts_of(document("network_sharer")), facts_of(document("network_owner"))
    drains = Drains()
    assert draining_text(sharer, owner, drains, 0.0) == ""
    drains.on_signal(owner, 15, 0, 0.0)
    assert draining_text(sharer, owner, drains, 1.0) == "the container whose network it shares was told to stop and is draining"
    drains.hold(sharer, 1795426691.0)
    assert draining_text(sharer, owner, drains, 1.0) == (
        "it is drained by hand since 2026-11-23 09:38:11 UTC; `registrator undrain network_sharer` brings it back"
    )


def test_process_token() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        token = state.process_token(process.pid)
        assert token.isdecimal()
        assert token == state.process_token(process.pid)
        process.communicate(b"\n")
    assert state.process_token(process.pid) != token
    assert state.process_token(0) == ""
