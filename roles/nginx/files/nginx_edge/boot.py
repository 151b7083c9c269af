# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After a start of the host, serve nothing of before until the catalogue has been rendered anew.

While the host was away, or when it lost its power together with others, containers got other ports, and those of
before may belong to other services. systemd-tmpfiles removes what was staged and makes a mark at a start of the host,
and only then. While the mark is there and empty, nginx waits for its start. What is rendered first may be the catalogue
of before: after a power cut of all nodes, that is what a new leader has, until the agent of each node has told it what
the node runs now. So it has some seconds. When nothing has been rendered for too
long, because Consul is away, instances at ports of their own are still where they were, and are served: then the mark
says so, and stays until something is rendered.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from .config import Config
from .files import read_text, replace_file
from .journal import log
from .render import SIDES

_LATE = "nothing has been rendered, and nginx has started without\n"
_LOOK_SECONDS = 0.05


def begun(config: Config) -> bool:
    """Return whether nothing has been applied that was rendered since the host started."""
    return os.path.exists(config.boot_mark)


def _before(config: Config) -> set[str]:
    """Return the names of the staged files of which something was served before.

    Without the live link, it may have been what any of the trees has."""
    trees, others = [config.live], f"{config.state_dir}/trees"
    if not os.path.exists(config.live):
        trees = [f"{others}/{name}" for name in (os.listdir(others) if os.path.isdir(others) else [])]
    return {name for _, name, kept in SIDES if any(read_text(f"{tree}/{kept}") for tree in trees)}


def rendered(config: Config) -> bool:
    """Return whether all that was served before has been rendered since the host started."""
    return all(os.path.lexists(f"{config.state_dir}/staging/{name}") for name in _before(config))


def closed(config: Config) -> bool:
    """Return whether nginx waits for its start."""
    return read_text(config.boot_mark) == ""


def waiting(config: Config) -> bool:
    """Return whether what would let nginx start has not been rendered yet."""
    return closed(config) and not rendered(config)


def settling(config: Config) -> bool:
    """Return whether what has been rendered may still be the catalogue of before."""
    return begun(config) and rendered(config) and bool(_before(config))


def end(config: Config) -> bool:
    """Take the mark away: from here on, the edge is what the catalogue says. Return whether there was one."""
    if not begun(config):
        return False
    os.unlink(config.boot_mark)
    return True


def be_late(config: Config) -> bool:
    """Let nginx start without anything new; return whether it waited."""
    if not closed(config):
        return False
    replace_file(config.boot_mark, _LATE, sync=False)
    return True


class Start:
    """What a run has to know of the start of the host.

    Attributes:
        booting: this run is the first one since the host started that has something new to go by.
        late: there is nothing new to go by, and nothing waits for it any more.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.booting = self.late = False

    def look(self) -> None:
        """Find out whether something has been applied since the host started, and whether there is something new."""
        first = begun(self.config)
        self.booting = first and rendered(self.config)
        self.late = first and not self.booting

    def keep_to_before(self) -> None:
        """Go by what was served before the host started: what has been rendered since cannot be applied."""
        self.late, self.booting = self.late or self.booting, False

    def let_nginx_start(self) -> bool:
        """Let nginx start, which waits for a tree after a start of the host; return whether the mark changed."""
        try:
            return end(self.config) if self.booting else be_late(self.config)
        except OSError as error:
            log("failed", f"{self.config.boot_mark}: {error.strerror}: nginx waits until its time is over")
            return False


def wait(over: Callable[[], bool], seconds: float) -> bool:
    """Wait until it is over; return whether the time was."""
    deadline = time.monotonic() + seconds
    while not over():
        if time.monotonic() >= deadline:
            return True
        time.sleep(_LOOK_SECONDS)
    return False
