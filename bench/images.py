# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The images of the instances, made on the nodes from the distribution's own programs: no registry has to be reached."""

from __future__ import annotations

from bench.lab import Lab, Node, docker

# An nginx that answers with its own name and the host name that it was asked for: fast enough not to be what is measured.
PAGE = "trinode-bench/page:1"
PAGE_PORT = 8080
# Some 2 MB: what hundreds of containers cost then is what the platform costs.
SMALL = "trinode-bench/small:1"

PAGE_CONFIG = f"""\
daemon off;
worker_processes 1;
error_log stderr;
pid /tmp/nginx.pid;
events {{
    worker_connections 1024;
}}
http {{
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path /tmp/body;
    proxy_temp_path /tmp/proxy;
    fastcgi_temp_path /tmp/fastcgi;
    uwsgi_temp_path /tmp/uwsgi;
    scgi_temp_path /tmp/scgi;
    server {{
        listen {PAGE_PORT};
        default_type text/plain;
        return 200 "$hostname $host\\n";
    }}
}}
"""

# Runs on an edge, which has nginx.
PAGE_BUILD = f"""\
set -eu
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/etc/nginx" "$root/tmp" "$root/run" "$root/var/log/nginx" "$root/var/lib/nginx"
cat > "$root/etc/nginx/nginx.conf"
for file in /usr/sbin/nginx $(ldd /usr/sbin/nginx | grep -o '/[^ ]*'); do
    install -D -m 755 "$file" "$root$file"
done
printf 'root:x:0:0::/:/\nnobody:x:65534:65534::/:/\n' > "$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' > "$root/etc/group"
chmod 1777 "$root/tmp"
tar -C "$root" -c . | docker import --change 'EXPOSE {PAGE_PORT}' --change 'CMD ["/usr/sbin/nginx", "-c", "/etc/nginx/nginx.conf"]' - {PAGE} >/dev/null
"""

SMALL_BUILD = f"""\
set -eu
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
cd "$root"
apt-get download -qq busybox-static >/dev/null || {{ apt-get update -qq && apt-get download -qq busybox-static >/dev/null; }}
dpkg -x busybox-static_*.deb unpacked
mkdir -p image/bin image/www
cp unpacked/bin/busybox image/bin/
tar -C image -c . | docker import --change 'EXPOSE 8080' --change 'CMD ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/www"]' - {SMALL} >/dev/null
"""


def _spread(lab: Lab, first: Node, image: str) -> None:
    """Bring an image from one node to the others."""
    saved = docker("exec", first.container, "docker", "save", image, timeout=120).stdout
    for node in lab.nodes:
        if node is not first:
            docker("exec", "-i", node.container, "docker", "load", "--quiet", data=saved, timeout=120)


def make_page(lab: Lab) -> None:
    """The page image on every node."""
    first = lab.edges[0]
    first.run(PAGE_BUILD, data=PAGE_CONFIG.encode(), timeout=120)
    _spread(lab, first, PAGE)


def make_small(node: Node) -> None:
    """The small image on a node."""
    node.run(SMALL_BUILD, timeout=300)


def remove_images(lab: Lab) -> None:
    """Remove both; one that is not there is no error."""
    for node in lab.nodes:
        node.run(f"docker image rm -f {PAGE} {SMALL} >/dev/null 2>&1; true", timeout=120)


def install(node: Node, package: str) -> bool:
    """Install a package of the distribution on a node; gives whether it was missing."""
    if node.run(f"dpkg-query -W -f '${{db:Status-Status}}' {package} 2>/dev/null || true") == "installed":
        return False
    command = f"apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 {package} >/dev/null"
    node.run(f"export DEBIAN_FRONTEND=noninteractive; {command} || {{ apt-get update -qq && {command}; }}", timeout=300)
    return True


def purge(node: Node, package: str) -> None:
    """Take a package out again, with what only it needed."""
    node.run(f"DEBIAN_FRONTEND=noninteractive apt-get purge -y -qq --auto-remove -o Dpkg::Use-Pty=0 {package} >/dev/null", timeout=300)
