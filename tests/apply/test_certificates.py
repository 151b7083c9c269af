# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates are part of a generation: a good one goes live by a checked apply, a bad one leaves the old one served, also after a restart."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from certificate_site import Site, keys, serving_site

if TYPE_CHECKING:
    from apply_rig import Edge


@pytest.fixture
def site(edge: Edge) -> Site:
    """An edge that serves the certificate ``first``."""
    return serving_site(edge)


def test_only_root_reads_keys(site: Site) -> None:
    found = keys(site.edge.state)
    assert len(found) == 1
    for path in found:
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700


def test_the_end_of_a_certificate_is_told(site: Site) -> None:
    done = subprocess.run(["openssl", "x509", "-noout", "-enddate", "-in", str(site.file)], capture_output=True, text=True, check=True, timeout=30)
    end = time.mktime(time.strptime(done.stdout.strip(), "notAfter=%b %d %H:%M:%S %Y GMT")) - time.timezone
    assert site.edge.status()["certificates"] == {"apps": end}
    assert time.strftime("certificate apps ends %Y-%m-%d %H:%M UTC", time.gmtime(end)) in site.edge.run("--status").stdout
    metrics = (site.edge.state / "metrics.prom").read_text()
    assert f'nginx_edge_certificate_expiry_timestamp_seconds{{certificate="apps"}} {end:.15g}\n' in metrics


def test_a_renewed_certificate_goes_live(site: Site) -> None:
    assert site.edge.apply()["outcome"] == "unchanged"
    site.give(*site.pair("second"))
    result = site.edge.apply("--strict")
    assert (result["outcome"], result["generation"]) == ("applied", "000002")
    assert site.served() == "second"
    assert site.edge.apply()["outcome"] == "unchanged"
    difference = site.edge.run("--diff").stdout
    assert difference == "certificate apps: replaced since generation 000001, which has the present one now\n"


@pytest.mark.parametrize("fault", ["another key", "no key", "no certificate", "cut short"])
def test_a_bad_certificate_leaves_the_old_one_served(site: Site, fault: str) -> None:
    certificate, key = site.pair("second")
    _, other = site.pair("other")
    texts = {"another key": (certificate, other), "no key": (certificate,), "no certificate": (key,), "cut short": (certificate[:300], key)}
    site.give(*texts[fault])
    workers = site.edge.workers()
    result = site.edge.apply("--strict")
    assert (result["outcome"], result["blame"], result["serving"]) == ("failed", "platform", True)
    assert "nginx refuses certificate apps: " in result["message"] and str(site.file) in result["message"]
    assert "give nginx_tls_certificates a good one" in result["message"]
    assert site.served() == "first" and site.edge.workers() == workers
    # The bad file is nothing to nginx, also when it starts anew.
    site.edge.stop(signal.SIGKILL)
    site.edge.wait_until(lambda: site.edge.apply()["serving"], "nginx serves again", 60)
    assert site.served() == "first"
    # What failed is kept for people, without the keys.
    assert list((site.edge.state / "failed").glob("*/reason.txt"))
    assert not keys(site.edge.state / "failed")
    site.give(*site.pair("third"))
    assert site.edge.apply("--strict")["outcome"] == "applied"
    assert site.served() == "third"


def test_a_certificate_that_is_not_there_is_named(site: Site) -> None:
    site.edge.stage(site.http.replace("apps", "other"), site.stream)
    result = site.edge.apply()
    assert (result["outcome"], result["blame"]) == ("failed", "staged")
    assert f'staged http.conf, line 3 (server "web.test"): there is no certificate {site.edge.base}/tls/other.pem' in result["message"]
    assert site.served() == "first"


def test_a_certificate_that_was_taken_away_stays_until_nothing_needs_it(site: Site) -> None:
    """The role takes the file away before consul-template learns of it."""
    site.file.unlink()
    assert site.edge.apply("--strict")["outcome"] == "unchanged"
    site.edge.stage(site.http + site.edge.http("one"), site.stream)
    assert site.edge.apply("--strict")["outcome"] == "applied"
    assert site.served() == "first"
    site.edge.stage(site.edge.http("one"), "")
    assert site.edge.apply("--strict")["outcome"] == "applied"
    site.stage()
    assert "there is no certificate" in site.edge.apply()["message"]


@pytest.mark.parametrize("step", ["built", "swapped", "signalled"])
def test_a_run_that_is_killed_leaves_one_of_the_two_served(site: Site, step: str) -> None:
    site.give(*site.pair("second"))
    site.edge.run(crash=step)
    assert site.served() in ("first", "second")
    assert site.edge.apply("--strict")["serving"]
    assert site.served() == "second"


def test_sockets_of_a_killed_nginx_do_not_stop_the_next_one(site: Site) -> None:
    site.edge.stop(signal.SIGKILL)
    assert (site.edge.sockets / "tls-apps.sock").is_socket()
    result = site.edge.apply("--strict")
    assert (result["outcome"], result["serving"]) == ("repaired", True), result
    assert site.served() == "first"


def test_connections_live_through_a_renewal(site: Site) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", site.port), 10) as raw, context.wrap_socket(raw, server_hostname="web.test") as connection:
        # Half a request, so that the connection is in use while nginx changes.
        connection.sendall(b"GET / HTTP/1.1\r\nHost: web.test\r\n")
        site.give(*site.pair("second"))
        assert site.edge.apply()["outcome"] == "applied"
        connection.sendall(b"Connection: close\r\n\r\n")
        assert b"".join(iter(lambda: connection.recv(4096), b"")).endswith(b"web\n")
    assert site.served() == "second"


def test_a_pair_that_nobody_uses_is_not_copied(site: Site) -> None:
    (site.edge.base / "tls" / "unused.pem").write_text("".join(site.pair("unused")))
    assert site.edge.apply()["outcome"] == "unchanged"
    assert len(keys(site.edge.state)) == 1


def test_check_judges_a_certificate_without_using_it(site: Site) -> None:
    site.give(*site.pair("second"))
    answer: dict[str, Any] = site.edge.apply("--check")
    assert (answer["outcome"], answer["changed"]) == ("unchanged", True)
    assert site.served() == "first" and len(keys(site.edge.state)) == 1
    site.give("nonsense")
    assert site.edge.run("--check").returncode == 1
    assert os.listdir(site.edge.state / "trees") == ["000001"]
