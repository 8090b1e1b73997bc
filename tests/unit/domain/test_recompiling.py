"""A compiler that remembers says what one says that does not, whatever changes; and makes nothing anew that stayed."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pointsman.api.objects import LLMBackend, ModelRoute
from pointsman.domain.compiling import Compiler, compile_table
from pointsman.domain.table import PodEndpoint, SecretValue

NAMES = ("a", "b", "c")
DIGEST = "sha256:" + "d" * 64


class World:
    """One namespace, changed by steps of a name, a number and what."""

    def __init__(self) -> None:
        self.backends: dict[str, dict[str, Any]] = {}
        self.routes: dict[str, dict[str, Any]] = {}
        self.pods: dict[str, tuple[PodEndpoint, ...]] = {}
        self.secrets: dict[str, SecretValue] = {}
        self.config_maps: dict[str, SecretValue] = {}
        self.uids = 0

    def step(self, name: str, what: str, number: int) -> None:
        match what:
            case "hosted":
                block: dict[str, Any] = {"url": f"https://{name}.test/v1", "secretRef": {"name": f"key-{number}"}}
                if number:
                    block["caBundleRef"] = {"name": "bundle", "kind": ("Secret", "ConfigMap")[number - 1]}
                models = [{"name": "m"}, {"name": f"m{number}"}]
                self._spec(self.backends, name, {"engine": "External", "external": block, "models": models})
            case "ollama":
                limits = {"maxInFlight": number} if number else {}
                models = [{"name": "m", "source": "ollama://tiny:1"}]
                self._spec(self.backends, name, {"engine": "Ollama", "models": models, "limits": limits})
            case "status" if name in self.backends:
                digest = {"digest": DIGEST} if number else {}
                health = {"state": "Healthy", "latencyMs": number}
                self.backends[name]["status"] = {"models": [{"name": "m", **digest}], "health": health}
            case "route":
                targets = [{"backend": n, "model": "m", "priority": i} for i, n in enumerate(NAMES[number:])]
                self._spec(self.routes, name, {"models": [f"chat-{number}", f"{name}-*"], "targets": targets})
            case "gone":
                (self.backends, self.routes, self.pods)[number].pop(name, None)
            case "pods":
                self.pods[name] = tuple(PodEndpoint(f"{name}-{n}", "10.0.0.1", 80) for n in range(number))
            case "secret":
                self.secrets[f"key-{number}"] = SecretValue(name, {"api-key": name})
            case "lost":
                self.secrets.pop(f"key-{number}", None)
            case "bundle":
                self.config_maps["bundle"] = SecretValue(name, {"ca.crt": "no certificate"})

    def _spec(self, of: dict[str, dict[str, Any]], name: str, spec: dict[str, Any]) -> None:
        """As the API server counts: another object gets another UID, another spec another generation."""
        old = of.get(name)
        if old is None:
            self.uids += 1
            metadata = {"name": name, "uid": f"u{self.uids}", "generation": 1, "creationTimestamp": f"{self.uids:03d}"}
        elif old["spec"] != spec:
            metadata = {**old["metadata"], "generation": old["metadata"]["generation"] + 1}
        else:
            return
        of[name] = {"metadata": metadata, "spec": spec, "status": (old or {}).get("status") or {}}

    def inputs(self) -> tuple[Any, ...]:
        backends = [LLMBackend.parse(b) for b in self.backends.values()]
        routes = [ModelRoute.parse(r) for r in self.routes.values()]
        return backends, routes, dict(self.pods), dict(self.secrets)


STEPS = ("hosted", "ollama", "status", "route", "gone", "pods", "secret", "lost", "bundle")


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(STEPS), st.integers(0, 2)), max_size=25))
def test_it_says_what_compiling_anew_says(steps: list[tuple[str, str, int]]) -> None:
    world, compiler = World(), Compiler()
    for name, what, number in steps:
        world.step(name, what, number)
        inputs = world.inputs()
        table = compiler.compile(*inputs, config_maps=dict(world.config_maps))
        assert table == compile_table(*inputs, config_maps=dict(world.config_maps))
        again = compiler.compile(*world.inputs(), config_maps=dict(world.config_maps))
        assert all(again.backends[n] is table.backends[n] for n in again.backends)
        assert all(again.routes[n] is table.routes[n] for n in again.routes)


def test_only_what_changed_and_what_names_it_is_made_anew() -> None:
    world, compiler = World(), Compiler()
    for name in NAMES:
        world.step(name, "ollama", 0)
    world.step("a", "route", 0)
    world.step("c", "route", 2)
    before = compiler.compile(*world.inputs())
    world.step("b", "pods", 1)
    after = compiler.compile(*world.inputs())
    assert [n for n in NAMES if after.backends[n] is not before.backends[n]] == ["b"]
    assert after.routes["a"] is not before.routes["a"], "it names b"
    assert after.routes["c"] is before.routes["c"]
    assert after.names["chat-0"].targets[1].backend is after.backends["b"]


def test_an_object_from_a_file_has_no_version() -> None:
    def parsed(url: str) -> LLMBackend:
        spec = {"engine": "External", "external": {"url": url}, "models": [{"name": "m"}]}
        return LLMBackend.parse({"metadata": {"name": "a"}, "spec": spec})

    compiler = Compiler()
    first, second = (compiler.compile([parsed(f"http://{host}.test/v1")], [], {}, {}) for host in ("x", "y"))
    assert (first.backends["a"].endpoints[0].host, second.backends["a"].endpoints[0].host) == ("x.test", "y.test")
