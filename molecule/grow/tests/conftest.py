# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The site of three servers, with callers' service on each."""

from __future__ import annotations

import lab
import pytest
import secure
import traffic


@pytest.fixture(scope="session", autouse=True)
def _three_servers() -> None:
    result = secure.play("site")
    assert result.status == 0, result.output[-8000:]
    for node in lab.NODES:
        traffic.start_service(node)
    traffic.wait_until_served(*lab.NODES)
