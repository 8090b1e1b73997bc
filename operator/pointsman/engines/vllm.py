"""Engine VLLM: spec → container. Pure.

Facts (measured on 0.32.0): the server listens only when it can answer, and then `/health` answers 200, 503 once its
engine has died; kernels, graphs and caches are written below HOME; PyTorch asks for the user's name and fails where
neither USER nor /etc/passwd has one; processes of one pod exchange tensors through /dev/shm; a chat template may be
given as the flag's value. Several nodes need no Ray: the processes of a group meet at the address of the first, and all
but that one listen to no client (`--nnodes`, `--headless`).
"""

from __future__ import annotations

import json

from pointsman.api.backend import LLMBackendSpec
from pointsman.api.options.vllm import Dtype, VllmOptions
from pointsman.engines import loadable
from pointsman.engines.base import TMP, Manifest, Scratch, model_path
from pointsman.engines.flags import clash, literal, reserved
from pointsman.engines.groups import LEADER_ADDRESS, WORKER_INDEX
from pointsman.engines.server import server

PORT = 8000
HOME = "/home/pointsman"
OURS = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HOME": HOME,
    "USER": "pointsman",
}
"""Nothing is fetched and nothing is told to anybody; and there is a home to write to. `env` must not set them."""
LOGS = "/etc/pointsman"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "%(levelname)s %(asctime)s [%(filename)s:%(lineno)d] %(message)s"},
        "bare": {"format": "%(message)s"},
    },
    "handlers": {
        "log": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stdout"},
        "end": {"class": "logging.FileHandler", "filename": "/dev/termination-log", "mode": "a", "delay": True,
                "formatter": "bare", "level": "ERROR"},
    },
    "loggers": {"vllm": {"handlers": ["log", "end"], "level": "INFO", "propagate": False}},
}  # fmt: skip
"""Errors go to the pod's status too: the engine is a process of its own, and the trace of why it could not start stands
far above the last lines of the log, which are those of the server that waited for it."""
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Of adapters (vLLM 0.32, `config/lora.py`)."""
RUN_TIME = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
"""Adapters may come and go while it runs."""
HOST_IP = "VLLM_HOST_IP"
MASTER_PORT = 29501
"""Where the leader of a group awaits the others."""
FLAGS = {
    "--model": "", "--served-model-name": "", "--host": "", "--port": "", "--uds": "", "--api-key": "",
    "--ssl-keyfile": "", "--ssl-certfile": "", "--tensor-parallel-size": "gpu.count", "-tp": "gpu.count",
    "--pipeline-parallel-size": "vllm.pipelineParallelSize", "-pp": "vllm.pipelineParallelSize",
    "--max-model-len": "vllm.maxModelLen", "--max-num-seqs": "vllm.maxNumSeqs",
    "--max-num-batched-tokens": "vllm.maxNumBatchedTokens", "--gpu-memory-utilization": "vllm.gpuMemoryPercent",
    "--dtype": "vllm.dtype", "--quantization": "vllm.quantization", "-q": "vllm.quantization",
    "--kv-cache-dtype": "vllm.kvCacheDtype", "--enable-prefix-caching": "vllm.prefixCaching",
    "--no-enable-prefix-caching": "vllm.prefixCaching", "--enforce-eager": "vllm.enforceEager",
    "--tool-call-parser": "vllm.toolCallParser", "--enable-auto-tool-choice": "vllm.toolCallParser",
    "--reasoning-parser": "vllm.reasoningParser", "--chat-template": "vllm.chatTemplate",
    "--trust-remote-code": "vllm.trustRemoteCode", "--enable-lora": "models[0].adapters",
    "--nnodes": "vllm.nodes", "-n": "vllm.nodes", "--node-rank": "", "-r": "", "--master-addr": "",
    "--master-port": "", "--headless": "", "--lora-modules": "models[0].adapters",
    "--max-loras": "vllm.maxLoras", "--max-lora-rank": "vllm.maxLoraRank",
}  # fmt: skip
"""Flags that `extraArgs` must not hold, and the field to use."""
_DTYPES = {Dtype.BFLOAT16: "bfloat16", Dtype.FLOAT16: "float16", Dtype.FLOAT32: "float32"}


class Vllm:
    """`Driver` of vLLM."""

    runs_pods = True
    reads_files = True
    loads = loadable.CHECKPOINT
    worker_flags = ("--headless",)

    def port(self, spec: LLMBackendSpec) -> int:
        return PORT

    def problem(self, spec: LLMBackendSpec) -> str | None:
        o = spec.vllm or VllmOptions()
        ranks, stages = _ranks(spec)
        if ranks % stages:
            what = "GPUs" if spec.gpu else "pods"
            return f"spec.vllm.pipelineParallelSize: {ranks} {what} cannot be shared out evenly among {stages} stages"
        (model,) = spec.models
        if o.max_lora_rank is not None and o.max_lora_rank not in RANKS:
            known = ", ".join(map(str, RANKS))
            return f"spec.vllm.maxLoraRank: vLLM knows {known}: take the next that is not below {o.max_lora_rank}"
        if not model.adapters and (o.max_loras is not None or o.max_lora_rank is not None):
            return "spec.vllm.maxLoras and maxLoraRank belong to models[0].adapters: remove them, or name adapters"
        if o.max_model_len is not None and (model.context_length or 0) > o.max_model_len:
            return f"spec.models[0].contextLength is {model.context_length}: vllm.maxModelLen allows {o.max_model_len}"
        return reserved(spec, {**OURS, **RUN_TIME, HOST_IP: ""}) or clash(o.extra_args, FLAGS, "vllm")

    def container(self, spec: LLMBackendSpec, image: str) -> Manifest:
        (model,) = spec.models
        served = ["serve", model_path(model), "--served-model-name", model.name, "--port", str(PORT)]
        env = OURS | _logging(spec) | (RUN_TIME if model.adapters else {})
        args = [*served, *_arguments(spec)]
        out = server(self, spec, image, health="/health", env=env, command=["vllm"], args=args)
        return out | {"env": [*_address(spec), *out["env"]]}

    def scratch(self, spec: LLMBackendSpec) -> tuple[Scratch, ...]:
        told = [Scratch("logging", LOGS, file="logging.json", text=json.dumps(LOGGING))] if _logging(spec) else []
        return (Scratch("home", HOME), TMP, Scratch("shm", "/dev/shm", in_memory=True), *told)  # noqa: S108


def _logging(spec: LLMBackendSpec) -> dict[str, str]:
    """Nothing of ours where `env` says how vLLM logs."""
    if any(v.name.startswith("VLLM_LOGGING") for v in spec.env or ()):
        return {}
    return {"VLLM_LOGGING_CONFIG_PATH": f"{LOGS}/logging.json"}


def _ranks(spec: LLMBackendSpec) -> tuple[int, int]:
    """The processes that a model is shared out among, one for each GPU of a replica, and in how many stages."""
    o = spec.vllm or VllmOptions()
    return (o.nodes or 1) * (spec.gpu.count if spec.gpu else 1), o.pipeline_parallel_size or o.nodes or 1


def _address(spec: LLMBackendSpec) -> list[Manifest]:
    """At which address the pods of a group find each other; vLLM's own guess asks the routes to the Internet."""
    if spec.pods_of_a_replica == 1:
        return []
    return [{"name": HOST_IP, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]


def _arguments(spec: LLMBackendSpec) -> list[str]:
    o = spec.vllm or VllmOptions()
    (model,) = spec.models
    ranks, stages = _ranks(spec)
    group = o.nodes is not None
    values = {
        "--nnodes": o.nodes,
        "--node-rank": WORKER_INDEX if group else None,
        "--master-addr": LEADER_ADDRESS if group else None,
        "--master-port": MASTER_PORT if group else None,
        "--tensor-parallel-size": ranks // stages if ranks > stages else None,
        "--pipeline-parallel-size": stages if group else o.pipeline_parallel_size,
        "--max-model-len": o.max_model_len or model.context_length,
        "--max-num-seqs": o.max_num_seqs,
        "--max-num-batched-tokens": o.max_num_batched_tokens,
        "--gpu-memory-utilization": None if o.gpu_memory_percent is None else f"0.{o.gpu_memory_percent:02}",
        "--dtype": None if o.dtype is None else _DTYPES[o.dtype],
        "--quantization": o.quantization,
        "--kv-cache-dtype": o.kv_cache_dtype,
        "--tool-call-parser": o.tool_call_parser,
        "--reasoning-parser": o.reasoning_parser,
        "--max-loras": (o.max_loras or len(model.adapters)) if model.adapters else None,
        "--max-lora-rank": o.max_lora_rank if model.adapters else None,
        "--chat-template": None if o.chat_template is None else literal(o.chat_template),
    }
    switches = {
        "--enable-prefix-caching": o.prefix_caching is True,
        "--no-enable-prefix-caching": o.prefix_caching is False,
        "--enforce-eager": o.enforce_eager,
        "--enable-auto-tool-choice": o.tool_call_parser is not None,
        "--trust-remote-code": o.trust_remote_code,
        "--enable-lora": bool(model.adapters),
    }
    out = [word for flag, value in values.items() if value is not None for word in (flag, str(value))]
    adapters = [f"{adapter.name}={model_path(adapter)}" for adapter in model.served[1:]]
    if adapters:
        out += ["--lora-modules", *adapters]
    return [*out, *(flag for flag, on in switches.items() if on), *o.extra_args]
