# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``nginx-edge-apply``."""

from __future__ import annotations

import json
import os
import select
import sys
import time
from typing import TYPE_CHECKING, Any

from . import boot, commands
from .config import Config, load_config
from .edge import Edge
from .errors import ApplyError
from .journal import log
from .nginxconf import printable
from .pace import Busy, Pace
from .page import clock
from .run import Run
from .status import Result, Status

if TYPE_CHECKING:
    import argparse

CONFIG = "/etc/nginx-edge/apply.json"
FIRST_FD = 3


def _code() -> float:
    """The age of the program's own files."""
    folder = os.path.dirname(__file__)
    return max(os.stat(f"{folder}/{name}").st_mtime for name in os.listdir(folder) if name.endswith(".py"))


def serve_requests(path: str) -> int:
    """Started by the first request in the pipe: one run answers every request that waits; those that come meanwhile get the next run.

    The program stays, because its start would take as long as the rest of a change. A newer program on the disk ends it."""
    count = int(os.environ.get("LISTEN_FDS", "0")) if os.environ.get("LISTEN_PID") == str(os.getpid()) else 0
    pipes = range(FIRST_FD, FIRST_FD + count)
    poller, code, pace, again = select.poll(), _code(), Pace(), False
    busy = Busy(load_config(path).busy, os.fstat(FIRST_FD).st_gid if pipes else -1)
    for pipe in pipes:
        os.set_blocking(pipe, False)
        poller.register(pipe, select.POLLIN)
    while True:
        for pipe in pipes:
            try:
                while os.read(pipe, 1 << 16):
                    pass
            except BlockingIOError:
                pass
        config = load_config(path)
        _await_catalogue(config)
        if pace.is_storm(time.monotonic()):
            busy.hold()
        result = Run(config, before_news=busy.release).apply(again=again)
        if result.changed:
            pace.spend(time.monotonic())
        busy.rest(pace.pause(time.monotonic()))
        # No further change of the catalogue may come for days: what is in the way of this one is looked at again.
        again = result.waiting or (result.outcome == "failed" and result.blame in ("operator", "host"))
        if not poller.poll(0):
            # A rendering that missed its turn, on a busy host, must not wait for a request that only it would send.
            busy.release()
        requested = _wait(poller, config, config.retry if again else None) if pipes else []
        if requested:
            again = False
        # What is left in the pipe starts the program again.
        if not (requested or (again and pipes)) or code != _code():
            return 0


def _wait(poller: select.poll, config: Config, seconds: float | None) -> list[tuple[int, int]]:
    """Wait for a request, at most so long, and count meanwhile what the limits refuse."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        left = config.watch if deadline is None else max(0.0, min(config.watch, deadline - time.monotonic()))
        requested = poller.poll(left * 1000)
        if requested or (deadline is not None and time.monotonic() >= deadline):
            return requested
        Status(Edge(config)).count_limited()


def await_boot(path: str) -> int:
    """Before nginx starts: wait until what the catalogue says since the host started is live.

    Whatever is wrong, nginx starts: with the program broken, its own last good configuration is what there is."""
    try:
        config = load_config(path)
        if boot.wait(lambda: not boot.closed(config), config.boot_wait + config.boot_settle + 3 * config.timeout):
            boot.be_late(config)
            raise ApplyError("platform", "nginx-edge-apply has made nothing live since the host started; see journalctl -u nginx-edge-apply")
    except (ApplyError, OSError) as error:
        print(f"<3>nginx-edge: nginx starts with what was served before: {error}", file=sys.stderr)
    return 0


def _await_catalogue(config: Config) -> None:
    """After a start of the host, wait until there is something to go by."""
    if boot.wait(lambda: not boot.waiting(config), config.boot_wait):
        log(
            "failed",
            f"nothing has been rendered for {config.boot_wait:g} s since the host started: only instances at ports of their own are served; "
            "see systemctl status consul-template consul",
        )
    boot.wait(lambda: not boot.settling(config), config.boot_settle)


def as_json(result: Result) -> str:
    """A result for programs."""
    return json.dumps(result._asdict())


def main(argv: list[str]) -> int:
    """Run the command. For what a person or a playbook asks the exit status tells the truth; a request by another program ends with 0."""
    os.umask(0o022)
    if argv == ["--service"]:
        try:
            return serve_requests(CONFIG)
        except ApplyError as trouble:
            print(f"<3>nginx-edge: failed: {trouble.message}", file=sys.stderr)
            return 0
    return _for_people(argv)


def _parser() -> argparse.ArgumentParser:
    # It takes time that the answer to a request does not have.
    import argparse

    default = "Without an option: apply now; the exit status is 0 whatever happens."
    about = f"Apply the staged edge configuration to nginx, checked. {default}"
    parser = argparse.ArgumentParser(prog="nginx-edge-apply", description=about)
    what = parser.add_mutually_exclusive_group()
    for option, text in (
        ("--strict", "apply, and let the exit status tell whether all is well"),
        ("--check", "test what is staged without applying it"),
        ("--status", "show what is live, what was skipped and what failed"),
        ("--confirm-shrink", "apply although most services vanish"),
        ("--resume", "end the hold of --rollback and apply what is staged"),
        ("--service", "answer the requests of the socket (for systemd)"),
        ("--await-boot", "wait until nginx may start after a start of the host (for systemd)"),
    ):
        what.add_argument(option, action="store_true", help=text)
    back = "go back to the generation before, or to the one named, and hold changes"
    what.add_argument("--rollback", nargs="?", const="", metavar="GENERATION", help=back)
    between = "show what changed between two generations (default: the last two)"
    what.add_argument("--diff", nargs="*", metavar="GENERATION", help=between)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--config", default=CONFIG, metavar="FILE", help="default: %(default)s")
    return parser


def _for_people(argv: list[str]) -> int:
    options = _parser().parse_args(argv)
    try:
        if options.service:
            return serve_requests(options.config)
        if options.await_boot:
            return await_boot(options.config)
        config = load_config(options.config)
        run = Run(config)
        if options.status:
            return _status(run.status.now(), options.json)
        if options.diff is not None:
            sys.stdout.write(commands.diff(run.edge, *[*options.diff, None, None][:2]))
            return 0
        if options.check:
            result = commands.check(run)
        elif options.rollback is not None:
            result = commands.rollback(run, options.rollback or None)
        else:
            _await_catalogue(config)
            result = commands.resume(run) if options.resume else run.apply(options.confirm_shrink)
    except (ApplyError, OSError) as error:
        result = Result("failed", str(error), None, False, getattr(error, "blame", "host"))
    print(as_json(result) if options.json else f"{result.outcome}: {result.message}")
    named = options.rollback is not None or options.diff is not None
    truthful = named or options.strict or options.check or options.status or options.confirm_shrink or options.resume
    return int(truthful and (result.outcome in ("failed", "refused") or (not result.serving and not options.check)))


def _day(end: float | None) -> str:
    if end is None:
        return "nobody knows when"
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(end)) + ("" if end > time.time() else ", HAS EXPIRED")


def _status(document: dict[str, Any], json_wanted: bool) -> int:
    if json_wanted:
        print(json.dumps(document, indent=1))
        return int(not document["up_to_date"])
    last = document["last"] or {}
    lines = [
        f"generation  {document['generation']} ({'nginx serves it' if document['serving'] else 'NOT SERVED; nginx answers: ' + str(document['answered'])})",
        f"up to date  {'yes' if document['up_to_date'] else 'NO'}",
        f"last run    {last.get('outcome', 'none')}: {last.get('message', '')}",
    ]
    lines += [f"served      {entry.get('side', '')}/{entry.get('service', '')}" for entry in document["services"]]
    lines += [f"skipped     {entry.get('side', '')}/{entry.get('service', '')}: {entry.get('reason', '')}" for entry in document["skipped"]]
    lines += [f"WARNING     {entry.get('side', '')}/{entry.get('service', '')}: {entry.get('reason', '')}" for entry in document["warnings"]]
    lines += [
        f"login       http/{service}: its instances want the connection logged in by {scheme}: "
        "each request gets a connection of its own; NTLM needs the tag tls or tcp"
        for service, scheme in document["logins"].items()
    ]
    lines += [
        f"LIMITED     {limit}: {hits['count']} refused, the last of {hits['client']} at {clock(hits['last'])}; "
        "raise it, or list the network in unlimited_networks, if these are clients of yours"
        for limit, hits in document["limited"].items()
    ]
    lines += [f"certificate {name} ends {_day(end)}" for name, end in document["certificates"].items()]
    lines += [f"FORMER      {sentence}" for sentence in document["former_certificates"]]
    if document["starting"]:
        served = "only instances at ports of their own are served" if document["serving"] else "nginx waits for that"
        lines.append(f"STARTING    nothing that was rendered since the host started is live, and {served}; see systemctl status consul-template")
    if document["hold"]:
        lines.append(f"HELD        since the rollback from {document['hold'].get('from')}; end it with nginx-edge-apply --resume")
    if document["refused"]:
        lines.append(f"REFUSED     {document['refused']['gone_count']} services would vanish; nginx-edge-apply --confirm-shrink, or bring them back")
    lines += [f"failed      {entry['path']}: {entry['reason']}" for entry in document["failed"]]
    lines += [f"history     {entry['generation']}  {entry.get('note', '')}" for entry in document["history"]]
    # What services report of themselves must not move the cursor.
    print("\n".join(printable(line, 4000) for line in lines))
    return int(not document["up_to_date"])


__all__ = ["Config", "main"]
