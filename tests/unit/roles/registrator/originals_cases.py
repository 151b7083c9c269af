# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The containers on which the engine is compared with the originals: labels, variables, ports, networks and states."""

from __future__ import annotations

import shlex
import typing as t
from collections.abc import Iterator

from small_image import ROOT

PREFIX = "cmp-"
ONE, TWO, DNS, NONE = "cmp-web:1.2.3", "cmp-two:2", "cmp-dns:latest", "cmp-none:1"
ENV, TEAM = "cmp-env:3", "reg.example:5000/t/cmp-team:4"

IMAGES = f"""{ROOT}tar -C $root -cf $root.tar .
docker import -c 'EXPOSE 80/tcp' $root.tar {ONE}
docker import -c 'EXPOSE 80/tcp' -c 'EXPOSE 443/tcp' $root.tar {TWO}
docker import -c 'EXPOSE 53/tcp' -c 'EXPOSE 53/udp' $root.tar {DNS}
docker import $root.tar {NONE}
docker import -c 'EXPOSE 80/tcp' -c 'ENV SERVICE_NAME=from-image' -c 'ENV SERVICE_80_REGION=image' \\
    -c 'LABEL SERVICE_TAGS=label,image' $root.tar {ENV}
docker import -c 'EXPOSE 80/tcp' $root.tar {TEAM}
rm -r $root $root.tar
"""


class Case(t.NamedTuple):
    """One container."""

    name: str
    options: str
    image: str = ONE
    command: str = "sleep 36000"
    then: tuple[str, ...] = ()


def _labels(**labels: str) -> str:
    return " ".join("-l " + shlex.quote(f"{key}={value}") for key, value in labels.items())


def _numbered(letter: str, rows: list[tuple[str, str]]) -> Iterator[Case]:
    for number, (options, image) in enumerate(rows):
        yield Case(f"{PREFIX}{letter}{number:02d}", options, image)


def _published(image: str, **labels: str) -> tuple[str, str]:
    return f"-P {_labels(**labels)}", image


NAME_VALUES = (
    "n-plain", "Upper", "n.dot", "n_under", "n-end-", "n.end.", "-n", "_n",
    "n" * 63, "n" * 64, "n" * 128, "n" * 129, "n" * 200,
    " n-blanks ", "n blank", "n/slash", "n:colon", "n+plus", "café", "123", "", " ", "n,comma", "n%41", "$n",
)  # fmt: skip

TAG_VALUES = (
    "a", "a,b", "b,a", "a,a", " a , b ", "a,,b", ",", "", " ", "a\\,b", "a\\\\,b", "a\\b", "traefik.enable=true,x:y/z",
    "t" * 255, "t" * 256, "{{.Config.Hostname}},x", "a b", "UPPER,lower", "é", "a\nb,c",
)  # fmt: skip

META = (
    {"SERVICE_REGION": "west"}, {"SERVICE_80_REGION": "west"}, {"SERVICE_REGION": "east", "SERVICE_80_REGION": "west"},
    {"SERVICE_81_REGION": "west"}, {"SERVICE_VERSION": "7"}, {"SERVICE_VERSION": ""}, {"SERVICE_EDGE_PORT": "8080"},
    {"SERVICE_LONG": "x" * 512}, {"SERVICE_LONG": "x" * 513}, {"SERVICE_K.DOT": "x"}, {"SERVICE_" + "K" * 129: "x"},
    {"SERVICE_Lower_Case": "x"}, {"service_lower": "x"}, {"SERVICE_": "x"}, {"SERVICE": "x"}, {"SERVICE_80": "x"},
    {"SERVICE_80_": "x"}, {"SERVICE_DB_PASSWORD": "x"}, {"SERVICE_CONSUL-X": "x"}, {"SERVICE_TWO": "a\nb"},
    {"SERVICE_BLANK": " x "}, {"SERVICE_EMPTY": ""}, {"SERVICE_EQ": "a=b=c"}, {"SERVICE_UNI": "café"},
    {f"SERVICE_M{number}": "x" for number in range(70)}, {"SERVICE_WEIGHT": "20"}, {"SERVICE_WEIGHT": "0"},
    {"SERVICE_WEIGHT": "101"}, {"SERVICE_WARMUP": "1h"}, {"SERVICE_WARMUP": "soon"},
    {"SERVICE_ENABLE_TAG_OVERRIDE": "true"}, {"SERVICE_80_TCP_NAME": "m-tcp"}, {"SERVICE_79-81_NAME": "m-range"},
    {"SERVICE_0_NAME": "m-zero"}, {"SERVICE_080_NAME": "m-padded"}, {"SERVICE_100000_NAME": "m-big"},
    {"SERVICE_-1_NAME": "m-minus"},
    {"com.docker.compose.project": "shop", "com.docker.compose.service": "web"},
    {"com.docker.swarm.service.name": "shop_web", "com.docker.stack.namespace": "shop"},
    {"OTHER": "x", "traefik.enable": "true"},
)  # fmt: skip

IGNORE_VALUES = ("true", "1", "yes", "anything", "false", "no", "off", "0", "")

CHECKS = (
    {"HTTP": "/health"}, {"HTTP": "health"}, {"HTTP": "/a b"}, {"HTTP": "/h?x=1&y=2"},
    {"HTTP": "http://localhost:80/health"},
    {"HTTP": "/", "HTTP_METHOD": "HEAD"}, {"HTTP": "/", "HTTP_METHOD": "head"}, {"HTTP": "/", "HTTP_METHOD": "POST"},
    {"HTTPS": "/health"}, {"HTTPS": "/", "HTTPS_METHOD": "HEAD"}, {"HTTPS": "/", "HTTP_METHOD": "HEAD"},
    {"HTTPS": "/", "TLS_SKIP_VERIFY": "true"}, {"TCP": "true"}, {"TCP": "1"}, {"TCP": "false"}, {"TCP": "yes"},
    {"GRPC": "true"}, {"GRPC": "my.Service"}, {"GRPC": "true", "GRPC_USE_TLS": "true"},
    {"GRPC": "true", "GRPC_USE_TLS": "false"}, {"TTL": "30s"}, {"TTL": "soon"}, {"TTL": "30"},
    {"SCRIPT": "true $SERVICE_IP $SERVICE_PORT"},
    {"SCRIPT": "true"}, {"SCRIPT": "echo 'a b' | grep -q a", "TIMEOUT": "4s"}, {"CMD": "/bin/true x"},
    {"HTTP": "/", "INTERVAL": "15s"}, {"HTTP": "/", "INTERVAL": "15"}, {"HTTP": "/", "INTERVAL": "0s"},
    {"HTTP": "/", "INTERVAL": "-5s"}, {"HTTP": "/", "INTERVAL": "1d"}, {"HTTP": "/", "INTERVAL": "1m30s"},
    {"HTTP": "/", "TIMEOUT": "3s"}, {"HTTP": "/", "TIMEOUT": "fast"}, {"HTTP": "/", "INITIAL_STATUS": "passing"},
    {"HTTP": "/", "INITIAL_STATUS": "Passing"}, {"HTTP": "/", "INITIAL_STATUS": "good"},
    {"HTTP": "/", "DEREGISTER_AFTER": "10m"}, {"HTTP": "/", "DEREGISTER_AFTER": "never"},
    {"HTTP": "/", "HEADER": "X: y"},
    {"HTTP": "/", "TCP": "true"}, {"HTTPS": "/", "TTL": "30s"}, {"INTERVAL": "5s"}, {"HTTP": ""},
)  # fmt: skip


def _states() -> Iterator[Case]:
    yield Case(f"{PREFIX}s00", "-P", then=("pause",))
    yield Case(f"{PREFIX}s01", "-P", then=("stop -t 0",))
    yield Case(f"{PREFIX}s02", "-P", then=("kill",))
    yield Case(f"{PREFIX}s03", "-P", then=("stop -t 0", "start"))
    yield Case(f"{PREFIX}s04", "-P --health-cmd true --health-interval 1s")
    yield Case(f"{PREFIX}s05", "-P --health-cmd false --health-interval 1s --health-retries 1")
    yield Case(f"{PREFIX}s06", "-P --health-cmd true --health-interval 1h")
    yield Case(f"{PREFIX}s07", "-P --health-cmd true --health-interval 1h " + _labels(SERVICE_CHECK_HTTP="/"))
    yield Case(f"{PREFIX}s08", "-P --restart always", then=("restart -t 0",))
    yield Case(f"{PREFIX}s09", "-P", command="true")


def _places() -> Iterator[Case]:
    """Ports and networks."""
    options = [
        ("", ONE), ("-P", ONE), ("-P", TWO), ("-P", DNS), ("-P", NONE), ("-p 80", NONE), ("-p 81", ONE), ("-p 80", TWO),
        ("-p 24080:80", ONE), ("-p 127.0.0.1::80", ONE), ("-p 127.0.0.2::80", ONE), ("-p 24081:80 -p 24082:80", ONE),
        ("-p 24083:80 -p 127.0.0.1:24084:80", ONE), ("-p 80 -p 127.0.0.1::9090", ONE), ("-p 80/udp", ONE),
        ("-p 80 -p 80/udp", NONE),
        ("-p 24100-24102:9000-9002", NONE), ("-p '[::1]::80'", ONE), ("-p '[::]:24085:80'", ONE),
        ("-p 0.0.0.0::80", ONE),
        ("-p 172.17.0.1::80", ONE), ("-p 172.17.0.1:24086:80 -p 24087:80", ONE), ("--expose 81 -P", ONE),
        ("--expose 81 -p 80", ONE),
        ("--net host", ONE), ("--net host", TWO), ("--net host", NONE), ("--net host --expose 24088", NONE),
        ("--net none", ONE),
        (f"--net {PREFIX}net -P", ONE), (f"--net {PREFIX}net", ONE), (f"--net container:{PREFIX}w01", ONE),
        (f"--net container:{PREFIX}w02", ONE), ("-P", TEAM), ("-P", ENV), ("-P -e SERVICE_NAME=from-run", ENV),
        ("-P -l SERVICE_NAME=from-label", ENV), ("-P -e SERVICE_80_NAME=port-env -l SERVICE_NAME=general-label", ONE),
        ("-P -e SERVICE_TAGS=env -l SERVICE_TAGS=label", ONE), ("-P -e SERVICE_TAGS=env", ENV),
        ("-P -h other-host", ONE),
    ]  # fmt: skip
    yield from _numbered("w", options)
    yield Case(f"{PREFIX}w41", f"--net {PREFIX}net -P", then=(f"network connect {PREFIX}two",))


def _ids() -> Iterator[Case]:
    rows = []
    for image in (ONE, TWO, DNS):
        port = "53" if image == DNS else "80"
        for value in ("{0}-id", "{0}.id_x", "{0}:id@x", "my {0}/1", "{0}é", "-{0}"):
            rows.append((image, {"SERVICE_ID": value}))
        rows.append((image, {f"SERVICE_{port}_ID": "{0}-port"}))
        rows.append((image, {"SERVICE_ID": "{0}-g", f"SERVICE_{port}_ID": "{0}-p"}))
    for number, (image, labels) in enumerate(rows):
        name = f"{PREFIX}i{number:02d}"
        yield Case(name, f"-P {_labels(**{key: value.format(name) for key, value in labels.items()})}", image)


def _cases() -> Iterator[Case]:
    names = [_published(image, SERVICE_NAME=value) for image in (ONE, TWO) for value in NAME_VALUES]
    names += [_published(TWO, SERVICE_80_NAME=value) for value in ("p-plain", "", " ", "p blank", "Upper")]
    names += [_published(TWO, SERVICE_NAME="general", SERVICE_443_NAME="special")]
    names += [_published(DNS, SERVICE_NAME="dns"), _published(DNS, SERVICE_53_NAME="dns-port")]
    names += [_published(ONE, SERVICE_8080_NAME="elsewhere"), (f"-P -e {shlex.quote('SERVICE_NAME=e blank')}", ONE)]
    yield from _numbered("n", names)
    yield from _numbered("t", [_published(ONE, SERVICE_TAGS=value) for value in TAG_VALUES] + [
        _published(TWO, SERVICE_TAGS="general", SERVICE_80_TAGS="special"), _published(DNS, SERVICE_TAGS="udp,x"),
        _published(DNS, SERVICE_TAGS="a"),
    ])  # fmt: skip
    yield from _numbered("m", [_published(ONE, **labels) for labels in META])
    yield from _numbered("g", [_published(ONE, SERVICE_IGNORE=value) for value in IGNORE_VALUES] + [
        _published(TWO, SERVICE_80_IGNORE=value) for value in IGNORE_VALUES
    ])  # fmt: skip
    checks = [_published(ONE, **{f"SERVICE_CHECK_{key}": value for key, value in check.items()}) for check in CHECKS]
    checks += [_published(TWO, SERVICE_80_CHECK_HTTP="/one"), _published(DNS, SERVICE_CHECK_TCP="true")]
    checks += [_published(ONE, SERVICE_CHECK_HTTP="/general", SERVICE_80_CHECK_HTTP="/special")]
    yield from _numbered("c", checks)
    yield from _ids()
    yield from _places()
    yield from _states()


CASES = list(_cases())
