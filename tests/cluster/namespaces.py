"""The cluster's own PID, mount and network namespaces: one process holds them, and its end is the end of everything.

This is what makes clusters live side by side and leave nothing. Inside, ports, iptables chains, ``/run``,
``/var/lib/kubelet`` and mounts are the cluster's own. When the keeper (process 1 of the PID namespace) dies, the kernel
kills every daemon, shim and container, and with the last of them the mounts, the bridge and all rules are gone, however
the run ended. The keeper is recognised by the file it executes, which lies in the cluster's state folder.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import cache, procs

SOURCE = Path(__file__).resolve().parent / "pause" / "pause.c"

# Folders that kubelet, containerd and the CNI plugins name in their code. A tmpfs or an overlay in the cluster's own
# mount namespace gives each cluster its own and keeps the machine's clean. The root becomes shared *inside* only, as
# kubelet wants for mount propagation.
_FURNISH = """
set -eu
mount --make-rshared /
mount -t tmpfs tmpfs /run
mkdir -p /run/containerd /run/netns /run/lock
for folder in lib log; do
  own="$1/overlay/$folder"
  mkdir -p "$own/upper" "$own/work"
  mount -t overlay overlay -o "lowerdir=/var/$folder,upperdir=$own/upper,workdir=$own/work" "/var/$folder"
done
mount --bind "$1/resolv.conf" "$(readlink -f /etc/resolv.conf)"
"""


def pause_program() -> Path:
    """The static program of ten lines that does nothing for ever; compiled once."""
    target = cache.root() / "programs" / cache.digest(SOURCE.read_bytes()) / "pause"
    if not target.exists():
        with cache.locked("pause"), cache.made_whole(target.parent) as fresh:
            subprocess.run(["gcc", "-static", "-Os", "-s", "-o", str(fresh / "pause"), str(SOURCE)], check=True)
    return target


def keeper_file(state: Path) -> Path:
    return state / "keeper"


@dataclass(frozen=True)
class Namespaces:
    """A running cluster's namespaces, entered by the pid of their keeper."""

    state: Path
    keeper: int

    @classmethod
    def create(cls, state: Path) -> Namespaces:
        """Start the keeper in fresh namespaces and furnish its file tree. Needs root."""
        keeper = keeper_file(state)
        shutil.copy2(pause_program(), keeper)
        unshare = ["unshare", "--fork", "--pid", "--mount", "--net", "--propagation", "private", "--mount-proc"]
        wrapper = subprocess.Popen(
            # setsid: Ctrl-C in a terminal must not end a cluster that is to outlive the command.
            ["setsid", *unshare, "--kill-child=SIGKILL", "--", str(keeper)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        deadline = time.monotonic() + 10
        while not (pids := procs.running(keeper)):
            if wrapper.poll() is not None or time.monotonic() > deadline:
                said = (
                    wrapper.stderr.read().decode(errors="replace").strip()
                    if wrapper.poll() is not None and wrapper.stderr
                    else ""
                )
                raise RuntimeError(f"cannot make namespaces (root is needed): {said or 'no answer'}")
            time.sleep(0.005)
        made = cls(state, pids[0])
        # Pods and image pulls ask the cluster's own DNS, so an unknown name fails at once instead of after timeouts.
        made.run(["sh", "-c", _FURNISH, "furnish", str(state)])
        return made

    @classmethod
    def of(cls, state: Path) -> Namespaces | None:
        """The running cluster's namespaces, or None when its keeper does not run."""
        pids = procs.running(keeper_file(state))
        return cls(state, pids[0]) if pids else None

    def _enter(self) -> list[str]:
        return ["nsenter", "--target", str(self.keeper), "--mount", "--net", "--pid", "--"]

    def run(self, command: Sequence[str], check: bool = True) -> str:
        """Run a command inside to its end and return its output. Raises RuntimeError with its last words."""
        done = subprocess.run(
            [*self._enter(), *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            raise RuntimeError(
                f"{' '.join(command)[:200]} failed in the cluster: {(done.stderr or done.stdout).strip()[-2000:]}"
            )
        return done.stdout

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start a daemon inside. It belongs to process 1 there; its output goes to ``log/<name>.log``."""
        whole = ["env", *(f"{key}={value}" for key, value in (environment or {}).items()), *command]
        self._daemon(name, "command").write_text(json.dumps(whole))
        self.start_again(name)

    def start_again(self, name: str) -> None:
        """Start a daemon with the command that it was started with before."""
        log = self.log(name)
        log.parent.mkdir(exist_ok=True)
        whole = json.loads(self._daemon(name, "command").read_text())
        script = 'log=$1; shift; setsid "$@" </dev/null >>"$log" 2>&1 & echo $!'
        pid = self.run(["sh", "-c", script, "start", str(log), *whole]).strip()
        self._daemon(name, "pid").write_text(pid)

    def stop(self, name: str, seconds: float = 20.0) -> None:
        """Kill a daemon, as its crash would, and wait until it is gone. Raises TimeoutError.

        Its pid is one of the cluster's own PID namespace, so it cannot be anything of the machine's.
        """
        if self.alive(name):
            self.run(["sh", "-c", 'kill -9 "$1"', "stop", self._daemon(name, "pid").read_text()])
        deadline = time.monotonic() + seconds
        while self.alive(name):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} does not end")
            time.sleep(0.01)

    def _daemon(self, name: str, what: str) -> Path:
        folder = self.state / "daemons"
        folder.mkdir(exist_ok=True)
        return folder / f"{name}.{what}"

    def log(self, name: str) -> Path:
        return self.state / "log" / f"{name}.log"

    def alive(self, name: str) -> bool:
        """Whether a started daemon still runs (pids are those of the cluster's PID namespace)."""
        with contextlib.suppress(OSError):
            pid = self._daemon(name, "pid").read_text()
            stat = (Path("/proc") / str(self.keeper) / "root" / "proc" / pid / "stat").read_text()
            return stat.rpartition(")")[2].split()[0] != "Z"
        return False

    def last_words(self, name: str) -> str:
        """The end of a daemon's log, for an error message."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log(name).read_text(errors="replace").splitlines()[-12:])
        return "(no log)"
