# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was encrypted, and messages without it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible._internal._datatag._tags import VaultedValue
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import EncryptedString, VaultLib, VaultSecret, VaultSecretsContext

from ansible_collections.trinode.platform.plugins.plugin_utils._preflight.encrypted_values import (
    encrypted,
    hide,
    plain_texts,
    without_secrets,
)
from ansible_collections.trinode.platform.plugins.plugin_utils._preflight.inventory_rules import Problem
from ansible_collections.trinode.platform.plugins.plugin_utils._preflight.role_variables import RoleSpec
from ansible_collections.trinode.platform.plugins.plugin_utils._preflight.variable_check import VariableCheck

CIPHERTEXT = "$ANSIBLE_VAULT;1.1;AES256"
SECRET = VaultedValue(ciphertext=CIPHERTEXT).tag("hunter2")


def test_encrypted_strings_are_found_at_any_depth() -> None:
    assert plain_texts([{"a": ["plain", {"b": SECRET}]}, "plain"]) == {"hunter2"}
    assert list(encrypted({"a": ["plain", 5, None]})) == []


def test_a_message_on_choices_does_not_hold_the_value() -> None:
    specs = [RoleSpec("consul_server", {"consul_server_log_level": {"type": "str", "choices": ["info", "debug"]}})]
    check = VariableCheck(specs, {"consul_server"}, [], {})
    (found,) = check.problems({"consul_server_log_level": SECRET}, SimpleNamespace(template=lambda value: value))
    assert "hunter2" not in str(found)
    assert found["message"].startswith("consul_server_log_level is wrong: its value is not of the type or among the choices")


def test_what_no_password_opens_has_no_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    other = VaultLib([("default", VaultSecret(b"another password"))])
    monkeypatch.setattr(VaultSecretsContext, "_current", VaultSecretsContext(secrets=[("default", VaultSecret(b"open sesame"))]))
    value = EncryptedString(ciphertext=other.encrypt("hunter2").decode())
    assert len(list(encrypted([value]))) == 1
    assert plain_texts([value]) == set()


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("x is 'hunter2'", "hunter2"),
        ("x is 'prefix-hunter2'", "hunter2"),
        ("for example 'hunter2'", "Hunter2"),
        (r"x is 'hun\nter2'", "hun\nter2"),
        ("x is hun ter2", "hun\nter2"),
        ("for example 'hun-ter2'", "Hun_Ter2"),
        ("for example 'hun-ter2" + "x" * 55 + "'", "hun ter2" + "x" * 70),
    ],
)
def test_a_message_without_a_secret(text: str, secret: str) -> None:
    hidden = hide(text, [secret, "hun"])
    assert "(encrypted)" in hidden
    assert "hun" not in hidden and "ter2" not in hidden
    assert hide(text, []) == text


def read(place: Path, text: str, password: str = "") -> dict[str, object]:
    """Read a file of variables as an inventory does, encrypted as a whole when there is a password."""
    loader = DataLoader()
    data = text.encode()
    if password:
        loader.set_vault_secrets([("default", VaultSecret(password.encode()))])
        data = VaultLib([("default", VaultSecret(password.encode()))]).encrypt(data)
    (place / "vars.yml").write_bytes(data)
    return dict(loader.load_from_file(str(place / "vars.yml")))


CONTENT = "a: hunter2\nb: 5432\nc: [x9, true, {d: 1.5}]\n"


def test_all_values_of_an_encrypted_file_are_secret(tmp_path: Path) -> None:
    assert plain_texts([read(tmp_path, CONTENT, "open sesame")]) == {"hunter2", "5432", "x9", "1.5"}


def test_the_values_of_another_file_are_not(tmp_path: Path) -> None:
    assert plain_texts([read(tmp_path, CONTENT)]) == set()


def test_names_stay_where_a_part_of_one_is_a_secret(tmp_path: Path) -> None:
    defined = {"consul-1": read(tmp_path, "platform_domain: consul\nplatform_number: 1\n", "open sesame")}
    problem = Problem("consul-1", "domain", "consul-1: platform_domain is 'consul', 1 of 10", "write consul_x or 1")
    (found,) = without_secrets([problem], defined)
    assert found.message == "consul-1: platform_domain is '(encrypted)', (encrypted) of 10"
    assert found.remedy == "write (encrypted)_x or (encrypted)"
    assert without_secrets([problem], {"consul-1": {"a": "consul"}}) == [problem]
