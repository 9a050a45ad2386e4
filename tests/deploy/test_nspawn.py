"""deploy/install.sh on a fresh Debian 12 under a real systemd: what it installs starts, is watched and restarts."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from protocol.clock import SystemClock
from testbed import certificates
from testbed.authority import Authority, write_private
from testbed.pki import DevicePki
from tests.deploy.machine import Machine, booted

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("machine")]

HERE = Path(__file__).parent
KEYS = ("gate/reader.key", "gate/mqtt.key", "controller/mqtt.key", "controller/records.key", "broker/broker.key")
AGENT = "gwanmun-agent"
SERVICES = {"gate": AGENT, "controller": "gwanmun-controller"}
INSTALL = "cd /root/gwanmun && deploy/install.sh --no-apt --wheels /root/wheels --role"


@dataclass(frozen=True, slots=True)
class Installed:
    """What the installer said with each role, and how it left the service."""

    machine: Machine
    output: dict[str, str]
    enabled: dict[str, str]
    users: str
    """Whom the broker's access list named then."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What installer and agent said to a configuration with simulated devices."""

    machine: Machine
    output: str
    status: str
    restarts: str
    journal: str


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with booted(tmp_path_factory.mktemp("nspawn")) as machine:
        yield machine


@pytest.fixture(scope="module")
def installed(machine: Machine) -> Installed:
    """Both roles installed with their example configuration and without keys."""
    output = {role: machine.run(f"{INSTALL} {role}", timeout=300) for role in SERVICES}
    enabled = {role: machine.run(f"systemctl is-enabled {SERVICES[role]}", check=False) for role in SERVICES}
    return Installed(machine, output, enabled, machine.run("grep '^user ' /etc/mosquitto/gwanmun/acl"))


@pytest.fixture(scope="module")
def probe(machine: Machine, installed: Installed) -> Machine:
    """The agent's own unit with the probe for a program, and with key files to hand over."""
    for key in KEYS:
        machine.run(f"test -s /etc/gwanmun/credentials/{key} || echo key >/etc/gwanmun/credentials/{key}")
    unit = (HERE.parents[1] / "deploy" / "systemd" / "gwanmun-agent.service").read_text("utf-8")
    unit, replaced = re.subn(r"(?m)^ExecStart=.*$", "ExecStart=/opt/gwanmun/gate/bin/python /opt/probe/probe.py", unit)
    assert replaced == 1
    unit = unit.replace("=gwanmun/gate\n", "=gwanmun/probe\n").replace("WatchdogSec=20", "WatchdogSec=2")
    target = machine.root / "opt" / "probe"
    target.mkdir()
    for name in ("probe.py", "probe.qr"):
        (target / name).write_bytes((HERE / name).read_bytes())
    (machine.root / "etc" / "systemd" / "system" / "gwanmun-probe.service").write_text(unit, "utf-8")
    machine.run("systemctl daemon-reload && systemctl start gwanmun-probe || { journalctl -u gwanmun-probe; false; }")
    return machine


@pytest.fixture(scope="module")
def building(refused: Refusal) -> Machine:
    """Controller, broker and agent, installed as an installer would, with the example configuration and real keys. The lane is
    simulated here, so that the testbed is put on the agent's path."""
    return refused.machine


@pytest.fixture(scope="module")
def refused(machine: Machine, installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Refusal:
    """The building, and how the agent took its configuration before the testbed was there."""
    work = tmp_path_factory.mktemp("keys")
    now = SystemClock().now()
    pki = DevicePki(work / "pki", now)
    authority = Authority.create(work / "authority", name="Pilot", now=now)
    authority.publish(work / "trust", now)
    reader_key = ec.generate_private_key(ec.SECP256R1())
    root_key = ec.generate_private_key(ec.SECP256R1())
    begin = now - timedelta(days=1)
    root = certificates.root(root_key, "Readers", country="KR", not_before=begin, lifetime=timedelta(days=365))
    leaf = certificates.reader(reader_key.public_key(), "로비", issuer=root, issuer_key=root_key, not_before=begin)
    write_private(work / "reader.key", reader_key)
    (work / "reader.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
    gate, controller, broker = pki.client("gate-1"), pki.client("controller"), pki.server()
    another = pki.client("gate-9")

    for source, target in (
        (work / "reader.key", "etc/gwanmun/credentials/gate/reader.key"),
        (gate.key, "etc/gwanmun/credentials/gate/mqtt.key"),
        (controller.key, "etc/gwanmun/credentials/controller/mqtt.key"),
        (broker.key, "etc/gwanmun/credentials/broker/broker.key"),
        (broker.certificate, "etc/mosquitto/gwanmun/broker.pem"),
        (pki.ca, "etc/mosquitto/gwanmun/ca.pem"),
        (work / "reader.pem", "etc/gwanmun/reader.pem"),
        (gate.certificate, "etc/gwanmun/mqtt.pem"),
        (another.certificate, "root/gate-9.pem"),
        (controller.certificate, "etc/gwanmun/controller-mqtt.pem"),
        (pki.ca, "etc/gwanmun/mqtt-ca.pem"),
        (pki.records_key, "etc/gwanmun/credentials/controller/records.key"),
        (pki.records_public, "etc/gwanmun/controller-records.pub.pem"),
        (authority.directory / "list-signer.pub.pem", "etc/gwanmun/list-signer.pub.pem"),
    ):
        shutil.copyfile(source, machine.root / target)
    shutil.copytree(work / "trust", machine.root / "var/lib/gwanmun/trust", dirs_exist_ok=True)
    machine.run(
        "chgrp gwanmun /etc/gwanmun/*.pem && chmod 640 /etc/gwanmun/*.pem && chmod 644 /etc/mosquitto/gwanmun/*"
    )
    machine.run("chown -R root:gwanmun /var/lib/gwanmun/trust")
    machine.run("sed -i 's/^host = .*/host = \"localhost\"/' /etc/gwanmun/gate.toml /etc/gwanmun/controller.toml")
    _simulate_the_lane(machine.root / "etc/gwanmun/gate.toml")
    # install.sh starts what has a configuration of its own: the untouched example it leaves alone.
    machine.run("echo '# checked by the installer' >> /etc/gwanmun/gate.toml")
    machine.run(f"{INSTALL} controller --start")
    machine.run("/opt/gwanmun/controller/bin/gwanmun gates add /etc/gwanmun/mqtt.pem")
    # The lane is simulated: the package alone refuses it, which is kept for a test, and takes it beside the testbed.
    output = machine.run(f"{INSTALL} gate; echo status $?", check=False)
    status = machine.show("gwanmun-agent", "ExecMainStatus")
    refusal = Refusal(machine, output, status, machine.show("gwanmun-agent", "NRestarts"), machine.journal(AGENT))
    machine.run("mkdir -p /opt/checkout && cp -r /root/gwanmun/testbed /opt/checkout/")
    drop_in = machine.root / "etc/systemd/system/gwanmun-agent.service.d/testbed.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nEnvironment=PYTHONPATH=/opt/checkout\n", "utf-8")
    machine.run("systemctl daemon-reload")
    machine.run(f"{INSTALL} gate")
    return refusal


def _simulate_the_lane(file: Path) -> None:
    """In place of the example's module, which is not on this network."""
    simulated = '[device.lane.hall-in]\ndriver = "simulated"\npath = "/run/gwanmun/gate/hall-in.lane"\n\n'
    text, replaced = re.subn(
        r"(?ms)^\[device\.lane\.hall-in\]$.*?(?=^\[device\.signal\.)", simulated, file.read_text("utf-8"), count=1
    )
    assert replaced == 1
    file.write_text(text, "utf-8")


COUNT = """python3 -c '
import sqlite3
db = sqlite3.connect("file:/var/lib/gwanmun/controller/controller.db?mode=ro", uri=True)
print(db.execute("SELECT count(*) FROM events WHERE kind LIKE ?", ("%{kind}",)).fetchone()[0])'"""
HOLES = """python3 -c '
import sqlite3
db = sqlite3.connect("file:/var/lib/gwanmun/controller/controller.db?mode=ro", uri=True)
print(sum(top - count for top, count in db.execute("SELECT max(seq), count(*) FROM events GROUP BY gate, epoch")))'"""


def _events(machine: Machine, kind: str) -> int:
    return int(machine.run(COUNT.format(kind=kind)))


def test_agent_broker_and_controller_run_and_the_boot_record_arrives(building: Machine) -> None:
    for unit in ("gwanmun-agent", "gwanmun-controller", "mosquitto"):
        building.until(f"systemctl is-active {unit}", "active")
        assert building.show(unit, "Type") == "notify"
        assert building.run(f"systemctl is-enabled {unit}") == "enabled"
    building.until(f"test $({COUNT.format(kind='gate.boot')}) -ge 1 && echo arrived", "arrived")


def test_a_killed_agent_comes_back_and_its_next_boot_record_arrives_without_a_hole(building: Machine) -> None:
    building.until(f"test $({COUNT.format(kind='gate.boot')}) -ge 1 && echo arrived", "arrived")
    boots = _events(building, "gate.boot")
    building.run("systemctl kill --kill-whom=main --signal=SIGKILL gwanmun-agent")
    building.until(COUNT.format(kind="gate.boot"), str(boots + 1))
    building.until("systemctl is-active gwanmun-agent", "active")
    assert building.run(HOLES) == "0"


def test_records_of_a_time_without_a_broker_arrive_afterwards(building: Machine) -> None:
    building.until(f"test $({COUNT.format(kind='gate.boot')}) -ge 1 && echo arrived", "arrived")
    boots, stops = _events(building, "gate.boot"), _events(building, "gate.stopped")
    building.run("systemctl stop mosquitto && systemctl restart gwanmun-agent")
    building.until("systemctl is-active gwanmun-agent", "active")
    building.run("systemctl start mosquitto")
    building.until(COUNT.format(kind="gate.boot"), str(boots + 1))
    building.until(COUNT.format(kind="gate.stopped"), str(stops + 1))
    assert building.run(HOLES) == "0"


def _in_force(gate: str) -> str:
    return f"grep -c '^user {gate}$' /etc/mosquitto/gwanmun/acl"


GATES = "/opt/gwanmun/controller/bin/gwanmun gates"


def test_gates_enrolled_and_revoked_reach_the_running_broker_by_the_path_unit(building: Machine) -> None:
    building.until("systemctl is-active mosquitto", "active")
    building.until(_in_force("gate-1"), "1")
    broker = building.show("mosquitto", "MainPID")
    loads = int(building.run("grep -c 'Reloading config' /var/log/mosquitto/mosquitto.log", check=False))
    # Faster than systemd starts units: the last one counts, and no limit ends the watching.
    for _ in range(8):
        building.run(
            f"{GATES} add /root/gate-9.pem && mv /var/lib/gwanmun/controller/gates/gate-9.pem /root/ && {GATES} render"
        )
    building.run(f"{GATES} add /root/gate-9.pem")
    building.until(_in_force("gate-9"), "1")
    building.run(f"{GATES} revoke gate-9")
    building.until(_in_force("gate-9"), "0")
    building.until(
        f"test $(grep -c 'Reloading config' /var/log/mosquitto/mosquitto.log) -gt {loads} && echo loaded", "loaded"
    )
    building.until("systemctl is-active gwanmun-broker.path", "active")
    building.until("systemctl is-active gwanmun-broker.service", "inactive")
    assert building.show("gwanmun-broker.service", "Result") == "success"
    assert building.show("mosquitto", "MainPID") == broker
    assert building.run("stat -c '%U %a' /var/lib/gwanmun/controller/broker/acl") == "gwanmun-controller 644"


def test_what_a_controller_may_not_say_does_not_reach_the_broker(building: Machine) -> None:
    building.until(_in_force("gate-1"), "1")
    building.until("systemctl is-active gwanmun-controller", "active")
    before = building.run("cat /etc/mosquitto/gwanmun/acl")
    building.run("systemctl stop gwanmun-controller")  # it would put the file right within two seconds
    line = "pattern write \\#"
    building.run(f"su -s /bin/sh gwanmun-controller -c 'echo {line} >>/var/lib/gwanmun/controller/broker/acl'")
    building.until("systemctl is-failed gwanmun-broker.service", "failed")
    assert "access list refused: " in building.journal("gwanmun-broker.service")
    assert building.run("cat /etc/mosquitto/gwanmun/acl") == before
    building.run("systemctl start gwanmun-controller")
    building.until("systemctl is-active gwanmun-broker.service", "inactive")
    assert building.run("cat /etc/mosquitto/gwanmun/acl") == before


def _with_a_line(building: Machine, line: str) -> str:
    """Adds a line to gwanmun-broker.service; gives the command that takes it away again."""
    place = "/run/systemd/system/gwanmun-broker.service.d"
    building.run(f"mkdir -p {place} && cat >{place}/test.conf <<'END'\n[Service]\n{line}\nEND\nsystemctl daemon-reload")
    return f"rm -r {place} && systemctl daemon-reload"


def test_a_run_that_the_machine_spoiled_is_tried_again_without_another_change(building: Machine) -> None:
    building.until(_in_force("gate-1"), "1")
    building.until("systemctl is-active gwanmun-broker.service", "inactive")
    # 219 is systemd's own where it could not put the process into its control group.
    undo = _with_a_line(
        building, "ExecStartPre=+/bin/sh -c 'test -e /run/spoiled || { touch /run/spoiled; exit 219; }'"
    )
    building.run("systemctl start gwanmun-broker.service", check=False)
    assert building.run("test -e /run/spoiled && echo spoiled") == "spoiled"
    state = "systemctl show --property=ActiveState,Result gwanmun-broker.service | xargs"
    building.until(state, "Result=success ActiveState=inactive")
    building.run(undo)


def test_a_change_at_the_end_of_a_run_does_not_wait_for_the_next_change(building: Machine) -> None:
    """systemd does not look at the path while the service runs."""
    building.until(_in_force("gate-1"), "1")
    building.until("systemctl is-active gwanmun-broker.service", "inactive")
    building.run("systemctl stop gwanmun-controller")  # it would put the file right within two seconds
    made = "/var/lib/gwanmun/controller/broker/acl"
    building.run(f"cp -a {made} {made}.kept && sed 's/gate-1/gate-7/' {made} >/run/late")
    undo = _with_a_line(building, f"ExecStartPost=+/bin/sh -c 'test ! -e /run/late || mv /run/late {made}'")
    building.run("systemctl start gwanmun-broker.service")
    building.until(_in_force("gate-7"), "1")
    building.run(f"{undo}; mv {made}.kept {made}; systemctl start gwanmun-controller")
    building.until(_in_force("gate-1"), "1")


def test_stopping_is_clean_and_starting_again_works(building: Machine) -> None:
    for unit in ("gwanmun-agent", "gwanmun-controller"):
        building.until(f"systemctl is-active {unit}", "active")
        building.run(f"systemctl stop {unit}")
        assert building.show(unit, "Result") == "success"
        building.run(f"systemctl start {unit}")
        building.until(f"systemctl is-active {unit}", "active")


def test_the_watchdog_is_on_and_is_fed(building: Machine) -> None:
    for unit in ("gwanmun-agent", "gwanmun-controller"):
        building.until(f"systemctl is-active {unit}", "active")
        assert building.show(unit, "WatchdogUSec") == "20s"
        started = building.show(unit, "ActiveEnterTimestampMonotonic")
        fed = f"test $(systemctl show --value --property=WatchdogTimestampMonotonic {unit}) -gt {started} && echo fed"
        building.until(fed, "fed", timeout=30)


def test_the_page_answers_on_loopback_and_nothing_listens_elsewhere(building: Machine) -> None:
    building.until("systemctl is-active gwanmun-controller", "active")
    page = "python3 -c 'import urllib.request as u; print(u.urlopen(\"http://127.0.0.1:8080/\", timeout=5).status)'"
    building.until(page, "200")
    # /proc/net/tcp: local address in hex, state 0A = listening; 0100007F is 127.0.0.1.
    listening = building.run("awk '$4 == \"0A\" { print $2 }' /proc/net/tcp /proc/net/tcp6").split()
    assert listening
    assert {entry.partition(":")[0] for entry in listening} <= {"0100007F", "00000000000000000000000001000000"}


def test_services_log_no_traceback(building: Machine) -> None:
    for unit in ("gwanmun-agent", "gwanmun-controller"):
        journal = building.journal(unit)
        assert journal
        assert "Traceback" not in journal
        assert "Operation not permitted" not in journal


def test_an_installed_agent_refuses_a_simulated_lane_and_says_so_once(refused: Refusal) -> None:
    assert refused.output.endswith("status 1")
    assert (refused.status, refused.restarts) == ("2", "0")
    korean, english = [line for line in refused.journal.splitlines() if "device.lane.hall-in.driver: " in line]
    assert "실제 장치가 있어야 합니다" in korean
    assert "a device that exists is expected" in english


TRUST = """cd / && /opt/gwanmun/gate/bin/python -c '
from datetime import UTC, datetime
from pathlib import Path
from gate_agent.installation import is_checkout
from mdoc.truststore import load_directory
trust = load_directory(
    Path("/var/lib/gwanmun/trust"), list_key=None, now=datetime.now(UTC), take_specimens=is_checkout())
print(is_checkout(), len(trust.anchors), len(trust.specimens))'"""


def test_an_installed_gate_trusts_no_issuers_that_anybody_can_make(building: Machine) -> None:
    assert building.run(TRUST) == "False 0 1"


def test_the_installer_starts_nothing_with_an_example_configuration(installed: Installed) -> None:
    assert installed.enabled == dict.fromkeys(SERVICES, "disabled")
    for output in installed.output.values():
        assert "아직 예제입니다" in output
        assert "still the example" in output
        assert "private keys are missing" in output


def test_the_installer_run_again_keeps_the_release_and_every_site_file(installed: Installed) -> None:
    machine = installed.machine
    listing = "readlink -f /opt/gwanmun/gate; find /opt/gwanmun/releases -maxdepth 1; sha256sum /etc/gwanmun/*.toml"
    machine.run("echo '# changed on site' >>/etc/mosquitto/conf.d/gwanmun.conf")
    before = machine.run(listing)
    machine.run(f"{INSTALL} gate --no-start && {INSTALL} controller --no-start")
    assert machine.run(listing) == before
    assert "# changed on site" in machine.run("cat /etc/mosquitto/conf.d/gwanmun.conf")


def test_a_gate_has_no_web_console_and_a_controller_no_camera_stack(installed: Installed) -> None:
    for role, absent in (
        ("gate", ("starlette", "uvicorn", "sqlite_utils", "testbed")),
        ("controller", ("cv2", "bleak", "nfc", "testbed")),
    ):
        for module in absent:
            done = installed.machine.run(f"cd / && /opt/gwanmun/{role}/bin/python -c 'import {module}'", check=False)
            assert f"No module named '{module}'" in done


def test_an_installed_package_says_that_the_demo_needs_a_checkout(installed: Installed) -> None:
    done = installed.machine.run("cd / && gwanmun demo; echo status $?", check=False)
    assert "소스 저장소에서" in done
    assert done.endswith("status 2")


def test_installed_units_verify_without_a_word(installed: Installed) -> None:
    units = ("gwanmun-agent.service", "gwanmun-controller.service", "gwanmun-broker.path", "mosquitto.service")
    for unit in units:
        # --man=no: Debian's own unit names manual pages, and a minimal machine has none.
        assert installed.machine.run(f"systemd-analyze verify --man=no --recursive-errors=yes {unit}") == ""


def test_a_fresh_broker_gives_rights_to_the_controller_alone(installed: Installed) -> None:
    assert installed.users == "user controller"
    assert (
        installed.machine.run("systemctl is-enabled gwanmun-broker.path gwanmun-broker.service") == "enabled\nenabled"
    )


def test_private_keys_are_in_reach_of_root_alone(installed: Installed) -> None:
    modes = installed.machine.run(
        "stat -c '%a %U' /etc/gwanmun/credentials /etc/gwanmun/credentials/* /var/lib/gwanmun/trust"
    )
    assert modes.splitlines() == ["700 root"] * 4 + ["750 root"]


def test_the_agents_sandbox_lets_a_gate_work_and_nothing_else(probe: Machine) -> None:
    report = json.loads(probe.run("cat /var/lib/gwanmun/probe/probe.json"))
    assert report == {
        "journal": "written",
        "libraries": 4,
        "callback": 42,
        "usb": True,
        "qr": "GWANMUN PROBE",
        "credentials": ["mqtt.key", "reader.key"],
        "keys": "refused",
        "home": "refused",
        "etc": "refused",
        "packets": "Address family not supported by protocol",
    }


@pytest.mark.parametrize("signal", ["SIGUSR1", "SIGSTOP"], ids=["that still hears SIGTERM", "that hears nothing"])
def test_a_hung_service_is_ended_by_the_watchdog_and_started_again(probe: Machine, signal: str) -> None:
    probe.until("systemctl is-active gwanmun-probe", "active")
    first = probe.show("gwanmun-probe", "MainPID")
    restarts = int(probe.show("gwanmun-probe", "NRestarts"))
    probe.run(f"systemctl kill --kill-whom=main --signal={signal} gwanmun-probe")
    probe.until("systemctl show --value --property=NRestarts gwanmun-probe", str(restarts + 1))
    probe.until("systemctl is-active gwanmun-probe", "active")
    assert probe.show("gwanmun-probe", "MainPID") != first
    assert "Watchdog timeout" in probe.journal("gwanmun-probe")


def test_a_killed_service_is_started_again(probe: Machine) -> None:
    probe.until("systemctl is-active gwanmun-probe", "active")
    first = probe.show("gwanmun-probe", "MainPID")
    probe.run("systemctl kill --kill-whom=main --signal=SIGKILL gwanmun-probe")
    probe.until(f"systemctl show --value --property=MainPID gwanmun-probe | grep -vxF -e 0 -e {first} | wc -l", "1")
    probe.until("systemctl is-active gwanmun-probe", "active")
