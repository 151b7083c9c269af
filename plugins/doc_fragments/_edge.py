# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The description of an edge, as both edge filters take it. Private to the collection. Written from the schema by its unit test."""

from __future__ import annotations


class ModuleDocFragment:
    """Shared documentation."""

    DOCUMENTATION = r"""
options:
  _input:
    description:
    - The description of the edge. The same one serves both sides; each side checks all of it.
    type: dict
    required: true
    suboptions:
      domain:
        description:
        - Domain of the exposed services. The service C(web) is reached as C(web.) followed by this domain.
        type: str
        required: true
      public:
        description:
        - Whether there is a public side. Without it, only O(_input.internal) is left, for a node that is no edge.
        type: bool
        default: true
      http_port:
        description:
        - Port on which HTTP services are exposed.
        type: int
        default: 80
      tls_port:
        description:
        - 'Port of TLS, where the client names the service by SNI: passed through untouched, or ended by the edge with O(_input.tls.certificates).'
        type: int
        default: 443
      http_tag:
        description:
        - Tag of an instance that is to be exposed over HTTP.
        type: str
        default: http
      tcp_tag:
        description:
        - Tag of an instance that is to be exposed on a TCP port of its own.
        type: str
        default: tcp
      tls_tag:
        description:
        - Tag of an instance that is to be exposed on the TLS port by its name.
        type: str
        default: tls
      listen_addresses:
        description:
        - Addresses of the edge node to listen on. An empty list means every IPv4 address, and every IPv6 address too with O(_input.ipv6).
        type: list
        elements: str
        default: []
      ipv6:
        description:
        - Whether to listen on every IPv6 address too. Has no effect when O(_input.listen_addresses) is set.
        type: bool
        default: false
      host_names:
        description:
        - Host names that services may take, over HTTP and by SNI. V(*) stands for any part of the first label.
        - An empty list means every name directly below O(_input.domain).
        type: list
        elements: str
        default: []
      reserved_host_names:
        description:
        - Host names below O(_input.domain) that no service gets, because the operator serves them. V(*) stands for any part of the first label.
        - No service gets a name that only looks like one of them, either.
        type: list
        elements: str
        default: []
      tcp_ports:
        description:
        - 'Ports that services with O(_input.tcp_tag) may take: single ports and ranges such as V(9000-9999).'
        type: list
        elements: str
        default:
        - 1024-65535
      reserved_ports:
        description:
        - Ports of the edge node that the platform or the operator holds. They are never given to a service.
        - O(_input.http_port) and O(_input.tls_port) are always reserved.
        type: list
        elements: int
        default: []
      backend_reserved_ports:
        description:
        - Ports to which the edge never connects, at any address. A registration that names one of them is refused, so that no one can expose the node's
          own interfaces (SSH, DNS, the Docker API, Consul, status pages) by registering their address.
        type: list
        elements: int
        default:
        - 22
        - 53
        - 2375
        - 2376
        - 8098
        - 8099
        - 8300
        - 8301
        - 8302
        - 8500
        - 8501
        - 8502
        - 8503
        - 8600
      edge_addresses:
        description:
        - 'Addresses of all edge nodes. An instance at one of them is refused when its port is one that an edge listens on or one of O(_input.reserved_ports):
          the edge would connect to itself, or expose what belongs to the node.'
        - The addresses of O(_input.listen_addresses) and O(_input.internal.listen_addresses) always count; so does loopback where the edge listens on it.
        type: list
        elements: str
        default: []
      unexposed_services:
        description:
        - Services that are never exposed, in whatever spelling and with whatever tags.
        - 'Sidecar proxies of Consul Connect need not be listed, nor gateways that C(consul connect envoy -register) registered. Other gateways cannot be
          told from services: the default has the names that Consul gives them, and those with other names belong here.'
        type: list
        elements: str
        default:
        - mesh-gateway
        - terminating-gateway
        - ingress-gateway
      protected_services:
        description:
        - Services whose names nobody else gets in another spelling, even while they have no instance themselves.
        - Nothing else that looks like one of them is exposed, such as C(bi11ing) or C(bil-ling) for C(billing).
        - Consul's ACLs distinguish upper and lower case, its catalogue and its DNS do not. A token that may not write C(billing) can register C(Billing),
          which has the same host name or port at an edge.
        type: list
        elements: str
        default: []
      allow_loopback:
        description:
        - Whether an instance may have a loopback address. That is the edge node itself, so it is refused outside of tests and single-node trials.
        type: bool
        default: false
      accept_warning:
        description:
        - Whether instances whose checks warn get traffic too, with Consul's C(Weights.Warning). By default only passing instances do.
        type: bool
        default: false
      connect_timeout:
        description:
        - How long a connection to one of several instances may take.
        - Short, because a lost node answers nothing at all and another instance is waiting.
        type: str
        default: 400ms
      only_connect_timeout:
        description:
        - How long a connection to the only instance of a service may take.
        - 'Longer than one second, after which a kernel sends a lost packet again: a lost packet, or an instance that accepts no connection for a moment,
          is a wait and not an error. On O(_input.tls_port), where there is one limit for all names, an only instance is tried up to three times instead.'
        type: str
        default: 2s
      read_timeout:
        description:
        - How long an HTTP instance may be silent before the request fails. Also ends a WebSocket on which nothing is said for so long.
        type: str
        default: 60s
      send_timeout:
        description:
        - How long an HTTP instance may take nothing of a request before the request fails.
        type: str
        default: 60s
      idle_timeout:
        description:
        - How long a TCP or TLS connection may be silent in both directions before it is closed.
        type: str
        default: 10m
      preread_timeout:
        description:
        - How long a client may take for the TLS hello that carries the name it wants.
        type: str
        default: 5s
      max_fails:
        description:
        - Failed attempts within O(_input.fail_timeout) after which an instance gets no traffic for that time. V(0) turns it off.
        - More than one, because a lost packet is such an attempt and no reason to do without an instance.
        - From V(0) to V(100).
        type: int
        default: 3
      fail_timeout:
        description:
        - The time that O(_input.max_fails) counts in, and that a failed instance is left alone.
        type: str
        default: 5s
      keepalive:
        description:
        - Idle connections that each worker keeps open to the instances of an HTTP service. V(0) turns reuse off.
        - From V(0) to V(10000).
        type: int
        default: 32
      keepalive_timeout:
        description:
        - How long an idle connection to an instance is kept.
        - Shorter than the keep-alive time of common servers (gunicorn 2 seconds, Node and uvicorn 5, Tomcat 20), so that the edge closes first and no request
          meets a connection that is just being closed. A POST that does is answered with 502, because it is never sent twice.
        type: str
        default: 1s
      keepalive_requests:
        description:
        - Requests after which a connection to an instance is closed.
        - From V(1) to V(1000000).
        type: int
        default: 1000
      unshared_services:
        description:
        - HTTP services whose connections are never used for a second request, as with the service meta C(edge_keepalive=false).
        - 'For instances that tie state to the connection. A request with C(Authorization: NTLM) or C(Negotiate) always closes its connection, for every
          service.'
        type: list
        elements: str
        default: []
      next_upstream:
        description:
        - What makes the edge try another instance of an HTTP service. An empty list means never.
        - A request that changes something (POST, LOCK, PATCH) is never sent twice.
        - 'Each condition listed here also counts for O(_input.max_fails). The status codes are therefore not in the default: one page that answers 503
          would take its instance out of service.'
        type: list
        elements: str
        default:
        - error
        - timeout
        choices:
        - error
        - timeout
        - invalid_header
        - http_500
        - http_502
        - http_503
        - http_504
        - http_429
      next_upstream_tries:
        description:
        - Instances that are tried for one request or connection, the first one included.
        - On O(_input.tls_port) at least three, because an only instance is tried that often there.
        - From V(1) to V(100).
        type: int
        default: 3
      next_upstream_timeout:
        description:
        - Time after which no further instance is tried. Keeps a slow request from being repeated.
        - On O(_input.tls_port) at least three times O(_input.connect_timeout).
        type: str
        default: 10s
      request_limit:
        description:
        - Requests of one client address that the edge works on at once, over all HTTP services; what is too much gets 429. V(0) sets no limit.
        - A client that sends requests slowly, or never reads the answers, cannot take the edge from the others. The default is more than a hospital behind
          one address has at once; connections without a request do not count.
        - From V(0) to V(1000000).
        type: int
        default: 1000
      connection_limit:
        description:
        - Connections that one client address has open at once to TCP services and to the TLS port, all together; another one is closed. V(0) sets no limit.
        - On the TLS port idle ones count, too, for as long as O(_input.tls.keepalive_timeout). C(nginx-edge-apply --status), the status page and the metrics
          show when a limit refuses clients.
        - From V(0) to V(1000000).
        type: int
        default: 2000
      unlimited_networks:
        description:
        - Addresses and networks for which O(_input.request_limit), O(_input.connection_limit) and O(_input.rate_limit) do not count, such as a gateway
          behind which thousands of clients are.
        - They do not count for O(_input.trusted_proxies) either, but for the clients behind them, as far as these name them.
        type: list
        elements: str
        default: []
      rate_limit:
        description:
        - Requests per second that one client address may send to one HTTP service; what is too much gets 429. V(0) sets no limit.
        - Many clients behind one address, such as those of a proxy that is none of O(_input.trusted_proxies), share it.
        - From V(0) to V(100000).
        type: int
        default: 0
      rate_limit_burst:
        description:
        - Requests that a client may send at once before O(_input.rate_limit) counts, such as those of one page.
        - From V(0) to V(100000).
        type: int
        default: 100
      response_header_size:
        description:
        - 'Largest header of an answer: its status line and all header fields. A larger one is answered with 502.'
        - The default leaves 32 kB to the fields of the application.
        - A request that is waited for holds one buffer of this size, of which only what is received takes memory.
        type: str
        default: 40k
      upgrades:
        description:
        - Protocols to which a client may change a connection by C(Upgrade), each as the whole value of that header.
        - After the change neither headers, limits nor the access log apply to what goes over the connection, so V(h2c) is refused here. For any other value,
          C(Upgrade) and C(HTTP2-Settings) are not passed on, and the instance answers over HTTP/1.1.
        type: list
        elements: str
        default:
        - websocket
      cleared_headers:
        description:
        - Further request headers that reach an instance only from O(_input.trusted_proxies), because they state what only a proxy can know.
        - They are added to those that the edge always clears, which the guide lists; O(_input.passed_headers) takes some of these out. Those that the edge
          writes itself, such as C(X-Forwarded-For), are never taken from other clients.
        type: list
        elements: str
        default: []
      passed_headers:
        description:
        - Request headers of those that the edge always clears which clients may send here.
        - For an application that does not believe them, or that has a use of its own for the name.
        type: list
        elements: str
        default: []
      underscore_headers:
        description:
        - Whether request headers with underscores in their names, such as C(api_key), are passed on. By default nginx drops them without a word.
        - CGI and WSGI applications cannot tell C(X_Forwarded_User) from C(X-Forwarded-User), so every spelling of the headers that the edge clears or writes
          itself stays out.
        - 'The directive is written for all of nginx''s http block, V(false) too: C(underscores_in_headers) in a file of the operator would let through
          what the edge does not clear, and nginx refuses it as a duplicate.'
        type: bool
        default: false
      client_max_body_size:
        description:
        - Largest request body of an HTTP service. V(0) means any size.
        type: str
        default: 100m
      trusted_proxies:
        description:
        - Addresses and networks of proxies in front of the edge whose C(X-Forwarded-For) and C(X-Forwarded-Proto) are believed.
        - Empty means that the edge is the outermost proxy and replaces what clients send.
        type: list
        elements: str
        default: []
      request_id:
        description:
        - Whether a well-formed C(X-Request-ID) of the client is kept (V(accept)) or always replaced (V(generate)).
        type: str
        default: accept
        choices:
        - accept
        - generate
      canary:
        description:
        - 'Gray release of HTTP services: how traffic gets to the instances with service meta C(edge_canary).'
        type: dict
        suboptions:
          share:
            description:
            - Percentage of the requests that go to the canary instances of a service whose canaries carry no service meta C(edge_canary_share).
            - From V(0) to V(100).
            type: int
            default: 10
          by:
            description:
            - What the share is a share of.
            - With V(request) every request is drawn anew, so the share is exact also when all clients come from one address.
            - With V(client) a client address always gets the same answer as long as the share stays.
            type: str
            default: request
            choices:
            - request
            - client
          header:
            description:
            - Request header that overrules the share. Its value V(always) asks for a canary, V(never) for a stable instance. An empty string turns it off.
            type: str
            default: X-Canary
          cookie:
            description:
            - Cookie that overrules the share, with the values of the header; the header wins over the cookie. An empty string turns it off.
            type: str
            default: canary
        default: {}
      internal:
        description:
        - 'Services for callers inside, on every node that has this: they get balancing and another try where bare DNS answers give one address.'
        type: dict
        suboptions:
          listen_addresses:
            description:
            - Addresses of the node at which callers inside reach services, such as that of Docker's bridge. An empty list means no internal side.
            - They must be the node's alone and the same on every node. What listens there is not reached at any other address.
            type: list
            elements: str
            default: []
          domain:
            description:
            - Domain of the services on the internal side. The service C(web) is reached as C(web.) followed by this domain.
            - Left out, it is C(internal.) followed by O(_input.domain). The operator's DNS has a wildcard record of it to O(_input.internal.listen_addresses).
            type: str
          http_port:
            description:
            - Port of the HTTP services on the internal side.
            type: int
            default: 80
          http_tag:
            description:
            - Tag of an instance that is to be reached inside over HTTP. It may be O(_input.http_tag), so that whatever is exposed is reached inside as
              well.
            type: str
            default: http-internal
          tcp_tag:
            description:
            - Tag of an instance that is to be reached inside on a TCP port of its own. It may be O(_input.tcp_tag).
            type: str
            default: tcp-internal
          tcp_ports:
            description:
            - 'Ports that services with O(_input.internal.tcp_tag) may take: single ports and ranges such as V(9000-9999).'
            type: list
            elements: str
            default:
            - 1024-65535
          allowed_networks:
            description:
            - 'Where callers inside come from: the networks of the containers, and the node itself. Others are refused, should they find a way to the address.'
            - The default holds the networks that Docker takes first.
            type: list
            elements: str
            default:
            - 127.0.0.0/8
            - 172.16.0.0/12
            - ::1/128
        default: {}
      remote_services:
        description:
        - Services that also, or only, have instances in another data centre. Their tags and service meta count there as they do here.
        - P(trinode.platform.edge_datacenters#filter) gives the sources that fetch them, for a consul-template of its own.
        type: list
        elements: dict
        suboptions:
          name:
            description:
            - Name of the service, as the catalogue of the other data centre has it.
            type: str
            required: true
          datacenter:
            description:
            - Name of the other data centre. The one of the edge node must be joined with it.
            type: str
            required: true
          use:
            description:
            - When the instances there get traffic. With V(backup) only while no instance of the service here answers, which each request finds out anew.
            - With V(always) like those here.
            type: str
            default: backup
            choices:
            - backup
            - always
        default: []
      remote_directory:
        description:
        - Directory in which each other data centre of O(_input.remote_services) has a file with its instances, C(datacenter-NAME.json).
        type: str
        default: /var/lib/nginx-edge/staging
      tls:
        description:
        - TLS that the edge ends itself, in front of HTTP services.
        type: dict
        suboptions:
          certificates:
            description:
            - Certificates with which the edge ends TLS on O(_input.tls_port) for HTTP services. An empty list means that it ends none.
            - The names of services with O(_input.tls_tag) are passed through untouched all the same.
            type: list
            elements: dict
            suboptions:
              name:
                description:
                - Name of the certificate. The file with its chain and its key, as PEM, is C(NAME.pem) in O(_input.tls.certificate_directory).
                type: str
                required: true
              host_names:
                description:
                - Host names directly below O(_input.domain) that the certificate covers. V(*) as the first label stands for every name there.
                - An exact name wins over V(*). An empty list means V(*).
                type: list
                elements: str
                default: []
            default: []
          https:
            description:
            - How an HTTP service is reached whose host name a certificate covers and whose service meta C(edge_https) does not say otherwise.
            - With V(redirect) over HTTPS, and O(_input.http_port) answers with a redirect to it. With V(both) over HTTP and HTTPS. With V(off) over HTTP.
            type: str
            default: redirect
            choices:
            - redirect
            - both
            - 'off'
          profile:
            description:
            - Which clients are understood, as in Mozilla's Server Side TLS guidelines.
            - V(intermediate) takes TLS 1.2 with authenticated ciphers and forward secrecy, and TLS 1.3. V(modern) takes TLS 1.3 only.
            type: str
            default: intermediate
            choices:
            - intermediate
            - modern
          http2:
            description:
            - How HTTP/2 is switched on. V(listen) is understood by every nginx; from 1.25.1 on it warns once for each server, and V(directive) does not.
            - V(legacy) is V(listen) for nginx before 1.19.7, such as that of Debian 11 and Ubuntu 22.04, which has a limit of its own, 4 kB, for header
              fields over HTTP/2.
            - V(off) leaves clients with HTTP/1.1.
            type: str
            default: listen
            choices:
            - listen
            - directive
            - legacy
            - 'off'
          hsts_max_age:
            description:
            - Seconds for which a browser that was there once uses HTTPS only (C(Strict-Transport-Security)). V(0) sends no such header.
            - Browsers can't be talked out of it before that time is over.
            - From V(0) to V(63072000).
            type: int
            default: 0
          keepalive_timeout:
            description:
            - How long a client's connection over HTTPS may be idle before the edge closes it.
            - 'Shorter than nginx''s 75 seconds, because such a connection counts for O(_input.connection_limit) and takes three of a worker''s: with a
              limit of 2000 and 20 seconds, 100 browsers behind one address may come anew every second.'
            type: str
            default: 20s
          certificate_directory:
            description:
            - Directory of the certificates on the edge node.
            type: str
            default: /etc/nginx-edge/tls
          socket_directory:
            description:
            - Directory for the unix sockets between the TLS port and the servers that end TLS. It is the operator's to keep others out of it.
            type: str
            default: /run/nginx-edge/tls
        default: {}
      proxy_protocol:
        description:
        - Whether TCP services get a PROXY protocol header with the client's address, where the service meta C(edge_proxy_protocol) does not say otherwise.
        - A service that does not expect the header breaks with it.
        type: bool
        default: false
      http_access_log:
        description:
        - File of the HTTP access log, or V(off). A line is there at most a second after its request.
        - What a client writes is cut, and ends with V(...) then.
        - The path, or the request line, has 1024 characters, the user agent 256, the host name 255, the method 32.
        type: str
        default: /var/log/nginx/edge-http.log
      tcp_access_log:
        description:
        - File of the TCP and TLS access log, or V(off).
        type: str
        default: /var/log/nginx/edge-tcp.log
      log_format:
        description:
        - Whether an access log line is a JSON object or plain C(key=value) text.
        type: str
        default: json
        choices:
        - json
        - text
      map_hash_bucket_size:
        description:
        - Value of nginx's C(map_hash_bucket_size) in the stream block; long host names need it. V(0) leaves the directive out, for an operator who sets
          it.
        - From V(0) to V(65536).
        type: int
        default: 512
      max_services:
        description:
        - Services with one tag that are looked at, at most. What comes later in the fixed order is refused, and consul-template does not ask for it.
        - It asks Consul about each of the others on a connection of its own. P(trinode.platform.edge_connections#filter) works out from this what both
          sides need.
        - From V(1) to V(10000).
        type: int
        default: 3000
      max_instances:
        description:
        - Instances of one service that are used at most.
        - From V(1) to V(1000).
        type: int
        default: 200
      max_reports:
        description:
        - Refusals that each side lists one by one. What is beyond is only counted.
        - From V(1) to V(10000).
        type: int
        default: 500
"""
