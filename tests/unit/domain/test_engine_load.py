"""What the pages of figures say that engines serve. The pages are cut from those of vLLM 0.32 and llama.cpp."""

from __future__ import annotations

from pointsman.api.engine import Engine
from pointsman.domain.engine_load import EngineLoad, read_load, tells

VLLM = b"""\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="tiny"} 3.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="tiny"} 2.0
# HELP vllm:num_requests_waiting_by_reason More of the same.
vllm:num_requests_waiting_by_reason{engine="0",model_name="tiny",reason="capacity"} 9.0
# HELP vllm:kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="tiny"} 0.25
"""
SECOND = b"""\
vllm:num_requests_running{engine="1",model_name="a} b"} 1.0
vllm:num_requests_waiting{engine="1",model_name="a} b"} 0.0
vllm:kv_cache_usage_perc{engine="1",model_name="a} b"} 0.75
"""
LLAMA_CPP = b"""\
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 1
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred 4"""


def test_both_engines_tell() -> None:
    assert read_load(Engine.VLLM, VLLM) == EngineLoad(3, 2, 0.25)
    assert read_load(Engine.LLAMA_CPP, LLAMA_CPP) == EngineLoad(1, 4)
    assert [e for e in Engine if tells(e)] == [Engine.VLLM, Engine.LLAMA_CPP]


def test_the_workers_of_one_engine_are_added_up_and_the_fullest_cache_counts() -> None:
    assert read_load(Engine.VLLM, VLLM + SECOND) == EngineLoad(4, 2, 0.75)


def test_the_older_name_of_the_cache_is_known() -> None:
    older = VLLM.replace(b"vllm:kv_cache", b"vllm:gpu_cache")
    assert read_load(Engine.VLLM, older) == EngineLoad(3, 2, 0.25)


def test_what_is_no_such_page_says_nothing() -> None:
    half = VLLM[: VLLM.index(b"# HELP vllm:num_requests_waiting ")]
    for page in (b"", b"<html>", half, VLLM.replace(b" 2.0", b" NaN"), VLLM.replace(b" 2.0", b" -1"), LLAMA_CPP):
        assert read_load(Engine.VLLM, page) is None
