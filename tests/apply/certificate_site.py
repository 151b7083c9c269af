# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An edge that ends TLS, and the certificate that its clients see."""

from __future__ import annotations

import socket
import ssl
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apply_rig import Edge


class Site:
    """An edge that ends TLS for ``web.test`` with the certificate ``apps``."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.port = edge.tcp_port
        self.file = edge.base / "tls" / "apps.pem"
        self.http = (
            f"server {{\n  listen unix:{edge.sockets}/tls-apps.sock ssl default_server;\n  ssl_certificate {self.file};\n"
            f'  ssl_certificate_key {self.file};\n  server_name web.test;\n  return 200 "web\\n";\n}}\n'
        )
        self.stream = (
            f"upstream edge_tls_apps {{ server unix:{edge.sockets}/tls-apps.sock; }}\nserver {{ listen 127.0.0.1:{self.port}; proxy_pass edge_tls_apps; }}\n"
        )

    def pair(self, common_name: str, days: int = 2) -> tuple[str, str]:
        """A new self-signed certificate and its key."""
        files = [self.edge.root / f"{common_name}.{end}" for end in ("crt", "key")]
        request = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            str(days),
            "-subj",
            f"/CN={common_name}",
        ]
        subprocess.run([*request, "-out", str(files[0]), "-keyout", str(files[1])], check=True, capture_output=True, timeout=30)
        return files[0].read_text(), files[1].read_text()

    def give(self, *texts: str) -> None:
        """Write the certificate's file as the role does."""
        new = self.file.with_name("new")
        new.write_text("".join(texts))
        new.chmod(0o600)
        new.rename(self.file)

    def stage(self) -> None:
        """Stage both sides."""
        self.edge.stage(self.http, self.stream)

    def served(self) -> str:
        """The common name that a client sees; nothing without a connection."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with socket.create_connection(("127.0.0.1", self.port), 10) as raw, context.wrap_socket(raw, server_hostname="web.test") as connection:
                data = connection.getpeercert(binary_form=True) or b""
        except OSError:
            return ""
        done = subprocess.run(["openssl", "x509", "-inform", "DER", "-noout", "-subject"], input=data, capture_output=True, check=True, timeout=30)
        return done.stdout.decode().strip().rpartition("=")[2].strip()


def serving_site(edge: Edge) -> Site:
    """Return an edge that serves the certificate ``first``."""
    made = Site(edge)
    made.give(*made.pair("first"))
    made.stage()
    result = edge.apply("--strict")
    assert result["outcome"] == "applied", result
    assert made.served() == "first"
    return made


def keys(directory: Path) -> list[Path]:
    """Every file that holds a private key."""
    return [path for path in directory.rglob("*") if path.is_file() and not path.is_symlink() and b"PRIVATE KEY" in path.read_bytes()]
