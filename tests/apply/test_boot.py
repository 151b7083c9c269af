# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An edge whose host has started: nothing of before is served until the catalogue has been rendered anew."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from apply_rig import Edge, wait_until

# Docker gives a container that asks for no port one from here on.
ANEW = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
BEFORE = tuple(f"s{number}" for number in range(10))


@pytest.fixture
def started(edge: Edge) -> Edge:
    """An edge with ten services of each side's file, after a start of its host, as systemd-tmpfiles leaves it."""
    edge.stage(edge.http(*BEFORE), edge.stream())
    assert edge.apply("--strict")["outcome"] == "applied"
    power_cut(edge)
    return edge


def power_cut(edge: Edge) -> None:
    edge.stop()
    for name in ("http.conf", "stream.conf"):
        (edge.state / "staging" / name).unlink()
    (edge.root / "boot").touch()


def with_given_anew(edge: Edge, *more: str) -> str:
    """A http file with s0 at a port that Docker gives anew, s1 at such a port and at one of its own, and s2 and more at one of their own."""
    anew = f"upstream http_s0 {{ server 127.0.0.1:{ANEW}; }}\n"
    both = f"upstream http_s1 {{ server 127.0.0.1:9; server 127.0.0.1:{ANEW + 1}; }}\n"
    text = edge.http("s0", "s1", "s2", *more)
    for number, upstream in enumerate((anew, both)):
        text = text.replace(f"upstream http_s{number} {{ server 127.0.0.1:9; }}\n", upstream)
        to = "return 200 " + json.dumps(f"s{number}\n") + ";"
        text = text.replace(to, f"location / {{ proxy_pass http://http_s{number}; }}")
    return text


@pytest.fixture
def anew(edge: Edge) -> Edge:
    """An edge of which some instances are at ports that Docker gives anew, after a start of its host."""
    edge.stage(with_given_anew(edge), edge.stream())
    assert edge.apply("--strict")["outcome"] == "applied"
    power_cut(edge)
    edge.configure(boot_wait=0.2)
    return edge


def left_out(edge: Edge) -> bool:
    """Whether nginx serves what was served before without the instances at ports that Docker gives anew, and says so."""
    live, document = (edge.state / "live" / "http" / "50-edge.conf").read_text(), edge.status()
    assert edge.ask("s2") == (200, "s2") and edge.ask("s1")[0] == 502, "what has a port of its own is served"
    without = f"127.0.0.1:{ANEW}" not in live and f"127.0.0.1:{ANEW + 1}" not in live and edge.ask("s0")[0] == 404
    assert without == document["starting"] == ("nginx_edge_starting 1\n" in told(edge, "metrics.prom")), document["last"]
    assert document["starting"] == json.loads(told(edge, "status.json"))["starting"]
    assert not (without and document["up_to_date"])
    return without


def told(edge: Edge, name: str) -> str:
    """What monitoring reads."""
    return (edge.state / name).read_text()


def requested(edge: Edge) -> subprocess.CompletedProcess[str]:
    """A request by another program, which nobody waits for."""
    done = edge.run("--service")
    assert done.returncode == 0, done.stderr
    return done


def test_nothing_is_served_until_both_sides_are_rendered(started: Edge) -> None:
    gate, service = started.start("--await-boot"), started.start("--service")
    started.stage(http=started.http("s1"))
    document = started.status()
    assert document["starting"] and document["generation"] == "000001" and not document["serving"]
    assert "nginx waits for that" in started.run("--status").stdout
    assert not started.master() and gate.poll() is None and service.poll() is None
    started.stage(stream=started.stream(answer="anew"))
    assert gate.communicate(timeout=20)[1] == "" and gate.returncode == 0
    _, said = service.communicate(timeout=20)
    assert "applied" in said and "failed" not in said
    assert started.ask("s1") == (200, "s1") and started.ask("s2")[0] == 404 and started.ask_tcp() == "anew"
    assert not started.status()["starting"] and started.status()["refused"] is None


def test_what_the_nodes_tell_after_a_power_cut_is_waited_for(started: Edge) -> None:
    """The catalogue of before comes first, as soon as there is a leader, and then one node after the other."""
    started.configure(boot_settle=5)
    started.stage(started.http(*BEFORE), started.stream())
    service = started.start("--service")
    for left in range(len(BEFORE), 0, -1):
        # News, not a wait for something.
        time.sleep(0.1)
        started.stage(started.http(*BEFORE[:left]), started.stream())
        assert not started.master()
    service.communicate(timeout=20)
    assert started.ask("s0") == (200, "s0") and started.ask("s1")[0] == 404
    assert [entry["services"] for entry in started.status()["history"]] == [11, 2]


def test_so_it_is_after_a_long_time_without_a_leader(started: Edge) -> None:
    """The catalogue of before comes when Consul is back, and what runs now a moment later."""
    started.configure(boot_wait=0.1, boot_settle=5)
    requested(started)
    assert started.ask("s9") == (200, "s9") and started.status()["starting"]
    late = started.status()["generation"]
    started.stage(started.http("old"), started.stream())
    service = started.start("--service")
    time.sleep(0.3)
    started.stage(started.http("new"), started.stream())
    service.communicate(timeout=20)
    assert started.ask("new") == (200, "new") and started.ask("old")[0] == 404
    assert [entry["generation"] for entry in started.status()["history"]][-2:] == [late, f"{int(late) + 1:06d}"]


def test_what_was_served_before_the_boot_is_not_missed_later_either(started: Edge) -> None:
    """Nor what left in the minutes before."""
    started.stage(started.http("s1", "s2"), started.stream())
    requested(started)
    started.stage(started.http("s1"), started.stream())
    assert started.apply("--strict")["outcome"] == "applied"
    assert started.status()["refused"] is None


def test_the_same_catalogue_as_before_is_served_again(started: Edge) -> None:
    gate = started.start("--await-boot")
    started.stage(started.http(*BEFORE), started.stream())
    requested(started)
    assert gate.communicate(timeout=10) == ("", "") and started.status()["generation"] == "000001"
    assert started.ask("s9") == (200, "s9") and not (started.root / "boot").exists()


def test_without_a_catalogue_instances_at_ports_of_their_own_are_served(anew: Edge) -> None:
    """Docker gives the others anew: who answers there now may be anybody. Nothing of it is missed when Consul is back."""
    edge = anew
    gate = edge.start("--await-boot")
    said = requested(edge).stderr
    assert "nothing has been rendered for 0.2 s since the host started: only instances at ports of their own are served" in said
    assert gate.communicate(timeout=10)[1] == ""
    assert left_out(edge)
    assert any("Docker gives the ports of its instances anew" in entry["reason"] for entry in edge.status()["skipped"])
    assert "only instances at ports of their own are served" in edge.run("--status").stdout
    # A second start of nginx has waited long enough, and a second run finds nothing to do.
    assert edge.start("--await-boot").communicate(timeout=10)[1] == ""
    generation = edge.status()["generation"]
    assert requested(edge).stderr.count("nothing has been rendered") == 0 and edge.status()["generation"] == generation
    edge.stage(with_given_anew(edge), edge.stream())
    requested(edge)
    assert not left_out(edge) and edge.status()["up_to_date"] and edge.status()["refused"] is None


def test_a_person_waits_as_nginx_does(started: Edge) -> None:
    person = started.start("--strict", "--json")
    started.stage(started.http("s1"), started.stream())
    out, said = person.communicate(timeout=30)
    assert person.returncode == 0 and '"applied"' in out and "nothing has been rendered" not in said


def test_a_person_gets_what_there_is_in_the_end(started: Edge) -> None:
    started.configure(boot_wait=0.2)
    done = started.run("--strict", "--json")
    assert done.returncode == 0 and "nothing has been rendered for 0.2 s" in done.stderr
    assert started.ask("s9") == (200, "s9")


def test_a_rollback_does_not_wait(edge: Edge) -> None:
    for names in (("s1",), ("s1", "s2")):
        edge.stage(edge.http(*names), edge.stream())
        assert edge.apply("--strict")["outcome"] == "applied"
    power_cut(edge)
    assert edge.run("--rollback").returncode == 0
    assert edge.ask("s1") == (200, "s1") and edge.ask("s2")[0] == 404
    assert edge.start("--await-boot").communicate(timeout=10)[1] == ""


@pytest.mark.parametrize("place", ["journal", "swapped", "signalled", "verified"])
def test_a_change_that_the_power_cut_ended_is_taken_back(edge: Edge, place: str) -> None:
    """It is not served to see whether it works: nothing of before is."""
    edge.stage(edge.http("s1"), edge.stream())
    assert edge.apply("--strict")["outcome"] == "applied"
    edge.stage(edge.http("s1", "s2"), edge.stream())
    edge.run(crash=place)
    power_cut(edge)
    edge.stage(edge.http("s3"), edge.stream())
    said = requested(edge).stderr
    assert "of a run that the start of the host ended was taken back" in said
    assert edge.ask("s3") == (200, "s3") and edge.ask("s1")[0] == 404
    assert edge.status()["up_to_date"] and edge.status()["failed"] == []


def test_a_refused_rendering_leaves_what_was_before(started: Edge) -> None:
    gate = started.start("--await-boot")
    started.stage("upstream x { server unix:/run/docker.sock; }\n", started.stream())
    said = requested(started).stderr
    assert "failed" in said and "generation 000001 stays live" in said
    gate.communicate(timeout=10)
    assert started.ask("s9") == (200, "s9")


def test_a_refused_rendering_brings_no_port_of_before_back(anew: Edge) -> None:
    """Whoever may stage, or one odd label, could have had requests led to whoever has these ports now."""
    good = with_given_anew(anew)
    anew.stage("upstream x { server unix:/run/docker.sock; }\n", anew.stream())
    for _ in range(2):
        said = requested(anew).stderr
        assert "is not allowed" in said and left_out(anew)
        assert anew.status()["generation"] == "000002"
    anew.stage(good + "# mended\n", anew.stream())
    requested(anew)
    assert not left_out(anew) and anew.status()["up_to_date"]


def test_a_rendering_that_nginx_refuses_brings_no_port_of_before_back(anew: Edge) -> None:
    anew.stage("upstream empty { }\n", anew.stream())
    assert "no servers are inside upstream" in requested(anew).stderr
    assert left_out(anew)


def test_a_rendering_that_does_not_come_up_brings_no_port_of_before_back(anew: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    """nginx -t says 0; somebody takes the port before nginx starts."""
    anew.configure(boot_wait=0.2, timeout=1)
    port = anew.free_port()
    anew.stage(with_given_anew(anew), anew.stream() + anew.stream(port, "other"))
    monkeypatch.setenv("NGINX_EDGE_HALT", "tested")
    service = anew.start("--service")
    wait_until(lambda: Path(f"/proc/{service.pid}/stat").read_text().split()[2] == "T", "the program halts")
    with socket.create_server(("127.0.0.1", port)):
        service.send_signal(signal.SIGCONT)
        # The next candidate, which does without these ports, is not to halt.
        wait_until(lambda: Path(f"/proc/{service.pid}/stat").read_text().split()[2] != "T", "it goes on")
        wait_until(lambda: Path(f"/proc/{service.pid}/stat").read_text().split()[2] == "T", "it tests the other one", 20)
        service.send_signal(signal.SIGCONT)
        assert "did not come up" in service.communicate(timeout=60)[1]
        assert left_out(anew)


def test_a_held_generation_of_before_loses_the_ports_given_anew(edge: Edge) -> None:
    """Somebody went back to it, and then the host started. All of it, or of what is staged, comes back when the hold ends."""
    for more in ((), ("s3",)):
        edge.stage(with_given_anew(edge, *more), edge.stream())
        assert edge.apply("--strict")["outcome"] == "applied"
    assert edge.run("--rollback").returncode == 0
    power_cut(edge)
    edge.configure(boot_wait=0.2)
    requested(edge)
    assert left_out(edge) and edge.status()["last"]["outcome"] == "held"
    edge.stage(with_given_anew(edge, "s3"), edge.stream())
    requested(edge)
    assert left_out(edge) and edge.ask("s3")[0] == 404 and edge.status()["hold"]["to"] == "000001"
    assert edge.run("--resume").returncode == 0
    assert not left_out(edge) and edge.ask("s3") == (200, "s3")


def test_whoever_goes_back_after_the_start_gets_all_of_a_generation(anew: Edge) -> None:
    requested(anew)
    assert left_out(anew)
    assert anew.run("--rollback", "1").returncode == 0
    assert not left_out(anew)
    requested(anew)
    assert not left_out(anew) and anew.status()["last"]["outcome"] == "held"


def test_a_first_change_that_the_power_cut_ended_is_not_served_to_verify_it(edge: Edge) -> None:
    edge.stage(with_given_anew(edge), edge.stream())
    edge.run(crash="swapped")
    power_cut(edge)
    edge.configure(boot_wait=0.2)
    said = requested(edge).stderr
    assert "was verified" not in said and left_out(edge)
    assert [entry["generation"] for entry in edge.status()["history"]] == ["000001", "000002"]


def test_a_host_name_whose_tls_is_passed_through_is_not_called_served(edge: Edge) -> None:
    """Without a server of its own, it is a line of a map: the connection is closed, and both sides of a name are told apart."""
    line = json.dumps({"kind": "served", "side": "tcp", "service": "s2", "host": "s2.test", "port": edge.tcp_port, "upstream": "tls_s2", "instances": 1})
    passed = f"""#! {line}
upstream tls_s2 {{ server 127.0.0.1:{ANEW + 2}; }}
map $ssl_preread_server_name $edge_tls_upstream {{ default tls_s2; }}
server {{ listen 127.0.0.1:{edge.tcp_port}; ssl_preread on; preread_timeout 1s; proxy_pass $edge_tls_upstream; }}
"""
    edge.stage(with_given_anew(edge), passed)
    assert edge.apply("--strict")["outcome"] == "applied"
    power_cut(edge)
    edge.configure(boot_wait=0.2)
    assert 'left out server "s0.test", upstream "tls_s2": nothing has been rendered' in requested(edge).stderr
    assert left_out(edge) and edge.ask_tcp() == ""
    document = edge.status()
    assert [entry["service"] for entry in document["services"] if entry["side"] == "tcp"] == []
    assert any(entry["service"] == "s2" and "Docker gives the ports of its instances anew" in entry["reason"] for entry in document["skipped"])


def test_the_operators_own_server_gets_502_for_what_is_left_out(edge: Edge) -> None:
    (edge.etc / "conf.d" / "own.conf").write_text(
        f"server {{ listen 127.0.0.1:{edge.http_port}; server_name own.test; location / {{ proxy_pass http://http_s0; }} }}\n"
    )
    edge.stage(with_given_anew(edge), edge.stream())
    assert edge.apply("--strict")["outcome"] == "applied"
    power_cut(edge)
    edge.configure(boot_wait=0.2)
    requested(edge)
    assert left_out(edge) and edge.ask("own")[0] == 502
    assert any("which no service has now" in entry["reason"] for entry in edge.status()["warnings"])


def test_a_lost_link_hides_nothing_of_what_was_served_before(anew: Edge) -> None:
    (anew.state / "live").unlink()
    assert "nothing has been rendered for 0.2 s" in requested(anew).stderr
    assert left_out(anew)


def test_a_lost_state_file_hides_nothing_of_what_was_served_before(anew: Edge) -> None:
    (anew.state / "state.json").unlink()
    assert "nothing has been rendered for 0.2 s" in requested(anew).stderr
    assert left_out(anew)


def test_what_is_the_same_with_and_without_news_says_when_the_news_came(started: Edge) -> None:
    """Nothing is changed then but the status."""
    started.configure(boot_wait=0.2)
    requested(started)
    assert started.status()["starting"] and "nginx_edge_up_to_date 0\n" in told(started, "metrics.prom")
    started.stage(started.http(*BEFORE), started.stream())
    requested(started)
    assert started.status()["up_to_date"] and started.status()["generation"] == "000001"
    assert "nginx_edge_up_to_date 1\n" in told(started, "metrics.prom") and "nginx_edge_starting 0\n" in told(started, "metrics.prom")


def test_a_check_knows_what_a_start_of_the_host_leaves_out(anew: Edge) -> None:
    requested(anew)
    assert json.loads(anew.run("--check", "--json").stdout)["outcome"] == "unchanged"
    anew.stage(anew.http("s1"), anew.stream())
    result = json.loads(anew.run("--check", "--json").stdout)
    assert result["changed"] and result["outcome"] == "unchanged", result["message"]


def test_a_mark_that_cannot_be_written_is_said_and_hides_no_result(started: Edge) -> None:
    started.configure(boot_wait=0.2)
    (started.root / "boot.new").mkdir()
    said = requested(started).stderr
    assert "boot" in said and "Is a directory" in said and started.status()["last"]["outcome"] == "failed"


def test_without_the_directory_of_the_mark_nothing_waits(started: Edge) -> None:
    """As on a host whose edge was of the former version when it started."""
    gone = started.root / "gone"
    started.configure(boot_mark=str(gone / "boot"))
    assert started.start("--await-boot").communicate(timeout=10) == ("", "")
    requested(started)
    assert started.ask("s9") == (200, "s9") and not gone.exists()


def test_an_edge_without_services_starts_at_once(edge: Edge) -> None:
    assert edge.apply("--strict")["outcome"] == "applied"
    edge.stop()
    (edge.root / "boot").touch()
    gate = edge.start("--await-boot")
    assert "nothing has been rendered" not in requested(edge).stderr
    assert gate.communicate(timeout=10)[1] == "" and edge.master()


def test_a_start_of_nginx_alone_waits_for_nothing(serving: Edge) -> None:
    serving.stop()
    assert serving.start("--await-boot").communicate(timeout=10) == ("", "")
    requested(serving)
    wait_until(lambda: serving.ask("one") == (200, "one"), "nginx serves again")


def test_nginx_starts_though_the_program_is_broken(started: Edge) -> None:
    started.configure(boot_wait=0.1, timeout=0.1)
    gate = started.start("--await-boot")
    assert "nginx-edge-apply has made nothing live since the host started" in gate.communicate(timeout=10)[1]
    assert gate.returncode == 0 and started.start("--await-boot").communicate(timeout=10) == ("", "")
    started.config.write_text("{")
    gate = started.start("--await-boot")
    assert "nginx starts with what was served before" in gate.communicate(timeout=10)[1] and gate.returncode == 0
