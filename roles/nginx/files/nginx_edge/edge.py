# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The edge on this host, as the parts of a run share it."""

from __future__ import annotations

import os
import signal
import time

from . import boot
from . import state as states
from .check import check_tree
from .config import Config
from .errors import ApplyError
from .files import Lock, read_text, replace_file, swap_link
from .nginx import Nginx
from .nginxconf import Listener
from .trees import Trees


class Edge:
    """Configuration, generations, state and nginx."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.trees = Trees(config)
        self.nginx = Nginx(config)
        self.start = boot.Start(config)
        self.state = states.empty()
        self.state_changed = False

    def lock(self) -> Lock:
        """Return the lock of a run."""
        return Lock(f"{self.config.state_dir}/lock", max(60.0, 6 * self.config.timeout))

    def step(self, name: str) -> None:
        """Mark a place where a test may kill the program without warning, or halt it to change the host meanwhile."""
        if self.config.testing:
            for variable, number in (("NGINX_EDGE_CRASH", signal.SIGKILL), ("NGINX_EDGE_HALT", signal.SIGSTOP)):
                if os.environ.get(variable) == name:
                    os.kill(os.getpid(), number)

    # -- state ---------------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Read the state file."""
        self.state = states.load(read_text(f"{self.config.state_dir}/state.json"))

    def write_state(self) -> None:
        """Write the state file."""
        replace_file(f"{self.config.state_dir}/state.json", states.dump(self.state))

    def set_pending(self, live: str | None, generation: str, **more: object) -> None:
        """Note on the disk that a change is on its way, before it begins."""
        pending = {"from": live, "to": generation, "since": round(time.time(), 3), **more}
        self.state["pending"] = pending
        self.write_state()

    def commit(self, generation: str, note: str, services: set[str]) -> None:
        """Note that a generation is live and verified."""
        state, now = self.state, time.time()
        state["live"], state["pending"], state["refused"] = generation, None, None
        state["next"] = max(state["next"], int(generation) + 1)
        entry = {"generation": generation, "activated": round(now, 3), "services": len(services), "note": note}
        state["history"] = [old for old in state["history"] if old["generation"] != generation] + [entry]
        states.remember_seen(state, services, now, self.config.shrink_window)
        self.trees.remove_all_but({*states.prune_history(state, self.config.history)})
        self.state_changed = True

    # -- nginx ---------------------------------------------------------------------------------------------------------

    def is_served(self, generation: str | None) -> bool:
        """Return whether nginx answers with a generation."""
        return generation is not None and self.nginx.generation() == generation

    def is_refused(self, generation: str) -> bool:
        """Return whether nginx refuses a tree that is on the disk."""
        try:
            check_tree(self.config, self.trees.path(generation), {})
        except ApplyError:
            return True
        return False

    def switch(self, generation: str, sockets: set[Listener], good: frozenset[int] = frozenset()) -> str:
        """Make a generation live in nginx, which is started if needed; return an empty text, or what is wrong."""
        swap_link(self.config.live, f"trees/{generation}")
        self.step("swapped")
        return self.serve(generation, sockets, good)

    def serve(self, generation: str, sockets: set[Listener], good: frozenset[int] = frozenset()) -> str:
        """Let nginx read what the link names, and wait until it serves it.

        Good workers are known to serve it already and may stay."""
        deadline = time.monotonic() + self.config.timeout
        master = self.nginx.master()
        workers = self.nginx.active_workers(master) if master else set()
        if master:
            try:
                os.kill(master, signal.SIGHUP)
            except ProcessLookupError:
                master = 0
        if not master:
            # nginx waits until there is a tree for it. How this run ends is not known yet.
            boot.be_late(self.config)
            trouble = self.nginx.start()
            if trouble:
                unusable = self.nginx.unusable(sockets, 0)
                held = "; ".join(f"{listener} {reason}" for listener, reason in sorted(unusable.items()))
                return f"nginx does not start: {held or ' '.join(trouble.split())[-400:]}"
        self.step("signalled")
        return self.nginx.wait_for(generation, sockets, workers - good, deadline)

    def ensure(self, generation: str) -> tuple[bool, bool, str]:
        """Let nginx serve the generation that is linked; return (serves it, something was done, what is wrong)."""
        if self.nginx.generation() == generation and self.nginx.master():
            return True, False, ""
        trouble = self.serve(generation, self.trees.sockets(generation))
        return not trouble, True, trouble
