# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker's daemon.json: reading, merging, checking."""

from __future__ import annotations

import json
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.trinode.platform.plugins.module_utils._docker import daemon_json
from ansible_collections.trinode.platform.plugins.module_utils._docker.daemon_json import DaemonJsonError, Owned


@pytest.mark.parametrize("text", ["", " \n", "{}"])
def test_nothing_is_an_empty_object(text: str) -> None:
    assert daemon_json.parse(text, "f") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{\n  "dns": ["1.1.1.1"],,\n}', 'line 2, column 22:\n  "dns": ["1.1.1.1"],,\n                     ^'),
        ('{\n\t"a": 1\n\t"b": 2}', 'line 3, column 2:\n\t"b": 2}\n\t^'),
        ('\n["a"]', 'must hold one JSON object, but has something else at line 2, column 1:\n["a"]\n^'),
        ('{"a": {"b": 1}, "c": [{"a": 1}],\n "a": 2}', 'the key "a" twice, the second time at line 2, column 2'),
        ('{"a": {"b": 1, "\\u0062": 2}}', 'the key "\\u0062" twice'),
        ('{"a": NaN}', "NaN is no JSON value, at line 1, column 7"),
        ("\ufeff{}", "is not valid JSON"),
        ('{"a": 1', "line 1, column 8"),
    ],
)
def test_the_place_of_an_error_is_shown(text: str, message: str) -> None:
    with pytest.raises(DaemonJsonError) as error:
        daemon_json.parse(text, "/etc/docker/daemon.json")
    assert str(error.value).startswith("/etc/docker/daemon.json ")
    assert message in str(error.value)
    assert "not changed" in str(error.value)


@pytest.mark.parametrize("text", ['{"a": {"x": 1}, "b": {"x": 1}}', '{"a": "x", "x": "a"}', '{"a": ["b", "b"], "b": "{\\"a\\": 1, \\"a\\": 2}"}'])
def test_equal_words_that_are_no_double_keys(text: str) -> None:
    assert daemon_json.parse(text, "f") == json.loads(text)


def test_unknown_keys_and_their_order_stay() -> None:
    merged, _owned = daemon_json.merge({"debug": True, "x": {"y": 1}}, {"dns": ["10.0.0.1"], "x": {"z": 2}}, [])
    assert list(merged) == ["debug", "x", "dns"]
    assert merged == {"debug": True, "x": {"y": 1, "z": 2}, "dns": ["10.0.0.1"]}


def test_a_setting_that_is_wanted_no_more_gives_way_to_the_former_one() -> None:
    before = {"dns": ["8.8.8.8"], "log-opts": {"max-file": "3"}}
    merged, owned = daemon_json.merge(before, {"dns": ["10.0.0.1"], "log-opts": {"max-size": "1m"}, "a": {"b": {"c": 1}}}, [])
    merged, owned = daemon_json.merge(merged, {"dns": ["10.0.0.2"]}, owned)
    assert merged == {"dns": ["10.0.0.2"], "log-opts": {"max-file": "3"}}
    merged, owned = daemon_json.merge(merged, {}, owned)
    assert (merged, owned) == (before, [])


def test_a_setting_that_was_there_before_stays() -> None:
    merged, owned = daemon_json.merge({"live-restore": True}, {"live-restore": True}, [])
    assert daemon_json.merge(merged, {}, owned) == ({"live-restore": True}, [])


def test_a_setting_of_ours_that_was_changed_since_is_theirs() -> None:
    merged, owned = daemon_json.merge({}, {"dns": ["10.0.0.1"]}, [])
    merged["dns"] = ["9.9.9.9"]
    assert daemon_json.merge(merged, {}, owned)[0] == {"dns": ["9.9.9.9"]}


def test_a_setting_below_something_that_is_no_object_is_refused() -> None:
    with pytest.raises(DaemonJsonError, match=r"log-opts holds no object, so log-opts\.max-size cannot be set"):
        daemon_json.merge({"log-opts": "x"}, {"log-opts": {"max-size": "1m"}}, [])


KEYS = st.sampled_from(["a", "b", "c"])
CONTENT = st.dictionaries(KEYS, st.one_of(st.integers(0, 3), st.dictionaries(KEYS, st.integers(0, 3), min_size=1)))
FLAT = st.dictionaries(KEYS, st.one_of(st.integers(0, 3), st.lists(st.integers(0, 3), max_size=2)))


@given(before=CONTENT, first=FLAT, second=FLAT)
def test_all_that_was_set_can_be_taken_out(before: dict[str, t.Any], first: dict[str, t.Any], second: dict[str, t.Any]) -> None:
    merged, owned = daemon_json.merge(before, first, [])
    merged, owned = daemon_json.merge(merged, second, [Owned.from_json(json.loads(json.dumps(item.to_json()))) for item in owned])
    assert all(merged[key] == value for key, value in second.items())
    assert daemon_json.merge(merged, second, owned) == (merged, owned)
    assert daemon_json.merge(merged, {}, owned) == (before, [])


def test_the_command_line_is_read_as_systemd_reads_it() -> None:
    environment = daemon_json.environment_file("# comment\nDOCKER_OPTS=\"--dns 8.8.8.8 -D\"\nexport X=1\nOTHER='a b'\n")
    assert environment == {"DOCKER_OPTS": "--dns 8.8.8.8 -D", "OTHER": "a b"}
    arguments = daemon_json.command_line("/usr/sbin/dockerd -H fd:// --log-opt=${OTHER} $DOCKER_OPTS $NONE", environment)
    assert arguments == ["/usr/sbin/dockerd", "-H", "fd://", "--log-opt=a b", "--dns", "8.8.8.8", "-D"]
    assert daemon_json.flag_keys(arguments) == {"hosts": "-H", "log-opts": "--log-opt", "dns": "--dns", "debug": "-D"}


def test_a_setting_on_both_sides_is_refused() -> None:
    with pytest.raises(DaemonJsonError, match=r"dns \(--dns\) would be set both in f and on the command line of dockerd in the unit"):
        daemon_json.check_conflicts({"dns": [], "debug": True}, {"dns": "--dns", "hosts": "-H"}, "f", "the unit")
    daemon_json.check_conflicts({"debug": True}, {"hosts": "-H"}, "f", "the unit")


@pytest.mark.parametrize("servers", [["127.0.0.1"], ["::1"], ["0.0.0.0"], ["dns.example"], "10.0.0.1", [1.5]])
def test_name_servers_that_a_container_cannot_reach_are_refused(servers: t.Any) -> None:
    with pytest.raises(DaemonJsonError, match="dns"):
        daemon_json.check_dns(servers)


def test_name_servers_that_a_container_can_reach() -> None:
    daemon_json.check_dns(["192.168.0.129", "2001:db8::53"])
