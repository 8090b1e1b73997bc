"""What an engine said before it ended → why, and what to do about it. Pure.

A container that ends with an error and no termination message leaves the end of its log in its status (2,048 bytes or
80 lines: `terminationMessagePolicy: FallbackToLogsOnError`). Decided here: which of those lines is known, in this
order. The lines themselves are shown to nobody: a log may hold what is secret. Only figures of a known line are.

The forms are those of vLLM (PyTorch), llama.cpp (ggml) and Ollama, as they stand in their sources and their issues.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from pointsman.api.conditions import Reason


@dataclass(frozen=True)
class Known:
    """Why an engine ended."""

    reason: Reason
    sentence: str


@dataclass(frozen=True)
class _Form:
    pattern: re.Pattern[str]
    reason: Reason
    say: Callable[[re.Match[str]], str]


def _form(pattern: str, reason: Reason, say: str | Callable[[re.Match[str]], str]) -> _Form:
    return _Form(re.compile(pattern, re.IGNORECASE), reason, say if callable(say) else lambda _: say)


MEND = (
    "Where the source is right, the volume is damaged: the annotation pointsman.dev/reconcile-at with any new value has"
    " it verified and mended"
)
_SMALLER = "choose a smaller model or quantisation, a shorter context, or more GPUs or GPUs with more memory"

FORMS: tuple[_Form, ...] = (
    _form(
        r"max seq len \((?P<asked>\d+)\),? \(?(?P<need>[\d.]+ GiB) KV\s+cache is needed, which is larger than the"
        r" available KV cache memory \((?P<has>[\d.]+ GiB)\)(?:.*?estimated maximum model length is (?P<most>\d+))?",
        Reason.CONTEXT_TOO_LONG,
        lambda m: (
            f"there are {m['has']} for the KV cache, and a context of {m['asked']} tokens needs {m['need']}: ask for"
            f" {'at most ' + m['most'] + ' tokens' if m['most'] else 'a shorter context'}, or for more memory"
        ),
    ),
    _form(
        r"max seq len \((?P<asked>\d+)\) is larger than the maximum number of tokens that can be stored in KV cache"
        r" \((?P<most>\d+)\)",
        Reason.CONTEXT_TOO_LONG,
        lambda m: (
            f"there is memory for {m['most']} tokens beside the model, and a context of {m['asked']} is asked for:"
            f" ask for at most {m['most']} tokens, or for more memory"
        ),
    ),
    _form(
        r"No available memory for the cache blocks",
        Reason.GPU_OUT_OF_MEMORY,
        f"the model fills the GPU's memory and leaves none for its KV cache: {_SMALLER}",
    ),
    _form(
        r"Free memory on device.*?\((?P<free>[\d.]+)/(?P<all>[\d.]+) GiB\) on startup is less than desired",
        Reason.GPU_OUT_OF_MEMORY,
        lambda m: (
            f"only {m['free']} of the GPU's {m['all']} GiB are free: another process uses it (a shared or time-sliced"
            " GPU?): free it, or let the engine take a smaller part"
        ),
    ),
    _form(
        r"allocating (?P<mib>[\d.]+) MiB on device \d+: \w*Malloc failed: out of memory",
        Reason.GPU_OUT_OF_MEMORY,
        lambda m: f"the GPU has no room for the {float(m['mib']) / 1024:.1f} GiB that the model needs: {_SMALLER}",
    ),
    _form(
        r"(CUDA|HIP|XPU)( error:)? out of memory|torch\.OutOfMemoryError|cudaErrorMemoryAllocation"
        r"|unable to allocate (CUDA|ROCm|SYCL|Vulkan)\d* buffer|CUDA_ERROR_OUT_OF_MEMORY",
        Reason.GPU_OUT_OF_MEMORY,
        f"the GPU's memory is too small for the model: {_SMALLER}",
    ),
    _form(
        r"no kernel image is available for execution",
        Reason.GPU_UNSUPPORTED,
        "the engine's image has no code for this GPU's generation: choose an image that supports it, or another GPU",
    ),
    _form(
        r"(?P<what>Bfloat16|fp8\w*|\w+ quantization|quantization method \S+) is (only|not) supported"
        r".*?compute capability",
        Reason.GPU_UNSUPPORTED,
        lambda m: (
            f"this GPU is too old for {m['what']}: choose another dtype (float16) or quantisation, or a newer GPU"
        ),
    ),
    _form(
        r"NVIDIA driver on your system is too old|driver version is insufficient for CUDA runtime"
        r"|unsatisfied condition: cuda\s*>=|forward compatibility was attempted on non supported HW",
        Reason.GPU_DRIVER,
        "the node's NVIDIA driver is too old for the engine's image: upgrade the driver, or choose an image that is"
        " built for an older CUDA",
    ),
    _form(
        r"Found no NVIDIA driver|no CUDA-capable device is detected|libcuda\.so\.1: cannot open shared object"
        r"|No CUDA GPUs are available|No HIP GPUs are available|Failed to infer device type",
        Reason.GPU_DRIVER,
        "the engine sees no GPU: set spec.gpu; if it is set, the node's driver or container runtime does not hand the"
        " GPU to the pod (does it need spec.runtimeClassName: nvidia?), or the image is for another vendor's",
    ),
    _form(
        r"World size \((?P<want>\d+)\) is larger than the number of available GPUs \((?P<has>\d+)\)",
        Reason.BAD_CONFIGURATION,
        lambda m: f"the engine is told to use {m['want']} GPUs and has {m['has']}: set spec.gpu.count to {m['want']}",
    ),
    _form(
        r"attention heads \((?P<heads>\d+)\) must be divisible by tensor parallel size \((?P<size>\d+)\)",
        Reason.BAD_CONFIGURATION,
        lambda m: (
            f"the model's {m['heads']} attention heads cannot be divided among {m['size']} GPUs: choose a"
            " spec.gpu.count that divides them"
        ),
    ),
    _form(
        r"error: (?:unrecognized arguments?|invalid argument): (?P<what>-[\w-]{1,64})",
        Reason.BAD_CONFIGURATION,
        lambda m: f"the engine's image does not know the option {m['what']}: choose an image of another version",
    ),
    _form(
        r"unknown model architecture: '(?P<arch>[\w.-]{1,64})'"
        r"|architectures \['(?P<archs>[\w.-]{1,64})'\] are not supported",
        Reason.NOT_A_MODEL,
        lambda m: (
            f"the engine's image does not know models of architecture {m['arch'] or m['archs']}: choose a newer image,"
            " or another engine"
        ),
    ),
    _form(
        r"std::bad_alloc|Cannot allocate memory|DefaultCPUAllocator: can't allocate memory"
        r"|unable to allocate CPU buffer|failed to allocate CPU buffer",
        Reason.OUT_OF_MEMORY,
        "the engine found too little memory: raise spec.resources.limits, or choose a smaller model",
    ),
    _form(
        r"model is corrupted or incomplete|is not within the file bounds|invalid magic characters"
        r"|failed to load model from \S+\.gguf|Error while deserializing header|file not fully covered",
        Reason.NOT_A_MODEL,
        f"a file of the model is damaged or cut off. {MEND}",
    ),
    _form(
        r"No space left on device",
        Reason.DISK_FULL,
        "the engine found no space to write: is /dev/shm, the node's disk or the volume full?",
    ),
    _form(
        r"Engine core initialization failed|EngineCore failed to start|WorkerProc (initialization )?failed",
        Reason.CRASH_LOOP,
        "vLLM could not start its engine; the cause stands in its log: kubectl logs --previous shows it",
    ),
)


def read(tail: str) -> Known | None:
    """`tail`: the end of a container's log. None when none of it is known."""
    text = " ".join(tail.split())
    for form in FORMS:
        if (match := form.pattern.search(text)) is not None:
            return Known(form.reason, form.say(match))
    return None
