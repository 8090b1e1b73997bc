"""Every row of the table of answers, and answers as engines really gave them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.domain.failure import FAULTS, FREE, RETRYABLE
from pointsman.domain.judging import judge_said, judge_status, retry_after_seconds, said_in
from pointsman.domain.recognised import ROWS, Row
from pointsman.domain.verdict import Judgement, Verdict, Why
from pointsman.domain.verdict_table import verdict_table


@pytest.mark.parametrize("row", ROWS, ids=lambda r: f"{r.why.value}-{r.example[0]}")
def test_each_row_decides_its_own_example(row: Row) -> None:
    status, body = row.example
    kind = "text/html" if body.startswith("<") else "application/json"
    judged = judge_status(status, body.encode(), kind, None)
    assert (judged.verdict, judged.why, judged.sentence) == (row.verdict, row.why, row.sentence)


_M, _U, _C, _F = Verdict.MODEL_MISSING, Verdict.UNFIT, Verdict.CALLER, Verdict.FAILURE
REAL = [
    (404, '{"error":{"message":"model \\"nope\\" not found, try pulling it first","type":"api_error"}}', _M),
    (404, '{"object":"error","message":"The model `x` does not exist.","type":"NotFoundError","code":404}', _M),
    (404, '{"error":{"message":"The model `gpt-9` does not exist or you","code":"model_not_found"}}', _M),
    (404, '{"error":"model \\"x\\" not found"}', _M),
    (404, '{"detail":"Not Found"}', _U),
    (404, "404 page not found", _U),
    (400, '{"error":{"message":"\\"tiny:latest\\" does not support chat"}}', _U),
    (400, '{"error":{"message":"registry.ollama.ai/library/gemma:2b does not support tools"}}', _U),
    (400, '{"error":{"message":"request (300 tokens) exceeds the available context size (256 tokens)"}}', _U),
    (400, '{"error":{"message":"300 > 256","type":"exceed_context_size_error"}}', _U),
    (400, '{"error":{"message":"This model has a maximum context length of 4097 tokens"}}', _U),
    (400, '{"error":{"message":"x","code":"context_length_exceeded"}}', _U),
    (400, '{"error":{"message":"messages: at least one message is required"}}', _C),
    (400, '{"error":{"message":"rejected by our safety system","code":"content_policy_violation"}}', _C),
    (422, '{"detail":[{"loc":["body","n"],"msg":"value is not a valid integer"}]}', _C),
    (503, '{"error":"server busy, please try again.  maximum pending requests exceeded"}', Verdict.BUSY),
    (503, '{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}', Verdict.LOADING),
    (503, "upstream connect error or disconnect/reset before headers", _F),
    (500, '{"error":{"message":"llama runner process has terminated: exit status 2"}}', _F),
    (529, '{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', Verdict.BUSY),
    (521, "", _F),
    (418, "", _C),
    (399, "", _F),
    (999, "", _F),
]


@pytest.mark.parametrize(("status", "body", "verdict"), REAL)
def test_answers_of_real_engines(status: int, body: str, verdict: Verdict) -> None:
    assert judge_status(status, body.encode(), "application/json", None).verdict is verdict


def test_prompt_in_an_error_is_no_phrase_of_ours() -> None:
    body = b'{"error":{"message":"bad value for n"},"input":"what is the maximum context length?"}'
    assert judge_status(400, body, "application/json", None).verdict is Verdict.CALLER


def test_field_that_we_added() -> None:
    body = b'{"error":{"message":"Unknown field stream_options"}}'
    assert judge_status(400, body, "", None, ("stream_options",)).why is Why.ADDED_FIELD
    assert judge_status(400, body, "", None, ()).why is Why.BAD_REQUEST


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ('{"error":{"message":"boom"}}', Verdict.FAILURE),
        ('{"error":{"message":"x","type":"overloaded_error"}}', Verdict.BUSY),
        ('{"error":{"message":"slow down","code":429}}', Verdict.BUSY),
        ('{"error":{"message":"prompt is too long","code":400}}', Verdict.UNFIT),
        ('{"error":"just text"}', Verdict.FAILURE),
        ('{"error":{"message":"x","code":true}}', Verdict.FAILURE),
    ],
)
def test_errors_within_a_good_answer(body: str, verdict: Verdict) -> None:
    assert judge_said(said_in(body.encode())).verdict is verdict


@given(st.integers(200, 999), st.binary(max_size=300), st.text(max_size=20))
def test_any_answer_gets_a_verdict(status: int, body: bytes, kind: str) -> None:
    assert isinstance(judge_status(status, body, kind, None), Judgement)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0), ("1.5", 1.5), (" 3 ", 3.0), ("Thu, 01 Jan 1970 00:02:00 GMT", 20.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("soon", None), ("", None), ("-5", None), ("1" * 400, 86400.0),
    ],
)  # fmt: skip
def test_retry_after(value: str, seconds: float | None) -> None:
    assert retry_after_seconds(value, 100.0) == seconds


def test_table_for_the_docs_has_every_reason() -> None:
    rows = verdict_table()
    told = {r.why for r in rows}
    silent = {Why.ANSWERED, Why.ERROR_EVENT, Why.BROKEN_JSON, Why.ADDED_FIELD}
    assert told | silent == set(Why)
    assert all(r.seen for r in rows)
    assert [r.verdict for r in rows] == sorted((r.verdict for r in rows), key=list(Verdict).index)


def test_free_and_retryable_do_not_overlap() -> None:
    assert not FREE & RETRYABLE
    assert set(FAULTS) >= FREE
