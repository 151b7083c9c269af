# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every playbook refuses wrong values of every security variable, whatever the command line leaves out."""

from __future__ import annotations

import re
import typing as t

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from control_node import ARGUMENTS, PLAYBOOKS, ROOT, Control, inventory

#: A way to get the weaker thing by mistake: variables of the inventory, and what the report says.
MISTAKES: dict[str, tuple[dict[str, t.Any], str]] = {
    "a capital letter": ({"platform_security": "Secure"}, "platform_security (site/hosts.yml:3) is 'Secure', which is neither"),
    "another word": ({"platform_security": "tls"}, "is 'tls', which is neither"),
    "an open one with a blank": ({"platform_security": "open "}, "is 'open ', which is neither"),
    "no value": ({"platform_security": None}, "is 'None', which is neither"),
    "an empty value": ({"platform_security": ""}, "is '', which is neither"),
    "a truth value": ({"platform_security": False}, "is 'False', which is neither"),
    "an unset variable": ({"platform_security": "{{ the_form }}"}, "platform_security (site/hosts.yml:3) cannot be evaluated"),
    "another name": ({"platform_securty": "secure"}, "did you mean platform_security?"),
    "the internal name": ({"platform_secure": False}, "platform_secure (site/hosts.yml:3) is no variable of the platform"),
    "one service": ({"platform_protected_services": "billing"}, 'is "billing" (a text), but must be a list; write ["billing"]'),
    "services without a value": ({"platform_protected_services": None}, "platform_protected_services (site/hosts.yml:3) has no value"),
    "services, misspelt": ({"platform_protected_service": ["billing"]}, "did you mean platform_protected_services?"),
    "a certificate's key": ({"platform_consul_certificates": {"ca": "/a", "certificat": "/b", "key": "/c"}}, "certificat"),
    "no certificates": ({"platform_consul_certificates": "own"}, 'is "own" (a text), but must be a dictionary'),
    "one certificate": ({"platform_tls_certificates": {"name": "apps"}}, "is a dictionary, but must be a list"),
    "an open edge": ({"platform_edge": "open"}, 'is "open" (a text), but must be a dictionary'),
    "a token that is a number": ({"registrator_consul_token": 1.5}, "registrator_consul_token"),
}


NAME_HOSTS = "needs a --limit that names some of the hosts, because that would be the whole site; name the hosts, as in --limit consul-1"
#: A task that comes after the preflight and is no include.
LATER = yaml.safe_load((ROOT / "playbooks" / "site.yml").read_text(encoding="utf-8"))[0]["post_tasks"][0]["name"]


def site(**variables: t.Any) -> dict[str, t.Any]:
    content = inventory()
    content["all"]["vars"] = {**variables, **content["all"]["vars"]}
    return content


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_every_playbook_refuses_all_of_them_at_once(control: Control, playbook: str) -> None:
    """One host has each mistake that the others do not hide, so one run shows all of them."""
    content = inventory()
    merged: dict[str, t.Any] = {}
    for variables, _text in MISTAKES.values():
        for name, value in variables.items():
            merged.setdefault(name, value)
    content["all"]["vars"].update(merged)
    control.write(content)
    outcome = control.play(playbook, *ARGUMENTS.get(playbook, []))
    outcome.refused("is 'Secure', which is neither 'secure' nor 'open'", *merged)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_one_sentence(control: Control, mistake: str) -> None:
    variables, text = MISTAKES[mistake]
    control.write(site(**variables))
    outcome = control.play("backup.yml")
    outcome.refused("consul-1, consul-2 and consul-3: ", text)
    assert outcome.report.startswith("1 problem."), outcome.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["--tags", "edge"],
        ["--skip-tags", "always,preflight"],
        ["--start-at-task", LATER],
        ["--limit", "consul-2"],
        ["--check"],
        ["--limit", "consul-3", "--tags", "registrator", "--skip-tags", "always"],
    ],
    ids=" ".join,
)
def test_nothing_on_the_command_line_leaves_the_check_out(control: Control, arguments: list[str]) -> None:
    control.write(site(platform_security="Open"))
    control.play("site.yml", *arguments).refused("is 'Open', which is neither")


def test_extra_variables_are_checked(control: Control) -> None:
    control.play("drain.yml", "--limit", "consul-1", "-e", "platform_security=Secure").refused("(CLI option '-e') is 'Secure'")
    control.play("drain.yml", "--limit", "consul-1", "-e", "platform_secure=false").refused("platform_secure (CLI option '-e') is no variable")
    # Neither that of other software, nor tolerated.
    ignored = {"preflight_ignored_variables": ["platform_*"], "preflight_tolerated": ["variable"]}
    outcome = control.play("site.yml", variables={**ignored, "platform_on_the_way": True})
    outcome.refused("platform_on_the_way is no variable of the platform, but internal")


@pytest.mark.parametrize("name", ["uninstall_everything", "uninstall_packages", "drain_last_instances", "remove_dead", "remove_last_servers"])
def test_a_confirmation_is_true_or_false(control: Control, name: str) -> None:
    control.play("undrain.yml", "-e", f"{name}=ture").refused(f"{name} (CLI option '-e') is wrong", "'ture'")


def test_hosts_agree_about_the_form(control: Control) -> None:
    content = inventory()
    content["all"]["children"]["consul_servers"]["hosts"]["consul-2"]["platform_security"] = "open"
    control.write(content)
    control.play("backup.yml").refused("platform_security differs from host to host: no value on consul-1 and consul-3; 'open' on consul-2")


@pytest.mark.parametrize("mistake", [name for name in MISTAKES if name != "an open edge"])
def test_a_mistake_in_security_cannot_be_tolerated(control: Control, mistake: str) -> None:
    variables, text = MISTAKES[mistake]
    control.write(site(**variables))
    tolerated = {"preflight_tolerated": ["variable", "security"]}
    control.play("backup.yml", variables=tolerated).refused(text)


def test_a_difference_in_the_form_cannot_be_tolerated(control: Control) -> None:
    content = inventory()
    for host in ("consul-1", "consul-2"):
        content["all"]["children"]["consul_servers"]["hosts"][host]["platform_security"] = "open"
    control.write(content)
    outcome = control.play("backup.yml", variables={"preflight_tolerated": ["variable", "security"]})
    outcome.refused("platform_security differs from host to host: 'open' on consul-1 and consul-2; no value on consul-3")


@pytest.mark.parametrize("given", ["true", "yes"])
def test_a_truth_value_of_the_command_line_counts(control: Control, given: str) -> None:
    content = inventory()
    groups = content["all"]["children"]
    groups["consul_servers"]["hosts"] = {"consul-1": groups["consul_servers"]["hosts"]["consul-1"]}
    groups["docker_hosts"]["hosts"] = groups["edge"]["hosts"] = {"consul-1": None}
    control.write(content)
    control.play("site.yml").refused("consul-1 is the only Consul server")
    outcome = control.play("site.yml", "-e", f"preflight_allow_single_server={given}")
    assert "only Consul server" not in outcome.report and outcome.calls, outcome.output


def test_both_forms_and_the_default_pass_the_check(control: Control) -> None:
    """The next thing is the connection: what is refused above is not refused for another reason."""
    for variables in ({}, {"platform_security": "secure"}, {"platform_security": "open"}):
        control.write(site(**variables))
        outcome = control.play("backup.yml")
        assert outcome.report.startswith("1 problem. "), outcome.output
        assert "1. consul-1, consul-2 and consul-3 cannot be reached" in outcome.report, outcome.output
        assert outcome.calls, outcome.output


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_every_play_has_its_variables_from_the_check(playbook: str) -> None:
    """Ansible skips a file of vars_files whose name it cannot evaluate, so nothing else may decide."""
    text = (ROOT / "playbooks" / playbook).read_text(encoding="utf-8")
    plays = text.count("\n  hosts:")
    assert plays, playbook
    assert text.count("\n  vars_files:") == plays
    checked = text.count("trinode.platform.checked_site")
    assert checked + text.count("*vars_files") == plays
    assert "platform_security |" not in text


#: Keywords whose value is an expression without braces.
BARE = {"when", "that", "until", "failed_when", "changed_when", "var"}


class _Loader(yaml.SafeLoader):
    """Reads tags that only Ansible knows as plain values."""


_Loader.add_multi_constructor("!", lambda loader, _tag, node: loader.construct_scalar(node))


def expressions(value: t.Any, bare: bool = False) -> t.Iterator[str]:
    """Find the expressions of Ansible in a document."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from expressions(one, key in BARE)
    elif isinstance(value, list):
        for one in value:
            yield from expressions(one, bare)
    elif isinstance(value, str):
        yield from [value] if bare else re.findall(r"{{.*?}}|{%.*?%}", value, re.DOTALL)


def reads_the_form(expression: str) -> bool:
    """Return whether an expression reads platform_security; a sentence that names it does not."""
    code = re.sub(r"'[^']*'|\"[^\"]*\"", lambda text: "" if " " in text[0] else text[0], expression)
    return "platform_security" in code


def test_a_sentence_is_no_expression() -> None:
    assert not reads_the_form("{{ 'platform_security is open' }}")
    assert reads_the_form("'a b' == platform_security or 'b' in hostvars.x['platform_security']")


@pytest.mark.parametrize(
    "document",
    ["when: platform_security == 'open'", "that:\n  - true\n  - x or\n    platform_security == 'open'", "a: [{b: '{{ x\n  | d(platform_security) }}'}]"],
)
def test_expressions_are_found(document: str) -> None:
    assert any(reads_the_form(one) for one in expressions(yaml.safe_load(document)))


def test_only_the_check_reads_platform_security() -> None:
    for folder in ("playbooks", "roles"):
        for path in (ROOT / folder).rglob("*.yml"):
            for document in yaml.load_all(path.read_text(encoding="utf-8"), Loader=_Loader):
                for one in expressions(document):
                    assert not reads_the_form(one), f"{path}: {one}"
        for path in (ROOT / folder).rglob("*.j2"):
            assert "platform_security" not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize(
    "inventory",
    ["inventories/hospital", "inventories/demo", "molecule/wan/sites/dc1.yml", "molecule/wan/sites/dc2.yml"],
)
def test_the_inventories_of_the_project_pass(control: Control, inventory: str) -> None:
    outcome = control.play(
        "site.yml",
        inventory=str(ROOT / inventory),
        environment={"LAB_NETWORK": "192.0.2", "ARTIFACT_MIRROR": "/nowhere"},
        variables={
            "ansible_connection": "ssh",
            "hospital_network": "192.0.2",
            "platform_artifact_mirror": "/nowhere",
            "platform_secrets_directory": str(control.site / "secrets"),
        },
    )
    assert "[ERROR]: Preflight found" not in outcome.output, outcome.output
    assert outcome.calls, outcome.output


@pytest.mark.parametrize(
    "playbook",
    [
        "upgrade.yml",
        "acceptance.yml",
        "replace_registrator.yml",
        "rotate_tokens.yml",
        "rotate_gossip_key.yml",
        "renew_authority.yml",
        "renew_certificates.yml",
        "evict_node.yml",
    ],
)
def test_a_machine_without_the_secrets_makes_none(control: Control, playbook: str) -> None:
    given = ARGUMENTS.get(playbook, [])
    control.play(playbook, *given).refused(f"The secrets of this secure site are not on this machine ({control.site}/secrets); bring the directory")
    (control.site / "secrets").mkdir()
    control.play(playbook, *given, variables={"platform_secrets_directory": "/nowhere"}).refused("not on this machine (/nowhere)")
    (control.site / "secrets" / "consul_ca.txt").write_text("x", encoding="utf-8")
    assert "The secrets of this secure site" not in control.play(playbook, *given, "--check").report


@pytest.mark.parametrize(
    "arguments",
    [
        ["--tags", "registrator"],
        ["--tags", "edge"],
        ["--tags", "docker_daemon_dns"],
        ["--tags", "preflight,edge"],
        ["--tags", "consul_server_install"],
        ["--skip-tags", "consul_server"],
        ["--skip-tags", "consul_server_configure"],
    ],
    ids=" ".join,
)
def test_a_part_of_a_run_makes_no_secrets(control: Control, arguments: list[str]) -> None:
    control.play("site.yml", *arguments).refused("The secrets of this secure site are not on this machine")


@pytest.mark.parametrize("more", [[], ["--check"]], ids=str)
def test_the_preflight_of_a_new_site_needs_no_secrets(control: Control, more: list[str]) -> None:
    outcome = control.play("site.yml", "--tags", "preflight", *more)
    assert "The secrets" not in outcome.output and outcome.calls and outcome.written == [], outcome.output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--skip-tags", "consul_acl"], "--skip-tags consul_acl configures secure agents without their tokens"),
        (["--tags", "consul_server", "--skip-tags", "consul_tls"], "secure agents without their certificates"),
        (["--start-at-task", LATER], "leaves out the checks at the beginning of the playbook"),
    ],
    ids=str,
)
def test_an_option_that_leaves_checks_out_is_refused(control: Control, arguments: list[str], text: str) -> None:
    control.play("site.yml", *arguments).refused(text)


REPLACES = "would replace what the playbooks set for the role"
#: What the playbooks decide, set from outside, and what the report says of it.
DECIDED: dict[str, tuple[t.Any, str]] = {
    "consul_server_security": ("offer", f"{REPLACES} consul_server; remove it; platform_security decides"),
    "consul_server_tokens": ({}, f"{REPLACES} consul_server; remove it"),
    "registrator_consul_token": ("", f"{REPLACES} registrator; remove it"),
    "nginx_tls_certificates": ([], f"{REPLACES} nginx; set "),
    "consul_tls_directory": ("/nowhere", "set platform_secrets_directory instead"),
    "preflight_wan_faults": ([], f"{REPLACES} preflight"),
    "consul_server_extra_config": (
        {"acl": {"default_policy": "allow"}},
        "acl.default_policy in consul_server_extra_config",
    ),
}


def test_what_the_playbooks_decide_is_not_set_from_outside(control: Control) -> None:
    given = {name: value for name, (value, _text) in DECIDED.items()}
    texts = [text for _value, text in DECIDED.values()]
    control.play("upgrade.yml", variables=given).refused(*DECIDED, *texts)
    control.write(site(**given))
    control.play("undrain.yml").refused(*DECIDED, *texts)
    control.write(inventory())
    (control.site / "host_vars").mkdir()
    (control.site / "host_vars" / "consul-2.yml").write_text(yaml.safe_dump(given), encoding="utf-8")
    own = [f"consul-2: {name} (site/host_vars/consul-2.yml:" for name in DECIDED if "extra" not in name]
    control.play("backup.yml").refused(*own, *texts)
    control.play("backup.yml", variables={"preflight_tolerated": ["security", "variable"]}).refused(*texts)


def test_an_open_site_gets_no_secure_agents_by_the_way(control: Control) -> None:
    control.write(site(platform_security="open", consul_server_security="require"))
    control.play("site.yml").refused("consul_server_security (site/hosts.yml:", f"{REPLACES} consul_server")


def test_internal_variables_of_roles_are_not_given(control: Control) -> None:
    outcome = control.play("site.yml", "-e", "__consul_server_secure=false")
    outcome.refused("__consul_server_secure (CLI option '-e') is internal to the role consul_server")


@pytest.mark.parametrize("playbook", ["site.yml", "rotate_tokens.yml"])
def test_variables_of_another_playbook_are_seen(control: Control, playbook: str) -> None:
    variables = {"platform_security": "open", "consul_server_security": "offer", "platform_protected_services": []}
    mine = control.place / "mine.yml"
    ours = str(ROOT / "playbooks" / playbook)
    mine.write_text(yaml.safe_dump([{"import_playbook": ours, "vars": variables}]), encoding="utf-8")
    outcome = control.play(str(mine))
    outcome.refused(*[f"{name} (mine.yml:" for name in variables], "move it to the inventory")
    mine.write_text(yaml.safe_dump([{"import_playbook": ours}]), encoding="utf-8")
    assert "move it to the inventory" not in control.play(str(mine), "-e", "platform_protected_services=[]").output


def test_one_directory_holds_the_secrets(control: Control) -> None:
    """Of two inventories with secrets, none is taken by its place on the command line."""
    other = control.place / "other"
    for place in (control.site, other):
        (place / "secrets").mkdir(parents=True)
        (place / "secrets" / "consul_ca.txt").write_text("x", encoding="utf-8")
    (other / "more.yml").write_text("all: {vars: {}}\n", encoding="utf-8")
    for playbook in ("upgrade.yml", "backup.yml"):
        outcome = control.play(playbook, "-i", str(other))
        both = (f"{control.site}/secrets", f"{other}/secrets")
        outcome.refused("next to several inventories of this run", *both, "set platform_secrets_directory")
    chosen = {"platform_secrets_directory": str(other / "secrets")}
    assert "the secrets" not in control.play("upgrade.yml", "-i", str(other), variables=chosen).report.lower()
    (other / "secrets" / "consul_ca.txt").unlink()
    more = {"consul_servers": {"hosts": {"consul-4": {"platform_address": "192.0.2.4", "ansible_host": "192.0.2.4"}}}}
    (other / "more.yml").write_text(yaml.safe_dump(more), encoding="utf-8")
    control.play("backup.yml", "-i", str(other)).refused("he hosts come from inventories in 2 directories")


def test_a_list_of_hosts_has_no_directory_beside_it(control: Control) -> None:
    given = {
        "platform_datacenter": "dc1",
        "platform_domain": "consul",
        "platform_edge_domain": "apps.hospital.example",
        "platform_artifact_mirror": "https://releases.hashicorp.com",
        "platform_address": "192.0.2.9",
    }
    source = control.place / "list"
    source.mkdir()
    groups = {"consul_servers": {"hosts": {"consul-9": None}}, "docker_hosts": None, "edge": None}
    (source / "groups.yml").write_text(yaml.safe_dump(groups), encoding="utf-8")
    outcome = control.play("backup.yml", "-i", str(source), inventory="consul-9,", variables=given)
    outcome.refused("consul-9 comes from no inventory file", "set platform_secrets_directory")
    outcome = control.play("backup.yml", "-e", "platform_secrets_directory=secrets")
    outcome.refused("platform_secrets_directory is 'secrets', which is not an absolute path")


def test_the_playbooks_make_no_first_secret_by_the_way() -> None:
    """One action makes the first one, after it asked the agents; each lookup that makes secrets leaves that to it."""
    making = 0
    for path in (ROOT / "playbooks").rglob("*.yml"):
        for call in re.findall(r"(?:lookup|query)\('trinode[.]platform[.]secret'.*?kind=[^)]*\)", path.read_text(encoding="utf-8"), re.DOTALL):
            making += 1
            assert call.endswith("begin=false)"), f"{path}: {call}"
    assert making > 10


@pytest.mark.parametrize("playbook", ["drain.yml", "remove_node.yml", "recover_quorum.yml", "uninstall.yml"])
@pytest.mark.parametrize("arguments", [[], ["--skip-tags", "always"]], ids=str)
def test_the_whole_site_is_never_meant_by_the_way(control: Control, playbook: str, arguments: list[str]) -> None:
    outcome = control.play(playbook, *arguments, "-e", "confirm_datacenter=dc1", "-e", "uninstall_everything=false")
    outcome.refused(NAME_HOSTS)


@pytest.mark.parametrize("playbook", ["drain.yml", "remove_node.yml", "recover_quorum.yml", "uninstall.yml"])
@pytest.mark.parametrize("limit", [",", " ", "@empty", "@all", "all", "consul-*", "!other", "consul_servers", "consul-1,consul-2,consul-3"])
def test_a_limit_that_leaves_nothing_out_names_no_hosts(control: Control, playbook: str, limit: str) -> None:
    (control.place / "empty").write_text("\n", encoding="utf-8")
    (control.place / "all").write_text("consul-1\nconsul-2\nconsul-3\n", encoding="utf-8")
    control.play(playbook, "-e", "confirm_datacenter=dc1", "--limit", limit).refused(NAME_HOSTS)


@pytest.mark.parametrize("limit", ["consul-1,", "@some", "edge", "consul_servers[0:1]", "all:!consul-3"])
def test_a_limit_that_names_some_hosts_does(control: Control, limit: str) -> None:
    (control.place / "some").write_text("consul-1\n", encoding="utf-8")
    assert NAME_HOSTS not in control.play("drain.yml", "--limit", limit).report


@pytest.mark.parametrize("playbook", ["remove_node.yml", "recover_quorum.yml", "uninstall.yml", "restore.yml", "evict_node.yml"])
def test_what_destroys_wants_the_site_named_twice(control: Control, playbook: str) -> None:
    limit = ["--limit", "consul-3"] if playbook not in ("restore.yml", "evict_node.yml") else []
    control.play(playbook, *limit).refused("was not confirmed; this inventory is the site dc1; add -e confirm_datacenter=dc1")
    control.play(playbook, *limit, "-e", "confirm_datacenter=dc2").refused("was confirmed for the site 'dc2', but this inventory is the site dc1")
    # Neither an inventory that confirms itself, nor the default of an ansible.cfg.
    control.write(site(confirm_datacenter="dc1"))
    control.play(playbook, *limit).refused("was not confirmed")
    by_default = {"ANSIBLE_CONFIG": str(control.place / "ansible.cfg")}
    (control.place / "ansible.cfg").write_text(f"[defaults]\ninventory = {control.site}\n", encoding="utf-8")
    outcome = control.play(playbook, *limit, "-e", "confirm_datacenter=dc1", inventory="", environment=by_default)
    outcome.refused("needs an inventory that you name", "is only the default of ansible.cfg; add -i ")


def test_nothing_that_was_encrypted_is_shown(control: Control) -> None:
    password = control.place / "password"
    password.write_text("open sesame\n", encoding="utf-8")
    vault = VaultLib([("default", VaultSecret(b"open sesame"))])
    lines = []
    for name in ("platform_security", "platform_domain", "platform_recursors", "consul_server_log_level", "my_secret"):
        lines += [f"{name}: !vault |", *(f"  {line}" for line in vault.encrypt("hunter_2").decode().splitlines())]
    lines += ["platform_datacenter: '{{ my_secret }} {{ inventory_hostname }}'"]
    (control.site / "group_vars").mkdir()
    (control.site / "group_vars" / "consul_servers.yml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    outcome = control.play("site.yml", "--vault-password-file", str(password))
    outcome.refused("platform_security", "platform_domain", "platform_recursors", "consul_server_log_level", "platform_datacenter differs")
    assert "hunter_2" not in outcome.output
    assert "(encrypted)" in outcome.report


def test_nothing_of_an_encrypted_file_is_shown(control: Control) -> None:
    password = control.place / "password"
    password.write_text("open sesame\n", encoding="utf-8")
    vault = VaultLib([("default", VaultSecret(b"open sesame"))])
    values = {
        "platform_security": "hunter_2",
        "platform_recursors": ["10.77.0.999"],
        "consul_server_log_level": "secret_level",
        "consul_server_version": 77.5,
        "my_secret": "dc hunter_3",
        "platform_prepared_queries": [{"name": "hunter_4", "failover": "consul-1 dc9"}],
    }
    (control.site / "group_vars").mkdir()
    (control.site / "group_vars" / "consul_servers.yml").write_bytes(vault.encrypt(yaml.safe_dump(values)))
    content = inventory()
    content["all"]["vars"]["platform_datacenter"] = "{{ my_secret }}"
    control.write(content)
    outcome = control.play("site.yml", "--vault-password-file", str(password))
    outcome.refused("consul-1, consul-2 and consul-3: ", "platform_security", "The recursor", "consul_server_log_level", "platform_datacenter")
    for secret in ("hunter", "10.77", "secret_level", "77.5", "dc9"):
        assert secret not in outcome.output, outcome.output


@pytest.mark.parametrize("name", ["uninstall_everything", "confirm_datacenter"])
def test_an_extra_variable_that_refers_to_nothing(control: Control, name: str) -> None:
    outcome = control.play("uninstall.yml", "-e", "confirm_datacenter=dc1", "-e", f"{name}={{{{ nope }}}}")
    outcome.refused(f"{name} cannot be evaluated: 'nope' is undefined; set nope for it, or correct its value.")
    assert "lookup plugin" not in outcome.report


@pytest.mark.parametrize("arguments", [[], ["--limit", "consul-1"]], ids=str)
@pytest.mark.parametrize("playbook", ["site.yml", "replace_registrator.yml"])
def test_an_inventory_that_is_not_there_is_an_error(control: Control, playbook: str, arguments: list[str]) -> None:
    missing = f"{control.place}/stie"
    outcome = control.play(playbook, *arguments, inventory=missing)
    assert outcome.status == 2, outcome.output
    assert "he inventory" in outcome.report and "stie does not exist; correct -i" in outcome.report, outcome.output
    outcome = control.play("site.yml", inventory="other-host,")
    outcome.refused("has no host in the groups consul_servers, consul_clients, docker_hosts and edge")


def test_a_variable_that_the_playbooks_overrule_is_told(control: Control) -> None:
    control.write(site(resolvconf_dns_domain="klinik", consul_server_node_name="{{ inventory_hostname }}"))
    outcome = control.play("undrain.yml")
    text = " ".join(outcome.output.split())
    assert "resolvconf_dns_domain (site/hosts.yml:3) has no effect, because the playbooks set it; set platform_domain instead" in text
    assert "consul_server_node_name" not in text
    assert "has no effect" not in control.play("undrain.yml", "-e", "resolvconf_dns_domain=klinik").output
