# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The phases of the acceptance on one node. Private to the collection.

Each phase records steps of the numbered checks and gives facts to the later ones. Between two phases every node waits for the
others, so what one phase started, the next one sees everywhere.
"""

from __future__ import annotations

import calendar
import json
import os
import platform
import re
import secrets
import shutil
import ssl
import tarfile
import time
import typing as t

from . import dns, nginx, samples, tools
from .load import Load, Target
from .samples import Context, Node
from .tools import AcceptanceError, Answer, Recorder

#: Seconds within which the catalogue, DNS and both edges have to follow a change.
FOLLOW_SECONDS = 15.0
LOST_SECONDS = 3.0
#: Names asked through glibc: Consul shuffles the addresses, so all of three are first within a few tries.
ROTATION_TRIES = 40
#: Requests in a row that have to come from other instances before an instance counts as gone from an edge.
GONE_ANSWERS = 9
#: Requests that each node sends to each edge for the even spread.
SPREAD_REQUESTS = 12
CONTAINER_REQUESTS = 30
CANARY_REQUESTS = 40
LOAD_SECONDS = 120
LOAD_REQUESTS = 6000
#: The oldest Consul that check 12 accepts as current; the seed ran 1.1.0.
CURRENT_CONSUL = (1, 20)
#: The user of the sample images.
SAMPLE_GROUP = 10001

Facts: t.TypeAlias = "dict[str, t.Any]"


def _consul(context: Context) -> tools.Consul:
    return tools.Consul(context.consul_url, context.consul_token)


def _environment(context: Context) -> dict[str, str]:
    # The token goes through the environment: nothing secret in argv.
    extra = {"CONSUL_HTTP_ADDR": context.consul_url}
    if context.consul_token:
        extra["CONSUL_HTTP_TOKEN"] = context.consul_token
    return extra


def _own_containers() -> list[str]:
    return tools.must(["docker", "ps", "-a", "--filter", f"label={samples.LABEL}", "--format", "{{.Names}}"]).split()


def _ours_in_catalogue(context: Context, address: str = "") -> list[str]:
    """Service ids of the acceptance in the catalogue, of one node or of all."""
    consul = _consul(context)
    return [
        str(instance.get("ServiceID"))
        for service in samples.SERVICES
        for instance in consul.instances(service)
        if tools.container_of(str(instance.get("ServiceID"))).startswith(samples.PREFIX)
        and address in ("", instance.get("ServiceAddress"), instance.get("Address"))
    ]


def _status_of(edge: Node, host: str) -> int:
    try:
        return tools.get(edge.address, samples.HTTP_PORT, host=host).status
    except OSError as error:
        raise AcceptanceError(f"edge {edge.name} ({edge.address}) does not answer on port 80: {error}") from error


def _host_port(container: str) -> int:
    """The real host port of a container that publishes one port."""
    ports = json.loads(tools.must(["docker", "inspect", "--format", "{{json .NetworkSettings.Ports}}", container])) or {}
    for bindings in ports.values():
        for binding in bindings or []:
            return int(binding["HostPort"])
    raise AcceptanceError(f"container {container} publishes no port")


def _container_facts(container: str) -> Facts:
    identity, started = tools.must(["docker", "inspect", "--format", "{{.Id}} {{.State.StartedAt}}", container]).split()
    return {"port": _host_port(container), "instance": identity[:12], "started": started}


def _started_at(text: str) -> float:
    """Docker's time of the start (RFC 3339 in UTC, nanoseconds) as seconds."""
    match = re.match(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d+)?Z", text)
    if not match:
        raise AcceptanceError(f"Docker names a start time that is none: {text}")
    whole = calendar.timegm((*(int(part) for part in match.groups()[:6]), 0, 0, 0))
    return whole + float(match.group(7) or 0)


# --- prepare ----------------------------------------------------------------------------------------------------------


def prepare(context: Context, record: Recorder) -> Facts:
    """Remove what an earlier run left; find everything that forbids the start. Nothing is started here."""
    problems: list[str] = []
    images: dict[str, str] = {}
    if context.node.docker:
        done = tools.run(["docker", "version", "--format", "{{.Server.Version}}"])
        if not done.ok:
            raise AcceptanceError(f"{context.node.name}: Docker does not answer ({tools.shorten(done.output, 300)}); run the site playbook first")
        left = _own_containers()
        if left:
            tools.must(["docker", "rm", "-f", "-v", *left], timeout=60)
        for image in samples.IMAGES:
            label = tools.run(["docker", "image", "inspect", "--format", '{{index .Config.Labels "trinode.samples"}}', image])
            images[image] = label.output if label.ok else ""
    if context.node.docker or context.node.edge:
        rest, _seconds, error = tools.poll(lambda: _ours_in_catalogue(context, context.node.address), lambda found: not found, FOLLOW_SECONDS)
        if rest:
            problems.append(
                f"{context.node.name}: the catalogue still lists {', '.join(rest)} of an earlier run though no such container runs; "
                "is the registrator running there? See: journalctl -u registrator"
            )
        elif rest is None:
            raise AcceptanceError(f"{context.node.name}: Consul does not answer at {context.consul_url}: {error}; run the site playbook first")
    consul = _consul(context)
    catalogue = consul.get("/v1/catalog/services")
    instances = [instance for service in samples.SERVICES if service in catalogue for instance in consul.instances(service)]
    holders = tools.listeners({samples.BACKEND_PORT, samples.TCP_PORT, samples.TLS_OWN_PORT})
    problems += samples.conflicts(context, catalogue, instances, holders)
    if problems:
        raise AcceptanceError("; ".join(problems))
    if context.node.edge:
        _settle_edge(context, record)
    return {"images": images}


def _settle_edge(context: Context, record: Recorder) -> None:
    """Wait until this edge has let go of our services. An edge guards against losing most services at once; here that is what we want."""
    started = time.monotonic()
    confirmed = False
    while time.monotonic() - started < FOLLOW_SECONDS:
        with_service = [service for service in ("httpfront", "httplast") if _status_of(context.node, context.public_name(service)) != 404]
        if not with_service:
            return
        if os.access(context.edge_apply, os.X_OK) and not confirmed:
            status = tools.run([context.edge_apply, "--status", "--json"])
            try:
                refused = (json.loads(status.output) or {}).get("refused") or {}
            except ValueError:
                refused = {}
            gone = [str(name) for name in refused.get("gone") or []]
            if len(gone) == refused.get("gone_count") and samples.only_ours(gone):
                done = tools.run([context.edge_apply, "--confirm-shrink"])
                record.note(0, "The edge held the removal of our samples back as a shrink; confirmed", command=done.command, output=done.output)
                confirmed = True
        time.sleep(0.2)


def load(context: Context, record: Recorder) -> Facts:
    """Load the sample images from the archive that was brought here."""
    if not context.node.docker:
        return {}
    try:
        with tarfile.open(context.archive):
            pass
    except (OSError, tarfile.TarError) as error:
        raise AcceptanceError(f"{context.node.name}: {context.archive} is no image archive: {error}; make it again with services/build.py") from error
    done = tools.run(["docker", "load", "--input", context.archive], timeout=180)
    missing = [image for image in samples.IMAGES if not tools.run(["docker", "image", "inspect", image]).ok]
    if not done.ok or missing:
        raise AcceptanceError(
            f"{context.node.name}: {done.command} ended with {done.status}, missing: {', '.join(missing) or 'none'}: {tools.shorten(done.output, 500)}"
        )
    os.unlink(context.archive)
    # An older build of the same names has lost its names now; nothing else carries this label.
    tools.run(["docker", "image", "prune", "--force", "--filter", "label=trinode.samples"])
    record.note(0, "Sample images loaded", command=done.command, output=done.output, seconds=done.seconds)
    return {}


# --- base: checks 1 to 4, and what must not be there yet ----------------------------------------------------------------


def base(context: Context, record: Recorder) -> Facts:
    """Consul, DNS of host and containers, and an edge that exposes nothing of ours yet."""
    if context.node.consul == "server":
        with record.guard(1, "The cluster has its voters and one leader"):
            _raft(context, record)
    if context.node.consul != "none":
        with record.guard(1, "The web UI answers"):
            _ui(context, record)
        with record.guard(1, "The agent's log shows the election"):
            _election(context, record)
        with record.guard(2, "The catalogue lists the servers with the nodes' addresses"):
            _catalogue(context, record)
    with record.guard(3, "The host resolves Consul's name through the system resolver"):
        _host_dns(context, record)
    _container_dns(context, record)
    if context.samples:
        with record.guard(6, "Nothing is exposed before it exists"):
            for edge in context.edges:
                host = context.public_name("httpfront")
                status, seconds, error = tools.poll(lambda edge=edge, host=host: _status_of(edge, host), lambda got: got == 404, FOLLOW_SECONDS)  # type: ignore[misc]
                record.add(
                    6,
                    f"Nothing is exposed on {edge.name} before it exists",
                    status == 404,
                    f"edge {edge.name} answers {status or error} for {host} instead of 404",
                    command=f"GET http://{edge.address}/ (Host: {host})",
                    output=f"status {status}",
                    seconds=seconds,
                )
    return {"versions": _versions()}


def _raft(context: Context, record: Recorder) -> None:
    done = tools.run(["consul", "operator", "raft", "list-peers"], environment=_environment(context))
    if not done.ok:
        raise AcceptanceError(f"{done.command} ended with {done.status}: {tools.shorten(done.output, 400)}")
    peers = tools.parse_raft_peers(done.output)
    voters = {peer.address for peer in peers if peer.voter}
    expected = {node.address for node in context.servers}
    leaders = [peer.node for peer in peers if peer.state == "leader"]
    record.add(
        1,
        f"Raft has {len(expected)} voters and one leader",
        voters == expected and len(leaders) == 1,
        f"voters are {', '.join(sorted(voters)) or 'none'} (expected {', '.join(sorted(expected))}), leaders: {', '.join(leaders) or 'none'}",
        command=done.command,
        output=done.output,
        seconds=done.seconds,
    )


def _ui(context: Context, record: Recorder) -> None:
    address = context.consul_http_address or context.node.address
    answer = tools.get(address, context.consul_http_port, "/ui/")
    title = re.search(r"<title>(.*?)</title>", answer.body, re.DOTALL)
    record.add(
        1,
        f"The web UI answers on port {context.consul_http_port} of {context.consul_http_address or 'the address of the node'}",
        answer.status == 200 and "consul" in answer.body.lower(),
        f"GET /ui/ answered {answer.status} without Consul's page",
        command=f"GET http://{address}:{context.consul_http_port}/ui/",
        output=f"status {answer.status}, {len(answer.body)} bytes, title: {title.group(1).strip() if title else '-'}",
    )


def _election(context: Context, record: Recorder) -> None:
    command = ["journalctl", "--unit", context.consul_unit, "--no-pager", "--output", "cat"]
    done = tools.run(command)
    pattern = re.compile(r"election won|entering leader state|new leader elected|cluster leadership acquired", re.IGNORECASE)
    found = [line for line in done.output.splitlines() if pattern.search(line)]
    if not found and done.ok and not re.search(r"Starting Consul agent|Consul agent running", done.output):
        record.note(1, "The journal no longer reaches back to the agent's start, so it cannot show the election", command=done.command)
        return
    if not found and done.ok and context.node.consul != "server":
        record.note(1, "This agent joined after the election, so its log does not show it", command=done.command)
        return
    record.add(
        1,
        "The agent's log shows the election",
        bool(found),
        f"no line of an election in the journal of {context.consul_unit}",
        command=f"{done.command} | grep -i -E '{pattern.pattern}'",
        output="\n".join(found[-5:]) or tools.shorten(done.output[-800:]),
        seconds=done.seconds,
    )


def _catalogue(context: Context, record: Recorder) -> None:
    instances = _consul(context).instances("consul")
    found = sorted(str(instance.get("ServiceAddress") or instance.get("Address")) for instance in instances)
    expected = sorted(node.address for node in context.servers)
    record.add(
        2,
        f"The catalogue lists {len(expected)} instances of consul with the nodes' addresses",
        found == expected,
        f"the catalogue lists {', '.join(found) or 'none'}, expected {', '.join(expected)}",
        command=f"GET {context.consul_url}/v1/catalog/service/consul",
        output="\n".join(f"{instance.get('Node')} {instance.get('Address')}" for instance in instances),
    )
    names = sorted(_consul(context).get("/v1/catalog/services"))
    twice = tools.spelled_twice(names)
    record.add(
        2,
        "Each name in the catalogue has one spelling",
        not twice,
        f"{'; '.join(twice)} are one name for DNS: remove the one that is not meant, and see who registered it",
        command=f"GET {context.consul_url}/v1/catalog/services",
        output="\n".join(names),
    )


def _host_dns(context: Context, record: Recorder) -> None:
    name = context.consul_name("consul")
    expected = {node.address for node in context.servers}
    firsts: list[str] = []
    every: set[str] = set()
    last = ""
    started = time.monotonic()
    while len(firsts) < ROTATION_TRIES and not expected <= set(firsts):
        done = tools.run(["getent", "hosts", name])
        last = done.output
        addresses = [line.split()[0] for line in done.output.splitlines() if line.split()]
        if not addresses:
            break
        firsts.append(addresses[0])
        every |= set(addresses)
    seconds = time.monotonic() - started
    record.add(
        3,
        f"getent resolves {name} to the servers",
        every == expected,
        f"getent hosts {name} gave {', '.join(sorted(every)) or 'nothing'}, expected {', '.join(sorted(expected))}",
        command=f"getent hosts {name}",
        output=last,
    )
    record.add(
        3,
        f"Repeated queries rotate over all {len(expected)} addresses",
        set(firsts) == expected,
        f"in {len(firsts)} queries only {', '.join(sorted(set(firsts))) or 'none'} came first",
        command=f"getent hosts {name}   # {len(firsts)} times, first address of each",
        output=" ".join(firsts),
        seconds=seconds,
    )
    sorted_by_libc = tools.run(["getent", "ahostsv4", name])
    record.note(
        3,
        "What getaddrinfo gives: of several addresses in one answer glibc would always put the nearest first (RFC 6724)",
        command=sorted_by_libc.command,
        output="\n".join(line for line in sorted_by_libc.output.splitlines() if "STREAM" in line),
    )
    if shutil.which("ping"):
        done = tools.run(["ping", "-c", "1", "-W", "2", name], timeout=8)
        record.add(3, f"ping reaches {name}", done.ok, f"ping ended with {done.status}", command=done.command, output=done.output, seconds=done.seconds)
    if not context.public_names:
        record.skip(3, "Public and site names still resolve", "acceptance_public_names is empty")
    for public in context.public_names:
        done = tools.run(["getent", "hosts", public])
        record.add(
            3,
            f"{public} still resolves",
            done.ok and bool(done.output),
            f"getent hosts {public} found nothing",
            command=done.command,
            output=done.output,
            seconds=done.seconds,
        )


def _container_dns(context: Context, record: Recorder) -> None:
    if not context.node.docker:
        return
    title = "A container without any option resolves Consul's and other names"
    if not context.samples:
        record.skip(4, title, "acceptance_sample_services is false, so there is no image to try it with")
        return
    name = context.consul_name("consul")
    expected = {node.address for node in context.servers}
    for libc, command in (
        ("glibc", ["docker", "run", "--rm", "trinode/httpbackend:v1.0.0", "getent", "hosts"]),
        ("musl", ["docker", "run", "--rm", "trinode/resolve-musl:1"]),
    ):
        with record.guard(4, f"{title} with {libc}"):
            names = [name, *context.public_names]
            done = tools.run([*command, *names], timeout=30)
            addresses = set(re.findall(r"(?<![\w.:])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])", "\n".join(line for line in done.output.splitlines() if name in line)))
            record.add(
                4,
                f"In a container with {libc}, {name} resolves to the servers",
                bool(addresses) and addresses <= expected,
                f"it gave {', '.join(sorted(addresses)) or 'nothing'}, expected some of {', '.join(sorted(expected))}",
                command=done.command,
                output=done.output,
                seconds=done.seconds,
            )
            if context.public_names:
                record.add(
                    4,
                    f"In a container with {libc}, these resolve too: {', '.join(context.public_names)}",
                    done.ok,
                    f"the command ended with {done.status}: a name did not resolve",
                    command=done.command,
                )
            else:
                record.skip(4, f"In a container with {libc}, public names resolve", "acceptance_public_names is empty")


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "kernel": platform.release()}
    with open("/etc/os-release", encoding="utf-8") as file:
        pretty = re.search(r'^PRETTY_NAME="?([^"\n]*)', file.read(), re.MULTILINE)
    versions["system"] = pretty.group(1) if pretty else "unknown"
    for name, command, pattern in (
        ("consul", ["consul", "version"], r"Consul v?(\S+)"),
        ("consul-template", ["consul-template", "-version"], r"v(\d\S+)"),
        ("nginx", ["nginx", "-v"], r"nginx/(\S+)"),
        ("docker", ["docker", "version", "--format", "{{.Server.Version}}"], r"(\S+)"),
        ("registrator", ["registrator", "--version"], r"(\d\S*)"),
    ):
        if shutil.which(command[0]):
            done = tools.run(command, timeout=5)
            match = re.search(pattern, done.output)
            if done.ok and match:
                versions[name] = match.group(1)
    return versions


# --- start --------------------------------------------------------------------------------------------------------------


def start(context: Context, record: Recorder) -> Facts:
    """Start the sample services with docker run, as a user would."""
    if not context.node.docker:
        return {}
    containers: dict[str, Facts] = {}
    directory = os.path.join(context.directory, "tls")
    os.makedirs(directory, mode=0o755, exist_ok=True)
    for name, content, mode in (("certificate.pem", context.certificate, 0o644), ("key.pem", context.key, 0o640)):
        path = os.path.join(directory, name)
        partial = f"{path}.new"
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(content)
        os.chown(partial, 0, SAMPLE_GROUP)
        os.chmod(partial, mode)
        os.replace(partial, path)
    commands = samples.run_commands(context)
    checks = {"acceptance-httpbackend": 5, "acceptance-httpfront": 6, "acceptance-tcpfront": 7, "acceptance-httpsfront": 8}
    wanted = [*checks, *(["acceptance-httplast"] if context.is_actor else [])]
    for container in wanted:
        check = checks.get(container, 10)
        with record.guard(check, f"{container} starts"):
            done = tools.run(commands[container], timeout=60)
            record.add(
                check,
                f"{container} is started",
                done.ok,
                f"docker run ended with {done.status}: {tools.shorten(done.output, 300)}",
                command=done.command,
                output=done.output,
                seconds=done.seconds,
            )
            if not done.ok:
                continue
            if container == "acceptance-httpbackend":
                _registered_in_time(context, record, container)
            containers[container] = _container_facts(container)
    return {"containers": containers}


def _registered_in_time(context: Context, record: Recorder, container: str) -> None:
    """From the container's own start to its entry in the catalogue."""
    consul = _consul(context)

    def there() -> bool:
        return any(
            tools.container_of(str(one.get("ServiceID"))) == container and str(one.get("ServiceAddress") or one.get("Address")) == context.node.address
            for one in consul.instances("httpbackend")
        )

    found, _seconds, error = tools.poll(there, bool, 10, interval=0.01)
    seen_at = time.time()
    took = seen_at - _started_at(_container_facts(container)["started"])
    record.add(
        5,
        f"It is in the catalogue within {context.registration_seconds:g} s of its start",
        bool(found) and took <= context.registration_seconds,
        f"it was there after {took:.2f} s"
        if found
        else f"it is not in the catalogue with address {context.node.address} after 10 s ({error}); is the registrator running?",
        command=f"GET {context.consul_url}/v1/catalog/service/httpbackend   # until it lists {container} of this node",
        output=f"{took * 1000:.0f} ms after the container's start",
        seconds=took,
    )


# --- traffic: checks 5 to 8 and 11 ---------------------------------------------------------------------------------------


def traffic(context: Context, record: Recorder) -> Facts:
    """Names, edges and requests while all is well."""
    facts: Facts = {"requests": {}, "backend_instances": {}}
    count = len(context.docker_nodes)
    with record.guard(5, "The catalogue lists an instance for each node"):
        instances, seconds, _error = tools.poll(lambda: _consul(context).instances("httpbackend"), lambda got: len(got) == count, FOLLOW_SECONDS)
        found = sorted(tools.endpoint(instance) for instance in instances or [])
        expected = sorted(f"{node.address}:{samples.BACKEND_PORT}" for node in context.docker_nodes)
        record.add(
            5,
            f"The catalogue lists {count} instances of httpbackend",
            found == expected,
            f"it lists {', '.join(found) or 'none'}, expected {', '.join(expected)}",
            command=f"GET {context.consul_url}/v1/catalog/service/httpbackend",
            output="\n".join(found),
            seconds=seconds,
        )
    with record.guard(5, "httpbackend answers by its Consul name from the host"):
        facts["backend_instances"]["host"] = _backend_from_host(context, record)
    if context.node.docker:
        with record.guard(5, "httpbackend answers by its Consul name from a container"):
            facts["backend_instances"]["container"] = _backend_from_container(context, record)
    if context.node.edge:
        with record.guard(6, "The edge's live configuration has the sample services"):
            facts["upstreams"] = _edge_configuration(context, record)
    for edge in context.edges:
        with record.guard(6, f"httpfront answers through {edge.name}"):
            facts["requests"][edge.name] = _front_through(context, record, edge)
        with record.guard(7, f"tcpfront answers through {edge.name}"):
            text = f"hello from {context.node.name}"
            line, seconds, error = tools.poll(lambda edge=edge, text=text: tools.echo(edge.address, samples.TCP_PORT, text), bool, FOLLOW_SECONDS)  # type: ignore[misc]
            hello = tools.echo(edge.address, samples.TCP_PORT, "hello") if line else ""
            record.add(
                7,
                f"A line comes back through port {samples.TCP_PORT} of {edge.name}",
                samples.is_echo(line or "", text) and samples.is_echo(hello, "hello"),
                f"got {line or error!r} and {hello!r}",
                command=f"echo hello | nc {edge.address} {samples.TCP_PORT}",
                output=hello,
                seconds=seconds,
            )
        for port, way in ((samples.TLS_OWN_PORT, "a port of its own"), (samples.TLS_PORT, "SNI")):
            with record.guard(8, f"httpsfront answers through {edge.name} by {way}"):
                _tls_through(context, record, edge, port, way)
        with record.guard(11, f"httpbackend is not reachable through {edge.name}"):
            _not_exposed(context, record, edge)
    return facts


def _backend_from_host(context: Context, record: Recorder) -> list[str]:
    name = context.consul_name("httpbackend")
    url = f"http://{name}:{samples.BACKEND_PORT}/"
    instances: dict[str, int] = {}
    wrong = ""
    started = time.monotonic()
    for _number in range(SPREAD_REQUESTS):
        answer = tools.get(name, samples.BACKEND_PORT)
        instances[answer.instance] = instances.get(answer.instance, 0) + 1
        if answer.body != samples.answer_of_backend():
            wrong = f"status {answer.status}, {answer.body!r}"
    seconds = time.monotonic() - started
    if shutil.which("curl"):
        done = tools.run(["curl", "-sS", "--max-time", "5", url])
        record.add(
            5,
            "curl of its Consul name answers on the host",
            done.output == samples.answer_of_backend(),
            f"got {done.output!r}",
            command=done.command,
            output=done.output,
            seconds=done.seconds,
        )
    record.add(
        5,
        f"{SPREAD_REQUESTS} requests from the host are answered",
        not wrong,
        f"one answer was {wrong}",
        command=f"GET {url}   # {SPREAD_REQUESTS} times",
        output="\n".join(f"{count} by instance {instance}" for instance, count in sorted(instances.items())),
        seconds=seconds,
    )
    return sorted(instances)


def _backend_from_container(context: Context, record: Recorder) -> list[str]:
    url = f"http://{context.consul_name('httpbackend')}:{samples.BACKEND_PORT}/"
    done = tools.run(["docker", "run", "--rm", "trinode/httpbackend:v1.0.0", "fetch", "-n", str(CONTAINER_REQUESTS), url], timeout=60)
    rows = [line.split(" ", 2) for line in done.output.splitlines()]
    good = [row for row in rows if len(row) == 3 and row[0] == "200" and row[2] == samples.answer_of_backend()]
    instances: dict[str, int] = {}
    for row in good:
        instances[row[1]] = instances.get(row[1], 0) + 1
    record.add(
        5,
        f"{CONTAINER_REQUESTS} requests from a container are answered, by every instance",
        done.ok and len(good) == CONTAINER_REQUESTS and len(instances) == len(context.docker_nodes),
        f"{len(good)} of {CONTAINER_REQUESTS} answers were right, from {len(instances)} instances: {tools.shorten(done.output, 200)}",
        command=done.command,
        output="\n".join([*(f"{count} by instance {instance}" for instance, count in sorted(instances.items())), *done.output.splitlines()[:1]]),
        seconds=done.seconds,
    )
    return sorted(instances)


def _live_configuration() -> list[nginx.Directive]:
    done = tools.run(["nginx", "-T", "-q"])
    if not done.ok:
        raise AcceptanceError(f"nginx -T ended with {done.status}: {tools.shorten(done.output, 500)}")
    return nginx.parse_dump(done.output)


def _matching(upstreams: dict[str, nginx.Upstream], expected: set[str]) -> str:
    """The name of the upstream that holds exactly these servers."""
    return next((name for name, upstream in sorted(upstreams.items()) if set(upstream.servers) == expected), "")


def _describe(upstreams: dict[str, nginx.Upstream]) -> str:
    return "\n".join(
        f"upstream {name}{' (least_conn)' if upstream.least_conn else ''}: {', '.join(sorted(upstream.servers)) or 'no server with traffic'}"
        for name, upstream in sorted(upstreams.items())
    )


def _edge_configuration(context: Context, record: Recorder) -> Facts:
    """What nginx's own dump says about the services, with the real host ports of the containers."""
    front = set(context.endpoints("acceptance-httpfront").values())
    tcp = set(context.endpoints("acceptance-tcpfront").values())
    https = set(context.endpoints("acceptance-httpsfront").values())
    backend = set(context.endpoints("acceptance-httpbackend").values())
    if len(front) != len(context.docker_nodes):
        raise AcceptanceError("httpfront did not start on every node, so its upstream cannot be complete")

    def all_there(directives: list[nginx.Directive]) -> bool:
        http, stream = nginx.upstreams(directives, "http"), nginx.upstreams(directives, "stream")
        return bool(_matching(http, front) and _matching(stream, tcp) and _matching(stream, https))

    live, seconds, _error = tools.poll(_live_configuration, all_there, FOLLOW_SECONDS, interval=0.2)
    directives = live or []
    http, stream = nginx.upstreams(directives, "http"), nginx.upstreams(directives, "stream")
    http_servers, stream_servers = nginx.servers(directives, "http"), nginx.servers(directives, "stream")
    name = _matching(http, front)
    record.add(
        6,
        f"The edge has an upstream of {len(front)} servers with the real host ports",
        bool(name),
        f"no http upstream holds exactly {', '.join(sorted(front))}",
        command="nginx -T",
        output=_describe(http),
        seconds=seconds,
    )
    host = context.public_name("httpfront")
    mine = [server for server in http_servers if host in server.names and nginx.listens_on(server, samples.HTTP_PORT)]
    record.add(
        6,
        f"The edge has a server for {host} on port {samples.HTTP_PORT}",
        len(mine) == 1,
        f"{len(mine)} server blocks listen on {samples.HTTP_PORT} with this name",
        command="nginx -T",
        output="\n".join(f"server_name {' '.join(server.names)}; listen {', '.join(server.listen)}" for server in http_servers),
    )
    tcp_name = _matching(stream, tcp)
    record.add(
        7,
        f"The edge has a stream upstream of {len(tcp)} servers with least connections",
        bool(tcp_name) and stream[tcp_name].least_conn,
        f"no stream upstream with least_conn holds exactly {', '.join(sorted(tcp))}",
        command="nginx -T",
        output=_describe(stream),
    )
    for check, port in ((7, samples.TCP_PORT), (8, samples.TLS_OWN_PORT), (8, samples.TLS_PORT)):
        there = [server for server in stream_servers if nginx.listens_on(server, port)]
        held = tools.listeners({port})
        record.add(
            check,
            f"The edge listens on {port}",
            len(there) == 1 and held.get(port) == "nginx",
            f"{len(there)} stream servers are configured for it, and it is listened on by {held.get(port) or 'nobody'}",
            command=f"nginx -T; ss -ltn sport = :{port}",
            output="\n".join(f"listen {', '.join(server.listen)} -> {', '.join(server.passes)}" for server in there),
        )
    exposed = {server for upstream in [*http.values(), *stream.values()] for server in upstream.servers}
    record.add(
        11,
        "No upstream of the edge holds an instance of httpbackend",
        bool(backend) and not exposed & backend,
        f"exposed: {', '.join(sorted(exposed & backend)) or 'unknown, httpbackend did not start'}",
        command="nginx -T",
        output=f"{len(exposed)} servers in {len(http) + len(stream)} upstreams, none of {', '.join(sorted(backend))}",
    )
    last = set(context.endpoints("acceptance-httplast").values())
    return {
        "http": {key: sorted(upstream.servers) for key, upstream in http.items() if not set(upstream.servers) & last},
        "stream": {key: sorted(upstream.servers) for key, upstream in stream.items()},
    }


def _instances_of(context: Context, container: str) -> set[str]:
    return {facts["containers"][container]["instance"] for facts in context.facts("start").values() if container in facts.get("containers", {})}


def _front_through(context: Context, record: Recorder, edge: Node) -> Facts:
    host = context.public_name("httpfront")
    wanted = _instances_of(context, "acceptance-httpfront")
    seen: set[str] = set()

    def all_answer() -> set[str]:
        # Every node asks at the same time. With as many questions each, a node could meet the same place in the edge's
        # round every time.
        for _ in range(secrets.choice((1, 2))):
            answer = tools.get(edge.address, samples.HTTP_PORT, host=host)
            if answer.status == 200:
                seen.add(answer.instance)
        return seen

    _seen, seconds, error = tools.poll(all_answer, lambda got: wanted <= got, FOLLOW_SECONDS, interval=0.05)
    record.add(
        6,
        f"All {len(wanted)} instances answer through {edge.name}",
        bool(wanted) and seen == wanted,
        f"answers came from {', '.join(sorted(seen)) or 'none'}, expected {', '.join(sorted(wanted))} {error}",
        command=f"GET http://{edge.address}/ (Host: {host})   # until each has answered",
        output=" ".join(sorted(seen)),
        seconds=seconds,
    )
    if shutil.which("curl"):
        done = tools.run(["curl", "-sS", "--max-time", "5", "--resolve", f"{host}:80:{edge.address}", f"http://{host}/"])
        record.add(
            6,
            f"curl through {edge.name} answers as it should",
            done.output == samples.answer_of_front(),
            f"got {done.output!r}",
            command=done.command,
            output=done.output,
            seconds=done.seconds,
        )
    wrong = ""
    source = ""
    instances: dict[str, int] = {}
    started = time.monotonic()
    for number in range(SPREAD_REQUESTS):
        answer = tools.get(edge.address, samples.HTTP_PORT, f"{context.marker}{context.node.name}/{edge.name}/{number}", host=host)
        source = answer.source
        instances[answer.instance] = instances.get(answer.instance, 0) + 1
        if answer.status != 200 or answer.body != samples.answer_of_front():
            wrong = f"status {answer.status}, {answer.body!r}"
    record.add(
        6,
        f"{SPREAD_REQUESTS} requests through {edge.name} are answered exactly as they should be",
        not wrong,
        f"one answer was {wrong}",
        command=f"GET http://{edge.address}{context.marker}… (Host: {host})   # {SPREAD_REQUESTS} times",
        output=samples.answer_of_front() + "\n" + "\n".join(f"{count} by instance {instance}" for instance, count in sorted(instances.items())),
        seconds=time.monotonic() - started,
    )
    return {"sent": SPREAD_REQUESTS, "client": source}


def _tls_through(context: Context, record: Recorder, edge: Node, port: int, way: str) -> None:
    host = context.public_name("httpsfront")
    client = tools.tls_context(context.ca)
    answer, seconds, error = tools.poll(
        lambda: tools.get(edge.address, port, host=host, tls=client), lambda got: got.status == 200, FOLLOW_SECONDS, interval=0.2
    )
    own = tools.fingerprint(ssl.PEM_cert_to_DER_cert(context.certificate))
    shown = tools.fingerprint(answer.certificate) if answer else ""
    record.add(
        8,
        f"https through {edge.name} by {way} (port {port}) shows the service's own certificate, good for its CA",
        answer is not None and answer.body == samples.answer_of_https() and shown == own,
        f"got {answer.body if answer else error!r} with certificate {shown or 'none'}, expected {own}",
        command=f"curl --cacert ca.pem --resolve {host}:{port}:{edge.address} https://{host}:{port}/",
        output=f"{answer.body if answer else ''}\ncertificate SHA-256 {shown}",
        seconds=seconds,
    )


def _not_exposed(context: Context, record: Recorder, edge: Node) -> None:
    names = [context.public_name("httpbackend"), context.consul_name("httpbackend"), "httpbackend"]
    answers = {name: tools.get(edge.address, samples.HTTP_PORT, host=name) for name in names}
    record.add(
        11,
        f"httpbackend is not reachable through {edge.name}",
        all(answer.status == 404 and "httpbackendservice" not in answer.body for answer in answers.values()),
        "; ".join(f"{name} answered {answer.status}" for name, answer in answers.items() if answer.status != 404),
        command="\n".join(f"GET http://{edge.address}/ (Host: {name})" for name in names),
        output="\n".join(f"{name}: status {answer.status}" for name, answer in answers.items()),
    )


# --- faults: checks 9, 10 and 12, by one node --------------------------------------------------------------------------


def faults(context: Context, record: Recorder) -> Facts:
    """Instances come and go on the actor, under load on every edge; then the last instance of a service, then a canary."""
    if not context.is_actor:
        return {}
    with record.guard(9, "Instances come and go"):
        _come_and_go(context, record)
    with record.guard(10, "The last instance of an exposed service goes"):
        _last_instance(context, record)
    facts: Facts = {}
    with record.guard(12, "Gray release by service meta"):
        facts["canary"] = _canary(context, record)
    return facts


def _expect(condition: bool, problem: str) -> str:
    return "" if condition else problem


def _load_targets(context: Context) -> list[Target]:
    """The load goes to addresses of the inventory's edges and nowhere else."""
    targets = []
    client = tools.tls_context(context.ca)
    front, https = context.public_name("httpfront"), context.public_name("httpsfront")
    for edge in context.edges:

        def http(number: int, edge: Node = edge) -> str:
            answer = tools.get(edge.address, samples.HTTP_PORT, f"/load/{number}", host=front)
            return _expect(answer.status == 200 and answer.body == samples.answer_of_front(), f"status {answer.status}: {answer.body}")

        def tcp(number: int, edge: Node = edge) -> str:
            line = tools.echo(edge.address, samples.TCP_PORT, f"load {number}")
            return _expect(samples.is_echo(line, f"load {number}"), f"got {line!r}")

        def tls(number: int, edge: Node = edge) -> str:
            answer = tools.get(edge.address, samples.TLS_PORT, f"/load/{number}", host=https, tls=client)
            return _expect(answer.status == 200 and answer.body == samples.answer_of_https(), f"status {answer.status}: {answer.body}")

        targets += [
            Target(f"http {edge.name}", float(context.load_rate), http),
            Target(f"tcp {edge.name}", max(1.0, context.load_rate / 4), tcp),
            Target(f"tls {edge.name}", max(1.0, context.load_rate / 5), tls),
        ]
    return targets


class _Follower:
    """Watches catalogue, DNS and all edges follow a change of httpfront's instances."""

    def __init__(self, context: Context, record: Recorder) -> None:
        self.context = context
        self.record = record
        self.consul = _consul(context)
        self.host = context.public_name("httpfront")
        #: Edges that did not follow before. They get less time from then on, so that a dead edge does not make the run endless.
        self.lost: set[str] = set()

    def endpoints(self) -> set[str]:
        return {tools.endpoint(instance) for instance in self.consul.instances("httpfront")}

    def dns_ports(self) -> list[int]:
        """The port of each SRV record. Ports of two nodes may be the same, so their number counts, too."""
        return sorted(record.port for record in dns.ask_srv(self.context.node.address, self.context.consul_name("httpfront")))

    def follow(self, title: str, expected: set[str], *, there: str = "", gone: str = "") -> None:
        """Record whether all follow. There and gone name the instance that must, or must not, answer from now on."""
        started = time.monotonic()
        catalogue, catalogue_seconds, _error = tools.poll(self.endpoints, lambda got: got == expected, FOLLOW_SECONDS, interval=0.02)
        self.record.add(
            9,
            f"{title}: the catalogue follows",
            catalogue == expected,
            f"it lists {', '.join(sorted(catalogue or ())) or 'none'}, expected {', '.join(sorted(expected))}",
            command=f"GET {self.context.consul_url}/v1/catalog/service/httpfront",
            output="\n".join(sorted(catalogue or ())),
            seconds=catalogue_seconds,
        )
        ports = sorted(int(one.rsplit(":", 1)[1]) for one in expected)
        found, dns_seconds, error = tools.poll(self.dns_ports, lambda got: got == ports, FOLLOW_SECONDS, interval=0.05)
        self.record.add(
            9,
            f"{title}: DNS follows",
            found == ports,
            f"SRV names the ports {found} {error}, expected {ports}",
            command=f"dig +tcp @{self.context.node.address} {self.context.consul_name('httpfront')} SRV",
            output=f"{len(found or ())} records with the ports {found}",
            seconds=dns_seconds,
        )
        until = f"{there} answers" if there else f"{GONE_ANSWERS} in a row come from others than {gone}"
        for edge in self.context.edges:
            patience = LOST_SECONDS if edge.name in self.lost else FOLLOW_SECONDS
            done, _seconds, error = tools.poll(lambda edge=edge: self._edge_follows(edge, there, gone), bool, patience, interval=0.05)  # type: ignore[misc]
            (self.lost.discard if done else self.lost.add)(edge.name)
            self.record.add(
                9,
                f"{title}: edge {edge.name} follows",
                bool(done),
                f"{there + ' does not answer yet' if there else gone + ' still gets requests'} {error}",
                command=f"GET http://{edge.address}/ (Host: {self.host})   # until {until}",
                output=f"{time.monotonic() - started:.2f} s after the change",
                seconds=time.monotonic() - started,
            )

    def _ask(self, edge: Node) -> Answer:
        return tools.get(edge.address, samples.HTTP_PORT, host=self.host)

    def _edge_follows(self, edge: Node, there: str, gone: str) -> bool:
        if there:
            return any(self._ask(edge).instance == there for _number in range(GONE_ANSWERS))
        return all(self._ask(edge).instance not in ("", gone) for _number in range(GONE_ANSWERS))


def _do(record: Recorder, title: str, argv: list[str], timeout: float = 60) -> None:
    done = tools.run(argv, timeout)
    record.add(
        9, title, done.ok, f"it ended with {done.status}: {tools.shorten(done.output, 300)}", command=done.command, output=done.output, seconds=done.seconds
    )
    if not done.ok:
        raise AcceptanceError(f"{done.command} ended with {done.status}")


def _come_and_go(context: Context, record: Recorder) -> None:
    follower = _Follower(context, record)
    container = "acceptance-httpfront"
    everywhere = context.endpoints(container)
    others = {endpoint for name, endpoint in everywhere.items() if name != context.node.name}
    instance = context.facts("start")[context.node.name]["containers"][container]["instance"]
    address = context.node.address
    load = Load(_load_targets(context), LOAD_SECONDS, LOAD_REQUESTS)
    load.start()
    try:
        time.sleep(0.5)  # the load runs before the first change, so a failure is not the load's own start
        _do(record, "Stop one instance", ["docker", "stop", container])
        follower.follow("Stopped", others, gone=instance)
        _do(record, "Start it again", ["docker", "start", container])
        follower.follow("Started again", others | {f"{address}:{_host_port(container)}"}, there=instance)
        if context.disruptive:
            _do(record, "Kill one instance", ["docker", "kill", container])
            follower.follow("Killed", others, gone=instance)
            _do(record, "Start it again", ["docker", "start", container])
            follower.follow("Started after the kill", others | {f"{address}:{_host_port(container)}"}, there=instance)
        else:
            record.skip(9, "Kill one instance", "acceptance_disruptive is false")
        fourth = "acceptance-httpfront-4"
        mine = f"{address}:{_host_port(container)}"
        _do(record, "Start one more instance", samples.run_commands(context)[fourth])
        extra = _container_facts(fourth)
        follower.follow("One more", others | {mine, f"{address}:{extra['port']}"}, there=extra["instance"])
        _do(record, "Stop it again", ["docker", "stop", fourth])
        follower.follow("One less", others | {mine}, gone=extra["instance"])
        if context.disruptive:
            _restart_docker(context, record, follower, others, instance)
        else:
            record.skip(9, f"Restart Docker on {context.node.name}", "acceptance_disruptive is false")
    finally:
        load.stop()
        _report_load(record, load)


def _restart_docker(context: Context, record: Recorder, follower: _Follower, others: set[str], instance: str) -> None:
    container = "acceptance-httpfront"
    show = ["systemctl", "show", "--property", "MainPID", "--value", context.docker_unit]
    before = tools.must(show)
    _do(record, f"Restart Docker on {context.node.name}", ["systemctl", "restart", context.docker_unit], timeout=120)
    now = tools.must(show)
    record.add(
        9,
        "It is another process now",
        now not in ("0", before),
        f"the process was {before} and is {now}",
        command=tools.show(show),
        output=f"{before} -> {now}",
    )
    _answer, _seconds, error = tools.poll(lambda: tools.must(["docker", "inspect", "--format", "{{.State.Running}}", container]), lambda got: got == "true", 60)
    if error:
        raise AcceptanceError(f"{container} does not run after the restart of Docker: {error}")
    follower.follow("Docker restarted", others | {f"{context.node.address}:{_host_port(container)}"}, there=instance)
    missing, seconds, _error = tools.poll(
        lambda: [service for service in samples.SERVICES if not any(address == context.node.address for address in _addresses(context, service))],
        lambda got: not got,
        FOLLOW_SECONDS,
    )
    record.add(
        9,
        "Docker restarted: every other service of the node is in the catalogue",
        missing == [],
        f"missing: {', '.join(missing or ())}",
        command=f"GET {context.consul_url}/v1/catalog/service/…",
        output=", ".join(samples.SERVICES),
        seconds=seconds,
    )
    time.sleep(0.5)  # the load goes on after the last change, too


def _addresses(context: Context, service: str) -> list[str]:
    return [str(instance.get("ServiceAddress") or instance.get("Address")) for instance in _consul(context).instances(service)]


def _report_load(record: Recorder, load: Load) -> None:
    for name, result in load.results.items():
        record.add(
            9,
            f"No request failed during all this: {name}",
            result["failed"] == 0 and result["requests"] >= 5,
            f"{result['failed']} of {result['requests']} failed; first: {result['errors'][0] if result['errors'] else '-'}"
            if result["requests"] >= 5
            else "the load did not run",
            command=f"load on {name}, a new connection for each request",
            output="\n".join(
                [
                    f"{result['requests']} requests, {result['failed']} failed, {result['slow']} slower than 1 s, slowest {result['slowest'] * 1000:.0f} ms",
                    *result["errors"],
                ]
            ),
            seconds=load.elapsed(),
        )


def _last_instance(context: Context, record: Recorder) -> None:
    host = context.public_name("httplast")
    for edge in context.edges:
        status, seconds, error = tools.poll(lambda edge=edge: _status_of(edge, host), lambda got: got == 200, FOLLOW_SECONDS)  # type: ignore[misc]
        record.add(
            10,
            f"httplast is exposed on {edge.name}",
            status == 200,
            f"status {status} {error}",
            command=f"GET http://{edge.address}/ (Host: {host})",
            output=f"status {status}",
            seconds=seconds,
        )
    done = tools.run(["docker", "rm", "-f", "acceptance-httplast"], timeout=30)
    record.add(
        10, "Its last instance is removed", done.ok, f"docker rm ended with {done.status}", command=done.command, output=done.output, seconds=done.seconds
    )
    left, seconds, _error = tools.poll(lambda: _consul(context).instances("httplast"), lambda got: not got, FOLLOW_SECONDS)
    record.add(
        10,
        "It is gone from the catalogue",
        left == [],
        "it is still listed",
        command=f"GET {context.consul_url}/v1/catalog/service/httplast",
        output=str(left),
        seconds=seconds,
    )
    for edge in context.edges:
        status, seconds, error = tools.poll(lambda edge=edge: _status_of(edge, host), lambda got: got in (404, 503), FOLLOW_SECONDS)  # type: ignore[misc]
        record.add(
            10,
            f"It is gone from {edge.name}, with a clear answer",
            status in (404, 503),
            f"edge {edge.name} answers {status or error} instead of 404 or 503",
            command=f"GET http://{edge.address}/ (Host: {host})",
            output=f"status {status}",
            seconds=seconds,
        )
        with record.guard(10, f"Everything else on {edge.name} is untouched"):
            front = tools.get(edge.address, samples.HTTP_PORT, host=context.public_name("httpfront"))
            line = tools.echo(edge.address, samples.TCP_PORT, "hello")
            https = tools.get(edge.address, samples.TLS_PORT, host=context.public_name("httpsfront"), tls=tools.tls_context(context.ca))
            record.add(
                10,
                f"Everything else on {edge.name} is untouched",
                front.body == samples.answer_of_front() and samples.is_echo(line, "hello") and https.body == samples.answer_of_https(),
                f"httpfront: {front.body!r}, tcpfront: {line!r}, httpsfront: {https.body!r}",
                command=f"GET http://{edge.address}/ (Host: {context.public_name('httpfront')}), echo on {samples.TCP_PORT}, https by SNI",
                output=f"{front.body}\n{line}\n{https.body}",
            )


def _canary(context: Context, record: Recorder) -> Facts:
    version = str(_consul(context).get("/v1/agent/self").get("Config", {}).get("Version", ""))
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    record.add(
        12,
        "Consul is current",
        numbers >= CURRENT_CONSUL,
        f"it is {version or 'unknown'}, the oldest accepted is {'.'.join(map(str, CURRENT_CONSUL))}",
        command=f"GET {context.consul_url}/v1/agent/self",
        output=version,
    )
    container = "acceptance-httpfront-canary"
    done = tools.run(samples.run_commands(context)[container], timeout=60)
    record.add(
        12,
        "A canary of httpfront starts",
        done.ok,
        f"docker run ended with {done.status}: {tools.shorten(done.output, 300)}",
        command=done.command,
        output=done.output,
        seconds=done.seconds,
    )
    if not done.ok:
        return {}
    facts = _container_facts(container)
    facts["endpoint"] = f"{context.node.address}:{facts['port']}"
    found, seconds, _error = tools.poll(
        lambda: [one.get("ServiceMeta") or {} for one in _consul(context).instances("httpfront") if tools.container_of(str(one.get("ServiceID"))) == container],
        bool,
        FOLLOW_SECONDS,
    )
    meta = (found or [{}])[0]
    record.add(
        12,
        "The catalogue carries its service meta",
        meta.get("edge_canary") == "true" and meta.get("version") == "v2.0.0" and meta.get("edge_canary_share") == str(samples.CANARY_SHARE),
        f"the meta is {meta}",
        command=f"GET {context.consul_url}/v1/catalog/service/httpfront",
        output=json.dumps(meta, indent=1, sort_keys=True),
        seconds=seconds,
    )
    host = context.public_name("httpfront")
    new, old = samples.answer_of_front("v2.0.0"), samples.answer_of_front()
    for edge in context.edges:
        with record.guard(12, f"The canary gets its traffic through {edge.name}"):
            wanted, seconds, error = tools.poll(
                lambda edge=edge: tools.get(edge.address, samples.HTTP_PORT, host=host, headers={"X-Canary": "always"}),  # type: ignore[misc]
                lambda got: got.body == new,
                FOLLOW_SECONDS,
            )
            record.add(
                12,
                f"The header X-Canary: always goes to the canary through {edge.name}",
                wanted is not None and wanted.body == new,
                f"got {wanted.body if wanted else error!r}",
                command=f"curl -H 'X-Canary: always' --resolve {host}:80:{edge.address} http://{host}/",
                output=wanted.body if wanted else "",
                seconds=seconds,
            )
            never = {tools.get(edge.address, samples.HTTP_PORT, host=host, headers={"X-Canary": "never"}).body for _number in range(GONE_ANSWERS)}
            record.add(
                12,
                f"The header X-Canary: never stays with the stable instances through {edge.name}",
                never == {old},
                f"got {never}",
                command=f"curl -H 'X-Canary: never' … http://{host}/   # {GONE_ANSWERS} times",
                output="\n".join(sorted(never)),
            )
            bodies = [tools.get(edge.address, samples.HTTP_PORT, host=host).body for _number in range(CANARY_REQUESTS)]
            share = bodies.count(new)
            record.add(
                12,
                f"A share of the requests goes to the canary through {edge.name}",
                0 < share < CANARY_REQUESTS and share + bodies.count(old) == CANARY_REQUESTS,
                f"{share} of {CANARY_REQUESTS} requests reached the canary, {bodies.count(old)} a stable instance",
                command=f"curl --resolve {host}:80:{edge.address} http://{host}/   # {CANARY_REQUESTS} times",
                output=f"{share} of {CANARY_REQUESTS} by the canary; its share is set to {samples.CANARY_SHARE} %",
            )
    return facts


# --- after, cleanup ------------------------------------------------------------------------------------------------------


def after(context: Context, record: Recorder) -> Facts:
    """What the edges hold now, and what the instances' own logs say about the traffic."""
    facts: Facts = {}
    if context.node.edge:
        with record.guard(10, "Everything else in the edge's configuration is untouched"):
            _edge_afterwards(context, record)
    if context.node.docker:
        with record.guard(6, "The instance's own log is read"):
            output = tools.must(["docker", "logs", "acceptance-httpfront"], timeout=30)
            entries = tools.parse_request_log(output, context.marker)
            facts["log"] = entries
            record.note(
                6,
                "The instance's own log of these requests: client, host, path",
                command="docker logs acceptance-httpfront",
                output="\n".join([*(f"{entry['client']} {entry['host']} {entry['path']}" for entry in entries[:6]), *(["…"] if len(entries) > 6 else [])]),
            )
    return facts


def _edge_afterwards(context: Context, record: Recorder) -> None:
    directives = _live_configuration()
    http, stream = nginx.upstreams(directives, "http"), nginx.upstreams(directives, "stream")
    last = set(context.endpoints("acceptance-httplast").values())
    holders = [name for name, upstream in http.items() if set(upstream.servers) & last]
    record.add(
        10,
        "No upstream holds the removed instance",
        bool(last) and not holders,
        f"{', '.join(holders) or 'httplast did not start, so nothing is known'}",
        command="nginx -T",
        output=_describe(http),
    )
    before = context.facts("traffic").get(context.node.name, {}).get("upstreams") or {}
    # On the actor containers were stopped and started again, which may have given them other host ports.
    moved = f"{context.actor.address}:" if context.actor else "-"

    def settled(servers: t.Iterable[str]) -> list[str]:
        return sorted(server for server in servers if not server.startswith(moved))

    changed = [
        name
        for kind, now in (("http", http), ("stream", stream))
        for name, servers in (before.get(kind) or {}).items()
        if settled(servers) and (name not in now or settled(now[name].servers) != settled(servers))
    ]
    record.add(
        10,
        "Every other upstream is as it was before",
        bool(before) and not changed,
        f"changed: {', '.join(changed) or 'unknown, there is no earlier state'}",
        command="nginx -T",
        output=_describe(stream),
    )
    canary: Facts = next((facts["canary"] for facts in context.facts("faults").values() if facts.get("canary")), {})
    endpoint = canary.get("endpoint", "")
    alone = [name for name, upstream in http.items() if endpoint and set(upstream.servers) == {endpoint}]
    record.add(
        12,
        "The service meta shapes the rendered configuration: the canary has an upstream of its own",
        bool(alone),
        f"no http upstream holds just the canary {endpoint or '(which did not start)'}",
        command="nginx -T",
        output="\n".join(f"upstream {name}: {endpoint}" for name in alone) or _describe(http),
    )


def cleanup(context: Context, record: Recorder) -> Facts:
    """Remove what this run started; with C(keep) only what is beyond one of each service."""
    removed: list[str] = []
    if context.node.docker:
        removed = [name for name in _own_containers() if not context.keep or name not in samples.KEPT]
        if removed:
            tools.must(["docker", "rm", "-f", "-v", *removed], timeout=60)
        if not context.keep:
            tools.run(["docker", "image", "rm", *samples.IMAGES], timeout=60)
            shutil.rmtree(context.directory, ignore_errors=True)
    if removed and not context.keep:
        left, _seconds, error = tools.poll(lambda: _ours_in_catalogue(context, context.node.address), lambda found: not found, FOLLOW_SECONDS)
        if left or error:
            raise AcceptanceError(f"{context.node.name}: the removed samples are still in the catalogue: {', '.join(left or ()) or error}")
    if context.node.edge and not context.keep:
        _settle_edge(context, record)
    return {"removed": removed}


PHASES: dict[str, t.Callable[[Context, Recorder], Facts]] = {
    "prepare": prepare,
    "load": load,
    "base": base,
    "start": start,
    "traffic": traffic,
    "faults": faults,
    "after": after,
    "cleanup": cleanup,
}
#: In these phases an error ends the run, because nothing has been started yet.
FATAL = ("prepare", "load")
