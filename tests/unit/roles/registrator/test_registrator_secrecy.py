# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets are recognised by name and by value, and nothing absurd is taken for one; real Compose environments."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from registrator.convention import registrations_of
from registrator.facts import facts_of
from registrator.model import Settings
from registrator.secrecy import secret_name, secret_value, shown

ROOT = Path(__file__).resolve().parents[4]
NODE = Settings(hostname="node1", address="192.0.2.10")
JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJyb2xlIjoiYW5vbiIsImlzcyI6Im5vYm9keSJ9.bm90LWEtc2lnbmF0dXJl"

SECRETS = """
    key password_postgres passwd pw pwd pass token tokens secret api_key api-key apikey subscription_key db2_key jwt dsn
    credentials credential creds connection_string connectionstring conn_connstr private_key private auth basic_auth
    authorization password1 password_64_database passwordwithsymbols_x base64_64_x realbase64_x hex_32_x supabaseanon_key
    supabaseservice_key role_key dbpassword clientsecret authtoken aws_secret_access_key cookie session jwt_secret
    key_2 oauth_client_secret postgres_pw smtp.pass otp keys
    dbpass pgpass userpass adminpw dbpwd passwort db_passwort kennwort wpa_psk sshkey aeskey appkey authkey privkey
    license_key token_file password_url password_64_url token_base64 sessionid phpsessid secretid
"""

HARMLESS = """
    keyboard keycloak_url monkey version region edge_port author authority passenger compass bypass secretariat tokyo
    fqdn_supabase_8000 url_ghost user_admin auth_url auth_enabled key_id private_network session_timeout database_url
    compose_project weight tasks pwm hexagon hex_color base base_url basement colour colour64 username dsname
    session_affinity keyspace turkey pinned
    valkey hotkey token_url token_endpoint jwks_uri jwt_issuer token_ttl public_key key_vault private_subnet
    session_store cookie_secure oauth_issuer oauth_scopes keycloak keycloak_port port_http tokenizer authentik_url
    bypass_cache
"""


@pytest.mark.parametrize("name", SECRETS.split())
def test_names_of_secrets(name: str) -> None:
    assert secret_name(name, "x")


@pytest.mark.parametrize("name", HARMLESS.split())
def test_names_that_are_none(name: str) -> None:
    assert not secret_name(name, "x")


@pytest.mark.parametrize("value", ["true", "No", "off", " yes "])
def test_a_switch_is_no_secret(value: str) -> None:
    assert not secret_name("token_required", value)


def test_no_option_of_the_edge_is_taken_for_a_secret() -> None:
    """It would be refused without anybody noticing before it is needed."""
    text = (ROOT / "docs" / "filter_guide.md").read_text(encoding="utf-8")
    options = {word.strip("`.,;:()|") for word in text.split() if word.startswith("`edge_")}
    assert len(options) > 3
    assert not {option for option in options if secret_name(option, "x")}


SECRET_VALUES = [
    JWT,
    "postgres://u:pw@h/d",
    "redis://:pw@h:6379/0",
    "https://u:p/w#1@h/d",
    "amqp://user:p%40ss@mq",
    "https://0123456789abcdef0123456789abcdef@sentry.example/1",
    "jdbc:postgresql://h/d?user=u&password=pw",
    "jdbc:oracle:thin:scott/tiger@h:1521/x",
    "user:pw@tcp(h:3306)/d",
    "Server=h;Database=d;User Id=u;Password=pw;",
    "host=h user=u password=pw",
    "-----BEGIN RSA PRIVATE KEY-----MIIE",
    "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0t",
    "ghp_" + "a1B2" * 9,
    "github_pat_" + "a1B2" * 9,
    "glpat-" + "a1B2" * 5,
    "xoxb-1234567890-abcdefgh",
    "AKIA" + "ABCD1234" * 2,
    "AIza" + "a1B2" * 9,
    "sk_live_" + "a1B2" * 4,
    "hvs." + "a1B2" * 6,
    "Bearer abcdefgh12345678",
    "Authorization: Basic dXNlcjpwYXNz",
    "admin:$apr1$abcdefgh$0123456789",
    "u:$2y$05$abcdefghijklmnop",
    "u:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
    "/health?token=x1",
    "/health?key=0123456789",
    '{"api_key": "x"}',
    "DefaultEndpointsProtocol=https;AccountName=x;AccountKey=abcdefgh==",
    "admin:hunter2@10.0.0.1:8080",
    "//user:hunter2@files/share",
    "https://hooks.slack.com/services/T000/B000/XXXXXXXX",
    "https://discord.com/api/webhooks/123/abcdefgh",
    "sk-" + "a1B2" * 10,
    "glrt-" + "a1B2" * 5,
    "hf_" + "a1B2" * 8,
    "eyJhbGciOiJkaXIifQ..aXYx.Y3Q.dGFn",
    "db_pass=hunter2",
    "uid=sa;pw=x",
    "--password hunter2",
    "PASSWORT=x",
    "Token abcdef0123456789",
    "https://h/x?X-Amz-Signature=0123456789",
    "pbkdf2_sha256$260000$x",
]
HARMLESS_VALUES = [
    "",
    "v1.2.3",
    "8080",
    "https://shop.example:8443/path?page=1",
    "git@github.com:team/app.git",
    "ssh://git@host/repo",
    "registry.example:5000/team/web:1.2@sha256:" + "0" * 64,
    "0123456789abcdef0123456789abcdef01234567",
    "2f7a1c7e-43d1-4ad7-9d9a-3b1d4c0c3a55",
    "mailto:team@hospital.example",
    "urlprefix-/foo strip=/foo",
    "traefik.http.routers.web.rule=Host(`web.example`)",
    "jdbc:postgresql://postgres/keycloak",
    "basic",
    "a.b.c",
    "basic authentication",
    "05:00@daily",
    "nginx:1.25@sha256:12ab",
    "proxy_pass=http://x",
    "bypass=1",
    "sip:alice:5060@example.org",
    "contact: Team <a@b.c>",
]


@pytest.mark.parametrize("value", SECRET_VALUES)
def test_values_that_look_like_secrets(value: str) -> None:
    what = secret_value(value)
    assert what
    assert shown(value) == f"(a value that looks like {what})"


@pytest.mark.parametrize("value", HARMLESS_VALUES)
def test_values_that_do_not(value: str) -> None:
    assert secret_value(value) == ""


@pytest.mark.parametrize("text", ["a" * 200_000, "a:" * 100_000, "://" * 60_000, "eyJ" * 60_000, "pwd" * 60_000, "-1" * 90_000])
def test_a_long_text_holds_nothing_up(text: str) -> None:
    """Whoever may start a container must not be able to hold up the registration of all others."""
    secret_value(text)
    secret_name(text)
    labels = {"SERVICE_" + text: text, "SERVICE_TAGS": text, "SERVICE_NAME": text, "SERVICE_CHECK_HTTP": text}
    facts = replace(facts_of({"State": {"Running": True}}), labels=labels, exposed=((80, "tcp"),), network_mode="host")
    # A pattern that backtracks would not come back from here.
    assert registrations_of(facts, NODE).refusals


# Environments of public Compose files, each with the image's own ports; names as they are, values invented.
ENVIRONMENTS: dict[str, tuple[str, tuple[int, ...], dict[str, str], dict[str, str], set[str], set[str]]] = {
    # Registrator's documentation.
    "registrator": (
        "progrium/redis", (6379,),
        {"SERVICE_NAME": "db", "SERVICE_TAGS": r"master,/(;\\,:-_)/", "SERVICE_REGION": "us2", "SERVICE_6379_CHECK_TTL": "30s"},
        {"region": "us2"}, set(), {"db"},
    ),
    # supabase/supabase: the storage API finds the service role's key in SERVICE_KEY.
    "supabase": (
        "supabase/storage-api:v1.44.2", (5000,),
        {"ANON_KEY": JWT, "SERVICE_KEY": JWT, "DATABASE_URL": "postgres://supabase_storage_admin:pw@db:5432/postgres"},
        {"version": "v1.44.2"}, {"key"}, {"storage-api"},
    ),
    # coollabsio/coolify: what it generates for its Supabase template is in the environment of every container.
    "coolify": (
        "kong:2.8.1", (8000, 8443),
        {
            "SERVICE_FQDN_SUPABASE_8000": "supabase.hospital.example", "SERVICE_URL_SUPABASE_8000": "https://supabase.hospital.example",
            "SERVICE_PASSWORD_JWT": "pw", "SERVICE_SUPABASEANON_KEY": JWT, "SERVICE_SUPABASESERVICE_KEY": JWT,
            "SERVICE_USER_ADMIN": "admin", "SERVICE_PASSWORD_ADMIN": "pw", "SERVICE_PASSWORD_POSTGRES": "pw",
            "SERVICE_BASE64_64_LOGFLARE": "cGFzc3dvcmQ", "SERVICE_HEX_32_VAULT": "0a1b",
        },
        {
            "fqdn_supabase_8000": "supabase.hospital.example", "url_supabase_8000": "https://supabase.hospital.example",
            "user_admin": "admin", "version": "2.8.1",
        },
        {
            "password_jwt", "supabaseanon_key", "supabaseservice_key", "password_admin", "password_postgres",
            "base64_64_logflare", "hex_32_vault",
        },
        {"kong-8000", "kong-8443"},
    ),
    # orthanc-server: HTTP and DICOM, configured by variables of its own.
    "orthanc": (
        "orthancteam/orthanc:23.11.1", (4242, 8042),
        {"ORTHANC_NAME": "PACS", "VERBOSE_ENABLED": "true", "SERVICE_4242_TAGS": "tcp", "SERVICE_8042_TAGS": "http"},
        {"version": "23.11.1"}, set(), {"orthanc-4242", "orthanc-8042"},
    ),
    # Keycloak with PostgreSQL, as Coolify's template starts it.
    "keycloak": (
        "quay.io/keycloak/keycloak:25.0.2", (8080, 8443, 9000),
        {
            "KEYCLOAK_ADMIN_PASSWORD": "pw", "KC_DB_URL": "jdbc:postgresql://postgres/keycloak", "SERVICE_USER_DATABASE": "u",
            "SERVICE_PASSWORD_64_DATABASE": "pw", "SERVICE_PASSWORD_ADMIN": "pw", "SERVICE_FQDN_KEYCLOAK_8080": "https://sso.example",
            "SERVICE_8080_NAME": "sso", "SERVICE_8443_IGNORE": "true", "SERVICE_9000_IGNORE": "true",
            "SERVICE_8080_CHECK_HTTP": "/health/ready",
        },
        {"user_database": "u", "fqdn_keycloak_8080": "https://sso.example", "version": "25.0.2"},
        {"password_64_database", "password_admin"}, {"sso"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ENVIRONMENTS)
@pytest.mark.parametrize("as_labels", [False, True])
def test_environments_of_public_compose_files(document: Any, name: str, as_labels: bool) -> None:
    image, ports, written, meta, refused, names = ENVIRONMENTS[name]
    text = document("published", **(written if as_labels else {}))
    text["Config"] |= {"Image": image, "Env": [] if as_labels else ["=".join(item) for item in written.items()]}
    text["Config"]["ExposedPorts"] = {f"{port}/tcp": {} for port in ports}
    text["NetworkSettings"]["Ports"] = {f"{port}/tcp": [{"HostIp": "0.0.0.0", "HostPort": str(port)}] for port in ports}
    if not as_labels:
        text["Config"]["Labels"].pop("SERVICE_NAME")
    elif "SERVICE_NAME" not in written:
        text["Config"]["Labels"]["SERVICE_NAME"] = ""
    found = registrations_of(facts_of(text), NODE)
    assert {item.name for item in found.registrations} == names
    assert {item.key for item in found.refusals} == refused
    assert not found.warnings
    for item in found.registrations:
        assert item.meta == meta
        assert JWT not in repr(item.payload())


def test_what_compose_and_the_image_tell_is_looked_at_too(document: Any) -> None:
    labels = {"com.docker.compose.project": "glpat-" + "a1B2" * 5, "com.docker.compose.service": JWT}
    text = document("published", **labels)
    text["Config"]["Image"] = "web:ghp_" + "a1B2" * 9
    found = registrations_of(facts_of(text), NODE)
    assert {(item.kind, item.key) for item in found.refusals} == {
        ("meta-secret-value", "compose_project"), ("meta-secret-value", "compose_service"),
        ("meta-secret-value", "version"),
    }  # fmt: skip
    assert [item.meta for item in found.registrations] == [{}]


def test_meta_from_the_environment_can_be_left_out(document: Any) -> None:
    text = document("published", SERVICE_COLOUR="label")
    text["Config"]["Env"] = ["SERVICE_REGION=x", "SERVICE_VERSION=2", "SERVICE_EDGE_PORT=80", "SERVICE_WEIGHT=5", "SERVICE_TAGS=a"]
    found = registrations_of(facts_of(text), replace(NODE, environment_meta=False))
    (item,) = found.registrations
    assert item.meta == {"colour": "label", "version": "2", "edge_port": "80", "weight": "5", "edge_weight": "5"}
    assert item.tags == ("a",)
    assert [(refused.kind, refused.key) for refused in found.refusals] == [("meta-environment", "region")]
