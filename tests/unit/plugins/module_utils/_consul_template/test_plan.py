# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of consul-template."""

from __future__ import annotations

import json
import subprocess

import pytest

from ansible_collections.trinode.platform.plugins.module_utils._consul_template import plan as ct

DIRECTORY = "/etc/consul-template.d"


def template(**changes):
    return {"name": "web", "contents": "{{ key }}", "destination": "/var/lib/x/web", "perms": "0644", "command": None, **changes}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "Web"}, "'Web' is not usable"),
        ({"name": "../web"}, "is not usable"),
        ({"name": "web\n"}, "is not usable"),
        ({"name": ""}, "is not usable"),
        ({"destination": "web"}, "not a plain absolute path"),
        ({"destination": "/var/../etc/shadow"}, "not a plain absolute path"),
        ({"destination": "/tmp/web"}, "out of reach"),
        ({"destination": "/home/op/web"}, "out of reach"),
        ({"perms": "644"}, "not a file mode"),
        ({"perms": "0999"}, "not a file mode"),
    ],
)
def test_refused(changes, said):
    with pytest.raises(ct.ConfigError, match=said):
        ct.check([template(**changes)])


def test_twice():
    with pytest.raises(ct.ConfigError, match="used twice"):
        ct.check([template(), template(destination="/var/lib/x/other")])
    with pytest.raises(ct.ConfigError, match="both write /var/lib/x/web"):
        ct.check([template(), template(name="other")])
    ct.check([template(), template(name="other", destination="/var/lib/x/other")])


def test_plan_order_and_config():
    plan = ct.plan(DIRECTORY, {"max_stale": "30s"}, [template(command="true")], 60)
    assert [file.path for file in plan.files] == [f"{DIRECTORY}/templates/web.ctmpl", f"{DIRECTORY}/commands/web", f"{DIRECTORY}/config.json"]
    assert plan.files[0].text == "{{ key }}", "a source passes untouched"
    config = json.loads(plan.files[-1].text)
    assert config["max_stale"] == "30s"
    (entry,) = config["template"]
    assert entry["error_fatal"] is False
    assert entry["exec"] == {"command": [f"{DIRECTORY}/commands/web"], "timeout": "75s"}


def test_equal_commands_share_a_script():
    plan = ct.plan(DIRECTORY, {}, [template(command="apply"), template(name="b", command=" apply\n"), template(name="c", command="other")], 60)
    assert plan.commands == (f"{DIRECTORY}/commands/web", f"{DIRECTORY}/commands/c")
    entries = json.loads(plan.files[-1].text)["template"]
    assert entries[0]["exec"]["command"] == entries[1]["exec"]["command"]


def test_candidate_lies_elsewhere_and_is_strict():
    plan = ct.plan(DIRECTORY, {}, [template(command="true")], 60, root="/run/new")
    assert all(file.path.startswith(f"/run/new{DIRECTORY}/") for file in plan.files)
    (entry,) = json.loads(plan.files[-1].text)["template"]
    assert entry["source"].startswith("/run/new/")
    assert entry["error_fatal"] is True
    assert entry["destination"] == "/var/lib/x/web"


@pytest.mark.parametrize(
    ("command", "status", "error"),
    [
        ("echo 'it'\"'\"'s \"$HOME\"' > out", 0, ""),
        ("exit 3", 0, "failed with status 3"),
        ("kill -9 $$", 0, "failed with status 137"),
        ("sleep 30", 0, "failed with status 124"),
    ],
)
def test_script_never_fails(tmp_path, command, status, error):
    plan = ct.plan(str(tmp_path), {}, [template(command=command)], 1)
    script = next(file for file in plan.files if file.executable)
    done = subprocess.run(["/bin/sh", "-c", script.text], cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == status
    assert error in done.stderr
    assert bool(done.stderr) == bool(error)
    if not error:
        assert (tmp_path / "out").read_text() == 'it\'s "$HOME"\n'


def test_stale_are_only_ours():
    old = ct.plan(DIRECTORY, {}, [template(command="a"), template(name="gone", command="b")], 60).files[-1].text
    new = ct.plan(DIRECTORY, {}, [template(command="a")], 60)
    assert ct.stale(DIRECTORY, old, [file.path for file in new.files]) == [f"{DIRECTORY}/commands/gone", f"{DIRECTORY}/templates/gone.ctmpl"]
    foreign = json.dumps({"template": [{"source": "/etc/passwd"}, {"source": f"{DIRECTORY}/templates/../../passwd"}]})
    assert ct.stale(DIRECTORY, foreign, []) == []
    assert ct.stale(DIRECTORY, "consul { }", []) == []
    assert ct.stale(DIRECTORY, "", []) == []


def test_complaint():
    output = "2026/01/01 [ERR] (cli) from file: a.json: 1 error(s) decoding:\n\n* '' has invalid keys: log_levle\n"
    assert ct.complaint(output) == "from file: a.json: 1 error(s) decoding:; * '' has invalid keys: log_levle"
    assert ct.complaint("panic: x\n") == "panic: x"
    assert ct.complaint("") == "no message"
