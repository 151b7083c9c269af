# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The logs of an edge are rotated by their size, by the units of the role, and nginx goes on in the new one."""

from __future__ import annotations

import lab
import pytest


@pytest.mark.parametrize("node", lab.EDGES)
def test_a_log_that_is_too_large_is_rotated(node: str) -> None:
    # Requests for names that no service has are logged there.
    log = "/var/log/nginx/access.log"
    ask = "curl -s -o /dev/null -w '%{http_code}' -H 'Host: unknown.test' http://127.0.0.1/"
    logged = f"{ask}; test -s {log} && echo ' logged' || echo ' lost'"
    lab.wait_for(lambda: lab.run(node, logged) == "404 logged", 20, "nginx logs")
    before = lab.run(node, f"stat -c %i {log}")
    # Sparse: the size counts, not what is on the disk.
    lab.run(node, f"truncate -s +201M {log}")
    try:
        lab.wait_for(lambda: lab.run(node, f"stat -c %i {log}") != before, 60, "the log is rotated")
        assert lab.run(node, f"stat -c %i {log}.1") == before
        lab.wait_for(lambda: lab.run(node, logged) == "404 logged", 20, "nginx goes on in the new log")
        assert lab.run(node, f"stat -c '%a %U' {log}") == "640 www-data"
    finally:
        lab.run(node, f"truncate -s 0 {log}.1", check=False)
    assert lab.run(node, "journalctl -q -u nginx-edge-logs -p warning") == ""
