# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A key that the site replaced or withdrew leaves every generation on the disk, and no rollback serves it again."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from certificate_site import Site, keys, serving_site

if TYPE_CHECKING:
    from apply_rig import Edge

LIVE_TOO = "was withdrawn and is still served, because what is staged names it"


@pytest.fixture
def site(edge: Edge) -> Site:
    """An edge that serves the certificate ``first``."""
    return serving_site(edge)


def key_of(site: Site) -> str:
    """Return the key that the site has now."""
    return site.file.read_text().partition("-----BEGIN PRIVATE KEY-----")[2]


def holders(site: Site, key: str) -> set[str]:
    """Return the generations, or whatever else is below the state directory, in which a key is."""
    return {str(path.relative_to(site.edge.state)) for path in keys(site.edge.state) if key in path.read_text()}


def put_another_on_top(site: Site) -> None:
    """Make one more generation without another certificate."""
    site.edge.stage(site.http + site.edge.http("one"), site.stream)
    assert site.edge.apply("--strict")["outcome"] == "applied"


def served_elsewhere(site: Site) -> None:
    """Let nothing that is staged need the certificate."""
    site.edge.stage(site.edge.http("one"), "")
    assert site.edge.apply("--strict")["outcome"] == "applied"


def test_a_replaced_key_leaves_every_generation(site: Site) -> None:
    put_another_on_top(site)
    former = key_of(site)
    assert holders(site, former) == {"trees/000001/tls/apps.pem", "trees/000002/tls/apps.pem"}
    site.give(*site.pair("second"))
    assert site.edge.apply("--strict")["outcome"] == "applied"
    assert holders(site, former) == set()
    assert len(holders(site, key_of(site))) == 3
    assert {path.stat().st_mode & 0o777 for path in keys(site.edge.state)} == {0o600}
    assert site.edge.apply()["outcome"] == "unchanged"


@pytest.mark.parametrize("target", ["", "1"])
def test_a_rollback_serves_the_present_certificate(site: Site, target: str) -> None:
    site.give(*site.pair("second", days=5))
    assert site.edge.apply()["outcome"] == "applied"
    done = site.edge.run("--rollback", *([target] if target else []))
    assert done.returncode == 0, done.stdout
    assert "generation 000001 is live again with the present certificate apps; changes are held" in done.stdout
    assert site.served() == "second"
    # What is reported of it is the present one, too.
    assert site.edge.status()["certificates"]["apps"] > time.time() + 3 * 86400
    assert site.edge.run("--resume").returncode == 0
    assert site.served() == "second"


def test_a_rollback_before_the_next_apply_serves_the_present_certificate_too(site: Site) -> None:
    put_another_on_top(site)
    former = key_of(site)
    site.give(*site.pair("second"))
    assert site.edge.run("--rollback").returncode == 0
    assert site.served() == "second"
    assert holders(site, former) == set()


def test_a_withdrawn_key_leaves_with_the_last_server_that_needs_it(site: Site) -> None:
    former = key_of(site)
    put_another_on_top(site)
    site.file.unlink()
    assert site.edge.apply("--strict")["serving"]
    assert site.served() == "first"
    assert f"FORMER      certificate apps {LIVE_TOO}" in site.edge.run("--status").stdout
    served_elsewhere(site)
    assert holders(site, former) == set()
    status = site.edge.run("--status").stdout
    assert "FORMER      generation 000001 cannot be gone back to: certificate apps was withdrawn" in status
    assert LIVE_TOO not in status
    assert "certificate apps: withdrawn since generation 000002" in site.edge.run("--diff").stdout


def test_a_certificate_that_is_withdrawn_after_the_last_server_leaves_with_the_next_run(site: Site) -> None:
    former = key_of(site)
    served_elsewhere(site)
    assert holders(site, former) == {"trees/000001/tls/apps.pem"}
    site.file.unlink()
    assert site.edge.apply("--strict")["outcome"] == "unchanged"
    assert holders(site, former) == set()


def test_no_rollback_brings_a_withdrawn_key_back(site: Site) -> None:
    site.edge.stage(site.edge.http("one"), "")
    assert site.edge.apply("--strict")["outcome"] == "applied"
    site.edge.stage(site.edge.http("one", "two"), "")
    assert site.edge.apply("--strict")["outcome"] == "applied"
    pair = site.pair("again")
    site.file.unlink()
    refused = site.edge.run("--rollback", "1")
    assert refused.returncode == 1
    assert "generation 000001 needs certificate apps, which was withdrawn: give it in nginx_tls_certificates again" in refused.stdout
    assert "there are: 000002" in refused.stdout
    assert site.edge.ask("two") == (200, "two")
    # Nothing is held, and another generation is still there.
    assert site.edge.apply()["outcome"] == "unchanged"
    site.give(*pair)
    assert site.edge.run("--rollback", "1").returncode == 0
    assert site.served() == "again"


def test_a_bad_certificate_does_not_take_the_good_one_from_earlier_generations(site: Site) -> None:
    put_another_on_top(site)
    site.give("nonsense")
    assert site.edge.apply("--strict")["outcome"] == "failed"
    assert site.edge.run("--rollback").returncode == 0
    assert site.served() == "first"


def test_a_held_edge_takes_a_replaced_certificate(site: Site) -> None:
    put_another_on_top(site)
    assert site.edge.run("--rollback").returncode == 0
    former = key_of(site)
    site.give(*site.pair("second"))
    assert "FORMER      certificate apps was replaced and the former one is still served" in site.edge.run("--status").stdout
    result = site.edge.apply("--strict")
    assert (result["outcome"], result["changed"], result["generation"]) == ("held", True, "000003"), result
    assert "generation 000003 is 000001 with the present certificates" in result["message"]
    assert site.served() == "second" and site.edge.ask("one")[0] == 404
    assert holders(site, former) == set()
    again = site.edge.apply("--strict")
    assert (again["outcome"], again["changed"], again["generation"]) == ("held", False, "000003")
    assert site.edge.run("--resume").returncode == 0
    assert site.edge.ask("one")[0] == 200 and site.served() == "second"


def test_what_is_staged_and_bad_keeps_no_former_key_served(site: Site) -> None:
    """Who can stage, or register, must not keep a compromised key in use."""
    former = key_of(site)
    site.edge.stage(site.http + "nonsense\n", site.stream)
    assert site.edge.apply("--strict")["outcome"] == "failed"
    site.give(*site.pair("second"))
    result = site.edge.apply("--strict")
    assert (result["outcome"], result["blame"], result["serving"]) == ("failed", "staged", True), result
    assert "generation 000002 is 000001 with the present certificates" in result["message"]
    assert site.served() == "second"
    assert holders(site, former) == set()
    site.stage()
    assert site.edge.apply("--strict")["serving"] and site.served() == "second"


def test_a_refused_shrink_keeps_no_former_key_served(site: Site) -> None:
    names = [f"n{number}" for number in range(6)]
    site.edge.stage(site.http + site.edge.http(*names), site.stream)
    assert site.edge.apply("--strict")["outcome"] == "applied"
    former = key_of(site)
    site.stage()
    site.give(*site.pair("second"))
    result = site.edge.apply("--strict")
    assert (result["outcome"], result["serving"]) == ("refused", True), result
    assert site.served() == "second" and site.edge.ask("n5") == (200, "n5")
    assert holders(site, former) == set()
    assert site.edge.status()["refused"]["gone_count"] == 6
    assert site.edge.run("--confirm-shrink").returncode == 0
    assert site.edge.ask("n5")[0] == 404


@pytest.mark.parametrize("step", ["journal", "swapped", "verified", "committed"])
def test_a_run_that_is_killed_leaves_the_rest_to_the_next(site: Site, step: str) -> None:
    former = key_of(site)
    put_another_on_top(site)
    site.give(*site.pair("second"))
    site.edge.run(crash=step)
    # Until the next generation is verified and written down, the one before may be needed as it was.
    assert "trees/000002/tls/apps.pem" in holders(site, former)
    assert site.edge.apply("--strict")["serving"]
    assert site.served() == "second" and holders(site, former) == set()


def test_what_failed_and_what_is_checked_has_no_key(site: Site) -> None:
    site.edge.stage(site.http + "server { listen 127.0.0.1:1; return 200; }\nserver { listen 127.0.0.1:1; return 200 }\n", site.stream)
    assert site.edge.apply("--strict")["outcome"] == "failed"
    site.give(*site.pair("second"))
    site.edge.run("--check")
    assert {path.split("/")[0] for path in holders(site, "")} == {"trees"}
    assert not os.path.exists(site.edge.state / "check")
