# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The apply program and its nginx, run as root and traced, one staging directory after the other."""

from __future__ import annotations

import ast
import collections
import importlib.util
import json
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import threading
import typing as t
from pathlib import Path

import pytest
from staged_trees import Tree, World

HERE = Path(__file__).resolve().parent
DRIVER = HERE / "staged_driver.py"
LEFT = HERE.parents[1] / "build" / "fuzz"


def _apply_rig() -> t.Any:
    """Return the rig of the tests of the apply program."""
    spec = importlib.util.spec_from_file_location("apply_rig", HERE.parent / "apply" / "apply_rig.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


APPLY = _apply_rig()

CALLS = (
    *(
        "open",
        "openat",
        "openat2",
        "creat",
        "connect",
        "bind",
        "execve",
        "rename",
        "renameat",
        "renameat2",
        "unlink",
        "unlinkat",
        "rmdir",
    ),
    *(
        "mkdir",
        "mkdirat",
        "mknod",
        "mknodat",
        "link",
        "linkat",
        "symlink",
        "symlinkat",
        "chmod",
        "fchmodat",
        "chown",
        "lchown",
        "fchownat",
    ),
    *("truncate", "access", "faccessat", "faccessat2"),
)
_LINE = re.compile(r"(?P<pid>\d+) +(?P<call>[a-z0-9_]+)\((?P<rest>.*)")
_UNFINISHED = " <unfinished ...>"
_RESUMED = re.compile(r"(?P<pid>\d+) +<\.\.\. [a-z0-9_]+ resumed>(?P<rest>.*)")
_MARK = re.compile(r'access(?:at2?)?\((?:AT_FDCWD<[^>]*>, )?"/tree/([^"]*)"')
_REAL = re.compile(r" = \d+<(?P<real>[^>]*)>$")
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
_AT = re.compile(r'(?:AT_FDCWD|\d+)<(?P<directory>[^>]*)>, (?P<text>"(?:[^"\\]|\\.)*")')
# What programs read wherever they run, and nothing secret in it. Not those files that say where names are looked up.
SYSTEM = ("/usr/", "/lib/", "/lib64/", "/bin/", "/sbin/", "/proc/", "/sys/")
SYSTEM_FILES = {
    *("/etc/ld.so.cache", "/etc/localtime", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/ssl/openssl.cnf"),
    *("/dev/null", "/dev/urandom", "/proc", "/", "/etc/ld.so.preload"),
}
# nginx opens the log that it was built with before it reads a configuration.
LOGS = re.compile(r"/var/log/nginx(?:/[\w.-]+)+")


def _string(text: str) -> str:
    return ast.literal_eval(f"b{text}").decode("utf-8", "surrogateescape")


class Violation(t.NamedTuple):
    """What a traced process did that no tree may lead to."""

    tree: str
    kind: str
    call: str


def calls(lines: t.Iterable[str]) -> t.Iterator[tuple[str, str]]:
    """Give each call of a trace as one line, with the tree in which it began.

    Of a call that another process interrupts, strace writes the beginning and the end as two lines. The end of one that was killed meanwhile never comes.
    """
    tree = ""
    begun: dict[str, tuple[str, str]] = {}
    for line in lines:
        mark = _MARK.search(line)
        resumed = _RESUMED.match(line)
        if mark:
            tree = mark.group(1)
        elif resumed and resumed.group("pid") in begun:
            at, beginning = begun.pop(resumed.group("pid"))
            yield at, beginning + resumed.group("rest")
        elif line.endswith(_UNFINISHED):
            begun[line.split()[0]] = tree, line.removesuffix(_UNFINISHED)
        else:
            yield tree, line
    yield from begun.values()


class Foreign:
    """A unix socket and a port that belong to others; each connection to them is counted."""

    def __init__(self, path: Path) -> None:
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(str(path))
        # nginx's workers are another user.
        path.chmod(0o666)
        self.tcp = socket.socket(socket.AF_INET6)
        self.tcp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.tcp.bind(("::", 0))
        self.port = self.tcp.getsockname()[1]
        self.reached = 0
        self.ended = False
        for listener in (self.unix, self.tcp):
            listener.listen(64)
            listener.settimeout(0.2)
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while not self.ended:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            self.reached += 1
            connection.close()

    def stop(self) -> None:
        """Close both."""
        self.ended = True
        self.unix.close()
        self.tcp.close()


class Staged:
    """An edge in a directory whose staging directory anybody fills."""

    def __init__(self, directory: Path, *, unchecked: bool = False) -> None:
        strace = shutil.which("strace")
        if strace is None or os.geteuid() != 0:
            pytest.fail("these tests run as root and need strace: apt-get install strace", pytrace=False)
        for path in (directory, *directory.parents):
            # pytest makes its directories private; nginx's workers have another user.
            if path.stat().st_uid == os.getuid() and path != Path("/") and not path.stat().st_mode & 0o001:
                path.chmod(path.stat().st_mode | 0o011)
        self.edge = APPLY.Edge(directory, directory / "state")
        self.edge.configure(shrink_min_services=1000000, history=2)
        conf = self.edge.etc / "nginx.conf"
        conf.write_text(conf.read_text().replace("worker_processes 2", "worker_processes 1"))
        self.staging = self.edge.state / "staging"
        self.outside = directory / "outside"
        self.outside.mkdir(mode=0o700)
        self.secret = self.outside / "secret"
        # As a file that nginx may take for entries of a map as well.
        self.secret.write_text("secret 1;\n")
        self.secret.chmod(0o600)
        self.foreign = Foreign(directory / "foreign.sock")
        self.world = World(
            http_port=self.edge.http_port,
            tcp_port=self.edge.tcp_port,
            sockets=str(self.edge.sockets),
            staging=str(self.staging),
            secret=str(self.secret),
            outside=str(self.outside),
            foreign_socket=str(directory / "foreign.sock"),
            foreign_port=self.foreign.port,
        )
        self.before = self.picture()
        self.tally: collections.Counter[str] = collections.Counter()
        self.trace = directory / "trace"
        command = [
            strace,
            "-f",
            "-qq",
            "-y",
            "--seccomp-bpf",
            "-s",
            "4096",
            "-o",
            str(self.trace),
            "-e",
            "trace=" + ",".join(f"?{call}" for call in CALLS),
        ]
        command += [
            sys.executable,
            "-ISB",
            str(DRIVER),
            str(APPLY.LIBRARY),
            str(self.edge.config),
            *(["--unchecked"] if unchecked else []),
        ]
        self.errors = (directory / "driver.log").open("w")
        pipe = subprocess.PIPE
        self.driver = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self.errors, text=True)

    def picture(self) -> dict[str, tuple[bytes, int]]:
        """Return what is outside, with its times."""
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(self.outside.iterdir())}

    def stop(self) -> None:
        """End the program and its nginx."""
        assert self.driver.stdin is not None
        self.driver.stdin.close()
        try:
            self.driver.wait(30)
        except subprocess.TimeoutExpired:
            self.driver.kill()
        self.edge.stop()
        self.foreign.stop()
        self.errors.close()

    # -- one tree --------------------------------------------------------------------------------------------------

    def stage(self, tree: Tree) -> None:
        """Fill the staging directory."""
        for path in self.staging.iterdir():
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        (self.staging / "http.conf").write_bytes(tree.http)
        (self.staging / "stream.conf").write_bytes(tree.stream)
        for name, (kind, target) in tree.more.items():
            self.put(self.staging / name, kind, target)

    @staticmethod
    def put(path: Path, kind: str, target: str) -> None:
        """Make an entry of any kind."""
        path.unlink(missing_ok=True)
        if kind == "file":
            path.write_text(target)
        elif kind == "link":
            path.symlink_to(target)
        elif kind == "hard link":
            # Of another file system there can be none.
            same = os.stat(target).st_dev == os.stat(path.parent).st_dev
            (path.hardlink_to if same else path.symlink_to)(target)
        elif kind == "socket":
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path))
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            path.mkdir()

    def apply(self, number: str) -> dict[str, t.Any]:
        """Let the program take what is staged."""
        assert self.driver.stdin is not None and self.driver.stdout is not None
        self.driver.stdin.write(f"{number}\n")
        self.driver.stdin.flush()
        ready, _, _ = select.select([self.driver.stdout], [], [], 90)
        line = self.driver.stdout.readline() if ready else ""
        assert line, f"the program gave no answer to tree {number}: {Path(self.errors.name).read_text()[-2000:]}"
        result = json.loads(line)
        assert isinstance(result, dict)
        return result

    def knock(self) -> None:
        """Be a client of both sides."""
        assert self.edge.ask("one")[0], "the edge does not answer"
        self.edge.ask("other")
        self.edge.ask_tcp()

    def check(self, number: str, tree: Tree) -> dict[str, t.Any]:
        """Apply a tree, and compare what it may not have changed."""
        self.stage(tree)
        result = self.apply(number)
        self.tally[self.kind_of(result)] += 1
        if result["serving"]:
            self.knock()
        return result

    @staticmethod
    def kind_of(result: dict[str, t.Any]) -> str:
        """Return which part of the program decided."""
        message = result["message"]
        if result["outcome"] != "failed":
            return "taken"
        if "only regular files" in message or "only a regular file" in message or "only such a file" in message:
            return "refused: no regular file"
        if re.search(r"is not allowed|needs a block|has no block|is not an upstream|must be named edge_", message):
            return "refused: not on the list"
        if re.search("is not UTF-8|NUL byte|is not ended|unexpected|never closed|the text ends|nested deeper", message):
            return "refused: not readable"
        return "refused: by nginx" if result["blame"] == "staged" else "failed"

    # -- the trace -------------------------------------------------------------------------------------------------

    def violations(self) -> list[Violation]:
        """Return what the trace has that must not be there."""
        found = []
        for tree, line in calls(self.trace.read_text(errors="surrogateescape").splitlines()):
            match = _LINE.match(line)
            kind = self.judged(match.group("call"), match.group("rest")) if match else ""
            # Before the first tree, Python reads what it needs itself.
            if kind and tree:
                found.append(Violation(tree, kind, line[:600]))
        return found

    def judged(self, call: str, rest: str) -> str:
        """Return what is wrong with a call."""
        if call in ("connect", "bind"):
            return self.socket_call(call, rest)
        if call.startswith(("access", "faccessat")):
            return ""
        paths = self.paths(rest)
        if call == "execve":
            return "" if paths[0] in (APPLY.NGINX, sys.executable) else "runs"
        if call in ("symlink", "symlinkat"):
            # Where it leads to is seen when it is followed.
            paths = [_string(_TEXT.findall(rest)[1])] if len(_TEXT.findall(rest)) > 1 else paths
        opens = call in ("open", "openat", "openat2")
        judge = self.reading if opens and not re.search("O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", rest) else self.writing
        real = _REAL.search(rest)
        reasons = [judge(path) for path in [*paths, *([real.group("real")] if real else [])]]
        return next((reason for reason in reasons if reason), "")

    @staticmethod
    def paths(rest: str) -> list[str]:
        """Return the paths in the arguments of a call; one that follows a directory counts from there."""
        at = [(match.group("directory"), _string(match.group("text"))) for match in _AT.finditer(rest)]
        return [os.path.join(folder, path) for folder, path in at] or [_string(text) for text in _TEXT.findall(rest)[:2]]

    def _own(self, path: str) -> bool:
        """Whether a path is the edge's own. What is staged is not, nor what is outside."""
        inside = path.startswith(f"{self.edge.root}/") or path == str(self.edge.root)
        return inside and not path.startswith((str(self.outside), f"{self.staging}/"))

    def reading(self, path: str) -> str:
        """Return what is wrong with the reading of a path."""
        path = os.path.normpath(path)
        staged = path in (str(self.staging), f"{self.staging}/http.conf", f"{self.staging}/stream.conf")
        programs = (sys.prefix, sys.base_prefix, str(APPLY.LIBRARY), str(HERE))
        known = path in SYSTEM_FILES or path.startswith((*SYSTEM, *programs))
        return "" if staged or known or self._own(path) or not path.startswith("/") else "reads"

    def writing(self, path: str) -> str:
        """Return what is wrong with a change at a path."""
        path = os.path.normpath(path)
        known = path == "/dev/null" or LOGS.fullmatch(path) or not path.startswith("/")
        return "" if known or self._own(path) else "writes"

    def socket_call(self, call: str, rest: str) -> str:
        """Return what is wrong with a connection, or with a socket that others reach."""
        unix = re.search(r'sa_family=AF_UNIX, sun_path=("(?:[^"\\]|\\.)*")', rest)
        if unix:
            path = os.path.normpath(_string(unix.group(1)))
            # glibc asks there for a cache of user names.
            own = path.startswith(f"{self.edge.sockets}/") or path == "/var/run/nscd/socket"
            return "" if own else f"{call}s to a unix socket"
        inet = re.search(r'sin_port=htons\((\d+)\), sin_addr=inet_addr\("([^"]+)"\)', rest) or re.search(
            r'sin6_port=htons\((\d+)\).*inet_pton\(AF_INET6, "([^"]+)"', rest
        )
        if inet and call == "connect":
            own = inet.group(2) == "127.0.0.1" and int(inet.group(1)) in (9, self.edge.status_port)
            return "" if own else "connects to a port"
        return ""
