# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A strict reader of rendered files: each line must be one that a rendered file may hold at its place, and nothing else.

It knows nothing of nginx's own reader, which takes quotes, backslashes and several directives on one line: a line that needs any of that
is not on the list, so whatever the reader takes is what nginx takes.
"""

from __future__ import annotations

import json
import re
import typing as t
from dataclasses import dataclass, field

LABEL = r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?"
NAME = r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
UPSTREAM = rf"(?:http_{LABEL}(?:\.canary)?(?:\.shared)?|tcp_{LABEL}\.[1-9][0-9]{{0,4}}|tls_{LABEL})"
SERVER = r"(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|\[[0-9a-f:]{2,39}\]):[1-9][0-9]{0,4}"
LISTEN = r"(?:[0-9.]+:)?[1-9][0-9]{0,4}"
TIME = r"[1-9][0-9]*(?:ms|s|m|h|d)"

UPSTREAM_LINES = (
    rf"    zone (?P<zone>{UPSTREAM}) [1-9][0-9]*k;",
    rf"    server (?P<server>{SERVER})(?: weight=(?P<weight>[1-9][0-9]*))? max_fails=[0-9]+ fail_timeout={TIME}(?P<backup> backup)?;",
    r"    keepalive [0-9]+;",
    rf"    keepalive_timeout {TIME};",
    r"    keepalive_requests [0-9]+;",
    r"    least_conn;",
)
# What a rendered file may hold beside the lines that it holds for an empty catalogue: the block that a line is in -> patterns.
HTTP = {
    "": (
        rf"(?P<open>upstream) (?P<upstream>{UPSTREAM}) {{",
        r"(?P<open>server) {",
        r'(?P<open>map) "\$http_x_canary,\$cookie_canary" \$edge_canary_choice {',
        r'(?P<open>split_clients) "\$request_id" \$edge_canary_draw_[0-9]{1,3} {',
        r"(?P<open>map) \$edge_canary_choice \$edge_canary_[0-9]{1,3} {",
    ),
    "upstream": UPSTREAM_LINES,
    "server": (
        rf"    listen (?P<listen>{LISTEN});",
        rf"    server_name (?P<name>{LABEL})\.(?P<domain>[a-z.]+);",
        rf'    set \$edge_service "(?P<service>{NAME})";',
        r"    access_log /[A-Za-z0-9_./-]+ edge_http buffer=32k flush=1s;",
        r"    client_max_body_size 100m;",
        r"    limit_conn edge_requests 1000;",
        r"    limit_conn_status 429;",
        r"    limit_conn_log_level info;",
        rf'    set \$edge_upstream "(?P<stable>{UPSTREAM})";',
        r"    (?P<open>if) \(\$edge_canary_(?P<share>[0-9]{1,3})\) {",
        r"    error_page (?P<apart>418) = @canary;",
        r"    (?P<open>location) (?:/|@canary) {",
        r"    default_type text/plain;",
        r"    add_header Retry-After 5 always;",
        rf'    return 503 "Service (?P<empty>{NAME}) has no healthy instance now\. Try again later\.\\n";',
    ),
    "if": (rf'        set \$edge_upstream "(?P<canary>{UPSTREAM})";', r"            return (?P<apart>418);"),
    "location": (
        r"        (?P<open>if) \(\$edge_canary_(?P<share>[0-9]{1,3})\) {",
        rf"        proxy_pass http://(?P<pass>{UPSTREAM}|\$edge_upstream);",
        r"        proxy_http_version 1\.1;",
        r"        proxy_set_header Authorization \$http_authorization;",
        r"        proxy_set_header (?:Host|Connection|Upgrade|X-Real-IP|X-Forwarded-(?:For|Proto|Host)|X-Request-ID) \$[a-z_]+;",
        r'        proxy_set_header [A-Za-z0-9-]+ "";',
        r"        proxy_headers_hash_(?:max_size 1024|bucket_size 512);",
        r"        proxy_(?:buffer_size|busy_buffers_size) 40k;",
        r"        proxy_buffers 8 8k;",
        r"        proxy_redirect off;",
        rf"        proxy_(?:connect|read|send)_timeout {TIME};",
        r"        proxy_socket_keepalive on;",
        r"        proxy_next_upstream error timeout;",
        r"        proxy_next_upstream_tries [0-9]+;",
        rf"        proxy_next_upstream_timeout {TIME};",
    ),
    "map": (
        r'    default "";',
        r'    "~\*\^(?:\[\^,\]\*,)?(?:always|never)[,$]" [01];',
        r"    default \$edge_canary_choice;",
        r'    "" \$edge_canary_draw_[0-9]{1,3};',
    ),
    "split_clients": (r"    [0-9]{1,3}% 1;", r"    \* 0;"),
}
STREAM = {
    "": (
        rf"(?P<open>upstream) (?P<upstream>{UPSTREAM}) {{",
        r"(?P<open>server) {",
        r"(?P<open>map) \$ssl_preread_server_name \$edge_tls_upstream {",
        r"(?P<open>map) \$server_port \$edge_tcp_service {",
    ),
    "upstream": UPSTREAM_LINES,
    "server": (
        rf"    listen (?P<listen>{LISTEN}) so_keepalive=on;",
        r"    limit_conn edge_connections 2000;",
        r"    limit_conn_log_level info;",
        rf"    proxy_pass (?P<pass>{UPSTREAM}|\$edge_tls_upstream);",
        rf"    proxy_(?:connect_timeout|timeout|next_upstream_timeout) {TIME};",
        r"    proxy_socket_keepalive on;",
        r"    proxy_next_upstream on;",
        r"    proxy_next_upstream_tries [0-9]+;",
        r"    access_log /[A-Za-z0-9_./-]+ edge_tcp;",
        r"    (?P<proxied>proxy_protocol) on;",
        r"    ssl_preread on;",
        rf"    preread_timeout {TIME};",
    ),
    "map": (
        r'    default "";',
        rf"    (?P<sni>{LABEL})\.[a-z.]+ (?P<to>tls_{LABEL});",
        r"    [1-9][0-9]{0,4} \$edge_tls_upstream;",
        rf'    [1-9][0-9]{{0,4}} "{NAME}";',
    ),
}
COMPILED = {side: {block: [re.compile(pattern, re.ASCII) for pattern in patterns] for block, patterns in table.items()} for side, table in
            (("http", HTTP), ("tcp", STREAM))}  # fmt: skip


class Rogue(AssertionError):
    """A line that has no place in a rendered file."""


@dataclass
class Block:
    """One block at the top of a file: what its lines said, by the names of the groups of the patterns."""

    kind: str
    found: dict[str, list[str]] = field(default_factory=dict)
    servers: list[tuple[str, int, bool]] = field(default_factory=list)

    def one(self, name: str) -> str:
        """The only value of a name; empty when there is none."""
        values = self.found.get(name, [])
        assert len(values) <= 1, f"{self.kind}: {name} is there {len(values)} times: {values}"
        return values[0] if values else ""


@dataclass
class Side:
    """A whole file."""

    blocks: list[Block]
    report: list[dict[str, t.Any]]


def report_line(text: str) -> dict[str, t.Any]:
    """A report line: one JSON object of printable ASCII, short enough for nginx's reader of comments."""
    if len(text) >= 4096 or not all(" " <= character <= "~" for character in text):
        raise Rogue(f"a report line of {len(text)} characters holds more than printable ASCII, or is too long: {text[:300]!r}")
    try:
        entry = json.loads(text[2:])
    except ValueError as error:
        raise Rogue(f"a report line is not JSON: {text[:300]!r}") from error
    if not isinstance(entry, dict) or entry.get("kind") not in ("served", "skipped", "warning"):
        raise Rogue(f"a report line is none that the guide knows: {text[:300]!r}")
    return entry


def read(side: str, text: str, fixed: t.Collection[str]) -> Side:
    """Read a rendered file. ``fixed`` are the lines that it has for an empty catalogue; they may stand at the top only, in their blocks."""
    result = Side([], [])
    stack: list[str] = []
    block: Block | None = None
    in_fixed = False
    if not text.endswith("\n"):
        raise Rogue("the file does not end with a line break")
    for number, line in enumerate(text[:-1].split("\n"), 1):
        if line.startswith("#!") and not stack:
            result.report.append(report_line(line))
            continue
        if in_fixed:
            if line not in fixed:
                raise Rogue(f"{side}, line {number}, in a fixed block: {line[:300]!r}")
            in_fixed = line != "}"
            continue
        if line.strip(" ") == "}" and stack:
            if line != "    " * (len(stack) - 1) + "}":
                raise Rogue(f"{side}, line {number}: {line!r} closes no block of its depth")
            stack.pop()
            continue
        kind = stack[-1] if stack else ""
        match = next((found for pattern in COMPILED[side].get(kind, ()) if (found := pattern.fullmatch(line))), None)
        if match is None:
            if not stack and line in fixed:
                # A fixed block (a map) or a fixed line (a comment, a log format).
                in_fixed = line.endswith("{")
                continue
            if block is not None and block.kind == "server" and line in fixed:
                # The server for unknown names stands among the fixed lines.
                block.found.setdefault("fixed", []).append(line)
                continue
            raise Rogue(f"{side}, line {number}, in {' > '.join(stack) or 'the file'}: {line[:300]!r}")
        groups = {name: value for name, value in match.groupdict().items() if value is not None}
        opened = groups.pop("open", "")
        if opened:
            if not stack:
                block = Block(opened)
                result.blocks.append(block)
            stack.append(opened)
        assert block is not None
        if "server" in groups:
            block.servers.append((groups["server"], int(groups.get("weight", "1")), "backup" in groups))
        else:
            for name, value in groups.items():
                block.found.setdefault(name, []).append(value)
    if stack or in_fixed:
        raise Rogue(f"{side}: the file ends inside {' > '.join(stack) or 'a fixed block'}")
    return result
