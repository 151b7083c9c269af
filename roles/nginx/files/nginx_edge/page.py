# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status document as one page for people: no script, nothing from elsewhere, and no value that is not escaped. No I/O.

Whatever a registration may hold can turn up here, so a value goes into the page through :func:`text` alone, and never into an attribute.
"""

from __future__ import annotations

import re
import time
from typing import Any

STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --soft: #5b6b7b; --line: #d9e0e7; --paper: #fff; --back: #f3f6f9;
  --good: #1a7f4b; --bad: #c0292b; --warn: #8a6300; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e9ef; --soft: #9aa8b6; --line: #33404d; --paper: #18212b; --back: #10171f; --good: #4cc38a; --bad: #ff7b72; --warn: #e3b341; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 1.5rem 1.2rem 4rem; }
header, .box { background: var(--paper); border-radius: .4rem; box-shadow: 0 1px 3px #0002; }
header { border-left: .5rem solid var(--verdict); padding: 1.1rem 1.4rem; }
h1 { margin: 0 0 .2rem; font-size: 1.5rem; line-height: 1.25; }
h2 { margin: 2rem 0 .7rem; font-size: 1.1rem; }
header strong, td.state { color: var(--verdict); }
.good { --verdict: var(--good); } .bad { --verdict: var(--bad); } .warn { --verdict: var(--warn); }
.soft, th { color: var(--soft); }
p { margin: .4rem 0 0; overflow-wrap: anywhere; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .8rem; margin-top: 1rem; }
.facts .box { padding: .6rem 1rem; }
.facts b { display: block; font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .4rem .9rem; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
tbody:last-child tr:last-child td { border-bottom: 0; }
th { font-size: .8rem; font-weight: 600; white-space: nowrap; }
tr.more td { border-bottom-color: transparent; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; text-align: right; }
td.place, td.free { font: 13px/1.7 ui-monospace, "SF Mono", Consolas, "Liberation Mono", monospace; }
td.place { white-space: nowrap; }
td.free { min-width: 9rem; }
td.name { font-weight: 600; min-width: 8rem; }
td.told { min-width: 15rem; }
td.state { min-width: 7rem; }
"""
# Sent with the page, so that a browser would not run a script even if one got in.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

# Nearly every value, and there are thousands: printable ASCII without the six letters below.
_PLAIN = re.compile(r"[ !#$%(-;=?-_a-~]*").fullmatch
_ESCAPES = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord('"'): "&quot;", ord("'"): "&#39;", ord("`"): "&#96;"}


def text(value: Any) -> str:
    """A value as text of the page. What can't be seen, or would turn the order of the letters, is shown as a box."""
    if value is None:
        return ""
    if isinstance(value, str) and _PLAIN(value):
        return value
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(value))
    return shown.translate(_ESCAPES)


def clock(seconds: Any) -> str:
    """A Unix time for people."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(float(seconds)))
    except (TypeError, ValueError, OverflowError, OSError):
        return "never"


def _row(cells: list[tuple[str, Any]], kind: str = "") -> str:
    """One row; each cell has a class of this module's own, or none, and a value."""
    inner = "".join([f'<td class="{name}">{text(value)}</td>' if name else f"<td>{text(value)}</td>" for name, value in cells])
    return f'<tr class="{kind}">{inner}</tr>' if kind else f"<tr>{inner}</tr>"


def _table(title: str, heads: str, rows: list[str], none: str) -> str:
    """A table with its title, or a sentence when there is nothing to show."""
    if not rows:
        return f'<h2>{title}</h2><p class="soft">{none}</p>'
    head = "".join(f"<th>{name}</th>" for name in heads.split("|"))
    return f'<h2>{title}</h2><div class="box wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _list(value: Any) -> list[dict[str, Any]]:
    """The dictionaries of a list; a report may hold anything."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0


def verdict(document: dict[str, Any]) -> tuple[str, str, str]:
    """(colour, headline, sentence) for the whole edge."""
    last, generation = document.get("last") or {}, document.get("generation")
    if not document.get("serving"):
        return "bad", "nginx did not serve the live generation", str(last.get("message", "nothing was applied yet"))
    if document.get("hold"):
        return "warn", f"generation {generation} is held", "Changes wait since a rollback. nginx-edge-apply --resume ends it."
    if document.get("refused"):
        gone = document["refused"].get("gone_count")
        sentence = f"{gone} services would vanish at once. nginx-edge-apply --confirm-shrink, if that is right."
        return "warn", f"a change is refused, generation {generation} stays live", sentence
    if document.get("starting"):
        sentence = f"Nothing that was rendered since the host started is live: {last.get('message', '')}"
        return "warn", f"generation {generation} is of before the start of the host", sentence
    if not document.get("up_to_date"):
        return "warn", f"the last change failed, generation {generation} stays live", str(last.get("message", ""))
    return "good", f"generation {generation} is live and up to date", str(last.get("message", ""))


def instances(entry: dict[str, Any], skipped: list[dict[str, Any]]) -> list[tuple[str, str, str, str, str]]:
    """(place, weight, share, colour, state) of each instance of a served service: first those that get traffic, then the others of its name."""
    rows = []
    warns = entry.get("warns") if isinstance(entry.get("warns"), dict) else {}
    for key, group, number in (("servers", "", "instances"), ("canary_servers", "canary, ", "canaries"), ("backup_servers", "backup, ", "backups")):
        servers = entry.get(key) if isinstance(entry.get(key), dict) else {}
        total = sum(_number(weight) for weight in servers.values())
        count = _number(entry.get(number))
        for place, weight in servers.items():
            # A long list is cut in the report, and then shares are not known.
            share = f"{100 * _number(weight) / total:.1f} %" if total and count == len(servers) else ""
            rows.append((place, f"{_number(weight):g}", share, *(("warn", f"{group}warns") if place in warns else ("good", f"{group}healthy"))))
        if count > len(servers):
            rows.append((f"and {count - len(servers):g} more", "", "", "good", f"{group}healthy"))
    for other in skipped:
        if other.get("service") == entry.get("service") and other.get("side") == entry.get("side") and "instance" in other:
            rows.append((f"{other.get('address', '')}:{other.get('port', '')}", "", "", "warn", str(other.get("reason", ""))))
    return rows


def _services(document: dict[str, Any]) -> list[str]:
    skipped: dict[Any, list[dict[str, Any]]] = {}
    for entry in _list(document.get("skipped")):
        skipped.setdefault(str(entry.get("service")), []).append(entry)
    rows = []
    for entry in _list(document.get("services")):
        where = f"{entry['host']}:{entry.get('port', '')}" if "host" in entry else f"port {entry.get('port', '')}"
        found = instances(entry, skipped.get(str(entry.get("service")), [])) or [("", "", "", "good", "")]
        versions = entry.get("versions")
        told = ", ".join(f"{name} ({count})" for name, count in versions.items()) if isinstance(versions, dict) else ""
        if "canary_share" in entry:
            told = f"{told}{', ' if told else ''}canaries get {entry['canary_share']} %"
        for number, (place, weight, share, colour, state) in enumerate(found):
            first = number == 0
            cells: list[tuple[str, Any]] = [("name", entry.get("service") if first else ""), ("told", where if first else ""), ("", told if first else "")]
            cells += [("place" if weight else "free", place), ("number", weight), ("number", share), (f"state {colour}", state)]
            rows.append(_row(cells, "" if number == len(found) - 1 else "more"))
    return rows


def page(host: str, document: dict[str, Any], failed: list[dict[str, str]]) -> str:
    """The page. ``document`` is the status document, ``failed`` the failed candidates that are kept."""
    colour, headline, sentence = verdict(document)
    services, skipped = _list(document.get("services")), _list(document.get("skipped"))
    last, failure = document.get("last") or {}, document.get("last_failure") or {}
    history = _list(document.get("history"))
    since = clock(history[-1].get("activated")) if history else ""
    carrying = sum(_number(entry.get("instances")) + _number(entry.get("canaries")) for entry in services)
    facts = (
        (document.get("generation") or "none", "generation"),
        (since[11:19] or "never", f"live since {since[:10]}, UTC" if since else "live"),
        (len(services), "served"),
        (f"{carrying:g}", "instances in traffic"),
        (len(skipped), "skipped"),
        (f"{_number(last.get('duration_ms')):g} ms", "last run"),
    )
    refused = [
        _row([
            ("name", entry.get("service")), ("", entry.get("side")), ("free", entry.get("instance", "")),
            ("free", f"{entry.get('address', '')}{':' if 'address' in entry else ''}{entry.get('port', '')}"),
            ("state told warn", entry.get("reason")),
        ])
        for entry in skipped
    ]  # fmt: skip
    warned = [
        _row([("name", entry.get("service")), ("", entry.get("side")), ("state told warn", entry.get("reason"))]) for entry in _list(document.get("warnings"))
    ]
    limited = document.get("limited")
    limits = [
        _row([("name", limit), ("number", hits.get("count")), ("free", hits.get("client")), ("state warn", clock(hits.get("last")))])
        for limit, hits in (limited.items() if isinstance(limited, dict) else ())
        if isinstance(hits, dict)
    ]
    kept = [_row([("free", entry.get("path")), ("told", entry.get("reason"))]) for entry in reversed(failed)]
    generations = [
        _row([("name", entry.get("generation")), ("", clock(entry.get("activated"))), ("number", entry.get("services")), ("", entry.get("note", ""))])
        for entry in reversed(history)
    ]
    counters = document.get("counters")
    runs = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counters.items()) if isinstance(counters, dict) else ""
    ended = f"As of {clock(last.get('time'))}, the end of the last run that changed something or failed. Runs: {runs}."
    shown = f"<p>Last failure: {text(clock(failure.get('time')))}, {text(failure.get('message'))}</p>" if failure and failure.get("message") != sentence else ""
    return "".join(
        [
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta http-equiv="refresh" content="30">',
            f"<title>{text(host)}: {text(headline)}</title><style>{STYLE}</style></head><body><main>",
            f'<header class="{colour}"><h1>Edge {text(host)}: <strong>{text(headline)}</strong></h1>',
            f"<p>{text(sentence)}</p>{shown}",
            f'<p class="soft">{text(ended)}</p></header>',
            '<div class="facts">',
            *(f'<div class="box"><b>{text(value)}</b><span class="soft">{text(name)}</span></div>' for value, name in facts),
            "</div>",
            *([_table("Refused by a limit", "Limit|Refused|Last client|Last seen", limits, "")] if limits else []),
            *([_table("Warnings", "Name|Side|What", warned, "")] if warned else []),
            _table("Skipped", "Service|Side|Instance|Address|Why", refused, "Nothing is skipped."),
            _table("Served", "Service|Reached as|Versions|Instance|Weight|Share|Health", _services(document), "Nothing is served."),
            _table("Failed candidates that are kept", "Where|Why", kept, "No candidate failed."),
            _table("Generations to go back to", "Generation|Live since|Services|Note", generations, "There is none."),
            "</main></body></html>\n",
        ]
    )
