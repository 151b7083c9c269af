# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the engine importable as it is on a node, and the recorded containers available."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
DATA = HERE / "data"
ENGINES = sorted(path.name for path in DATA.iterdir())
ROLE = HERE.parents[3] / "roles" / "registrator"
sys.path.insert(0, str(ROLE / "files"))


def _loader(engine: str) -> Any:
    def load(name: str, **labels: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((DATA / engine / f"{name}.json").read_text(encoding="utf-8"))
        found["Config"]["Labels"] = {**(found["Config"].get("Labels") or {}), **labels}
        return found

    return load


@pytest.fixture(name="document")
def fixture_document() -> Any:
    """Gives one document recorded from the eldest engine, with labels added."""
    return _loader(ENGINES[0])


@pytest.fixture(name="documents", scope="session")
def fixture_documents() -> Any:
    """Return the same as ``document``, for a test that is repeated within one call."""
    return _loader(ENGINES[0])


@pytest.fixture(name="recorded", params=ENGINES)
def fixture_recorded(request: pytest.FixtureRequest) -> Any:
    """The same from each engine. ``record.py`` made them."""
    return _loader(request.param)


@pytest.fixture(name="recorded_events", params=ENGINES)
def fixture_recorded_events(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """One event of each kind, from each engine."""
    return [json.loads(line) for line in (DATA / request.param / "events.jsonl").read_text(encoding="utf-8").splitlines()]
