# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever lies in the staging directory, root's programs stay within the edge: its files and its sockets."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from budget import SEED, TREES
from staged_rig import LEFT, Staged, Violation, calls
from staged_trees import Tree, Trees


@pytest.fixture
def staged(tmp_path: Path) -> t.Iterator[Staged]:
    """A traced edge."""
    made = Staged(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def unchecked(tmp_path: Path) -> t.Iterator[Staged]:
    """A traced edge that takes whatever nginx takes."""
    made = Staged(tmp_path, unchecked=True)
    yield made
    made.stop()


def leave(tree: Tree, number: int) -> str:
    """Keep a tree for people; return where."""
    LEFT.mkdir(parents=True, exist_ok=True)
    path = LEFT / f"staged-{number}.txt"
    path.write_text(str(tree), errors="surrogateescape")
    return str(path)


def test_no_tree_leads_out_of_the_edge(staged: Staged, capsys: pytest.CaptureFixture[str]) -> None:
    trees = Trees(staged.world, SEED)
    for number in range(TREES):
        tree = trees.tree(number)
        result = staged.check(str(number), tree)
        what = f"tree {number} of seed {SEED} ({result['message']})"
        assert result["serving"] or number == 0, f"{what}: nothing is served; {leave(tree, number)}"
        assert result["message"].isprintable(), f"{what}: the message has a sign that is none; {leave(tree, number)}"
        assert staged.picture() == staged.before, f"{what}: a file outside is another; {leave(tree, number)}"
        assert staged.foreign.reached == 0, f"{what}: a socket of others is reached; {leave(tree, number)}"
    staged.stop()
    found = staged.violations()
    with capsys.disabled():
        print(
            f"\nfuzz: {TREES} staged trees: {dict(staged.tally)}",
            f"fuzz: the same again: FUZZ_SEED={SEED} FUZZ_TREES={TREES} tools/test/pytest fuzz tests/fuzz/test_staged.py",
            sep="\n",
        )
    assert not found, f"seed {SEED}: {found[:3]}; {leave(trees.tree(int(found[0].tree or 0)), int(found[0].tree or 0))}"
    if TREES < 100:
        return
    # A list that refuses everything, or a grammar that nothing of is refused, shows nothing.
    share = {kind: count / TREES for kind, count in staged.tally.items()}
    assert share["taken"] > 0.12 and share["refused: not on the list"] > 0.3, staged.tally
    assert share.get("failed", 0) < 0.02, staged.tally
    assert set(staged.tally) >= {"refused: no regular file", "refused: not readable"}, staged.tally


def test_a_call_that_is_interrupted_is_one_call() -> None:
    trace = [
        '7 access("/tree/read", F_OK) = -1 ENOENT (No such file or directory)',
        '8 openat(AT_FDCWD</>, "/secret", O_RDONLY <unfinished ...>',
        "9 close(3) = 0",
        '9 unlink("/killed" <unfinished ...>',
        '7 access("/tree/next", F_OK) = -1 ENOENT (No such file or directory)',
        "8 <... openat resumed>)           = 3</real/secret>",
    ]
    assert list(calls(trace)) == [
        ("read", "9 close(3) = 0"),
        ("read", '8 openat(AT_FDCWD</>, "/secret", O_RDONLY)           = 3</real/secret>'),
        ("read", '9 unlink("/killed"'),
    ]


def kinds(found: list[Violation], tree: str) -> set[str]:
    """Return what is wrong with a tree."""
    return {one.kind for one in found if one.tree == tree}


def test_an_unchecked_program_would_be_caught(unchecked: Staged) -> None:
    """What these tests look for is there when nobody checks."""
    world = unchecked.world
    served = f"server {{ listen 127.0.0.1:{world.http_port}; server_name one.test; "
    attacks = {
        "none": f"{served} return 200; }}\n",
        "read": f"map $host $edge_x {{ include {world.secret}; }}\n{served} return 200; }}\n",
        "write": f"{served} access_log {world.outside}/log; return 200; }}\n",
        "listen": f"server {{ listen UNIX:{world.outside}/x.sock; }}\n{served} return 200; }}\n",
        "socket": f"{served} location / {{ proxy_pass http://UNIX:{world.foreign_socket}:/; }} }}\n",
        "port": f"{served} location / {{ proxy_pass http://127.0.0.1:{world.foreign_port}; }} }}\n",
    }
    for name, http in attacks.items():
        result = unchecked.check(name, Tree(http.encode(), b""))
        assert result["outcome"] == "applied", (name, result)
    assert unchecked.foreign.reached == 2 and unchecked.picture() != unchecked.before
    unchecked.stop()
    found = unchecked.violations()
    assert kinds(found, "none") == set(), found
    assert kinds(found, "read") == {"reads"}
    assert kinds(found, "write") == {"writes"}
    assert "binds to a unix socket" in kinds(found, "listen")
    assert "connects to a unix socket" in kinds(found, "socket")
    assert "connects to a port" in kinds(found, "port")
