# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What sites have in common, and why they have not. What Consul makes of it is in tests/agent."""

from __future__ import annotations

import base64
import datetime
import json
import typing as t
import uuid

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.trinode.platform.plugins.plugin_utils._certificates import foreign_authority as foreign
from ansible_collections.trinode.platform.plugins.plugin_utils._sites import wan

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.timezone.utc)


def authority(name: str, days: int = 100, ca: bool | None = True, constraints: x509.NameConstraints | None = None) -> str:
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(private.public_key()).serial_number(7)
    builder = builder.not_valid_before(NOW - datetime.timedelta(days=200)).not_valid_after(NOW + datetime.timedelta(days=days))
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, 0 if ca else None), critical=True)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(private.public_key()), critical=False)
    if constraints:
        builder = builder.add_extension(constraints, critical=True)
    return builder.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode().strip()


def share(number: int) -> str:
    return base64.b64encode(bytes([number]) * 32).decode()


DC1, DC2, DC3 = (wan.Site(f"dc{number}", "consul", authority(f"Consul dc{number}"), share(number)) for number in (1, 2, 3))


def given(*sites: wan.Site) -> dict[str, str]:
    return {site.datacenter: wan.write(site) for site in sites}


def excluded(pem: str) -> list[list[str]]:
    found = []
    for certificate in x509.load_pem_x509_certificates(pem.encode()):
        constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints)
        assert constraints.critical
        found.append([name.value for name in constraints.value.excluded_subtrees or ()])
    return found


def test_all_sites_come_to_the_same_whoever_was_first() -> None:
    seen = {
        (found.gossip_key, found.token)
        for own, others in ((DC1, (DC2, DC3)), (DC2, (DC3, DC1)), (DC3, (DC1, DC2)))
        for found in [wan.common(own, given(*others), NOW)]
    }
    ((key, token),) = seen
    assert len(base64.b64decode(key)) == 32
    assert str(uuid.UUID(token)) == token
    # Another share, or one site more or less, is another key.
    pair = wan.common(DC1, given(DC2), NOW)
    other = wan.common(DC1, given(DC2._replace(share=share(9))), NOW)
    assert len({key, pair.gossip_key, other.gossip_key}) == len({token, pair.token, other.token}) == 3
    # A renewed authority is not.
    renewed = wan.common(DC1, given(DC2._replace(authority=authority("next"))), NOW)
    assert (renewed.gossip_key, renewed.token) == (pair.gossip_key, pair.token)


def test_nothing_is_in_common_with_nobody() -> None:
    assert wan.common(DC1, {}, NOW) == wan.Common()


def test_an_authority_is_trusted_for_no_name_of_another_site() -> None:
    found = wan.common(DC1, given(DC2, DC3), NOW)
    assert excluded(found.authorities) == [["dc1.consul", "dc3.consul"], ["dc1.consul", "dc2.consul"]]
    # Each run writes the same file.
    assert wan.common(DC1, given(DC2, DC3), NOW).authorities == found.authorities


def test_what_is_trusted_is_the_same_name_and_key_for_the_same_time() -> None:
    (given_one,) = foreign.read(DC2.authority)
    (trusted,) = x509.load_pem_x509_certificates(foreign.restrict(DC2.authority, ["dc1.consul"]).encode())
    assert trusted.subject == given_one.subject
    assert trusted.public_key() == given_one.public_key()
    assert (trusted.not_valid_before_utc, trusted.not_valid_after_utc) == (given_one.not_valid_before_utc, given_one.not_valid_after_utc)
    assert trusted.extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(True, 0)
    with pytest.raises(x509.ExtensionNotFound):
        trusted.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)


def test_the_restrictions_that_it_has_already_stay() -> None:
    own = x509.NameConstraints([x509.DNSName("consul")], [x509.DNSName("old.consul"), x509.DNSName("dc1.consul")])
    (trusted,) = x509.load_pem_x509_certificates(foreign.restrict(authority("x", constraints=own), ["dc1.consul", "dc3.consul"]).encode())
    value = trusted.extensions.get_extension_for_class(x509.NameConstraints).value
    assert [name.value for name in value.permitted_subtrees or ()] == ["consul"]
    assert [name.value for name in value.excluded_subtrees or ()] == ["old.consul", "dc1.consul", "dc3.consul"]


def test_several_authorities_as_during_a_renewal() -> None:
    both = f"{DC2.authority}\n{authority('next')}"
    assert excluded(wan.common(DC1, given(DC2._replace(authority=both)), NOW).authorities) == [["dc1.consul"], ["dc1.consul"]]


def test_a_domain_must_be_one() -> None:
    with pytest.raises(foreign.AuthorityError, match="'a b' is no domain"):
        foreign.restrict(DC2.authority, ["a b"])


GARBLED = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        ("", "the keys of the data centre dc2, which platform_security: secure takes, are not here (/s/site_dc2.txt)", "copy site_dc2.txt from the secrets of"),
        ("no file", "the file /s/site_dc2.txt is no file that a site gives to others", "bring that site's present file site_dc2.txt"),
        ("[]", "the file /s/site_dc2.txt is no file that a site gives to others", "bring"),
        ('{"datacenter": "dc2"}', "the file /s/site_dc2.txt is no file that a site gives to others", "bring"),
        (wan.write(DC3), "the file /s/site_dc2.txt is the one of the data centre dc3", "bring"),
        (wan.write(DC2._replace(domain="other")), "the data centre dc2 has the domain 'other', and this site has 'consul'", "the same platform_domain"),
        (wan.write(DC2._replace(share=DC1.share)), "the data centre dc2 has the same secrets as this site (/s/site_dc2.txt)", "let each site make its own"),
        (json.dumps({**DC2._asdict(), "share": "x"}), "the file /s/site_dc2.txt has a share that is not 32 bytes in base64", "bring"),
        (wan.write(DC2._replace(authority="")), "has an authority of no use: it is no PEM certificate, or holds something else beside", "bring"),
        (wan.write(DC2._replace(authority=GARBLED)), "has an authority of no use: it is no PEM certificate", "bring"),
        (json.dumps({**DC2._asdict(), "authority": DC2.authority + "\nmore"}), "or holds something else beside", "bring"),
        (wan.write(DC2._replace(authority=authority("leaf", ca=False))), "the certificate of 'CN=leaf' is not one of an authority", "bring"),
        (wan.write(DC2._replace(authority=authority("bare", ca=None))), "the certificate of 'CN=bare' is not one of an authority", "bring"),
        (json.dumps({**DC2._asdict(), "authority": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"}), "it holds a private key", "bring"),
    ],
)
def test_what_is_wrong_with_a_file(text: str, message: str, remedy: str) -> None:
    found = wan.common(DC1, {"dc2": text}, NOW, "/s")
    (fault,) = found.faults
    assert message in fault.message and remedy in fault.remedy
    assert (found.gossip_key, found.token, found.authorities) == ("", "", "")
    for secret in (DC1.share, DC2.share, DC3.share):
        assert secret not in f"{fault}"


def test_one_bad_file_is_enough() -> None:
    found = wan.common(DC1, {**given(DC2), "dc3": ""}, NOW, "/s")
    assert len(found.faults) == 1 and not found.token


def test_an_authority_that_has_ended_is_told_and_stops_nothing() -> None:
    """The other site's trouble is not this one's."""
    found = wan.common(DC1, given(DC2._replace(authority=authority("old", days=-1))), NOW, "/s")
    (warning,) = found.warnings
    assert "the authority of the data centre dc2 has ended (/s/site_dc2.txt)" in warning.message
    assert found.token and not found.faults
    both = wan.common(DC1, given(DC2._replace(authority=f"{authority('old', days=-1)}\n{authority('next')}")), NOW, "/s")
    assert not both.warnings


def test_only_certificates_are_given_away() -> None:
    beside = f"# ours, until 2036\n{DC2.authority}\n-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    assert wan.read(wan.write(DC2._replace(authority=beside))) == DC2


def test_a_share_of_this_site_must_be_one() -> None:
    with pytest.raises(wan.SiteError, match="has a share that is not 32 bytes"):
        wan.write(DC1._replace(share="short"))


def test_the_filters() -> None:
    from ansible.errors import AnsibleFilterError

    from ansible_collections.trinode.platform.plugins.filter.wan_sites import FilterModule

    filters: dict[str, t.Any] = FilterModule().filters()
    text = filters["wan_site_file"](DC2._asdict())
    found = filters["wan_sites"](DC1._asdict(), {"dc2": text})
    assert found["token"] == wan.common(DC1, given(DC2), NOW).token and found["faults"] == []
    (fault,) = filters["wan_sites"](DC1._asdict(), {"dc2": ""}, "/s")["faults"]
    assert set(fault) == {"message", "remedy"}
    with pytest.raises(AnsibleFilterError, match="a site has the texts datacenter, domain, authority, share"):
        filters["wan_site_file"]({"datacenter": "dc1"})
    with pytest.raises(AnsibleFilterError, match="this site has a share that is not 32 bytes"):
        filters["wan_site_file"]({**DC1._asdict(), "share": ""})
    with pytest.raises(AnsibleFilterError, match="a dictionary of texts"):
        filters["wan_sites"](DC1._asdict(), [])
