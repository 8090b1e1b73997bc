"""What engines say before they end; the lines are theirs, from their issues."""

from __future__ import annotations

import json
import logging
import logging.config
from pathlib import Path

import pytest
from tests.unit.controllers.cluster import backend

from pointsman.engines.base import Worker, pod_template
from pointsman.engines.drivers import DRIVERS
from pointsman.engines.last_words import FORMS, read

VLLM_CACHE = """
(EngineCore_DP0 pid=1094) ValueError: To serve at least one request with the models's max seq len (262144), (24.0 GiB KV
cache is needed, which is larger than the available KV cache memory (3.18 GiB). Based on the available memory, the
estimated maximum model length is 34736. Try increasing `gpu_memory_utilization` or decreasing `max_model_len`
"""
VLLM_CACHE_NEWER = """
ValueError: To serve at least one request with the model's max seq len (1048576), 22.5 GiB KV cache is needed, which is
larger than the available KV cache memory (17.39 GiB). Based on the available memory, the estimated maximum model length
is 810208.
"""
LINES = [
    (VLLM_CACHE, "ContextTooLong", "at most 34736 tokens"),
    (VLLM_CACHE_NEWER, "ContextTooLong", "at most 810208 tokens"),
    ("The model's max seq len (4096) is larger than the maximum number of tokens that can be stored in KV cache (3664)",
     "ContextTooLong", "at most 3664 tokens"),
    ("ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`", "GpuOutOfMemory",
     "none for its KV cache"),
    ("ValueError: Free memory on device (3.13/23.64 GiB) on startup is less than desired GPU memory utilization (0.9,",
     "GpuOutOfMemory", "only 3.13 of the GPU's 23.64 GiB are free"),
    ("ggml_backend_cuda_buffer_type_alloc: allocating 35533.34 MiB on device 0: cudaMalloc failed: out of memory",
     "GpuOutOfMemory", "34.7 GiB"),
    ("llama_model_load: error loading model: unable to allocate CUDA0 buffer", "GpuOutOfMemory", "smaller model"),
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has", "GpuOutOfMemory", "smaller"),
    ("torch.OutOfMemoryError: HIP out of memory. Tried to allocate 2.00 GiB.", "GpuOutOfMemory", "smaller"),
    ("RuntimeError: CUDA error: no kernel image is available for execution on the device", "GpuUnsupported",
     "generation"),
    ("Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your Tesla T4 GPU has 7.5",
     "GpuUnsupported", "float16"),
    ("RuntimeError: The NVIDIA driver on your system is too old (found version 11040).", "GpuDriver", "too old"),
    ("nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.8, please update your driver",
     "GpuDriver", "too old"),
    ("RuntimeError: Found no NVIDIA driver on your system.", "GpuDriver", "sees no GPU"),
    ("RuntimeError: Failed to infer device type", "GpuDriver", "sees no GPU"),
    ("World size (4) is larger than the number of available GPUs (1) in this node.", "BadConfiguration", "count to 4"),
    ("Total number of attention heads (40) must be divisible by tensor parallel size (3).", "BadConfiguration",
     "40 attention heads"),
    ("llama_model_load: error loading model: tensor 'blk.0.attn_output.weight' data is not within the file bounds,"
     " model is corrupted or incomplete", "NotAModel", "cut off"),
    ("llama_model_load: error loading model: llama_model_loader: failed to load model from /models/junk.gguf",
     "NotAModel", "damaged"),
    ("error: invalid argument: --kv-magic", "BadConfiguration", "--kv-magic"),
    ("vllm: error: unrecognized arguments: --max-magic 3", "BadConfiguration", "--max-magic"),
    ("llama_model_load: error loading model: unknown model architecture: 'qwen9'", "NotAModel", "qwen9"),
    ("Model architectures ['Qwen9ForCausalLM'] are not supported for now.", "NotAModel", "Qwen9ForCausalLM"),
    ("terminate called after throwing an instance of 'std::bad_alloc'", "OutOfMemory", "limits"),
    ("OSError: [Errno 28] No space left on device: '/dev/shm/nccl-x'", "DiskFull", "/dev/shm"),
    ("RuntimeError: Engine core initialization failed. See root cause above.", "CrashLoop", "--previous"),
    ("EngineCore failed to start.\nException: WorkerProc initialization failed due to an exception", "CrashLoop",
     "--previous"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "reason", "word"), LINES)
def test_known_line_is_a_cause_and_what_to_do(line: str, reason: str, word: str) -> None:
    known = read(f"INFO something before\n{line}\nTraceback and so on")
    assert known is not None
    assert known.reason.value == reason
    assert word in known.sentence


def test_each_form_is_shown_by_a_line() -> None:
    texts = [" ".join(line.split()) for line, _, _ in LINES]
    for form in FORMS:
        assert any(form.pattern.search(t) for t in texts), form.pattern.pattern


def test_the_cause_goes_before_its_consequence() -> None:
    tail = "torch.OutOfMemoryError: CUDA out of memory.\nRuntimeError: Engine core initialization failed."
    known = read(tail)
    assert known is not None
    assert known.reason.value == "GpuOutOfMemory"


def test_vllm_leaves_the_trace_of_its_engine_where_the_kubelet_looks(tmp_path: Path) -> None:
    """The very configuration that a pod gets, taken by Python's own logging; the trace is as vLLM 0.32.0 leaves it."""
    spec = backend({"engine": "VLLM", "models": [{"name": "m", "source": "hf://org/repo"}]}).spec
    template = pod_template(DRIVERS[spec.engine], spec, {}, "image", None, Worker("image", "Always"))
    (text,) = template["metadata"]["annotations"].values()
    (volume,) = [v for v in template["spec"]["volumes"] if "downwardAPI" in v]
    (item,) = volume["downwardAPI"]["items"]
    (container,) = template["spec"]["containers"]
    (at,) = [m["mountPath"] for m in container["volumeMounts"] if m["name"] == volume["name"]]
    (named,) = [e["value"] for e in container["env"] if e["name"] == "VLLM_LOGGING_CONFIG_PATH"]
    assert named == f"{at}/{item['path']}"
    left = tmp_path / "termination-log"
    config = json.loads(text.replace("/dev/termination-log", str(left)))
    logging.config.dictConfig(config)
    try:
        log = logging.getLogger("vllm.engine")
        log.info("secret=x")
        assert not left.exists()
        try:
            raise ValueError(" ".join(VLLM_CACHE.split()))
        except ValueError:
            log.exception("EngineCore failed to start.")
    finally:
        for handler in logging.getLogger("vllm").handlers[:]:
            handler.close()
            logging.getLogger("vllm").removeHandler(handler)
    known = read(left.read_text()[-4096:])
    assert known is not None
    assert known.reason.value == "ContextTooLong"


def test_who_says_how_vllm_logs_is_obeyed() -> None:
    env = [{"name": "VLLM_LOGGING_LEVEL", "value": "DEBUG"}]
    spec = backend({"engine": "VLLM", "models": [{"name": "m", "source": "hf://org/repo"}], "env": env}).spec
    template = pod_template(DRIVERS[spec.engine], spec, {}, "image", None, Worker("image", "Always"))
    assert "annotations" not in template["metadata"]
    assert not [e for e in template["spec"]["containers"][0]["env"] if e["name"] == "VLLM_LOGGING_CONFIG_PATH"]


def test_what_is_unknown_is_not_shown() -> None:
    assert read("password=hunter2\nsomething else went wrong") is None
    assert read("") is None
