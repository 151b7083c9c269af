# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check what a staged file holds against the directives, and the forms of each, that an edge needs. No I/O.

The user of a service writes the staged files, and nginx's master reads them as root. nginx and its modules know hundreds of
directives that read or write files, run code or reach sockets, so nothing is forbidden by its name here: what is not
listed is refused. The entries of blocks like ``map`` count as directives: nginx knows ``include`` there, too.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from .nginxconf import CERTIFICATE_FILE, Directive, Document, Places, printable, upstreams

# The forms below are regular expressions, in which a space stands between two words of the directive.
SEPARATOR = "\0"
# Stands for the name of any entry that is not listed by its own; no text that is judged holds such a character.
ENTRY = "\0"
TIME = r"[1-9][0-9]{0,8}(?:ms|s|m|h|d)"
SIZE = r"[0-9]{1,9}[kKmMgG]?"
COUNT = r"[0-9]{1,9}"
NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
HOST = r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*"
VARIABLE = r"\$[a-z0-9_]+"
EDGE_VARIABLE = r"\$edge_[a-z0-9_]+"
TEXT = r"[^\0]*"
PORT = r"[1-9][0-9]{0,4}"
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
IPV4 = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
IPV6 = r"[0-9A-Fa-f:]{2,39}"
ADDRESS = rf"(?:{IPV4}|\[{IPV6}\])"
NETWORK = rf"(?:{IPV4}(?:/[0-9]{{1,2}})?|{IPV6}(?:/[0-9]{{1,3}})?)"
LOG_FILE = r"/var/log/nginx(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)+"
# nginx asks these for where a request goes, so they hold names of upstreams only: an address or a socket works as well.
ROUTES = ("$edge_upstream", "$edge_tls_upstream", "$edge_passed_upstream")
_ROUTE = "|".join(map(re.escape, ROUTES))
# Global and unique local addresses, no others: those that lead back to this host have several spellings.
_REMOTE_IPV6 = re.compile(r"\[(?:[23][0-9A-Fa-f]{3}|[fF][cCdD][0-9A-Fa-f]{2}):[0-9A-Fa-f:]*\]")
_GROUP_NAME = re.compile(r"\(\?P?[<'](?![=!])([^>']*)")


class Rule(NamedTuple):
    """How a directive may be written, what kind of block it has if any, and what is said about any other way."""

    form: re.Pattern[str]
    block: str = ""
    advice: str = ""


def _rule(form: str, block: str = "", advice: str = "") -> Rule:
    return Rule(re.compile(form.replace(" ", SEPARATOR)), block, advice)


def _server_addresses(places: Places) -> str:
    return rf"(?:{ADDRESS}:{PORT}|unix:{re.escape(places.sockets)}/[a-z0-9-]+\.sock)"


def _upstream(places: Places) -> dict[str, Rule]:
    more = rf"weight={COUNT}|max_fails={COUNT}|fail_timeout={TIME}|backup"
    advice = f"it names an address and a port, or a unix socket in {places.sockets}/"
    return {
        "zone": _rule(rf"{NAME} {SIZE}"),
        "server": _rule(rf"{_server_addresses(places)}(?: (?:{more}))*", advice=advice),
    }


def _listen(places: Places, more: str) -> Rule:
    where = rf"(?:(?:{ADDRESS}:)?{PORT}|unix:{re.escape(places.sockets)}/[a-z0-9-]+\.sock)"
    return _rule(
        rf"{where}(?: (?:{more}))*",
        advice=f"it names a port, an address and a port, or a unix socket in {places.sockets}/",
    )


def _access_log(name: str) -> Rule:
    more = rf"buffer={SIZE}|flush={TIME}|if={EDGE_VARIABLE}"
    return _rule(
        rf"off|{LOG_FILE} {name}(?: (?:{more}))*",
        advice=f"it is off, or names a file in /var/log/nginx/ and the format {name}",
    )


_MAP = {
    # A key and its value, which leads to no socket.
    ENTRY: _rule(
        rf"(?!include\0){TEXT} (?!{TEXT}(?i:unix:)){TEXT}",
        advice="an entry is a key and a value, and includes no file",
    )
}
_GEO = {"default": _rule("[01]"), ENTRY: _rule(rf"{NETWORK} [01]", advice="an entry is a network with 0 or 1")}
_SPLIT_CLIENTS = {ENTRY: _rule(r"(?:[0-9]{1,3}%|\*) [01]")}


def _maps() -> dict[str, Rule]:
    """Return what both outermost levels have. Only variables of the edge get a value: none of nginx's own changes."""
    advice = "it sets a variable $edge_..."
    return {
        "map": _rule(rf"{TEXT} {EDGE_VARIABLE}", "map", advice),
        "geo": _rule(rf"{VARIABLE} {EDGE_VARIABLE}", "geo", advice),
        "limit_conn_zone": _rule(rf"{EDGE_VARIABLE} zone={NAME}:{SIZE}"),
        "log_format": _rule(
            rf"edge_(?:http|tcp)(?: escape=json)?(?: (?!escape=){TEXT})+",
            advice="it is edge_http or edge_tcp, escaped as JSON or in nginx's own way",
        ),
        "upstream": _rule(NAME, "upstream"),
        "server": _rule("", "server"),
    }


def _proxy() -> dict[str, Rule]:
    """What both sides know of proxying."""
    return {
        "proxy_connect_timeout": _rule(TIME),
        "proxy_socket_keepalive": _rule("on"),
        "proxy_next_upstream_tries": _rule(COUNT),
        "proxy_next_upstream_timeout": _rule(TIME),
    }


def _limits() -> dict[str, Rule]:
    return {"limit_conn": _rule(rf"{NAME} {COUNT}"), "limit_conn_log_level": _rule("info")}


def _http_server(places: Places) -> dict[str, Rule]:
    file = rf"{re.escape(places.certificates)}/{CERTIFICATE_FILE.pattern}"
    certificate = _rule(file, advice=f"it names a file NAME.pem in {places.certificates}/")
    header = r"[A-Za-z0-9-]+ [^\0$]*(?: always)?"
    return {
        "listen": _listen(places, rf"default_server|ssl|http2|proxy_protocol|backlog={COUNT}"),
        "server_name": _rule(HOST),
        "server_tokens": _rule("off"),
        "default_type": _rule(r"[a-z]+/[a-z.+-]+"),
        "access_log": _access_log("edge_http"),
        "client_max_body_size": _rule(SIZE),
        "set": _rule(rf"\$edge_service (?:{NAME})?|\$edge_upstream {NAME}"),
        "if": _rule(rf"\({EDGE_VARIABLE}\)|\({EDGE_VARIABLE} = (?:[01]|http)\)|\(\$host != \$ssl_server_name\)", "if"),
        "return": _rule(rf"[1-5][0-9][0-9](?: {TEXT})?"),
        "add_header": _rule(header),
        "location": _rule("/|@canary", "location"),
        "error_page": _rule("418 = @canary"),
        **_limits(),
        "limit_conn_status": _rule("429"),
        "limit_req": _rule(rf"zone={NAME}(?: burst={COUNT})?(?: nodelay)?"),
        "limit_req_status": _rule("429"),
        "limit_req_log_level": _rule("info"),
        "ssl_certificate": certificate,
        "ssl_certificate_key": certificate,
        "ssl_protocols": _rule(r"TLSv1\.[23](?: TLSv1\.[23])*"),
        "ssl_ciphers": _rule(r"[A-Z0-9:!+-]+"),
        "ssl_prefer_server_ciphers": _rule("off"),
        "ssl_session_cache": _rule(rf"shared:edge_tls:{SIZE}"),
        "ssl_session_timeout": _rule(TIME),
        "ssl_session_tickets": _rule("off"),
        "http2": _rule("on"),
        "http2_max_field_size": _rule(SIZE),
        "http2_max_header_size": _rule(SIZE),
        "http2_idle_timeout": _rule(TIME),
        "keepalive_timeout": _rule(TIME),
        "set_real_ip_from": _rule(rf"{NETWORK}|unix:", advice='it names a network, or "unix:" for own sockets'),
        "real_ip_header": _rule("proxy_protocol|X-Forwarded-For"),
        "real_ip_recursive": _rule("on"),
    }


def _location() -> dict[str, Rule]:
    return {
        **_proxy(),
        "proxy_pass": _rule(
            rf"http://(?:{NAME}|{re.escape('$edge_upstream')})",
            advice="it names http:// and an upstream of the same file",
        ),
        "if": _rule(rf"\({EDGE_VARIABLE}\)", "if"),
        "proxy_http_version": _rule(r"1\.1"),
        "proxy_set_header": _rule(rf"[A-Za-z0-9_-]+ (?:{VARIABLE})?", advice="its value is a variable, or empty"),
        "proxy_hide_header": _rule(r"[A-Za-z0-9-]+"),
        "proxy_headers_hash_max_size": _rule(COUNT),
        "proxy_headers_hash_bucket_size": _rule(COUNT),
        "proxy_buffer_size": _rule(SIZE),
        "proxy_buffers": _rule(rf"{COUNT} {SIZE}"),
        "proxy_busy_buffers_size": _rule(SIZE),
        "proxy_redirect": _rule("off"),
        "proxy_read_timeout": _rule(TIME),
        "proxy_send_timeout": _rule(TIME),
        "proxy_next_upstream": _rule(r"[a-z0-9_]+(?: [a-z0-9_]+)*"),
    }


def _http(places: Places) -> dict[str, dict[str, Rule]]:
    return {
        "": {
            **_maps(),
            "split_clients": _rule(rf"{VARIABLE} {EDGE_VARIABLE}", "split_clients"),
            "limit_req_zone": _rule(rf"{EDGE_VARIABLE} zone={NAME}:{SIZE} rate={COUNT}r/s"),
            "underscores_in_headers": _rule("on|off"),
            "ignore_invalid_headers": _rule("on"),
        },
        "server": _http_server(places),
        "location": _location(),
        "if": {
            "set": _rule(rf"\$edge_upstream {NAME}"),
            "return": _rule(rf"[1-5][0-9][0-9]|308 https://{HOST}(?::{PORT})?\$request_uri"),
        },
        "upstream": {
            **_upstream(places),
            "keepalive": _rule(COUNT),
            "keepalive_timeout": _rule(TIME),
            "keepalive_requests": _rule(COUNT),
        },
        "map": _MAP,
        "geo": _GEO,
        "split_clients": _SPLIT_CLIENTS,
    }


def _stream(places: Places) -> dict[str, dict[str, Rule]]:
    return {
        "": {**_maps(), "map_hash_bucket_size": _rule(COUNT), "map_hash_max_size": _rule(COUNT)},
        "server": {
            **_proxy(),
            **_limits(),
            "allow": _rule(NETWORK),
            "deny": _rule("all"),
            "listen": _listen(places, rf"proxy_protocol|so_keepalive=on|backlog={COUNT}"),
            "access_log": _access_log("edge_tcp"),
            "ssl_preread": _rule("on"),
            "preread_timeout": _rule(TIME),
            "proxy_pass": _rule(rf"{NAME}|{_ROUTE}", advice="it names an upstream of the same file"),
            "proxy_protocol": _rule("on"),
            "proxy_timeout": _rule(TIME),
            "proxy_next_upstream": _rule("on"),
            "return": _rule(TEXT),
        },
        "upstream": {**_upstream(places), "least_conn": _rule("")},
        "map": {**_MAP, "hostnames": _rule("")},
        "geo": _GEO,
    }


@functools.lru_cache(maxsize=4)
def rules(side: str, places: Places) -> dict[str, dict[str, Rule]]:
    """Return what each kind of block may hold; the outermost level is the kind ""."""
    return _http(places) if side == "http" else _stream(places)


# -- judging -------------------------------------------------------------------------------------------------------


class Found(NamedTuple):
    """What is wrong with a piece of text, and the upstreams that it names, each with the place of the directive."""

    wrong: list[tuple[int, str]]
    routes: list[tuple[int, str]]


def _shown(words: list[str]) -> str:
    return printable(" ".join(words), 80)


def _not_remote(directive: Directive, places: Places) -> str:
    """Return why an upstream's server is not one that an edge sends requests to."""
    host = directive.args[0].rpartition(":")[0]
    if places.loopback or directive.args[0].startswith("unix:"):
        return ""
    if host.startswith("["):
        good = _REMOTE_IPV6.fullmatch(host) is not None
    else:
        first, second = (int(part) for part in host.split(".")[:2])
        good = first not in (0, 127) and first < 224 and (first, second) != (169, 254)
    return "" if good else "its address is not that of another host; nginx_staged_loopback allows loopback"


def _groups(directive: Directive) -> str:
    """Return why the named groups of a regular expression are not allowed: each of them sets a variable."""
    for word in (directive.name, *directive.args):
        for name in _GROUP_NAME.findall(word) if "(?" in word else ():
            if not re.fullmatch("edge_[a-z0-9_]+", name) or f"${name}" in ROUTES:
                rule = f"must be named edge_..., and not as one of {', '.join(ROUTES)}"
                return f'the group "{_shown([name])}" of a regular expression {rule}'
    return ""


def _routes(directive: Directive, outer: Directive | None) -> list[str]:
    """Return the upstreams that a directive, or an entry of a map, sends requests to."""
    name, args = directive.name, directive.args
    if outer is not None and outer.name == "map":
        return args[-1:] if outer.args[-1] in ROUTES and args and args[-1] else []
    if name == "set" and args[0] in ROUTES:
        return args[1:]
    if name == "proxy_pass":
        return [target] if not (target := args[0].rpartition("://")[2]).startswith("$") else []
    return []


class _Judge:
    """Judges pieces of one side, with the same rules."""

    def __init__(self, side: str, places: Places) -> None:
        self.side, self.places, self.rules = side, places, rules(side, places)

    def piece(self, directives: list[Directive]) -> Found:
        """Judge the directives of the outermost level."""
        found = Found([], [])
        self.block(directives, "", None, found)
        return found

    def block(self, directives: list[Directive], kind: str, outer: Directive | None, found: Found) -> None:
        known = self.rules[kind]
        for directive in directives:
            rule = known.get(directive.name)
            words = directive.args
            if rule is None and (rule := known.get(ENTRY)) is not None:
                words = [directive.name, *words]
            reason = self.reason(directive, rule, words, kind)
            if reason:
                found.wrong.append((directive.start, reason))
                continue
            found.routes.extend((directive.start, name) for name in _routes(directive, outer))
            if rule is not None and directive.block is not None:
                self.block(directive.block, rule.block, directive, found)

    def reason(self, directive: Directive, rule: Rule | None, words: list[str], kind: str) -> str:
        """Return why a directive is not allowed."""
        where = f'in "{kind}"' if kind else "at the outermost level"
        if rule is None:
            return f'directive "{_shown([directive.name])}" is not allowed {where} of the {self.side} side'
        if (directive.block is None) == bool(rule.block):
            return f'directive "{directive.name}" {"needs a block" if rule.block else "has no block"} {where}'
        if not rule.form.fullmatch(SEPARATOR.join(words)):
            advice = f": {rule.advice}" if rule.advice else ""
            return f'"{_shown([directive.name, *directive.args])}" is not allowed {where}{advice}'
        if kind == "upstream" and directive.name == "server" and (why := _not_remote(directive, self.places)):
            return f'"server {_shown(directive.args)}" is not allowed: {why}'
        return _groups(directive)


NOWHERE = "is not an upstream of this file, and requests go nowhere else; define it here"
REMEDY = "put it into a file of your own in /etc/nginx/conf.d/ if the edge needs it: files of root are not checked"


def objections(document: Document, side: str, places: Places) -> list[tuple[int, str]]:
    """Return (line, reason) of whatever a staged file of a side ("http", "stream") must not hold."""
    judge, found = _Judge(side, places), []
    defined = upstreams(document)
    for base, piece in document.pieces:
        if piece.judged is None or piece.judged[0] != (side, places):
            piece.judged = ((side, places), judge.piece(piece.directives))
        judged = piece.judged[1]
        found += [(document.line_of(base + start), f"{reason}; {REMEDY}") for start, reason in judged.wrong]
        found += [
            (
                document.line_of(base + start),
                f'"{_shown([name])}" is not an upstream of this file, and requests go nowhere else; define it here',
            )
            for start, name in judged.routes
            if name not in defined
        ]
    return found
