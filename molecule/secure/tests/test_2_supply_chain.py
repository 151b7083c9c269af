# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mirror in the hands of others: nothing of it is installed, and nothing on a node changes."""

from __future__ import annotations

import contextlib
import functools
import http.server
import shutil
import threading
import typing as t
from pathlib import Path

import lab
import pytest
import secure

EDGE = lab.EDGES[0]
PLACE = "/opt/consul-template"
#: This machine, as the nodes reach it.
GATEWAY = f"{lab.NETWORK}.1"


@contextlib.contextmanager
def mirror_of(directory: str) -> t.Iterator[str]:
    """The address of a mirror that offers what a directory has."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=directory)
    with http.server.ThreadingHTTPServer((GATEWAY, 0), handler) as mirror:
        thread = threading.Thread(target=mirror.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://{GATEWAY}:{mirror.server_port}"
        finally:
            mirror.shutdown()
            thread.join(20)


def processes() -> dict[str, str]:
    """The main process of each service."""
    ask = "systemctl show -p MainPID --value consul registrator docker"
    return {node: lab.run(node, ask) for node in lab.NODES}


@pytest.fixture(name="without")
def fixture_without() -> t.Iterator[dict[str, str]]:
    """An edge that needs consul-template once more; the processes of all nodes."""
    lab.run(EDGE, f"mv {PLACE} {PLACE}.kept")
    try:
        yield processes()
    finally:
        lab.run(EDGE, f"rm -rf {PLACE} && mv {PLACE}.kept {PLACE}")


def test_a_mirror_with_other_archives_than_those_of_the_release_changes_nothing(without: dict[str, str]) -> None:
    """An archive that was built elsewhere, with a list that fits it: the checksums of the default versions are in the collection."""
    with mirror_of(lab.MIRROR) as address:
        run = secure.play("site", platform_artifact_mirror=address)
    assert run.status != 0 and run.changed == 0, run.changes()
    said = " ".join(run.output.split())
    assert "the mirror offers consul-template_" in said and "and that of the release is" in said, run.output[-3000:]
    assert processes() == without


def test_an_archive_that_was_changed_on_its_way_is_not_installed(without: dict[str, str], tmp_path: Path) -> None:
    """It is not what the list of its own directory says."""
    mirror = tmp_path / "mirror"
    shutil.copytree(lab.MIRROR, mirror, ignore=shutil.ignore_patterns("images"))
    for archive in mirror.glob("consul-template/*/*.zip"):
        with archive.open("ab") as file:
            file.write(b"\0")
    run = secure.play("site", platform_artifact_mirror=str(mirror))
    assert run.status != 0 and "checksum" in run.output.lower(), run.output[-3000:]
    assert lab.run(EDGE, f"find {PLACE} -type f 2>/dev/null", check=False) == "", "nothing of the archive is left"
    assert processes() == without
