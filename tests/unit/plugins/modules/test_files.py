# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules that bring many files at once: the open one, and the one for secrets."""

from __future__ import annotations

import getpass
import grp
import json
import os
import typing as t
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.trinode.platform.plugins.modules import files, private_files

MINE = {"owner": getpass.getuser(), "group": grp.getgrgid(os.getgid()).gr_name}
Run = t.Callable[..., dict[str, t.Any]]


@pytest.fixture(name="run")
def fixture_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run a module as Ansible does; gives what it printed."""

    def run(module: t.Any, *, check: bool = False, **arguments: t.Any) -> dict[str, t.Any]:
        (tmp_path / "tmp").mkdir(exist_ok=True)
        arguments |= {"_ansible_check_mode": check, "_ansible_diff": True, "_ansible_tmpdir": str(tmp_path / "tmp")}
        with patch_module_args(arguments), pytest.raises(SystemExit):
            module.main()
        return json.loads(capsys.readouterr().out)

    return run


def test_all_in_one_call(run: Run, tmp_path: Path) -> None:
    library, program = tmp_path / "lib", tmp_path / "program"
    wanted: dict[str, t.Any] = {
        "directories": [{"path": str(library), **MINE}],
        "files": [
            {"path": str(library / "a.py"), "content": "a\n", **MINE},
            {"path": str(program), "content": "#!/bin/sh\ngrep -q a\n", "mode": "0755", **MINE},
        ],
        "purge": [str(library)],
        "remove": [str(tmp_path / "former")],
    }
    everything = [str(library), str(library / "a.py"), str(program)]
    planned = run(files, check=True, **wanted)
    assert (planned["changed"], planned["written"], list(tmp_path.iterdir())) == (True, everything, [tmp_path / "tmp"])
    done = run(files, **wanted)
    assert (done["changed"], done["written"], done["removed"]) == (True, everything, [])
    assert done["diff"][0] == {"before_header": str(library / "a.py"), "after_header": str(library / "a.py"), "before": "", "after": "a\n"}
    assert run(files, **wanted) == {**done, "changed": False, "written": [], "diff": []}
    (tmp_path / "former").touch()
    (library / "old.py").touch()
    program.write_text("broken")
    again = run(files, **wanted)
    assert (again["written"], again["removed"]) == ([str(program)], [str(library / "old.py"), str(tmp_path / "former")])
    assert again["diff"][0]["before"] == "broken"
    assert os.access(program, os.X_OK)


def test_a_content_that_is_refused(run: Run, tmp_path: Path) -> None:
    def wanted(content: str, command: str) -> dict[str, t.Any]:
        return {"files": [{"path": str(tmp_path / "a.conf"), "content": content, "validate": command, **MINE}]}

    assert run(files, **wanted("good\n", "/bin/grep -q good %s"))["changed"]
    refused = run(files, **wanted("bad\n", "/bin/sh -c 'echo \"%s: no good\" >&2; exit 3'"))
    assert refused["failed"]
    assert refused["rc"] == 3
    assert refused["msg"].startswith(f"{tmp_path / 'a.conf'} was left as it is, because")
    assert refused["msg"].endswith(f"{tmp_path / 'a.conf'}: no good"), "the file that was tried is nobody's business"
    assert (tmp_path / "a.conf").read_text() == "good\n"
    assert list((tmp_path / "tmp").iterdir()) == []
    assert run(files, check=True, **wanted("bad\n", "/bin/grep -q good %s"))["failed"], "a check says it, too"
    assert not run(files, **wanted("good\n", "/bin/false %s"))["changed"], "what is there already is not asked for again"
    program = str(tmp_path / "program")
    assert run(files, check=True, **wanted("new\n", f"{program} %s"))["changed"], "on a bare host, a check comes before the program"
    twice = run(files, **wanted("bad\n", "/bin/sh -c 'exit 9' 100% %s %s"))
    assert f"is not accepted by '/bin/sh -c 'exit 9' 100% {tmp_path / 'a.conf'} {tmp_path / 'a.conf'}'" in twice["msg"]
    assert "lacks the %s" in run(files, **wanted("new\n", "/bin/true"))["msg"]


def test_a_secret_is_never_told(run: Run, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    arguments: dict[str, t.Any] = {
        "directories": [{"path": str(tokens), **MINE}],
        "files": [{"path": str(tokens / "a"), **MINE}],
        "contents": {str(tokens / "a"): "hush-hush"},
        "purge": [str(tokens)],
        "remove": [str(tmp_path / "former")],
    }
    assert "hush" not in json.dumps(run(private_files, **arguments) | {"invocation": ""})
    assert (tokens / "a").read_text() == "hush-hush"
    assert (tokens / "a").stat().st_mode & 0o777 == 0o640
    (tokens / "b").write_text("of nobody any more")
    (tmp_path / "former").touch()
    assert run(private_files, **arguments)["written"] == [str(tokens / "b"), str(tmp_path / "former")]
    assert not run(private_files, **arguments)["changed"]
    kept = arguments | {"files": [{"path": str(tokens / "a"), "force": False, **MINE}], "contents": {str(tokens / "a"): "another"}}
    assert not run(private_files, **kept)["changed"], "one that is there stays"
    assert run(private_files, **arguments | {"contents": {}})["written"] == [str(tokens / "a")]
    assert list(tokens.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"contents": {"/etc/other": "x"}}, "contents has /etc/other, which is none of the files; correct its path"),
        ({"files": [{"path": "/etc/a", "mode": "0644"}]}, "everybody could read /etc/a; give it a mode that ends in 0"),
        ({"directories": [{"path": "/etc/a", "mode": "open"}]}, '/etc/a: the mode is "open"; write four octal digits, such as "0644"'),
    ],
)
def test_secrets_that_cannot_be_meant(run: Run, change: dict[str, t.Any], message: str) -> None:
    assert run(private_files, **change)["msg"] == message


def test_a_directory_is_missing(run: Run, tmp_path: Path) -> None:
    result = run(files, files=[{"path": str(tmp_path / "missing" / "a"), "content": "x", **MINE}])
    assert result["msg"] == f"{tmp_path / 'missing'} cannot be written: No such file or directory; see that its directory is there and the disk is not full"


def test_a_secret_that_a_killed_run_left_under_another_name_is_removed(run: Run, tmp_path: Path) -> None:
    wanted = {"path": str(tmp_path / "b.token"), "mode": "0600", **MINE}
    former, present, other = (tmp_path / name for name in (".b.token.0a1b2c3d", ".b.token.00000000", ".b.token.of-mine"))
    for path in (former, present, other):
        path.write_text("former")
    for path in (former, other):
        os.utime(path, (0, 0))
    arguments: dict[str, t.Any] = {"files": [wanted], "contents": {wanted["path"]: "hush"}}
    run(private_files, **arguments)
    assert not former.exists() and present.exists() and other.exists(), "another run may be writing it, and the rest is not ours"
    assert not run(private_files, **arguments)["changed"]
    os.utime(present, (0, 0))
    assert run(private_files, check=True, **arguments)["written"] == [str(present)] and present.exists()
    assert run(private_files, **arguments)["written"] == [str(present)] and not present.exists()
