# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a real git takes of the secrets and snapshots in a site's repository."""

from __future__ import annotations

import os
import subprocess
import typing as t
from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultSecret, is_encrypted

from ansible_collections.trinode.platform.plugins.plugin_utils._secrets.git_guard import GUARD, key_warning, keys_in_git, readable_in_git
from ansible_collections.trinode.platform.plugins.plugin_utils._secrets.site_secrets import git_warning
from ansible_collections.trinode.platform.plugins.plugin_utils._secrets.store import Store, loader_store

Git = t.Callable[..., list[str]]


@pytest.fixture(name="git")
def fixture_git(tmp_path: Path) -> Git:
    """Return git in a site's own repository; the configuration of this machine's user does not count."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}

    def git(*arguments: str) -> list[str]:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=ops", "-c", "user.email=ops@site.example", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()

    git("init", "--quiet")
    (tmp_path / "hosts.yml").write_text("all: {}\n", encoding="ascii")
    return git


def plain(path: str) -> tuple[str, bool]:
    return Path(path).read_text(encoding="utf-8"), False


def staged(git: Git) -> list[str]:
    git("add", "-A")
    return git("diff", "--cached", "--name-only")


@pytest.mark.parametrize("place", ["secrets", "kept/elsewhere", "inventories/hospital/secrets"])
def test_git_takes_nothing_of_the_secrets(tmp_path: Path, git: Git, place: str) -> None:
    store = Store(str(tmp_path / place), plain)
    store.ensure("consul_token_management", "uuid")
    store.put("consul_ca_key", "a key")
    assert staged(git) == ["hosts.yml"]
    assert readable_in_git(store.directory, is_encrypted) == []


def test_the_secrets_of_an_existing_site_are_guarded_when_they_are_read(tmp_path: Path, git: Git) -> None:
    place = tmp_path / "secrets"
    place.mkdir(mode=0o700)
    secret = place / "consul_token_dns.txt"
    secret.write_text("a token\n", encoding="ascii")
    secret.chmod(0o600)
    assert Store(str(place), plain, dry=True).get("consul_token_dns") == "a token"
    assert not (place / GUARD).exists(), "check mode writes nothing"
    assert readable_in_git(str(place), is_encrypted) == ["consul_token_dns.txt"], "git would take it"
    assert Store(str(place), plain).get("consul_token_dns") == "a token"
    assert staged(git) == ["hosts.yml"]


def test_secrets_that_git_has_already_are_named(tmp_path: Path, git: Git) -> None:
    place = tmp_path / "secrets"
    place.mkdir()
    (place / "consul_token_dns.txt").write_text("a token\n", encoding="ascii")
    git("add", "-A")
    git("commit", "--quiet", "-m", "all of the site")
    loader = DataLoader()
    store = loader_store(loader, str(place), dry=False)
    store.put("consul_token_operator", "another")
    assert staged(git) == []
    assert readable_in_git(str(place), is_encrypted, ["*.txt"]) == ["consul_token_dns.txt"]
    # With a vault password git has what nobody can read, as in many sites, and that is no reason to warn.
    loader.set_vault_secrets([("default", VaultSecret(b"of the vault"))])
    loader_store(loader, str(place), dry=False).get("consul_token_dns")
    assert readable_in_git(str(place), is_encrypted, ["*.txt"]) == []


def test_a_gitignore_of_the_operator_stays(tmp_path: Path, git: Git) -> None:
    place = tmp_path / "secrets"
    place.mkdir()
    (place / GUARD).write_text("", encoding="ascii")
    Store(str(place), plain).put("consul_token_dns", "a token")
    assert (place / GUARD).read_text(encoding="ascii") == ""
    assert "secrets/consul_token_dns.txt" in staged(git)
    assert readable_in_git(str(place), is_encrypted, ["*.txt"]) == ["consul_token_dns.txt"]


def test_a_directory_outside_of_a_repository_is_no_fault(tmp_path: Path) -> None:
    Store(str(tmp_path / "secrets"), plain).put("a", "b")
    assert readable_in_git(str(tmp_path / "secrets"), is_encrypted) == []
    assert readable_in_git(str(tmp_path / "missing"), is_encrypted) == []


def test_a_private_key_of_the_operator_is_named(tmp_path: Path, git: Git) -> None:
    keys = [tmp_path / "tls" / name for name in ("apps.key", "sealed.key", "ignored.key")]
    keys[0].parent.mkdir()
    for key in keys:
        key.write_text("-----BEGIN PRIVATE KEY-----\n", encoding="ascii")
    keys[1].write_text("$ANSIBLE_VAULT;1.1;AES256\n", encoding="ascii")
    (tmp_path / ".gitignore").write_text("ignored.key\n", encoding="ascii")
    assert keys_in_git([*map(str, keys), "/nowhere/x.key"], is_encrypted) == [str(keys[0])]
    git("add", "-A")
    assert keys_in_git([str(keys[0])], is_encrypted) == [str(keys[0])], "also what git has already"
    assert str(keys[0]) in key_warning(str(keys[0]))


def test_the_warning_names_files_and_remedy() -> None:
    assert "git has or would take a.txt and b.txt, which" in git_warning("/s/secrets", ["a.txt", "b.txt"])
    warning = git_warning("/s/secrets", [f"{name}.txt" for name in "abcde"])
    assert "take a.txt, b.txt and c.txt and 2 more, which" in warning
    assert "git rm -r --cached /s/secrets" in warning and "rotate_tokens.yml" in warning
