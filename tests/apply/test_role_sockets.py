# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who can reach the edge's unix sockets: the workers of a real nginx, and no other user."""

from __future__ import annotations

import grp
import os
import pwd
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from conftest import NGINX, free_port, wait_until

SCRIPT = Path(__file__).resolve().parents[2] / "roles" / "nginx" / "files" / "nginx-edge-sockets"


def close(root: Path, conf: str, directory: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the script with another directory and another nginx.conf."""
    (root / "nginx.conf").write_text(conf)
    text = SCRIPT.read_text().replace("/run/nginx-edge/tls", str(directory or root / "s")).replace("/etc/nginx/nginx.conf", str(root / "nginx.conf"))
    return subprocess.run(["sh", "-c", text], capture_output=True, text=True, timeout=20, check=False)


def connects(path: Path, user: pwd.struct_passwd, groups: list[int]) -> bool:
    """Whether a process of another user can connect to a socket; any failure but a missing right ends in an error."""
    child = os.fork()
    if not child:
        status = 2
        try:
            os.setgroups(groups)
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
            socket.socket(socket.AF_UNIX).connect(str(path))
            status = 0
        except PermissionError:
            status = 1
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 1)
    return status == 0


@pytest.fixture(name="root")
def open_directory(tmp_path: Path) -> Path:
    """A directory that other users can pass through, with one for the sockets."""
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_uid == os.getuid() and path != Path("/") and not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o011)
    (tmp_path / "s").mkdir(mode=0o700)
    return tmp_path


@pytest.mark.skipif(os.getuid() != 0, reason="needs the right to become another user")
def test_only_the_workers_reach_the_sockets(root: Path) -> None:
    assert NGINX
    user, port = "nobody", free_port()
    group = grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name
    path = root / "s" / "x.sock"
    conf = (
        f"# user root;\nuser {user} {group};\ndaemon off;\npid {root}/nginx.pid;\nerror_log {root}/error.log;\nevents {{ }}\nhttp {{\naccess_log off;\n"
        + "".join(f"{name}_temp_path {root}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        + f'server {{ listen unix:{path}; return 200 "inside"; }}\n'
        + f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://unix:{path}:; }} }}\n}}\n"
    )
    done = close(root, conf)
    assert (done.returncode, done.stderr) == (0, "")
    assert (root / "s").stat().st_mode & 0o777 == 0o710
    process = subprocess.Popen([NGINX, "-c", str(root / "nginx.conf")])
    try:

        def answer() -> str:
            try:
                with socket.create_connection(("127.0.0.1", port), 10) as connection:
                    connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    return b"".join(iter(lambda: connection.recv(4096), b"")).decode().rpartition("\r\n\r\n")[2]
            except OSError:
                return ""

        assert wait_until(answer, "nginx answers") == "inside"
        for extra, reaches in (([grp.getgrnam(group).gr_gid], True), ([], False)):
            assert connects(path, pwd.getpwnam("daemon"), extra) is reaches
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


@pytest.mark.parametrize(
    ("line", "group"),
    [
        ("user {name};", "{name}"),
        ("  user\tsomebody   {name} ;", "{name}"),
        ("#user {name};", ""),
        ("user no-such-group-here;", ""),
        ("user *;", ""),
        ("", ""),
    ],
)
def test_the_group_is_that_of_nginx_conf(root: Path, line: str, group: str) -> None:
    name = grp.getgrgid(os.getgid()).gr_name
    done = close(root, line.format(name=name) + "\nevents { }\n")
    directory = (root / "s").stat()
    assert done.returncode == 0
    if group:
        assert (directory.st_mode & 0o777, directory.st_gid, done.stderr) == (0o710, os.getgid(), "")
    else:
        # Without a group, TLS has to work all the same, and somebody has to know.
        assert directory.st_mode & 0o777 == 0o711 and "the group of nginx's workers is unknown" in done.stderr


def test_without_the_directory_nothing_is_done(root: Path) -> None:
    done = close(root, "user root;\n", root / "missing")
    assert (done.returncode, done.stderr) == (0, "") and not (root / "missing").exists()
