# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Staging directories as somebody would write them who wants root's nginx to read, write or reach what it must not.

A tree is what the edge needs, with nothing, one or several attacks in it: a directive or an entry that nginx knows, at a
place where nginx knows it or not, in a spelling that a reader other than nginx's own may take for something else. A tree
follows from its number and the seed.
"""

from __future__ import annotations

import random
import re
import typing as t
from dataclasses import dataclass, field

MARK = re.compile("@([a-z]*)")


@dataclass(frozen=True)
class World:
    """What is there to be reached: places of the edge's own, and those that must stay untouched."""

    http_port: int
    tcp_port: int
    sockets: str
    staging: str
    #: A file that only root reads, its directory, and what listens there and on loopback.
    secret: str
    outside: str
    foreign_socket: str
    foreign_port: int


@dataclass
class Tree:
    """What lies in the staging directory."""

    http: bytes
    stream: bytes
    #: Name -> (kind, target): "file", "link", "hard link", "socket", "pipe", "directory".
    more: dict[str, tuple[str, str]] = field(default_factory=dict)
    attacks: int = 0

    def __str__(self) -> str:
        parts = [
            f"--- http.conf\n{self.http.decode('utf-8', 'backslashreplace')}",
            f"--- stream.conf\n{self.stream.decode('utf-8', 'backslashreplace')}",
        ]
        return "\n".join([*parts, *(f"--- {name}: {kind} {target}" for name, (kind, target) in self.more.items())]) + "\n"


# A server that is left out, because others have its port.
HELD = "server { listen 127.0.0.1:@held; return 200; }"
# A comment in its place must not take the beginning of the string with it.
UNCOVERED = HELD + ' map $remote_addr $edge_y { default "\ninclude @secret;\n# "; }'
# Directives that take a file or directory, written @, by the kind of block in which nginx knows them.
READERS = {
    "http": [
        UNCOVERED,
        "include @",
        "auth_basic_user_file @",
        "ssl_certificate @",
        "ssl_certificate_key @",
        "ssl_dhparam @",
        "ssl_client_certificate @",
        "ssl_trusted_certificate @",
        "ssl_crl @",
        "ssl_password_file @",
        "ssl_session_ticket_key @",
        "ssl_conf_command Certificate @",
        "proxy_ssl_certificate @",
        "proxy_ssl_trusted_certificate @",
        "root @",
        "root @dir",
        "access_log @",
        "access_log @ edge_http",
        "access_log /var/log/nginx/../../..@ edge_http",
        "access_log syslog:server=unix:@socket",
        "error_log @",
        "error_log @ debug",
        "client_body_temp_path @dir",
        "proxy_temp_path @dir",
        "fastcgi_temp_path @dir",
        "proxy_cache_path @dir keys_zone=fuzz:1m",
        "open_log_file_cache max=10",
        "geoip_country @",
        "perl_modules @dir",
        "js_import @",
        "xslt_stylesheet @",
        "charset_map a b { include @; }",
        "types { include @; }",
        "map $host $edge_m { include @; }",
        "map $host $edge_m { default 1; volatile; include @; }",
        "geo $edge_g { ranges; include @; default 0; }",
        "geo $remote_addr $edge_g { include @; }",
        "split_clients $request_id $edge_s { include @; }",
        "upstream evil { include @; }",
    ],
    "server": [
        "location / { alias @; }",
        "location = /x { root @dir; }",
        "try_files @ =404",
        "if (-f @) { return 403; }",
        "location /y { proxy_store @; }",
    ],
    "location": [
        "alias @",
        "proxy_store @",
        "dav_methods PUT",
        "index @",
        "try_files @ =404",
        "root @dir",
        "auth_request @",
        "fastcgi_pass unix:@socket",
    ],
    "stream": [
        UNCOVERED,
        "include @",
        "access_log @ edge_tcp",
        "error_log @",
        "js_import @",
        "ssl_certificate @",
        "ssl_dhparam @",
        "map $remote_addr $edge_m { include @; }",
        "geo $remote_addr $edge_g { ranges; include @; }",
    ],
}
REACHERS = {
    "http": [
        "upstream evil { server @to; }",
        "map $host $edge_upstream { default @to; }",
        "map $host $edge_m { default @to; }",
        "server { listen @to; }",
    ],
    "server": [
        "set $edge_upstream @to",
        "listen @to",
        "location = /z { proxy_pass http://@to; }",
        "set $x @to",
        "resolver 127.0.0.1",
        "set_real_ip_from @to",
        "error_page 404 @to",
        "return 302 @to",
    ],
    "location": [
        "proxy_pass http://@to",
        "proxy_pass http://@to:/",
        "proxy_pass http://$edge_upstream",
        "fastcgi_pass @to",
        "uwsgi_pass @to",
        "memcached_pass @to",
        "grpc_pass @to",
        "mirror @to",
        "proxy_bind @to",
    ],
    "stream": [
        "upstream evil { server @to; }",
        "server { listen @to; return x; }",
        "server { listen 127.0.0.1:@free; proxy_pass @to; }",
        "map $remote_addr $edge_tls_upstream { default @to; }",
    ],
}
TO_SOCKET = (
    "unix:@socket",
    "UNIX:@socket",
    "Unix:@socket",
    "unix:@sockets/../foreign.sock",
    '"unix:@socket"',
    "unix:@socket:",
    "un$edge_m@socket",
    "uni${edge_m}:@socket",
)
TO_PORT = (
    "127.0.0.1:@port",
    "localhost:@port",
    "[::1]:@port",
    "2130706433:@port",
    "0x7f.1:@port",
    "127.1:@port",
    "0:@port",
    "$arg_to:@port",
    '"127.0.0.1:@port"',
)
PATHS = (
    "@secret",
    "@outside/*",
    "@outside/s*cret",
    "@staging/evil",
    "@staging/link",
    "../../../../../..@secret",
    "evil",
    '"@secret"',
    "'@secret'",
    "/etc/shadow",
)


class Trees:
    """Makes trees for one world."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.seed = world, seed

    def tree(self, number: int) -> Tree:
        """Return the tree with a number."""
        draw = random.Random(f"{self.seed}/{number}")
        attacks = {"http": [], "server": [], "location": [], "stream": []}
        count = draw.choice((0, 0, 1, 1, 1, 1, 2, 3))
        for _ in range(count):
            place = draw.choice(tuple(attacks))
            attacks[place].append(self.attack(draw, place))
        http, stream = self.http(draw, attacks), self.stream(draw, attacks)
        if draw.random() < 0.1:
            http = self.broken(draw, http)
        tree = Tree(self.encoded(draw, http), self.encoded(draw, stream), {}, count)
        if draw.random() < 0.4:
            tree.more["evil"] = (
                "file",
                f"{draw.choice(('', '#', '1 2;'))}ssh-ed25519 AAAA\n{self.attack(draw, 'http')}\n",
            )
        if draw.random() < 0.15:
            self.strangers(draw, tree)
        return tree

    # -- what an edge needs ----------------------------------------------------------------------------------------

    def http(self, draw: random.Random, attacks: dict[str, list[str]]) -> str:
        """Return a http side in which attacks stand where they belong."""
        world = self.world
        parts = [
            'map $http_upgrade $edge_upgrade {\n    default "";\n    " websocket" websocket;\n}',
            "geo $realip_remote_addr $edge_inside {\n    default 0;\n    10.0.0.0/8 1;\n}",
            'log_format edge_http escape=json \'{"time":"$time_iso8601"}\';',
            "split_clients $request_id $edge_canary_draw_5 {\n    5% 1;\n    * 0;\n}",
            "upstream http_one {\n    zone http_one 64k;\n    server 127.0.0.1:9 fail_timeout=10s;\n    keepalive 2;\n}",
        ]
        draw.shuffle(parts)
        parts = parts[: draw.randint(0, 4)] + [part for part in parts[4:] if "upstream" in part]
        if not any("upstream http_one" in part for part in parts):
            parts.append("upstream http_one {\n    server 127.0.0.1:9;\n}")
        inner = "".join(f"\n        {self.spelled(draw, one)}" for one in attacks["location"])
        server = "".join(f"\n    {self.spelled(draw, one)}" for one in attacks["server"])
        more = draw.choice(
            (
                "",
                "\n    server_tokens off;",
                "\n    access_log off;",
                '\n    set $edge_upstream "http_one";',
                "\n    client_max_body_size 1m;",
            )
        )
        parts.append(
            f"server {{\n    listen 127.0.0.1:{world.http_port};\n    server_name one.test;{more}{server}\n"
            f"    location / {{\n        proxy_pass http://http_one;\n        proxy_connect_timeout 1s;{inner}\n    }}\n}}"
        )
        for one in attacks["http"]:
            parts.insert(draw.randint(0, len(parts)), self.spelled(draw, one))
        return "\n".join(parts) + "\n"

    def stream(self, draw: random.Random, attacks: dict[str, list[str]]) -> str:
        """Return a stream side in which attacks stand where they belong."""
        parts = [
            "upstream tcp_one {\n    server 127.0.0.1:9;\n    least_conn;\n}",
            f"server {{\n    listen 127.0.0.1:{self.world.tcp_port};\n    proxy_pass tcp_one;\n}}",
        ]
        if draw.random() < 0.3:
            parts.append('map $server_port $edge_tcp_service {\n    default "";\n    5432 "db";\n}')
        for one in attacks["stream"]:
            parts.insert(draw.randint(0, len(parts)), self.spelled(draw, one))
        return "\n".join(parts) + "\n"

    # -- attacks ---------------------------------------------------------------------------------------------------

    def attack(self, draw: random.Random, place: str) -> str:
        """Return one directive, with or without a block."""
        world, text = self.world, draw.choice(READERS[place] + REACHERS[place])
        values = {
            "to": draw.choice(TO_SOCKET + TO_PORT),
            "": draw.choice(PATHS),
            "dir": world.outside,
            "outside": world.outside,
            "secret": world.secret,
            "staging": world.staging,
            "sockets": world.sockets,
            "socket": world.foreign_socket,
            "port": str(world.foreign_port),
            "held": str(world.foreign_port),
            "free": str(world.tcp_port + 1),
        }
        while "@" in text:
            text = MARK.sub(lambda match: values[match.group(1)], text)
        return text if text.endswith("}") else f"{text};"

    def spelled(self, draw: random.Random, text: str) -> str:
        """Return a directive in another spelling."""
        for _ in range(draw.choice((0, 0, 1, 1, 2))):
            text = draw.choice(SPELLINGS)(draw, text)
        return text.replace("@held", str(self.world.foreign_port))

    @staticmethod
    def broken(draw: random.Random, text: str) -> str:
        """Return a text with a sign too many or too few somewhere."""
        place = draw.randrange(len(text))
        sign = draw.choice(("", "{", "}", ";", '"', "'", "\\", "#", "$", "${", "\n", "\x00", "\ud800"))
        return text[:place] + sign + text[place + draw.choice((0, 1)) :]

    @staticmethod
    def encoded(draw: random.Random, text: str) -> bytes:
        """Return the bytes of a text, seldom with a mark at their beginning or other ends of lines."""
        kind = draw.random()
        if kind < 0.04:
            text = "\ufeff" + text
        elif kind < 0.08:
            text = text.replace("\n", "\r\n")
        elif kind < 0.1:
            return text.encode("utf-16", "surrogatepass")
        return text.encode("utf-8", "surrogatepass")

    def strangers(self, draw: random.Random, tree: Tree) -> None:
        """Put something other than a file into the directory, or in the place of one."""
        world = self.world
        kinds = (
            ("link", world.secret),
            ("hard link", world.secret),
            ("socket", ""),
            ("pipe", ""),
            ("directory", ""),
            ("link", "/etc/shadow"),
        )
        name = draw.choice(("link", "evil.bin", "http.conf", "stream.conf", ".http.conf.tmp"))
        tree.more[name] = draw.choice(kinds)
        tree.attacks += 1


def _word(draw: random.Random, text: str, change: t.Callable[[str], str]) -> str:
    words = text.split(" ")
    place = draw.randrange(len(words))
    words[place] = change(words[place])
    return " ".join(words)


def _inside(draw: random.Random, text: str, signs: t.Sequence[str]) -> str:
    place = draw.randrange(len(text))
    return text[:place] + draw.choice(signs) + text[place:]


# Ways to write a directive that mean the same to nginx, something else, or nothing: the reader must agree with nginx.
SPELLINGS: tuple[t.Callable[[random.Random, str], str], ...] = (
    lambda draw, text: _word(draw, text, lambda word: f'"{word}"'),
    lambda draw, text: _word(draw, text, lambda word: f"'{word}'"),
    lambda _draw, text: f'"{text.partition(" ")[0]}" {text.partition(" ")[2]}',
    lambda draw, text: text.replace(" ", draw.choice(("\t", "\r\n", "\n\n", "  ", "\x0b", "\x0c", "\u00a0", "\u2028"))),
    lambda _draw, text: text.replace(" ", " # a comment; } {\n", 1),
    lambda _draw, text: text.replace(" ", '"" ', 1),
    lambda draw, text: _inside(draw, text, ("\\", '\\"', "\\n", "\\;", "\\{", "\\ ")),
    lambda draw, text: _inside(draw, text, ("\ufeff", "\u200b", "\x00", "\xad", "\x7f")),
    lambda draw, text: _inside(draw, text, ("${", "${{", "$", "${edge_upgrade}", "$host")),
    lambda draw, text: _inside(draw, text, ("#", "#\n", ";", "{}", "}", "{")),
    lambda draw, text: _word(draw, text, str.upper),
    lambda draw, text: _word(draw, text, str.swapcase),
    lambda _draw, text: f"}} {text} server {{",
    lambda _draw, text: f"server {{ {text} }}",
    lambda _draw, text: f"server {{ location / {{ if ($host) {{ {text} }} }} }}",
    lambda _draw, text: f"map $host $edge_y {{ x '{text}' ; }}",
    lambda _draw, text: f"log_format edge_http 'a\n{text}\n';",
    lambda _draw, text: f'map $host $edge_y {{ "a;}} {text}" 1; }}',
    lambda _draw, text: f'{HELD} map $host $edge_y {{ default "\n{text}\n# "; }}',
    lambda _draw, text: f"{HELD.replace(' ', chr(10))} {text}",
    lambda _draw, text: f"#! {{}}\r{text}\n",
    lambda draw, text: f"{'x' * draw.choice((100, 4090, 9000))} y;\n{text}",
    lambda _draw, text: f"map $host $edge_y {{\n{'a b;' * 3000}\n}}\n{text}",
    lambda _draw, text: f'if ($host = "a"){{ {text} }}',
    lambda _draw, text: text.replace("{", "${", 1),
)
