# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What counts as a failure of a caller."""

from __future__ import annotations

import http.client
import socket
import threading

import callers
import pytest
from callers import WEB, Kept
from fault_report import WRONG


def serve(*connections: list[bytes]) -> int:
    """A server that gives each connection its answers, one a request, and then closes it without a word; gives its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def work() -> None:
        with listener:
            for answers in connections:
                with listener.accept()[0] as connection:
                    for answer in answers:
                        connection.recv(65536)
                        connection.sendall(answer)

    threading.Thread(target=work, daemon=True).start()
    return int(listener.getsockname()[1])


def answer(text: str, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


GOOD = answer(f"this is httpbackendservice, version: {WEB}")


def test_a_kept_connection_that_was_closed_between_two_requests_is_opened_again() -> None:
    caller = Kept("127.0.0.1", serve([GOOD, GOOD], [GOOD]))
    assert [caller.ask(), caller.ask(), caller.ask()] == ["", "", ""]
    assert caller.reopened == 1


def test_a_new_connection_that_is_closed_is_a_failure() -> None:
    caller = Kept("127.0.0.1", serve([GOOD], []))
    assert caller.ask() == ""
    with pytest.raises(ConnectionError):
        caller.ask()
    with pytest.raises(ConnectionError):
        caller.ask()


FRONT_GOOD = f"this is httpfrontservice, version: {callers.FRONT}, calling backendservice ok, its resp: [this is httpbackendservice, version: {callers.BACK} ]"


@pytest.mark.parametrize(("text", "right"), [(FRONT_GOOD, True), (FRONT_GOOD.replace(callers.BACK, "other"), False)])
def test_an_answer_is_right_when_the_service_behind_it_is(text: str, right: bool) -> None:
    said = Kept("127.0.0.1", serve([answer(text)]), callers.FRONT).ask()
    assert (said == "") is right and (right or said.startswith(WRONG))


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (answer("No service has this name on this edge.", "404 Not Found"), "404 No service has this name on this edge."),
        (answer("this is httpbackendservice, version: other"), f"{WRONG}: this is httpbackendservice, version: other"),
    ],
)
def test_a_wrong_answer_is_a_failure(given: bytes, problem: str) -> None:
    assert Kept("127.0.0.1", serve([given])).ask() == problem


def test_a_half_answer_is_a_failure() -> None:
    caller = Kept("127.0.0.1", serve([GOOD, GOOD[:-10]], [GOOD]))
    assert caller.ask() == ""
    with pytest.raises(http.client.IncompleteRead):
        caller.ask()


def test_everywhere_tells_the_first_error() -> None:
    seen = []
    with pytest.raises(ZeroDivisionError):
        callers.everywhere(lambda node: seen.append(node) or 1 / (node != "consul-2"))
    assert len(seen) == 3
