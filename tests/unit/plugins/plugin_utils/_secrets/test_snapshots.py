# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of snapshots on the control node: who can read them, which stay, and how an encrypted one is read back."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultSecret

from ansible_collections.trinode.platform.plugins.plugin_utils._secrets import snapshots as store
from ansible_collections.trinode.platform.plugins.plugin_utils._secrets.vault import Vault, loader_vault

PROGRAM = str(Path(__file__).resolve().parents[5] / "roles" / "consul_backup" / "files" / "consul_backup.py")
TOKEN = b"5eb0c1d2-0000-4000-8000-00000000cafe"


def vault(password: str = "") -> Vault:
    loader = DataLoader()
    if password:
        loader.set_vault_secrets([("default", VaultSecret(password.encode()))])
    return loader_vault(loader)


def name(hour: int, label: str = "") -> str:
    return f"consul-20260101T{hour:02d}0000Z-{hour}{f'-{label}' if label else ''}.snap"


def keep(directory: Path, hour: int, of: Vault, label: str = "", data: bytes = TOKEN, keep: int = 48) -> store.Kept:
    return store.keep_copy(str(directory), name(hour, label), data, hashlib.sha256(data).hexdigest(), of, keep)


def snapshot() -> bytes:
    """Return a snapshot as Consul packs it."""
    contents = {
        "meta.json": json.dumps({"Version": 1, "ID": "2-17-1", "Index": 17, "Term": 2, "Size": 5}).encode(),
        "state.bin": TOKEN,
    }
    listing = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in contents.items())
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as target:
        for member_name, data in {**contents, "SHA256SUMS": listing.encode()}.items():
            member = tarfile.TarInfo(member_name)
            member.size = len(data)
            target.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def test_with_a_vault_password_no_copy_holds_a_token_in_clear(tmp_path: Path) -> None:
    keep(tmp_path, 1, vault())
    assert TOKEN in (tmp_path / name(1)).read_bytes()
    (tmp_path / name(1)).chmod(0o644)
    kept = keep(tmp_path, 2, vault("of the vault"))
    assert kept.encrypted == [name(1)], "what was there before there was a password is encrypted, too"
    for path in tmp_path.glob("consul-*"):
        assert path.read_bytes().startswith(b"$ANSIBLE_VAULT;") and stat.S_IMODE(path.stat().st_mode) == 0o600
        assert store.read_snapshot(str(path), vault("of the vault")) == TOKEN
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
    assert keep(tmp_path, 3, vault("of the vault")).encrypted == [], "nothing is encrypted twice"


def test_without_the_password_or_with_another_one_the_reason_is_named(tmp_path: Path) -> None:
    path = keep(tmp_path, 1, vault("of the vault")).path
    for wrong in (vault(), vault("another")):
        with pytest.raises(store.SnapshotError, match=r"is encrypted and cannot be decrypted: .*give the vault password of that time"):
            store.read_snapshot(path, wrong)
    with pytest.raises(store.SnapshotError, match="No such file"):
        store.read_snapshot(str(tmp_path / "missing.snap"), vault())


def test_the_oldest_of_the_same_label_are_removed(tmp_path: Path) -> None:
    for hour in range(4):
        keep(tmp_path, hour, vault(), "before-upgrade")
        keep(tmp_path, hour, vault())
    (tmp_path / "notes.txt").write_text("of the operator", encoding="ascii")
    assert keep(tmp_path, 4, vault(), keep=2).removed == [name(0), name(1), name(2)]
    assert keep(tmp_path, 5, vault(), keep=0).removed == [name(3), name(4)], "the newest always stays"
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {name(5), *(name(hour, "before-upgrade") for hour in range(4)), "notes.txt", ".gitignore"}


def test_what_changed_on_its_way_is_refused_and_costs_no_copy(tmp_path: Path) -> None:
    keep(tmp_path, 1, vault())
    with pytest.raises(store.SnapshotError, match="changed on its way"):
        store.keep_copy(str(tmp_path), name(2), b"cut", hashlib.sha256(TOKEN).hexdigest(), vault(), 1)
    assert [path.name for path in tmp_path.glob("consul-*")] == [name(1)]


@pytest.mark.parametrize("wrong", ["../x.snap", "x.snap", "consul-1-2.snap/..", ""])
def test_a_name_leads_nowhere_else(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(store.SnapshotError, match="not the name of a snapshot"):
        store.keep_copy(str(tmp_path), wrong, TOKEN, hashlib.sha256(TOKEN).hexdigest(), vault(), 1)


def test_git_takes_no_copy_and_keeps_the_rest(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    subprocess.run(["git", "-C", str(tmp_path), "init", "--quiet"], check=True, env=environment)
    (tmp_path / "hosts.yml").write_text("all: {}\n", encoding="ascii")
    assert keep(tmp_path, 1, vault()).readable_in_git == []
    assert keep(tmp_path / "backups", 2, vault()).readable_in_git == []
    subprocess.run(["git", "-C", str(tmp_path), "add", "-A"], check=True, env=environment)
    done = subprocess.run(
        ["git", "-C", str(tmp_path), "diff", "--cached", "--name-only"],
        check=True,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == [".gitignore", "backups/.gitignore", "hosts.yml"]
    (tmp_path / ".gitignore").write_text("", encoding="ascii")
    assert keep(tmp_path, 3, vault()).readable_in_git == [name(1), name(3)], "a .gitignore of the operator stays, and is warned of"


def test_an_encrypted_snapshot_is_checked_without_a_copy_in_clear(tmp_path: Path) -> None:
    path = keep(tmp_path, 1, vault("of the vault"), data=snapshot()).path
    before = sorted(tmp_path.rglob("*"))
    data = store.read_snapshot(path, vault("of the vault"))
    assert json.loads(store.describe(path, data, PROGRAM))["index"] == 17
    assert sorted(tmp_path.rglob("*")) == before
    for damaged in (data[:-40], b"", b"a text", TOKEN):
        with pytest.raises(store.SnapshotError, match=f"^{path} is "):
            store.describe(path, damaged, PROGRAM)


def test_the_program_on_a_node_names_the_remedy_for_an_encrypted_file(tmp_path: Path) -> None:
    path = keep(tmp_path, 1, vault("of the vault"), data=snapshot()).path
    done = subprocess.run(["python3", "-IB", PROGRAM, "check", path], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "ansible-vault decrypt" in done.stderr
