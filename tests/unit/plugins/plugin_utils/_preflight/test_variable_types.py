# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Types of variables, without a conversion."""

from __future__ import annotations

import typing as t

import pytest
from ansible._internal._datatag._tags import VaultedValue

from ansible_collections.trinode.platform.plugins.plugin_utils._preflight.variable_types import TypeFault, type_fault

WORDS = {"type": "list", "elements": "str"}
SITES = {"type": "list", "elements": "dict", "options": {"name": {"type": "str"}, "servers": WORDS}}


@pytest.mark.parametrize(
    ("value", "spec"),
    [
        ([], WORDS),
        (["billing"], WORDS),
        ([{"name": "dc2", "servers": ["192.0.2.1"]}, {"name": None}], SITES),
        ("dc1", {"type": "str"}),
        (5, {"type": "str"}),
        ("5", {"type": "int"}),
        ("true", {"type": "bool"}),
        (1.5, {"type": "float"}),
        ({"a": 1}, {"type": "dict"}),
        ([1], {"type": "raw"}),
        ([[1]], {"type": "list"}),
    ],
)
def test_right_types(value: t.Any, spec: dict[str, t.Any]) -> None:
    assert type_fault(value, spec) is None


@pytest.mark.parametrize(
    ("value", "spec", "message", "remedy"),
    [
        ("billing", WORDS, 'is "billing" (a text), but must be a list', 'write ["billing"]'),
        ("a,b", WORDS, 'is "a,b" (a text), but must be a list', 'write ["a,b"]'),
        (53, WORDS, "is 53 (a number), but must be a list", "write [53]"),
        (True, WORDS, "is true (a truth value), but must be a list", "write [true]"),
        (None, WORDS, "has no value", "write [], or remove the line"),
        ({"name": "apps"}, SITES, "is a dictionary, but must be a list", "write '- ' before its first key, and indent the others"),
        (["billing", ["x"]], WORDS, "has an element 2 that is a list, but must be one value", "correct its value"),
        (["dc2"], SITES, 'has an element 1 that is "dc2" (a text), but must be a dictionary', "write it as names with values"),
        (
            [{"name": "dc2", "servers": "192.0.2.1"}],
            SITES,
            """has an element 1 that has the key 'servers', which is "192.0.2.1" (a text), but must be a list""",
            'write ["192.0.2.1"]',
        ),
        (["dc1"], {"type": "str"}, "is a list, but must be one value", "correct its value"),
        (1.2, {"type": "str"}, "is 1.2, which YAML reads as a number", "write it in quotes"),
        (False, {"type": "str"}, "is false, which YAML reads as a truth value", "write it in quotes"),
        ("x", {"type": "dict"}, 'is "x" (a text), but must be a dictionary', "write it as names with values"),
        (None, {"type": "dict"}, "has no value", "write {}, or remove the line"),
        ("x" * 99, WORDS, "is a text of 99 characters (a text), but must be a list", "write [a text of 99 characters]"),
    ],
)
def test_wrong_types(value: t.Any, spec: dict[str, t.Any], message: str, remedy: str) -> None:
    assert type_fault(value, spec) == TypeFault(message, remedy)


@pytest.mark.parametrize("value", ["hunter2", ["hunter2", {"hunter2": 1}], {"hunter2": 1}])
@pytest.mark.parametrize("wanted", ["list", "dict", "str", "int"])
def test_a_secret_is_never_shown(value: t.Any, wanted: str) -> None:
    assert "hunter2" not in str(type_fault(value, {"type": wanted, "elements": "str", "no_log": True}))


@pytest.mark.parametrize("wanted", ["list", "dict"])
def test_what_was_encrypted_is_never_shown(wanted: str) -> None:
    value = VaultedValue(ciphertext="$ANSIBLE_VAULT;1.1;AES256").tag("hunter2")
    inner = {"type": "dict", "options": {"key": {"type": wanted}}}
    for fault in (type_fault(value, {"type": wanted}), type_fault({"key": value}, inner)):
        assert fault and "hunter2" not in str(fault)
