"""Objects that must be accepted, and objects that must be refused with a sentence.

One table for two judges: the models (manifests from files) and a real API server (the CRDs).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    name: str
    body: dict[str, Any]
    refused: str = ""
    """A part of the sentence; empty: accepted."""
    from_api: str = ""
    """The API server's own words, where they differ: types, enums and unknown fields are its own checks."""
    of_name: bool = False
    """It is metadata.name that is refused: the loader of manifests judges that, not the spec."""


def ollama(name: str = "local", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "pointsman.dev/v1alpha1",
        "kind": "LLMBackend",
        "metadata": {"name": name},
        "spec": {"engine": "Ollama", "models": [{"name": "llama3.2", "source": "ollama://llama3.2:3b"}], **spec},
    }


def external(name: str = "hosted", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "pointsman.dev/v1alpha1",
        "kind": "LLMBackend",
        "metadata": {"name": name},
        "spec": {
            "engine": "External",
            "models": [{"name": "gpt-4o-mini"}],
            "external": {"url": "https://api.example.com/v1"},
            **spec,
        },
    }


def route(name: str = "chat", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "pointsman.dev/v1alpha1",
        "kind": "ModelRoute",
        "metadata": {"name": name},
        "spec": {"models": ["chat"], "targets": [{"backend": "local", "model": "llama3.2"}], **spec},
    }


def without(body: dict[str, Any], *path: str) -> dict[str, Any]:
    """A copy of `body` that lacks the field at `path`."""
    out = copy.deepcopy(body)
    at = out
    for key in path[:-1]:
        at = at[key]
    del at[path[-1]]
    return out


def engine(name: str, **spec: Any) -> dict[str, Any]:
    """The least of a backend of engine VLLM, LlamaCpp or Custom."""
    least: dict[str, Any] = {"models": [{"name": "m", "source": "hf://org/repo/m.gguf"}]}
    if name == "Custom":
        least |= {"image": "registry.example/mine:1", "custom": {"port": 9000}}
    return {
        "apiVersion": "pointsman.dev/v1alpha1",
        "kind": "LLMBackend",
        "metadata": {"name": "own"},
        "spec": {"engine": name, **least, **spec},
    }


def image(name: str = "LlamaCpp", storage: dict[str, Any] | None = None, **model: Any) -> dict[str, Any]:
    """A backend with one model that is an image."""
    models = [{"name": "m", "source": "oci://r.test/m:1", **model}]
    return engine(name, models=models, storage={"mode": "Image", **(storage or {})})


TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"
DURATION = "must be a duration such as 500ms, 5s, 2m or 1h30m"
QUANTITY = "must be a quantity such as 500m, 512Mi or 100Gi"
PODLESS = "engine External runs no pods"

CASES = [
    Case("ollama", ollama()),
    Case(
        "ollama, everything set",
        ollama(
            replicas=2,
            suspend=True,
            image="registry.example/ollama:1",
            imagePullSecrets=[{"name": "regcred"}],
            ollama={
                "parallel": 4,
                "maxLoadedModels": 2,
                "maxQueue": 512,
                "keepAlive": "1h30m",
                "origins": ["https://app.example", "*"],
            },
            gpu={"count": 1, "resourceName": "nvidia.com/mig-1g.10gb"},
            storage={"size": "1.5Ti", "storageClassName": "fast", "accessMode": "ReadWriteMany", "retain": True},
            probe={"interval": "500ms", "timeout": "1s", "failureThreshold": 1, "successThreshold": 1},
            env=[{"name": "OLLAMA_DEBUG", "value": "1"}],
            resources={"requests": {"cpu": "500m"}, "limits": {"memory": "8Gi"}},
            nodeSelector={"gpu": "a100"},
            tolerations=[{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
            runtimeClassName="nvidia",
            startupTimeout="20m",
            drainSeconds=30,
        ),
    ),
    Case(
        "vllm, everything set",
        engine(
            "VLLM",
            limits={"maxQueued": 4},
            gpu={"count": 4},
            vllm={
                "maxModelLen": 4096,
                "maxNumSeqs": 32,
                "maxNumBatchedTokens": 8192,
                "pipelineParallelSize": 2,
                "gpuMemoryPercent": 85,
                "dtype": "BFloat16",
                "quantization": "compressed-tensors",
                "kvCacheDtype": "fp8_e5m2",
                "prefixCaching": False,
                "enforceEager": True,
                "toolCallParser": "qwen3_coder",
                "reasoningParser": "deepseek_r1",
                "chatTemplate": TEMPLATE,
                "trustRemoteCode": True,
                "extraArgs": ["--seed", "1"],
            },
        ),
    ),
    Case(
        "llama.cpp, everything set",
        engine(
            "LlamaCpp",
            limits={"maxQueued": 4},
            llamaCpp={
                "mode": "Embeddings",
                "pooling": "Last",
                "parallel": 4,
                "gpuLayers": 0,
                "threads": 2,
                "flashAttention": "Off",
                "kvCacheType": "q8_0",
                "chatTemplate": TEMPLATE,
                "extraArgs": ["--mlock"],
            },
        ),
    ),
    Case(
        "custom, everything set",
        engine(
            "Custom",
            custom={
                "port": 9000,
                "probePath": "/v1/models",
                "command": ["serve"],
                "args": ["--model=$(MODEL_PATH)"],
                "modelMount": "/srv/models",
                "writable": ["/var/cache/serve"],
            },
        ),
    ),
    Case(
        "pooling without embeddings",
        engine("LlamaCpp", llamaCpp={"pooling": "Mean"}),
        "pooling belongs to mode Embeddings",
    ),
    Case("custom without an image", without(engine("Custom"), "spec", "image"), "engine Custom needs image"),
    Case("custom without its port", without(engine("Custom"), "spec", "custom"), "custom.port where it listens"),
    Case(
        "options of another engine", engine("VLLM", llamaCpp={"parallel": 1}), "belongs to engine LlamaCpp: remove it"
    ),
    Case(
        "two models for one server",
        engine("LlamaCpp", models=[{"name": n, "source": "hf://a/b/c.gguf"} for n in ("a", "b")]),
        "serves one model: make an LLMBackend for each",
    ),
    Case(
        "vllm from Ollama's registry",
        engine("VLLM", models=[{"name": "m", "source": "ollama://llama3.2:3b"}]),
        "engine VLLM needs a source for each model that starts with hf://",
    ),
    *(
        Case(
            f"llama.cpp from {source}",
            engine("LlamaCpp", models=[{"name": "m", "source": source}]),
            "engine LlamaCpp reads one GGUF file: name it, as in hf://",
        )
        for source in (
            "hf://o/repo",
            "hf://o/repo@main/",
            "hf://o/repo.gguf",
            "hf://o/r/model.safetensors",
            "https://host.example/model",
        )
    ),
    *(
        Case(f"llama.cpp from {source}", engine("LlamaCpp", models=[{"name": "m", "source": source}]))
        for source in (
            "hf://o/r/sub/m.gguf",
            "https://host.example/m.gguf",
            "s3://bucket/folder",
            "oci://host.example/m",
            "pvc://claim/folder",
        )
    ),
    *(
        Case(
            f"vllm from {source}",
            engine("VLLM", models=[{"name": "m", "source": source}]),
            "engine VLLM reads a folder with config.json beside its weights: name it",
        )
        for source in ("hf://o/repo@v1/model.safetensors", "https://host.example/weights.tar")
    ),
    *(
        Case(f"vllm from {source}", engine("VLLM", models=[{"name": "m", "source": source}]))
        for source in ("hf://o/repo", "hf://o/repo@v1/", "hf://o/r/m.gguf", "s3://bucket/folder", "pvc://claim/folder")
    ),
    Case(
        "an adapter that is a file",
        engine(
            "VLLM",
            models=[
                {
                    "name": "a",
                    "source": "hf://o/a",
                    "adapters": [{"name": "b", "source": "hf://o/b/adapter_model.safetensors"}],
                }
            ],
        ),
        "an adapter is a folder with adapter_config.json: name it",
    ),
    Case(
        "a template that is a path",
        engine("VLLM", vllm={"chatTemplate": "/etc/template.jinja"}),
        "must be a Jinja template such as",
    ),
    Case(
        "a parser that is a flag",
        engine("VLLM", vllm={"toolCallParser": "--x"}),
        "must be a parser's name such as hermes",
    ),
    Case(
        "all of a GPU's memory",
        engine("VLLM", vllm={"gpuMemoryPercent": 100}),
        "spec.vllm.gpuMemoryPercent: Input should be less than or equal to 99",
        "should be less than or equal to 99",
    ),
    Case(
        "a folder that is none",
        engine("Custom", custom={"port": 1, "writable": ["cache"]}),
        "must be an absolute path such as /var/cache/engine",
    ),
    Case("GPUs of a profile", ollama(gpu={"profile": "a100"})),
    Case(
        "GPUs of a product",
        ollama(gpu={"count": 8, "vendor": "AMD", "product": "AMD_Instinct_MI300X_OAM", "memory": "192Gi"}),
    ),
    Case(
        "a product of a vendor that is plain from the resource",
        ollama(gpu={"product": "Max_1550", "resourceName": "gpu.intel.com/xe"}),
    ),
    Case(
        "a profile and more",
        ollama(gpu={"profile": "a100", "memory": "80Gi"}),
        "gpu.profile says what kind of GPU it is: remove vendor, product, resourceName and memory",
    ),
    Case(
        "a product of nobody",
        ollama(gpu={"product": "x", "resourceName": "example.com/gpu"}),
        "gpu.product is a label of the vendor's: set gpu.vendor",
    ),
    Case("external", external()),
    Case(
        "external with a secret",
        external(external={"url": "http://10.0.0.7:8000/v1", "secretRef": {"name": "openai", "key": "token"}}),
    ),
    Case(
        "external with its own authorities and a check by one token",
        external(
            external={
                "url": "https://llm.corp.example/v1",
                "caBundleRef": {"kind": "Secret", "name": "corp-ca", "key": "tls.crt"},
                "clientCertificateRef": {"name": "us"},
            },
            probe={"generation": {"mode": "Enabled", "interval": "5m", "timeout": "30s"}},
        ),
    ),
    Case("route", route()),
    Case(
        "route, everything set",
        route(
            models=["chat", "gpt-4o", "org/model:tag"],
            targets=[
                {"backend": "local", "model": "llama3.2", "priority": 0},
                {"backend": "hosted", "model": "gpt-4o-mini", "priority": 15},
            ],
            fallback={"mode": "None", "maxAttempts": 1, "whenAllUnhealthy": "Fail"},
            timeouts={"connect": "1s", "firstToken": "10s", "answer": "1m", "idle": "30s", "total": "5m"},
        ),
    ),
    Case(
        "a model with traits",
        external(
            pricing={"inputPerMillionTokens": "0.15", "outputPerMillionTokens": "0.600001"},
            models=[
                {
                    "name": "gpt-4o-mini",
                    "capabilities": ["Chat", "Tools", "Vision", "Embeddings", "Code", "Reasoning"],
                    "contextLength": 128000,
                    "pricing": {"inputPerMillionTokens": "0", "outputPerMillionTokens": "12"},
                }
            ],
        ),
    ),
    Case(
        "money as a float",
        external(pricing={"inputPerMillionTokens": "$0.15", "outputPerMillionTokens": "1"}),
        "must be an amount of money such as 0.15, with at most 6 decimals",
    ),
    Case(
        "unknown capability",
        external(models=[{"name": "a", "capabilities": ["Poetry"]}]),
        "spec.models[0].capabilities[0]: Input should be",
        'Unsupported value: "Poetry"',
    ),
    Case(
        "as many rules and targets as there may be",
        route(
            models=["chat", "gpt-4o*", "*"],
            strategy="Weighted",
            sticky={"header": "x-user-id"},
            targets=[{"backend": f"b{n}", "model": "m", "weight": 1000} for n in range(16)],
            rules=[
                {
                    "match": {
                        "taskTypes": ["CodeGeneration", "CodeAnalysis", "Reasoning", "GeneralChat", "Planning"],
                        "capabilities": ["Tools", "Vision", "Embeddings"],
                        "headers": [{"name": f"x-header-{n}", "type": "Glob", "value": "a*" * 128} for n in range(8)],
                        "minContextLength": 1,
                        "maxContextLength": 100000,
                    },
                    "targets": [{"backend": f"b{n}", "model": "m", "weight": 0} for n in range(16)],
                }
                for _ in range(16)
            ],
        ),
    ),
    Case("a pattern that is none", route(models=["gpt 4*"]), "must be a model name or a pattern such as gpt-4o*"),
    Case(
        "sticky without weights",
        route(sticky={}),
        "sticky belongs to strategy Weighted: set it, or remove sticky",
    ),
    Case(
        "weight too great",
        route(targets=[{"backend": "a", "model": "a", "weight": 1001}]),
        "spec.targets[0].weight: Input should be less than or equal to 1000",
        "should be less than or equal to 1000",
    ),
    Case(
        "a rule without a condition",
        route(rules=[{"match": {}, "targets": [{"backend": "a", "model": "a"}]}]),
        "a rule without a condition matches everything: put its targets into spec.targets",
    ),
    Case(
        "a rule without targets",
        route(rules=[{"match": {"minContextLength": 5}, "targets": []}]),
        "spec.rules[0].targets: ",
        "should have at least 1 items",
    ),
    Case(
        "a range without a middle",
        route(
            rules=[
                {
                    "match": {"minContextLength": 5, "maxContextLength": 4},
                    "targets": [{"backend": "a", "model": "a"}],
                }
            ]
        ),
        "minContextLength is greater than maxContextLength: nothing would match",
    ),
    Case(
        "a rule about a credential",
        route(
            rules=[
                {
                    "match": {"headers": [{"name": "Authorization", "value": "Bearer sk-1"}]},
                    "targets": [{"backend": "a", "model": "a"}],
                }
            ]
        ),
        "a rule cannot match a credential (authorization, cookie, ",
    ),
    Case(
        "a header's value with a line end",
        route(
            rules=[
                {
                    "match": {"headers": [{"name": "x-a", "value": "a\nb"}]},
                    "targets": [{"backend": "a", "model": "a"}],
                }
            ]
        ),
        "must be the value of a header: printable ASCII",
    ),
    Case(
        "unknown field",
        ollama(modles=[]),
        "spec.modles: unknown field",
        'strict decoding error: unknown field "spec.modles"',
    ),
    Case(
        "unknown nested field",
        route(timeouts={"conect": "1s"}),
        "spec.timeouts.conect: unknown field",
        'unknown field "spec.timeouts.conect"',
    ),
    Case("wrong engine", ollama(engine="Olama"), "spec.engine: Input should be", 'Unsupported value: "Olama"'),
    Case(
        "wrong fallback mode",
        route(fallback={"mode": "Maybe"}),
        "spec.fallback.mode: Input should be 'Auto' or 'None'",
        'supported values: "Auto", "None"',
    ),
    Case("bad duration", ollama(probe={"timeout": "5 seconds"}), f"spec.probe.timeout: {DURATION}", DURATION),
    Case("bad route duration", route(timeouts={"total": "10"}), f"spec.timeouts.total: {DURATION}", DURATION),
    Case("bad quantity", ollama(storage={"size": "100 GB"}), f"spec.storage.size: {QUANTITY}", QUANTITY),
    Case("bad limit", ollama(resources={"limits": {"memory": "8GiB"}}), QUANTITY),
    Case("name with a capital", ollama("Local"), "metadata.name", of_name=True),
    Case("name with a dot", ollama("qwen2.5"), "metadata.name must have at most 50", of_name=True),
    Case("name too long", route("a" * 51), "metadata.name must have at most 50", of_name=True),
    Case("no models", ollama(models=[]), "spec.models: must have at least 1 items", "should have at least 1 items"),
    Case(
        "model twice",
        external(models=[{"name": "a"}, {"name": "a"}]),
        "spec.models: duplicate name 'a'",
        "Duplicate value",
    ),
    Case("model name with a space", external(models=[{"name": "gpt 4"}]), "must be a model name"),
    Case("no source", ollama(models=[{"name": "a"}]), "engine Ollama needs a source for each model"),
    Case(
        "source of another kind",
        ollama(models=[{"name": "a", "source": "docker://a"}]),
        "must be a model's source such as ollama://llama3.2:3b",
    ),
    *(
        Case(f"source {source}", engine("Custom", models=[{"name": "a", "source": source}]))
        for source in (
            "hf://org/repo@v1.0/sub/m.gguf",
            "https://files.example:8443/a~b/m%20x.gguf",
            "s3://bucket/a=b/c",
            "oci://registry.example:5000/team/m:v1.0",
            "oci+http://registry/team/m",
            "pvc://claim/a/m.gguf",
        )
    ),
    Case(
        "source with a query",
        engine("Custom", models=[{"name": "a", "source": "https://files.example/m.gguf?sig=1"}]),
        "must be a model's source such as",
    ),
    Case(
        "plain text without a pin",
        engine("Custom", models=[{"name": "a", "source": "http://files.example/m.gguf"}]),
        "a source in plain text (http://) needs a digest",
    ),
    Case(
        "plain text with a pin",
        engine("Custom", models=[{"name": "a", "source": "http://f.example/m.gguf", "digest": "sha256:" + "a" * 64}]),
    ),
    Case(
        "credentials of a source",
        engine("Custom", models=[{"name": "a", "source": "hf://org/repo", "secretRef": {"name": "hf-token"}}]),
    ),
    Case(
        "credentials without a source",
        engine("Custom", models=[{"name": "a", "secretRef": {"name": "hf-token"}}]),
        "secretRef belongs to a source",
    ),
    Case(
        "bad digest",
        ollama(models=[{"name": "a", "source": "ollama://a", "digest": "sha256:abc"}]),
        "must be a digest: sha256: and 64 lower-case hexadecimal digits",
    ),
    Case("external without url", without(external(), "spec", "external"), "engine External needs external.url"),
    Case("external block on ollama", ollama(external={"url": "http://a/v1"}), "belongs to engine External: remove it"),
    Case("ollama block on external", external(ollama={"parallel": 1}), "belongs to engine Ollama: remove it"),
    Case("external with a source", external(models=[{"name": "a", "source": "ollama://a"}]), "pulls no models"),
    Case("external with storage", external(storage={"size": "1Gi"}), PODLESS),
    Case("autoscaling", ollama(autoscaling={"maxReplicas": 4, "targetInFlight": 8})),
    Case(
        "autoscaling to none",
        ollama(
            replicas=0,
            autoscaling={
                "minReplicas": 0,
                "maxReplicas": 4,
                "targetInFlight": 8,
                "idleAfter": "10m",
                "scaleUpWindow": "0s",
                "scaleDownWindow": "1h",
            },
        ),
    ),
    Case(
        "autoscaling without a maximum",
        ollama(autoscaling={"targetInFlight": 8}),
        "spec.autoscaling.maxReplicas: Field required",
        "spec.autoscaling.maxReplicas: Required value",
    ),
    Case(
        "autoscaling without a target",
        ollama(autoscaling={"maxReplicas": 8}),
        "spec.autoscaling.targetInFlight: Field required",
        "spec.autoscaling.targetInFlight: Required value",
    ),
    Case(
        "autoscaling upside down",
        ollama(autoscaling={"minReplicas": 5, "maxReplicas": 4, "targetInFlight": 8}),
        "autoscaling.minReplicas must not be more than autoscaling.maxReplicas",
    ),
    Case(
        "idle, but never none",
        ollama(autoscaling={"maxReplicas": 4, "targetInFlight": 8, "idleAfter": "10m"}),
        "it needs autoscaling.minReplicas 0",
    ),
    Case(
        "external with autoscaling",
        external(autoscaling={"maxReplicas": 4, "targetInFlight": 8}),
        "engine External runs no pods: remove",
    ),
    Case("external with replicas", external(replicas=2), "engine External runs no pods: replicas cannot be set"),
    Case("url without a scheme", external(external={"url": "api.example.com"}), "must be the API's base URL"),
    Case(
        "url with credentials",
        external(external={"url": "https://me:secret@api.example.com/v1"}),
        "must be the API's base URL",
    ),
    Case(
        "own authorities without TLS",
        external(external={"url": "http://api.example.com/v1", "caBundleRef": {"name": "ca"}}),
        "external.caBundleRef needs a url with https",
    ),
    Case(
        "a client certificate without TLS",
        external(external={"url": "http://api.example.com/v1", "clientCertificateRef": {"name": "us"}}),
        "external.clientCertificateRef needs a url with https",
    ),
    Case(
        "bundle in something else",
        external(external={"url": "https://api.example.com/v1", "caBundleRef": {"kind": "Pod", "name": "ca"}}),
        "spec.external.caBundleRef.kind: Input should be 'ConfigMap' or 'Secret'",
        'supported values: "ConfigMap", "Secret"',
    ),
    Case(
        "claim and class",
        ollama(storage={"existingClaim": "a", "storageClassName": "b"}),
        "existingClaim brings its own storage class",
    ),
    Case("a volume for each pod", ollama(storage={"mode": "PerPod", "size": "10Gi"})),
    Case("a claim for each pod", ollama(storage={"mode": "PerPod", "existingClaim": "a"}), "belongs to mode Shared"),
    Case("pods' volumes kept", ollama(storage={"mode": "PerPod", "retain": True}), "belong to mode Shared"),
    Case(
        "adapters of Ollama",
        ollama(models=[{"name": "a", "source": "ollama://a:1", "adapters": [{"name": "b", "source": "hf://o/b"}]}]),
        "adapters belong to engine VLLM",
    ),
    Case(
        "an adapter of its model's name",
        engine("VLLM", models=[{"name": "a", "source": "hf://o/a", "adapters": [{"name": "a", "source": "hf://o/b"}]}]),
        "an adapter needs another name than its model",
    ),
    Case(
        "an adapter from Ollama's registry",
        engine(
            "VLLM", models=[{"name": "a", "source": "hf://o/a", "adapters": [{"name": "b", "source": "ollama://b"}]}]
        ),
        "an adapter is a folder with adapter_config.json",
    ),
    Case("refresh", ollama(models=[{"name": "a", "source": "ollama://a:1", "refresh": "OnChange"}])),
    Case(
        "refresh of a pin",
        ollama(models=[{"name": "a", "source": "ollama://a:1", "refresh": "OnChange", "digest": "sha256:" + "a" * 64}]),
        "a model with a digest never changes",
    ),
    Case(
        "refresh of a model that is not ours",
        external(models=[{"name": "a", "refresh": "OnChange"}]),
        "refresh needs a source to ask",
    ),
    Case(
        "refresh for each pod",
        ollama(models=[{"name": "a", "source": "ollama://a:1", "refresh": "OnChange"}], storage={"mode": "PerPod"}),
        "refresh belongs to storage.mode Shared",
    ),
    Case("models that are images", image()),
    Case("images with adapters", image("VLLM", adapters=[{"name": "l", "source": "oci://r.test/l:1/sql"}])),
    Case(
        "an adapter that is no image",
        image("VLLM", adapters=[{"name": "l", "source": "hf://org/l"}]),
        "each needs a source that starts with oci://",
    ),
    Case("images in plain text", image(source="oci+http://r.test/m:1"), "each needs a source that starts with oci://"),
    Case("an image of a Hub", image(source="hf://org/m/m.gguf"), "each needs a source that starts with oci://"),
    Case(
        "an image of none of ours",
        engine("Custom", models=[{"name": "m"}], storage={"mode": "Image"}),
        "each needs a source that starts with oci://",
    ),
    Case("an image with a Secret", image(secretRef={"name": "s"}), "credentials stand in imagePullSecrets"),
    Case("refresh of an image", image(refresh="OnChange"), "with Image each node pulls what there is"),
    Case("size of images", image(storage={"size": "1Gi"}), "remove size and storageClassName"),
    Case("storage class of images", image(storage={"storageClassName": "a"}), "remove size and storageClassName"),
    Case("a claim of images", image(storage={"existingClaim": "c"}), "existingClaim belongs to mode Shared"),
    Case("images that are retained", image(storage={"retain": True}), "accessMode and retain belong to mode Shared"),
    Case("limits", external(limits={"maxInFlight": 16, "maxQueued": 0, "queueTimeout": "2s"})),
    Case("queue of a limit that follows from the engine", ollama(ollama={"parallel": 2}, limits={"maxQueued": 8})),
    Case("queue without a limit", external(limits={"maxQueued": 8}), "set limits.maxInFlight"),
    Case("no slots", external(limits={"maxInFlight": 0}), "greater than or equal to 1"),
    Case("hold", route(fallback={"whileCold": "Hold", "holdTimeout": "1m", "maxHeld": 10})),
    Case("hedge", route(fallback={"firstTokenAfter": "3s", "hedgeToPriced": True})),
    Case("how long, without Hold", route(fallback={"holdTimeout": "1m"}), "belong to whileCold: Hold"),
    Case("priced, without a hedge", route(fallback={"hedgeToPriced": True}), "belongs to firstTokenAfter"),
    Case("no targets", route(targets=[]), "spec.targets: ", "should have at least 1 items"),
    Case(
        "target name",
        route(targets=[{"backend": "No", "model": "a"}]),
        "spec.targets[0].backend: must be a name of lower-case letters",
        "must be a name of lower-case letters",
    ),
    Case(
        "priority too great",
        route(targets=[{"backend": "a", "model": "a", "priority": 16}]),
        "spec.targets[0].priority: Input should be less than or equal to 15",
        "should be less than or equal to 15",
    ),
]

CHANGES = [
    ("engine", ollama(), external("local"), "engine cannot change: create another LLMBackend"),
    (
        "smaller volume",
        ollama(storage={"size": "2Gi"}),
        ollama(storage={"size": "1Gi"}),
        "storage.size may grow, never shrink",
    ),
    (
        "another mode",
        ollama(storage={"mode": "PerPod"}),
        ollama(),
        "storage.mode cannot change",
    ),
    (
        "another claim",
        ollama(storage={"existingClaim": "a"}),
        ollama(storage={"existingClaim": "b"}),
        "storage.existingClaim cannot change",
    ),
    (
        "claim taken away",
        ollama(storage={"existingClaim": "a"}),
        ollama(),
        "storage.existingClaim cannot change",
    ),
    (
        "another class",
        ollama(),
        ollama(storage={"storageClassName": "b"}),
        "storage.storageClassName cannot change",
    ),
    (
        "another access mode",
        ollama(),
        ollama(storage={"accessMode": "ReadWriteMany"}),
        "storage.accessMode cannot change",
    ),
]
"""Name, the object as it is, as it shall become, and the sentence that refuses the change."""
