# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What vouches for a bundle besides itself, and the list of what is in it."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import subprocess
import sys
import tarfile
import types
import typing as t
import zipfile
from pathlib import Path

import jsonschema
import pytest
import referencing
import referencing.jsonschema

ROOT = Path(__file__).resolve().parents[3]
TOOLS = ROOT / "tools" / "bundle"
VERIFY = TOOLS / "verify"


def load(name: str) -> types.ModuleType:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


packages, sbom, bundle = load("packages"), load("sbom"), load("bundle")

INDEX = """Package: nginx
Version: 1.22.1-9+deb12u1
Architecture: amd64
SHA256: {digest}
Filename: ./nginx_1.22.1-9+deb12u1_amd64.deb

Package: iproute2
Version: 1:6.1.0-3
Architecture: amd64
SHA256: {digest}
Filename: ./iproute2_6.1.0-3_amd64.deb
""".format(digest="d" * 64)
GALAXY = "dependencies:\n  community.general: '>=11.2.1,<12.0.0'\n"


def archive(path: Path, members: dict[str, bytes]) -> Path:
    """Write a zip or a tar file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tar":
        with tarfile.open(path, "w") as target:
            for name, data in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                target.addfile(member, io.BytesIO(data))
    else:
        with zipfile.ZipFile(path, "w") as target_zip:
            for name, data in members.items():
                target_zip.writestr(zipfile.ZipInfo(name), data)
    return path


@pytest.fixture(name="files")
def fixture_files(tmp_path: Path) -> dict[str, Path]:
    """Return one file of each kind that a bundle has."""
    manifest = json.dumps({"collection_info": {"version": "11.4.0"}}).encode()
    members: dict[str, dict[str, bytes]] = {
        "artifacts/consul/1.22.5/consul_1.22.5_linux_amd64.zip": {"consul": b"program"},
        "artifacts/images/trinode-samples.tar": {"layer": b"image"},
        "artifacts/packages/bookworm_amd64.tar": {
            "Packages": INDEX.encode(),
            "nginx_1.22.1-9+deb12u1_amd64.deb": b"package",
        },
        "wheels/ansible-12.3.0-py3-none-any.whl": {"ansible_collections/community/general/MANIFEST.json": manifest},
        "wheels/ansible_core-2.19.4-py3-none-any.whl": {"x": b"wheel"},
        "wheels/cryptography-46.0.3-cp311-abi3-manylinux_2_28_x86_64.whl": {"x": b"wheel of one Python"},
        "wheels/cryptography-46.0.3-cp312-abi3-manylinux_2_28_x86_64.whl": {"x": b"wheel of another"},
    }
    made = {name: archive(tmp_path / name, content) for name, content in members.items()}
    for name in ("artifacts/packages/bookworm_amd64.tar.sha256", "artifacts/images/trinode-samples.tar.json"):
        (tmp_path / name).write_text("{}", encoding="ascii")
        made[name] = tmp_path / name
    return made


def parsed(files: dict[str, Path]) -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", json.loads(sbom.make_sbom("1.0.0", "0123abcd", 1_700_000_000, GALAXY, files)))


def validator() -> jsonschema.Draft7Validator:
    """Return the official schema, with those that it refers to."""
    found = importlib.util.find_spec("cyclonedx")
    assert found is not None and found.submodule_search_locations, "run 'make setup', which installs cyclonedx-python-lib"
    place = Path(found.submodule_search_locations[0]) / "schema" / "_res"
    names = ("bom-1.5", "spdx", "jsf-0.82")
    schemas = {name: json.loads((place / f"{name}.SNAPSHOT.schema.json").read_bytes()) for name in names}
    # They refer to each other by the names of their files.
    base = schemas["bom-1.5"]["$id"].rpartition("/")[0]
    draft = referencing.jsonschema.DRAFT7
    resources = [(f"{base}/{name}.SNAPSHOT.schema.json", referencing.Resource(schema, draft)) for name, schema in schemas.items()]
    return jsonschema.Draft7Validator(schemas["bom-1.5"], registry=referencing.Registry().with_resources(resources))


def test_the_list_is_valid_cyclonedx(files: dict[str, Path]) -> None:
    made = parsed(files)
    assert [error.message for error in validator().iter_errors(made)] == []
    # The schema refuses what is none.
    made["components"][0]["hashes"][0]["content"] = "not a hash"
    assert list(validator().iter_errors(made))


def test_everything_is_listed_with_its_version_and_hash(files: dict[str, Path]) -> None:
    made = parsed(files)
    listed = {(entry["name"], entry["version"], entry["hashes"][0]["content"]) for entry in made["components"]}
    wheel = zipfile.ZipFile(files["wheels/ansible-12.3.0-py3-none-any.whl"])
    manifest = wheel.read("ansible_collections/community/general/MANIFEST.json")
    wanted = {("nginx", "1.22.1-9+deb12u1", "d" * 64), ("iproute2", "1:6.1.0-3", "d" * 64)}
    wanted.add(("community.general", "11.4.0", hashlib.sha256(manifest).hexdigest()))
    versions = {
        "consul": "1.22.5",
        "trinode-samples": "1.0.0",
        "ansible": "12.3.0",
        "ansible_core": "2.19.4",
        "cryptography": "46.0.3",
    }
    for name, path in files.items():
        if name.endswith((".zip", ".whl")) or ("images" in name and name.endswith(".tar")):
            longest = sorted(versions, key=len, reverse=True)
            product = next(product for product in longest if path.name.startswith(product))
            wanted.add((product.replace("_", "-"), versions[product], packages.sha256(path)))
    assert listed == wanted
    assert len({entry["bom-ref"] for entry in made["components"]}) == len(made["components"])
    assert sorted(made["dependencies"][0]["dependsOn"]) == sorted(entry["bom-ref"] for entry in made["components"])
    purls = {entry["purl"] for entry in made["components"]}
    assert "pkg:deb/debian/iproute2@1%3A6.1.0-3?arch=amd64&distro=bookworm" in purls
    assert "pkg:golang/github.com/hashicorp/consul@v1.22.5" in purls


def test_equal_bundles_have_an_equal_list(files: dict[str, Path]) -> None:
    backwards = dict(reversed(files.items()))
    assert parsed(files) == parsed(backwards)
    archive(files["wheels/ansible_core-2.19.4-py3-none-any.whl"], {"x": b"another"})
    assert parsed(files)["serialNumber"] != parsed(dict(list(files.items())[:2]))["serialNumber"]


# --- what vouches for the bundle --------------------------------------------------------------------------------------


def verify(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", str(VERIFY), *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture(name="signed")
def fixture_signed(tmp_path: Path) -> dict[str, Path]:
    """Return a bundle with a signature, the file of its signers, and the key of somebody else."""
    made = {"bundle": tmp_path / "trinode-platform-1.0.0-amd64.tar", "signers": tmp_path / "signers"}
    made["bundle"].write_bytes(b"a bundle")
    for name in ("key", "other"):
        made[name] = tmp_path / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(made[name])], check=True)
    public = made["key"].with_suffix(".pub").read_text(encoding="ascii")
    made["signers"].write_text(f"builder@site.example {public}", encoding="ascii")
    bundle.sign(made["bundle"], made["key"])
    return made


def test_a_signature_is_checked_without_anything_of_the_bundle(signed: dict[str, Path]) -> None:
    done = verify(signed["bundle"], signed["signers"], "builder@site.example")
    assert (done.returncode, done.stdout) == (0, f"{signed['bundle']}: signed by builder@site.example\n"), done.stderr
    assert verify(signed["bundle"], signed["signers"], "somebody@site.example").returncode == 1
    with signed["bundle"].open("ab") as target:
        target.write(b"x")
    done = verify(signed["bundle"], signed["signers"], "builder@site.example")
    assert done.returncode == 1 and "do not unpack it" in done.stderr


def test_the_signature_of_another_key_or_for_something_else_does_not_count(signed: dict[str, Path]) -> None:
    bundle.sign(signed["bundle"], signed["other"])
    assert verify(signed["bundle"], signed["signers"], "builder@site.example").returncode == 1
    signature = Path(f"{signed['bundle']}.sig")
    signature.unlink()
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", "file", "-f", str(signed["key"]), str(signed["bundle"])]
    subprocess.run(command, check=True)
    assert verify(signed["bundle"], signed["signers"], "builder@site.example").returncode == 1
    signature.unlink()
    done = verify(signed["bundle"], signed["signers"], "builder@site.example")
    assert done.returncode == 1 and f"{signature}: there is no such file" in done.stderr


def test_a_key_that_is_none_is_named(signed: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(bundle.BundleError, match=f"cannot be signed with {tmp_path}/none"):
        bundle.sign(signed["bundle"], tmp_path / "none")


def test_the_checksum_comes_by_another_way(signed: dict[str, Path]) -> None:
    digest = bundle.put_checksum(signed["bundle"])
    assert digest == hashlib.sha256(b"a bundle").hexdigest()
    assert verify(signed["bundle"], digest).returncode == 0
    assert verify(signed["bundle"], digest.upper()).returncode == 0, "as somebody types it who hears it by telephone"
    command = ["sha256sum", "--check", "--quiet", f"{signed['bundle']}.sha256"]
    subprocess.run(command, cwd=signed["bundle"].parent, check=True)
    signed["bundle"].write_bytes(b"another bundle")
    done = verify(signed["bundle"], digest)
    assert done.returncode == 1 and f"and not {digest}: do not unpack it" in done.stderr
    for wrong in ("", "abc", digest[:-1], f"{digest}0", digest[:-1] + "x"):
        done = verify(signed["bundle"], wrong)
        assert done.returncode == 1 and "is not a SHA-256" in done.stderr
    assert "there is no such file" in verify("/nowhere", digest).stderr
    assert "usage" in verify(signed["bundle"]).stderr
