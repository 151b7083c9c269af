# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The live nginx configuration as data. Private to the collection, pure.

C(nginx -T) prints the files one after another without putting them into their place; here the includes are followed, so that
an upstream is known to be one of C(http) or of C(stream).
"""

from __future__ import annotations

import fnmatch
import os.path
import re
import typing as t

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<comment>\#[^\n]*)
      | (?P<sign>[{};])
      | "(?P<double>(?:\\.|[^"\\])*)"
      | '(?P<single>(?:\\.|[^'\\])*)'
      | (?P<word>(?:\\.|\$\{[^}]*\}|[^\s{};"'\#\\])(?:\\.|\$\{[^}]*\}|[^\s{};\\])*)
    )""",
    re.VERBOSE | re.DOTALL,
)
_FILE = re.compile(r"^# configuration file (?P<path>.+):$", re.MULTILINE)
_INCLUDE_DEPTH = 20


class Directive(t.NamedTuple):
    """One directive: its words, and what is in its braces when it has them."""

    words: tuple[str, ...]
    block: list[Directive] | None

    @property
    def name(self) -> str:
        """The first word."""
        return self.words[0] if self.words else ""


class Upstream(t.NamedTuple):
    """The servers of an upstream that may get traffic, with their parameters, and whether it balances by least connections."""

    servers: dict[str, tuple[str, ...]]
    least_conn: bool


class Server(t.NamedTuple):
    """What a server block listens on, its names, and where it passes to."""

    listen: tuple[str, ...]
    names: tuple[str, ...]
    passes: tuple[str, ...]


def parse(text: str) -> list[Directive]:
    """The directives of one file. A text that ends in the middle gives what was complete."""
    position = 0
    stack: list[list[Directive]] = [[]]
    words: list[str] = []
    while True:
        match = _TOKEN.match(text, position)
        if match is None or match.end() == position:
            return stack[0]
        position = match.end()
        if match.group("comment") is not None:
            continue
        sign = match.group("sign")
        if sign == ";":
            if words:
                stack[-1].append(Directive(tuple(words), None))
            words = []
        elif sign == "{":
            block: list[Directive] = []
            stack[-1].append(Directive(tuple(words), block))
            stack.append(block)
            words = []
        elif sign == "}":
            if len(stack) > 1:
                stack.pop()
            words = []
        else:
            words.append(next(part for part in (match.group("double"), match.group("single"), match.group("word")) if part is not None))


def _resolve(directives: list[Directive], files: dict[str, list[Directive]], root: str, depth: int) -> list[Directive]:
    result: list[Directive] = []
    for directive in directives:
        if directive.name == "include" and len(directive.words) == 2 and depth < _INCLUDE_DEPTH:
            pattern = os.path.normpath(os.path.join(root, directive.words[1]))
            for path in sorted(files):
                if fnmatch.fnmatchcase(os.path.normpath(path), pattern):
                    result += _resolve(files[path], files, root, depth + 1)
        elif directive.block is not None:
            result.append(Directive(directive.words, _resolve(directive.block, files, root, depth)))
        else:
            result.append(directive)
    return result


def parse_dump(text: str) -> list[Directive]:
    """The whole configuration from the output of C(nginx -T), includes in their place."""
    marks = list(_FILE.finditer(text))
    if not marks:
        return parse(text)
    files: dict[str, list[Directive]] = {}
    for index, mark in enumerate(marks):
        end = marks[index + 1].start() if index + 1 < len(marks) else len(text)
        files.setdefault(mark.group("path"), parse(text[mark.end() : end]))
    main = marks[0].group("path")
    return _resolve(files[main], files, os.path.dirname(main), 0)


def _context(directives: list[Directive], context: str) -> list[Directive]:
    return [inner for directive in directives if directive.words == (context,) for inner in directive.block or []]


def upstreams(directives: list[Directive], context: str) -> dict[str, Upstream]:
    """The upstreams of C(http) or C(stream). Servers that are down or only a backup get no traffic and do not count."""
    result: dict[str, Upstream] = {}
    for directive in _context(directives, context):
        if directive.name != "upstream" or len(directive.words) != 2 or directive.block is None:
            continue
        servers = {
            inner.words[1]: inner.words[2:]
            for inner in directive.block
            if inner.name == "server" and len(inner.words) > 1 and not {"down", "backup"} & set(inner.words[2:])
        }
        result[directive.words[1]] = Upstream(servers, any(inner.name == "least_conn" for inner in directive.block))
    return result


def _passes(directives: list[Directive]) -> list[str]:
    found: list[str] = []
    for directive in directives:
        if directive.name == "proxy_pass" and len(directive.words) > 1:
            found.append(directive.words[1])
        found += _passes(directive.block or [])
    return found


def servers(directives: list[Directive], context: str) -> list[Server]:
    """The server blocks of C(http) or C(stream)."""
    return [
        Server(
            tuple(inner.words[1] for inner in directive.block if inner.name == "listen" and len(inner.words) > 1),
            tuple(name for inner in directive.block if inner.name == "server_name" for name in inner.words[1:]),
            tuple(_passes(directive.block)),
        )
        for directive in _context(directives, context)
        if directive.words == ("server",) and directive.block is not None
    ]


def listens_on(server: Server, port: int) -> bool:
    """Whether a server block listens on a port, whatever the address."""
    return any(re.search(rf"(^|[:\]]){port}$", listen) for listen in server.listen)
