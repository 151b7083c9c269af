# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the steps of all nodes to the verdict on each of the twelve checks, and to the page. Private to the collection, pure."""

from __future__ import annotations

import html
import re
import time
import typing as t

Step: t.TypeAlias = "dict[str, t.Any]"

PASSED, FAILED, SKIPPED, NOTE = "passed", "failed", "skipped", "note"

CHECKS: dict[int, str] = {
    1: "Consul cluster: voters, one leader, web UI, election in the log",
    2: "The catalogue lists the servers with the nodes' addresses",
    3: "Hosts resolve Consul's, public and site names; answers rotate",
    4: "Containers without any option resolve the same, with glibc and with another libc",
    5: "Internal http service: registered at once, reached by its name, every instance gets traffic",
    6: "Exposed http service on every edge, spread evenly",
    7: "Exposed tcp service on every edge, least connections",
    8: "TLS passed through: by a port of its own and by SNI",
    9: "Instances come and go: catalogue, DNS and edges follow, no request fails",
    10: "The last instance of a service goes: it disappears, all else stays",
    11: "Untagged services are never reachable through the edge",
    12: "Gray release by service meta, a current Consul",
}

#: What a phase that gave no result on a node leaves unproven.
PHASE_CHECKS: dict[str, tuple[int, ...]] = {
    "base": (1, 2, 3, 4),
    "start": (5, 6, 7, 8),
    "traffic": (5, 6, 7, 8, 11),
    "faults": (9, 10, 12),
    "after": (6, 10, 12),
}
WITH_SAMPLES = ("start", "traffic", "faults", "after")

#: How far an instance's share of the requests may be from an even one.
SPREAD_TOLERANCE = 0.3


class ReportError(ValueError):
    """What was handed in is not the result of a run."""


def _step(check: int, title: str, ok: bool, message: str, output: str = "", status: str = "") -> Step:
    return {
        "check": check,
        "title": title,
        "node": "all nodes",
        "status": status or (PASSED if ok else FAILED),
        "command": "",
        "output": output,
        "message": "" if ok and not status else message,
        "seconds": 0.0,
        "at": 0.0,
    }


def _facts(results: t.Sequence[t.Mapping[str, t.Any]], phase: str) -> dict[str, dict[str, t.Any]]:
    return {str(result["node"]): dict(result.get("facts") or {}) for result in results if result.get("phase") == phase}


def _backend_traffic(results: t.Sequence[t.Mapping[str, t.Any]]) -> list[Step]:
    started = {
        str(facts["containers"]["acceptance-httpbackend"]["instance"]): node
        for node, facts in _facts(results, "start").items()
        if "acceptance-httpbackend" in (facts.get("containers") or {})
    }
    answered = {
        str(instance)
        for facts in _facts(results, "traffic").values()
        for instances in (facts.get("backend_instances") or {}).values()
        for instance in instances or []
    }
    missing = [f"{instance} on {node}" for instance, node in sorted(started.items()) if instance not in answered]
    return [
        _step(
            5,
            "All instances get traffic over the repeated calls",
            bool(started) and not missing,
            f"no answer came from {', '.join(missing)}" if started else "no instance was started",
            "\n".join(f"{instance} on {node}: {'answered' if instance in answered else 'silent'}" for instance, node in sorted(started.items())),
        )
    ]


def _spread(results: t.Sequence[t.Mapping[str, t.Any]], run_id: str, host: str) -> list[Step]:
    """The instances' own logs: how many requests each has served for each edge, for whom, and for which public name."""
    sent = {(node, edge): request for node, facts in _facts(results, "traffic").items() for edge, request in (facts.get("requests") or {}).items()}
    logs = {node: facts.get("log") for node, facts in _facts(results, "after").items() if facts.get("log") is not None}
    steps: list[Step] = []
    pattern = re.compile(rf"/acceptance/{re.escape(run_id)}/(?P<node>[^/]+)/(?P<edge>[^/]+)/\d+")
    counts: dict[str, dict[str, int]] = {}
    wrong: list[str] = []
    for instance, entries in sorted(logs.items()):
        for entry in entries or []:
            match = pattern.fullmatch(str(entry.get("path", "")))
            if not match:
                continue
            edge = counts.setdefault(match.group("edge"), dict.fromkeys(logs, 0))
            edge[instance] += 1
            client = (sent.get((match.group("node"), match.group("edge"))) or {}).get("client")
            if entry.get("client") != client or entry.get("host") != host:
                wrong.append(f"{instance} logged client {entry.get('client')} and host {entry.get('host')}, expected {client} and {host}")
    for edge in sorted({edge for _node, edge in sent}):
        total = sum(int(request.get("sent", 0)) for (_node, name), request in sent.items() if name == edge)
        by_instance = counts.get(edge, {})
        mean = total / len(logs) if logs else 0
        uneven = [node for node, count in by_instance.items() if abs(count - mean) > SPREAD_TOLERANCE * mean + 1]
        steps.append(
            _step(
                6,
                f"The requests through {edge} are spread evenly, as the instances' own logs say",
                bool(by_instance) and sum(by_instance.values()) == total and not uneven,
                f"{total} requests were sent; the logs show {', '.join(f'{count} on {node}' for node, count in sorted(by_instance.items())) or 'none'}",
                "\n".join(f"{node}: {count} of {total}" for node, count in sorted(by_instance.items())),
            )
        )
    seen = sum(sum(edge.values()) for edge in counts.values())
    steps.append(
        _step(
            6,
            "The logs show each client's own address and the public host name",
            seen > 0 and not wrong,
            wrong[0] if wrong else "no request of this run is in the logs",
            f"{seen} requests, all with the client's address and {host}" if not wrong else "\n".join(wrong[:5]),
        )
    )
    return steps


def _gaps(results: t.Sequence[t.Mapping[str, t.Any]], nodes: t.Sequence[str], with_samples: bool, errors: t.Mapping[str, str]) -> list[Step]:
    """What did not run where it had to."""
    steps: list[Step] = []
    got = {(result.get("phase"), result.get("node")) for result in results}
    for phase, checks in PHASE_CHECKS.items():
        if phase in WITH_SAMPLES and not with_samples:
            continue
        for node in nodes:
            if (phase, node) not in got:
                why = errors.get(node, "the run ended before it, or the node could not be reached")
                steps += [_step(check, f"Phase {phase} on {node}", False, f"gave no result: {why}") for check in checks]
    if not with_samples:
        steps += [_step(check, CHECKS[check], True, "skipped: acceptance_sample_services is false", status=SKIPPED) for check in range(5, 13)]
    return steps


def _verdict(steps: t.Sequence[Step]) -> str:
    statuses = {step["status"] for step in steps}
    if FAILED in statuses or not statuses & {PASSED, SKIPPED}:
        return FAILED
    return SKIPPED if SKIPPED in statuses else PASSED


def evaluate(results: t.Sequence[t.Mapping[str, t.Any]], run: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The document of the run.

    Args:
        results: what the probes returned: node, phase, steps, facts, seconds.
        run: run_id, started and finished (seconds), nodes (names), edge_domain, samples, disruptive, errors (by node), collection (its version).
    """
    for result in results:
        if not isinstance(result, t.Mapping) or "node" not in result or "phase" not in result or not isinstance(result.get("steps"), list):
            raise ReportError("each result needs node, phase and steps")
    nodes = [str(node) for node in run.get("nodes") or []]
    with_samples = bool(run.get("samples", True))
    steps: list[Step] = [dict(step) for result in results for step in result["steps"]]
    steps += _gaps(results, nodes, with_samples, run.get("errors") or {})
    if with_samples:
        steps += _backend_traffic(results)
        steps += _spread(results, str(run.get("run_id", "")), f"httpfront.{run.get('edge_domain', '')}")
    general = [step for step in steps if step["check"] not in CHECKS]
    checks = []
    for number, title in CHECKS.items():
        # A step of no check is an error of a phase: then nothing of it is proven.
        mine = [step for step in steps if step["check"] == number]
        checks.append({"number": number, "title": title, "status": _verdict(mine), "seconds": round(sum(step["seconds"] for step in mine), 2), "steps": mine})
    failures = [
        f"Check {step['check']} failed on {step['node']}: {step['title']}: {step['message']}"
        if step["check"] in CHECKS
        else f"{step['title']}: {step['message']}"
        for step in steps
        if step["status"] == FAILED
    ]
    for check in checks:
        if check["status"] == FAILED and not any(step["status"] == FAILED for step in check["steps"]):
            failures.append(f"Check {check['number']} failed: it did not run")
    statuses = [check["status"] for check in checks]
    started, finished = float(run.get("started") or 0), float(run.get("finished") or 0)
    return {
        "schema": 1,
        "run_id": run.get("run_id", ""),
        "result": FAILED if failures else ("incomplete" if SKIPPED in statuses else PASSED),
        "counts": {status: statuses.count(status) for status in (PASSED, FAILED, SKIPPED)},
        "started": _time(started),
        "finished": _time(finished),
        "seconds": round(finished - started, 1),
        "disruptive": bool(run.get("disruptive")),
        "sample_services": with_samples,
        "collection": run.get("collection", ""),
        "nodes": [dict(node) for node in run.get("node_list") or []],
        "versions": {node: facts.get("versions") or {} for node, facts in sorted(_facts(results, "base").items())},
        "phases": [{"phase": result["phase"], "node": result["node"], "seconds": result.get("seconds", 0)} for result in results],
        "failures": failures,
        "checks": checks,
        "general": general,
    }


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)) if seconds else ""


def summary(document: t.Mapping[str, t.Any]) -> list[str]:
    """The run in a few lines for a terminal."""
    marks = {PASSED: "pass", FAILED: "FAIL", SKIPPED: "skip"}
    lines = [f"{marks[check['status']]}  {check['number']:>2}  {check['title']}" for check in document["checks"]]
    counts = document["counts"]
    lines.append(f"{counts[PASSED]} passed, {counts[FAILED]} failed, {counts[SKIPPED]} skipped, {document['seconds']} s")
    return lines


# --- the page -----------------------------------------------------------------------------------------------------------

_STYLE = """
:root { --ink: #1c2733; --soft: #5b6b7b; --line: #d9e0e7; --paper: #fff; --back: #f3f6f9; --code: #f6f8fa;
  --good: #1a7f4b; --bad: #c0292b; --skip: #8a6300; --note: #4a6fa5; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e9ef; --soft: #9aa8b6; --line: #33404d; --paper: #18212b; --back: #10171f; --code: #121a22;
    --good: #4cc38a; --bad: #ff7b72; --skip: #e3b341; --note: #8ab4f8; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2rem 1.2rem 4rem; }
header.top { border-left: .5rem solid var(--verdict); background: var(--paper); padding: 1.2rem 1.5rem; border-radius: .4rem; box-shadow: 0 1px 3px #0002; }
h1 { margin: 0 0 .3rem; font-size: 1.6rem; line-height: 1.25; }
h2 { margin: 2.2rem 0 .8rem; font-size: 1.15rem; }
.verdict { color: var(--verdict); }
.soft { color: var(--soft); }
.passed { --verdict: var(--good); } .failed { --verdict: var(--bad); } .skipped, .incomplete { --verdict: var(--skip); } .note { --verdict: var(--note); }
.badge { display: inline-block; min-width: 4.6em; text-align: center; border: 1px solid var(--verdict); color: var(--verdict); border-radius: 1em;
  padding: 0 .6em; font-size: .8rem; font-weight: 600; }
ul.failures { margin: .8rem 0 0; padding-left: 1.2rem; }
table { border-collapse: collapse; width: 100%; background: var(--paper); border-radius: .4rem; overflow: hidden; box-shadow: 0 1px 3px #0002; }
th, td { text-align: left; padding: .45rem .8rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-size: .8rem; color: var(--soft); font-weight: 600; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td a { color: inherit; text-decoration: none; } td a:hover { text-decoration: underline; }
.wide { overflow-x: auto; }
details.check { background: var(--paper); margin: .7rem 0; border-radius: .4rem; border-left: .35rem solid var(--verdict); box-shadow: 0 1px 3px #0002; }
details.check > summary { cursor: pointer; padding: .7rem 1rem; font-weight: 600; display: flex; gap: .8rem; align-items: baseline; }
details.check > summary .title { flex: 1; }
.steps { padding: 0 1rem 1rem; }
.step { border-top: 1px solid var(--line); padding: .6rem 0; }
.step .head { display: flex; gap: .7rem; align-items: baseline; flex-wrap: wrap; }
.step .head .title { flex: 1 1 20rem; }
.message { color: var(--bad); margin: .2rem 0 0; }
.skipped .message { color: var(--skip); }
pre { background: var(--code); border: 1px solid var(--line); border-radius: .3rem; padding: .5rem .7rem; margin: .4rem 0 0;
  font: 12.5px/1.45 ui-monospace, "SF Mono", Consolas, "Liberation Mono", monospace;
  white-space: pre-wrap; overflow-wrap: anywhere; }
pre.command { border-bottom-left-radius: 0; border-bottom-right-radius: 0; border-bottom: 0; font-weight: 600; margin-bottom: 0; }
pre.command + pre { margin-top: 0; border-top-left-radius: 0; border-top-right-radius: 0; max-height: 22rem; overflow: auto; }
@media print {
  :root { --ink: #000; --soft: #444; --line: #bbb; --paper: #fff; --back: #fff; --code: #fff; --good: #060; --bad: #a00; --skip: #640; --note: #246; }
  main { max-width: none; padding: 0; } body { font-size: 10pt; }
  table, header.top, details.check { box-shadow: none; border: 1px solid var(--line); border-left-width: .35rem; }
  details.check::details-content { content-visibility: visible; block-size: auto; }
  .step, tr { break-inside: avoid; } pre { max-height: none !important; overflow: visible !important; }
}
"""


def _e(value: t.Any) -> str:
    """Escaped. Control characters that no page may hold are shown as such."""
    return html.escape(re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", "\N{REPLACEMENT CHARACTER}", str(value)), quote=True)


def _badge(status: str) -> str:
    return f'<span class="badge {_e(status)}">{_e(status)}</span>'


def _step_html(step: Step) -> str:
    took = f" · {step['seconds']:.2f} s" if step["seconds"] else ""
    parts = [
        f'<div class="step {_e(step["status"])}"><div class="head">{_badge(step["status"])}<span class="title">{_e(step["title"])}</span>',
        f'<span class="soft">{_e(step["node"])}{took}</span></div>',
    ]
    if step["message"]:
        parts.append(f'<p class="message">{_e(step["message"])}</p>')
    if step["command"]:
        parts.append(f'<pre class="command">{_e(step["command"])}</pre>')
    if step["output"]:
        parts.append(f"<pre>{_e(step['output'])}</pre>")
    return "".join([*parts, "</div>"])


def render_html(document: t.Mapping[str, t.Any]) -> str:
    """One page that needs nothing from elsewhere and runs no script."""
    result = str(document["result"])
    headline = {
        PASSED: "All twelve checks passed",
        FAILED: f"{document['counts'][FAILED]} of {len(document['checks'])} checks failed" if document["counts"][FAILED] else "a phase of the run failed",
        "incomplete": f"{document['counts'][SKIPPED]} of {len(document['checks'])} checks were skipped, the others passed",
    }[result]
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Acceptance: {_e(result)}</title><style>{_STYLE}</style></head><body><main>",
        f'<header class="top {_e(result)}"><h1>Acceptance of the platform: <span class="verdict">{_e(headline)}</span></h1>',
        f'<div class="soft">{_e(document["started"])} to {_e(document["finished"])} · {_e(document["seconds"])} s · run {_e(document["run_id"])}',
        f"{' · trinode.platform ' + _e(document['collection']) if document['collection'] else ''}",
        f" · {'with' if document['disruptive'] else 'without'} disruptive steps</div>",
    ]
    if document["failures"]:
        parts.append('<ul class="failures">' + "".join(f"<li>{_e(failure)}</li>" for failure in document["failures"]) + "</ul>")
    parts.append("</header><h2>Summary</h2><div class='wide'><table><tr><th>#</th><th>Check</th><th>Result</th><th>Steps</th><th>Seconds</th></tr>")
    for check in document["checks"]:
        done = [step for step in check["steps"] if step["status"] != NOTE]
        good = sum(step["status"] == PASSED for step in done)
        parts.append(
            f'<tr><td class="number">{check["number"]}</td><td><a href="#check-{check["number"]}">{_e(check["title"])}</a></td>'
            f'<td>{_badge(check["status"])}</td><td class="number">{good}/{len(done)}</td><td class="number">{check["seconds"]:.1f}</td></tr>'
        )
    parts.append("</table></div>")
    parts.append(_nodes_html(document))
    parts.append("<h2>Transcripts</h2>")
    for check in document["checks"]:
        opened = " open" if check["status"] == FAILED else ""
        parts.append(
            f'<details class="check {_e(check["status"])}" id="check-{check["number"]}"{opened}><summary><span>{check["number"]}</span>'
            f'<span class="title">{_e(check["title"])}</span>{_badge(check["status"])}</summary><div class="steps">'
        )
        parts += [_step_html(step) for step in check["steps"]] or ["<p>It did not run.</p>"]
        parts.append("</div></details>")
    if document["general"]:
        parts.append('<h2>Beside the checks</h2><div class="steps">' + "".join(_step_html(step) for step in document["general"]) + "</div>")
    parts.append("</main></body></html>\n")
    return "".join(parts)


def _nodes_html(document: t.Mapping[str, t.Any]) -> str:
    """Each node with what it is, what runs on it, and what passed there."""
    names = sorted({name for versions in document["versions"].values() for name in versions})
    rows = []
    for node in document["nodes"]:
        steps = [step for check in document["checks"] for step in check["steps"] if step["node"] == node.get("name") and step["status"] != NOTE]
        good = sum(step["status"] == PASSED for step in steps)
        does = [f"Consul {node.get('consul')}"] if node.get("consul") in ("server", "client") else []
        does += ["Docker"] if node.get("docker") else []
        does += ["edge"] if node.get("edge") else []
        versions = document["versions"].get(str(node.get("name")), {})
        seconds = sum(phase["seconds"] for phase in document["phases"] if phase["node"] == node.get("name"))
        rows.append(
            f"<tr><td>{_e(node.get('name'))}</td><td>{_e(node.get('address'))}</td><td>{_e(', '.join(does))}</td><td class='number'>{good}/{len(steps)}</td>"
            f"<td class='number'>{seconds:.1f}</td>" + "".join(f"<td>{_e(versions.get(name, '-'))}</td>" for name in names) + "</tr>"
        )
    head = "".join(f"<th>{_e(name)}</th>" for name in ("Node", "Address", "Does", "Steps", "Seconds", *names))
    return f"<h2>Nodes and versions</h2><div class='wide'><table><tr>{head}</tr>{''.join(rows)}</table></div>"
