# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All options of the edge description, with defaults and documentation: the one table that everything else reads.

Private to the collection, pure.
"""

from __future__ import annotations

from .option import Option
from .option_groups import CANARY, INTERNAL, REMOTE_SERVICE, TLS

RETRY_CONDITIONS = ("error", "timeout", "invalid_header", "http_500", "http_502", "http_503", "http_504", "http_429")
# Request headers that the edge writes itself, or never passes on: they cannot be listed in cleared_headers.
# What every node listens on: SSH, DNS, the Docker API, the edge's status page, registrator's metrics, and Consul's RPC, gossip, HTTP(S), gRPC and DNS.
PLATFORM_PORTS = (22, 53, 2375, 2376, 8098, 8099, 8300, 8301, 8302, 8500, 8501, 8502, 8503, 8600)

SCHEMA: tuple[Option, ...] = (
    Option(
        "domain",
        "domain",
        ("Domain of the exposed services. The service C(web) is reached as C(web.) followed by this domain.",),
        required=True,
    ),
    Option("public", "bool", ("Whether there is a public side. Without it, only O(_input.internal) is left, for a node that is no edge.",), default=True),
    Option("http_port", "port", ("Port on which HTTP services are exposed.",), default=80),
    Option(
        "tls_port",
        "port",
        ("Port of TLS, where the client names the service by SNI: passed through untouched, or ended by the edge with O(_input.tls.certificates).",),
        default=443,
    ),
    Option("http_tag", "tag", ("Tag of an instance that is to be exposed over HTTP.",), default="http"),
    Option("tcp_tag", "tag", ("Tag of an instance that is to be exposed on a TCP port of its own.",), default="tcp"),
    Option("tls_tag", "tag", ("Tag of an instance that is to be exposed on the TLS port by its name.",), default="tls"),
    Option(
        "listen_addresses",
        "list",
        ("Addresses of the edge node to listen on. An empty list means every IPv4 address, and every IPv6 address too with O(_input.ipv6).",),
        default=(),
        elements="ip",
    ),
    Option("ipv6", "bool", ("Whether to listen on every IPv6 address too. Has no effect when O(_input.listen_addresses) is set.",), default=False),
    Option(
        "host_names",
        "list",
        (
            "Host names that services may take, over HTTP and by SNI. V(*) stands for any part of the first label.",
            "An empty list means every name directly below O(_input.domain).",
        ),
        default=(),
        elements="host_pattern",
    ),
    Option(
        "reserved_host_names",
        "list",
        (
            "Host names below O(_input.domain) that no service gets, because the operator serves them. V(*) stands for any part of the first label.",
            "No service gets a name that only looks like one of them, either.",
        ),
        default=(),
        elements="host_pattern",
    ),
    Option(
        "tcp_ports",
        "list",
        ("Ports that services with O(_input.tcp_tag) may take: single ports and ranges such as V(9000-9999).",),
        default=("1024-65535",),
        elements="port_range",
    ),
    Option(
        "reserved_ports",
        "list",
        (
            "Ports of the edge node that the platform or the operator holds. They are never given to a service.",
            "O(_input.http_port) and O(_input.tls_port) are always reserved.",
        ),
        default=(),
        elements="port",
    ),
    Option(
        "backend_reserved_ports",
        "list",
        (
            (
                "Ports to which the edge never connects, at any address. A registration that names one of them is refused, "
                "so that no one can expose the node's own interfaces (SSH, DNS, the Docker API, Consul, status pages) by registering their address."
            ),
        ),
        default=PLATFORM_PORTS,
        elements="port",
    ),
    Option(
        "edge_addresses",
        "list",
        (
            (
                "Addresses of all edge nodes. An instance at one of them is refused when its port is one that an edge listens on or one of "
                "O(_input.reserved_ports): the edge would connect to itself, or expose what belongs to the node."
            ),
            "The addresses of O(_input.listen_addresses) and O(_input.internal.listen_addresses) always count; so does loopback where the edge listens on it.",
        ),
        default=(),
        elements="own_ip",
    ),
    Option(
        "unexposed_services",
        "list",
        (
            "Services that are never exposed, in whatever spelling and with whatever tags.",
            (
                "Sidecar proxies of Consul Connect need not be listed, nor gateways that C(consul connect envoy -register) registered. "
                "Other gateways cannot be told from services: the default has the names that Consul gives them, and those with other names belong here."
            ),
        ),
        default=("mesh-gateway", "terminating-gateway", "ingress-gateway"),
        elements="service",
    ),
    Option(
        "protected_services",
        "list",
        (
            "Services whose names nobody else gets in another spelling, even while they have no instance themselves.",
            "Nothing else that looks like one of them is exposed, such as C(bi11ing) or C(bil-ling) for C(billing).",
            (
                "Consul's ACLs distinguish upper and lower case, its catalogue and its DNS do not. A token that may not write C(billing) "
                "can register C(Billing), which has the same host name or port at an edge."
            ),
        ),
        default=(),
        elements="service",
    ),
    Option(
        "allow_loopback",
        "bool",
        ("Whether an instance may have a loopback address. That is the edge node itself, so it is refused outside of tests and single-node trials.",),
        default=False,
    ),
    Option(
        "accept_warning",
        "bool",
        ("Whether instances whose checks warn get traffic too, with Consul's C(Weights.Warning). By default only passing instances do.",),
        default=False,
    ),
    Option(
        "connect_timeout",
        "duration",
        (
            "How long a connection to one of several instances may take.",
            "Short, because a lost node answers nothing at all and another instance is waiting.",
        ),
        default="400ms",
    ),
    Option(
        "only_connect_timeout",
        "duration",
        (
            "How long a connection to the only instance of a service may take.",
            (
                "Longer than one second, after which a kernel sends a lost packet again: a lost packet, or an instance that accepts no "
                "connection for a moment, is a wait and not an error. On O(_input.tls_port), where there is one limit for all names, an only instance is "
                "tried up to three times instead."
            ),
        ),
        default="2s",
    ),
    Option(
        "read_timeout",
        "duration",
        ("How long an HTTP instance may be silent before the request fails. Also ends a WebSocket on which nothing is said for so long.",),
        default="60s",
    ),
    Option("send_timeout", "duration", ("How long an HTTP instance may take nothing of a request before the request fails.",), default="60s"),
    Option("idle_timeout", "duration", ("How long a TCP or TLS connection may be silent in both directions before it is closed.",), default="10m"),
    Option("preread_timeout", "duration", ("How long a client may take for the TLS hello that carries the name it wants.",), default="5s"),
    Option(
        "max_fails",
        "int",
        (
            "Failed attempts within O(_input.fail_timeout) after which an instance gets no traffic for that time. V(0) turns it off.",
            "More than one, because a lost packet is such an attempt and no reason to do without an instance.",
        ),
        default=3,
        minimum=0,
        maximum=100,
    ),
    Option("fail_timeout", "duration", ("The time that O(_input.max_fails) counts in, and that a failed instance is left alone.",), default="5s"),
    Option(
        "keepalive",
        "int",
        ("Idle connections that each worker keeps open to the instances of an HTTP service. V(0) turns reuse off.",),
        default=32,
        minimum=0,
        maximum=10000,
    ),
    Option(
        "keepalive_timeout",
        "duration",
        (
            "How long an idle connection to an instance is kept.",
            (
                "Shorter than the keep-alive time of common servers (gunicorn 2 seconds, Node and uvicorn 5, Tomcat 20), "
                "so that the edge closes first and no request meets a connection that is just being closed. "
                "A POST that does is answered with 502, because it is never sent twice."
            ),
        ),
        default="1s",
    ),
    Option("keepalive_requests", "int", ("Requests after which a connection to an instance is closed.",), default=1000, minimum=1, maximum=1000000),
    Option(
        "unshared_services",
        "list",
        (
            "HTTP services whose connections are never used for a second request, as with the service meta C(edge_keepalive=false).",
            (
                "For instances that tie state to the connection. "
                "A request with C(Authorization: NTLM) or C(Negotiate) always closes its connection, for every service."
            ),
        ),
        default=(),
        elements="service",
    ),
    Option(
        "next_upstream",
        "list",
        (
            "What makes the edge try another instance of an HTTP service. An empty list means never.",
            "A request that changes something (POST, LOCK, PATCH) is never sent twice.",
            (
                "Each condition listed here also counts for O(_input.max_fails). The status codes are therefore not in the default: "
                "one page that answers 503 would take its instance out of service."
            ),
        ),
        default=("error", "timeout"),
        elements="choice",
        choices=RETRY_CONDITIONS,
    ),
    Option(
        "next_upstream_tries",
        "int",
        (
            "Instances that are tried for one request or connection, the first one included.",
            "On O(_input.tls_port) at least three, because an only instance is tried that often there.",
        ),
        default=3,
        minimum=1,
        maximum=100,
    ),
    Option(
        "next_upstream_timeout",
        "duration",
        (
            "Time after which no further instance is tried. Keeps a slow request from being repeated.",
            "On O(_input.tls_port) at least three times O(_input.connect_timeout).",
        ),
        default="10s",
    ),
    Option(
        "request_limit",
        "int",
        (
            ("Requests of one client address that the edge works on at once, over all HTTP services; what is too much gets 429. V(0) sets no limit."),
            (
                "A client that sends requests slowly, or never reads the answers, cannot take the edge from the others. "
                "The default is more than a hospital behind one address has at once; connections without a request do not count."
            ),
        ),
        default=1000,
        minimum=0,
        maximum=1000000,
    ),
    Option(
        "connection_limit",
        "int",
        (
            (
                "Connections that one client address has open at once to TCP services and to the TLS port, all together; "
                "another one is closed. V(0) sets no limit."
            ),
            (
                "On the TLS port idle ones count, too, for as long as O(_input.tls.keepalive_timeout). "
                "C(nginx-edge-apply --status), the status page and the metrics show when a limit refuses clients."
            ),
        ),
        default=2000,
        minimum=0,
        maximum=1000000,
    ),
    Option(
        "unlimited_networks",
        "list",
        (
            (
                "Addresses and networks for which O(_input.request_limit), O(_input.connection_limit) and O(_input.rate_limit) do not count, "
                "such as a gateway behind which thousands of clients are."
            ),
            "They do not count for O(_input.trusted_proxies) either, but for the clients behind them, as far as these name them.",
        ),
        default=(),
        elements="network",
    ),
    Option(
        "rate_limit",
        "int",
        (
            "Requests per second that one client address may send to one HTTP service; what is too much gets 429. V(0) sets no limit.",
            "Many clients behind one address, such as those of a proxy that is none of O(_input.trusted_proxies), share it.",
        ),
        default=0,
        minimum=0,
        maximum=100000,
    ),
    Option(
        "rate_limit_burst",
        "int",
        ("Requests that a client may send at once before O(_input.rate_limit) counts, such as those of one page.",),
        default=100,
        minimum=0,
        maximum=100000,
    ),
    Option(
        "response_header_size",
        "size",
        (
            "Largest header of an answer: its status line and all header fields. A larger one is answered with 502.",
            "The default leaves 32 kB to the fields of the application.",
            "A request that is waited for holds one buffer of this size, of which only what is received takes memory.",
        ),
        default="40k",
        minimum=4096,
        maximum=1 << 20,
    ),
    Option(
        "upgrades",
        "list",
        (
            "Protocols to which a client may change a connection by C(Upgrade), each as the whole value of that header.",
            (
                "After the change neither headers, limits nor the access log apply to what goes over the connection, so V(h2c) is refused here. "
                "For any other value, C(Upgrade) and C(HTTP2-Settings) are not passed on, and the instance answers over HTTP/1.1."
            ),
        ),
        default=("websocket",),
        elements="upgrade",
    ),
    Option(
        "cleared_headers",
        "list",
        (
            "Further request headers that reach an instance only from O(_input.trusted_proxies), because they state what only a proxy can know.",
            (
                "They are added to those that the edge always clears, which the guide lists; O(_input.passed_headers) takes some of these out. "
                "Those that the edge writes itself, such as C(X-Forwarded-For), are never taken from other clients."
            ),
        ),
        default=(),
        elements="cleared_header",
    ),
    Option(
        "passed_headers",
        "list",
        (
            "Request headers of those that the edge always clears which clients may send here.",
            "For an application that does not believe them, or that has a use of its own for the name.",
        ),
        default=(),
        elements="passed_header",
    ),
    Option(
        "underscore_headers",
        "bool",
        (
            "Whether request headers with underscores in their names, such as C(api_key), are passed on. By default nginx drops them without a word.",
            (
                "CGI and WSGI applications cannot tell C(X_Forwarded_User) from C(X-Forwarded-User), "
                "so every spelling of the headers that the edge clears or writes itself stays out."
            ),
            (
                "The directive is written for all of nginx's http block, V(false) too: C(underscores_in_headers) in a file of the operator "
                "would let through what the edge does not clear, and nginx refuses it as a duplicate."
            ),
        ),
        default=False,
    ),
    Option("client_max_body_size", "size", ("Largest request body of an HTTP service. V(0) means any size.",), default="100m"),
    Option(
        "trusted_proxies",
        "list",
        (
            "Addresses and networks of proxies in front of the edge whose C(X-Forwarded-For) and C(X-Forwarded-Proto) are believed.",
            "Empty means that the edge is the outermost proxy and replaces what clients send.",
        ),
        default=(),
        elements="network",
    ),
    Option(
        "request_id",
        "choice",
        ("Whether a well-formed C(X-Request-ID) of the client is kept (V(accept)) or always replaced (V(generate)).",),
        default="accept",
        choices=("accept", "generate"),
    ),
    Option("canary", "dict", ("Gray release of HTTP services: how traffic gets to the instances with service meta C(edge_canary).",), suboptions=CANARY),
    Option(
        "internal",
        "dict",
        ("Services for callers inside, on every node that has this: they get balancing and another try where bare DNS answers give one address.",),
        suboptions=INTERNAL,
    ),
    Option(
        "remote_services",
        "list",
        (
            "Services that also, or only, have instances in another data centre. Their tags and service meta count there as they do here.",
            "P(trinode.platform.edge_datacenters#filter) gives the sources that fetch them, for a consul-template of its own.",
        ),
        default=(),
        elements="dict",
        suboptions=REMOTE_SERVICE,
    ),
    Option(
        "remote_directory",
        "directory",
        ("Directory in which each other data centre of O(_input.remote_services) has a file with its instances, C(datacenter-NAME.json).",),
        default="/var/lib/nginx-edge/staging",
    ),
    Option("tls", "dict", ("TLS that the edge ends itself, in front of HTTP services.",), suboptions=TLS),
    Option(
        "proxy_protocol",
        "bool",
        (
            "Whether TCP services get a PROXY protocol header with the client's address, where the service meta C(edge_proxy_protocol) does not say otherwise.",
            "A service that does not expect the header breaks with it.",
        ),
        default=False,
    ),
    Option(
        "http_access_log",
        "log",
        (
            "File of the HTTP access log, or V(off). A line is there at most a second after its request.",
            "What a client writes is cut, and ends with V(...) then.",
            "The path, or the request line, has 1024 characters, the user agent 256, the host name 255, the method 32.",
        ),
        default="/var/log/nginx/edge-http.log",
    ),
    Option("tcp_access_log", "log", ("File of the TCP and TLS access log, or V(off).",), default="/var/log/nginx/edge-tcp.log"),
    Option("log_format", "choice", ("Whether an access log line is a JSON object or plain C(key=value) text.",), default="json", choices=("json", "text")),
    Option(
        "map_hash_bucket_size",
        "int",
        ("Value of nginx's C(map_hash_bucket_size) in the stream block; long host names need it. V(0) leaves the directive out, for an operator who sets it.",),
        default=512,
        minimum=0,
        maximum=65536,
    ),
    Option(
        "max_services",
        "int",
        (
            "Services with one tag that are looked at, at most. What comes later in the fixed order is refused, and consul-template does not ask for it.",
            (
                "It asks Consul about each of the others on a connection of its own. "
                "P(trinode.platform.edge_connections#filter) works out from this what both sides need."
            ),
        ),
        default=3000,
        minimum=1,
        maximum=10000,
    ),
    Option("max_instances", "int", ("Instances of one service that are used at most.",), default=200, minimum=1, maximum=1000),
    Option("max_reports", "int", ("Refusals that each side lists one by one. What is beyond is only counted.",), default=500, minimum=1, maximum=10000),
)
