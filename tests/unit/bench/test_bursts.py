# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What many starts or ends at once came to."""

from __future__ import annotations

import json

import pytest

from bench import alone, bursts
from bench.bursts import Burst, burst, joined
from bench.lab import LabError
from bench.node import burst as program
from bench.suites.registration import FIGURES, PARTS

REPORT = {
    "began": {"b": 10.0, "a": 20.0},
    "engine": {"a": 20.030, "b": 9.990},
    "floor": {"a": 20.010, "b": 10.0},
    "seconds": 1.5,
}


def test_lags_are_paired_by_container() -> None:
    found = burst(REPORT, 2)
    assert found.engine == pytest.approx([30, -10])
    assert found.floor == pytest.approx([10, 0])
    assert found.seconds == 1.5


@pytest.mark.parametrize("side", ["engine", "floor"])
def test_a_lost_container_is_an_error(side: str) -> None:
    with pytest.raises(LabError, match=f"the {side} for 1 of 2 containers, such as b"):
        burst({**REPORT, side: {"a": 20.1}}, 2)


def test_a_container_that_docker_did_not_report_is_an_error() -> None:
    with pytest.raises(LabError, match="2 of 3"):
        burst(REPORT, 3)


def test_figures_of_several_bursts() -> None:
    found = bursts.figures("x", joined([Burst([1.0, 3.0], [1.0, 1.0], 2.0), Burst([8.0], [2.0], 3.0)]))
    assert found["x_median_ms"] == 3.0
    assert found["x_worst_ms"] == 8.0
    assert found["x_floor_median_ms"] == 1.0
    assert found["x_floor_worst_ms"] == 2.0
    assert found["x_above_floor_median_ms"] == 2.0


@pytest.mark.parametrize("kind", ["burst_start", "burst_kill", "cluster_burst_start", "cluster_burst_kill"])
def test_the_suite_declares_every_figure_of_a_burst(kind: str) -> None:
    assert set(bursts.figures(kind, Burst([1.0], [1.0], 1.0))) <= {figure.name for figure in FIGURES}
    assert {"burst", "cluster_burst"} <= set(PARTS)


def test_dockers_times() -> None:
    assert program.parse_time("1970-01-01T00:00:10.25Z") == 10.25
    assert program.parse_time("1970-01-01T00:00:10Z") == 10.0


def test_an_engine_of_its_own_needs_no_token_and_keeps_its_other_settings() -> None:
    platform = {"consul_url": "http://127.0.0.1:8500", "consul_token_file": "/etc/registrator/consul.token", "resync_seconds": 30}
    config = json.loads(alone.alone_config(json.dumps(platform)))
    assert config == {
        "consul_url": f"http://127.0.0.1:{alone.AGENT_PORT}",
        "consul_token_file": "",
        "consul_token_directory": "",
        "consul_ca_file": "",
        "resync_seconds": 30,
    }
