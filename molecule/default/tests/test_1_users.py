# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the user of each service, and nginx behind its fence, reach on a node: attempted, not read from the units."""

from __future__ import annotations

import json

import lab
import pytest

# Where the platform keeps what is its own, and where root runs what is written.
PLACES = (
    *(
        "/etc/consul.d",
        "/etc/consul-template.d",
        "/etc/registrator",
        "/etc/nginx",
        "/etc/nginx-edge",
        "/etc/systemd/system",
        "/etc/docker",
        "/etc/cron.d",
    ),
    *(
        "/var/lib/consul",
        "/var/lib/registrator",
        "/var/lib/nginx-edge",
        "/var/lib/nginx",
        "/var/log/nginx",
        "/var/spool/cron",
    ),
    *("/run/registrator", "/run/nginx-edge", "/run/docker.sock", "/run/nginx.pid", "/usr/local", "/root"),
)
# What each user may write to, by how it begins; a user who is not here, nothing.
WRITABLE = {
    "consul": ("/var/lib/consul",),
    "consul-template": ("/var/lib/nginx-edge/staging", "/run/nginx-edge/apply.request"),
    "registrator": ("/run/registrator", "/var/lib/registrator", "/run/docker.sock"),
    # Its own logs and temporary files, and the sockets between its own workers.
    "www-data": ("/var/log/nginx/", "/var/lib/nginx", "/run/nginx-edge/tls"),
}
# Whose secrets each may read.
READABLE = {
    "consul": ("/etc/consul.d/tokens.json", "/etc/consul.d/tls/key.pem", "/var/lib/consul/"),
    "consul-template": ("/etc/consul-template.d/",),
    "registrator": ("/etc/registrator/",),
}
NOTHING = ("nothing",)
# Runs as the user, and prints what of these places it may write to, and which files that hold secrets it may read.
WALK = """
import json, os, sys
writable, secrets = [], []
def look(path):
    if os.path.islink(path):
        return
    if os.access(path, os.W_OK):
        writable.append(path)
    name = os.path.basename(path)
    secret = name.endswith((".token", ".key", ".pem", ".keyring", "tokens.json", ".db")) or "/tokens/" in path
    if secret and os.path.isfile(path) and os.access(path, os.R_OK):
        secrets.append(path)
for place in sys.argv[1:]:
    look(place)
    for folder, folders, files in os.walk(place):
        for name in folders + files:
            look(os.path.join(folder, name))
print(json.dumps({"writable": writable, "secrets": secrets}))
"""
# Certificates of authorities and of nodes are no secrets.
PUBLIC = ("/etc/consul.d/tls/ca.pem", "/etc/consul.d/tls/certificate.pem", "/etc/consul.d/tls/authorities.pem")


def known(node: str, user: str) -> bool:
    return lab.run(node, f"id -u {user} >/dev/null 2>&1 && echo yes || echo no") == "yes"


def walk(node: str, user: str) -> dict[str, list[str]]:
    """Return what a user can reach."""
    found = json.loads(lab.run(node, f"cd / && runuser -u {user} -- python3 - {' '.join(PLACES)}", given=WALK))
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("node", lab.NODES)
@pytest.mark.parametrize("user", ["nobody", "consul", "consul-template", "registrator", "www-data"])
def test_a_user_reaches_what_is_its_own(node: str, user: str) -> None:
    if not known(node, user):
        assert user == "consul-template" and node not in lab.EDGES
        return
    found = walk(node, user)
    foreign = [path for path in found["writable"] if not path.startswith(WRITABLE.get(user, NOTHING))]
    assert not foreign, f"{node}: {user} may write to {foreign[:10]}"
    secrets = [path for path in found["secrets"] if not path.startswith((*PUBLIC, *READABLE.get(user, NOTHING)))]
    assert not secrets, f"{node}: {user} may read {secrets[:10]}"
    # The walk sees what there is.
    for own in WRITABLE.get(user, ()):
        if user != "www-data" and lab.run(node, f"test -e {own} && echo yes || echo no") == "yes":
            assert any(path.startswith(own) for path in found["writable"]), f"{node}: {user} may not write to {own}"


# -- the fence of nginx --------------------------------------------------------------------------------------------

OUTSIDE = (
    *(
        "/etc",
        "/etc/systemd/system",
        "/usr/local/bin",
        "/usr/bin",
        "/root",
        "/home",
        "/var/lib/dpkg",
        "/run/systemd/system",
    ),
    "/var/lib/nginx-edge",
)
INSIDE = ("/var/log/nginx", "/var/lib/nginx", "/run", "/tmp")


def master(node: str) -> str:
    return lab.run(node, "systemctl show --property=MainPID --value nginx")


@pytest.mark.parametrize("node", lab.EDGES)
@pytest.mark.parametrize("process", ["master", "worker"])
def test_root_behind_the_fence_of_nginx_writes_nothing_of_others(node: str, process: str) -> None:
    pid = master(node)
    if process == "worker":
        pid = lab.run(node, f"pgrep -P {pid} -f 'worker process' | head -n 1")

    def touch(path: str, where: str) -> str:
        probe = f"{path}/fence-probe"
        return lab.run(node, f"{where} sh -c 'if touch {probe} 2>/tmp/why; then rm {probe}; echo written; else cat /tmp/why; fi'")

    for path in OUTSIDE:
        assert touch(path, "") == "written", f"{node}: root itself does not write to {path}: the attempt shows nothing"
        assert "Read-only file system" in touch(path, f"nsenter -t {pid} -m"), f"{node}: the {process} writes to {path}"
    for path in INSIDE:
        assert touch(path, f"nsenter -t {pid} -m") == "written", f"{node}: the {process} cannot write to {path}"


# What a program of nginx's might do that was taken over: each line says what became of one attempt.
ATTEMPTS = r"""
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def attempt(name, call):
    try:
        done = call()
    except OSError as error:
        print(name, "refused", error.strerror)
        return
    print(name, "refused" if done == -1 else "DONE", os.strerror(ctypes.get_errno()) if done == -1 else "")
attempt("mount", lambda: libc.mount(b"none", b"/mnt", b"tmpfs", 0, None))
attempt("unshare", lambda: libc.unshare(0x10000000))
attempt("ptrace", lambda: libc.ptrace(0, 0, 0, 0))
attempt("clock", lambda: libc.settimeofday(ctypes.create_string_buffer(16), None))
attempt("module", lambda: libc.syscall(175, None, 0, b""))
attempt("packets", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close())
attempt("setuid bit", lambda: os.chmod("/tmp/fence-setuid", 0o4755))
attempt("kernel", lambda: os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY)))
print("no new privileges", [line.split()[1] for line in open("/proc/self/status") if line.startswith("NoNewPrivs")])
"""


@pytest.mark.parametrize("node", lab.EDGES)
def test_a_program_behind_the_fence_of_nginx_gains_nothing(node: str) -> None:
    """A unit with the same fence runs the attempts, as root."""
    fence = "/etc/systemd/system/nginx.service.d/10-edge.conf"
    lab.run(node, "cat > /usr/local/bin/fence-attempts", given=ATTEMPTS)
    try:
        probe = "/run/systemd/system/fence-probe.service"
        lab.run(node, f"sed '/^RuntimeDirectory/d;/^Exec/d;/^Restart/d;/^Wants/d;/^After/d' {fence} > {probe}")
        lab.run(
            node,
            f"printf '[Service]\\nType=oneshot\\nExecStart=/usr/bin/python3 /usr/local/bin/fence-attempts\\n' >> {probe}",
        )
        lab.run(node, "touch /tmp/fence-setuid && systemctl daemon-reload && systemctl start fence-probe.service")
        said = lab.run(node, "journalctl -u fence-probe -o cat --no-pager")
    finally:
        lab.run(
            node,
            "rm -f /usr/local/bin/fence-attempts /run/systemd/system/fence-probe.service /tmp/fence-setuid; systemctl daemon-reload",
            check=False,
        )
    for name in ("mount", "unshare", "ptrace", "clock", "module", "packets", "setuid bit", "kernel"):
        assert f"{name} refused" in said, said
    assert "no new privileges ['1']" in said and "DONE" not in said, said


@pytest.mark.parametrize("node", lab.EDGES)
def test_nginx_itself_is_behind_the_fence_and_works(node: str) -> None:
    for pid in lab.run(node, f"echo {master(node)}; pgrep -P {master(node)}").split():
        status = lab.run(node, f"cat /proc/{pid}/status")
        assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status, status
    bounding = int(
        next(line.split()[1] for line in lab.run(node, f"cat /proc/{master(node)}/status").splitlines() if line.startswith("CapBnd:")),
        16,
    )
    # CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_MKNOD
    assert not bounding & (1 << 16 | 1 << 17 | 1 << 19 | 1 << 21 | 1 << 27), hex(bounding)
    ask = "curl -s -o /dev/null -w '%{http_code}' -H 'Host: fence.test' http://127.0.0.1/"
    before = master(node)
    # As logrotate does it.
    lab.run(
        node,
        f"systemctl reload nginx && mv /var/log/nginx/access.log /var/log/nginx/access.log.1 && kill -USR1 {before}",
    )
    logged = f"{ask}; test -s /var/log/nginx/access.log && echo ' logged' || echo ' lost'"
    lab.wait_for(
        lambda: lab.run(node, logged) == "404 logged",
        20,
        "nginx answers, and logs, after a reload and a rotation of its logs",
    )
    assert master(node) == before
    lab.run(node, "systemctl restart nginx")
    lab.wait_for(lambda: lab.run(node, ask) == "404", 20, "nginx answers after a restart")
    assert lab.run(node, "nginx-edge-apply --strict --json >/dev/null; echo $?") == "0"
