#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the configuration, template sources and commands of one consul-template process."""

from __future__ import annotations

DOCUMENTATION = r"""
module: consul_template_config
short_description: Write the configuration of consul-template as one checked whole
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Writes C(config.json), one source for each template in C(templates/) and one script for each command in C(commands/) below O(directory).
  - The complete candidate is first read by O(executable) itself (C(-parse-only -dry), as O(user), without any connection to Consul).
    When it is refused, nothing on the disk changes.
  - Sources and commands that the previous configuration named and the new one does not are removed. Other files are left alone.
  - A destination that does not exist yet, or no longer, counts as a change, because only a start of consul-template writes it.
options:
  directory:
    description: [The configuration directory. It is created when it does not exist.]
    type: path
    default: /etc/consul-template.d
  executable:
    description: [The consul-template program that judges the candidate.]
    type: path
    default: /usr/local/bin/consul-template
  user:
    description: [The user that consul-template runs as. Its primary group may read the files.]
    type: str
    default: consul-template
  settings:
    description: Everything in the configuration file except the templates, in the names of consul-template.
    type: dict
    default: {}
  command_timeout:
    description: [A command that takes longer is ended.]
    type: int
    default: 60
  apart_directory:
    description: The configuration directory of another process. It is not touched, and the result tells whether it is there.
    type: path
  templates:
    description: [The templates of this process.]
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: A unique name of lower-case letters, digits, C(_) and C(-). The source is named after it.
        type: str
        required: true
      contents:
        description: [The source in the language of consul-template.]
        type: str
        required: true
      destination:
        description: [The file to render. Its directory must exist and O(user) must be able to write into it.]
        type: str
        required: true
      initial:
        description: What is written to O(templates[].destination) when it does not exist, for those who read it before it is rendered for the first time.
        type: str
      perms:
        description: The mode of the rendered file, four octal digits.
        type: str
        default: "0644"
      command:
        description:
          - A shell command that runs after the file changed, and once after each start of consul-template.
          - Its failure is written to the journal and does not end consul-template.
        type: str
attributes:
  check_mode:
    description: Can run in check mode and tells what it would change. The candidate is judged as far as program and user exist already.
    support: full
  diff_mode:
    description: Shows the difference of each file.
    support: full
"""

EXAMPLES = r"""
- name: Write the configuration
  trinode.platform.consul_template_config:
    settings:
      consul:
        address: http://127.0.0.1:8500
    templates:
      - name: motd
        contents: !unsafe '{{ range service "web" }}{{ .Address }} {{ end }}'
        destination: /var/lib/motd/web
        command: logger web changed
  notify: consul_template | restart
"""

RETURN = r"""
files:
  description: The files that consul-template reads when it starts.
  type: list
  elements: str
  returned: success
commands:
  description: The scripts to run once after a start, because consul-template does not repeat a command for a file that is already equal.
  type: list
  elements: str
  returned: success
missing:
  description: Destinations that do not exist.
  type: list
  elements: str
  returned: success
apart:
  description: Whether there is a configuration in O(apart_directory).
  type: bool
  returned: success
removed:
  description: Files of an earlier configuration that were removed.
  type: list
  elements: str
  returned: success
"""

import os
import pwd
import shutil
import tempfile
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._consul_template import plan as ct

SEARCH_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def read(path: str) -> str | None:
    """The text of a file, None when it does not exist."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return None


def mode_of(path: str) -> tuple[int, int, int] | None:
    """Mode, owner and group of a path, None when it does not exist."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_mode & 0o7777, status.st_uid, status.st_gid


class Writer:
    """Brings a plan to the disk."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.directory: str = module.params["directory"].rstrip("/")
        try:
            account = pwd.getpwnam(module.params["user"])
            self.known, self.uid, self.gid = True, account.pw_uid, account.pw_gid
        except KeyError:
            if not module.check_mode:
                module.fail_json(msg=f"the user {module.params['user']} does not exist: create it before its files are written")
            self.known, self.uid, self.gid = False, 0, 0

    def as_user(self, command: list[str]) -> tuple[int, str, str]:
        """Run a command as the service's user, with nothing of our environment."""
        prefix = ["env", "-i", SEARCH_PATH, "setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--init-groups", "--no-new-privs", "--"]
        rc, stdout, stderr = self.module.run_command([*prefix, *command])
        return rc, stdout, stderr

    def judge(self) -> None:
        """Let consul-template itself read a copy of the candidate, as the user it will run as."""
        params = self.module.params
        if not self.known or not os.access(params["executable"], os.X_OK):
            if self.module.check_mode:
                return
            self.module.fail_json(msg=f"{params['executable']} is not an executable file: install consul-template before its configuration")
        root = tempfile.mkdtemp(prefix="consul-template-candidate-")
        try:
            os.chown(root, self.uid, self.gid)
            candidate = ct.plan(self.directory, {**params["settings"], "log_level": "err"}, params["templates"], params["command_timeout"], root)
            for file in candidate.files:
                os.makedirs(os.path.dirname(file.path), exist_ok=True)
                with open(file.path, "w", encoding="utf-8") as target:
                    target.write(file.text)
            for path, dirs, files in os.walk(root):
                for name in (*dirs, *files):
                    os.chmod(os.path.join(path, name), 0o755)
            rc, stdout, stderr = self.as_user([params["executable"], "-config", candidate.config, "-parse-only", "-dry"])
            if rc != 0:
                said = ct.complaint(stderr or stdout).replace(root, "")
                self.module.fail_json(msg=f"consul-template refuses the new configuration, the old one stays in use: {said}", rc=rc)
        finally:
            shutil.rmtree(root, ignore_errors=True)

    def check_access(self) -> None:
        """A destination that cannot be written, or a token that cannot be read, would show only later and in the journal."""
        if not self.known or self.module.check_mode:
            # In check mode the roles that make the directories may not have run yet.
            return
        user = self.module.params["user"]
        token_file = (self.module.params["settings"].get("consul") or {}).get("token_file")
        if token_file and self.as_user(["test", "-r", token_file])[0] != 0:
            self.module.fail_json(msg=f"the user {user} cannot read the token file {token_file}: create it with group {user} and mode 0640")
        for template in self.module.params["templates"]:
            directory = os.path.dirname(template["destination"])
            if self.as_user(["test", "-d", directory, "-a", "-w", directory, "-a", "-x", directory])[0] != 0:
                self.module.fail_json(
                    msg=f"template {template['name']!r}: the user {user} cannot write into {directory}: "
                    "create the directory, and let a group in consul_template_groups write into it"
                )

    def ensure_directory(self, path: str) -> bool:
        """Root owns the directories; the service may only read."""
        wanted = (0o750, 0, self.gid)
        if mode_of(path) == wanted:
            return False
        if not self.module.check_mode:
            os.makedirs(path, exist_ok=True)
            os.chown(path, 0, self.gid)
            os.chmod(path, 0o750)
        return True

    def ensure_file(self, file: ct.File) -> dict[str, t.Any] | None:
        """Write one file atomically; the difference when it changed."""
        before = read(file.path)
        wanted = (0o750 if file.executable else 0o640, 0, self.gid)
        if before == file.text and mode_of(file.path) == wanted:
            return None
        if not self.module.check_mode:
            handle, temporary = tempfile.mkstemp(dir=os.path.dirname(file.path), prefix=".new-")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as target:
                    target.write(file.text)
                    target.flush()
                    os.fsync(target.fileno())
                os.chown(temporary, 0, self.gid)
                os.chmod(temporary, wanted[0])
                os.replace(temporary, file.path)
            except OSError:
                os.unlink(temporary)
                raise
        return {"before_header": file.path, "after_header": file.path, "before": before or "", "after": file.text}

    def begin(self, path: str, text: str, mode: int) -> None:
        """What a rendered file begins with; consul-template, which is its owner, replaces it. Never over a file that has come meanwhile."""
        handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".new-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as target:
                target.write(text)
            os.chown(temporary, self.uid, self.gid)
            os.chmod(temporary, mode)
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            os.unlink(temporary)


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "default": "/etc/consul-template.d"},
            "executable": {"type": "path", "default": "/usr/local/bin/consul-template"},
            "user": {"type": "str", "default": "consul-template"},
            "settings": {"type": "dict", "default": {}},
            "apart_directory": {"type": "path"},
            "command_timeout": {"type": "int", "default": 60},
            "templates": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "contents": {"type": "str", "required": True},
                    "destination": {"type": "str", "required": True},
                    "perms": {"type": "str", "default": "0644"},
                    "command": {"type": "str"},
                    "initial": {"type": "str"},
                },
            },
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        ct.check(params["templates"])
    except ct.ConfigError as exc:
        module.fail_json(msg=f"consul_template_templates: {exc}")
    writer = Writer(module)
    wanted = ct.plan(writer.directory, params["settings"], params["templates"], params["command_timeout"])
    writer.check_access()
    writer.judge()

    old_config = read(wanted.config) or ""
    directories = (writer.directory, f"{writer.directory}/templates", f"{writer.directory}/commands")
    created = [directory for directory in directories if writer.ensure_directory(directory)]
    diffs = [diff for diff in map(writer.ensure_file, wanted.files) if diff]
    removed = [path for path in ct.stale(writer.directory, old_config, [file.path for file in wanted.files]) if os.path.lexists(path)]
    for path in removed:
        diffs.append({"before_header": path, "after_header": f"{path} (removed)", "before": read(path) or "", "after": ""})
        if not module.check_mode:
            os.unlink(path)
    begun = [template for template in params["templates"] if template["initial"] is not None and not os.path.exists(template["destination"])]
    for template in begun:
        diffs.append({"before_header": template["destination"], "after_header": template["destination"], "before": "", "after": template["initial"]})
        if not module.check_mode:
            writer.begin(template["destination"], template["initial"], int(template["perms"], 8))
    missing = [path for path in wanted.destinations if not os.path.exists(path) and path not in [template["destination"] for template in begun]]
    if missing:
        diffs.append({"before": "", "after": "".join(f"{path} will be rendered\n" for path in missing)})
    module.exit_json(
        changed=bool(created or diffs),
        files=[file.path for file in wanted.files if not file.executable],
        commands=list(wanted.commands),
        missing=missing,
        apart=bool(params["apart_directory"] and os.path.isdir(params["apart_directory"])),
        removed=removed,
        diff=diffs,
    )


if __name__ == "__main__":
    main()
