# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which snapshots stay, which files are none, and what never happens to an old one."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import time
import typing as t
from pathlib import Path

import consul_backup
import pytest

META = {"Version": 1, "ID": "2-17-1", "Index": 17, "Term": 2, "Size": 5}


def archive(path: Path, state: bytes = b"state", sums: str | None = None, meta: dict[str, t.Any] | None = None, names: tuple[str, ...] = ()) -> Path:
    """A snapshot as Consul packs it."""
    contents = {"meta.json": json.dumps(META if meta is None else meta).encode(), "state.bin": state}
    contents = {name: data for name, data in contents.items() if name not in names}
    listing = sums if sums is not None else "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in contents.items())
    with tarfile.open(path, "w:gz") as target:
        for name, data in {**contents, "SHA256SUMS": listing.encode()}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            target.addfile(member, io.BytesIO(data))
    return path


def name(hour: int, label: str = "") -> str:
    return f"consul-20260101T{hour:02d}0000Z-{hour}{f'-{label}' if label else ''}.snap"


def test_a_whole_snapshot_is_described(tmp_path: Path) -> None:
    assert consul_backup.check(str(archive(tmp_path / "a.snap"))) == {"id": "2-17-1", "index": 17, "term": 2, "version": 1, "size": 5}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: archive(path, sums="0" * 64 + "  state.bin\n"), "not what its checksums say"),
        (lambda path: archive(path, sums=""), "not what its checksums say"),
        (lambda path: archive(path, sums="nonsense\n"), "is no snapshot of Consul"),
        (lambda path: archive(path, names=("state.bin",)), "not what its checksums say"),
        (lambda path: archive(path, meta={"Version": 1}), "not what its checksums say"),
        (lambda path: path.write_bytes(archive(path).read_bytes()[:-60]), "is no snapshot of Consul"),
        (lambda path: path.write_text("a text"), "is no snapshot of Consul"),
        (lambda path: path.write_bytes(b""), "is no snapshot of Consul"),
        (lambda _path: None, "there is no file"),
    ],
)
def test_a_file_that_is_none_is_named_with_the_reason(tmp_path: Path, make: t.Callable[[Path], t.Any], words: str) -> None:
    path = tmp_path / "a.snap"
    make(path)
    with pytest.raises(consul_backup.BackupError, match=words) as error:
        consul_backup.check(str(path))
    assert str(path) in str(error.value)


def test_the_newest_of_each_label_stay() -> None:
    names = [name(hour) for hour in range(6)] + [name(hour, "before-upgrade") for hour in range(3)] + ["notes.txt", "consul-x.snap"]
    assert consul_backup.outlived(names, 4) == [name(0), name(1)]
    assert consul_backup.outlived(names, 2) == sorted([name(0), name(1), name(2), name(3), name(0, "before-upgrade")])
    assert name(5) not in consul_backup.outlived(names, 0), "the newest always stays"


def test_only_an_entry_that_keeps_a_living_member_out_is_stale() -> None:
    catalogue = [
        {"Node": "replaced", "ID": "old"},
        {"Node": "same", "ID": "same"},
        {"Node": "dead", "ID": "old"},
        {"Node": "external", "ID": ""},
        {"Node": "gone", "ID": "old"},
    ]
    members = [
        {"Name": "replaced", "Status": 1, "Tags": {"id": "new"}},
        {"Name": "same", "Status": 1, "Tags": {"id": "same"}},
        {"Name": "dead", "Status": 4, "Tags": {"id": "new"}},
        {"Name": "external", "Status": 1, "Tags": {"id": "new"}},
    ]
    assert consul_backup.stale_nodes(catalogue, members) == ["replaced"]


def program(tmp_path: Path, script: str) -> consul_backup.Config:
    """A configuration with a program in the place of Consul's."""
    binary = tmp_path / "consul"
    binary.write_text(f"#!/bin/sh\n{script}\n")
    binary.chmod(0o755)
    return consul_backup.Config(str(tmp_path / "backups"), keep=1, consul=str(binary))


@pytest.mark.parametrize("script", ["echo no leader >&2; exit 1", 'echo rubbish > "$3"'])
def test_a_failure_costs_no_older_snapshot_and_leaves_nothing(tmp_path: Path, script: str) -> None:
    config = program(tmp_path, script)
    place = tmp_path / "backups"
    place.mkdir()
    older = [archive(place / name(hour)).name for hour in range(3)]
    (place / ".taking-lost").write_text("of a run that was killed")
    with pytest.raises(consul_backup.BackupError):
        consul_backup.take(config)
    assert sorted(path.name for path in place.iterdir()) == [".lock", *older]


def test_a_snapshot_is_kept_closed_and_the_eldest_go(tmp_path: Path) -> None:
    config = program(tmp_path, f'[ "$2" = inspect ] || cp {archive(tmp_path / "source.snap")} "$3"')
    place = tmp_path / "backups"
    place.mkdir()
    for hour in range(3):
        archive(place / name(hour))
    taken = consul_backup.take(config, "by-hand")
    assert taken["removed"] == [name(0), name(1)]
    assert taken["file"].endswith("-17-by-hand.snap")
    assert Path(taken["file"]).stat().st_mode & 0o777 == 0o600
    with pytest.raises(consul_backup.BackupError, match="label"):
        consul_backup.take(config, "../x")


def test_the_token_goes_by_its_file(tmp_path: Path) -> None:
    config = program(tmp_path, 'echo "$CONSUL_HTTP_TOKEN_FILE $*"')
    token = tmp_path / "token"
    consul = consul_backup.Consul(config._replace(token_file=str(token)))
    assert consul.run("snapshot").strip() == "snapshot", "no file, no token"
    token.write_text("5ec4e7\n")
    assert consul.run("snapshot").strip() == f"{token} snapshot"
    assert consul.token() == "5ec4e7"


def test_status_tells_age_and_damage(tmp_path: Path) -> None:
    config = consul_backup.Config(str(tmp_path))
    assert "there is no snapshot" in consul_backup.status(config)["problem"]
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    archive(tmp_path / name(1))
    assert "hours old" in consul_backup.status(config)["problem"]
    newest = archive(tmp_path / f"consul-{now}-5.snap")
    assert consul_backup.status(config)["problem"] == ""
    newest.write_bytes(b"")
    assert "no snapshot of Consul" in consul_backup.status(config)["problem"]


def test_errors_are_sentences_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert consul_backup.main(["--config", str(tmp_path / "none.json"), "status"]) == 1
    assert "run the playbook backup.yml" in capsys.readouterr().err
    assert consul_backup.main(["check", str(archive(tmp_path / "a.snap"))]) == 0
    assert json.loads(capsys.readouterr().out)["index"] == 17
