# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the apply program once for each line of the input, in one traced process: LIBRARY CONFIG [--unchecked]."""

from __future__ import annotations

import os
import signal
import sys

sys.path.insert(0, sys.argv[1])

from nginx_edge import engine
from nginx_edge.cli import as_json
from nginx_edge.engine import Engine, Result
from nginx_edge.nginxconf import Document, Places
from nginx_edge.system import Trouble, load_config

# To a traced process, a question for this path says where in the trace a tree begins.
MARK = "/tree"


def unchecked(_document: Document, _side: str, _places: Places) -> list[tuple[int, str]]:
    """Allow everything: what the tests of these tests find then, they would find."""
    return []


def main() -> None:
    """Apply until the input ends, then end nginx."""
    if "--unchecked" in sys.argv:
        engine.objections = unchecked
    config = load_config(sys.argv[2])
    for line in sys.stdin:
        os.access(f"{MARK}/{line.strip()}", os.F_OK)
        try:
            result = Engine(config).apply()
        except (Trouble, OSError) as error:
            result = Result("failed", str(error), None, False, getattr(error, "blame", "host"))
        print(as_json(result), flush=True)
    master = engine.Nginx(config).master()
    if master:
        os.kill(master, signal.SIGTERM)


main()
