# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run: read what is staged, build, test, swap, reload, verify; or take back, and say why."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from . import boot, former, logins
from . import state as states
from .allowed import objections
from .answering import answering
from .check import check_tree
from .difference import unified
from .foreign import Foreign, names, no_address, passes_to, refused, scan, text_of, with_port
from .limited import Counted, logs_of
from .nginxconf import ConfigError, Document, LeftOut, Listener, certificates, clash, listeners, parse_listen, too_many, worker_connections
from .page import page
from .render import CERTIFICATES, EDGE_HTTP, EDGE_STREAM, READ_BY_NGINX, STAGED_HTTP, STAGED_STREAM, Rendered, Source, Wanted, management, render
from .report import as_lines, backends, dropped_too_many, served
from .system import (
    Config,
    Lock,
    Nginx,
    Trouble,
    has_address,
    own_addresses,
    ports_given_anew,
    read_staged,
    read_text,
    refuse_links,
    remove_tree,
    replace_file,
    swap_link,
    sync_path,
    write_file,
)

FAILED_KEPT = 5
# A loss is complete when nothing has come for so long, or at the latest after so long.
SETTLE_SECONDS, SETTLE_LONGEST_SECONDS = 0.5, 3.0
SEVERITY = {"applied": 6, "unchanged": 6, "repaired": 5, "rolled_back": 5, "held": 5, "refused": 4, "failed": 3}


class Result(NamedTuple):
    """How a run ended. ``serving`` is the truth about the edge, ``outcome`` about what was asked."""

    outcome: str
    message: str
    generation: str | None
    serving: bool
    blame: str = ""
    changed: bool = False
    duration_ms: int = 0
    # Whether a later run may end better, although nothing new is staged.
    waiting: bool = False


def log(outcome: str, message: str) -> None:
    """One line for the journal, with its priority."""
    prefix = f"<{SEVERITY.get(outcome, 5)}>" if os.environ.get("JOURNAL_STREAM") else ""
    print(f"{prefix}nginx-edge: {outcome}: {message}", file=sys.stderr, flush=True)


class Engine:
    """The checked apply on one host."""

    # Of the generation that was asked about last: the texts are large.
    known_logs: tuple[tuple[str, str | None], list[str]] = (("", None), [])

    def __init__(self, config: Config, before_news: Callable[[], None] = lambda: None) -> None:
        self.config = config
        # Called before this waits for what is staged next.
        self.before_news = before_news
        self.nginx = Nginx(config)
        self.state = states.empty()
        self.state_changed = False
        self.counted: Counted | None = None
        self.asked_names: dict[str, bool | None] = {}
        # Host names for which an upstream of the edge's is no help.
        self.no_upstreams: set[str] = set()
        # Whether this run is the first one since the host started that has something new to go by.
        self.booting = False
        # Whether there is nothing new to go by, and nobody waits for it any more.
        self.late = False
        # What the catalogue names no more and answers no more either.
        self.ended: set[str] = set()

    # -- small parts ------------------------------------------------------------------------------------------------------

    def path(self, *parts: str) -> str:
        """A path below the state directory."""
        return "/".join((self.config.state_dir, *parts))

    def tree(self, generation: str) -> str:
        """The directory of a generation."""
        return self.path("trees", generation)

    def lock(self) -> Lock:
        """The lock of a run."""
        return Lock(self.path("lock"), max(60.0, 6 * self.config.timeout))

    def step(self, name: str) -> None:
        """A place at which a test may end the program without warning, or halt it to change the world meanwhile."""
        if self.config.testing:
            for variable, number in (("NGINX_EDGE_CRASH", signal.SIGKILL), ("NGINX_EDGE_HALT", signal.SIGSTOP)):
                if os.environ.get(variable) == name:
                    os.kill(os.getpid(), number)

    def linked(self) -> str | None:
        """The generation that the live link names."""
        try:
            return os.path.basename(os.readlink(self.config.live))
        except OSError:
            return None

    def trees(self) -> list[str]:
        """Every generation on the disk."""
        try:
            return sorted(os.listdir(self.path("trees")))
        except FileNotFoundError:
            return []

    def complete(self, generation: str | None) -> bool:
        """Whether a tree holds all that nginx reads."""
        return bool(generation) and all(os.path.isfile(f"{self.tree(generation or '')}/{name}") for name in READ_BY_NGINX)

    def load(self) -> None:
        """Read the state file."""
        self.state = states.load(read_text(self.path("state.json")))

    def report_of(self, generation: str | None) -> dict[str, Any]:
        """The report of a generation."""
        import json

        try:
            found = json.loads(read_text(f"{self.tree(generation)}/report.json") or "{}") if generation else {}
        except ValueError:
            found = {}
        return found if isinstance(found, dict) else {}

    def save(self, serving: bool) -> None:
        """Write the state, then what is derived from it."""
        replace_file(self.path("state.json"), states.dump(self.state))
        report = self.report_of(self.state["live"])
        starting = boot.begun(self.config)
        document = states.status(self.state, report, serving, starting)
        document["limited"] = self.limited().document()
        replace_file(self.path("status.json"), as_lines(document), sync=False)
        replace_file(self.path("status.html"), page(os.uname().nodename, document, self.failed()), sync=False)
        metrics = states.metrics(self.state, report, serving, {limit: hits.count for limit, hits in self.limited().hits.items()}, starting)
        replace_file(self.path("metrics.prom"), metrics, sync=False)

    def limited(self) -> Counted:
        """Return what the limits refused, as far as it was counted."""
        if self.counted is None:
            self.counted = Counted(self.path("limited.json"))
        return self.counted

    def count_limited(self) -> None:
        """Count what the limits refused since the last time, and show it. A run that is under way does not wait for this."""
        try:
            with Lock(self.path("lock"), 0):
                counted = self.limited()
                new = counted.follow(self.logs(), time.time())
                counted.save()
                if new:
                    self.load()
                    live = self.linked()
                    self.save(live is not None and self.nginx.generation() == live)
        except (Trouble, OSError):
            # It is counted the next time.
            pass

    def logs(self) -> list[str]:
        """Return the access logs of the live generation, which are looked for once in each."""
        key = (self.config.state_dir, self.linked())
        if Engine.known_logs[0] != key:
            found = {log for name in (EDGE_HTTP, EDGE_STREAM) for log in logs_of(read_text(f"{self.config.live}/{name}") or "")}
            Engine.known_logs = (key, sorted(found))
        return Engine.known_logs[1]

    def sockets_of(self, generation: str) -> set[Listener]:
        """The sockets that a tree wants."""
        found = set()
        for name in READ_BY_NGINX[1:]:
            for directive in Document(read_text(f"{self.tree(generation)}/{name}") or "").walk():
                if directive.name == "listen":
                    found.update(parse_listen(directive.args))
        return found

    # -- reading ----------------------------------------------------------------------------------------------------------

    def source(self) -> Source:
        """What is staged; a file that is missing is taken from the live generation."""
        texts = []
        refuse_links(self.path("staging"))
        for name, kept in (("http.conf", STAGED_HTTP), ("stream.conf", STAGED_STREAM)):
            text = read_staged(self.path("staging"), name, self.config.max_staged_bytes)
            if text is None:
                text = read_text(f"{self.config.live}/{kept}") or ""
            texts.append(text)
        return Source(texts[0], texts[1], *self.source_base(), self.source_certificates())

    def source_base(self) -> tuple[str, str]:
        """The site's own part: (http, main)."""
        http, main = (read_text(f"{self.config.base_dir}/{name}") for name in ("http.conf", "main.conf"))
        if http is None or main is None:
            raise Trouble("platform", f"{self.config.base_dir}/http.conf or main.conf is missing; run the site playbook again")
        return http, main

    def source_certificates(self) -> dict[str, str]:
        """The site's certificates, by file name. One that was taken away is still there as long as the live generation has it."""
        found: dict[str, str] = {}
        for folder in (f"{self.config.live}/{CERTIFICATES}", self.config.places.certificates):
            for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
                text = read_text(f"{folder}/{name}") if name.endswith(".pem") else None
                if text is not None:
                    found[name] = text
        return found

    def parse(self, source: Source) -> Wanted:
        """Parse and judge the texts."""
        documents = []
        texts = (("http", source.http, False), ("stream", source.stream, False), ("http", source.base_http, True))
        for side, text, ours in texts:
            name = f"{side}.conf"
            label, blame = (f"/etc/nginx-edge/{name}", "platform") if ours else (f"staged {name}", "staged")
            try:
                document = Document(text)
            except ConfigError as error:
                raise Trouble(blame, f"{label}, line {error.place}: {error}") from error
            if not ours:
                for line, reason in [*objections(document, side, self.config.places), *self._missing(document, source)]:
                    subject = document.subject_at(line)
                    raise Trouble(blame, f"{label}, line {line}{f' ({subject})' if subject else ''}: {reason}")
            documents.append(document)
        return Wanted(source, *documents)

    def _missing(self, document: Document, source: Source) -> list[tuple[int, str]]:
        places = self.config.places
        advice = "add it to nginx_tls_certificates and run the site playbook, or take it out of the edge description"
        return [
            (line, f"there is no certificate {places.certificates}/{name}; {advice}")
            for name, line in certificates(document, places).items()
            if name not in source.certificates
        ]

    def rendered(self, wanted: Wanted, generation: str) -> Rendered:
        """The tree for what is wanted, as far as its sockets can be had now."""
        config, master = self.config, self.nginx.master()
        fixed = (
            *(generation, config.state_dir, config.status_port, config.places, config.status_address),
            *(self.foreign_upstreams(), own_addresses(), config.status_host_names),
            ports_given_anew() if self.late else range(0),
        )
        complete = render(wanted, {}, *fixed)
        missing = self.nginx.unusable(complete.listeners, master)
        for listener in sorted(wanted.needed(config.status_port) & missing.keys()):
            raise Trouble("host", f"{listener} {missing[listener]}; free it, or give the edge another port or address")
        foreign = [Listener(*entry) for entry in self.state["foreign"]]
        http_side = wanted.listeners(config.status_port)
        apart = management(config.status_port, config.status_address)[1]
        unusable = {
            "status": {apart: missing[apart]} if apart and apart in missing else {},
            "http": {listener: missing[listener] for listener in listeners(wanted.http) & missing.keys()},
            "tcp": {listener: missing[listener] for listener in listeners(wanted.stream) & missing.keys()},
        }
        for listener in listeners(wanted.stream):
            if any(clash(listener, other) for other in http_side):
                unusable["tcp"][listener] = "is the http side's"
            elif any(clash(listener, other) for other in foreign):
                unusable["tcp"][listener] = "is used by the operator's own nginx configuration"
        self.leave_room(wanted.stream, unusable["tcp"])
        if not any(unusable.values()):
            return complete
        return render(wanted, unusable, *fixed)

    def foreign_upstreams(self) -> Foreign:
        """Return the upstreams and hosts of the operator's own files that nginx reads, as far as it told.

        A file that nginx does not read passes nothing and defines nothing. Until nginx has read a new file, it speaks of what is wrong.
        """
        found = scan(str(path) for path in self.state["foreign_files"])
        written, defined = found.defined, {}
        for name, path in self._learned("passed").items():
            if not path or name in names(text_of(path))[0]:
                found.passed.setdefault(name, path or "nginx configuration")
        for name, path in self._learned("defined").items():
            if not path or name in names(text_of(path))[1]:
                defined[name] = path or written.get(name, "nginx configuration")
        pairs = (entry for entry in self.state["doubled_names"] if isinstance(entry, list) and len(entry) == 2)
        doubled = tuple((str(name), str(place)) for name, place in pairs)
        return Foreign(found.passed, defined, doubled, self._unresolved())

    def _unresolved(self) -> dict[str, str]:
        """Return the host names of the operator's files that have no address now, each with its file."""
        known = {str(name): str(path) for name, path in self.state["unresolved"].items()}
        return {name: path for name, path in known.items() if passes_to(text_of(path), name) and not self.has_address(name)}

    def has_address(self, name: str) -> bool | None:
        """Ask for a host name, once in a run: two answers would make two trees of one."""
        if name not in self.asked_names:
            self.asked_names[name] = has_address(name)
        return self.asked_names[name]

    def _learned(self, key: str) -> dict[str, str]:
        """What nginx has spoken of: upstream -> the file, if it is known."""
        found = self.state["foreign_upstreams"].get(key)
        return {str(name): str(path) for name, path in found.items()} if isinstance(found, dict) else {}

    def leave_room(self, stream: Document, unusable: dict[Listener, str]) -> None:
        """nginx refuses to start with more sockets than ``worker_connections``, and each one takes a connection from every worker: public ports get
        half of them at the most, and whoever registers thousands loses those that are too many, not the edge."""
        try:
            connections = worker_connections(Document(read_text(self.config.nginx_conf) or ""))
        except ConfigError:
            # For nginx to say.
            return
        if connections is not None:
            reason = f"is one too many for the {connections} worker_connections in {self.config.nginx_conf}: public ports get half of them"
            unusable.update(dict.fromkeys(too_many(stream, unusable, connections // 2), reason))

    def on_disk(self, generation: str, files: dict[str, str]) -> bool:
        """Whether a tree is exactly these files."""
        return all(read_text(f"{self.tree(generation)}/{name}") == text for name, text in files.items())

    # -- changing ---------------------------------------------------------------------------------------------------------

    def build(self, generation: str, files: dict[str, str]) -> str:
        """Write a tree. Nothing refers to it yet."""
        tree = self.tree(generation)
        remove_tree(tree)
        for part in ("", "/main", "/http", "/stream", "/staged"):
            os.makedirs(tree + part, 0o755)
        if any(name.startswith(f"{CERTIFICATES}/") for name in files):
            os.mkdir(f"{tree}/{CERTIFICATES}", 0o700)
        for name, text in files.items():
            write_file(f"{tree}/{name}", text, sync=False, mode=0o600 if name.startswith(f"{CERTIFICATES}/") else 0o644)
        return tree

    def sync_tree(self, tree: str) -> None:
        """Bring a tree to the disk before it becomes the live one."""
        for folder in ("main", "http", "stream", CERTIFICATES):
            if os.path.isdir(f"{tree}/{folder}"):
                for name in os.listdir(f"{tree}/{folder}"):
                    sync_path(f"{tree}/{folder}/{name}")
                sync_path(f"{tree}/{folder}")
        sync_path(tree)
        sync_path(self.path("trees"))

    def switch(self, generation: str, sockets: set[Listener], good_workers: frozenset[int] = frozenset()) -> str:
        """Make a generation live in the running nginx, which is started if need be; an empty text, or what is wrong."""
        swap_link(self.config.live, f"trees/{generation}")
        self.step("swapped")
        return self.serve(generation, sockets, good_workers)

    def serve(self, generation: str, sockets: set[Listener], good_workers: frozenset[int] = frozenset()) -> str:
        """Let nginx take what the link names and wait until it has. Good workers are known to serve it already and may stay."""
        deadline = time.monotonic() + self.config.timeout
        master = self.nginx.master()
        workers = self.nginx.active_workers(master) if master else set()
        if master:
            try:
                os.kill(master, signal.SIGHUP)
            except ProcessLookupError:
                master = 0
        if not master:
            # It waits until there is a tree for it. What this run comes to is not known yet.
            boot.be_late(self.config)
            trouble = self.nginx.start()
            if trouble:
                unusable = self.nginx.unusable(sockets, 0)
                held = "; ".join(f"{listener} {reason}" for listener, reason in sorted(unusable.items()))
                return f"nginx does not start: {held or ' '.join(trouble.split())[-400:]}"
        self.step("signalled")
        return self.nginx.wait_for(generation, sockets, workers - good_workers, deadline)

    def look_at_start(self) -> None:
        """See whether anything has been applied since the host started, and whether there is something new to go by."""
        self.booting = boot.begun(self.config) and boot.rendered(self.config)
        self.late = boot.begun(self.config) and not self.booting

    def keep_to_before(self) -> None:
        """Go by what was served before the host started, although something new has been rendered: it cannot be had."""
        self.late, self.booting = self.late or self.booting, False

    def let_nginx_start(self) -> None:
        """After a start of the host, nginx waits until there is a tree for it."""
        try:
            # The status tells whether there is a mark.
            self.state_changed |= (boot.end if self.booting else boot.be_late)(self.config)
        except OSError as error:
            log("failed", f"{self.config.boot_mark}: {error.strerror}: nginx waits until its time is over")

    def ensure(self, generation: str) -> tuple[bool, bool, str]:
        """Let nginx serve a generation that is already linked: (serves it, something was done, what is wrong)."""
        if self.nginx.generation() == generation and self.nginx.master():
            return True, False, ""
        trouble = self.serve(generation, self.sockets_of(generation))
        return not trouble, True, trouble

    # -- recovery ---------------------------------------------------------------------------------------------------------

    def recover(self) -> list[str]:
        """Finish or take back what an earlier run left half done; what was done, in words."""
        done: list[str] = []
        state, linked = self.state, self.linked()
        pending = state["pending"]
        if pending is not None:
            target, before = pending["to"], pending.get("from")
            if self.booting or self.late:
                # Nothing of before is served only to verify it.
                if self.complete(before):
                    swap_link(self.config.live, f"trees/{before}")
                    remove_tree(self.tree(target))
                    done.append(f"generation {target} of a run that the start of the host ended was taken back")
            elif linked == target and self.complete(target):
                trouble = self.serve(target, self.sockets_of(target))
                if not trouble:
                    self.commit(target, str(pending.get("note", "")), set(pending.get("services") or []))
                    done.append(f"generation {target} of an interrupted run was verified and kept")
                elif self.complete(before):
                    self.keep_failed(target, f"after an interrupted run: {trouble}")
                    self.switch(str(before), self.sockets_of(str(before)))
                    done.append(f"generation {target} of an interrupted run was taken back: {trouble}")
            elif linked != target:
                remove_tree(self.tree(target))
            state["pending"] = None
            self.state_changed = True
            linked = self.linked()
        if linked is None or not self.complete(linked):
            known = [entry["generation"] for entry in state["history"]]
            candidates = [state["live"], *reversed(known), *reversed(self.trees())]
            found = next((name for name in candidates if self.complete(name) and not self.refused_by_nginx(name)), None)
            if found is not None:
                swap_link(self.config.live, f"trees/{found}")
                done.append(f"the live link was gone or broken and names generation {found} again")
            elif linked is not None:
                os.unlink(self.config.live)
            linked = found
        if state["live"] != linked:
            state["live"] = linked
            self.state_changed = True
        if not state["history"] and linked is not None:
            # A lost state file: the trees are all there is to go back to.
            names = [name for name in self.trees() if name != linked and self.complete(name)] + [linked]
            state["history"] = [{"generation": name, "activated": round(time.time(), 3), "services": None, "note": "found"} for name in names]
        kept = {entry["generation"] for entry in state["history"]} | {linked}
        for name in self.trees():
            if name not in kept:
                remove_tree(self.tree(name))
        return done

    def commit(self, generation: str, note: str, services: set[str]) -> None:
        """A generation is live and verified."""
        state, now = self.state, time.time()
        state["live"], state["pending"], state["refused"] = generation, None, None
        state["next"] = max(state["next"], int(generation) + 1)
        history = [entry for entry in state["history"] if entry["generation"] != generation]
        state["history"] = [*history, {"generation": generation, "activated": round(now, 3), "services": len(services), "note": note}]
        states.remember_seen(state, services, now, self.config.shrink_window)
        kept = states.prune_history(state, self.config.history)
        for name in self.trees():
            if name not in kept:
                remove_tree(self.tree(name))
        self.state_changed = True

    def keep_failed(self, generation: str, reason: str) -> str:
        """Keep a candidate and the reason for people; the same failure again replaces the older copy."""
        folder = self.path("failed")
        os.makedirs(folder, 0o750, exist_ok=True)
        names = sorted(os.listdir(folder))
        if names and read_text(f"{folder}/{names[-1]}/reason.txt") == reason + "\n":
            remove_tree(f"{folder}/{names.pop()}")
        # Numbered, because a clock may be set back, and then the newest would be taken for the oldest.
        number = max((int(name.partition("-")[0]) for name in names if name.partition("-")[0].isdigit()), default=0) + 1
        target = f"{folder}/{number:06d}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{generation}"
        # People want to know why it failed, and need no copy of a key for that.
        remove_tree(f"{self.tree(generation)}/{CERTIFICATES}")
        os.rename(self.tree(generation), target)
        os.chmod(target, 0o750)
        write_file(f"{target}/reason.txt", reason + "\n", sync=False)
        for name in names[: max(0, len(names) + 1 - FAILED_KEPT)]:
            remove_tree(f"{folder}/{name}")
        return target

    # -- runs -------------------------------------------------------------------------------------------------------------

    def finish(self, started: float, result: Result, again: bool = False) -> Result:
        """Write down and log how a run ended. A full disk must not hide the result."""
        state = self.state
        result = result._replace(duration_ms=round((time.monotonic() - started) * 1000))
        before = state["last"] or {}
        entry = {"time": round(time.time(), 3), **{key: value for key, value in result._asdict().items() if key not in ("changed", "waiting")}}
        same = all(before.get(key) == entry[key] for key in ("outcome", "message", "generation", "serving", "blame"))
        if result.outcome == "unchanged":
            if before.get("outcome") not in (None, "applied", "repaired", "unchanged") or not before.get("serving", True):
                state["last"], state["refused"], self.state_changed = {**entry, "outcome": "applied"}, None, True
        else:
            state["counters"][result.outcome] = state["counters"].get(result.outcome, 0) + 1
            state["last"], self.state_changed = entry, True
            if result.outcome in ("failed", "refused"):
                state["last_failure"] = entry
        if self.state_changed:
            try:
                self.save(result.serving)
                self.state_changed = False
            except OSError as error:
                log("failed", f"the state can't be written: {error}")
        if not (again and same) and (result.outcome != "unchanged" or self.config.testing):
            log(result.outcome, result.message + (" (again)" if same else ""))
        return result

    def apply(self, confirm_shrink: bool = False, again: bool = False) -> Result:
        """Bring what is staged to the edge. A run ``again`` after a failure says nothing when it ends like the one before."""
        started = time.monotonic()
        try:
            with self.lock():
                return self._apply(started, confirm_shrink, again)
        except (Trouble, OSError) as error:
            # Reached when the state directory itself can't be used: there is nowhere to write it down.
            blame = error.blame if isinstance(error, Trouble) else "host"
            message = error.message if isinstance(error, Trouble) else str(error)
            log("failed", message)
            live = self.linked()
            return Result("failed", message, live, live is not None and self.nginx.generation() == live, blame)

    def _apply(self, started: float, confirm_shrink: bool, again: bool) -> Result:
        self.load()
        self.look_at_start()
        recovered: list[str] = []
        try:
            recovered = self.recover()
            result = self._change(confirm_shrink)
            if self.booting and result.outcome == "failed":
                result = self._without_given_anew(result)
        except Trouble as trouble:
            result = self._not_done(trouble)
        except OSError as error:
            result = self._not_done(Trouble("host", f"{error.strerror}{f': {error.filename}' if error.filename else ''}"))
        except Exception as error:
            # Whatever a strange input sets off in this program must not end it: the edge has to stay up, and the reason has to be written down.
            import traceback

            traceback.print_exc()
            result = self._not_done(Trouble("platform", f"unexpected {type(error).__name__}: {error}"))
        if recovered:
            note = "; ".join(recovered)
            outcome = "repaired" if result.outcome == "unchanged" else result.outcome
            result = result._replace(outcome=outcome, message=f"{note}; {result.message}", changed=True)
        self.let_nginx_start()
        result = self.finish(started, result, again)
        self.forget_former_keys()
        return result

    def present(self) -> former.Present:
        """Return the certificates of the site as they are now."""
        return former.Present(self.config.places.certificates, self.tree(self.linked() or ""))

    def forget_former_keys(self) -> None:
        """Keep no key that the site replaced or withdrew, except in the live generation while that needs it."""
        # As long as the disk says that a change is on its way, the generation before it may be needed as it was.
        if self.state_changed:
            return
        live, present = self.linked(), self.present()
        for generation in self.trees():
            try:
                if generation != live:
                    former.refresh(self.tree(generation), present.text)
            except OSError as error:
                why = f"{error.filename or self.tree(generation)}: {error.strerror}"
                log("failed", f"{why}: a former key may still be in generation {generation}; the next run removes it")

    def renewed(self, live: str) -> tuple[str, str]:
        """Renew the live generation while what is staged has to wait: (what is live, a note).

        It gets the present certificates, and after a start of the host it loses what may be another service's now."""
        refused = self.state["refused"]
        what = "instances at ports that Docker gives anew cannot be left out" if self.late else "certificates cannot be renewed"
        if former.REPLACED not in self.present().waiting().values() and not self.late:
            return live, ""
        try:
            texts = [read_text(f"{self.tree(live)}/{name}") or "" for name in (STAGED_HTTP, STAGED_STREAM)]
            wanted = self.parse(Source(*texts, *self.source_base(), self.source_certificates()))
            if self.on_disk(live, self.rendered(wanted, live).files):
                return live, ""
            result = self._make_live(wanted, self.served_now(), live)
        except (Trouble, OSError) as error:
            return live, f"; its {what}: {error}"
        self.state["refused"] = refused
        what = "without instances at ports that Docker gives anew" if self.late else "with the present certificates"
        note = f"; generation {result.generation} is {live} {what}"
        return str(result.generation), note if result.outcome == "applied" else f"; {result.message}"

    def _without_given_anew(self, result: Result) -> Result:
        """After a start of the host, what was taken back to is served without what may be another service's now."""
        self.keep_to_before()
        if result.generation is None:
            return result
        live, note = self.renewed(result.generation)
        serving, _, why = self.ensure(live)
        return result._replace(generation=live, serving=serving, message=result.message + note + (f"; {why}" if why else ""))

    def _not_done(self, trouble: Trouble) -> Result:
        """The change is off; what was live has to be live. Where nothing ever was, an edge without services comes up."""
        booting = self.booting
        self.keep_to_before()
        live = self.linked()
        if live is None and trouble.blame == "staged":
            try:
                base = self.source_base()
                result = self._make_live(self.parse(Source("", "", *base, {})), set(), None)
                live = result.generation
            except Trouble as other:
                trouble.message += f"; {other.message}"
        serving, _, why, note = False, False, "there is no generation yet", ""
        try:
            if live is not None and (booting or trouble.blame in ("staged", "guard")):
                live, note = self.renewed(live)
            if live is not None:
                serving, _, why = self.ensure(live)
        except OSError as error:
            why = str(error)
        rest = (f"generation {live} stays live" if serving else f"and the edge is down: {why}") + note
        outcome = "refused" if trouble.blame == "guard" else "failed"
        return Result(outcome, f"{trouble.message}; {rest}", live, serving, "staged" if outcome == "refused" else trouble.blame)

    def _change(self, confirm_shrink: bool) -> Result:
        state, live = self.state, self.linked()
        if state["hold"] is not None and live is not None:
            self.keep_to_before()
            held, (live, note) = live, self.renewed(live)
            serving, did, why = self.ensure(live)
            did = did or live != held
            if not serving:
                return Result("failed", why, live, serving, "host", did)
            message = f"changes are held after a rollback to {state['hold'].get('to')}"
            return Result("held", f"{message}; nginx-edge-apply --resume ends it{note}", live, serving, "", did)
        now = self.missed()
        wanted, services = self.settled(now, confirm_shrink)
        # Rendered for the comparison only where nothing else was staged: most runs have a change to make.
        if live is not None and self.on_disk(live, {STAGED_HTTP: wanted.source.http, STAGED_STREAM: wanted.source.stream}):
            same = self.rendered(wanted, live)
            if self.on_disk(live, same.files):
                serving, did, why = self.ensure(live)
                if serving:
                    text = f"generation {live} is live" + ("; nginx was started or reloaded, because it did not serve it" if did else "")
                    return Result("repaired" if did else "unchanged", text, live, True, changed=did, waiting=bool(same.unresolved))
                self.say_whose_fault(live, why)
        self.guard(now, services, confirm_shrink)
        return self._make_live(wanted, services, live)

    def missed(self) -> set[str]:
        """The services that must not vanish. What was served before the host started may have ended with it."""
        if not self.booting:
            return self.served_now()
        self.state["seen"] = {}
        return set()

    def served_now(self) -> set[str]:
        """The services of the live generation."""
        live, found = self.state["live"], set()
        for side, name in (("http", STAGED_HTTP), ("tcp", STAGED_STREAM)):
            text = read_text(f"{self.tree(live)}/{name}") if live else None
            if text:
                found |= served(side, text)
        return found

    def settled(self, now: set[str], confirmed: bool) -> tuple[Wanted, set[str]]:
        """What is staged, and its services. A loss is told to its end first, so that the guard sees the whole of it.

        consul-template hands on each answer of Consul as it comes, and a catalogue that melts away would arrive in pieces that are each small enough.
        What has really ended is let go at once, and what is new or changed without a loss is never kept waiting."""
        deadline = time.monotonic() + SETTLE_LONGEST_SECONDS
        source = self.source()
        while True:
            wanted = self.parse(source)
            services = served("http", source.http) | served("tcp", source.stream)
            nothing_lost = confirmed or len(now) < self.config.shrink_min_services or not self.still_answering(now - services)
            if nothing_lost or time.monotonic() >= deadline:
                return wanted, services
            self.before_news()
            time.sleep(SETTLE_SECONDS)
            source, before = self.source(), source
            if source == before:
                return wanted, services

    def still_answering(self, lost: set[str]) -> set[str]:
        """Those of the services that the catalogue names no more of which an instance answers, or may answer.

        What has ended in this run stays so: who answers at the same port later is another one."""
        asked = lost - self.ended
        if not asked:
            return set()
        live, known = self.state["live"], {}
        for side, name in (("http", STAGED_HTTP), ("tcp", STAGED_STREAM)):
            known.update(backends(side, read_text(f"{self.tree(live)}/{name}") or ""))
        there = answering(place for name in asked for place in known.get(name, ()))
        self.ended |= {name for name in asked if known.get(name) and not known[name] & there}
        return asked - self.ended

    def _make_live(self, wanted: Wanted, services: set[str], live: str | None) -> Result:
        """Build, test, swap, verify."""
        state = self.state
        generation = states.next_generation(state, self.trees())
        try:
            rendered = self.tested(wanted, generation)
            self.sync_tree(self.tree(generation))
        except Trouble as trouble:
            if live is not None and trouble.blame == "operator" and self.refused_by_nginx(live):
                trouble.message += " (with or without this change: nginx would not start again either)"
            # A socket that cannot be had is found out before there is a tree.
            if os.path.isdir(self.tree(generation)):
                self.keep_failed(generation, trouble.message)
            raise
        except OSError:
            remove_tree(self.tree(generation))
            raise
        self.step("tested")
        note = f"{len(services)} services" + (f", {len(rendered.left_out)} left out" if rendered.left_out else "")
        # A number is never used for a second candidate: nginx may still be busy with the first.
        state["next"] = int(generation) + 1
        state["pending"] = {"from": live, "to": generation, "since": round(time.time(), 3), "note": note, "services": sorted(services)}
        try:
            replace_file(self.path("state.json"), states.dump(state))
        except OSError:
            state["pending"] = None
            remove_tree(self.tree(generation))
            raise
        self.step("journal")
        workers = frozenset(self.nginx.active_workers(self.nginx.master()))
        trouble_text = self.switch(generation, rendered.listeners)
        if trouble_text:
            return self.take_back(generation, live, trouble_text, workers)
        self.step("verified")
        self.commit(generation, note, services)
        self.step("committed")
        message = f"generation {generation} is live: {len(services)} services{self._told(rendered.left_out)}"
        if rendered.not_served:
            message += f"; the operator's own configuration passes requests to {', '.join(rendered.not_served)}, which no service has now"
        if rendered.unresolved:
            message += f"; the operator's own configuration passes requests to {', '.join(rendered.unresolved)}, which has no address now"
        return Result("applied", message, generation, True, changed=True, waiting=bool(rendered.unresolved))

    @staticmethod
    def _told(left_out: list[LeftOut]) -> str:
        """What was left out, by the reason: a thousand servers may want the same socket."""
        by_reason: dict[str, list[str]] = {}
        for one in left_out:
            by_reason.setdefault(one.why, []).append(one.subject)
        return "".join(
            f"; left out {', '.join(subjects[:3])}{f' and {len(subjects) - 3} more' if len(subjects) > 3 else ''}: {why}" for why, subjects in by_reason.items()
        )

    def tested(self, wanted: Wanted, generation: str) -> Rendered:
        """Build a tree and let nginx test it; once more if the operator's own servers turn out to use a port or an upstream of it."""
        documents = {EDGE_HTTP: wanted.http, EDGE_STREAM: wanted.stream}
        while True:
            rendered = self.rendered(wanted, generation)
            tree = self.build(generation, rendered.files)
            self.step("built")
            try:
                found = check_tree(self.config, tree, documents)
            except Trouble as trouble:
                if not self._learn(trouble.message):
                    raise
                continue
            now = {"passed": found.passed, "defined": found.defined}
            kept = {key: {name: path for name, path in self._learned(key).items() if name in now[key]} for key in now}
            foreign = [list(listener) for listener in sorted(found.listeners)]
            twice = [list(pair) for pair in sorted(found.doubled)]
            learned = {"foreign": foreign, "foreign_upstreams": kept, "doubled_names": twice}
            learned.update(foreign_files=found.files, unresolved=dict(rendered.unresolved))
            if all(self.state[key] == value for key, value in learned.items()):
                return rendered
            self.state.update(learned)
            self.state_changed = True
            if self.rendered(wanted, generation).files == rendered.files:
                return rendered

    def _learn(self, message: str) -> bool:
        """Note what nginx speaks of and the edge can help with, and was not known to be in the operator's files; whether there was such."""
        *found, path = refused(message)
        for key, name in zip(("passed", "defined"), found):
            known = self._learned(key)
            if name and known.get(name) != path:
                self.state["foreign_upstreams"] = {**self.state["foreign_upstreams"], key: {**known, name: path}}
                self.state_changed = True
                return True
        return self._learn_name(message)

    def _learn_name(self, message: str) -> bool:
        """Note a host name without an address. An upstream with its name takes its place, unless nginx has refused that already.

        Only a name that certainly has none: name servers that do not answer for a moment must not cost the operator's server its requests."""
        known, (name, path) = self.state["unresolved"], no_address(message)
        helpless = with_port(message) or (name if name in known else "")
        if helpless in known:
            self.no_upstreams.add(helpless)
            self.state["unresolved"] = {other: file for other, file in known.items() if other != helpless}
            return True
        if not name or name in self.no_upstreams or self.has_address(name) is not False:
            return False
        self.state["unresolved"] = {**known, name: path}
        self.state_changed = True
        return True

    def guard(self, now: set[str], services: set[str], confirmed: bool) -> None:
        """Refuse to lose most services at once. What has ended is no loss: to hold it would help nobody."""
        config, state = self.config, self.state
        before: set[str] = set()
        gone: list[str] = []
        ended = self.ended - services
        state["seen"] = {name: span for name, span in state["seen"].items() if name not in ended}
        # A change that takes nothing away is none of the guard's business, whatever left before it and was let go then.
        for moment in states.moments(state, now, time.time(), config.shrink_window) if now - services else ():
            moment -= ended
            lost = dropped_too_many(moment, services, config.shrink_limit_percent, config.shrink_min_services)
            if len(lost) > len(gone):
                before, gone = moment, lost
        if not gone:
            if state["refused"] is not None:
                state["refused"], self.state_changed = None, True
            return
        if confirmed:
            state["seen"] = {}
            return
        since = (state["refused"] or {}).get("since", round(time.time(), 3))
        state["refused"], self.state_changed = {"since": since, "services_before": len(before), "gone": gone[:200], "gone_count": len(gone)}, True
        names = ", ".join(gone[:5]) + (", ..." if len(gone) > 5 else "")
        raise Trouble("guard", f"{len(gone)} of {len(before)} services would vanish at once ({names}); if that is right: nginx-edge-apply --confirm-shrink")

    def refused_by_nginx(self, generation: str | None) -> bool:
        """Whether nginx refuses a tree that is on the disk."""
        try:
            check_tree(self.config, self.tree(generation or ""), {})
        except Trouble:
            return True
        return False

    def say_whose_fault(self, live: str, why: str) -> None:
        """nginx does not serve what is live: raise the best known reason, unless a new generation can do without what it is."""
        try:
            check_tree(self.config, self.tree(live), {})
        except Trouble as trouble:
            if self._learn(trouble.message):
                return
            raise Trouble(trouble.blame, f"nginx does not serve generation {live}: {trouble.message}") from trouble
        raise Trouble("host", why)

    def take_back(self, generation: str, live: str | None, reason: str, workers: frozenset[int]) -> Result:
        """The candidate did not work in the running nginx: the last good one again."""
        state = self.state
        why = "there was no generation before"
        if live is not None:
            why = self.switch(live, self.sockets_of(live), workers)
        else:
            os.unlink(self.config.live)
        kept = self.keep_failed(generation, reason)
        state["live"], state["pending"], self.state_changed = live, None, True
        text = f"generation {generation} did not come up: {reason}; kept in {kept}; "
        text += f"generation {live} is live again" if not why else f"and the edge is down: {why}"
        return Result("failed", text, live, not why, "host", changed=True)

    # -- for people ---------------------------------------------------------------------------------------------------------

    def check(self) -> Result:
        """Judge what is staged, change nothing that nginx sees."""
        started = time.monotonic()
        live, message, outcome, blame, changed = None, "", "unchanged", "", False
        try:
            with self.lock():
                self.load()
                self.look_at_start()
                live = self.linked()
                wanted = self.parse(self.source())
                generation = states.next_generation(self.state, self.trees())
                if live is not None and self.on_disk(live, self.rendered(wanted, live).files):
                    message = f"what is staged is live as generation {live}"
                else:
                    changed = True
                    services = served("http", wanted.source.http) | served("tcp", wanted.source.stream)
                    self.guard(self.missed(), services, False)
                    try:
                        self.tested(wanted, generation)
                    finally:
                        remove_tree(self.tree(generation))
                    message = f"what is staged is good and would become generation {generation} with {len(services)} services"
        except Trouble as trouble:
            outcome, message, blame = "refused" if trouble.blame == "guard" else "failed", trouble.message, trouble.blame
        except OSError as error:
            outcome, message, blame = "failed", str(error), "host"
        serving = live is not None and self.nginx.generation() == live
        return Result(outcome, message, live, serving, blame, changed, round((time.monotonic() - started) * 1000))

    def rollback(self, target: str | None) -> Result:
        """Go back to an earlier generation and stay there until --resume."""
        started = time.monotonic()
        with self.lock():
            self.load()
            self.look_at_start()
            self.recover()
            live = self.linked()
            known = [entry["generation"] for entry in self.state["history"] if entry["generation"] != live and self.complete(entry["generation"])]
            if target is None:
                target = known[-1] if known else None
            elif target.isdigit():
                target = f"{int(target):06d}"
            if target is None or target not in known:
                message = f"no such generation to go back to; there are: {', '.join(known) or 'none'}"
                return Result("failed", message, live, self.nginx.generation() == live, "operator")
            # Whatever recovery has found is on the disk before a generation that it may need is changed.
            replace_file(self.path("state.json"), states.dump(self.state))
            former.refresh(self.tree(target), self.present().text)
            lost = former.lost(self.tree(target))
            if lost:
                able = ", ".join(one for one in known if not former.lost(self.tree(one))) or "none"
                message = (
                    f"generation {target} needs certificate {', '.join(lost)}, which was withdrawn: "
                    f"give it in nginx_tls_certificates again, or go back to another generation; there are: {able}"
                )
                return Result("failed", message, live, self.nginx.generation() == live, "operator")
            try:
                check_tree(self.config, self.tree(target), {})
                self.state["pending"] = {"from": live, "to": target, "since": round(time.time(), 3), "note": "rollback"}
                replace_file(self.path("state.json"), states.dump(self.state))
                trouble = self.switch(target, self.sockets_of(target))
                if trouble:
                    back = self.switch(str(live), self.sockets_of(str(live)))
                    self.state["pending"] = None
                    rest = f"{live} neither: {back}" if back else f"{live} is live again"
                    raise Trouble("host", f"generation {target} did not come up: {trouble}; {rest}")
            except (Trouble, OSError) as error:
                serving = self.nginx.generation() == live
                return self.finish(started, Result("failed", str(error), live, serving, "host"))
            # Whoever goes back to a generation wants all of it.
            boot.end(self.config)
            for entry in self.state["history"]:
                if entry["generation"] == target:
                    self.state["history"] = [other for other in self.state["history"] if other is not entry] + [{**entry, "activated": round(time.time(), 3)}]
            self.state.update(live=target, pending=None, refused=None, hold={"since": round(time.time(), 3), "from": live, "to": target})
            others = [name for name, what in former.marks(self.tree(target)).items() if what == former.REPLACED]
            message = f"generation {target} is live again"
            message += f" with the present certificate {', '.join(others)}" if others else ""
            message += "; changes are held until nginx-edge-apply --resume"
            result = self.finish(started, Result("rolled_back", message, target, True, changed=True))
            self.forget_former_keys()
            return result

    def resume(self) -> Result:
        """End the hold of a rollback and apply what is staged."""
        with self.lock():
            self.load()
            self.state["hold"] = None
            replace_file(self.path("state.json"), states.dump(self.state))
        return self.apply()

    def status(self) -> dict[str, Any]:
        """The truth now, not that of the last run."""
        self.load()
        live = self.linked()
        answered = self.nginx.generation()
        serving = live is not None and answered == live
        document = states.status(self.state, self.report_of(live), serving, boot.begun(self.config))
        log = logins.log_of(read_text(f"{self.tree(live)}/{EDGE_HTTP}") or "") if live else ""
        now = {"generation": live, "answered": answered, "failed": self.failed(), "logins": logins.recent(log), "limited": self.limited().document()}
        return {**document, **now, "former_certificates": self.former_certificates()}

    def former_certificates(self) -> list[str]:
        """Return sentences about certificates that were replaced or withdrawn, and that a generation needs or has."""
        live, present = self.linked(), self.present()
        advice = {
            former.WITHDRAWN: "was withdrawn and is still served, because what is staged names it: take it out of platform_edge",
            former.REPLACED: "was replaced and the former one is still served: run nginx-edge-apply --strict",
        }
        found = [f"certificate {name} {advice[what]}" for name, what in present.waiting().items()]
        for generation in self.trees():
            tree = self.tree(generation)
            if generation == live:
                continue
            missing, kept = ", ".join(former.lost(tree)), ", ".join(former.stale(tree, present.text))
            if missing:
                found.append(f"generation {generation} cannot be gone back to: certificate {missing} was withdrawn")
            if kept:
                found.append(f"generation {generation} still has a former key in {kept}: run nginx-edge-apply --strict")
        return found

    def failed(self) -> list[dict[str, str]]:
        """The failed candidates that are kept, newest last."""
        folder = self.path("failed")
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        return [{"path": f"{folder}/{name}", "reason": (read_text(f"{folder}/{name}/reason.txt") or "").strip()} for name in names]

    def diff(self, old: str | None, new: str | None) -> str:
        """The difference between two generations; by default the one before the live one and the live one."""
        self.load()
        names = [entry["generation"] for entry in self.state["history"]]
        new = new or self.linked() or ""
        if old is None:
            old = next((name for name in reversed(names) if name != new), new)
        old, new = (f"{int(one):06d}" if one.isdigit() else one for one in (old, new))
        for one in (old, new):
            if not self.complete(one):
                raise Trouble("operator", f"there is no generation {one or '(none)'}; there are: {', '.join(self.trees())}")
        lines: list[str] = []
        for name in sorted({*READ_BY_NGINX}):
            texts = []
            for one in (old, new):
                # The number is in every tree's own paths, and in what the status server answers.
                text = (read_text(f"{self.tree(one)}/{name}") or "").replace(f"/{one}/", "/GENERATION/").replace(f'"{one}\\n"', '"GENERATION\\n"')
                texts.append(text.splitlines(keepends=True))
            lines += unified(texts[0], texts[1], f"{old}/{name}", f"{new}/{name}")
        return "".join(lines + former.changed(self.tree(old), self.tree(new)))
