# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host: files, processes, sockets, and the nginx that runs here."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import select
import signal
import socket
import stat
import struct
import threading
import time
from collections.abc import Iterable
from typing import BinaryIO, NamedTuple

from .nginxconf import WILDCARDS, Listener, Places, normal_ip, printable

LISTEN, UNCONNECTED = "0A", "07"
NETLINK_SOCK_DIAG = 4
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_LOCAL_IPV4 = re.compile(r"\|-- ([0-9.]+)\n +/32 host LOCAL")


class Config(NamedTuple):
    """``/etc/nginx-edge/apply.json``. Every path is here, so that tests run beside a real installation."""

    state_dir: str = "/var/lib/nginx-edge"
    base_dir: str = "/etc/nginx-edge"
    socket_dir: str = "/run/nginx-edge/tls"
    nginx_conf: str = "/etc/nginx/nginx.conf"
    nginx_binary: str = "/usr/sbin/nginx"
    pid_file: str = "/run/nginx.pid"
    controller: str = "systemd"
    unit: str = "nginx.service"
    status_port: int = 8098
    status_address: str = ""
    status_host_names: tuple[str, ...] = ()
    timeout: float = 10
    history: int = 5
    shrink_limit_percent: int = 50
    shrink_min_services: int = 5
    shrink_window: float = 300
    max_staged_bytes: int = 32 * 1024 * 1024
    retry: float = 30
    staged_loopback: bool = False
    # There, and empty, from the start of the host on; see boot.py.
    boot_mark: str = "/run/nginx-edge/boot"
    boot_wait: float = 60
    # The agent of a node tells a new leader what the node runs within 15 s, which is how often it tries.
    boot_settle: float = 15
    # Held while nothing newer can be taken; see pace.py.
    busy: str = "/run/nginx-edge/apply.busy"
    # How long what the limits refuse is not seen.
    watch: float = 10
    testing: bool = False

    @property
    def live(self) -> str:
        """The link that nginx reads through."""
        return f"{self.state_dir}/live"

    @property
    def places(self) -> Places:
        """Where on the host a staged file may reach to."""
        return Places(self.socket_dir, f"{self.base_dir}/tls", self.staged_loopback)


class Trouble(Exception):
    """Why something can't be done, and whose matter it is: staged, operator, platform or host."""

    def __init__(self, blame: str, message: str) -> None:
        # One line for the journal and the terminal, whatever it quotes.
        message = printable(" ".join(message.split()), 4000)
        super().__init__(message)
        self.blame = blame
        self.message = message


def load_config(path: str) -> Config:
    """The configuration; an unknown or mistyped key is an error that names it."""
    try:
        with open(path, encoding="utf-8") as handle:
            values = json.load(handle)
    except (OSError, ValueError) as error:
        raise Trouble("platform", f"{path} can't be read: {error}; run the site playbook again") from error
    known = Config._field_defaults
    for key, value in values.items():
        if key not in known:
            raise Trouble("platform", f"{path}: unknown key {key!r}")
        # JSON has lists where a configuration has tuples.
        wanted = list if isinstance(known[key], tuple) else type(known[key])
        number = isinstance(known[key], (int, float)) and not isinstance(known[key], bool)
        if not isinstance(value, (int, float) if number else wanted):
            raise Trouble("platform", f"{path}: {key} is {value!r}, not a {wanted.__name__}")
    config = Config(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
    if config.status_address and normal_ip(config.status_address) is None:
        raise Trouble("platform", f"{path}: status_address is {config.status_address!r}, not an IPv4 or IPv6 address (nginx_status_address)")
    for name in config.status_host_names:
        if not isinstance(name, str) or not _HOST_NAME.fullmatch(name):
            raise Trouble("platform", f"{path}: status_host_names has {name!r}, not a host name (nginx_status_host_names)")
    return config


# -- files ------------------------------------------------------------------------------------------------------------------


def write_file(path: str, text: str, sync: bool = True, mode: int = 0o644) -> None:
    """Write a new file."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    with open(fd, "w", encoding="utf-8", newline="") as handle:
        os.fchmod(fd, mode)
        handle.write(text)
        handle.flush()
        if sync:
            os.fsync(fd)


def replace_file(path: str, text: str, sync: bool = True) -> None:
    """Replace a file atomically."""
    temporary = f"{path}.new"
    write_file(temporary, text, sync)
    os.replace(temporary, path)


def sync_path(path: str) -> None:
    """Bring a file or directory to the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_text(path: str) -> str | None:
    """A file of our own, or nothing when it isn't there or is damaged."""
    try:
        with open(path, encoding="utf-8", newline="") as handle:
            return handle.read()
    except (OSError, ValueError):
        return None


def open_regular(path: str) -> BinaryIO | None:
    """Open a file of a directory that others may write to; nothing when it is not a regular file or cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return None
    return open(fd, "rb")


def swap_link(link: str, target: str) -> None:
    """Let a link point elsewhere, atomically and durably."""
    temporary = f"{link}.new"
    if os.path.lexists(temporary):
        os.unlink(temporary)
    os.symlink(target, temporary)
    os.replace(temporary, link)
    sync_path(os.path.dirname(link))


def remove_tree(path: str) -> None:
    """Remove a directory or a file, whatever is there."""
    if os.path.isdir(path) and not os.path.islink(path):
        for entry in list(os.scandir(path)):
            remove_tree(entry.path)
        os.rmdir(path)
    elif os.path.lexists(path):
        os.unlink(path)


def remove_sockets(directory: str) -> None:
    """Remove unix sockets that an nginx which was killed left behind: the next one could not bind to them."""
    if os.path.isdir(directory):
        for entry in list(os.scandir(directory)):
            if stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode):
                os.unlink(entry.path)


def refuse_links(directory: str) -> None:
    """Refuse a staging directory with anything but regular files with one name: all else could lead root elsewhere."""
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError:
        # The reading of it says what is wrong.
        return
    for entry in entries:
        try:
            info = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            # A file that is being written was renamed meanwhile.
            continue
        if stat.S_ISREG(info.st_mode) and info.st_nlink == 1:
            continue
        kind = "is a symbolic link" if stat.S_ISLNK(info.st_mode) else "is not a file"
        kind = f"has {info.st_nlink} names" if stat.S_ISREG(info.st_mode) else kind
        remedy = "only regular files with one name belong there: find out who made it, and remove it"
        raise Trouble("staged", f"{printable(entry.path)} {kind}; {remedy}")


def read_staged(directory: str, name: str, limit: int) -> str | None:
    """A staged file, or nothing if there is none. Whoever may write there is not trusted: no links, no devices, no endless files."""
    where = f"{directory}/{name}"
    try:
        folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise Trouble("platform", f"the staging directory {directory} can't be opened: {error.strerror}; run the site playbook again") from error
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = "is a symbolic link" if error.errno == errno.ELOOP else f"can't be opened: {error.strerror}"
        raise Trouble("staged", f"{where} {reason}; only a regular file is read") from error
    finally:
        os.close(folder)
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode) or info.st_nlink > 1:
        os.close(fd)
        raise Trouble("staged", f"{where} is not a regular file with one name; only such a file is read")
    with open(fd, "rb") as handle:
        data = handle.read(limit + 1)
    if len(data) > limit:
        raise Trouble("staged", f"{where} is larger than {limit} bytes (max_staged_bytes)")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Trouble("staged", f"{where} is not UTF-8: byte {error.start}") from error
    if "\0" in text:
        raise Trouble("staged", f"{where} holds a NUL byte, line {text.count(chr(10), 0, text.index(chr(0))) + 1}")
    return text


def own_addresses() -> frozenset[str]:
    """Return every address of this host now, whatever interface has it. Those of 127.0.0.0/8 are not listed one by one."""
    found = {normal_ip(address) for address in _LOCAL_IPV4.findall(read_text("/proc/net/fib_trie") or "")}
    for line in (read_text("/proc/net/if_inet6") or "").splitlines():
        digits = line[:32]
        found.add(normal_ip(":".join(digits[at : at + 4] for at in range(0, 32, 4))))
    return frozenset(address for address in found if address)


def ports_given_anew() -> range:
    """Return the ports from which Docker takes those of containers that ask for none; ``ip(7)``, ip_local_port_range.

    All above, because the other hosts' range may end elsewhere."""
    first = (read_text("/proc/sys/net/ipv4/ip_local_port_range") or "").split()[:1]
    return range(int(first[0]) if first and first[0].isdigit() else 32768, 65536)


def has_address(name: str, timeout: float = 2.0) -> bool | None:
    """Ask as nginx does whether a host name has an address; nothing when no name server says so in time, and it may have one."""
    certain = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
    answers: list[bool] = []

    def ask() -> None:
        try:
            socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
            answers.append(True)
        except socket.gaierror as error:
            if error.errno in certain:
                answers.append(False)
        except (OSError, UnicodeError):
            pass

    # Name servers that are away cost half a minute, for which every change would wait.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(timeout)
    return answers[0] if answers else None


class Lock:
    """One run at a time. The kernel lets go of it when its holder dies."""

    def __init__(self, path: str, timeout: float) -> None:
        self.path, self.timeout, self.fd = path, timeout, -1

    def __enter__(self) -> Lock:
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return self
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Trouble("host", f"another run holds {self.path} for more than {self.timeout:g} s") from None
                time.sleep(0.01)

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


# -- processes --------------------------------------------------------------------------------------------------------------


class Finished(NamedTuple):
    """A program that ended."""

    status: int
    stdout: str
    stderr: str


def run(argv: list[str], timeout: float) -> Finished:
    """Run a program. Own code, because importing ``subprocess`` costs as much as testing a configuration does."""
    pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(2)]
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, pipes[0][1], 1), (os.POSIX_SPAWN_DUP2, pipes[1][1], 2)]
        pid = os.posix_spawn(argv[0], argv, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}, file_actions=actions)
    except OSError as error:
        for pipe in pipes:
            os.close(pipe[0])
        return Finished(127, "", f"{argv[0]}: {error.strerror}")
    finally:
        for pipe in pipes:
            os.close(pipe[1])
        os.close(null)
    output: dict[int, list[bytes]] = {pipes[0][0]: [], pipes[1][0]: []}
    poller = select.poll()
    for fd in output:
        poller.register(fd, select.POLLIN | select.POLLHUP)
    deadline, waiting = time.monotonic() + timeout, set(output)
    while waiting:
        left = deadline - time.monotonic()
        if left <= 0:
            os.kill(pid, signal.SIGKILL)
            output[pipes[1][0]].append(f"{argv[0]} did not end within {timeout:g} s".encode())
            break
        for fd, _ in poller.poll(left * 1000):
            data = os.read(fd, 1 << 16)
            if data:
                output[fd].append(data)
            else:
                poller.unregister(fd)
                waiting.discard(fd)
    for fd in output:
        os.close(fd)
    status = os.waitpid(pid, 0)[1]
    texts = [b"".join(parts).decode("utf-8", "replace") for parts in output.values()]
    return Finished(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status), texts[0], texts[1])


def _proc(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as handle:
            return handle.read()
    except OSError:
        return b""


def socket_inodes(pid: int) -> set[str]:
    """The sockets that a process has open."""
    found = set()
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(f"/proc/{pid}/fd/{name}")
            except OSError:
                continue
            if target.startswith("socket:["):
                found.add(target[8:-1])
    except OSError:
        pass
    return found


# -- sockets ----------------------------------------------------------------------------------------------------------------


def parse_proc_net(text: str, proto: str, state: str) -> list[tuple[Listener, str]]:
    """(socket, inode) of the listening sockets in one of ``/proc/net/{tcp,tcp6,udp,udp6}``."""
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10 or fields[3] != state:
            continue
        host, _, port = fields[1].partition(":")
        raw = b"".join(bytes.fromhex(host[i : i + 8])[::-1] for i in range(0, len(host), 8))
        family = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
        found.append((Listener(proto, socket.inet_ntop(family, raw), int(port, 16)), fields[9]))
    return found


def tcp_listeners() -> list[tuple[Listener, str]]:
    """(socket, inode) of the listening TCP sockets, asked of the kernel by sock_diag(7).

    ``/proc/net/tcp`` walks every connection of the host, which takes longer than nginx takes to test a configuration; this walks the listening ones only."""
    found = []
    for family, size in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
        # struct inet_diag_req_v2: family, protocol, extensions, states, socket id; SOCK_DIAG_BY_FAMILY with NLM_F_REQUEST | NLM_F_DUMP.
        request = struct.pack("=BBBxI48x", family, socket.IPPROTO_TCP, 0, 1 << int(LISTEN, 16))
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG) as kernel:
            kernel.settimeout(5)
            kernel.send(struct.pack("=IHHII", 16 + len(request), 20, 0x301, 1, 0) + request)
            more = True
            while more:
                data, place = kernel.recv(1 << 18), 0
                while place < len(data):
                    length, kind = struct.unpack_from("=IH", data, place)
                    if kind != 20:
                        # NLMSG_DONE, or NLMSG_ERROR with the reason.
                        code = -struct.unpack_from("=i", data, place + 16)[0] if kind == 2 else 0
                        if code:
                            raise OSError(code, os.strerror(code))
                        more = False
                        break
                    # struct inet_diag_msg: the source port is at 4 and the source address at 8, both as on the wire; the inode is at 68.
                    message = place + 16
                    port, address = struct.unpack_from("!H", data, message + 4)[0], data[message + 8 : message + 8 + size]
                    inode = struct.unpack_from("=I", data, message + 68)[0]
                    found.append((Listener("tcp", socket.inet_ntop(family, address), port), str(inode)))
                    place += (length + 3) & ~3
    return found


def listening(protos: Iterable[str] = ("tcp", "udp")) -> list[tuple[Listener, str]]:
    """Every listening socket of the host, with its inode."""
    found = []
    for proto in protos:
        if proto == "tcp":
            try:
                found += tcp_listeners()
                continue
            except OSError:
                # A kernel without tcp_diag.
                pass
        for suffix in ("", "6"):
            text = read_text(f"/proc/net/{proto}{suffix}")
            if text:
                found += parse_proc_net(text, proto, LISTEN if proto == "tcp" else UNCONNECTED)
    return found


def family_of(address: str) -> int:
    """The address family of an address text."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def not_bound(wanted: Iterable[Listener], held: set[Listener]) -> list[Listener]:
    """Wanted sockets that are not held. A wildcard stands for every address of its family, as nginx itself takes it."""
    missing = []
    for listener in sorted(wanted):
        wildcard = WILDCARDS[":" in listener.address]
        if listener not in held and listener._replace(address=wildcard) not in held:
            missing.append(listener)
    return missing


def bind_error(listener: Listener) -> int:
    """0, or the error number that nginx would get for this socket: asked in nginx's own way, without listening on it."""
    kind = socket.SOCK_DGRAM if listener.proto == "udp" else socket.SOCK_STREAM
    try:
        with socket.socket(family_of(listener.address), kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if probe.family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((listener.address, listener.port))
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def holder_of(listener: Listener, sockets: list[tuple[Listener, str]]) -> tuple[str, int]:
    """(name, process id) of who keeps nginx from a socket; an empty name when it can't be seen from here."""
    inodes = set()
    for other, inode in sockets:
        same = other.address == listener.address or other.address in WILDCARDS or listener.address in WILDCARDS
        if same and other.proto == listener.proto and other.port == listener.port:
            inodes.add(inode)
    for name in os.listdir("/proc"):
        if name.isdigit() and inodes & socket_inodes(int(name)):
            # Any process chooses its own name, also one with a line break in it.
            return printable(_proc(int(name), "comm").decode("utf-8", "replace").strip()), int(name)
    return "", 0


def http_get(port: int, path: str, timeout: float) -> str | None:
    """The body of a plain answer 200 on loopback, on a new connection; nothing otherwise."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as connection:
            connection.settimeout(timeout)
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: nginx-edge-status\r\n\r\n".encode("ascii"))
            data = b""
            while len(data) < 1 << 20:
                part = connection.recv(1 << 16)
                if not part:
                    break
                data += part
    except OSError:
        return None
    head, _, body = data.partition(b"\r\n\r\n")
    return body.decode("utf-8", "replace") if head.split(b" ", 2)[1:2] == [b"200"] else None


# -- nginx ------------------------------------------------------------------------------------------------------------------


class Nginx:
    """The nginx of this host. ``controller`` says who starts it: systemd, or this program itself (tests, other init systems)."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def master(self, quick: bool = False) -> int:
        """The process id of the master, or 0. The quick form does not ask systemd when the pid file is no help."""
        pid = (read_text(self.config.pid_file) or "").strip()
        if pid.isdigit() and self._is_master(int(pid)):
            return int(pid)
        if self.config.controller == "systemd" and not quick:
            pid = run(["/usr/bin/systemctl", "show", "--value", "--property=MainPID", self.config.unit], 10).stdout.strip()
            if pid.isdigit() and self._is_master(int(pid)):
                return int(pid)
        return 0

    @staticmethod
    def _is_master(pid: int) -> bool:
        return pid > 1 and _proc(pid, "cmdline").startswith(b"nginx: master process")

    @staticmethod
    def active_workers(master: int) -> set[int]:
        """Workers that still take new connections."""
        children = _proc(master, f"task/{master}/children").split()
        found = set()
        for child in map(int, children):
            title = _proc(child, "cmdline")
            if title.startswith(b"nginx: worker process") and b"shutting down" not in title:
                found.add(child)
        return found

    def held(self, master: int) -> set[Listener]:
        """Sockets that the master listens on."""
        if not master:
            return set()
        own = socket_inodes(master)
        return {listener for listener, inode in listening() if inode in own}

    def unusable(self, wanted: Iterable[Listener], master: int) -> dict[Listener, str]:
        """Sockets that nginx can't get, each with the reason. What another nginx address holds is left to nginx to say."""
        wanted = set(wanted)
        # Where it listens on all addresses, nginx has one socket for a port, and a single address needs not even be there yet.
        covered = {one for one in wanted if one.address not in WILDCARDS and one._replace(address=WILDCARDS[":" in one.address]) in wanted}
        missing = wanted - covered - self.held(master)
        reasons: dict[Listener, str] = {}
        sockets: list[tuple[Listener, str]] = []
        for listener in sorted(missing):
            code = bind_error(listener)
            if code == errno.EADDRINUSE:
                sockets = sockets or listening()
                name, pid = holder_of(listener, sockets)
                if pid and pid == master:
                    continue
                reasons[listener] = f"is held by {name}" if name else "is held by a process that can't be seen from here"
            elif code:
                reasons[listener] = f"can't be used: {os.strerror(code)}"
        return reasons

    def generation(self, timeout: float = 1.0) -> str | None:
        """The generation that the worker answers that happens to take the connection."""
        answer = http_get(self.config.status_port, "/generation", timeout)
        return answer.strip() if answer is not None else None

    def start(self) -> str:
        """Start nginx; an empty text, or what went wrong."""
        if self.config.controller == "systemd":
            result = run(["/usr/bin/systemctl", "start", self.config.unit], 60)
        else:
            # systemd empties the directory itself (RuntimeDirectory).
            remove_sockets(self.config.socket_dir)
            result = run([self.config.nginx_binary, "-c", self.config.nginx_conf], 30)
        return "" if result.status == 0 else (result.stderr or result.stdout).strip()

    def wait_for(self, generation: str, wanted: Iterable[Listener], old_workers: set[int], deadline: float) -> str:
        """Wait until nothing but the generation answers and its sockets are bound; an empty text, or what was missing at the end.

        Once no worker of before takes connections, every answer is the new one's. Several answers in a row guard kernels whose /proc does not list children."""
        wanted, answers, reason = set(wanted), 0, ""
        while True:
            answer = self.generation(0.5)
            master = self.master(quick=True)
            answers = answers + 1 if answer == generation else 0
            if answers >= 3:
                leftover = old_workers & self.active_workers(master)
                missing = [] if leftover else not_bound(wanted, self.held(master))
                if not leftover and not missing:
                    return ""
                reason = f"nginx does not listen on {', '.join(map(str, missing[:5]))}"
                if leftover:
                    reason = f"{len(leftover)} worker(s) of before still take connections"
            elif not master:
                reason = "nginx does not run"
            else:
                said = f"answers with generation {answer}, not {generation}" if answer else f"does not answer on 127.0.0.1:{self.config.status_port}"
                reason = f"nginx {said}"
            if time.monotonic() >= deadline:
                return reason
            time.sleep(0.004)
