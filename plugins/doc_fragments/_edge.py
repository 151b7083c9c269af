# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The description of an edge, as the edge filters take it, computed from its schema. Private to the collection."""

from __future__ import annotations

import yaml

from ..plugin_utils._edge.option import documentation
from ..plugin_utils._edge.options import SCHEMA

_DOCUMENTATION = {
    "options": {
        "_input": {
            "description": ["The description of the edge. The same one serves both sides; each side checks all of it."],
            "type": "dict",
            "required": True,
            "suboptions": documentation(SCHEMA),
        }
    }
}


class ModuleDocFragment:
    """Shared documentation."""

    DOCUMENTATION = yaml.safe_dump(_DOCUMENTATION, sort_keys=False, allow_unicode=True)
