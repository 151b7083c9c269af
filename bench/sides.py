# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is compared on the edges: the platform, the seed's template and command, an nginx configuration written by hand, and HAProxy with DNS discovery.

The seed is the system that the platform grew from: one global nginx.conf, rendered by consul-template, with `nginx -s reload` as its command.
Its template is written here from its description, on ports of its own, so that both run on the same nodes from the same catalogue.
"""

from __future__ import annotations

import typing as t

from bench import images
from bench.lab import EDGE_DOMAIN, Endpoint, Lab, Node, wait_for

DIRECTORY = "/var/lib/trinode-bench"
UNITS = "/run/systemd/system"
SEED_PORT = 8180
HAND_PORT = 8181
HAPROXY_PORT = 8182
# The seed's stream ports are those of the services, which the platform holds on the same nodes.
SEED_STREAM_OFFSET = 10000

# `worker_connections` is the distribution's, as on the platform's side.
_HEAD = """\
user www-data;
worker_processes auto;
pid {directory}/{name}.pid;
error_log /var/log/nginx/bench-{name}-error.log;
include /etc/nginx/modules-enabled/50-mod-stream.conf;
events {{
    worker_connections 768;
}}
"""

SEED_TEMPLATE = (
    _HEAD.format(directory=DIRECTORY, name="seed")
    + """\
http {
    access_log /var/log/nginx/bench-seed.log;
{{- range services }}
{{- if .Tags | contains "http" }}
    upstream {{ .Name }} {
        zone upstream-{{ .Name }} 64k;
{{- range service .Name }}
        server {{ .Address }}:{{ .Port }} weight=5;
{{- end }}
    }
    server {
        listen SEED_PORT;
        server_name {{ .Name }}.EDGE_DOMAIN;
        location / {
            proxy_pass http://{{ .Name }};
        }
    }
{{- end }}
{{- end }}
}
stream {
{{- range services }}
{{- if .Tags | contains "tcp" }}
    upstream {{ .Name }} {
        least_conn;
{{- range service .Name }}
        server {{ .Address }}:{{ .Port }};
{{- end }}
    }
    server {
        listen {{ index (split "-" .Name) 1 | parseInt | add STREAM_OFFSET }};
        proxy_pass {{ .Name }};
    }
{{- end }}
{{- end }}
}
""".replace("SEED_PORT", str(SEED_PORT))
    .replace("EDGE_DOMAIN", EDGE_DOMAIN)
    .replace("STREAM_OFFSET", str(SEED_STREAM_OFFSET))
)

EMPTY = _HEAD + "http {{\n}}\n"


def hand_written(host: str, servers: t.Iterable[tuple[str, int]]) -> str:
    """What somebody who knows nginx writes for one service whose instances never change."""
    lines = "\n".join(f"        server {address}:{port};" for address, port in sorted(servers))
    return (
        _HEAD.format(directory=DIRECTORY, name="hand")
        + f"""\
http {{
    access_log /var/log/nginx/bench-hand.log;
    upstream page {{
{lines}
        keepalive 32;
    }}
    server {{
        listen {HAND_PORT};
        server_name {host};
        location / {{
            proxy_pass http://page;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
        }}
    }}
}}
"""
    )


_NGINX_UNIT = f"""\
[Unit]
Description=nginx of the benchmark ({{name}})

[Service]
ExecStart=/usr/sbin/nginx -c {DIRECTORY}/{{name}}.conf -g 'daemon off;'
KillMode=mixed
TimeoutStopSec=5
"""

# Restarted when it exits, which is more than the seed did: otherwise the first service that loses its last instance could end the comparison.
_SEED_TEMPLATE_UNIT = f"""\
[Unit]
Description=consul-template of the benchmark (seed)
StartLimitIntervalSec=0

[Service]
ExecStart=/usr/local/bin/consul-template -consul-addr 127.0.0.1:8500 \
 -template "{DIRECTORY}/seed.ctmpl:{DIRECTORY}/seed.conf:/usr/sbin/nginx -c {DIRECTORY}/seed.conf -s reload"
KillSignal=SIGINT
TimeoutStopSec=15
Restart=always
RestartSec=100ms
LimitNOFILE=65536
"""

HAND_UNIT = "bench-hand-nginx.service"

HAPROXY_SLOTS = 10
# What the manuals of HAProxy and Consul advise for discovery by DNS, with the shortest pause between two questions that is usual, and with everything
# that lets a request survive an instance that has just gone. It logs each request to a file, as the others do.
_HAPROXY_HEAD = f"""\
global
    user haproxy
    group haproxy
    maxconn 4096
    stats socket {DIRECTORY}/haproxy.sock mode 600 level admin
    log stdout format raw daemon
defaults
    mode http
    log global
    option httplog
    option forwardfor
    option redispatch 1
    retries 3
    retry-on conn-failure empty-response
    timeout connect 400ms
    timeout client 60s
    timeout server 60s
resolvers consul
    nameserver agent 127.0.0.1:53
    accepted_payload_size 8192
    timeout resolve 1s
    timeout retry 1s
    resolve_retries 3
    hold valid 1s
frontend edge
    bind :{HAPROXY_PORT}
"""

_HAPROXY_UNIT = f"""\
[Unit]
Description=HAProxy of the benchmark

[Service]
Type=notify
ExecStart=/usr/sbin/haproxy -Ws -f {DIRECTORY}/haproxy.cfg -p {DIRECTORY}/haproxy.pid
KillMode=mixed
TimeoutStopSec=5
StandardOutput=append:/var/log/nginx/bench-haproxy.log
LimitNOFILE=65536
"""

# Runs on an edge: where HAProxy has servers, as "address:port" lines.
HAPROXY_SERVERS = f"""\
import socket
talk = socket.socket(socket.AF_UNIX)
talk.connect("{DIRECTORY}/haproxy.sock")
talk.sendall(b"show servers state\\n")
said = b""
while part := talk.recv(65536):
    said += part
for line in said.decode().splitlines()[2:]:
    words = line.split()
    if len(words) > 18 and words[4] != "-":
        print(words[4] + ":" + words[18])
"""


def haproxy_config(services: t.Mapping[str, str]) -> str:
    """HAProxy for some services: public name -> name in the catalogue. Unlike the others, it has to be told each of them."""
    rules = "".join(f"    use_backend {service} if {{ hdr(host) -i {name} }}\n" for name, service in services.items())
    backends = "".join(
        f"backend {service}\n    balance roundrobin\n    http-reuse always\n"
        f"    server-template {service} {HAPROXY_SLOTS} _{service}._tcp.service.consul resolvers consul resolve-opts allow-dup-ip resolve-prefer ipv4"
        " init-addr none check\n"
        for service in services.values()
    )
    return _HAPROXY_HEAD + rules + backends


class Side:
    """One way to keep nginx on both edges equal to the catalogue."""

    name: str
    title: str
    kind: str
    port: int
    nginx_unit: str
    template_unit: str
    #: What consul-template writes.
    rendered: str
    #: What nginx reads.
    served: str

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def endpoints(self) -> list[Endpoint]:
        """Where clients ask."""
        return [Endpoint(edge, self.port) for edge in self.lab.edges]

    def units(self) -> list[str]:
        """Everything that runs for it on an edge."""
        return [self.nginx_unit, self.template_unit]

    def _signal(self, signal: str) -> None:
        self.lab.each(self.lab.edges, f"kill -{signal} $(systemctl show --value --property=MainPID {self.template_unit})")

    def pause(self) -> None:
        """Halt consul-template, so that the other side has the machine for itself. The catalogue waits for it in open queries."""
        self._signal("STOP")

    def resume(self) -> None:
        """Let it go on."""
        self._signal("CONT")

    def stop(self) -> None:
        """End consul-template; nginx goes on."""
        self.resume()
        self.lab.each(self.lab.edges, f"systemctl stop {self.template_unit}", timeout=120)

    def start(self) -> None:
        """Start consul-template without waiting for it."""
        self.lab.each(self.lab.edges, f"systemctl start --no-block {self.template_unit}")

    def settled(self, present: t.Collection[str] = (), absent: t.Collection[str] = (), seconds: float = 60) -> None:
        """Wait until the configuration that nginx reads names what is present and does not name what is absent."""
        tests = [f"grep -qF -- '{text}' {self.served}" for text in present] + [f"! grep -qF -- '{text}' {self.served}" for text in absent]
        for edge in self.lab.edges:
            wait_for(
                lambda at=edge: at.run(" && ".join([*tests, "echo yes"]), check=False) == "yes",  # type: ignore[misc]
                seconds,
                f"{self.title} on {edge.name} names {list(present)} and not {list(absent)} in {self.served}",
            )

    def times(self, edge: Node) -> dict[str, float]:
        """When the last change reached which step, as Unix times."""
        return {"rendered": float(edge.run(f"stat -c %.9Y {self.rendered}"))}

    def restarts(self) -> int:
        """How often consul-template was started again by systemd, on both edges."""
        return sum(int(text or 0) for text in self.lab.each(self.lab.edges, f"systemctl show --value --property=NRestarts {self.template_unit}"))

    def before_cold_change(self) -> None:
        """Bring the side into the state that it is in when nothing has changed for a long time."""


class Platform(Side):
    """The platform as its playbook installs it."""

    name = "platform"
    title = "the platform"
    kind = "platform"
    port = 80
    nginx_unit = "nginx.service"
    template_unit = "consul-template.service"
    apply_unit = "nginx-edge-apply.service"
    rendered = "/var/lib/nginx-edge/staging/http.conf"
    served = "/var/lib/nginx-edge/live/http/50-edge.conf"

    def units(self) -> list[str]:
        return [*super().units(), self.apply_unit]

    def times(self, edge: Node) -> dict[str, float]:
        live = "/var/lib/nginx-edge/live"
        words = edge.run(f"stat -c %.9Y {self.rendered} {live}/http/50-edge.conf; stat -c %.9Y {live}").split()
        return dict(zip(("rendered", "built", "tested"), map(float, words)))

    def settled(self, present: t.Collection[str] = (), absent: t.Collection[str] = (), seconds: float = 60) -> None:
        super().settled(present, absent, seconds)
        # The apply program goes on after the swap: it sees to it that nginx has taken it, and writes that down.
        done = "import json, os; s = json.load(open('state.json')); print(s['pending'] is None and s['live'] == os.path.basename(os.readlink('live')))"
        for edge in self.lab.edges:
            wait_for(
                lambda at=edge: at.run(f'cd /var/lib/nginx-edge && python3 -c "{done}"') == "True",  # type: ignore[misc]
                seconds,
                f"the apply program on {edge.name} is done with the change",
            )

    def before_cold_change(self) -> None:
        # It stays once it was asked, and the next request starts it again.
        self.lab.each(self.lab.edges, f"systemctl stop {self.apply_unit}")

    def apply_milliseconds(self) -> float:
        """How long the last run of the checked apply took, on the slower edge."""
        texts = self.lab.each(self.lab.edges, 'python3 -c \'import json; print(json.load(open("/var/lib/nginx-edge/state.json"))["last"]["duration_ms"])\'')
        return max(map(float, texts))

    def generations(self) -> list[int]:
        """The live generation of each edge."""
        return [int(text.rpartition("/")[2]) for text in self.lab.each(self.lab.edges, "readlink /var/lib/nginx-edge/live")]

    def confirm_shrink(self) -> None:
        """Let the edges give up the services of the benchmark: so many at once wait for a word."""
        self.lab.each(self.lab.edges, "nginx-edge-apply --confirm-shrink >/dev/null", timeout=120)


class Seed(Side):
    """The seed's template and command beside it."""

    name = "seed"
    title = "the seed"
    kind = "other"
    port = SEED_PORT
    nginx_unit = "bench-seed-nginx.service"
    template_unit = "bench-seed-template.service"
    rendered = f"{DIRECTORY}/seed.conf"
    served = rendered

    def set_up(self) -> None:
        """Install and start it on both edges."""
        for edge in self.lab.edges:
            edge.put(f"{DIRECTORY}/seed.ctmpl", SEED_TEMPLATE)
            edge.put(f"{DIRECTORY}/seed.conf", EMPTY.format(directory=DIRECTORY, name="seed"))
            edge.put(f"{UNITS}/{self.nginx_unit}", _NGINX_UNIT.format(name="seed"))
            edge.put(f"{UNITS}/{self.template_unit}", _SEED_TEMPLATE_UNIT)
            edge.run(f"systemctl daemon-reload && systemctl start {self.nginx_unit} {self.template_unit}")


class HAProxy(Side):
    """HAProxy of the distribution, which asks Consul's DNS for the instances of each service."""

    name = "haproxy"
    title = "HAProxy"
    kind = "other"
    port = HAPROXY_PORT
    nginx_unit = "bench-haproxy.service"

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self._brought: list[Node] = []

    def units(self) -> list[str]:
        return [self.nginx_unit]

    def set_up(self, services: t.Mapping[str, str]) -> None:
        """Install and start it on both edges."""
        for edge in self.lab.edges:
            # The package would start a service of its own.
            edge.run(f"mkdir -p {UNITS} && ln -sfn /dev/null {UNITS}/haproxy.service && systemctl daemon-reload")
            if images.install(edge, "haproxy"):
                self._brought.append(edge)
            edge.put(f"{DIRECTORY}/haproxy.cfg", haproxy_config(services))
            edge.put(f"{UNITS}/{self.nginx_unit}", _HAPROXY_UNIT)
            edge.run(f"haproxy -c -q -f {DIRECTORY}/haproxy.cfg && systemctl daemon-reload && systemctl start {self.nginx_unit}")

    def remove(self) -> None:
        """Take it out again."""
        for edge in self.lab.edges:
            edge.run(f"systemctl stop {self.nginx_unit} 2>/dev/null; rm -f {UNITS}/{self.nginx_unit}; true", timeout=60)
        while self._brought:
            images.purge(self._brought.pop(), "haproxy")
        for edge in self.lab.edges:
            edge.run(f"if [ -L {UNITS}/haproxy.service ]; then rm -f {UNITS}/haproxy.service; fi; systemctl daemon-reload")

    def pause(self) -> None:
        """Nothing: a question a second to the agent is all that it does by itself."""

    def resume(self) -> None:
        """Nothing either."""

    def settled(self, present: t.Collection[str] = (), absent: t.Collection[str] = (), seconds: float = 60) -> None:
        for edge in self.lab.edges:

            def right(at: Node = edge) -> bool:
                servers = at.run("python3 -", data=HAPROXY_SERVERS.encode()).split()
                return all(place in servers for place in present) and not any(place in servers for place in absent)

            wait_for(right, seconds, f"HAProxy on {edge.name} has the servers {list(present)} and not {list(absent)}")

    def times(self, _edge: Node) -> dict[str, float]:
        return {}

    def restarts(self) -> int:
        return 0


def start_hand_written(lab: Lab, edge: Node, host: str, servers: t.Iterable[tuple[str, int]]) -> Endpoint:
    """Start the hand-written nginx on one edge."""
    edge.put(f"{DIRECTORY}/hand.conf", hand_written(host, servers))
    edge.put(f"{UNITS}/{HAND_UNIT}", _NGINX_UNIT.format(name="hand"))
    edge.run(f"nginx -t -q -c {DIRECTORY}/hand.conf && systemctl daemon-reload && systemctl start {HAND_UNIT}")
    endpoint = Endpoint(edge, HAND_PORT)
    lab.confirm([endpoint])
    return endpoint


def remove_all(lab: Lab) -> None:
    """Remove what set_up and start_hand_written made; what is not there is no error."""
    units = f"{Seed.template_unit} {Seed.nginx_unit} {HAND_UNIT}"
    for edge in lab.edges:
        edge.run(
            f"pids=$(systemctl show --value --property=MainPID {Seed.template_unit} {Platform.template_unit} | grep -vx -e 0 -e '' || true);"
            f' [ -z "$pids" ] || kill -CONT $pids; systemctl stop {units} 2>/dev/null; systemctl reset-failed {units} 2>/dev/null;'
            f" cd {UNITS} && rm -f {units}; rm -rf {DIRECTORY} /var/log/nginx/bench-*; systemctl daemon-reload",
            timeout=120,
        )
