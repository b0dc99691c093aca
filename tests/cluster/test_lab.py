"""The hosts are apart from each other and from this machine."""

from __future__ import annotations

import socket

import pytest

from tests.cluster.lab import Host, Lab


@pytest.fixture(scope="module")
def hosts(lab: Lab) -> list[Host]:
    return lab.boot(2)


def test_hosts_share_a_folder_and_nothing_else(hosts: list[Host]):
    first, second = hosts
    first.run("echo mine >~/file; echo mine >/tmp/file; echo ours >/shared/file")
    assert second.run("ls ~/file /tmp/file", check=False).returncode
    assert second.run("cat /shared/file").stdout == "ours\n"
    assert first.run("hostname").stdout == "node1\n"
    assert socket.gethostname() != "node1"
    assert not any("sshd" not in line and "python" in line for line in second.processes())


def test_they_reach_each_other_but_not_the_internet(hosts: list[Host]):
    reach = "python3 -c 'import socket, sys; socket.create_connection((sys.argv[1], 22), 3)' "
    assert not hosts[0].run(f"{reach} node2").returncode
    assert hosts[0].run(f"{reach} 1.1.1.1", check=False).returncode
    hosts[1].unplug()
    assert hosts[0].run(f"{reach} node2", check=False).returncode
    hosts[1].plug_in()
    assert not hosts[0].run(f"{reach} node2").returncode


def test_power_off_ends_all_and_keeps_the_disk(hosts: list[Host]):
    _, second = hosts
    second.run("echo kept >~/kept; setsid sleep 1234 >/dev/null 2>&1 &")
    assert second.processes("sleep 1234")
    second.power_off()
    second.boot()
    assert not second.processes("sleep 1234")
    assert second.run("cat ~/kept").stdout == "kept\n"


def test_the_environment_is_the_users_own(hosts: list[Host]):
    first, second = hosts
    first.run("~/venv/bin/python -m pip uninstall -q -y tqdm")
    assert first.run("~/venv/bin/python -c 'import tqdm'", check=False).returncode
    assert not second.run("~/venv/bin/python -c 'import tqdm, ray'").returncode
