# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is registered, the edge serves exactly what the rules say, tells what it refused, and follows on."""

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest
from budget import AROUND, CATALOGUES, FOLLOW, FUZZ, LEAST_CATALOGUES, LEAST_SERVICES, SEED
from catalogues import catalogues
from fuzz_rig import Catalogue, Follower, Rig, Settings
from hypothesis import given, seed
from hypothesis import strategies as st
from named import NAMED, RARE
from oracle import REASONS


@seed(SEED)
@FUZZ
@given(catalogue=catalogues())
def test_any_catalogue(rig: Rig, catalogue: Catalogue) -> None:
    rig.check(catalogue)


@pytest.mark.parametrize("name", RARE)
@seed(SEED)
@AROUND
@given(data=st.data())
def test_a_named_catalogue_among_others(rig: Rig, name: str, data: st.DataObject) -> None:
    """What is rare is met in the company of anything, and not only when a seed happens to draw it."""
    rig.check(data.draw(catalogues(4, 12, NAMED[name])))


def test_enough_was_tried(rig: Rig) -> None:
    """Runs after the tests above, and fails when that has become a small one, or one of harmless catalogues."""
    share = min(1.0, CATALOGUES / LEAST_CATALOGUES)
    assert rig.tally.catalogues >= LEAST_CATALOGUES * share, rig.tally
    assert rig.tally.counts["services"] >= LEAST_SERVICES * share, rig.tally
    # Hypothesis draws from the numbers and words of the tested modules as well, so each change of these makes other catalogues.
    assert rig.tally.counts["exposures served"] >= 1000 * share, rig.tally
    assert rig.tally.counts["answers of instances"] >= 1500 * share, rig.tally
    missed = REASONS - set(rig.tally.reasons)
    assert share < 1.0 or len(missed) <= 2, f"never met: {sorted(missed)}"


@pytest.fixture(scope="module")
def follower(rig: Rig) -> t.Iterator[Follower]:
    """A consul-template that sees one catalogue after the other."""
    running = rig.follow(Settings())
    yield running
    running.stop()


@seed(SEED)
@FOLLOW
@given(catalogue=catalogues(4, 12))
def test_a_running_consul_template_follows_any_catalogue(rig: Rig, follower: Follower, catalogue: Catalogue) -> None:
    """No registration ends or stops it, and in the end it has what a new process would render."""
    # Consul's answer to a question that waits cuts a port to 32 bits, and the one that it gives at once does not.
    near = tuple(instance if abs(instance.port) < 2**31 else replace(instance, port=65536) for instance in catalogue.instances)
    try:
        rig.fill(Catalogue(near))
        follower.shows(rig.render(Settings()))
    finally:
        rig.clear()
    follower.shows(rig.render(Settings()))
