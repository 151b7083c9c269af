# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the apply program once for each line of the input, in one traced process: LIBRARY CONFIG [--unchecked]."""

from __future__ import annotations

import os
import signal
import sys

sys.path.insert(0, sys.argv[1])

from nginx_edge import staged
from nginx_edge.cli import as_json
from nginx_edge.config import load_config
from nginx_edge.errors import ApplyError
from nginx_edge.nginx import Nginx
from nginx_edge.nginxconf import Document, Places
from nginx_edge.run import Run
from nginx_edge.status import Result

# To a traced process, a question for this path says where in the trace a tree begins.
MARK = "/tree"


def unchecked(_document: Document, _side: str, _places: Places) -> list[tuple[int, str]]:
    """Allow everything: what the tests of these tests find then, they would find."""
    return []


def main() -> None:
    """Apply until the input ends, then end nginx."""
    if "--unchecked" in sys.argv:
        staged.objections = unchecked
    config = load_config(sys.argv[2])
    for line in sys.stdin:
        os.access(f"{MARK}/{line.strip()}", os.F_OK)
        try:
            result = Run(config).apply()
        except (ApplyError, OSError) as error:
            result = Result("failed", str(error), None, False, getattr(error, "blame", "host"))
        print(as_json(result), flush=True)
    master = Nginx(config).master()
    if master:
        os.kill(master, signal.SIGTERM)


main()
