# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures, reports and pictures."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml

from bench import report, svg
from bench.__main__ import arguments, readme_tables
from bench.figures import Figure, Figures, Target
from bench.lab import EDGE_DOMAIN
from bench.options import Options
from bench.report import Outcome, Table
from bench.suites import SUITES

ROOT = Path(__file__).resolve().parents[3]
DECLARED = (
    Figure("fast_ms", "ms", "how fast", Target("<=", 30)),
    Figure("many", "things", "how many"),
    Figure("lost", "requests", "how many lost", Target("<=", 0)),
)
HOST = {"processors": 2, "memory_gib": 23.4, "kernel": "6.1", "architecture": "x86_64", "load_before": 0.1}


def outcome() -> Outcome:
    made = Outcome("sample", "A <sample>", Figures(DECLARED))
    made.figures.set("fast_ms", 31.23456)
    made.figures.set("lost", 0)
    made.add_series("fast", "ms", [30, 31.23456, 33])
    made.panels.append(svg.Panel("How fast", "ms", [svg.Row("a & b", [30, 31.2, 33], "platform"), svg.Row("nothing", [])]))
    made.tables.append(Table("Slowest", ["what", "seconds"], [["a task", 1.25], ["another", 3]]))
    made.note("One thing & another.")
    made.note("One thing & another.")
    return made


def test_figures_must_be_declared_and_are_set_once() -> None:
    figures = Figures(DECLARED)
    with pytest.raises(KeyError, match="unheard_of"):
        figures.set("unheard_of", 1)
    figures.set("many", 3)
    with pytest.raises(ValueError, match="measured twice"):
        figures.set("many", 4)
    assert figures.missing() == ["fast_ms", "lost"]


@pytest.mark.parametrize(("target", "value", "met"), [("<= 1.5", 1.5, True), ("< 1000", 1000, False), (">= 0.95", 0.9, False), ("<= 0", 0, True)])
def test_targets(target: str, value: float, met: bool) -> None:
    comparison, wanted = target.split()
    made = Target(comparison, float(wanted))
    assert made.met(value) is met
    assert str(made) == target


def test_document_and_files(tmp_path: Path) -> None:
    made = outcome()
    document = report.as_document(made, HOST, "abc", 0, 12.4)
    assert document["figures"] == {"fast_ms": 31.23, "lost": 0}
    assert document["units"] == {"fast_ms": "ms", "lost": "requests"}
    assert document["targets"]["fast_ms"] == {"target": "<= 30", "value": 31.23, "met": False}
    assert document["targets"]["lost"]["met"] is True
    assert document["series"]["fast"]["median"] == 31.23
    assert document["series"]["fast"]["n"] == 3
    assert document["notes"] == ["One thing & another."]
    paths = report.write(made, tmp_path, document)
    assert [path.name for path in paths] == ["sample.json", "sample.md", "sample.svg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sample.json", "sample.md", "sample.svg"]
    assert json.loads(paths[0].read_text()) == document
    text = paths[1].read_text()
    assert "| `fast_ms` | 31.23 | ms | <= 30 | no |" in text
    assert "## Slowest\n\n| what | seconds |\n|---|---|\n| a task | 1.25 |\n| another | 3 |\n" in text
    assert document["tables"] == [{"title": "Slowest", "head": ["what", "seconds"], "rows": [["a task", 1.25], ["another", 3]]}]
    assert "busy" not in text
    screen = report.screen(document)
    assert "NOT reached: fast_ms is 31.23, to reach <= 30" in screen
    assert re.search(r"^reached: lost is 0", screen, re.MULTILINE)


def test_a_busy_machine_is_named() -> None:
    document = report.as_document(outcome(), {**HOST, "load_before": 3.0}, "abc", 0, 1)
    assert "load average 3" in report.as_markdown(document, {figure.name: figure for figure in DECLARED})


def test_the_picture_is_xml_with_every_row_sample_and_mark() -> None:
    root = ET.fromstring(svg.picture("A <sample>", outcome().panels))
    space = {"s": "http://www.w3.org/2000/svg"}
    texts = ["".join(text.itertext()) for text in root.findall(".//s:text", space)]
    assert {"A <sample>", "a & b", "nothing", "not measured", "31.2", "How fast (ms)"} <= set(texts)
    assert len(root.findall(".//s:circle", space)) == 3
    inside = [float(circle.get("cx", 0)) for circle in root.findall(".//s:circle", space)]
    assert all(svg.LABEL_WIDTH <= place <= svg.WIDTH - svg.VALUE_WIDTH for place in inside)
    assert float(root.get("height", 0)) > max(float(text.get("y", 0)) for text in root.findall(".//s:text", space))


@pytest.mark.parametrize(("top", "step"), [(1, 0.2), (33, 10), (240, 50), (17_700, 5000), (0.4, 0.1)])
def test_marks_are_round(top: float, step: float) -> None:
    assert svg.nice_step(top) == pytest.approx(step)


def test_a_picture_of_nothing_but_zero() -> None:
    ET.fromstring(svg.picture("Zero", [svg.Panel("Lost", "requests", [svg.Row("none", [0.0])])]))


# -- what the suites promise -------------------------------------------------------------------------------------------------


def test_the_readme_documents_every_figure() -> None:
    readme = (ROOT / "bench" / "README.md").read_text()
    inside = readme.partition("<!-- BEGIN FIGURES -->\n")[2].partition("\n<!-- END FIGURES -->")[0]
    assert inside.strip() == readme_tables().strip(), "put the output of 'python -m bench --figures' between the marks of bench/README.md"


@pytest.mark.parametrize("name", sorted(SUITES))
def test_figures_of_a_suite(name: str) -> None:
    figures = SUITES[name].figures
    names = [figure.name for figure in figures]
    assert len(names) == len(set(names))
    for figure in figures:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", figure.name)
        assert figure.unit and figure.what
        assert "|" not in figure.what, "it would break the table"
        for unit in ("ms", "mb", "rps"):
            if figure.name.endswith(f"_{unit}"):
                assert figure.unit == {"ms": "ms", "mb": "MB", "rps": "requests/s"}[unit]


def test_the_command_line_names_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert arguments([]).suites == list(SUITES)
    assert arguments(["edge", "--part", "growth"]).suites == ["edge"]
    assert arguments(["--part", "idle"]).suites == ["registration"]
    assert arguments(["dns", "--part", "plain", "--short"]).short is True
    with pytest.raises(SystemExit):
        arguments(["edge", "--part", "idle"])
    assert "there is no part idle; there are: edge: change" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        arguments(["dns2"])
    with pytest.raises(SystemExit):
        arguments(["registration", "--containers", "0"])


def test_a_short_run_takes_a_fourth_and_never_nothing() -> None:
    whole, short = Options((), 1, print), Options((), 1, print, short=True)
    assert [whole.few(20), short.few(20), short.few(2), short.few(3, 2)] == [20, 5, 1, 2]


def test_only_a_suite_with_nodes_of_its_own_runs_without_others() -> None:
    assert [name for name, suite in SUITES.items() if not suite.nodes] == ["converge"]


def test_the_domain_is_that_of_the_nodes() -> None:
    variables = yaml.safe_load((ROOT / "inventories" / "demo" / "group_vars" / "all.yml").read_text())
    assert variables["platform_edge_domain"] == EDGE_DOMAIN
