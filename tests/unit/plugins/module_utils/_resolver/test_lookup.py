# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof that names resolve."""

from __future__ import annotations

import pytest

from ansible_collections.trinode.platform.plugins.module_utils._resolver import lookup
from ansible_collections.trinode.platform.plugins.module_utils._resolver.lookup import Answer


def test_the_system_resolver_knows_this_host() -> None:
    assert lookup.ask("localhost", 10).addresses


def test_the_system_resolver_says_why_not() -> None:
    # A label may not be longer than 63 bytes, so no server is asked for this.
    answer = lookup.ask(f"{'x' * 64}.invalid", 10)
    assert answer.addresses == []
    assert answer.error


def test_a_name_is_asked_until_it_resolves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "POLL_SECONDS", 0.01)
    answers = {"late": [Answer([], "not yet"), Answer([], "not yet"), Answer(["10.0.0.1"], "")], "early": [Answer(["10.0.0.2"], "")]}
    found, said = lookup.prove(["late", "early"], 5, lambda name, _timeout: answers[name].pop(0))
    assert (found, said) == ({"late": ["10.0.0.1"], "early": ["10.0.0.2"]}, {})


def test_what_the_resolver_said_last_is_kept() -> None:
    found, said = lookup.prove(["good", "bad"], 0.1, lambda name, _timeout: Answer(["10.0.0.1"], "") if name == "good" else Answer([], "unknown"))
    assert (found, said) == ({"good": ["10.0.0.1"]}, {"bad": "unknown"})
