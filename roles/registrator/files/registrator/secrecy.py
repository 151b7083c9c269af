# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells secrets apart from what may stand in the catalogue, which everybody can read. Pure.

Names are divided at everything that is not a letter, so ``PASSWORD_POSTGRES`` and ``DB2_KEY`` are recognised and
``keyboard`` and ``keycloak_url`` are not. When in doubt a value counts as a secret: it costs one line in the log.
"""

from __future__ import annotations

import re

_WORD = re.compile(r"[a-z]+")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# A name with one of these words is that of a secret.
STRONG = _words("""
    password passwords passwd passphrase passcode pwd pw pass secret secrets token tokens jwt jwks credential
    credentials creds cred apikey apikeys apitoken accesskey secretkey privatekey signingkey encryptionkey
    masterkey dsn connstr connectionstring bearer hmac htpasswd pem otp totp salt psk mdp motdepasse contrasena
    secretid passcodes passkey passkeys phpsessid sessionid keytab
""")
# What Coolify generates: SERVICE_BASE64_64_X, SERVICE_REALBASE64_X, SERVICE_HEX_32_X.
_GENERATED = re.compile(r"(?:^|[_-])((?:real)?base64|hex[_-]?[0-9]+)(?:[_-]|$)")

# A longer word that begins or ends like this is one, too: dbpassword, clientsecret, authtoken, passwordwithsymbols.
_BEGINNINGS = ("password", "passwort", "passwd", "kennwort", "privatekey")
_ENDINGS = (
    "password", "passwords", "passwd", "passphrase", "secret", "secrets", "token", "tokens", "credential",
    "credentials", "apikey", "apikeys", "accesskey", "secretkey", "privatekey", "passwort", "kennwort",
    "pass", "pw", "pwd",
)  # fmt: skip
_HARMLESS_WORDS = _words("""
    compass bypass encompass surpass trespass overpass underpass
    monkey monkeys turkey turkeys donkey donkeys hockey jockey whiskey mickey hotkey hotkeys turnkey valkey publickey
""")

# What is said of a token in these words is not the token: TOKEN_URL, JWT_ISSUER, JWKS_URI, TOKEN_TTL.
_TOKENS = _words("token tokens jwt jwks bearer totp")
_ABOUT_TOKENS = _words("url uri endpoint issuer audience algorithm ttl lifetime expiry expiration")

# A name with one of these is that of a secret, unless a harmless word says what of it the value is: AUTH_URL, KEY_ID.
WEAK = _words("""
    key keys auth authorization authentication oauth private session cookie signature pin
""")
HARMLESS = _words("""
    url uri urls host hostname port address addr endpoint realm domain id name type mode method methods provider enabled
    disabled required path prefix version server service ttl timeout expiry expiration rotation algorithm size length
    network ip zone header user username group groups affinity max limit
    dns subnet scope scopes issuer callback store driver lifetime secure samesite count total vault format
""")
_BOOLEAN = re.compile(r"(?i)\s*(true|false|yes|no|on|off|)\s*")

_PAIR = (
    r"(?i)(pass(word|wort|wd|phrase)|kennwort|pwd|secret|token|credentials?"
    r"|(api|access|account|shared|private)[_-]?key)"
)
_SHORT_PAIR = r"(?i)(?<![a-z])(?<!proxy_)(pass|pw)=[^\s\"',;&]|--?pass(word|wd|phrase)?\s+[^\s-]"
# A time and the digest of an image are none, nor are addresses of mail and telephony.
_LOGIN = (
    r"(?i)(?:^|[\s,;=\"'/])(?!(?:mailto|sips?|acct|xmpp|urn|git|npm):)[^\s:/@,;=]{1,64}:(?![0-9]+@)[^\s:/@]{1,128}@"
    r"(?!sha[0-9]+:)[a-z0-9]"
)
_SOURCE = re.compile(r"[^\s:/@]{1,64}:[^\s@]{1,256}@(tcp|unix)?\(|\b(thin|oci8?):[^\s/@]{1,64}/[^\s@]{1,256}@")
_VALUES = (
    ("a JSON web token", re.compile(r"eyJ[A-Za-z0-9_-]{6,}\.([A-Za-z0-9_-]{4,})?\.[A-Za-z0-9_-]*")),
    ("a PEM block", re.compile(r"-----BEGIN |LS0tLS1CRUdJTi|b3BlbnNzaC1rZXktdjE")),
    ("a URL with a password", re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s/?#@:]{0,256}:[^\s@]{1,256}@")),
    ("a URL with a key", re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s/?#@:]{16,}@")),
    ("a data source with a password", _SOURCE),
    ("a key in a query", re.compile(r"(?i)[?&](x-[a-z]{1,8}-)?(key|auth|sig|signature|code)=[^&\s]{6,}")),
    ("a password in a list of settings", re.compile(_PAIR + r"[\"']?\s*[=:]\s*[\"']?[^\s\"',;&]")),
    ("a password in a list of settings", re.compile(_SHORT_PAIR)),
    ("a password in front of a host", re.compile(_LOGIN)),
    (
        "a hashed password",
        re.compile(r"\$(apr1|1|2[abxy]|5|6|7|y|argon2[a-z]*)\$|\{S?SHA[0-9]*\}|(?i:pbkdf2|scram)[a-z0-9_-]{0,20}\$[0-9]"),
    ),
    ("credentials of an HTTP header", re.compile(r"(?i)(^|[\s:=])bearer\s+[a-z0-9+/=._~-]{8,}")),
    # `Basic authentication` is a description.
    (
        "credentials of an HTTP header",
        re.compile(r"(^|[\s:=])(?i:basic|negotiate|token|apikey)\s+(?=\S*[0-9=]|\S+[A-Z])[A-Za-z0-9+/=._~-]{8,}"),
    ),
    (
        "a webhook",
        re.compile(r"(?i)hooks\.slack\.com/services/\w|discord(app)?\.com/api/webhooks/[0-9]|[0-9]{6,12}:AA[\w-]{30,}"),
    ),
    (
        "a key of a known form",
        re.compile(
            r"(^|[^A-Za-z0-9])(gh[opsur]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|"
            r"gl(pat|rt|dt|ptt|cbt|soat|ft|oas|agent)-[\w-]{16,}|xox[abeprs]-[\w-]{8,}|"
            r"(AKIA|ASIA)[A-Z0-9]{16}|AIza[\w-]{30,}|sk[-_](live|test|proj|ant)[-_]\w{8,}|rk_(live|test)_\w{8,}|"
            r"sk-[A-Za-z0-9]{32,}|hf_[A-Za-z0-9]{20,}|whsec_\w{12,}|dop_v1_\w{16,}|shp(at|ca|pa|ss)_\w{16,}|"
            r"xapp-[\w-]{8,}|ATATT[\w-]{16,}|tskey-[\w-]{8,}|NRAK-[A-Z0-9]{12,}|"
            r"hv[sbr]\.[\w-]{16,}|"
            r"s\.[A-Za-z0-9]{24}$|npm_[A-Za-z0-9]{30,}|dckr_pat_[\w-]{16,}|dp\.pt\.\w{16,}|SG\.[\w-]{16,}\.[\w-]{16,}|"
            r"ya29\.[\w-]{16,}|pypi-[\w-]{30,}|AGE-SECRET-KEY-)"
        ),
    ),
)


def secret_name(name: str, value: str = "") -> str:
    """Return the word that makes ``name`` the name of a secret, or an empty string; a switch holds no secret."""
    if _BOOLEAN.fullmatch(value) and value:
        return ""
    lower = name.lower()
    words = [word for word in _WORD.findall(lower) if word not in _HARMLESS_WORDS]
    about_token = bool(words) and words[-1] in _ABOUT_TOKENS
    for word in words:
        if about_token and word in _TOKENS:
            continue
        if word in STRONG or word.startswith(_BEGINNINGS) or word.endswith(_ENDINGS):
            return word
    generated = _GENERATED.search(lower)
    if generated:
        return generated.group(1)
    if "connectionstring" in "".join(words):
        return "connection string"
    if words and words[-1] not in HARMLESS and "public" not in words:
        return next((word for word in words if word in WEAK or word.endswith(("key", "keys"))), "")
    return ""


def secret_value(value: str) -> str:
    """Return what kind of secret ``value`` looks like, or an empty string."""
    # Nothing longer is ever written to the catalogue.
    return next((what for what, pattern in _VALUES if pattern.search(value[:8192])), "")


def shown(text: str) -> str:
    """Return a user's text for a log line: quoted, cut where it is long, and without a secret."""
    what = secret_value(text)
    if what:
        return f"(a value that looks like {what})"
    return repr(text if len(text) <= 60 else text[:57] + "...")
