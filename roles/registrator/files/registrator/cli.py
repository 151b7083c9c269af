# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line."""

from __future__ import annotations

import argparse
import json
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from registrator import __version__, state
from registrator.config import DEFAULT_PATH, Config, ConfigError, load
from registrator.drain import Drains
from registrator.journal import plain
from registrator.model import Facts, Outcome, Refusal, Registration

if TYPE_CHECKING:
    from registrator.plan import Plan
    from registrator.world import World


def _parser() -> argparse.ArgumentParser:
    once = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    once.add_argument("--once", action="store_true", help="compare once and end")
    once.add_argument("--dry-run", action="store_true", help="with --once: print what would be done, and do nothing")
    parser = argparse.ArgumentParser(
        prog="registrator", description="Keeps the Consul catalogue equal to the containers that run on this host.", parents=[once]
    )
    parser.add_argument("--config", default=DEFAULT_PATH, help="the configuration file (default: %(default)s)")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("run", help="keep the catalogue true until stopped", parents=[once])
    commands.add_parser("check", help="check the configuration file and end")
    for name, text in (
        ("explain", "say why a container is registered as it is, or is not"),
        ("drain", "take a container out of the catalogue and keep it out, over restarts of anything, until undrain or its removal"),
        ("undrain", "bring a drained container back"),
    ):
        commands.add_parser(name, help=text).add_argument("container", help="its name or id")
    adopt = commands.add_parser("adopt", help="remove what another registrator left in this host's agent, and nothing else of anybody's")
    adopt.add_argument("--dry-run", action="store_true", default=argparse.SUPPRESS, help="print what would be removed, and do nothing")
    commands.add_parser("release", help="before another registrator takes over: remove the checks that only this engine keeps true, and nothing else")
    status = commands.add_parser("status", help="say whether the running engine has the catalogue in order")
    status.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help="wait that long for it")
    return parser


def _describe(registration: Registration) -> list[str]:
    lines = [f"  {registration.id}: service {registration.name} at {registration.address} port {registration.port}"]
    if registration.tags:
        lines.append("    tags: {}".format(", ".join(registration.tags)))
    if registration.meta:
        lines.append("    meta: {}".format(", ".join("{}={}".format(*item) for item in sorted(registration.meta.items()))))
    if registration.weight_passing != 1:
        lines.append(f"    weight: {registration.weight_passing}")
    for check in registration.checks:
        lines.append("    check: {}".format(", ".join(f"{key}={value}" for key, value in check.items() if key not in ("CheckID", "Name"))))
    return lines


def explain_text(
    facts: Facts,
    outcome: Outcome,
    draining: str,
    held: Any | None,
    conflicts: Iterable[Refusal] = (),
) -> str:
    """Return the answer of ``registrator explain``; ``draining`` says why the container stays out though it runs, if it
    does, and ``conflicts`` what it loses to others."""
    lines = [f"container {facts.name} ({facts.short_id}), image {facts.image}"]
    if draining:
        lines.append("is not registered: " + draining)
    elif outcome.registrations:
        lines.append("should be registered as:")
        for registration in outcome.registrations:
            lines += _describe(registration)
            if held is not None:
                lines.append("    the agent %s it" % ("holds" if held.is_marked(registration.id) else "does NOT hold"))
    else:
        lines.append("is not registered")
    lines += [f"because: {note}" for note in outcome.notes]
    lines += [f"refused: {notice_text(item)}" for item in (*outcome.refusals, *conflicts)]
    lines += [f"warning: {notice_text(item)}" for item in outcome.warnings]
    return "\n".join(plain(line) for line in lines)


def notice_text(notice: Refusal) -> str:
    """Return a refusal or warning as people read it."""
    return plain(f"SERVICE_{notice.key.upper()}: {notice.reason}")


def _explain(config: Config, container: str) -> int:
    from registrator.consulapi import ConsulDown, ConsulRefused
    from registrator.convention import registrations_of
    from registrator.dockerapi import DockerDown, Gone, Unanswered
    from registrator.facts import facts_of
    from registrator.plan import plan
    from registrator.reconciler import Reconciler

    reconciler = Reconciler(config)
    reconciler.publisher.load()
    world, docker = reconciler.world, reconciler.observer.docker
    try:
        facts = facts_of(docker.inspect(container))
        owner = None
        if facts.network_owner:
            try:
                owner = facts_of(docker.inspect(facts.network_owner))
            except Gone:
                owner = None
        # Other containers may hold the id that this one wants.
        reconciler.observer.look_at_all(deep=True, wait=True)
    except Gone:
        print(f"registrator: there is no container {container}", file=sys.stderr)
        return 1
    except Unanswered as error:
        print(f"registrator: Docker gives no answer about container {container}: {error}", file=sys.stderr)
        return 1
    except DockerDown as error:
        print(f"registrator: Docker at {config.docker_socket} does not answer: {error}", file=sys.stderr)
        return 1
    now = time.time()
    desired, refused = world.desired(now)
    conflicts = [(owner_id, item) for owner_id, item in refused if item.kind in ("id-taken", "id-twice")]
    held = None
    try:
        held = reconciler.catalogue.consul.actual()
        conflicts += plan(desired, held, config.hostname).refusals
    except (ConsulDown, ConsulRefused) as error:
        print(f"registrator: the Consul agent was not asked: {error}", file=sys.stderr)
    outcome = registrations_of(facts, config.settings(), owner, now)
    lost = [item for owner_id, item in conflicts if owner_id == facts.id]
    print(explain_text(facts, outcome, draining_text(facts, owner, world.drains, now), held, lost))
    return 0


def draining_text(facts: Facts, owner: Facts | None, drains: Drains, now: float) -> str:
    """Why a container stays out of the catalogue though it runs; empty when it does not."""
    for item, whose in ((facts, "it"), (owner, "the container whose network it shares")):
        if item is None:
            continue
        held = drains.held.get(item.id)
        if held is not None:
            since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(held.since))
            return f"{whose} is drained by hand since {since}; `registrator undrain {item.name}` brings it back"
        if drains.is_draining(item, now):
            return f"{whose} was told to stop and is draining"
    return ""


def _once(config: Config, dry_run: bool) -> int:
    from registrator.consulapi import ConsulDown, ConsulRefused
    from registrator.dockerapi import DockerDown
    from registrator.plan import plan
    from registrator.reconciler import Reconciler

    reconciler = Reconciler(config)
    reconciler.publisher.load()
    world, observer, catalogue = reconciler.world, reconciler.observer, reconciler.catalogue
    if not dry_run and not _lock(config):
        return 1
    try:
        observer.look_at_all(deep=True, wait=True)
        unknown = sorted(container[:12] for container in observer.unknown())
        if unknown:
            reason = f"Docker gives no answer about {', '.join(unknown)}: see `docker inspect`"
            print(f"registrator: nothing was changed, because {reason}", file=sys.stderr)
            return 1
        actual = catalogue.consul.actual()
        desired, refused = world.desired(time.time())
        todo = plan(desired, actual, config.hostname, config.adopt)
        if not dry_run:
            return 0 if catalogue.apply(todo, actual) else 1
    except DockerDown as error:
        print(f"registrator: Docker at {config.docker_socket} does not answer: {error}", file=sys.stderr)
        return 1
    except (ConsulDown, ConsulRefused) as error:
        print(f"registrator: the Consul agent at {config.consul_url}: {error}", file=sys.stderr)
        return 1
    _print_plan(world, todo, refused, len(desired))
    return 0


def _lock(config: Config) -> bool:
    """Be the only one that changes the catalogue; return whether that is so."""
    try:
        state.lock(config.state_directory)
    except state.AlreadyRuns:
        reason = "the engine runs and keeps the catalogue; two would hide each other's changes. See `registrator status`"
    except OSError as error:
        reason = f"{config.state_directory} cannot be used: {error.strerror}"
    else:
        return True
    print(f"registrator: {reason}", file=sys.stderr)
    return False


def _print_plan(world: World, todo: Plan, refused: list[tuple[str, Refusal]], services: int) -> None:
    for service_id in todo.deregister:
        print(f"would deregister\n  {service_id}")
    for registration in todo.register:
        print("would %s" % ("take over" if registration.id in todo.taken_over else "register"))
        print("\n".join(plain(line) for line in _describe(registration)))
    for _registration, verdict in todo.verdicts:
        print(f"would set the check\n  {verdict.check_id} to {verdict.status}")
    for container, refusal in refused + todo.refusals:
        print(f"refused on container {container[:12]}\n  {notice_text(refusal)}")
    for facts in world.facts.values():
        for warning in world.outcome(facts, time.time()).warnings:
            print(f"warning about container {facts.short_id}\n  {notice_text(warning)}")
    changes = f"{len(todo.register)} to register, {len(todo.deregister)} to deregister"
    print(f"{len(world.facts)} containers, {services} services; {changes}")


def _release(config: Config) -> int:
    from registrator.catalogue import client
    from registrator.checks import own_checks
    from registrator.consulapi import ConsulDown, ConsulRefused

    consul = client(config)
    try:
        state.lock(config.state_directory)
        actual = consul.actual()
        for service_id, service in actual.services.items():
            for check_id in own_checks(service_id) if actual.is_marked(service_id) else ():
                if check_id in actual.checks:
                    consul.deregister_check(check_id, str(service.get("Service") or ""))
                    print(f"removed {check_id}")
    except state.AlreadyRuns:
        print("registrator: the engine runs and would bring its checks back; stop it first", file=sys.stderr)
        return 1
    except (ConsulDown, ConsulRefused, ValueError, OSError) as error:
        print(f"registrator: {error}", file=sys.stderr)
        return 1
    return 0


def status_of(data: Any, resync: float, now: float) -> str:
    """Empty when all is in order, else what is not."""
    if not data or not state.process_token(int(data.get("pid") or 0)):
        return "the engine does not run, or did not run yet"
    for what, reason in (data.get("down") or {}).items():
        return "{} does not answer: {}".format("Docker" if what == "docker" else "the Consul agent", reason)
    if not data.get("synced"):
        return "the first comparison is not finished"
    if data.get("unanswered") and not data.get("containers"):
        return f"Docker gives no answer about any container: see `docker inspect {data['unanswered'][0]}`"
    age = now - float(data.get("last_sync") or 0)
    if age > 3 * resync + 10:
        return f"the last comparison was {age:.0f} seconds ago"
    return ""


def _status(config: Config, wait: float) -> int:
    deadline = time.monotonic() + wait
    while True:
        data = state.read(config.state_directory, state.STATUS)
        problem = status_of(data, config.resync_seconds, time.time())
        if not problem or time.monotonic() >= deadline:
            break
        time.sleep(0.1)
    if problem:
        print(f"registrator: {problem}", file=sys.stderr)
        return 1
    print(json.dumps(data, sort_keys=True))
    return 0


def _order(config: Config, order: str, container: str = "") -> int:
    from registrator.control import ControlError, ask

    try:
        done, text = ask(config.state_directory, order, container)
    except ControlError as error:
        done, text = False, str(error)
    print(text if done else "registrator: " + text, file=sys.stdout if done else sys.stderr)
    return 0 if done else 1


def _run(config: Config) -> int:
    from registrator.loop import Loop

    loop = Loop(config)
    call_at_stop_signal(loop.stop)
    return loop.run()


def call_at_stop_signal(stop: Callable[[], None]) -> None:
    """Call ``stop`` at each SIGTERM and SIGINT, in a thread of its own; to be called in the main thread.

    The kernel may give a signal to any thread, and Python runs handlers in the main one alone, which that does not wake from waiting for its queue
    (https://docs.python.org/3/library/signal.html#signals-and-threads). What is written to a socket meanwhile wakes whoever reads it.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)

    # The writer is named so that it stays open for as long as the thread is there.
    def wait(_writer: socket.socket) -> None:
        while reader.recv(1):
            stop()

    threading.Thread(target=wait, args=(writer,), name="stop-signal", daemon=True).start()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    once, dry_run = getattr(options, "once", False), getattr(options, "dry_run", False)
    if options.command in (None, "run"):
        if dry_run and not once:
            parser.error("--dry-run needs --once")
        if options.command is None and not once:
            parser.error("a command is missing, or --once")
    elif once:
        parser.error(f"--once does not go with {options.command}")
    try:
        config = load(options.config)
    except ConfigError as error:
        print(f"registrator: {error}", file=sys.stderr)
        return 2
    if options.command == "check":
        return 0
    if options.command == "explain":
        return _explain(config, options.container)
    if options.command in ("drain", "undrain"):
        return _order(config, options.command, options.container)
    if options.command == "adopt":
        return _once(replace(config, adopt=True), dry_run=True) if dry_run else _order(config, "adopt")
    if options.command == "release":
        return _release(config)
    if options.command == "status":
        return _status(config, options.wait)
    return _once(config, dry_run) if once else _run(config)
