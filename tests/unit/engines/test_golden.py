"""What each variant of a spec becomes, written down in golden files; and every field of a spec acts.

`POINTSMAN_UPDATE_GOLDEN=1 pytest tests/unit/engines` writes the files anew: read the diff.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from tests.unit.controllers.cluster import SETTINGS, backend, observed, pod

from pointsman.api.backend import LLMBackendSpec
from pointsman.api.base import ApiModel
from pointsman.api.objects import LLMBackend, ModelRoute
from pointsman.controllers import children, image_looks, own_pulls, pull_job
from pointsman.controllers.gateway_children import children as gateway_children
from pointsman.controllers.plan_backend import plan
from pointsman.domain.compiling import compile_table
from pointsman.domain.references import References
from pointsman.domain.table import SecretValue
from pointsman.engines.base import Worker
from pointsman.engines.drivers import DRIVERS
from pointsman.engines.stores import ImageStore, OwnStore, Store

FOLDER = Path(__file__).parent / "golden"
DIGEST = "sha256:" + "a" * 64
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n"
SECRETS = {
    "key": SecretValue("1", {"api-key": "x", "other": "y"}),
    "us": SecretValue("1", {"tls.crt": CERTIFICATE, "tls.key": "k"}),
}

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "everything": {
        "models": [{"name": "m", "source": "ollama://tiny:1", "digest": DIGEST}],
        "ollama": {"parallel": 4, "maxLoadedModels": 2, "maxQueue": 64, "keepAlive": "30m",
                   "origins": ["https://a.example", "https://b.example"]},
        "replicas": 3,
        "gpu": {"count": 2, "resourceName": "nvidia.com/gpu"},
        "storage": {"size": "100Gi", "storageClassName": "fast", "retain": True},
        "image": "example.test/mine:2",
        "imagePullSecrets": [{"name": "regcred"}],
        "env": [{"name": "OLLAMA_DEBUG", "value": "1"}],
        "resources": {"requests": {"cpu": "2", "memory": "8Gi"}, "limits": {"memory": "16Gi"}},
        "nodeSelector": {"zone": "a"},
        "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "llm", "effect": "NoSchedule"}],
        "runtimeClassName": "nvidia",
        "startupTimeout": "20m",
        "drainSeconds": 0,
    },
    "volume-per-pod": {
        "models": [{"name": "m", "source": "ollama://tiny:1", "digest": DIGEST}, {"name": "n", "source": "ollama://n:1"}],
        "storage": {"mode": "PerPod", "size": "10Gi", "storageClassName": "fast"},
    },
    "gpu-amd": {"gpu": {"vendor": "AMD", "count": 2, "product": "AMD_Instinct_MI300X_OAM"}, "nodeSelector": {"a": "b"}},
    "gpu-intel": {"gpu": {"vendor": "Intel"}},
    "gpu-mig": {"gpu": {"resourceName": "nvidia.com/mig-1g.10gb", "product": "NVIDIA-A100-SXM4-80GB"}},
    "shared-volume": {"storage": {"accessMode": "ReadWriteMany"}, "nodeSelector": {"zone": "a"}},
    "existing-claim": {"storage": {"existingClaim": f"a-claim-whose-name-is-longer-than-a-label-may-be-{'x' * 20}"}},
}  # fmt: skip

LORA = [{"name": "sql", "source": "hf://org/sql"}, {"name": "law", "source": "hf://org/law", "digest": DIGEST}]
HF = [{"name": "m", "source": "hf://org/repo@v1", "digest": DIGEST}]
GGUF = [{"name": "m", "source": "hf://org/repo/m.gguf"}]
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}\n$(NOT_A_VARIABLE)"
VLLM: dict[str, Any] = {
    "maxModelLen": 4096, "maxNumSeqs": 32, "maxNumBatchedTokens": 8192, "pipelineParallelSize": 2,
    "gpuMemoryPercent": 85, "dtype": "BFloat16", "quantization": "awq", "kvCacheDtype": "fp8", "prefixCaching": True,
    "enforceEager": True, "toolCallParser": "hermes", "reasoningParser": "qwen3", "chatTemplate": TEMPLATE,
    "trustRemoteCode": True, "maxLoras": 1, "maxLoraRank": 64, "extraArgs": ["--seed", "1"],
}  # fmt: skip
LLAMA_CPP: dict[str, Any] = {
    "mode": "Embeddings", "pooling": "Mean", "parallel": 4, "gpuLayers": 20, "threads": 3, "flashAttention": "On",
    "kvCacheType": "q8_0", "chatTemplate": TEMPLATE, "extraArgs": ["--ubatch-size", "1024"],
}  # fmt: skip
CUSTOM: dict[str, Any] = {
    "port": 9000, "probePath": "/ready", "command": ["/bin/serve"], "args": ["--model", "$(MODEL_PATH)"],
    "modelMount": "/data", "writable": ["/var/cache/engine", "/home/engine"],
}  # fmt: skip
TWO = [{"name": "m", "source": "hf://org/repo@v1"}, {"name": "n", "source": "hf://org/repo/n.gguf"}]
IMAGES = [
    {"name": "m", "source": "oci://registry.example/team/two:1/m-Q4_K_M.gguf"},
    {"name": "n", "source": "oci://registry.example/team/two:1/n"},
]
OURS: dict[str, dict[str, Any]] = {
    "vllm": {"engine": "VLLM", "models": [HF[0] | {"adapters": LORA}], "gpu": {"count": 2}},
    "llamaCpp": {"engine": "LlamaCpp", "models": GGUF},
    "custom": {"engine": "Custom", "models": HF, "image": "example.test/mine:2", "custom": {"port": 9000}},
}
"""The least of a backend of each further engine, by the name of its block."""
VARIANTS |= {
    "vllm-volume-per-pod": OURS["vllm"] | {"storage": {"mode": "PerPod"}},
    **{f"{name}-plain": spec for name, spec in OURS.items()},
    "vllm-everything": OURS["vllm"] | {"vllm": VLLM, "gpu": {"count": 4}},
    "vllm-several-nodes": OURS["vllm"]
    | {"vllm": {"nodes": 2}, "gpu": {"count": 8}, "storage": {"accessMode": "ReadWriteMany"}, "replicas": 2},
    "vllm-on-a-cpu": {
        **OURS["vllm"],
        "models": HF,
        "gpu": None,
        "image": "example.test/vllm:cpu",
        "vllm": {"enforceEager": True},
        "resources": {"requests": {"memory": "8Gi"}},
    },
    "llamaCpp-everything": OURS["llamaCpp"] | {"llamaCpp": LLAMA_CPP, "gpu": {"count": 1}},
    "llamaCpp-embeddings": OURS["llamaCpp"]
    | {"llamaCpp": {"mode": "Embeddings"}, "resources": {"limits": {"cpu": "2500m"}}},
    "custom-everything": OURS["custom"] | {"custom": CUSTOM, "models": TWO},
    "llamaCpp-secret": OURS["llamaCpp"]
    | {"models": [{"name": "m", "source": "oci://registry.example/team/m:1", "secretRef": {"name": "registry.key"}}]},
    "vllm-claim": OURS["vllm"] | {"models": [{"name": "m", "source": "pvc://shared/llama"}]},
    "vllm-secret-per-pod": OURS["vllm"]
    | {
        "models": [{"name": "m", "source": "s3://models/llama", "secretRef": {"name": "s3"}}],
        "storage": {"mode": "PerPod"},
    },
    "vllm-image": {
        **OURS["vllm"],
        "models": [
            {
                "name": "m",
                "source": "oci://registry.example/team/m:1",
                "digest": DIGEST,
                "adapters": [{"name": "sql", "source": "oci://registry.example/team/loras:1/sql"}],
            }
        ],
        "storage": {"mode": "Image"},
        "imagePullSecrets": [{"name": "regcred"}],
    },
    "llamaCpp-image": OURS["llamaCpp"] | {"models": IMAGES[:1], "storage": {"mode": "Image"}},
    "custom-image": OURS["custom"] | {"models": IMAGES, "storage": {"mode": "Image"}},
    "custom-without-models-of-ours": OURS["custom"] | {"models": [{"name": "m"}]},
}
BLOCK_CHANGES: dict[str, Any] = {
    **{f"vllm.{field}": value for field, value in VLLM.items()},
    **{f"llamaCpp.{field}": value for field, value in LLAMA_CPP.items()},
    **{f"custom.{field}": value for field, value in CUSTOM.items()},
    "custom.port": 9001,
}
"""A value for each option of an engine's block."""
CHANGES: dict[str, Any] = {
    "models.source": [{"name": "m", "source": "ollama://tiny:2"}],
    "models.digest": [{"name": "m", "source": "ollama://tiny:1", "digest": DIGEST}],
    "models.secretRef": [{"name": "m", "source": "ollama://tiny:1", "secretRef": {"name": "s"}}],
    "models.name": [{"name": "n", "source": "ollama://tiny:1"}],
    "models.capabilities": [{"name": "m", "source": "ollama://tiny:1", "capabilities": ["Chat"]}],
    "models.contextLength": [{"name": "m", "source": "ollama://tiny:1", "contextLength": 8192}],
    "models.pricing": [
        {
            "name": "m",
            "source": "ollama://tiny:1",
            "pricing": {"inputPerMillionTokens": "1", "outputPerMillionTokens": "1"},
        }
    ],
    "pricing.inputPerMillionTokens": {"inputPerMillionTokens": "1", "outputPerMillionTokens": "0"},
    "pricing.outputPerMillionTokens": {"inputPerMillionTokens": "0", "outputPerMillionTokens": "1"},
    "ollama.parallel": {"parallel": 2},
    "ollama.maxLoadedModels": {"maxLoadedModels": 2},
    "ollama.maxQueue": {"maxQueue": 2},
    "ollama.keepAlive": {"keepAlive": "1h"},
    "ollama.origins": {"origins": ["https://a.example"]},
    "replicas": 2,
    "gpu.count": {"count": 1},
    "gpu.resourceName": {"count": 1, "resourceName": "amd.com/gpu"},
    "gpu.vendor": {"vendor": "AMD"},
    "gpu.product": {"product": "NVIDIA-L4"},
    "storage.size": {"size": "60Gi"},
    "storage.mode": {"mode": "PerPod"},
    "storage.storageClassName": {"storageClassName": "fast"},
    "storage.accessMode": {"accessMode": "ReadWriteMany"},
    "storage.existingClaim": {"existingClaim": "c"},
    "storage.retain": {"retain": True},
    "limits.maxInFlight": {"maxInFlight": 7},
    "limits.maxQueued": {"maxInFlight": 7, "maxQueued": 0},
    "limits.queueTimeout": {"maxInFlight": 7, "queueTimeout": "7s"},
    "probe.interval": {"interval": "7s"},
    "probe.timeout": {"timeout": "7s"},
    "probe.failureThreshold": {"failureThreshold": 7},
    "probe.successThreshold": {"successThreshold": 7},
    "probe.generation": {"generation": {"mode": "Disabled"}},
    "image": "example.test/other:1",
    "imagePullSecrets.name": [{"name": "s"}],
    "env.name": [{"name": "A", "value": ""}],
    "env.value": [{"name": "A", "value": "b"}],
    "resources.requests": {"requests": {"cpu": "1"}},
    "resources.limits": {"limits": {"cpu": "1"}},
    "nodeSelector": {"a": "b"},
    "tolerations.key": [{"key": "a"}],
    "tolerations.operator": [{"operator": "Exists"}],
    "tolerations.value": [{"key": "a", "value": "b"}],
    "tolerations.effect": [{"key": "a", "effect": "NoExecute"}],
    "tolerations.tolerationSeconds": [{"key": "a", "effect": "NoExecute", "tolerationSeconds": 5}],
    "runtimeClassName": "nvidia",
    "startupTimeout": "1h",
    "drainSeconds": 5,
}
EXTERNAL_CHANGES: dict[str, Any] = {
    "external.url": {"url": "https://other.example/v1"},
    "external.secretRef": {"url": "https://api.example/v1", "secretRef": {"name": "key"}},
    "external.secretRef.key": {"url": "https://api.example/v1", "secretRef": {"name": "key", "key": "other"}},
    "external.clientCertificateRef": {"url": "https://api.example/v1", "clientCertificateRef": {"name": "us"}},
    "external.caBundleRef": {"url": "https://api.example/v1", "caBundleRef": {"name": "ca"}},
}
ELSEWHERE = {
    "engine": "every test here",
    "suspend": "tests/operator/test_backend.py",
    "models.adapters": "test_adapters_are_pulled_waited_for_and_routed_to",
    "models.refresh": "tests/unit/controllers/test_refresh.py",
    "vllm.nodes": "tests/unit/engines/test_groups.py",
    "gpu.profile": "tests/unit/engines/test_gpus.py",
    "gpu.memory": "tests/unit/engines/test_memory.py",
    "autoscaling": "tests/operator/test_scaling.py",
}
"""Fields whose effect is no child by itself; where it is tested."""


def rendered(of: LLMBackend) -> list[Any]:
    """All that a backend becomes."""
    driver = DRIVERS[of.spec.engine]
    claim = {"metadata": {"name": "c", "uid": "uid-claim"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    existing = children.users_claim(of, None) is not None
    store = children.store_of(of, claim if existing else None)
    image, _ = observed(of).image()
    out = [children.service(of, driver)]
    if isinstance(store, Store) and not existing:
        out.append(children.claim(of, None))
    worker = Worker(SETTINGS.image, "IfNotPresent")
    fills = own_pulls.containers(of.spec.served, SETTINGS, worker) if isinstance(store, OwnStore) else []
    fills += image_looks.containers(of.spec.served, worker) if isinstance(store, ImageStore) else []
    out.append(children.workload(of, driver, image, store, worker, fills=fills))
    for model in of.spec.served:
        if isinstance(store, Store) and model.source:
            out.append(pull_job.job(of, model, pull_job.job_name(model, "uid-claim"), store, SETTINGS, 0))
    return out


def routed(of: LLMBackend) -> Any:
    """What the gateways make of it."""
    return compile_table([of], [], {}, SECRETS).backends["b"]


@pytest.mark.parametrize("name", VARIANTS)
def test_variant_becomes_what_is_written_down(name: str) -> None:
    check(name, rendered(backend(VARIANTS[name])))


def test_gateway_becomes_what_is_written_down() -> None:
    named = References(frozenset(("key-b", "key-a")), frozenset(("our-ca",)))
    check("gateway", gateway_children("ns", SETTINGS, named))


class Plain(yaml.SafeDumper):
    """No anchors: people read these."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def check(name: str, objects: list[Any]) -> None:
    path = FOLDER / f"{name}.yaml"
    text = yaml.dump_all(objects, Dumper=Plain, sort_keys=False, width=120)
    if os.environ.get("POINTSMAN_UPDATE_GOLDEN") == "1":
        path.write_text(text)
    assert path.read_text() == text, "if this is meant: POINTSMAN_UPDATE_GOLDEN=1, and read the diff"


@pytest.mark.parametrize("field", CHANGES)
def test_field_acts(field: str) -> None:
    before, after = backend(), backend({field.partition(".")[0]: CHANGES[field]})
    assert (rendered(before), routed(before)) != (rendered(after), routed(after))


@pytest.mark.parametrize("field", BLOCK_CHANGES)
def test_field_of_an_engine_acts(field: str) -> None:
    block, _, name = field.partition(".")
    least = OURS[block].get(block, {}) | ({"mode": "Embeddings"} if name == "pooling" else {})
    before, after = (
        backend(OURS[block] | {block: options}) for options in (least, least | {name: BLOCK_CHANGES[field]})
    )
    assert rendered(before) != rendered(after)


@pytest.mark.parametrize("block", OURS)
def test_context_length_of_a_model_is_what_its_server_is_started_with(block: str) -> None:
    models = [OURS[block]["models"][0] | {"contextLength": 8192}]
    with_it = arguments(OURS[block] | {"models": models})
    flag = {"vllm": "--max-model-len", "llamaCpp": "--ctx-size"}.get(block)
    assert (flag in with_it) == (flag is not None)
    if flag:
        assert with_it[with_it.index(flag) + 1] == "8192"


def test_each_slot_of_llama_cpp_has_the_whole_context() -> None:
    models = [GGUF[0] | {"contextLength": 8192}]
    several = arguments(OURS["llamaCpp"] | {"models": models, "llamaCpp": {"parallel": 4}})
    assert several[several.index("--ctx-size") + 1] == str(4 * 8192)
    unsaid = arguments(OURS["llamaCpp"] | {"models": models})
    assert unsaid[unsaid.index("--parallel") + 1] == "1"


def test_llama_cpp_computes_with_the_cpus_that_it_may_use() -> None:
    for given, threads in (
        ({"limits": {"cpu": "2500m"}, "requests": {"cpu": "8"}}, "2"),
        ({"requests": {"cpu": "500m"}}, "1"),
        ({"limits": {"memory": "1Gi"}}, None),
    ):
        words = arguments(OURS["llamaCpp"] | {"resources": given})
        assert (words[words.index("--threads") + 1] if "--threads" in words else None) == threads


def test_gpus_of_a_pod_are_shared_out_among_its_stages() -> None:
    for count, stages, expected in ((4, None, {"-t": "4"}), (4, 2, {"-t": "2", "-p": "2"}), (2, 2, {"-p": "2"})):
        options = {} if stages is None else {"pipelineParallelSize": stages}
        words = arguments(OURS["vllm"] | {"gpu": {"count": count}, "vllm": options})
        flags = {"-t": "--tensor-parallel-size", "-p": "--pipeline-parallel-size"}
        assert {k: words[words.index(f) + 1] for k, f in flags.items() if f in words} == expected


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"gpu": {"count": 3}, "vllm": {"pipelineParallelSize": 2}},
         "spec.vllm.pipelineParallelSize: 3 GPUs cannot be shared out evenly among 2 stages"),
        ({"vllm": {"maxLoraRank": 40}},
         "spec.vllm.maxLoraRank: vLLM knows 1, 8, 16, 32, 64, 128, 256, 320, 512: take the next that is not below 40"),
        ({"models": HF, "vllm": {"maxLoras": 2}},
         "spec.vllm.maxLoras and maxLoraRank belong to models[0].adapters: remove them, or name adapters"),
        ({"vllm": {"maxModelLen": 10}, "models": [HF[0] | {"contextLength": 11}]},
         "spec.models[0].contextLength is 11: vllm.maxModelLen allows 10"),
        ({"env": [{"name": "HOME", "value": "/"}]}, "spec.env: HOME is set by Pointsman: remove it"),
        ({"vllm": {"extraArgs": ["--port=1"]}}, "spec.vllm.extraArgs: --port is set by Pointsman: remove it"),
        ({"vllm": {"extraArgs": ["--max_model_len", "1"]}},
         "spec.vllm.extraArgs: --max_model_len has a field of its own: use vllm.maxModelLen"),
        (OURS["llamaCpp"] | {"gpu": None, "llamaCpp": {"gpuLayers": 1}},
         "spec.llamaCpp.gpuLayers: the pods have no GPU: set gpu, or remove it"),
        (OURS["llamaCpp"] | {"llamaCpp": {"extraArgs": ["-c", "1"]}},
         "spec.llamaCpp.extraArgs: -c has a field of its own: use models[].contextLength"),
        (OURS["llamaCpp"] | {"env": [{"name": "LLAMA_ARG_MODEL", "value": "x"}]},
         "spec.env: LLAMA_ARG_MODEL is set by Pointsman: remove it"),
        (OURS["custom"] | {"custom": {"port": 1, "writable": ["/models/x"]}},
         "spec.custom.writable: /models/x lies in or over /models (modelMount): choose another folder"),
        (OURS["custom"] | {"custom": {"port": 1, "writable": ["/a", "/a"]}},
         "spec.custom.writable: /a lies in or over /a (writable): choose another folder"),
        (OURS["custom"] | {"env": [{"name": "MODEL_PATH", "value": "x"}]},
         "spec.env: MODEL_PATH is set by Pointsman: remove it"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_said_in_one_sentence(spec: dict[str, Any], sentence: str) -> None:
    of = backend(OURS["vllm"] | spec)
    assert DRIVERS[of.spec.engine].problem(of.spec) == sentence
    assert all(DRIVERS[backend(least).spec.engine].problem(backend(least).spec) is None for least in OURS.values())


@pytest.mark.parametrize(
    ("spec", "minutes"),
    [
        ({"gpu": {"count": 1}}, 15),
        ({"gpu": {"count": 8}}, 50),
        ({"gpu": None}, 10),
        ({"gpu": None, "resources": {"limits": {"memory": "75Gi"}}}, 15),
        ({"gpu": {"count": 8}, "startupTimeout": "2m"}, 2),
        ({"engine": "Ollama", "models": [{"name": "m", "source": "ollama://tiny:1"}], "gpu": {"count": 8}}, 10),
    ],
)
def test_time_to_start_grows_with_the_memory_that_must_be_filled(spec: dict[str, Any], minutes: int) -> None:
    (deployment,) = [o for o in rendered(backend(OURS["vllm"] | spec)) if o["kind"] == "Deployment"]
    probe = deployment["spec"]["template"]["spec"]["containers"][0]["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == minutes * 60
    assert deployment["spec"]["progressDeadlineSeconds"] == minutes * 60 + 600


def test_limit_of_an_endpoint_is_what_its_engine_answers_at_once() -> None:
    for block, options in (("vllm", {"maxNumSeqs": 32}), ("llamaCpp", {"parallel": 4})):
        (expected,) = options.values()
        assert backend(OURS[block] | {block: options}).spec.max_in_flight == expected
        assert backend(OURS[block] | {block: options, "limits": {"maxInFlight": 7}}).spec.max_in_flight == 7
        assert backend(OURS[block]).spec.max_in_flight is None


def arguments(spec: dict[str, Any]) -> list[str]:
    """The words of the engine's command line."""
    (deployment,) = [o for o in rendered(backend(spec)) if o["kind"] == "Deployment"]
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    return [*container.get("command", ()), *container.get("args", ())]


@pytest.mark.parametrize("field", EXTERNAL_CHANGES)
def test_field_of_an_external_acts(field: str) -> None:
    def of(block: Any) -> LLMBackend:
        return backend({"engine": "External", "external": block, "models": [{"name": "m"}]})

    assert routed(of({"url": "https://api.example/v1"})) != routed(of(EXTERNAL_CHANGES[field]))


def test_every_field_is_looked_at() -> None:
    tested = {f.partition(".")[0] for f in (*CHANGES, *BLOCK_CHANGES, *EXTERNAL_CHANGES, *ELSEWHERE)}
    fields = {f.alias or n for n, f in LLMBackendSpec.model_fields.items()}
    assert fields == tested
    for name, field in LLMBackendSpec.model_fields.items():
        model = model_in(field.annotation)
        if model is not None and name not in ("external", *ELSEWHERE):
            inner = {f"{field.alias or name}.{f.alias or n}" for n, f in model.model_fields.items()}
            assert inner <= {*CHANGES, *BLOCK_CHANGES, *ELSEWHERE}, name


def model_in(annotation: Any) -> type[ApiModel] | None:
    """The model inside `X`, `X | None`, `tuple[X, …]`, `Annotated[X, …]`."""
    if isinstance(annotation, type) and issubclass(annotation, ApiModel):
        return annotation
    return next((m for arg in get_args(annotation) if (m := model_in(arg)) is not None), None)


@pytest.mark.parametrize("name", VARIANTS)
def test_pods_are_restricted(name: str) -> None:
    """The restricted Pod Security standard, and beyond it: no token, a read-only root."""
    for obj in rendered(backend(VARIANTS[name])):
        if obj["kind"] not in ("Deployment", "Job", "LeaderWorkerSet"):
            continue
        groups = obj["spec"].get("leaderWorkerTemplate")
        templates = [groups["leaderTemplate"], groups["workerTemplate"]] if groups else [obj["spec"]["template"]]
        for spec in (t["spec"] for t in templates):
            is_restricted(spec)


def is_restricted(spec: Any) -> None:
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert all("hostPath" not in v for v in spec["volumes"])
    for container in (*spec["containers"], *spec.get("initContainers", ())):
        context = container["securityContext"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert "privileged" not in context


def test_rollout_never_needs_a_second_gpu_or_a_second_place_of_the_volume() -> None:
    for spec in ({"gpu": {"count": 1}, "storage": {"accessMode": "ReadWriteMany"}}, {}):
        (deployment,) = [o for o in rendered(backend(spec)) if o["kind"] == "Deployment"]
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    (deployment,) = [
        o for o in rendered(backend({"storage": {"accessMode": "ReadWriteMany"}})) if o["kind"] == "Deployment"
    ]
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_adapters_are_pulled_waited_for_and_routed_to() -> None:
    of = backend(OURS["vllm"])
    rendering = rendered(of)
    jobs = [o["spec"]["template"]["spec"]["containers"][0]["args"] for o in rendering if o["kind"] == "Job"]
    assert [args[1] for args in jobs] == ["hf://org/repo@v1", "hf://org/sql", "hf://org/law"]
    (pod,) = [o["spec"]["template"]["spec"] for o in rendering if o["kind"] == "Deployment"]
    assert [c["args"][1] for c in pod["initContainers"]] == [args[1] for args in jobs]
    table = compile_table([of], [route("sql")], {}, {})
    assert table.backends["b"].models == {"m": "m", "sql": "sql", "law": "law"}
    assert [t.upstream_model for t in table.routes["r"].targets] == ["sql"]


def route(model: str) -> ModelRoute:
    spec = {"models": ["chat"], "targets": [{"backend": "b", "model": model}]}
    return ModelRoute.parse({"metadata": {"name": "r", "namespace": "ns"}, "spec": spec})


def test_slow_start_is_given_its_time() -> None:
    (deployment,) = [o for o in rendered(backend({"startupTimeout": "30m"})) if o["kind"] == "Deployment"]
    probe = deployment["spec"]["template"]["spec"]["containers"][0]["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 1800
    assert deployment["spec"]["progressDeadlineSeconds"] > 1800


def test_suspended_backend_still_has_a_plan_that_says_what_waits() -> None:
    assert plan(observed(backend({"suspend": True}), pods=(pod(),))).steps
