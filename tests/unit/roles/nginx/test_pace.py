# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How soon one change follows another, and how a change is asked for."""

from __future__ import annotations

import fcntl
import os
import select
import subprocess
import typing as t
from pathlib import Path

import pytest
from nginx_edge.pace import Busy, Pace

PROGRAM = Path(__file__).resolve().parents[4] / "roles" / "nginx" / "files" / "nginx-edge-request"

# -- pace -------------------------------------------------------------------------------------------------------------------


def test_single_changes_never_wait() -> None:
    pace, now = Pace(), 1000.0
    for _ in range(100):
        now += 1
        assert pace.pause(now) == 0
        pace.spend(now)


def test_a_storm_of_changes_becomes_one_reload_a_second() -> None:
    pace, now, runs = Pace(), 1000.0, []
    while now < 1060:
        now += pace.pause(now)
        runs.append(now)
        pace.spend(now)
        now += 0.1  # what a run takes
    # The first ones come at once.
    assert runs[9] - runs[0] < 1
    gaps = [after - before for before, after in zip(runs[15:], runs[16:])]
    assert all(gap == pytest.approx(1) for gap in gaps)
    # After a quiet time, there is the whole allowance again.
    assert pace.pause(now + 20) == 0
    for _ in range(9):
        pace.spend(now + 20)
    assert pace.pause(now + 20) == 0
    pace.spend(now + 20)
    assert pace.pause(now + 20) == pytest.approx(1)


def test_a_storm_is_when_one_change_follows_closely_upon_another() -> None:
    pace = Pace()
    assert not pace.is_storm(1000)
    pace.spend(1000)
    assert pace.is_storm(1000.9)
    assert not pace.is_storm(1001.1)


# -- requests ---------------------------------------------------------------------------------------------------------------


def request(directory: Path, *options: str) -> list[str]:
    """Return the command that asks for an apply, with its pipe and its lock in a directory."""
    return ["sh", "-c", PROGRAM.read_text().replace("/run/nginx-edge/", f"{directory}/"), "nginx-edge-request", *options]


@pytest.fixture(name="asked")
def fixture_asked(tmp_path: Path) -> t.Iterator[int]:
    """The reading end of the pipe."""
    os.mkfifo(tmp_path / "apply.request")
    reader = os.open(tmp_path / "apply.request", os.O_RDWR | os.O_NONBLOCK)
    yield reader
    os.close(reader)


def comes(reader: int) -> bool:
    """Whether a request comes within some seconds."""
    return bool(select.select([reader], [], [], 20)[0]) and os.read(reader, 10) == b"\n"


def test_a_request_is_a_byte_in_the_pipe_and_waits_for_nobody(tmp_path: Path, asked: int) -> None:
    busy = Busy(str(tmp_path / "apply.busy"), -1)
    busy.hold()
    done = subprocess.run(request(tmp_path), capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert comes(asked)


def test_a_request_without_a_reader_waits_for_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "apply.request")
    for options in ([], ["--paced"]):
        done = subprocess.run(request(tmp_path, *options), capture_output=True, text=True, timeout=20, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_paced_request_ends_when_something_newer_can_be_taken(tmp_path: Path, asked: int) -> None:
    busy = Busy(str(tmp_path / "apply.busy"), -1)
    done = subprocess.run(request(tmp_path, "--paced"), capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, "") and comes(asked), "nothing is in the way"
    busy.hold()
    with subprocess.Popen(request(tmp_path, "--paced"), stderr=subprocess.PIPE, text=True) as waiting:
        assert comes(asked), "the request itself waits for nothing"
        assert waiting.poll() is None
        busy.rest(0)
        assert waiting.wait(20) == 0
        assert waiting.stderr is not None and waiting.stderr.read() == ""


def test_a_lock_that_is_never_let_go_holds_a_request_up_for_some_seconds_only(tmp_path: Path, asked: int) -> None:
    busy = Busy(str(tmp_path / "apply.busy"), -1)
    busy.hold()
    done = subprocess.run(request(tmp_path, "--paced"), capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "") and comes(asked)


def locked(path: Path) -> bool:
    """Whether somebody holds a lock."""
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_the_newest_state_is_rendered_in_time_for_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, slept = tmp_path / "apply.busy", []
    busy = Busy(str(path), -1)
    assert not locked(path) and path.stat().st_mode & 0o777 == 0o640
    monkeypatch.setattr("nginx_edge.pace.time.sleep", lambda seconds: slept.append((round(seconds, 3), locked(path))))
    busy.rest(1.0)
    assert slept == [(0.75, True), (0.02, False), (0.23, True)] and locked(path), "one rendering, and no more until that has been read"
    busy.rest(0.2)
    assert slept[3:] == [(0.2, False)] and not locked(path), "the storm is over"


def test_without_its_lock_the_pace_is_kept_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("nginx_edge.pace.time.sleep", slept.append)
    missing = Busy(str(tmp_path / "missing" / "apply.busy"), -1)
    missing.hold()
    missing.rest(1.0)
    # Somebody who may ask keeps the lock for good.
    held = Busy(str(tmp_path / "apply.busy"), -1)
    with (tmp_path / "apply.busy").open() as holder:
        fcntl.flock(holder, fcntl.LOCK_SH)
        held.hold()
        held.rest(1.0)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    Busy(str(tmp_path / "link"), -1).rest(1.0)
    assert sum(slept) == pytest.approx(3.0) and not (tmp_path / "elsewhere").exists()


def test_a_request_without_a_pipe_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    pipe = tmp_path / "apply.request"
    done = subprocess.run(request(tmp_path, "--paced"), capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0
    assert "apply.request is not there: see systemctl status nginx-edge-apply.socket" in done.stderr
    assert not pipe.exists()
