# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was encrypted, and messages without it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible._internal._datatag._tags import VaultedValue
from ansible.parsing.vault import EncryptedString, VaultLib, VaultSecret, VaultSecretsContext

from ansible_collections.trinode.platform.plugins.plugin_utils._encrypted_values import encrypted, hide, plain_texts
from ansible_collections.trinode.platform.plugins.plugin_utils._role_variables import RoleSpec
from ansible_collections.trinode.platform.plugins.plugin_utils._variable_check import VariableCheck

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
    ],
)
def test_a_message_without_a_secret(text: str, secret: str) -> None:
    hidden = hide(text, [secret, "hun"])
    assert "(encrypted)" in hidden
    assert "hun" not in hidden and "ter2" not in hidden
    assert hide(text, []) == text
