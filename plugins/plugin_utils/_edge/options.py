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
# What every node listens on: SSH, DNS, the Docker API, the edge's status page, registrator's metrics, and Consul's RPC,
# gossip, HTTP(S), gRPC and DNS.
PLATFORM_PORTS = (22, 53, 2375, 2376, 8098, 8099, 8300, 8301, 8302, 8500, 8501, 8502, 8503, 8600)

SCHEMA: tuple[Option, ...] = (
    Option(
        "domain",
        "domain",
        ("Domain of the exposed services. The service C(web) is reached as C(web.) followed by this domain.",),
        required=True,
    ),
    Option("public", "bool", ("Whether there is a public side. Without it, only O(_input.internal) remains, for a node that is not an edge.",), default=True),
    Option("http_port", "port", ("Port on which HTTP services are exposed.",), default=80),
    Option(
        "tls_port",
        "port",
        ("Port of TLS, where the client selects the service by SNI. TLS is passed through, or terminated by the edge with O(_input.tls.certificates).",),
        default=443,
    ),
    Option("http_tag", "tag", ("Tag of instances that are exposed over HTTP.",), default="http"),
    Option("tcp_tag", "tag", ("Tag of instances that are exposed on a dedicated TCP port.",), default="tcp"),
    Option("tls_tag", "tag", ("Tag of instances that are exposed on the TLS port by their name.",), default="tls"),
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
            "Host names that services may take, over HTTP and by SNI. V(*) matches any part of the first label.",
            "An empty list means every name directly below O(_input.domain).",
        ),
        default=(),
        elements="host_pattern",
    ),
    Option(
        "reserved_host_names",
        "list",
        (
            "Host names below O(_input.domain) that no service gets, because the operator serves them. V(*) matches any part of the first label.",
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
            "Ports of the edge node that the platform or the operator uses. No service gets them.",
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
                "Addresses of all edge nodes. An instance at one of them is refused if its port is one that an edge listens on or one of "
                "O(_input.reserved_ports): the edge would connect to itself, or expose what belongs to the node."
            ),
            "The addresses of O(_input.listen_addresses) and O(_input.internal.listen_addresses) always count, and loopback if the edge listens on it.",
        ),
        default=(),
        elements="own_ip",
    ),
    Option(
        "unexposed_services",
        "list",
        (
            "Services that are never exposed, regardless of spelling and tags.",
            (
                "Sidecar proxies of Consul Connect need not be listed, nor gateways that C(consul connect envoy -register) registered. "
                "Other gateways cannot be distinguished from services: the default has the names that Consul gives them; add gateways with other names."
            ),
        ),
        default=("mesh-gateway", "terminating-gateway", "ingress-gateway"),
        elements="service",
    ),
    Option(
        "protected_services",
        "list",
        (
            "Services whose names no other service gets in another spelling, even while they have no instance.",
            "Services with names that look like one of them are not exposed, such as C(bi11ing) or C(bil-ling) for C(billing).",
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
        ("Whether an instance may have a loopback address. This is the edge node itself, so enable it only for tests and on a single node.",),
        default=False,
    ),
    Option(
        "accept_warning",
        "bool",
        ("Whether instances in the warning state get traffic too, with Consul's C(Weights.Warning). By default only passing instances do.",),
        default=False,
    ),
    Option(
        "connect_timeout",
        "duration",
        (
            "How long a connection to one of several instances may take.",
            "Short, because a lost node does not answer and another instance is available.",
        ),
        default="400ms",
    ),
    Option(
        "only_connect_timeout",
        "duration",
        (
            "How long a connection to the only instance of a service may take.",
            (
                "Longer than one second, after which a kernel retransmits a lost packet: a lost packet, or an instance that accepts no "
                "connection for a moment, causes a delay and not an error. On O(_input.tls_port), which has one timeout for all names, an only instance is "
                "tried up to three times instead."
            ),
        ),
        default="2s",
    ),
    Option(
        "read_timeout",
        "duration",
        ("How long an HTTP instance may be silent before the request fails. Also closes a WebSocket that is idle for this time.",),
        default="60s",
    ),
    Option("send_timeout", "duration", ("How long an HTTP instance may accept no data of a request before the request fails.",), default="60s"),
    Option("idle_timeout", "duration", ("How long a TCP or TLS connection may be silent in both directions before it is closed.",), default="10m"),
    Option("preread_timeout", "duration", ("How long a client may take to send the TLS ClientHello with the name of the service.",), default="5s"),
    Option(
        "max_fails",
        "int",
        (
            "Failed attempts within O(_input.fail_timeout) after which an instance gets no traffic for that time. V(0) turns it off.",
            "More than one, because a single lost packet is no reason to stop using an instance.",
        ),
        default=3,
        minimum=0,
        maximum=100,
    ),
    Option("fail_timeout", "duration", ("The period in which O(_input.max_fails) counts, and for which a failed instance gets no traffic.",), default="5s"),
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
                "so that the edge closes first and no request uses a connection that is just being closed. "
                "A POST on such a connection is answered with 502, because it is never sent twice."
            ),
        ),
        default="1s",
    ),
    Option("keepalive_requests", "int", ("Requests after which a connection to an instance is closed.",), default=1000, minimum=1, maximum=1000000),
    Option(
        "unshared_services",
        "list",
        (
            "HTTP services whose connections are never reused for a second request, as with the service meta C(edge_keepalive=false).",
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
            "Conditions on which the edge tries another instance of an HTTP service. An empty list means never.",
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
            ("Simultaneous requests of one client address, over all HTTP services; further requests get 429. V(0) sets no limit."),
            (
                "A client that sends requests slowly, or never reads the answers, cannot block the edge for others. "
                "The default is more than a hospital behind one address needs; connections without a request do not count."
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
                "Simultaneous connections of one client address to TCP services and to the TLS port together; "
                "further connections are closed. V(0) sets no limit."
            ),
            (
                "On the TLS port, idle connections count as well, for O(_input.tls.keepalive_timeout). "
                "C(nginx-edge-apply --status), the status page and the metrics show whether a limit refuses clients."
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
                "Addresses and networks for which O(_input.request_limit), O(_input.connection_limit) and O(_input.rate_limit) do not apply, "
                "such as a gateway with thousands of clients behind it."
            ),
            "They do not apply to O(_input.trusted_proxies) either, but to the clients that these proxies report.",
        ),
        default=(),
        elements="network",
    ),
    Option(
        "rate_limit",
        "int",
        (
            "Requests per second that one client address may send to one HTTP service; further requests get 429. V(0) sets no limit.",
            "Clients behind one address share it, for example behind a proxy that is not in O(_input.trusted_proxies).",
        ),
        default=0,
        minimum=0,
        maximum=100000,
    ),
    Option(
        "rate_limit_burst",
        "int",
        ("Requests that a client may send at once before O(_input.rate_limit) applies, such as those of one page.",),
        default=100,
        minimum=0,
        maximum=100000,
    ),
    Option(
        "response_header_size",
        "size",
        (
            "Largest header of a response: its status line and all header fields. A larger one is answered with 502.",
            "The default leaves 32 kB for the fields of the application.",
            "A pending request has one buffer of this size, of which only the received part uses memory.",
        ),
        default="40k",
        minimum=4096,
        maximum=1 << 20,
    ),
    Option(
        "upgrades",
        "list",
        (
            "Protocols to which a client may upgrade a connection with C(Upgrade), each as the complete value of that header.",
            (
                "After the upgrade, headers, limits and the access log do not apply to the connection, so V(h2c) is not allowed. "
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
            "Further request headers that reach an instance only from O(_input.trusted_proxies), because only a proxy can know their values.",
            (
                "They are added to those that the edge always clears, which the filter guide lists; O(_input.passed_headers) removes some of these. "
                "Headers that the edge writes itself, such as C(X-Forwarded-For), are never accepted from other clients."
            ),
        ),
        default=(),
        elements="cleared_header",
    ),
    Option(
        "passed_headers",
        "list",
        (
            "Request headers that clients may send although the edge clears them by default.",
            "For an application that does not trust them, or that uses the name for another purpose.",
        ),
        default=(),
        elements="passed_header",
    ),
    Option(
        "underscore_headers",
        "bool",
        (
            "Whether request headers with underscores in their names, such as C(api_key), are passed on. By default, nginx drops them silently.",
            (
                "CGI and WSGI applications cannot distinguish C(X_Forwarded_User) from C(X-Forwarded-User), "
                "so no spelling of the headers that the edge clears or writes itself is passed on."
            ),
            (
                "The directive is written for the whole http block of nginx, even with V(false): C(underscores_in_headers) in a file of the operator "
                "would pass headers that the edge does not clear; nginx rejects it as a duplicate."
            ),
        ),
        default=False,
    ),
    Option("client_max_body_size", "size", ("Largest request body of an HTTP service. V(0) means any size.",), default="100m"),
    Option(
        "trusted_proxies",
        "list",
        (
            "Addresses and networks of proxies in front of the edge whose C(X-Forwarded-For) and C(X-Forwarded-Proto) are trusted.",
            "If empty, the edge is the outermost proxy and replaces what clients send.",
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
    Option("canary", "dict", ("Gray release of HTTP services: how traffic is sent to instances with the service meta C(edge_canary).",), suboptions=CANARY),
    Option(
        "internal",
        "dict",
        ("Services for internal callers, on every node with this setting: with load balancing and retries, which DNS alone does not provide.",),
        suboptions=INTERNAL,
    ),
    Option(
        "remote_services",
        "list",
        (
            "Services with additional instances, or all their instances, in another data centre.",
            "Tags and service meta of these instances work as for local ones.",
            "P(trinode.platform.edge_datacenters#filter) returns the sources that fetch them, for a separate consul-template.",
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
    Option("tls", "dict", ("TLS that the edge terminates, in front of HTTP services.",), suboptions=TLS),
    Option(
        "proxy_protocol",
        "bool",
        (
            "Whether TCP services get a PROXY protocol header with the client's address, unless the service meta C(edge_proxy_protocol) overrides it.",
            "A service that does not expect the header fails.",
        ),
        default=False,
    ),
    Option(
        "http_access_log",
        "log",
        (
            "File of the HTTP access log, or V(off). A line is written at most a second after its request.",
            "Long values from clients are cut, and then end with V(...).",
            "The path or request line has at most 1024 characters, the user agent 256, the host name 255, the method 32.",
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
            "Maximum number of services with one tag. Services that come later in the fixed order are refused, and consul-template does not query them.",
            ("It queries each of the others on a separate connection. P(trinode.platform.edge_connections#filter) computes from this what both sides need."),
        ),
        default=3000,
        minimum=1,
        maximum=10000,
    ),
    Option("max_instances", "int", ("Maximum number of instances of one service.",), default=200, minimum=1, maximum=1000),
    Option("max_reports", "int", ("Maximum number of refusals that each side lists. Further ones are only counted.",), default=500, minimum=1, maximum=10000),
)
