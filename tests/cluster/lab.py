"""Hosts to try a cluster on: namespaces of one Linux machine, each with a network, processes and a disk.

A host has an address in a network that only this machine and the other hosts reach, an SSH server, a
hostname, and a root that starts as a copy of this machine's. ``/shared`` is one folder on all of them, as NFS
would be. ``/wheels`` holds what pip may install, as there is no way to the internet. A host that is powered
off loses its processes and keeps its disk.

The laptop is this machine with another home: from there ``ray up`` reaches the hosts.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import psutil
from filelock import FileLock

ROOT = Path(__file__).parents[2]
_BOOT = Path(__file__).with_name("boot.sh")
_PROGRAMS = {
    "ip": "iproute2",
    "sshd": "openssh-server",
    "ssh-keygen": "openssh-client",
    "rsync": "rsync",
    "mkfs.ext4": "e2fsprogs",
    "unshare": "util-linux",
}
_NETWORK = "10.77.0"
_BRIDGE = "paretofuse0"
#: Of the hosts' user, so that files in the prepared environment can belong to it.
_USER_ID = 4242
_DISK_BYTES = 24 * 2**30
#: Most hosts at a time.
_MOST = 8


def lacking() -> str | None:
    """Return why there can be no lab on this machine; None if there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux, to make hosts of namespaces"
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [package for program, package in _PROGRAMS.items() if not shutil.which(program, path=path)]
    if missing:
        return f"needs the packages {', '.join(missing)}"
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--net", "true"], capture_output=True
    )
    if tried.returncode or not Path("/dev/loop-control").exists():
        return "needs a kernel that lets root make namespaces and loop devices"
    return None


@dataclass(frozen=True)
class Host:
    """A machine of the lab.

    Attributes:
        lab: The lab.
        number: The number of the host, from 1.
    """

    lab: Lab
    number: int

    @property
    def address(self) -> str:
        """The address of the host in the lab's network."""
        return f"{_NETWORK}.{10 + self.number}"

    @property
    def name(self) -> str:
        """The hostname."""
        return f"node{self.number}"

    @property
    def _link(self) -> str:
        return f"pflab{self.number}"

    def boot(self, *, environment: bool = True, loopback_name: bool = False) -> None:
        """Start the host.

        Args:
            environment: Whether ``~/venv`` has what the program needs. Otherwise there is no such folder.
            loopback_name: Whether the hostname stands for 127.0.1.1, as on Debian and Ubuntu.
        """
        own = self.lab.folder / "disk" / str(self.number)
        for name in (
            "changes",
            "work",
            "root",
            "tmp",
            *(("venv-changes", "venv-work") if environment else ()),
        ):
            (own / name).mkdir(parents=True, exist_ok=True)
        (own / "tmp").chmod(0o1777)
        if environment:
            os.chown(own / "venv-changes", _USER_ID, _USER_ID)
        if self._link not in _run("ip", "netns", "list").split():
            _run("ip", "netns", "add", self._link)
            _run("ip", "link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self._link)
            _run("ip", "link", "set", self._link, "master", _BRIDGE, "up")
            for change in (f"addr add {self.address}/24 dev eth0", "link set eth0 up"):
                _run("ip", "-n", self._link, *change.split())
        spaces = ["--mount", "--pid", "--fork", "--uts", "--ipc", "--kill-child", "--propagation", "private"]
        boot = ["bash", str(_BOOT), str(self.number), str(self.lab.folder), *([self.name] * loopback_name)]
        with self._log.open("w") as log:
            process = subprocess.Popen(
                [
                    "ip",
                    "netns",
                    "exec",
                    self._link,
                    "unshare",
                    *spaces,
                    *boot,
                    *([self.name] * loopback_name),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **self.lab.constants},
            )
        self.lab.processes[self.number] = process
        wait_for(lambda: process.poll() is not None or self._answers(), 30, f"{self.name} to boot")
        if process.poll() is not None:
            raise RuntimeError(f"{self.name} did not boot: {self._log.read_text()}")

    def power_off(self) -> None:
        """End all processes of the host at once, as a power cut does."""
        process = self.lab.processes.pop(self.number)
        process.kill()  # with it the host's first process, and with that all others
        process.wait(20)

    def unplug(self) -> None:
        """Cut the host off from the network."""
        _run("ip", "link", "set", self._link, "down")

    def plug_in(self) -> None:
        """Connect the host to the network again."""
        _run("ip", "link", "set", self._link, "up")

    def run(
        self, command: str, *, user: str = "ubuntu", timeout: float = 120, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the host in a login shell, as SSH does; return it with its output.

        Args:
            command: Text for the shell.
            user: ``ubuntu`` or ``root``.
            timeout: Seconds after which the command is killed.
            check: Whether another exit code than 0 is an error.
        """
        return _checked(self._enter(command, user), timeout, check)

    def start(self, command: str, *, user: str = "ubuntu") -> subprocess.Popen[str]:
        """Start a command on the host; standard error is in its standard output."""
        return subprocess.Popen(
            self._enter(command, user), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def processes(self, *words: str) -> list[str]:
        """Return the command lines on the host, those with one of the words if there are any."""
        lines = self.run("ps -eo args --no-headers", user="root").stdout.splitlines()
        return [line for line in lines if not words or any(word in line for word in words)]

    def close(self) -> None:
        """Power the host off, and remove its network."""
        if self.number in self.lab.processes:
            self.power_off()
        # The network outlives its name as long as a process is in it; without its link it is no use to any.
        for kind in ("link", "netns"):
            subprocess.run(["ip", kind, "del", self._link], capture_output=True)

    @property
    def _log(self) -> Path:
        return self.lab.folder / f"{self.name}.log"

    def _answers(self) -> bool:
        found = subprocess.run(["ssh-keyscan", "-T", "1", self.address], capture_output=True)
        return bool(found.stdout)

    def _enter(self, command: str, user: str) -> list[str]:
        (first,) = psutil.Process(self.lab.processes[self.number].pid).children()
        enter = ["nsenter", "-t", str(first.pid), "-m", "-n", "-p", "-u", "-i", "--root", "--wdns=/"]
        return [*enter, "su", "-", user, "-c", command]


class Lab:
    """Hosts, the network between them, what they share, and the laptop.

    Args:
        folder: An empty folder on a disk of this machine.

    Attributes:
        folder: The folder.
        shared: The folder that all hosts see as ``/shared``.
        checkout: The laptop's copy of the program, without its history.
        processes: The process of each running host, by its number.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shared = folder / "shared"
        self.laptop = folder / "laptop"
        self.checkout = self.laptop / "paretofuse"
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    @cached_property
    def constants(self) -> dict[str, str]:
        """Variables that ``boot.sh`` reads."""
        prefix = str(Path(sys.prefix).resolve())
        return {"REPOSITORY": str(ROOT.resolve()), "ENVIRONMENT": prefix, "USER_ID": str(_USER_ID)}

    @property
    def key(self) -> Path:
        """The laptop's SSH key."""
        return self.laptop / ".ssh" / "cluster"

    @property
    def python(self) -> Path:
        """The interpreter of the prepared environment, outside the hosts."""
        return self.folder / "disk" / "venv" / "root" / "bin" / "python"

    def open(self) -> None:
        """Make the network, the disk, the laptop and the prepared environment; the hosts are still off."""
        self.close()
        _run("ip", "link", "add", _BRIDGE, "type", "bridge")
        _run("ip", "addr", "add", f"{_NETWORK}.1/24", "dev", _BRIDGE)
        _run("ip", "link", "set", _BRIDGE, "up")
        for folder in (self.shared, self.folder / "disk", self.folder / "wheels", self.laptop / "tmp"):
            folder.mkdir(parents=True)
        self.shared.chmod(0o1777)
        self.key.parent.mkdir(mode=0o700)
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key))
        image = self.folder / "disk.img"
        with image.open("wb") as file:
            file.truncate(_DISK_BYTES)  # what is not written takes no space
        _run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1", str(image))
        _run("mount", "-o", "loop", str(image), str(self.folder / "disk"))
        names = (f"{host.address} {host.name}\n" for host in map(self.host, range(1, _MOST + 1)))
        (self.folder / "hosts").write_text("".join(names))
        parents = Path(sys.executable).resolve().parents
        (self.folder / "parents").write_text("".join(f"{parent}\n" for parent in parents if parent.name))
        self._copy_program()
        self._prepare_environment()

    def reset(self) -> None:
        """Power all hosts off, and forget what they, the shared folder and the laptop's home hold."""
        for number in range(1, _MOST + 1):
            self.host(number).close()
            shutil.rmtree(self.folder / "disk" / str(number), ignore_errors=True)
        for path in (*self.shared.iterdir(), self.laptop / ".ray", self.laptop / "tmp"):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        (self.laptop / "tmp").mkdir()

    def host(self, number: int) -> Host:
        """Return a host, which may be off."""
        return Host(self, number)

    def boot(self, count: int, **options: bool) -> list[Host]:
        """Start hosts 1 to ``count``; see ``Host.boot``."""
        hosts = [self.host(number) for number in range(1, count + 1)]
        for host in hosts:
            host.boot(**options)
        return hosts

    def on_laptop(
        self,
        command: str,
        *,
        timeout: float = 300,
        check: bool = True,
        variables: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the laptop's copy of the program; ``ray`` and ``python`` are the laptop's.

        Args:
            command: Text for the shell.
            timeout: Seconds after which the command is killed.
            check: Whether another exit code than 0 is an error.
            variables: Environment variables.
        """
        # SSH finds the home of a user elsewhere, so keys are named by their path.
        programs = self.laptop / "bin"
        environment = {
            "HOME": str(self.laptop),
            "TMPDIR": str(self.laptop / "tmp"),
            "RAY_TMPDIR": str(self.laptop / "tmp"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "LANG": "C.UTF-8",
            "TERM": "xterm",
            "PATH": f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin",
            **(variables or {}),
        }
        return _checked(["bash", "-c", command], timeout, check, cwd=self.checkout, env=environment)

    def close(self) -> None:
        """Power all hosts off, and remove all but what is in the folder."""
        for number in range(1, _MOST + 1):
            self.host(number).close()
        subprocess.run(["ip", "link", "del", _BRIDGE], capture_output=True)
        for mounted in (self.folder / "disk" / "venv" / "root", self.folder / "disk"):
            if mounted.is_mount():
                _run("umount", "--lazy", str(mounted))

    def _copy_program(self) -> None:
        """Copy the files that a clone with the present changes would have."""
        listed = _run("git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard")
        for name in listed.splitlines():
            if (ROOT / name).is_file():
                (self.checkout / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.checkout / name)

    def _prepare_environment(self) -> None:
        """Complete this process's environment as one at ``~/venv`` of the hosts' user.

        It is this one under an overlay: the program is not in it, and what a cluster needs more is.
        """
        wheels = self.folder / "wheels"
        own = self.folder / "disk" / "venv"
        for name in ("changes", "work", "root"):
            (own / name).mkdir(parents=True)
        lower = self.constants["ENVIRONMENT"]
        options = f"lowerdir={lower},upperdir={own / 'changes'},workdir={own / 'work'}"
        _run("mount", "-t", "overlay", "overlay", "-o", options, str(own / "root"))
        root = own / "root"
        pip = [str(self.python), "-m", "pip", "--disable-pip-version-check"]
        constraints = ["-c", str(ROOT / "constraints.txt")]
        _run(*pip, "install", "-q", "--root-user-action=ignore", *constraints, "ray[default]", "boto3")
        _run(*pip, "download", "-q", "--no-deps", "-d", str(wheels), "setuptools>=77", "uv")
        for package in root.glob("lib/python3*/site-packages"):
            for left in (*package.glob("__editable__*paretofuse*"), *package.glob("paretofuse-*.dist-info")):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        (root / "bin" / "paretofuse").unlink(missing_ok=True)
        first, there = f"#!{lower}/bin/", "#!/home/ubuntu/venv/bin/"
        for program in (root / "bin").iterdir():
            if program.is_file() and not program.is_symlink():
                with contextlib.suppress(UnicodeDecodeError):
                    text = program.read_text()
                    if text.startswith(first):
                        program.write_text(text.replace(first, there, 1))
        for folder, _, _ in os.walk(root):  # so that the user's pip can replace what is in it
            os.chown(folder, _USER_ID, _USER_ID)
        programs = self.laptop / "bin"
        programs.mkdir()
        (programs / "python").write_text(f'#!/bin/sh\nexec {self.python} "$@"\n')
        starts = "import sys; sys.argv[0] = 'ray'; from ray.scripts.scripts import main; main()"
        (programs / "ray").write_text(f'#!/bin/sh\nexec {self.python} -c {shlex.quote(starts)} "$@"\n')
        for program in programs.iterdir():
            program.chmod(0o755)


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Lab]:
    """Make a lab, and leave nothing of it at the end but its folder; one at a time waits for another."""
    lab = Lab(folder)
    with FileLock(Path(tempfile.gettempdir(), "paretofuse-lab.lock")):
        try:
            lab.open()
            yield lab
        finally:
            lab.close()


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait until a condition holds.

    Args:
        condition: Says whether it holds.
        seconds: How long.
        what: What is waited for, in words.

    Raises:
        TimeoutError: If it does not hold in time.
    """
    ends = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.25)


def _run(*command: str) -> str:
    return _checked(list(command), 600, True).stdout


def _checked(
    command: list[str], timeout: float, check: bool, **options: object
) -> subprocess.CompletedProcess[str]:
    """Run a command; if it must not fail and does, say what it printed."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        **options,  # type: ignore[call-overload]
    )
    if check and done.returncode:
        raise RuntimeError(f"{shlex.join(command)}: exit code {done.returncode}\n{done.stdout}")
    return done
