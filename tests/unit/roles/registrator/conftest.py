# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the engine importable as it is on a node, and the recorded containers available."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
ROLE = HERE.parents[3] / "roles" / "registrator"
sys.path.insert(0, str(ROLE / "files"))


@pytest.fixture(name="document")
def fixture_document() -> Any:
    """Gives a fresh copy of one document recorded from Docker 20.10, with labels added."""

    def load(name: str, **labels: str) -> dict[str, Any]:
        found = json.loads((HERE / "data" / f"{name}.json").read_text(encoding="utf-8"))
        found["Config"].setdefault("Labels", {}).update(labels)
        return copy.deepcopy(found)

    return load
