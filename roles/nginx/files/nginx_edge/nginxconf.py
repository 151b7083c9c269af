# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""nginx configuration text: directives with their places, listeners, upstreams and certificates. No I/O."""

from __future__ import annotations

import bisect
import re
import socket
from collections.abc import Callable, Container, Iterator
from typing import Any, NamedTuple

from .recent import Recent

# The rules of nginx's own reader: quotes are special only at the start of a word, "${" belongs to a word, and "}" inside a word does not end it.
_TOKEN = re.compile(
    r"[ \t\r\n]+"
    r"|(?P<comment>\#[^\n]*)"
    r"|(?P<punct>[{};])"
    r"|(?P<quoted>\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')"
    r"|(?P<bare>(?![\"'])(?:\\.|\$\{*|[^\s;{\\$])+)",
    re.DOTALL,
)
# A whole directive without quotes, comments, escapes and "}", up to its ";" or "{": nearly all of them, and read in one step.
_PLAIN = re.compile(r"[ \t\r\n]*([^\s;{}\"'\\#]+(?:[ \t\r\n]+[^\s;{}\"'\\#]+)*)[ \t\r\n]*([;{])")
# Before any other character, a backslash stays.
_ESCAPE = re.compile(r"\\([\"'\\trn])")
_ESCAPED = {"t": "\t", "r": "\r", "n": "\n"}
MAX_DEPTH = 16
ANY_IPV4, ANY_IPV6 = WILDCARDS = ("0.0.0.0", "::")


class ConfigError(ValueError):
    """The text can't be read as nginx configuration. ``read`` says at which place of its text, a document in which line of its own."""

    def __init__(self, message: str, place: int) -> None:
        super().__init__(message)
        self.place = place


def printable(text: str, limit: int = 300) -> str:
    """Return a text of others for a message or a comment: one line, however long and odd it is."""
    plain = text if text.isprintable() else "".join(sign if sign.isprintable() else "?" for sign in text)
    return plain if len(plain) <= limit else plain[: limit - 3] + "..."


class Directive:
    """One directive: its words, its place in the text that it was read from, and its block if it has one."""

    __slots__ = ("args", "block", "end", "name", "start")

    def __init__(self, words: list[str], start: int) -> None:
        self.name = words[0]
        self.args = words[1:]
        self.start = start
        self.end = start
        self.block: list[Directive] | None = None


def _unescaped(word: str) -> str:
    """Return what nginx takes a word for, with or without quotes."""
    if "\\" not in word:
        return word
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match.group(1), match.group(1)), word)


def read(text: str) -> list[Directive]:
    """The directives of a text. An error has its place instead of its line."""
    position, size = 0, len(text)
    top: list[Directive] = []
    stack: list[tuple[Directive, list[Directive]]] = []
    words: list[str] = []
    current, start = top, 0
    while position < size:
        match = _PLAIN.match(text, position) if not words else None
        # The "{" of "${" does not begin a block.
        if match is not None and text[match.end() - 2 : match.end()] != "${":
            words, start, word, position = match.group(1).split(), match.start(1), match.group(2), match.end()
        else:
            match = _TOKEN.match(text, position)
            if match is None:
                raise ConfigError("a quote is never closed, or a backslash ends the file", position)
            position = match.end()
            kind = match.lastgroup
            if kind is None or kind == "comment":
                continue
            word = match.group()
            if kind != "punct":
                if not words:
                    start = match.start()
                words.append(_unescaped(word[1:-1] if kind == "quoted" else word))
                continue
        if word == "}":
            if words:
                raise ConfigError(f'"{printable(words[0], 60)}" is not ended by ";"', start)
            if not stack:
                raise ConfigError('unexpected "}"', match.start())
            directive, current = stack.pop()
            directive.end = position
            continue
        if not words:
            raise ConfigError(f'unexpected "{word}"', match.start())
        directive, words = Directive(words, start), []
        directive.end = position
        current.append(directive)
        if word == "{":
            if len(stack) >= MAX_DEPTH:
                raise ConfigError(f"blocks are nested deeper than {MAX_DEPTH}", start)
            directive.block = []
            stack.append((directive, current))
            current = directive.block
    if words or stack:
        raise ConfigError("the text ends inside a directive or block", size)
    return top


class Piece:
    """Whole directives of a text; their places count from the piece's own beginning. Never changed, so texts may share it."""

    __slots__ = ("directives", "judged", "listeners")

    def __init__(self, directives: list[Directive]) -> None:
        self.directives = directives
        # What was found out about it already.
        self.listeners: frozenset[Listener] | None = None
        self.judged: tuple[object, Any] | None = None


_PIECES = Recent(lambda text: Piece(read(text)), limit=8 << 20)
# Where a block of the outermost level ends, as our templates write it. Where it is something else, the text is read in one piece.
_PIECE_END = "\n}\n"


class Document:
    """A parsed configuration text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._newlines: list[int] | None = None
        # Each with the place where it begins.
        self.pieces: list[tuple[int, Piece]] = []
        self.listeners: set[Listener] | None = None
        position = 0
        while position < len(text):
            end = text.find(_PIECE_END, position)
            end = len(text) if end < 0 else end + len(_PIECE_END)
            try:
                piece = _PIECES.get(text[position:end])
            except ConfigError:
                try:
                    piece, end = Piece(read(text[position:])), len(text)
                except ConfigError as error:
                    raise ConfigError(str(error), self.line_of(position + error.place)) from None
            self.pieces.append((position, piece))
            position = end

    @property
    def directives(self) -> list[Directive]:
        """The directives of the outermost level."""
        return [directive for _, piece in self.pieces for directive in piece.directives]

    def placed(self) -> Iterator[tuple[int, Directive]]:
        """The directives of the outermost level, each with where in the text the places in it count from."""
        for position, piece in self.pieces:
            for directive in piece.directives:
                yield position, directive

    def line_of(self, offset: int) -> int:
        """The line (from 1) of a place in the text."""
        if self._newlines is None:
            self._newlines = [match.start() for match in re.finditer("\n", self.text)]
        return bisect.bisect_left(self._newlines, offset) + 1

    def walk(self) -> Iterator[Directive]:
        """Every directive, at any depth. The entries of map-like blocks are values, not directives, and are left out."""
        for _, piece in self.pieces:
            yield from walk(piece.directives)

    def subject_at(self, line: int) -> str:
        """What a person calls the place: the upstream or server around the line."""
        for base, directive in self.placed():
            if self.line_of(base + directive.start) <= line <= self.line_of(base + max(directive.start, directive.end - 1)):
                return describe(directive)
        return ""


def walk(directives: list[Directive]) -> Iterator[Directive]:
    """These directives and all in their blocks, but for the entries of map-like ones."""
    for directive in directives:
        yield directive
        if directive.block is not None and directive.name not in VALUE_BLOCKS:
            yield from walk(directive.block)


VALUE_BLOCKS = frozenset({"map", "geo", "split_clients", "types", "charset_map"})


def describe(directive: Directive) -> str:
    """``upstream "x"`` or ``server "name"``."""
    if directive.name == "server" and directive.block is not None:
        names = [word for inner in directive.block if inner.name == "server_name" for word in inner.args]
        ports = [word for inner in directive.block if inner.name == "listen" for word in inner.args[:1]]
        return printable(f'server "{" ".join(names or ports)}"')
    return printable(f'{directive.name} "{" ".join(directive.args)}"' if directive.args else directive.name)


# -- listeners --------------------------------------------------------------------------------------------------------------


class Listener(NamedTuple):
    """A socket that nginx has to hold."""

    proto: str
    address: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}/{self.proto}"


def normal_ip(text: str) -> str | None:
    """An address in its usual spelling, or nothing when it is none."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_ntop(family, socket.inet_pton(family, text))
        except OSError:
            continue
    return None


def parse_listen(args: list[str]) -> list[Listener]:
    """The sockets of one ``listen`` directive. Unix sockets and host names give none: they are nginx's business alone."""
    if not args or args[0].lower().startswith("unix:"):
        return []
    proto = "udp" if "udp" in args[1:] else "tcp"
    match = re.fullmatch(r"(?:(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]]+):)?(?P<first>\d{1,5})(?:-(?P<last>\d{1,5}))?", args[0])
    if match is None:
        address = normal_ip(args[0].strip("[]"))
        return [Listener(proto, address, 80)] if address else []
    host = (match.group("host") or "*").strip("[]")
    address = ANY_IPV4 if host == "*" else normal_ip(host)
    if address is None:
        return []
    first = int(match.group("first"))
    last = int(match.group("last") or first)
    return [Listener(proto, address, port) for port in range(first, last + 1) if 0 < port < 65536]


def server_listeners(server: Directive) -> list[Listener]:
    """The sockets of one server block; http's default when it has no ``listen`` is the caller's business."""
    return [listener for inner in server.block or [] if inner.name == "listen" for listener in parse_listen(inner.args)]


def listeners(document: Document) -> set[Listener]:
    """Every socket that the servers of a text want. Worked out once for each text."""
    if document.listeners is None:
        found = document.listeners = set()
        for _, piece in document.pieces:
            if piece.listeners is None:
                servers = [directive for directive in piece.directives if directive.name == "server" and directive.block is not None]
                piece.listeners = frozenset(listener for server in servers for listener in server_listeners(server))
            found |= piece.listeners
    return document.listeners


def worker_connections(document: Document) -> int | None:
    """How many connections a worker may have, by the main file; nothing when its ``events`` block is elsewhere."""
    blocks = [directive.block for directive in document.directives if directive.name == "events" and directive.block is not None]
    words = [inner.args[0] for block in blocks for inner in block if inner.name == "worker_connections" and inner.args]
    if not blocks or (words and not words[-1].isdigit()):
        return None
    # nginx's own default.
    return int(words[-1]) if words else 512


def too_many(document: Document, unusable: Container[Listener], room: int) -> set[Listener]:
    """Sockets beyond those that there is room for. The servers that read the name out of TLS come first: one of them stands for many services.
    Then it goes by the order of the text, which does not change with health."""
    servers = [directive for directive in document.directives if directive.name == "server" and directive.block is not None]
    servers.sort(key=lambda server: not any(inner.name == "ssl_preread" for inner in server.block or []))
    beyond: set[Listener] = set()
    for server in servers:
        wanted = server_listeners(server)
        if any(listener in unusable for listener in wanted):
            continue
        if len(wanted) > room:
            beyond.update(wanted)
        else:
            room -= len(wanted)
    return beyond


def clash(one: Listener, other: Listener) -> bool:
    """Whether one nginx can't hold both sockets for different purposes."""
    if one.proto != other.proto or one.port != other.port or (":" in one.address) != (":" in other.address):
        return False
    return one.address == other.address or ANY_IPV4 in (one.address, other.address) or ANY_IPV6 in (one.address, other.address)


class LeftOut(NamedTuple):
    """A server block that nginx can't have, because of one of its sockets, or of its upstream."""

    subject: str
    listener: Listener | None
    reason: str
    # Its names, and what it passes connections to, to find the service that it belongs to.
    names: tuple[str, ...]
    upstream: str

    @property
    def why(self) -> str:
        """Return the reason with its socket."""
        return f"{self.listener} {self.reason}" if self.listener else self.reason


def _left_out(text: str, start: int, end: int, why: str) -> str:
    """Return what takes the place of a block: its lines, the first with a comment.

    A comment takes the rest of its line with it. Of a block on one line, that may be the beginning of what is a string up to there,
    and configuration without it.
    """
    lines = "\n" * text.count("\n", start, end)
    following = text.find("\n", end)
    alone = lines or not text[end : following if following >= 0 else len(text)].strip()
    return f"# left out: {printable(why)}{lines}" if alone else ""


def _words(directive: Directive, name: str) -> tuple[str, ...]:
    return tuple(word for inner in directive.block or [] if inner.name == name for word in inner.args)


def without_listeners(document: Document, unusable: dict[Listener, str]) -> tuple[str, list[LeftOut]]:
    """The text without the server blocks that want an unusable socket; line numbers stay. Also what was left out and why."""
    text, removed, pieces, position = document.text, [], [], 0
    for base, directive in document.placed():
        if directive.name != "server" or directive.block is None:
            continue
        wanted = [listener for listener in server_listeners(directive) if listener in unusable]
        if not wanted:
            continue
        upstream = "".join(_words(directive, "proxy_pass")[:1])
        removed.append(LeftOut(describe(directive), wanted[0], unusable[wanted[0]], _words(directive, "server_name"), upstream))
        start, end = base + directive.start, base + directive.end
        pieces += [text[position:start], _left_out(text, start, end, f"{wanted[0]} {unusable[wanted[0]]}")]
        position = end
    return "".join([*pieces, text[position:]]), removed


def upstreams(document: Document) -> set[str]:
    """Return the names of the upstreams of a text."""
    return {directive.args[0] for directive in document.directives if directive.name == "upstream" and directive.args}


_PLACE = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([0-9]{1,5})")


class Place(NamedTuple):
    """Where an instance answers."""

    address: str
    port: int


def _place(server: Directive) -> Place | None:
    """Return the place of a server of an upstream; nothing for a unix socket or a name."""
    match = _PLACE.fullmatch(server.args[0]) if server.name == "server" and server.args else None
    address = normal_ip(match.group(1) or match.group(2)) if match else None
    return Place(address, int(match.group(3))) if match and address else None


def places(document: Document) -> dict[str, set[Place]]:
    """Return the places of each upstream, none for one with a server whose place is not known."""
    found: dict[str, set[Place]] = {}
    for directive in document.directives:
        if directive.name == "upstream" and directive.args:
            of_servers = [_place(server) for server in directive.block or [] if server.name == "server"]
            found[directive.args[0]] = {place for place in of_servers if place} if all(of_servers) else set()
    return found


def without_places(document: Document, refused: Callable[[str, int], bool]) -> tuple[str, dict[str, list[str]], set[str]]:
    """Return the text without these servers of upstreams, those servers by upstream, and the upstreams that have none any more.

    Line numbers stay."""
    text, pieces, position = document.text, [], 0
    removed: dict[str, list[str]] = {}
    emptied: set[str] = set()
    for base, directive in document.placed():
        if directive.name != "upstream" or not directive.args:
            continue
        left = 0
        for server in directive.block or []:
            place = _place(server)
            if place is None or not refused(*place):
                left += server.name == "server" and "backup" not in server.args
                continue
            removed.setdefault(directive.args[0], []).append(server.args[0])
            start, end = base + server.start, base + server.end
            # No comment: the rest of the line may be needed.
            pieces += [text[position:start], "\n" * text.count("\n", start, end)]
            position = end
        if directive.args[0] in removed and not left:
            emptied.add(directive.args[0])
    return "".join([*pieces, text[position:]]), removed, emptied


def _leads_to(server: Directive) -> set[str]:
    """Return what a server may pass requests to: the target itself, or what a variable of it is set to."""
    return {word.split("://", 1)[-1] for one in walk(server.block or []) if one.name in ("proxy_pass", "set") for word in one.args[-1:]}


def without_upstreams(document: Document, unusable: dict[str, str]) -> tuple[str, list[LeftOut]]:
    """Return the text without these upstreams and the servers that lead there, each with its reason; line numbers stay."""
    text, removed, pieces, position = document.text, [], [], 0
    for base, directive in document.placed():
        if directive.name == "server" and directive.block is not None:
            found = sorted(_leads_to(directive) & unusable.keys())
        else:
            found = sorted({*directive.args[:1]} & unusable.keys()) if directive.name == "upstream" else []
        if not found:
            continue
        if directive.name == "server":
            removed.append(LeftOut(describe(directive), None, unusable[found[0]], _words(directive, "server_name"), found[0]))
        start, end = base + directive.start, base + directive.end
        pieces += [text[position:start], _left_out(text, start, end, unusable[found[0]])]
        position = end
    return "".join([*pieces, text[position:]]), removed


# -- certificates --------------------------------------------------------------------------------------------------

CERTIFICATE_DIRECTIVES = frozenset({"ssl_certificate", "ssl_certificate_key"})
CERTIFICATE_FILE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?\.pem")


class Places(NamedTuple):
    """Where a staged file may reach to."""

    sockets: str = "/run/nginx-edge/tls"
    certificates: str = "/etc/nginx-edge/tls"
    # Whether requests may be sent to loopback addresses of the edge itself.
    loopback: bool = False


def _certificate(directive: Directive, places: Places) -> str:
    """The file of the certificate that a directive names, or nothing when it is none of the edge's."""
    directory, _, name = directive.args[0].rpartition("/") if len(directive.args) == 1 else ("", "", "")
    return name if directory == places.certificates and CERTIFICATE_FILE.fullmatch(name) else ""


def _named_certificates(document: Document, places: Places) -> Iterator[tuple[int, Directive, str]]:
    """The directives that name one of the edge's own certificates, with where their places count from and the file.
    nginx knows them in servers and outside, not deeper."""
    if "ssl_certificate" not in document.text:
        return
    for base, outer in document.placed():
        for directive in (outer, *(outer.block or ())) if outer.name == "server" else (outer,):
            if directive.name in CERTIFICATE_DIRECTIVES and (name := _certificate(directive, places)):
                yield base, directive, name


def certificates(document: Document, places: Places) -> dict[str, int]:
    """The files of the edge's own certificates that a text names, each with the line where it does so first."""
    found: dict[str, int] = {}
    for base, directive, name in _named_certificates(document, places):
        if name not in found:
            found[name] = document.line_of(base + directive.start)
    return found


def with_certificates(document: Document, places: Places, directory: str) -> str:
    """The text with the edge's own certificates taken from another directory; line numbers stay."""
    text, pieces, position = document.text, [], 0
    for base, directive, name in _named_certificates(document, places):
        start, end = base + directive.start, base + directive.end
        pieces += [text[position:start], f"{directive.name} {directory}/{name};", "\n" * text.count("\n", start, end)]
        position = end
    return "".join([*pieces, text[position:]])
