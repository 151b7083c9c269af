# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an event asks for, and which of Docker's answers count."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from registrator.dockerapi import EVENTS, DockerClient, Gone, Unanswered
from registrator.facts import facts_of
from registrator.inbox import Inbox
from registrator.inspector import THREADS, Answer, Inspector
from registrator.journal import Once
from registrator.observer import Reaction, reaction
from registrator.world import Event

STARTED = 1000.0


@pytest.mark.parametrize(
    ("kind", "known", "process", "sent_at", "wanted"),
    [
        ("start", False, None, 0, Reaction.INSPECT),
        ("start", True, False, 0, Reaction.INSPECT),
        ("kill", True, True, 0, Reaction.SIGNAL),
        ("kill", False, None, 0, Reaction.SIGNAL),
        ("destroy", False, None, 0, Reaction.FORGET),
        ("die", False, None, 0, Reaction.DROP),
        ("die", True, False, STARTED + 1, Reaction.DROP),
        ("die", True, True, STARTED + 1, Reaction.INSPECT),
        # Where processes cannot be seen, the clock decides.
        ("die", True, None, STARTED + 1, Reaction.DROP),
        ("die", True, None, STARTED - 1, Reaction.INSPECT),
        # After a step of the clock the process is what counts.
        ("die", True, False, STARTED - 1, Reaction.DROP),
        ("connect", False, None, 0, Reaction.NOTHING),
        ("connect", True, True, 0, Reaction.INSPECT),
        ("connect", True, None, 0, Reaction.INSPECT),
        ("disconnect", False, None, 0, Reaction.NOTHING),
        ("disconnect", True, False, 0, Reaction.DROP),
        ("disconnect", True, True, 0, Reaction.INSPECT),
        ("disconnect", True, None, 0, Reaction.INSPECT),
        ("pause", True, True, 0, Reaction.INSPECT),
        ("unpause", True, True, 0, Reaction.INSPECT),
        ("rename", True, True, 0, Reaction.INSPECT),
        ("health_status", True, True, 0, Reaction.INSPECT),
    ],
)
def test_what_an_event_asks_for(
    document: Any,
    kind: str,
    known: bool,
    process: bool | None,
    sent_at: float,
    wanted: Reaction,
) -> None:
    found = document("published")
    found["State"]["StartedAt"] = "1970-01-01T00:16:40Z"
    facts = facts_of(found) if known else None
    assert kind in EVENTS
    assert reaction(Event(kind, "a", sent_at=sent_at), facts, process) is wanted


class _Client(DockerClient):
    """Answers when it is allowed to."""

    def __init__(self) -> None:
        super().__init__("/nowhere")
        self.free: dict[str, threading.Event] = {}

    def inspect(self, container: str) -> dict[str, Any]:
        if container in self.free:
            assert self.free[container].wait(20)
        if container.startswith("gone"):
            raise Gone(container)
        if container.startswith("odd"):
            raise KeyError(container)
        return {"Id": container}


def _rig() -> tuple[_Client, Inbox, Inspector]:
    client, inbox = _Client(), Inbox()
    return client, inbox, Inspector(lambda: client, inbox.put)


def _next(inbox: Inbox) -> Answer:
    answer = inbox.wait_for_answer(20)
    assert answer is not None
    return answer


def test_each_answer_arrives_when_it_is_known() -> None:
    client, inbox, inspector = _rig()
    held = [f"held{number}" for number in range(THREADS - 1)]
    for container in held:
        client.free[container] = threading.Event()
        inspector.ask(container)
    for container in ("a", "gone", "odd"):
        inspector.ask(container)
    answers = {answer.container: answer for answer in (_next(inbox) for _turn in range(3))}
    assert answers["a"].document == {"Id": "a"}
    assert isinstance(answers["gone"].error, Gone)
    assert isinstance(answers["odd"].error, Unanswered), "a mistake concerns one container only"
    assert all(inspector.accept(answer) for answer in answers.values())
    assert all(inspector.is_asking(container) for container in held)
    for container in held:
        client.free[container].set()
    assert {_next(inbox).container for _turn in held} == set(held)
    assert inspector.is_alive()


def test_a_question_that_comes_again_meanwhile_is_asked_once_more() -> None:
    client, inbox, inspector = _rig()
    client.free["a"] = threading.Event()
    for _turn in range(5):
        inspector.ask("a")
    client.free["a"].set()
    assert inspector.accept(_next(inbox))
    assert inspector.is_asking("a")
    assert inspector.accept(_next(inbox))
    assert not inspector.is_asking("a")
    assert inbox.wait_for_answer(0) is None


def test_an_answer_about_what_ended_is_void_and_the_next_start_is_asked_for() -> None:
    client, inbox, inspector = _rig()
    client.free["a"] = threading.Event()
    inspector.ask("a")
    inspector.ask("a")
    inspector.ignore("a")
    assert not inspector.is_asking("a")
    inspector.ask("a")
    assert inspector.is_asking("a")
    client.free["a"].set()
    assert not inspector.accept(_next(inbox))
    assert inspector.accept(_next(inbox))
    assert not inspector.accept(Answer("never-asked"))


def test_what_arrives_while_an_answer_is_waited_for_comes_first_afterwards() -> None:
    inbox = Inbox()
    first, second = Event("start", "a"), Event("die", "a")
    inbox.put(first)
    inbox.put(Answer("b"))
    inbox.put(second)
    assert inbox.wait_for_answer(20) == Answer("b")
    assert inbox.wait(20) == [first, second]
    assert inbox.wait(0) == []
    inbox.put(first)
    assert inbox.wait_for_answer(0) is None
    assert inbox.wait(0) == [first]


def test_a_line_is_written_once_in_a_containers_life(capsys: pytest.CaptureFixture[str]) -> None:
    once = Once()
    assert once.say("warning", "a" * 64, "refused", "why", key="x")
    assert not once.say("warning", "a" * 64, "refused", "why", key="x")
    assert once.say("warning", "a" * 64, "refused", "why", key="y")
    assert once.say("error", "", "unreadable", "why")
    assert once.say("warning", "c" * 64, "refused", "why", name="former")
    assert not once.say("warning", "c" * 64, "refused", "why", name="later")
    once.forget("b" * 64)
    assert not once.say("warning", "a" * 64, "refused", "why", key="x")
    once.forget("a" * 64)
    assert once.say("warning", "a" * 64, "refused", "why", key="x")
    assert not once.say("error", "", "unreadable", "why")
    assert len(capsys.readouterr().err.splitlines()) == 5


def test_what_was_written_is_not_kept_for_ever(capsys: pytest.CaptureFixture[str]) -> None:
    once = Once()
    for number in range(20_001):
        once.say("error", "", "unreadable", str(number))
    assert once.say("error", "", "unreadable", "0")
    assert not once.say("error", "", "unreadable", "20000")
    capsys.readouterr()


def test_what_was_not_answered_does_not_hold_up_the_others_again() -> None:
    """Each of them may block whoever asks until the time-out."""
    client, inbox, inspector = _rig()
    stuck = [f"odd{number}" for number in range(2 * THREADS)]
    for container in stuck:
        inspector.ask(container)
    for _turn in stuck:
        assert inspector.accept(_next(inbox))
    for container in stuck:
        client.free[container] = threading.Event()
        inspector.ask(container)
    inspector.ask("a")
    assert _next(inbox) == Answer("a", {"Id": "a"})
    for container in stuck:
        client.free[container].set()
    assert {_next(inbox).container for _turn in stuck} == set(stuck)
