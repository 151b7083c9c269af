# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies and tokens of a Consul cluster: what there is, what there should be, and the calls between them.

Private to the collection. L(plan) is pure; L(AclApi) does the asking. No error holds a secret.
"""

from __future__ import annotations

import json
import re
import time
import typing as t
import urllib.error
import urllib.request

from .cluster import ConsulApi, split_address

#: Policies and tokens whose name or description begins so are ours.
PREFIX = "trinode-"
MANAGEMENT_POLICY = "global-management"
MANAGEMENT_POLICY_ID = "00000000-0000-0000-0000-000000000001"
#: Consul's own policies. Their rules are fixed, but whoever may write ACLs can rename them.
BUILT_IN_POLICIES = {MANAGEMENT_POLICY_ID: MANAGEMENT_POLICY, "00000000-0000-0000-0000-000000000002": "builtin/global-read-only"}
#: The accessor of the token that counts for requests without one.
ANONYMOUS = "00000000-0000-0000-0000-000000000002"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
#: What an agent answers to a call that its http_config blocks.
BLOCKED = "blocked by agent configuration"
_RESET_INDEX = re.compile(r"reset index: (\d+)")
POLL_SECONDS = 0.5


class AclError(Exception):
    """The tokens cannot be brought in order; the message names the remedy."""


class Wanted(t.NamedTuple):
    """One token with the policy of its own."""

    name: str
    secret: str
    rules: str = ""
    #: The node whose agent it is; gives the rights of a node identity.
    node: str = ""

    @property
    def label(self) -> str:
        """The name of the policy, and the description of the token."""
        return PREFIX + self.name


class Plan(t.NamedTuple):
    """What has to be done, in this order."""

    #: Bodies of policies to create, and of those to update with their id in them.
    policies: tuple[dict[str, t.Any], ...] = ()
    #: Bodies of tokens to create.
    create: tuple[dict[str, t.Any], ...] = ()
    #: Accessor and body of tokens to update.
    update: tuple[tuple[str, dict[str, t.Any]], ...] = ()
    #: Accessor and description of tokens that are ours and that nobody wants any more.
    surplus: tuple[tuple[str, str], ...] = ()
    #: Id and name of policies, likewise.
    surplus_policies: tuple[tuple[str, str], ...] = ()


def check(wanted: t.Sequence[Wanted], management: str) -> None:
    """Refuse what Consul would refuse, or take for something else."""
    seen: set[str] = set()
    for token in wanted:
        if not _NAME.fullmatch(token.name):
            raise AclError(f"the token {token.name!r} has no usable name: it takes letters, digits, '-' and '_'")
        if token.name in seen:
            raise AclError(f"the token {token.name!r} is given twice; leave one of them out")
        seen.add(token.name)
        if not token.rules and not token.node:
            raise AclError(f"the token {token.name!r} has no right at all; give it rules or a node")
    for name, secret in [("management", management), *((token.name, token.secret) for token in wanted)]:
        if not _UUID.fullmatch(secret):
            raise AclError(f"the secret of the token {name!r} is no UUID in lower case; remove its file, and a new one is made")
    if len({management, *(token.secret for token in wanted)}) != len(wanted) + 1:
        raise AclError("two tokens have the same secret; remove the file of one of them, and a new one is made")


def rules_of(text: str) -> str:
    """Rules as they are kept: without blanks that mean nothing."""
    return "\n".join(line.rstrip() for line in text.strip().splitlines() if line.strip())


def plan(wanted: t.Sequence[Wanted], policies: t.Sequence[t.Mapping[str, t.Any]], tokens: t.Sequence[t.Mapping[str, t.Any]], datacenter: str) -> Plan:
    """What turns the policies (with their rules) and tokens that there are into those that are wanted."""
    own = [policy for policy in policies if policy["ID"] not in BUILT_IN_POLICIES]
    by_name = {str(policy["Name"]): policy for policy in own}
    by_secret = {str(token.get("SecretID", "")): token for token in tokens}
    changed: list[dict[str, t.Any]] = [*_renamed_back(policies)]
    create: list[dict[str, t.Any]] = []
    update: list[tuple[str, dict[str, t.Any]]] = [*_anonymous(tokens)]
    for entry in wanted:
        if entry.rules:
            rules = rules_of(entry.rules)
            policy = by_name.get(entry.label)
            if policy is None:
                changed.append({"Name": entry.label, "Rules": rules})
            elif rules_of(str(policy.get("Rules", ""))) != rules or policy.get("Datacenters"):
                changed.append({"ID": policy["ID"], "Name": entry.label, "Rules": rules})
        body: dict[str, t.Any] = {
            "Description": entry.label,
            "Policies": [{"Name": entry.label}] if entry.rules else [],
            "NodeIdentities": [{"NodeName": entry.node, "Datacenter": datacenter}] if entry.node else [],
        }
        token = by_secret.get(entry.secret)
        if token is None:
            create.append({**body, "SecretID": entry.secret})
        elif _rights(token) != _rights(body):
            update.append((str(token["AccessorID"]), {**body, "AccessorID": token["AccessorID"], "SecretID": entry.secret}))
    secrets = {entry.secret for entry in wanted}
    labels = {entry.label for entry in wanted if entry.rules}
    return Plan(
        tuple(changed),
        tuple(create),
        tuple(update),
        tuple((str(token["AccessorID"]), str(token.get("Description"))) for token in tokens if is_ours(token) and token.get("SecretID") not in secrets),
        tuple((str(policy["ID"]), str(policy["Name"])) for policy in own if str(policy["Name"]).startswith(PREFIX) and policy["Name"] not in labels),
    )


def is_ours(token: t.Mapping[str, t.Any]) -> bool:
    """Whether a token carries the platform's mark, so that it ends when it is not wanted any more."""
    return str(token.get("Description", "")).startswith(PREFIX)


def _renamed_back(policies: t.Sequence[t.Mapping[str, t.Any]]) -> t.Iterator[dict[str, t.Any]]:
    """Bodies that give Consul's own policies their names back, so that no other policy's name stands for all rights."""
    for policy in policies:
        name = BUILT_IN_POLICIES.get(str(policy["ID"]))
        if name is not None and policy["Name"] != name:
            yield {"ID": policy["ID"], "Name": name, "Rules": policy["Rules"]}


def _anonymous(tokens: t.Sequence[t.Mapping[str, t.Any]]) -> t.Iterator[tuple[str, dict[str, t.Any]]]:
    """The update that takes all rights from requests without a token, when they have some."""
    for token in tokens:
        body: dict[str, t.Any] = {"AccessorID": ANONYMOUS, "Description": "Anonymous Token", "Policies": [], "NodeIdentities": []}
        if token["AccessorID"] == ANONYMOUS and _rights({**token, "Description": body["Description"]}) != _rights(body):
            yield ANONYMOUS, body


def policy_name(policy: t.Mapping[str, t.Any]) -> str:
    """The name of a token's policy. Consul's own ones keep theirs here when somebody renames them."""
    return BUILT_IN_POLICIES.get(str(policy.get("ID")), str(policy.get("Name")))


def _rights(token: t.Mapping[str, t.Any]) -> tuple[t.Any, ...]:
    return (
        token.get("Description"),
        sorted(map(policy_name, token.get("Policies") or ())),
        sorted((str(node.get("NodeName")), str(node.get("Datacenter"))) for node in token.get("NodeIdentities") or ()),
        bool(token.get("Roles") or token.get("ServiceIdentities") or token.get("TemplatedPolicies")),
    )


class Refused(Exception):
    """Consul's answer was not a success."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body


class AclApi:
    """Consul's ACL calls with one token."""

    def __init__(self, url: str, token: str) -> None:
        self.api = ConsulApi(url, token)

    def call(self, method: str, path: str, body: t.Any = None, anonymous: bool = False) -> t.Any:
        """The decoded answer; raises L(Refused), or OSError when there is none."""
        headers = {} if anonymous else {"X-Consul-Token": self.api.token or ""}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.api.url}{path}", data=data, method=method, headers=headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=10) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            raise Refused(error.code, error.read().decode("utf-8", "replace").strip()) from error

    def leader(self) -> str:
        """The address of the leader; empty while there is none."""
        try:
            return split_address(str(self.call("GET", "/v1/status/leader", anonymous=True) or ""))
        except (OSError, Refused):
            return ""

    def policies(self) -> list[dict[str, t.Any]]:
        """All policies; ours, and renamed ones of Consul, with their rules, which the list leaves out."""
        listed = self.call("GET", "/v1/acl/policies") or []
        return [self.call("GET", f"/v1/acl/policy/{policy['ID']}") if _is_compared(policy) else policy for policy in listed]

    def tokens(self) -> list[dict[str, t.Any]]:
        """All tokens, with their secrets."""
        return self.call("GET", "/v1/acl/tokens") or []


def _is_compared(policy: t.Mapping[str, t.Any]) -> bool:
    name = str(policy["Name"])
    return name.startswith(PREFIX) or BUILT_IN_POLICIES.get(str(policy["ID"]), name) != name


class Bootstrap(t.NamedTuple):
    """How the management token stands."""

    #: V(there), V(made), or V(lost): the cluster has one, and the given one is none.
    state: str
    #: What Consul wants to read in its data directory before it makes another one.
    reset_index: int = 0
    leader: str = ""


def bootstrap(acl: AclApi, seconds: float, dry: bool = False, initial: str = "") -> Bootstrap:
    """Make the given secret the management token of a cluster that has none yet, or only the initial one of its servers.

    The secret is the caller's own and is kept before it is sent, so an answer that gets lost costs nothing.
    """
    deadline = time.monotonic() + seconds
    last, asked_again = "it has no leader", False
    while True:
        leader = acl.leader()
        if leader:
            try:
                own = acl.call("GET", "/v1/acl/token/self")
                if any(policy.get("ID") == MANAGEMENT_POLICY_ID for policy in own.get("Policies") or ()):
                    return Bootstrap("there", leader=leader)
                raise AclError("the management token of the secrets may not manage the cluster: its policy global-management was taken away")
            except Refused as error:
                if "ACL support disabled" in error.body:
                    raise AclError("the cluster runs without ACLs; let its servers run with them first") from error
                last = error.body
                if "ACL not found" in error.body or "token does not exist" in error.body:
                    if dry:
                        return Bootstrap("made", leader=leader)
                    found = _made_with(acl, initial, leader) if initial else _bootstrap_once(acl, leader)
                    # A new leader knows no token until it has read its log, so it is asked once more.
                    if found is not None and (found.state != "lost" or asked_again or time.monotonic() > deadline):
                        return found
                    asked_again = found is not None
            except OSError as error:
                last = str(error)
        if time.monotonic() > deadline:
            if initial and "ACL not found" in last:
                last = "it knows neither that nor the one of consul_token_initial in the secrets; if it had tokens before, use -e consul_acl_reset=true"
            raise AclError(f"the cluster took no management token within {seconds:.0f} s: {last}; see `journalctl -u consul` on the servers")
        time.sleep(POLL_SECONDS)


def _bootstrap_once(acl: AclApi, leader: str) -> Bootstrap | None:
    """One try; None when another one may help."""
    try:
        acl.call("PUT", "/v1/acl/bootstrap", {"BootstrapSecret": acl.api.token}, anonymous=True)
    except Refused as error:
        match = _RESET_INDEX.search(error.body)
        if match:
            return Bootstrap("lost", int(match[1]), leader)
        if BLOCKED in error.body:
            raise AclError(f"{acl.api.url} refuses to make a management token: run again for all servers, without --limit") from error
        # The servers are still finding out that ACLs are on.
        return None
    return Bootstrap("made", leader=leader)


def _made_with(acl: AclApi, initial: str, leader: str) -> Bootstrap | None:
    """Try once with the initial token; None when another try may help, because the leader has not made it yet."""
    try:
        AclApi(acl.api.url, initial).call("PUT", "/v1/acl/token", _management(str(acl.api.token)))
    except Refused:
        return None
    return Bootstrap("made", leader=leader)


def _management(secret: str) -> dict[str, t.Any]:
    return {"SecretID": secret, "Description": "Management token", "Policies": [{"ID": MANAGEMENT_POLICY_ID}]}


def end(acl: AclApi, secret: str, dry: bool = False) -> bool:
    """End the token with this secret; return whether there was one."""
    ended = [str(token["AccessorID"]) for token in acl.tokens() if token.get("SecretID") == secret != ""]
    for accessor in ended:
        if not dry:
            acl.call("DELETE", f"/v1/acl/token/{accessor}")
    return bool(ended)


def replace_management(acl: AclApi, former: str, successor: str, seconds: float) -> tuple[AclApi, bool]:
    """Make another secret the management token and end the former one; returns the client that uses it, and whether that changed anything.

    A call that was interrupted is completed by the next one, whichever of the two secrets still works.
    """
    tokens = acl.tokens()
    missing = not any(token.get("SecretID") == successor for token in tokens)
    if missing:
        acl.call("PUT", "/v1/acl/token", _management(successor))
    new = AclApi(acl.api.url, successor)
    bootstrap(new, seconds)
    ended = [str(token["AccessorID"]) for token in tokens if token.get("SecretID") == former != successor]
    for accessor in ended:
        new.call("DELETE", f"/v1/acl/token/{accessor}")
    return new, bool(missing or ended)


def apply(acl: AclApi, todo: Plan, purge: bool) -> None:
    """Do what was planned."""
    try:
        for policy in todo.policies:
            acl.call("PUT", f"/v1/acl/policy/{policy['ID']}" if "ID" in policy else "/v1/acl/policy", policy)
        for token in todo.create:
            acl.call("PUT", "/v1/acl/token", token)
        for accessor, token in todo.update:
            acl.call("PUT", f"/v1/acl/token/{accessor}", token)
        if purge:
            for accessor, _description in todo.surplus:
                acl.call("DELETE", f"/v1/acl/token/{accessor}")
            for identity, _name in todo.surplus_policies:
                acl.call("DELETE", f"/v1/acl/policy/{identity}")
    except Refused as error:
        raise AclError(f"Consul refused a policy or a token: {error}") from error
