# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Desired against actual, draining, and what the engine remembers."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from registrator.config import Config, ConfigError, parse
from registrator.convention import registrations_of
from registrator.dockerapi import EVENTS
from registrator.drain import Drains
from registrator.facts import facts_of
from registrator.model import MARK, Facts, Outcome, Registration, Settings, Verdict
from registrator.plan import Actual, merge, plan
from registrator.world import Unknown, World, event_of

DATA = Path(__file__).resolve().parent / "data"
NODE = Settings(hostname="node1", address="192.0.2.10")
CONFIG = Config(address="192.0.2.10", hostname="node1")


def make(identity: str, name: str = "web", default_id: bool = True, **changes: Any) -> Registration:
    values: dict[str, Any] = {
        "id": identity, "name": name, "address": "192.0.2.10", "port": 80, "tags": ("http",), "meta": {"a": "b"}, "weight_passing": 1,
        "weight_warning": 1, "checks": (), "container": "c" * 64, "default_id": default_id,
    }  # fmt: skip
    return Registration(**{**values, **changes})


def holding(*registrations: Registration) -> Actual:
    actual = Actual()
    for registration in registrations:
        actual.record(registration)
    return actual


def foreign(identity: str) -> Actual:
    return Actual({identity: {"ID": identity, "Service": "web", "Address": "", "Port": 1, "Tags": [], "Meta": {}}})


def test_equal_needs_nothing() -> None:
    one = make("node1:a:80")
    assert not plan({one.id: one}, holding(one), "node1")


@pytest.mark.parametrize(
    "changes",
    [{"name": "x"}, {"address": "10.0.0.1"}, {"port": 81}, {"tags": ()}, {"meta": {}}, {"weight_passing": 5}, {"checks": ({"CheckID": "c", "TTL": "1s"},)}],
)
def test_every_difference_is_repaired(changes: dict[str, Any]) -> None:
    one = make("node1:a:80")
    other = replace(one, **changes)
    found = plan({other.id: other}, holding(one), "node1")
    assert found.register == [other]
    assert not found.deregister


def test_a_lost_check_is_made_again() -> None:
    one = make("node1:a:80", checks=({"CheckID": "service:x", "TTL": "1s"},))
    actual = holding(one)
    actual.checks.clear()
    assert plan({one.id: one}, actual, "node1").register == [one]


def test_foreign_registrations_are_never_touched() -> None:
    for identity in ("db", "node1:ghost:80", "node2:a:80"):
        assert not plan({}, foreign(identity), "node1")
    mine = make("db", default_id=False)
    found = plan({"db": mine}, foreign("db"), "node1")
    assert not found
    assert found.refusals[0][1].key == "id"


def test_registrators_own_ids_are_taken_over() -> None:
    one = make("node1:a:80")
    found = plan({one.id: one}, foreign(one.id), "node1")
    assert found.register == [one]
    assert found.taken_over == [one.id]


def test_adoption_removes_only_ids_of_this_host() -> None:
    assert plan({}, foreign("node1:ghost:80"), "node1", adopt=True).deregister == ["node1:ghost:80"]
    assert plan({}, foreign("node1:ghost:53:udp"), "node1", adopt=True).deregister
    for identity in ("node10:ghost:80", "node1:80", "xnode1:ghost:80", "node1:a:b:80"):
        assert not plan({}, foreign(identity), "node1", adopt=True)


def test_adoption_removes_second_entries_under_another_name() -> None:
    one = make("node1:a:80", port=8080)
    other = {"Service": "web", "Port": 8080, "Meta": {}}
    for address in ("", "127.0.1.1", one.address):
        actual = holding(one)
        actual.services["container9:a:80"] = {**other, "Address": address}
        assert plan({one.id: one}, actual, "node1", adopt=True).adopted == ["container9:a:80"], address
        assert not plan({one.id: one}, actual, "node1")
    for identity, change in (
        ("node2:a:80", {"Address": "192.0.2.11"}),
        ("node2:a:80", {"Port": 8081}),
        ("node2:b:80", {}),
        ("node2:a:81", {}),
        ("a:80", {}),
        ("x:y:a:80", {}),
    ):
        actual = holding(one)
        actual.services[identity] = {**other, "Address": "", **change}
        assert not plan({one.id: one}, actual, "node1", adopt=True), (identity, change)


def test_adoption_leaves_what_lives_and_what_is_marked() -> None:
    one, two = make("node1:a:80"), make("node2:a:80")
    found = plan({one.id: one}, Actual({one.id: foreign(one.id).services[one.id], **holding(two).services}), "node1", adopt=True)
    assert (found.adopted, found.deregister, found.register) == ([], [two.id], [one])
    assert not plan({}, foreign(one.id), "node1", adopt=True, protected=[one.id])


def test_ghosts_go_and_protected_ones_stay() -> None:
    one, two = make("node1:a:80"), make("node1:b:80")
    assert plan({}, holding(one, two), "node1", protected=[two.id]).deregister == [one.id]


def test_health_is_written_when_it_differs() -> None:
    check = {"CheckID": "h", "TTL": "1s", "Status": "critical"}
    one = make("node1:a:80", checks=(check,), verdicts=(Verdict("h", "critical"),))
    actual = holding(one)
    assert not plan({one.id: one}, actual, "node1")
    healthy = replace(one, verdicts=(Verdict("h", "passing", "fine"),))
    assert plan({one.id: healthy}, actual, "node1").verdicts == [(healthy, healthy.verdicts[0])]
    # A new registration does not change the status of a check that the agent has already.
    changed = replace(healthy, port=81)
    found = plan({one.id: changed}, actual, "node1")
    assert found.register == [changed]
    assert found.verdicts == [(changed, changed.verdicts[0])]


def test_of_two_claims_to_one_id_the_elder_wins(document: Any) -> None:
    elder, younger = document("port_range", SERVICE_9100_ID="same"), document("published", SERVICE_ID="same")
    pairs = [(facts_of(text), registrations_of(facts_of(text), NODE)) for text in (younger, elder)]
    for order in (pairs, pairs[::-1]):
        desired, refused = merge(order)
        assert desired["same"].container == elder["Id"]
        assert [container for container, _refusal in refused] == [younger["Id"]]


@given(st.sets(st.integers(0, 8)), st.sets(st.integers(0, 8)), st.sets(st.integers(0, 8)))
def test_applying_the_plan_makes_them_equal(wanted: set[int], held: set[int], strange: set[int]) -> None:
    desired = {item.id: item for item in (make(f"node1:c{number}:80") for number in wanted)}
    actual = holding(*[make(f"node1:c{number}:80", port=number % 2 + 80) for number in held])
    for number in strange:
        actual.services[f"foreign{number}"] = {"ID": f"foreign{number}", "Meta": {}}
    found = plan(desired, actual, "node1")
    for identity in found.deregister:
        actual.forget(identity)
    for registration in found.register:
        actual.record(registration)
    assert not plan(desired, actual, "node1")
    assert {key for key, value in actual.services.items() if MARK in value["Meta"]} == set(desired)
    assert {f"foreign{number}" for number in strange} <= set(actual.services)


def test_drain_lasts_for_this_run_only(document: Any) -> None:
    facts = facts_of(document("stop_signal"))
    drains = Drains(60)
    assert not drains.on_signal(facts, 1, 0, 100.0), "SIGHUP asks for no end"
    assert not drains.on_signal(facts, 15, 0, 100.0), "this container's stop signal is SIGQUIT"
    assert not drains.on_signal(facts, 3, facts.started_at - 1, 100.0), "a signal to the former run"
    assert drains.on_signal(facts, 3, facts.started_at + 1, 100.0)
    assert drains.is_draining(facts, 100.0)
    assert drains.next_end() == 225.0, "its own stop time-out is 120 s"
    again = replace(facts, started_at=facts.started_at + 9)
    assert not drains.is_draining(again, 100.0)
    copy = Drains()
    copy.load(drains.dump())
    assert copy.is_draining(facts, 224.0)
    assert not copy.is_draining(facts, 226.0)
    assert drains.prune({facts.id: facts}, 226.0) == [facts.id]
    copy.load({"x": "nonsense", "y": [1]})


def test_held_by_hand_until_released_or_removed(document: Any) -> None:
    facts = facts_of(document("published"))
    drains = Drains()
    drains.hold(facts, 100.0)
    drains.hold(facts, 200.0)
    assert drains.held[facts.id].since == 100.0
    later = replace(facts, started_at=facts.started_at + 9)
    assert drains.is_draining(facts, 1e12)
    assert drains.is_draining(later, 1e12), "a restart of the container does not end it"
    assert drains.prune({}, 1e12) == []
    assert drains.next_end() is None
    copy = Drains()
    copy.load_held({**drains.dump_held(), "x": "nonsense", "y": {"name": 1, "since": 2}})
    assert copy.held == drains.held
    assert copy.find_held(facts.name) == copy.find_held(facts.id[:7]) == [facts.id]
    assert copy.find_held("other") == copy.find_held("") == []
    assert copy.forget(facts.id)
    assert not copy.forget(facts.id)
    assert not copy.is_draining(facts, 0.0)


def test_killed_means_draining_too(document: Any) -> None:
    assert Drains().on_signal(facts_of(document("published")), 9, 0, 0.0)


def test_world_follows_the_facts(document: Any) -> None:
    world = World(CONFIG)
    published = facts_of(document("published"))
    world.put(published)
    assert set(world.desired(0.0)[0]) == {"node1:published:8081"}
    world.drains.on_signal(published, 15, 0, 0.0)
    assert not world.desired(1.0)[0]
    assert world.desired(61.0)[0], "it survived its stop signal, so it serves"
    world.put(replace(published, name="renamed"))
    assert set(world.desired(100.0)[0]) == {"node1:renamed:8081"}
    world.put(replace(published, paused=True))
    assert not world.desired(100.0)[0]
    world.put(replace(published, running=False))
    assert not world.facts


def test_world_finds_by_name_and_by_id(document: Any) -> None:
    world = World(CONFIG)
    one, two = facts_of(document("published")), facts_of(document("port_range"))
    two = replace(two, id=one.id[:5] + two.id[5:])
    world.put(one)
    world.put(two)
    assert world.find("published") is one
    assert world.find(two.id[:12]) is two
    for wanted, words in ((one.id[:3], "several"), ("nobody", "no running container nobody"), ("", "no running")):
        with pytest.raises(Unknown, match=words):
            world.find(wanted)
    # A name wins over the beginning of an id.
    world.put(replace(two, name=one.id[:4]))
    assert world.find(one.id[:4]).id == two.id


def test_world_says_when_time_alone_changes_something(document: Any) -> None:
    world = World(CONFIG)
    facts = facts_of(document("published", SERVICE_WARMUP="20s"))
    world.put(facts)
    start = facts.started_at
    assert world.next_change() == math.inf
    (early,) = world.desired(start + 1)[0].values()
    assert early.verdicts[0].status == "critical"
    assert world.next_change() == start + 20
    world.drains.on_signal(facts, 15, 0, start - 55)
    assert world.next_change() == start + 5
    (late,) = world.desired(start + 20)[0].values()
    assert late.verdicts[0].status == "passing"
    assert world.next_change() == math.inf


def test_a_mistake_costs_one_container_only(document: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def mistaken(facts: Facts, *arguments: Any) -> Outcome:
        if facts.name == "published":
            raise KeyError("oops")
        return registrations_of(facts, *arguments)

    monkeypatch.setattr("registrator.world.registrations_of", mistaken)
    world = World(CONFIG)
    world.put(facts_of(document("published")))
    world.put(facts_of(document("stop_signal")))
    desired, refused = world.desired(0.0)
    assert set(desired) == {"node1:stop_signal:80"}
    assert "KeyError" in refused[0][1].reason


def test_who_publishes_anothers_ports_drains_it_too(document: Any) -> None:
    world = World(CONFIG)
    sharer, owner = facts_of(document("network_sharer")), facts_of(document("network_owner"))
    world.put(sharer)
    world.put(owner)
    assert set(world.desired(0.0)[0]) == {"node1:network_owner:80", "node1:network_sharer:80"}
    world.drains.on_signal(owner, 15, 0, 0.0)
    assert not world.desired(1.0)[0], "its ports go with the container that publishes them"


def test_world_forgets_what_depends_on_a_network_owner(document: Any) -> None:
    world = World(CONFIG)
    sharer, owner = facts_of(document("network_sharer")), facts_of(document("network_owner"))
    world.put(sharer)
    assert not world.desired(0.0)[0]
    world.put(owner)
    assert "node1:network_sharer:80" in world.desired(0.0)[0]
    world.drop(owner.id)
    assert not world.desired(0.0)[0]


def test_recorded_events(recorded_events: list[dict[str, Any]]) -> None:
    found = {event.kind: event for event in map(event_of, recorded_events) if event}
    assert set(EVENTS) <= set(found)
    assert found["kill"].number == 15
    assert all(len(found[kind].container) == 64 and found[kind].sent_at > 1.7e9 for kind in ("start", "die", "kill", "health_status", "connect", "disconnect"))


def test_the_recordings_hold_the_old_and_the_new_form() -> None:
    """What API 1.52 left out, of events and of inspected containers, is there in the elder recording and missing in the younger."""
    for engine, old in (("20.10", True), ("29", False)):
        event = json.loads((DATA / engine / "events.jsonl").read_text(encoding="utf-8").splitlines()[0])
        network = json.loads((DATA / engine / "published.json").read_text(encoding="utf-8"))["NetworkSettings"]
        assert [key in event for key in ("status", "id", "from")] == [old] * 3, engine
        assert ("IPAddress" in network) is old, engine


def test_events() -> None:
    kill = event_of({"Type": "container", "Action": "kill", "Actor": {"ID": "a", "Attributes": {"signal": "15"}}, "timeNano": 1500000000})
    assert kill
    assert (kill.kind, kill.container, kill.number, kill.sent_at) == ("kill", "a", 15, 1.5)
    health = event_of({"Type": "container", "Action": "health_status: healthy", "Actor": {"ID": "a"}, "time": 7})
    assert health
    assert (health.kind, health.sent_at) == ("health_status", 7.0)
    connect = event_of({"Type": "network", "Action": "connect", "Actor": {"ID": "net", "Attributes": {"container": "a"}}})
    assert connect
    assert connect.container == "a"
    # Engines from API 1.52 leave the old keys out, old ones have only these.
    old = event_of({"status": "die", "id": "a", "time": 7})
    assert old
    assert (old.kind, old.container) == ("die", "a")
    assert event_of({"Type": "network", "Action": "prune", "Actor": {}}) is None


GOOD = '{"address": "192.0.2.10", "hostname": "node1"}'


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "JSON"),
        ("[]", "object"),
        ('{"hostname": "node1"}', "address"),
        ('{"address": "0.0.0.0", "hostname": "n"}', "address"),
        ('{"address": "node1", "hostname": "n"}', "address"),
        (GOOD.replace("node1", "a:b"), "hostname"),
        (GOOD[:-1] + ', "colour": 1}', "colour"),
        (GOOD[:-1] + ', "internal": "yes"}', "internal"),
        (GOOD[:-1] + ', "metrics_port": true}', "metrics_port"),
        (GOOD[:-1] + ', "metrics_port": 70000}', "metrics_port"),
        (GOOD[:-1] + ', "resync_seconds": 0}', "resync_seconds"),
        (GOOD[:-1] + ', "tags": "a"}', "tags"),
        (GOOD[:-1] + ', "tags": ["a", "{{.ID}}"]}', "templates are not supported"),
        (GOOD[:-1] + ', "reserved_names": "consul"}', "reserved_names"),
        (GOOD[:-1] + ', "consul_url": "consul://x"}', "consul_url"),
    ],
)
def test_bad_configuration_names_file_and_key(text: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word) as caught:
        parse(text, "/etc/x.json")
    assert "/etc/x.json" in str(caught.value)


def test_good_configuration() -> None:
    assert parse(GOOD, "x") == CONFIG


def test_a_service_that_the_agent_keeps_with_an_old_token_is_written_again() -> None:
    one, other = make("node1:a:80"), make("node1:b:80")
    found = plan({one.id: one, other.id: other}, holding(one, other), "node1", outdated={one.id})
    assert found.register == [one]
    assert not found.deregister
