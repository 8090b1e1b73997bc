"""Which fault of the specification is injected where: the rows of docs/fault-coverage.md, as data.

Decided here: nothing but the table. `test_coverage.py` holds that everything named here exists; the page is written by
`make generate`.
"""

from __future__ import annotations

from dataclasses import dataclass

DATAPATH = "tests/gateway/datapath/"


@dataclass(frozen=True)
class Row:
    """`kit` are scenarios of `pointsman conform` by the start of their names, `random` faults of `tests/faults`,
    `tests` are `file::test`."""

    fault: str
    kit: tuple[str, ...] = ()
    random: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()


def row(fault: str, kit: str = "", random: str = "", tests: str = "") -> Row:
    """Names are separated by ` | `."""
    split = [tuple(part.strip() for part in text.split(" | ") if part.strip()) for text in (kit, random, tests)]
    return Row(fault, *split)


ROWS: tuple[Row, ...] = (
    row("refuse", "refused", tests="attempts::test_all_down"),
    row("accept and never answer", "accepts and is silent", "silence"),
    row("reset before headers", "reset before headers | closed before headers",
        "reset before headers | closed before headers"),
    row("reset mid-headers", "reset mid-headers", "reset mid-headers"),
    row("headers then silence", "headers, then silence", "headers, then silence"),
    row("one role-only frame then silence", "role, then silence", "role, then silence"),
    row("comments for ever", "comments for ever | comments mid-answer",
        "comments for ever | comments mid-answer for ever"),
    row("error event first", "error event first", "error event first"),
    row("error event after a role frame", "error event after the role", "error event after the role"),
    row("error event after content", "error event after content", "error event after content"),
    row("cut before content", "cut before content | reset before content", "cut before content | reset before content"),
    row("cut mid-content", "cut mid-content | reset mid-content", "cut mid-content | reset mid-content"),
    row("cut inside a multi-byte character", "cut within",
        "cut within the first character | cut within a character"),
    row("clean end with zero content", "clean end, no content | ends without a frame | [DONE], nothing else",
        "clean end, no content | ends without a frame | [DONE], nothing else"),
    row("clean end mid-answer", "clean end mid-answer | [DONE] mid-answer",
        "clean end mid-answer | [DONE] mid-answer"),
    row("malformed chunk", "malformed chunk", "malformed chunk | malformed chunk in JSON"),
    row("malformed frame", "malformed frame", "malformed frame first | malformed frame mid-answer"),
    row("malformed JSON", "malformed JSON", "malformed JSON"),
    row("truncated JSON", "truncated JSON | cut within a JSON answer", "truncated JSON | cut in JSON"),
    row("HTML 200 / 500 / 502", "HTML | 500 in HTML | 502 in HTML",
        "HTML under 200 | HTML called JSON | 500 in HTML | 502 in HTML | 400 in HTML"),
    row("3xx", "302", "302"),
    row("429 with and without `Retry-After` (seconds and date)", "429", "429 | 429, Retry-After 1 |"
        " 429, Retry-After a date", "faults::test_retry_after_as_a_date"),
    row("503 loading", "503, loading", "503, loading"),
    row("503 queue full", "503, queue full", "503, queue full"),
    row("401", "401", "401", "attempts::test_denied_backend_rests_until_its_secret_changes"),
    row("402", "402 | 429, quota used up", "402 | 429, quota used up"),
    row("403", "403", "403", "attempts::test_forbidden_needs_three_requests"),
    row("404 model", "404, no such model", "404, no such model",
        "attempts::test_missing_model_rests_for_that_model_only"),
    row("404 path", "404, no such path", "404, no such path"),
    row("400 model", "400, no such model", "400, no such model"),
    row("400 caller", "400, of the caller", "400, of the caller"),
    row("400 context overflow", "400, context overflow", "400, context overflow"),
    row("413", "413", "413"),
    row("422", "422", "422, of the caller"),
    row("529", "529", "529"),
    row("slow first token", "slow first token | slow answer", "slow first token"),
    row("slow after role", "slow after the role", "slow after the role"),
    row("slow tokens", "slow between tokens", "slow between tokens"),
    row("stalled stream", "silence mid-answer", "silence mid-answer"),
    row("DNS fails", tests="wire::test_dns_failure_costs_no_attempt |"
        " wire::test_stale_dns_answer_serves_when_the_resolver_is_gone |"
        " names::test_all_addresses_dead_is_one_failure"),
    row("TLS untrusted/expired", tests="wire::test_tls_is_verified |"
        " trust::test_each_refusal_has_one_sentence_in_probe_and_health"),
    row("wrong content-length", "content-length longer | content-length shorter",
        "content-length too long | content-length too short"),
    row("chunked + content-length", "chunked, and a content-length", "chunked and content-length"),
    row("100-continue", "client expects 100 Continue", tests="clients::test_expect_100_continue"),
    row("1xx", "103 before the answer", "100 before the answer | 103 before the answer"),
    row("connection closed on a pooled connection exactly as it is reused", "connection closed as it is reused",
        "closes behind the answer | closed before headers",
        "wire::test_stale_pooled_connection_is_dialled_once_more"),
    row("answer before the body was sent", random="answers before the body was sent",
        tests="wire::test_answer_before_the_body_was_sent"),
    row("bytes while idle", "bytes behind the answer | 408 on an idle connection",
        "bytes while idle | bytes behind the answer"),
    row("upstream HTTP/1.0", "HTTP/1.0, ends by closing", "HTTP/1.0, ends by closing"),
    row("compressed body", "gzip, unasked", "gzip, unasked | unknown encoding"),
    row("huge or endless header", "huge header | endless header", "huge header | endless header"),
    row("endless body", "endless body | quiet events for ever", "endless error | endless JSON |"
        " quiet frames for ever"),
    row("flapping", "flapping", tests="attempts::test_flapping_backend_never_loses_a_request"),
    row("all down", "all down", tests="attempts::test_all_down"),
    row("all busy", "all busy"),
    row("all denied", "all denied"),
    row("all empty", "all empty", tests="attempts::test_when_all_are_empty_the_model_may_mean_it"),
    row("first busy then recovers", "first busy, then free",
        tests="attempts::test_busy_backend_is_not_ejected_and_recovers"),
    row("a poison request", "poison request", tests="attempts::test_poison_request_ejects_nobody"),
    row("three dead pods of one backend", tests="attempts::test_three_dead_pods_of_one_backend"),
    row("fallback itself fails in each of these ways", "all | the fallback breaks off"),
    row("client disconnects at each stage", "client leaves", tests="clients::test_client_leaves_before_headers |"
        " clients::test_client_leaves_before_content | clients::test_client_leaves_in_the_middle |"
        " clients::test_client_leaves_while_dialing"),
    row("body above the replay limit", "a body of 40 MB",
        tests="replay::test_beyond_the_limit_there_is_one_attempt_and_the_answer_says_so"),
    row("a reload in the middle", tests="attempts::test_reload_in_the_middle |"
        " tests/gateway/test_reload.py::test_reloads_under_load_fail_no_request"),
)  # fmt: skip
EVERYWHERE = ("all down", "all busy", "all denied", "all empty", "flapping", "a poison request", "refuse", "DNS fails",
              "fallback itself fails in each of these ways", "client disconnects at each stage",
              "first busy then recovers", "a reload in the middle")  # fmt: skip
"""Of the random run as a whole: several requests and backends together."""


def place(test: str) -> tuple[str, str]:
    """File and name of a test; short names are of the data path."""
    file, _, name = test.partition("::")
    return (file if file.endswith(".py") else f"{DATAPATH}test_{file}.py"), name


def page() -> str:
    """The page, as Markdown."""
    out = [
        "# Where each fault is injected\n\n"
        "<!-- Generated by `make generate` from tests/conform/coverage.py. Do not edit. -->\n\n"
        "Every fault that must be survived as the [rules of failover](failover.md) say, and who injects it, over real\n"
        "sockets: a scenario of [`pointsman conform`](conformance.md), the [random run](failover-run.md), or a test of"
        " its own.\n\n"
        "| fault | `pointsman conform` | random run | tests |\n| --- | --- | --- | --- |\n"
    ]
    for r in ROWS:
        random = ", ".join(r.random) + (", " if r.random and r.fault in EVERYWHERE else "")
        random += "throughout" if r.fault in EVERYWHERE else ""
        tests = ", ".join(f"`{place(t)[1]}`" for t in r.tests)
        out.append(f"| {r.fault} | {', '.join(k + ' …' if k == 'all' else k for k in r.kit)} | {random} | {tests} |\n")
    return "".join(out)
