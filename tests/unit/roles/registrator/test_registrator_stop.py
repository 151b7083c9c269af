# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine ends when it is told to, whichever of its threads the kernel gives the signal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FILES = Path(__file__).resolve().parents[4] / "roles" / "registrator" / "files"
# The main thread waits for a lock, as it does for the queue, and the signal goes to another one. The second time, the first is long over.
_PROGRAM = """
import signal, threading
from registrator import cli
heard = threading.Semaphore(0)
cli.call_at_stop_signal(heard.release)
for number in (signal.SIGTERM, signal.SIGINT):
    threading.Thread(target=lambda: signal.pthread_kill(threading.get_ident(), number)).start()
    print(heard.acquire(timeout=10))
"""


def test_a_stop_signal_is_heard_whichever_thread_gets_it() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], cwd=FILES, capture_output=True, text=True, timeout=40, check=False)
    assert done.stdout == "True\nTrue\n", done.stderr
