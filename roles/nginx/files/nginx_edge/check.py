# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test a candidate before it is live.

nginx reads the edge through a fixed link, so testing a candidate means showing nginx another target of that link. Two ways were weighed: a
mount namespace with the candidate bound over the link's target needs CAP_SYS_ADMIN, which many containers and every well fenced unit lack,
and where it is missing nothing could be applied at all. So the configuration directory is mirrored instead: directories are real, files are
links, and only files that name the directory or the link are copied with those names changed. Not to be fooled by a path that the mirror
misses, nginx is asked for the files it read (-T), and the candidate has to be among them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import NamedTuple

from .config import Config
from .errors import ApplyError
from .files import read_text, remove_tree
from .foreign import NAMES, doubled, names
from .nginxconf import ConfigError, Directive, Document, Listener, parse_listen
from .processes import run
from .render import CERTIFICATES, EDGE_HTTP, EDGE_STREAM

MAX_COPIED = 4 << 20
_PID = re.compile(rb"^([ \t]*)pid[ \t]+[^;{}\n]+;", re.MULTILINE)
_MESSAGE = re.compile(r"^(?:nginx:|[\d/]+ [\d:]+) \[(?P<level>emerg|alert|crit|error|warn)\] (?:\d+#\d+: )?(?P<text>.*?)(?: in (?P<file>/\S+):(?P<line>\d+))?$")
HOOKS = ("conf.d/00-edge.conf", "modules-enabled/99-edge-stream.conf")
REMEDIES = (
    ('"stream" directive is duplicate', "there can be one stream block, and the edge brings it; take the other one out"),
    ('unknown directive "stream"', "the stream module is not loaded; install libnginx-mod-stream and keep modules-enabled included"),
    ("a duplicate default server", "the edge owns the default server of its port; take default_server out of the other listen line"),
    (
        "duplicate listen options",
        "the edge sets the backlog of its port; take the options of the socket (reuseport, backlog= and the like) out of the other listen line",
    ),
    ("host not found in upstream", f"nginx does not start without its address; {NAMES}"),
    ("worker_connections are not enough", "raise nginx_worker_connections, or worker_connections in the events block"),
    ("could not build server_names_hash", "raise it in nginx_http_options"),
)


_DUPLICATE = re.compile(r'"([a-z0-9_]+)" directive is duplicate')
# What leaves a directive of the edge's own to another file.
LEAVE = {
    "worker_shutdown_timeout": "nginx_worker_shutdown_timeout: ''",
    "worker_rlimit_nofile": "nginx_worker_rlimit_nofile: 0",
}
# What the edge needs to be as it is.
KEEP = {
    "underscores_in_headers": "underscore_headers: true in the edge description (platform_edge) lets such headers through",
    "ignore_invalid_headers": "without it, spellings of headers that the edge clears would reach the services",
}


def remedy(text: str, tree: str) -> str:
    """Return what to do about something that nginx said about a tree, or an empty text."""
    twice = _DUPLICATE.search(text)
    if twice and twice.group(1) != "stream":
        name = twice.group(1)
        ours = any(one.name == name for part in ("main/edge.conf", "http/00-base.conf", EDGE_HTTP) for one in _directives(f"{tree}/{part}"))
        if not ours:
            return "it is there twice in the operator's own files; take it out of one of them"
        if name in KEEP:
            return f"the edge sets it, too: take it out of the other file; {KEEP[name]}"
        setting = LEAVE.get(name, f"nginx_http_options: {{{name}: ''}}")
        return f"the edge sets it, too: take it out of the other file, or leave it to that one by {setting}"
    return next((advice for sign, advice in REMEDIES if sign in text), "")


def _directives(path: str) -> list[Directive]:
    try:
        return Document(read_text(path) or "").directives
    except ConfigError:
        return []


def mirror(source: str, copy: str, changes: list[tuple[bytes, bytes]]) -> None:
    """Mirror a configuration directory."""
    os.mkdir(copy, 0o700)
    real = os.path.realpath(source)
    for entry in os.scandir(source):
        target = f"{copy}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            mirror(entry.path, target, changes)
            continue
        if entry.is_dir():
            inside = os.path.realpath(entry.path)
            os.symlink(copy + inside[len(real) :] if inside.startswith(real + "/") else inside, target)
            continue
        data = _readable(entry)
        changed = data
        if data is not None:
            for old, new in changes:
                changed = changed.replace(old, new) if changed is not None else None
            if entry.name == "nginx.conf" and changed is not None:
                # The test would leave an empty pid file behind where nginx does not run.
                changed = _PID.sub(rb"\1pid " + os.fsencode(f"{copy}/nginx.pid").replace(b"\\", b"\\\\") + b";", changed)
        if changed is None or changed == data:
            os.symlink(entry.path, target)
        else:
            with open(target, "wb") as handle:
                handle.write(changed)


def _readable(entry: os.DirEntry[str]) -> bytes | None:
    try:
        if not entry.is_file() or entry.stat().st_size > MAX_COPIED:
            return None
        with open(entry.path, "rb") as handle:
            return handle.read()
    except OSError:
        return None


def explain(stderr: str, config: Config, tree: str, copy: str, documents: dict[str, Document]) -> tuple[str, str]:
    """(blame, one sentence) from what nginx said about a mirror: real file names, whose file it is, and the remedy where one is known."""
    directory = os.path.dirname(config.nginx_conf)
    found = None
    for line in stderr.splitlines():
        match = _MESSAGE.match(line)
        if match and match.group("level") != "warn":
            found = match
            break
    if found is None:
        return "host", "nginx refused the configuration without saying why: " + (" ".join(stderr.split())[-300:] or "no output")
    certificate = re.search(rf"{re.escape(tree)}/{CERTIFICATES}/([a-z0-9-]+)\.pem", found.group("text"))
    if certificate:
        text = found.group("text").replace(f"{tree}/{CERTIFICATES}", config.places.certificates)
        return "platform", f"nginx refuses certificate {certificate.group(1)}: {text}; give nginx_tls_certificates a good one and run the site playbook"
    text = found.group("text").replace(copy, directory).replace(tree, config.live)
    advice = remedy(text, tree)
    advice = f"; {advice}" if advice else ""
    path, line_number = found.group("file"), int(found.group("line") or 0)
    if path is None:
        return ("operator" if directory + "/" in text else "host"), f"nginx: {text}{advice}"
    if path.startswith(tree + "/"):
        inner = path[len(tree) + 1 :]
        name = {EDGE_HTTP: "http.conf", EDGE_STREAM: "stream.conf"}.get(inner)
        if name is None:
            return "platform", f"the edge's own {inner}, line {line_number}: {text}{advice}"
        subject = documents[inner].subject_at(line_number) if inner in documents else ""
        return "staged", f"staged {name}, line {line_number}{f' ({subject})' if subject else ''}: {text}{advice}"
    real = path.replace(copy + "/", directory + "/", 1)
    if real in [f"{directory}/{hook}" for hook in HOOKS]:
        return "platform", f"the edge's own {real}, line {line_number}: {text}{advice}"
    return "operator", f"the operator's own file {real}, line {line_number}: {text}{advice}"


def foreign_files(dump: str, tree: str, copy: str, directory: str) -> dict[str, str]:
    """Return the operator's own files that nginx read, with their texts, from what ``nginx -T`` prints about a mirror."""
    parts = re.split(r"^# configuration file (/.*):$", dump, flags=re.MULTILINE)
    return {
        f"{directory}/{path[len(copy) + 1 :]}" if path.startswith(f"{copy}/") else path: text
        for path, text in zip(parts[1::2], parts[2::2])
        if not path.startswith(f"{tree}/")
    }


def foreign_listeners(texts: Iterable[str]) -> set[Listener]:
    """Return the sockets of the operator's own servers."""
    found: set[Listener] = set()
    for text in texts:
        try:
            directives = Document(text).walk()
        except ConfigError:
            # nginx knows more than this reader (Lua blocks, for one).
            continue
        for directive in directives:
            if directive.name == "listen":
                found.update(parse_listen(directive.args))
    return found


class Operators(NamedTuple):
    """What the operator's own servers have."""

    listeners: set[Listener]
    passed: set[str]
    defined: set[str]
    doubled: set[tuple[str, str]]
    # Those of their files that pass requests to an upstream of the edge's kind.
    files: list[str]


def check_tree(config: Config, tree: str, documents: dict[str, Document]) -> Operators:
    """Let nginx test the whole configuration as it would be with the tree live; raises what is wrong. Gives what the operator's own servers have."""
    directory, copy = os.path.dirname(config.nginx_conf), f"{config.state_dir}/check"
    remove_tree(copy)
    # nginx tries its unix sockets, too. The directory is gone while nginx is stopped, and gets its rights when nginx is started.
    os.makedirs(config.socket_dir, 0o700, exist_ok=True)
    changes = [(os.fsencode(f"{directory}/"), os.fsencode(f"{copy}/")), (os.fsencode(f"{config.live}/"), os.fsencode(f"{tree}/"))]
    try:
        mirror(directory, copy, changes)
        result = run([config.nginx_binary, "-T", "-c", f"{copy}/{os.path.basename(config.nginx_conf)}"], 60)
    except FileNotFoundError as error:
        raise ApplyError("host", f"{error.filename} is not there; install nginx (the site playbook does)") from error
    finally:
        remove_tree(copy)
    if result.status != 0:
        blame, message = explain(result.stderr, config, tree, copy, documents)
        raise ApplyError(blame, message)
    for part, hook in (("http/50-edge.conf", HOOKS[0]), ("main/edge.conf", HOOKS[1])):
        if f"\n# configuration file {tree}/{part}:\n" not in "\n" + result.stdout:
            advice = f"include {os.path.dirname(hook)}/*.conf there, or run the site playbook"
            raise ApplyError("operator", f"{config.nginx_conf} does not read {directory}/{hook}: {advice}")
    files = foreign_files(result.stdout, tree, copy, directory)
    passed, defined = names("\n".join(files.values()))
    passing = sorted(path for path, text in files.items() if names(text)[0])
    return Operators(foreign_listeners(files.values()), passed, defined, doubled(result.stderr), passing)
