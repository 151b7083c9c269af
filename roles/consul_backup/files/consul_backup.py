#!/usr/bin/python3 -IB
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes snapshots of Consul, keeps the newest ones, and restores one: in the same cluster or in a new one.

A snapshot counts only after it was read back: its archive, its checksums, and `consul snapshot inspect`. Nothing older is removed before.
"""

from __future__ import annotations

import argparse
import calendar
import contextlib
import fcntl
import hashlib
import json
import os
import re
import ssl
import subprocess
import sys
import tarfile
import tempfile
import time
import typing as t
import urllib.error
import urllib.request

CONFIG = "/etc/consul-backup/config.json"
REQUEST_SECONDS = 10.0
POLL_SECONDS = 0.5
#: How often a snapshot is asked for before that counts as a failure.
SAVE_TRIES = 3
#: A member of the cluster that is alive (serf.MemberStatus).
ALIVE = 1
NAME = re.compile(r"consul-(?P<time>\d{8}T\d{6}Z)-(?P<index>\d+)(?:-(?P<label>[a-z][a-z0-9-]*))?\.snap")
LABEL = re.compile(r"[a-z][a-z0-9-]{0,30}")


class BackupError(Exception):
    """What went wrong, as one sentence with its remedy."""


class Config(t.NamedTuple):
    """What the role writes into config.json."""

    directory: str
    keep: int = 48
    max_age_seconds: int = 7200
    consul: str = "/usr/local/bin/consul"
    url: str = "http://127.0.0.1:8500"
    token_file: str = ""
    ca_file: str = ""
    timeout: int = 120
    #: The token for what is left to do after a restore. Empty: the same as for the snapshot.
    restored_token_file: str = ""


def load(path: str) -> Config:
    """Read the configuration."""
    try:
        with open(path, encoding="utf-8") as file:
            return Config(**json.load(file))
    except (OSError, ValueError, TypeError) as error:
        raise BackupError(f"{path} cannot be used ({error}); run the playbook backup.yml, which writes it") from error


class Snapshot(t.NamedTuple):
    """A snapshot in the directory, as its name tells."""

    name: str
    taken: str
    index: int
    label: str

    @property
    def age(self) -> float:
        """Seconds since it was taken."""
        return time.time() - calendar.timegm(time.strptime(self.taken, "%Y%m%dT%H%M%SZ"))


def parse_name(name: str) -> Snapshot | None:
    """The snapshot that a file name stands for."""
    match = NAME.fullmatch(name)
    return Snapshot(name, match["time"], int(match["index"]), match["label"] or "") if match else None


def outlived(names: t.Iterable[str], keep: int) -> list[str]:
    """The snapshots to remove: of each label, all but the newest ones, so that the hourly ones do not push out what was taken for a reason."""
    kinds: dict[str, list[Snapshot]] = {}
    for snapshot in filter(None, map(parse_name, names)):
        kinds.setdefault(snapshot.label, []).append(snapshot)
    old = []
    for snapshots in kinds.values():
        snapshots.sort(key=lambda one: (one.taken, one.index), reverse=True)
        old += [one.name for one in snapshots[max(1, keep) :]]
    return sorted(old)


def check(path: str, source: t.IO[bytes] | None = None) -> dict[str, t.Any]:
    """Read a snapshot, a file or an open stream of it, with its checksums; returns its description."""
    listed: dict[str, str] = {}
    found: dict[str, str] = {}
    meta: dict[str, t.Any] = {}
    try:
        refuse_encrypted(path if source is None else None)
        # Of a stream that cannot go back, one member is read after the other.
        with tarfile.open(path, "r:gz") if source is None else tarfile.open(fileobj=source, mode="r|gz") as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is None:
                    continue
                if member.name == "SHA256SUMS":
                    listed = {name: digest for digest, name in (line.split() for line in content.read().decode("ascii").splitlines() if line.strip())}
                    continue
                digest = hashlib.sha256()
                head = b""
                while part := content.read(1 << 20):
                    digest.update(part)
                    head = head or part
                found[member.name] = digest.hexdigest()
                if member.name == "meta.json":
                    meta = json.loads(head)
    except FileNotFoundError as error:
        raise BackupError(f"there is no file {path}; name a snapshot that exists, as `consul-backup list` shows them") from error
    except (OSError, EOFError, tarfile.TarError, ValueError, UnicodeError) as error:
        raise BackupError(f"{path} is no snapshot of Consul, or a damaged one ({error}); use another one") from error
    if not {"meta.json", "state.bin"} <= set(found) or listed != found or "Index" not in meta:
        raise BackupError(f"{path} is damaged: its contents are not what its checksums say; use another one")
    return {key.lower(): meta.get(key) for key in ("ID", "Index", "Term", "Version", "Size")}


def refuse_encrypted(path: str | None) -> None:
    """Name the remedy for a copy of the control node that is still encrypted."""
    if path is not None:
        with open(path, "rb") as file:
            if file.read(14) == b"$ANSIBLE_VAULT":
                remedy = "run `ansible-vault decrypt` on the control node before, or use restore.yml"
                raise BackupError(f"{path} is encrypted with Ansible Vault; {remedy}")


def stale_nodes(catalogue: t.Iterable[t.Mapping[str, t.Any]], members: t.Iterable[t.Mapping[str, t.Any]]) -> list[str]:
    """Catalogue entries that keep a living member of the same name out, because they carry the id of the machine that it replaces.

    Consul refuses such a member ("Node name is reserved by node ...") for as long as the old entry looks alive, and in a restored catalogue
    it looks alive for good.
    """
    living = {str(member.get("Name")): str((member.get("Tags") or {}).get("id") or "") for member in members if member.get("Status") == ALIVE}
    return sorted(str(node["Node"]) for node in catalogue if living.get(str(node.get("Node"))) and node.get("ID") and node["ID"] != living[str(node["Node"])])


class Consul:
    """The agent of this host: its API, and the program where that is the better checked way."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def token(self) -> str:
        """The token of the file; empty where there is none, because ACLs are off."""
        if not self.config.token_file:
            return ""
        try:
            with open(self.config.token_file, encoding="ascii") as file:
                return file.read().strip()
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeError) as error:
            raise BackupError(f"the token file {self.config.token_file} cannot be read ({error}); correct it") from error

    def run(self, *arguments: str) -> str:
        """Run the program; what it prints. The token goes by its file, so no list of processes shows it."""
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent", "CONSUL_HTTP_ADDR": self.config.url}
        if self.token():
            environment["CONSUL_HTTP_TOKEN_FILE"] = self.config.token_file
        if self.config.ca_file:
            environment["CONSUL_CACERT"] = self.config.ca_file
        try:
            done = subprocess.run(
                [self.config.consul, *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self.config.timeout,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BackupError(f"`consul {' '.join(arguments[:2])}` did not end well ({error}); see whether the agent answers at {self.config.url}") from error
        if done.returncode != 0:
            said = " ".join((done.stderr or done.stdout).split())
            raise BackupError(f"`consul {' '.join(arguments[:2])}` failed: {said.rstrip('.')}. See `consul members` and `consul operator raft list-peers`")
        return done.stdout

    def ask(self, path: str, body: t.Any = None) -> t.Any:
        """The decoded answer of the API; with a body it is told something."""
        token = self.token()
        request = urllib.request.Request(
            self.config.url.rstrip("/") + path,
            method="GET" if body is None else "PUT",
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Consul-Token": token} if token else {},
        )
        handlers: list[t.Any] = [urllib.request.ProxyHandler({})]
        if self.config.ca_file:
            handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=self.config.ca_file)))
        try:
            with urllib.request.build_opener(*handlers).open(request, timeout=REQUEST_SECONDS) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            raise BackupError(f"{path}: {error.code} {error.read().decode('utf-8', 'replace').strip()}") from error
        except (OSError, ValueError) as error:
            raise BackupError(f"the agent does not answer at {self.config.url} ({error}); see `journalctl -u consul`") from error

    def wait_for_leader(self) -> None:
        """Until there is a leader that answers from its own state, which a restored one does only after it has read everything."""
        deadline = time.monotonic() + self.config.timeout
        problem = "there is no leader"
        while time.monotonic() < deadline:
            try:
                if self.ask("/v1/status/leader") and self.ask("/v1/catalog/datacenters"):
                    self.ask("/v1/catalog/nodes?consistent")
                    return
            except BackupError as error:
                problem = str(error)
            time.sleep(POLL_SECONDS)
        raise BackupError(f"the cluster has no leader {self.config.timeout} s after the snapshot was restored ({problem}); see `journalctl -u consul`")


@contextlib.contextmanager
def alone(directory: str) -> t.Iterator[None]:
    """One of these programs at a time."""
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        handle = os.open(os.path.join(directory, ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise BackupError(f"{directory} cannot be used ({error.strerror}); this program needs to run as root") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def snapshots(directory: str) -> list[Snapshot]:
    """What is there, the newest first."""
    names = os.listdir(directory) if os.path.isdir(directory) else []
    return sorted(filter(None, map(parse_name, names)), key=lambda one: (one.taken, one.index), reverse=True)


def take(config: Config, label: str = "") -> dict[str, t.Any]:
    """Take a snapshot, read it back, keep it, and only then remove what is too old."""
    if label and not LABEL.fullmatch(label):
        raise BackupError(f"the label {label!r} is none: use lower-case letters, digits and hyphens, a letter first")
    consul = Consul(config)
    with alone(config.directory):
        for name in os.listdir(config.directory):
            if name.startswith(".taking-"):
                os.unlink(os.path.join(config.directory, name))
        handle, new = tempfile.mkstemp(prefix=".taking-", dir=config.directory)
        os.close(handle)
        try:
            # Consul writes a file of its own and renames it over this one.
            save(consul, new)
            os.chmod(new, 0o600)
            consul.run("snapshot", "inspect", new)
            description = check(new)
            with open(new, "rb") as file:
                os.fsync(file.fileno())
            name = f"consul-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{description['index']}{f'-{label}' if label else ''}.snap"
            os.replace(new, os.path.join(config.directory, name))
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new)
            raise
        removed = outlived(os.listdir(config.directory), config.keep)
        for old in removed:
            os.unlink(os.path.join(config.directory, old))
        path = os.path.join(config.directory, name)
        return {"file": path, "bytes": os.path.getsize(path), "sha256": sha256(path), "removed": removed, **description}


def sha256(path: str) -> str:
    """Return the checksum of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def save(consul: Consul, path: str) -> None:
    """Save a snapshot. The leader may drop the connection while several servers ask at once, which says nothing about the next try."""
    for left in reversed(range(SAVE_TRIES)):
        try:
            consul.run("snapshot", "save", path)
            return
        except BackupError:
            if left == 0:
                raise
            time.sleep(POLL_SECONDS)


def restore(config: Config, path: str, token_file: str = "", data_only: bool = False) -> dict[str, t.Any]:
    """Put a snapshot in the place of everything that the cluster knows, and L(finish) unless told otherwise."""
    consul = Consul(config)
    with alone(config.directory):
        description = check(path)
        consul.run("snapshot", "inspect", path)
        consul.run("snapshot", "restore", path)
        return {"file": path, **description, **({} if data_only else finish(config, token_file))}


def finish(config: Config, token_file: str = "") -> dict[str, t.Any]:
    """Remove what keeps new servers out of a restored cluster. The token of ``token_file`` is one of the snapshot."""
    consul = Consul(config._replace(token_file=token_file or config.restored_token_file or config.token_file))
    try:
        consul.wait_for_leader()
        return {"replaced_nodes": remove_stale_nodes(consul)}
    except BackupError as error:
        raise BackupError(
            f"the snapshot is restored, but servers that are new stay refused: {error}. The tokens are those of the"
            " snapshot now: run the restore again and name a file with one that has node:write and agent:read"
            " (consul_backup_restored_token_file, --token-file)"
        ) from error


def remove_stale_nodes(consul: Consul) -> list[str]:
    """Remove the entries of replaced machines from the catalogue, and return their names.

    Consul answers a token without rights with an empty list. A catalogue without a node, or without members, is such an answer.
    """
    catalogue, members = consul.ask("/v1/catalog/nodes?consistent"), consul.ask("/v1/agent/members")
    if not catalogue or not members:
        raise BackupError(f"the token of {consul.config.token_file or 'nobody'} sees no {'member' if catalogue else 'node'} of the cluster")
    replaced = stale_nodes(catalogue, members)
    for node in replaced:
        # The agent of that name enters itself and its services anew.
        consul.ask("/v1/catalog/deregister", {"Node": node})
    return replaced


def status(config: Config) -> dict[str, t.Any]:
    """How things stand; ``problem`` is empty when they stand well."""
    found = snapshots(config.directory)
    if not found:
        return {"snapshots": 0, "problem": f"there is no snapshot in {config.directory}; see `journalctl -u consul-backup`"}
    newest = found[0]
    problem = ""
    if newest.age > config.max_age_seconds:
        problem = f"the newest snapshot, {newest.name}, is {newest.age / 3600:.1f} hours old; see `systemctl list-timers consul-backup.timer`"
    else:
        try:
            check(os.path.join(config.directory, newest.name))
        except BackupError as error:
            problem = str(error)
    return {"snapshots": len(found), "newest": newest.name, "age_seconds": round(newest.age), "problem": problem}


def main(arguments: t.Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="consul-backup", description=t.cast(str, __doc__).splitlines()[0])
    parser.add_argument("--config", default=CONFIG, help="the configuration file (default: %(default)s)")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands.add_parser("take", help="take a snapshot, check it, and remove what is too old").add_argument("--label", default="", help="why it is taken")
    commands.add_parser("list", help="show the snapshots of this host, the newest first")
    commands.add_parser("status", help="say whether the newest snapshot is new enough and whole")
    checked = commands.add_parser("check", help="read a snapshot and say what it is")
    checked.add_argument("file", help="a file, or - for the standard input")
    back = commands.add_parser("restore", help="put a snapshot in the place of everything that the cluster knows")
    back.add_argument("file")
    back.add_argument("--data-only", action="store_true", help="leave the entries of replaced machines to finish")
    last = commands.add_parser("finish", help="remove the entries of replaced machines from a restored cluster")
    for command in (back, last):
        command.add_argument("--token-file", default="", help="where the token lies that is valid afterwards")
    options = parser.parse_args(arguments)
    try:
        if options.command == "check":
            result = check("standard input", sys.stdin.buffer) if options.file == "-" else check(options.file)
        else:
            config = load(options.config)
            if options.command == "list":
                for one in snapshots(config.directory):
                    print(f"{os.path.join(config.directory, one.name)}  {one.age / 3600:.1f} h  index {one.index}  {one.label}".rstrip())
                return 0
            result = {
                "take": lambda: take(config, options.label),
                "status": lambda: status(config),
                "restore": lambda: restore(config, options.file, options.token_file, options.data_only),
                "finish": lambda: finish(config, options.token_file),
            }[options.command]()
    except BackupError as error:
        print(f"consul-backup: {error}.", file=sys.stderr)
        return 1
    print(json.dumps(result, sort_keys=True))
    if result.get("problem"):
        print(f"consul-backup: {result['problem']}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
