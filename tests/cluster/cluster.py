"""What a test sees of a cluster, whoever provides it: a kubeconfig, an address of the machine, tools, images."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.cluster import archives, images, kind_images, node, programs
from tests.cluster.namespaces import Namespaces
from tests.cluster.plan import HOST_NAME, NODE, Profile, state_folder

Provider = Literal["given", "kind", "processes"]


@dataclass(frozen=True)
class Cluster:
    """One running cluster. ``node`` is None where there is no node."""

    name: str
    provider: Provider
    profile: Profile
    kubeconfig: Path
    host_ip: str
    """The machine's address as pods see it: bind a test server to it (or to 0.0.0.0) and give pods this address."""
    containerd_socket: Path | None = None

    @property
    def node(self) -> str | None:
        """The node's name for provider ``processes``; others have their own names."""
        return NODE if self.provider == "processes" and self.profile == "full" else None

    def environment(self) -> dict[str, str]:
        """Variables for a program that is to work on this cluster: KUBECONFIG, PATH with kubectl and helm, HOST_IP."""
        tools = programs.ensure(["kubectl", "helm"])
        folders = dict.fromkeys(str(tool.parent) for tool in tools.values())
        return {
            "KUBECONFIG": str(self.kubeconfig),
            "PATH": os.pathsep.join([*folders, os.environ.get("PATH", "")]),
            "HOST_IP": self.host_ip,
            "HOST_NAME": HOST_NAME if self.provider == "processes" else self.host_ip,
        }

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True, timeout: float = 60) -> str:
        """Run kubectl and return its output. Raises RuntimeError with its error text, unless ``check`` is off."""
        return self._tool("kubectl", arguments, stdin, check, timeout)

    def helm(self, *arguments: str, stdin: str | None = None, check: bool = True, timeout: float = 120) -> str:
        """Run helm and return its output. Raises RuntimeError with its error text, unless ``check`` is off."""
        return self._tool("helm", arguments, stdin, check, timeout)

    def load_image(self, image: str | Path) -> None:
        """Make an image known to the nodes: the tag of one that ``images.py`` builds, or the path of an archive.

        Use it with ``imagePullPolicy: IfNotPresent``: no registry takes part. Raises RuntimeError, ValueError.
        """
        if self.provider == "given":
            raise RuntimeError("a given cluster loads no images: push them to a registry that it can pull from")
        if self.provider == "kind":
            kind_images.load(self.name, image)
        elif self.containerd_socket is None:
            raise RuntimeError(f"cluster {self.name} has no node that could run an image; use profile full")
        else:
            archive = images.archive_of(image) if isinstance(image, str) else image
            archives.import_archive(self.containerd_socket, archive)

    def allow_plain_http(self, registry: str) -> None:
        """Let the node pull from this registry (``host:port``) without TLS; where the provider is ``processes``."""
        self._inside()
        node.allow_plain_http(state_folder(self.name), registry)

    def set_extended_resource(self, resource: str, count: int, node: str | None = None) -> None:
        """Let a node offer ``count`` of an extended resource such as ``nvidia.com/gpu``; 0 takes them away."""
        node = node or self.node
        if node is None:
            raise ValueError("name the node: this cluster has none of ours")
        values = {resource: str(count)}
        patch = json.dumps({"status": {"capacity": values, "allocatable": values}})
        self.kubectl("patch", "node", node, "--subresource=status", "--type=merge", "-p", patch)

    def stop_daemon(self, daemon: str) -> None:
        """Kill ``apiserver``, ``kubelet``, … as a crash would; only where the provider is ``processes``."""
        self._inside().stop(daemon)

    def start_daemon(self, daemon: str) -> None:
        """Start a stopped daemon as it was; whoever calls waits for what it needs of it."""
        self._inside().start_again(daemon)

    def _inside(self) -> Namespaces:
        inside = Namespaces.of(state_folder(self.name)) if self.provider == "processes" else None
        if inside is None:
            raise RuntimeError(
                f"cluster {self.name} is not one of our own processes, so its daemons are not ours to stop"
            )
        return inside

    def _tool(self, name: str, arguments: tuple[str, ...], stdin: str | None, check: bool, timeout: float) -> str:
        command = [str(programs.ensure([name])[name]), *arguments]
        return _run(command, {**os.environ, **self.environment()}, stdin, timeout, check)


def _run(
    command: list[str], environment: Mapping[str, str], stdin: str | None, timeout: float, check: bool = True
) -> str:
    done = subprocess.run(
        command,
        env=environment,
        input=stdin if stdin is not None else "",
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if check and done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} {' '.join(command[1:])}: {(done.stderr or done.stdout).strip()}")
    return done.stdout
