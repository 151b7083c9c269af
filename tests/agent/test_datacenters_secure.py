# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two secure data centres of real Consul agents, each with a gossip key, an authority and tokens of its own: what they have in common, and what not."""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
import os
import socket
import ssl
import subprocess
import typing as t
import uuid
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ROOT = Path(__file__).resolve().parents[2]

from edge_rig import Consul, free_port, poll, tool

from ansible_collections.trinode.platform.plugins.module_utils._consul import acl, security
from ansible_collections.trinode.platform.plugins.module_utils._consul import prepared_query as pq
from ansible_collections.trinode.platform.plugins.module_utils._consul.cluster import ConsulApi
from ansible_collections.trinode.platform.plugins.plugin_utils._sites import wan as wan_sites

READS = 'node_prefix "" { policy = "read" }\nservice_prefix "" { policy = "read" }'
AUTOMATION = (
    'agent_prefix "" { policy = "write" } node_prefix "" { policy = "write" } service_prefix "" { policy = "read" } query_prefix "" { policy = "write" }'
    ' keyring = "write" operator = "write"'
)
NOW = datetime.datetime.now(datetime.timezone.utc)


def new_key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


class Authority:
    """An authority as the role consul_tls makes it."""

    def __init__(self, name: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        built = self._build(self.name, self.key.public_key()).add_extension(x509.BasicConstraints(True, 0), critical=True)
        self.certificate = built.sign(self.key, hashes.SHA256())

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def _build(self, subject: x509.Name, key: t.Any) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key).serial_number(x509.random_serial_number())
        return builder.not_valid_before(NOW - datetime.timedelta(minutes=5)).not_valid_after(NOW + datetime.timedelta(days=30))

    def issue(self, directory: Path, *names: str) -> dict[str, str]:
        """Certificate and key for these names, as settings of an agent."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._build(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]), key.public_key())
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in (*names, "localhost")]), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        directory.mkdir(parents=True, exist_ok=True)
        paths = {"cert_file": directory / "certificate.pem", "key_file": directory / "key.pem"}
        paths["cert_file"].write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        paths["key_file"].write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        )
        return {name: str(path) for name, path in paths.items()}


class Keys:
    """What one site has of its own."""

    def __init__(self, datacenter: str) -> None:
        self.datacenter = datacenter
        self.authority = Authority(f"Consul {datacenter}.consul")
        self.gossip, self.share = new_key(), new_key()
        self.management, self.automation, self.own_dns = (str(uuid.uuid4()) for _number in range(3))
        self.wan = free_port()

    @property
    def site(self) -> wan_sites.Site:
        return wan_sites.Site(self.datacenter, "consul", self.authority.pem.strip(), self.share)

    def common(self, *others: Keys) -> wan_sites.Common:
        found = wan_sites.common(self.site, {other.datacenter: wan_sites.write(other.site) for other in others}, NOW)
        assert not found.faults and not found.warnings
        return found


class Secured:
    """An agent of a secure site, configured as the role does it."""

    def __init__(self, directory: Path, keys: Keys, other: Keys, common: wan_sites.Common, joined: bool = True, dns_token: str = "") -> None:
        self.keys, self.directory = keys, directory
        (directory / "data" / "serf").mkdir(parents=True)
        (directory / "ca.pem").write_text(keys.authority.pem)
        (directory / "authorities.pem").write_text(f"{keys.authority.pem}\n{common.authorities}\n")
        (directory / "data" / "serf" / "local.keyring").write_text(json.dumps([keys.gossip]))
        (directory / "data" / "serf" / "remote.keyring").write_text(json.dumps([common.gossip_key]))
        certificate = keys.authority.issue(directory / "tls", f"server.{keys.datacenter}.consul")
        self.consul = Consul(
            tool("consul", "CONSUL_BIN"),
            directory,
            wan=keys.wan if joined else -1,
            dns=free_port(),
            datacenter=keys.datacenter,
            data_dir=str(directory / "data"),
            disable_keyring_file=False,
            encrypt_verify_incoming=True,
            encrypt_verify_outgoing=True,
            tls={
                "defaults": {"ca_file": str(directory / "ca.pem"), **certificate, "verify_incoming": True, "verify_outgoing": True},
                "internal_rpc": {"verify_server_hostname": True, "ca_file": str(directory / "authorities.pem")},
            },
            acl={"enabled": True, "default_policy": "deny", "down_policy": "extend-cache", "tokens": {"dns": dns_token or common.token}},
            retry_join_wan=[f"127.0.0.1:{other.wan}"],
            retry_interval_wan="1s",
        )
        self.url = f"http://{self.consul.address}"
        self.root = acl.AclApi(self.url, keys.management)
        self.api = ConsulApi(self.url, keys.automation)
        assert acl.bootstrap(self.root, 30).state == "made"
        wanted = [
            acl.Wanted("automation", keys.automation, AUTOMATION),
            acl.Wanted("dns", keys.own_dns, READS),
            acl.Wanted("wan", common.token, READS),
        ]
        acl.apply(self.root, acl.plan(wanted, self.root.policies(), self.root.tokens(), keys.datacenter), purge=False)

    def register(self, service: str, address: str) -> None:
        entry = {"Node": f"node-of-{service}", "Address": address, "Service": {"Service": service, "Address": address, "Port": 80}}
        self.root.call("PUT", "/v1/catalog/register", entry)

    def deregister(self, service: str) -> None:
        self.root.call("PUT", "/v1/catalog/deregister", {"Node": f"node-of-{service}"})

    def alive(self) -> set[str]:
        """The data centres that have a server alive on the WAN."""
        return {member["Tags"]["dc"] for member in self.api.request("/v1/agent/members?wan=1") or [] if member["Status"] == 1}

    @property
    def rpc(self) -> int:
        return int(self.api.request("/v1/agent/self")["DebugConfig"]["ServerPort"])


@contextlib.contextmanager
def running(*sites: Secured) -> t.Iterator[None]:
    try:
        yield
    finally:
        for site in sites:
            site.consul.stop()


@pytest.fixture(scope="module")
def keys() -> tuple[Keys, Keys]:
    return Keys("dc1"), Keys("dc2")


@pytest.fixture
def pair(tmp_path: Path, keys: tuple[Keys, Keys]) -> t.Iterator[tuple[Secured, Secured]]:
    here, there = keys
    first = Secured(tmp_path / "dc1", here, there, here.common(there))
    try:
        second = Secured(tmp_path / "dc2", there, here, there.common(here))
    except BaseException:
        first.consul.stop()
        raise
    with running(first, second):
        poll("both sites know each other", lambda: first.alive() == second.alive() == {"dc1", "dc2"}, 30)
        yield first, second


def handshake(site: Secured, certificate: t.Mapping[str, str]) -> bool:
    """Whether the server takes this certificate of a caller of its RPC."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    # With an older TLS the handshake itself says so, and not the first answer after it.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate["cert_file"], certificate["key_file"])
    with socket.create_connection(("127.0.0.1", site.rpc), timeout=10) as plain:
        # The byte of Consul's RPC for "now TLS".
        plain.sendall(b"\x03")
        try:
            with context.wrap_socket(plain):
                return True
        except (ssl.SSLError, ConnectionError):
            return False


def test_names_and_queries_over_the_wan(pair: tuple[Secured, Secured]) -> None:
    first, second = pair
    second.register("shop", "198.51.100.1")
    first.register("shop", "192.0.2.1")
    poll("the other site's DNS name", lambda: first.consul.addresses("shop.service.dc2.consul") == {"198.51.100.1"})
    poll("the first site's DNS name there", lambda: second.consul.addresses("shop.service.dc1.consul") == {"192.0.2.1"})
    pq.apply(first.api, pq.plan([{"name": "shop", "failover": {"datacenters": ["dc2"]}}], first.api.request("/v1/query") or []))
    assert first.consul.addresses("shop.query.consul") == {"192.0.2.1"}
    first.deregister("shop")
    assert first.consul.addresses("shop.service.consul") == set()
    assert first.consul.addresses("shop.query.consul") == {"198.51.100.1"}
    # The other site goes. Its own names are answered as ever.
    second.consul.stop()
    first.register("shop", "192.0.2.2")
    assert first.consul.addresses("shop.query.consul") == {"192.0.2.2"} == first.consul.addresses("shop.service.consul")


def test_the_common_token_reads_there_and_no_other_one_is_known_there(pair: tuple[Secured, Secured]) -> None:
    first, second = pair
    common = first.keys.common(second.keys)
    assert common.token == second.keys.common(first.keys).token
    reader = ConsulApi(first.url, common.token)
    assert [node["Datacenter"] for node in reader.request("/v1/catalog/nodes?dc=dc2")] == ["dc2"]
    # As the gate asks, which takes an unknown token for none: nothing.
    for token in (first.keys.management, first.keys.automation, first.keys.own_dns, None):
        assert ConsulApi(first.url, token).request("/v1/catalog/nodes?dc=dc2") == []
    for path in ("/v1/kv/x?dc=dc2", "/v1/operator/raft/configuration?dc=dc2", "/v1/acl/tokens?dc=dc2", "/v1/operator/keyring", "/v1/kv/x"):
        with pytest.raises(OSError, match=r"403|404"):
            reader.request(path)
    with pytest.raises(OSError, match="403"):
        reader.request("/v1/catalog/register?dc=dc2", "PUT", {"Node": "n", "Address": "192.0.2.9"})


def test_the_authority_of_the_other_site_makes_no_server_of_this_one(pair: tuple[Secured, Secured], tmp_path: Path) -> None:
    first, second = pair
    foreign = second.keys.authority
    assert handshake(first, foreign.issue(tmp_path / "a", "server.dc2.consul"))
    for number, names in enumerate((["server.dc1.consul"], ["server.dc2.consul", "server.dc1.consul"], ["*.dc1.consul"], ["n.node.dc1.consul"])):
        assert not handshake(first, foreign.issue(tmp_path / f"b{number}", *names)), names
    assert not handshake(first, Authority("nobody").issue(tmp_path / "c", "server.dc2.consul"))
    # It is the restriction that does it.
    (first.directory / "authorities.pem").write_text(f"{first.keys.authority.pem}\n{foreign.pem}")
    first.api.request("/v1/agent/reload", "PUT")
    poll("the agent has read it", lambda: handshake(first, foreign.issue(tmp_path / "d", "server.dc1.consul")))


def test_a_new_authority_is_given_before_it_is_used(pair: tuple[Secured, Secured], tmp_path: Path) -> None:
    """The agents read it without a restart, and a server of the other site that shows a certificate of it is believed."""
    first, second = pair
    renewed = Authority("Consul dc2.consul, the next one")
    assert not handshake(first, renewed.issue(tmp_path / "next", "server.dc2.consul"))
    given = second.keys.site._replace(authority=f"{second.keys.authority.pem}{renewed.pem}".strip())
    common = wan_sites.common(first.keys.site, {"dc2": wan_sites.write(given)}, NOW)
    # The keys stay, because they follow from the shares alone.
    assert (common.gossip_key, common.token) == (first.keys.common(second.keys).gossip_key, first.keys.common(second.keys).token)
    (first.directory / "authorities.pem").write_text(f"{first.keys.authority.pem}\n{common.authorities}\n")
    first.api.request("/v1/agent/reload", "PUT")
    poll("the agent has read it", lambda: handshake(first, renewed.issue(tmp_path / "next", "server.dc2.consul")))
    assert handshake(first, second.keys.authority.issue(tmp_path / "former", "server.dc2.consul"))


def test_a_server_that_is_joined_does_not_rotate_its_key(pair: tuple[Secured, Secured]) -> None:
    first, second = pair
    before = (second.directory / "data" / "serf" / "remote.keyring").read_text()
    with pytest.raises(security.GossipError, match="takes part in the gossip between data centres"):
        security.alone(first.url, first.keys.automation)
    assert (second.directory / "data" / "serf" / "remote.keyring").read_text() == before
    # What would have happened: the key of this site's own gossip goes to the other site, and the call still fails.
    api = security.KeyringApi(first.url, first.keys.automation)
    key = new_key()
    with pytest.raises(security.GossipError, match="403"):
        api.call("POST", key)
    poll("Consul has given it away", lambda: key in (second.directory / "data" / "serf" / "remote.keyring").read_text())


def test_off_the_wan_a_key_is_rotated_and_the_one_of_the_wan_stays(tmp_path: Path, keys: tuple[Keys, Keys]) -> None:
    here, there = keys
    alone = Secured(tmp_path / "alone", here, there, here.common(there), joined=False)
    with running(alone):
        security.alone(alone.url, here.automation)
        key = new_key()
        assert security.rotate(security.KeyringApi(alone.url, here.automation), key, 1, 20) == 3
        serf = alone.directory / "data" / "serf"
        assert json.loads((serf / "local.keyring").read_text()) == [key]
        assert json.loads((serf / "remote.keyring").read_text()) == [here.common(there).gossip_key]


@pytest.mark.parametrize("wrong", ["gossip", "authority", "token"])
def test_each_of_the_three_is_needed(tmp_path: Path, keys: tuple[Keys, Keys], wrong: str) -> None:
    here, there = keys
    stranger = Keys("dc2")
    changed = {
        "gossip": {"gossip_key": new_key()},
        "authority": {"authorities": here.common(stranger).authorities},
        "token": {},
    }[wrong]
    first = Secured(tmp_path / "dc1", here, there, here.common(there)._replace(**changed), dns_token=here.own_dns if wrong == "token" else "")
    with running(first):
        second = Secured(tmp_path / "dc2", there, here, there.common(here))
        with running(second):
            second.register("shop", "198.51.100.1")
            poll("the other site answers itself", lambda: second.consul.addresses("shop.service.consul") == {"198.51.100.1"})
            said = {
                "gossip": "No installed keys could decrypt the message",
                "authority": "certificate signed by unknown authority",
                "token": "ACL not found",
            }[wrong]

            def seen() -> bool:
                assert first.consul.addresses("shop.service.dc2.consul") == set()
                return said in first.consul.log.read_text() + second.consul.log.read_text()

            if wrong != "gossip":
                poll("they are on one WAN", lambda: first.alive() == {"dc1", "dc2"}, 30)
            poll(f"a log says {said}", seen, 60)
            assert first.consul.addresses("consul.service.consul") == {"127.0.0.1"}


def test_the_site_files_are_those_of_consul(keys: tuple[Keys, Keys]) -> None:
    """Both sites come to the same, and openssl, too, reads what is trusted."""
    here, there = keys
    ours, theirs = here.common(there), there.common(here)
    assert (ours.gossip_key, ours.token) == (theirs.gossip_key, theirs.token)
    assert security.is_key(ours.gossip_key)
    said = subprocess.run(["openssl", "x509", "-noout", "-text"], input=ours.authorities, capture_output=True, text=True, check=True).stdout
    assert "DNS:dc1.consul" in said and "Excluded" in said
