# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets on the control node: made once, for nobody else, encrypted where a vault password is."""

from __future__ import annotations

import os
import stat
import uuid
from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultSecret

from ansible_collections.trinode.platform.plugins.plugin_utils._secrets.store import SecretError, Store, loader_store


def plain(path: str) -> tuple[str, bool]:
    return Path(path).read_text(encoding="utf-8"), False


def mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "secrets"), plain)
    assert store.get("token") is None
    value = store.ensure("token", "uuid")
    assert str(uuid.UUID(value)) == value
    assert store.ensure("token", "uuid") == value
    assert mode(store.path("token")) == 0o600
    assert mode(store.directory) == 0o700
    assert len(store.ensure("gossip", "key")) == 44


def test_ansible_reads_no_host_out_of_a_secret(tmp_path: Path) -> None:
    store = Store(str(tmp_path), plain)
    store.put("token", "x")
    assert {path.name for path in tmp_path.iterdir()} == {"token.txt", "inventory.yml", ".gitignore"}


def test_the_first_of_two_wins(tmp_path: Path) -> None:
    one, other = Store(str(tmp_path), plain), Store(str(tmp_path), plain)
    # Both saw nothing; the second one comes late.
    assert one._write(one.path("token"), "first", exclusively=True)
    assert not other._write(other.path("token"), "second", exclusively=True)
    assert other.ensure("token", "uuid") == "first"
    assert [path.name for path in tmp_path.glob(".new-*")] == []


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    store = Store(str(tmp_path), plain)
    store.put("token", "x")
    former, present = tmp_path / ".new-former", tmp_path / ".new-present"
    for path in (former, present):
        path.write_text("a secret\n", encoding="utf-8")
    os.utime(former, (0, 0))
    assert store.get("token") == "x"
    assert not former.exists()
    assert present.exists(), "another run is writing it now"


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "secrets"), plain, dry=True)
    assert store.ensure("token", "uuid")
    assert store.put("other", "x")
    assert not store.remove("other")
    assert not (tmp_path / "secrets").exists()


def test_keep_and_forget(tmp_path: Path) -> None:
    store = Store(str(tmp_path), plain)
    assert store.put("a", "x\n")
    assert not store.put("a", "x")
    assert store.put("a", "y")
    assert store.get("a") == "y"
    assert store.remove("a")
    assert not store.remove("a")


def test_a_file_that_others_can_read_is_put_right(tmp_path: Path) -> None:
    store = Store(str(tmp_path), plain)
    path = Path(store.path("a"))
    path.write_text("x\n", encoding="utf-8")
    path.chmod(0o644)
    assert store.get("a") == "x"
    assert mode(str(path)) == 0o600


@pytest.mark.parametrize("name", ["../x", "", "A", "a/b", "a..b", ".a"])
def test_a_name_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    with pytest.raises(SecretError, match="no name of a secret"):
        Store(str(tmp_path), plain).get(name)


def test_errors_name_the_file_and_the_remedy(tmp_path: Path) -> None:
    store = Store(str(tmp_path), plain)
    Path(store.path("a")).write_text("\n", encoding="utf-8")
    with pytest.raises(SecretError, match=r"a\.txt is empty; bring its content back"):
        store.get("a")
    with pytest.raises(SecretError, match="no absolute path"):
        Store("secrets", plain)


def test_with_a_vault_password_the_file_is_encrypted(tmp_path: Path) -> None:
    without = loader_store(DataLoader(), str(tmp_path), dry=False)
    without.put("a", "in the open")
    loader = DataLoader()
    loader.set_vault_secrets([("default", VaultSecret(b"of the vault"))])
    store = loader_store(loader, str(tmp_path), dry=False)
    value = store.ensure("b", "uuid")
    assert Path(store.path("b")).read_text(encoding="utf-8").startswith("$ANSIBLE_VAULT;")
    assert store.get("b") == value
    # What was there before there was a password is encrypted when it is read.
    assert store.get("a") == "in the open"
    assert Path(store.path("a")).read_text(encoding="utf-8").startswith("$ANSIBLE_VAULT;")
    assert mode(store.path("a")) == 0o600
    with pytest.raises(SecretError, match="vault password"):
        without.get("a")


def test_the_first_secret_is_not_made_by_the_way(tmp_path: Path) -> None:
    """A machine without the secrets of a running cluster must not make new ones for it."""
    store = Store(str(tmp_path / "secrets"), plain)
    with pytest.raises(SecretError, match="has no secrets of this site, so none was made; bring the directory"):
        store.ensure("consul_token_registrator", "uuid", begin=False)
    assert not (tmp_path / "secrets").exists()
    store.ensure("consul_token_management", "uuid")
    assert store.ensure("consul_token_registrator", "uuid", begin=False)
    # In check mode nothing is kept, so nothing is given to anybody.
    assert Store(str(tmp_path / "other"), plain, dry=True).ensure("consul_token_dns", "uuid", begin=False)
