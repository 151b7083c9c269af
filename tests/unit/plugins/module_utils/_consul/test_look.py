# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which names people take for each other, and which ordinary names they do not."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.trinode.platform.plugins.module_utils._acceptance.samples import SERVICES
from ansible_collections.trinode.platform.plugins.module_utils._consul import look as look_file
from ansible_collections.trinode.platform.plugins.module_utils._consul.look import LETTERS, SEPARATORS, has_punycode, look

ROOT = Path(__file__).resolve().parents[5]
NAMES = st.text(string.ascii_letters + string.digits + "-_.", max_size=20)

# What people run as services, as they are called in Compose files and images.
ORDINARY = re.findall(
    r"\S+",
    """
    admin adminer airflow alertmanager ambassador apache api api-gateway app app-1 app-2 app-10 app-11 app-12
    apt-cacher archive argocd auth authelia authentik backend backup backup-2 bastion billing bitbucket
    blackbox-exporter bugzilla cache cadvisor calendar canary cart cassandra catalog celery ceph certbot chat
    checkout clickhouse clock cloud-sql cms collabora collector confluence consul consul-exporter console coredns
    couchdb crm cron dashboard data database db db-1 db-2 db-10 db-11 db-5432 db-5433 debezium dex dhcp directory
    discourse dispatcher dns docs documents drone druid edge elastic elasticsearch email emqx erp etcd events
    exporter files filestore firefly flink fluentd fluentbit forms forum frontend ftp gateway geoserver gerrit
    ghost git gitea gitlab gitlab-runner grafana graphite graphql graylog guacamole hadoop haproxy harbor hbase
    health hello home home-assistant httpd hub icinga identity images imap influxdb ingest intranet inventory
    invoices jaeger jenkins jira jitsi joomla jupyter kafka kafka-1 kafka-2 kafka-3 keycloak kibana kong lab ldap
    ledger librenms login logs logstash loki mail mailhog mariadb matomo mattermost media memcached metabase
    metrics minio mirth mirth-connect mongo mongo-express mongodb monitoring mosquitto mqtt mssql munin mysql
    nagios nats neo4j netbox netdata nextcloud nexus nginx nginx-exporter node node-exporter node1 node2 node3
    node10 node11 node12 nodejs notifications ntp oauth2-proxy odoo openldap openproject opensearch orders pacs
    pacs-viewer patients payments pgadmin pgbouncer phpmyadmin ping pihole portainer portal postfix postgres
    postgres-exporter postgresql primary print prometheus promtail proxy pulsar pushgateway queue rabbitmq radius
    redis redis-1 redis-2 redis-exporter redis-sentinel registry relay rendertron replica report reports
    rocketchat roundcube rstudio samba scheduler search secondary sentry sessions sftp shop shop-80 shop-443
    shop-1 shop-2 smtp solr sonarqube spark sso static statsd storage superset swagger-ui sync syslog telegraf
    tempo test thanos tika time tomcat traefik tracker typesense ui unifi uptime-kuma users varnish vault
    vaultwarden vector victoria-metrics video vote wallabag web web1 web2 web3 web10 web11 web12 web-ui webdav
    webhook webmail wiki wildfly wordpress worker worker-1 worker-2 xwiki zabbix zabbix-web zigbee2mqtt zipkin
    zookeeper zookeeper-1 zookeeper-2
""",
)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("billing", "Billing"), ("billing", "bi11ing"), ("billing", "b1lling"), ("billing", "billlng"),
        ("billing", "bil1ing"), ("billing", "billing-"), ("billing", "-billing"), ("billing", "billing_"),
        ("billing", "bil-ling"), ("billing", "bil--ling"), ("bil-ling", "bil_ling"), ("billing", "b.illing"),
        ("billing", "BI11-ING"), ("mail", "rnail"), ("mail", "r-nail"), ("mail", "mall"), ("web", "vveb"),
        ("consul", "c0nsul"), ("consul", "consu1"), ("consul", "consuI"), ("node1", "nodel"), ("node0", "nodeo"),
        ("db", "clb"), ("database", "clatabase"), ("db-1", "dbl"), ("vault", "vau1t"),
    ],
)  # fmt: skip
def test_names_that_people_take_for_each_other(one: str, other: str) -> None:
    assert look(one) == look(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("node1", "node2"), ("web1", "web2"), ("db-1", "db-11"), ("db-1", "db-2"), ("web-10", "web-1"), ("app", "api"),
        ("node5", "nodes"), ("billing", "biling"), ("billing", "billings"), ("billing", "filling"), ("mail", "nail"),
        ("shop-80", "shop-8080"), ("web", "veb"), ("s3", "53"), ("b2", "82"), ("billing", "billing-2"), ("", "a"),
    ],
)  # fmt: skip
def test_names_that_people_tell_apart(one: str, other: str) -> None:
    assert look(one) != look(other)


def test_ordinary_names_stay_apart() -> None:
    names = {*ORDINARY, *SERVICES}
    assert len(ORDINARY) == len(set(ORDINARY)) >= 200
    found: dict[str, set[str]] = {}
    for name in names:
        found.setdefault(look(name), set()).add(name)
    assert [alike for alike in found.values() if len(alike) > 1] == []


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=2, unique=True), NAMES)
def test_numbered_instances_stay_apart(numbers: list[int], name: str) -> None:
    one, other = (look(f"{name}-{number}") for number in numbers)
    assert one != other


@given(NAMES)
def test_a_look_is_its_own_look(name: str) -> None:
    assert look(look(name)) == look(name) == look(name.upper()) == look(name.swapcase())


@given(NAMES, NAMES)
def test_a_look_is_that_of_its_parts(one: str, other: str) -> None:
    """The generators of the edge rely on it where a name is a pattern."""
    assert look(one + other) == look(one) + look(other)


@given(NAMES, st.data())
def test_what_is_written_for_a_letter_does_not_change_the_look(name: str, data: st.DataObject) -> None:
    seen, common = data.draw(st.sampled_from((*LETTERS, *SEPARATORS)))
    assert look(name.lower().replace(seen, common)) == look(name)
    at = data.draw(st.integers(0, len(name)))
    assert look(f"{name[:at]}{seen}{name[at:]}") == look(f"{name[:at]}{common}{name[at:]}")


def test_no_step_undoes_another() -> None:
    left, right = {seen for seen, _ in (*LETTERS, *SEPARATORS)}, "".join(common for _, common in LETTERS)
    assert all(len(seen) == 1 for seen in left) and not left & set(right)


def test_punycode() -> None:
    assert all(map(has_punycode, ("xn--blling-xyf", "XN--a", "a.xn--b")))
    assert not any(map(has_punycode, ("axn--b", "x--a", "xn-a", "")))


def test_the_engine_has_the_same_look() -> None:
    """One file: whatever is refused by the registration is refused by an edge, and the other way round."""
    link = ROOT / "roles" / "registrator" / "files" / "registrator" / "look.py"
    assert link.is_symlink() and link.resolve() == Path(look_file.__file__).resolve()
