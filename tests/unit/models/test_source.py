"""How a source is read, and the names that follow from it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.api.sources.error import SourceError
from pointsman.api.sources.ollama import OllamaSource, parse_ollama, served_name, served_path_parts
from pointsman.models.errors import PullError, PullReason
from pointsman.models.reference import read_pin, read_source

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("source", "parts", "short"),
    [
        ("ollama://llama3.2:3b", ("registry.ollama.ai", "library", "llama3.2", "3b"), "llama3.2:3b"),
        ("ollama://llama3.2", ("registry.ollama.ai", "library", "llama3.2", "latest"), "llama3.2:latest"),
        ("ollama://me/mine:1", ("registry.ollama.ai", "me", "mine", "1"), "me/mine:1"),
        (
            "ollama://hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M",
            ("hf.co", "bartowski", "Llama-3.2-3B-Instruct-GGUF", "Q4_K_M"),
            "hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M",
        ),
        ("ollama://reg:5000/tiny", ("reg:5000", "library", "tiny", "latest"), "reg:5000/library/tiny:latest"),
        ("ollama://reg.example/tiny:2", ("reg.example", "library", "tiny", "2"), "reg.example/library/tiny:2"),
        ("ollama://localhost/tiny", ("localhost", "library", "tiny", "latest"), "localhost/library/tiny:latest"),
        ("ollama://REG.Example/a/B:C", ("reg.example", "a", "B", "C"), "reg.example/a/B:C"),
    ],
)
def test_each_form_of_a_source_is_read(source: str, parts: tuple[str, str, str, str], short: str) -> None:
    parsed = parse_ollama(source)
    assert parsed.path_parts == parts
    assert parsed.short_name == short
    assert parsed.base_url == f"https://{parts[0]}"


def test_plain_http_is_spoken_only_when_asked_for() -> None:
    assert parse_ollama("ollama+http://reg:5000/tiny").base_url == "http://reg:5000"
    assert read_source("ollama://localhost:5000/tiny").base_url == "https://localhost:5000"
    assert read_source("ollama://reg:5000/tiny", insecure=True).base_url == "http://reg:5000"


@pytest.mark.parametrize(
    "source",
    [
        "",
        "llama3.2",
        "ftp://org/model",
        "ollama://",
        "ollama://a//b",
        "ollama://a/b/c/d",
        "ollama://../../etc/passwd",
        "ollama://a.b/..:latest",
        "ollama://name:",
        "ollama://name:ta/g",
        "ollama://na me",
        "ollama://host:99999/name",
        "ollama://host:port/name",
        "ollama://name?x=1",
        "ollama://" + "n" * 81,
    ],
)
def test_a_bad_source_is_one_sentence(source: str) -> None:
    with pytest.raises(PullError) as caught:
        read_source(source)
    assert caught.value.reason is PullReason.BAD_REFERENCE
    assert caught.value.message.count("\n") == 0
    assert caught.value.message.endswith(".")


@pytest.mark.parametrize(
    "source", ["ollama://user:hunter2@reg/ns/name", "ollama://hunter2@reg/name:tag", "ollama://u:hunter2@x"]
)
def test_credentials_in_a_source_are_refused_and_not_repeated(source: str) -> None:
    with pytest.raises(PullError) as caught:
        read_source(source)
    assert "hunter2" not in caught.value.message
    assert "holds no credentials" in caught.value.message


def test_a_digest_in_a_source_is_sent_to_its_field() -> None:
    with pytest.raises(SourceError, match="field `digest`"):
        parse_ollama(f"ollama://name@{DIGEST}")


@pytest.mark.parametrize("digest", ["sha256:abc", "latest", DIGEST.upper(), "sha512:" + "0" * 64])
def test_a_bad_pin_is_refused(digest: str) -> None:
    with pytest.raises(PullError) as caught:
        read_pin(digest)
    assert caught.value.reason is PullReason.BAD_REFERENCE


def test_no_pin_is_no_pin() -> None:
    assert read_pin(None) is None
    assert read_pin("") is None
    assert read_pin(DIGEST) == DIGEST


def test_the_served_name_follows_from_the_digest_alone() -> None:
    one = parse_ollama("ollama://llama3.2:3b")
    other = parse_ollama("ollama://llama3.2:latest")
    assert served_name(one, DIGEST) == served_name(other, DIGEST) == "pointsman/llama3.2:sha256-" + DIGEST[7:]


def test_the_served_name_is_itself_a_name_that_can_be_read() -> None:
    source = parse_ollama("ollama://hf.co/org/" + "m" * 80)
    again = parse_ollama("ollama://" + served_name(source, DIGEST))
    assert again.path_parts == served_path_parts(source, DIGEST)
    assert again.short_name == served_name(source, DIGEST)


def test_no_served_name_without_a_digest() -> None:
    with pytest.raises(ValueError, match="64 hex"):
        served_name(parse_ollama("ollama://a"), "sha256:../..")


_part = st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_-]{0,20}\Z")
_host = st.from_regex(r"\A[a-z0-9]{1,10}\.[a-z]{2,5}(:[1-9][0-9]{0,3})?\Z")


@given(_host, _part, _part, _part, st.booleans())
def test_what_is_written_is_what_is_read(host: str, namespace: str, name: str, tag: str, plain: bool) -> None:
    source = OllamaSource(host, namespace, name, tag, plain)
    assert parse_ollama(str(source)) == source


@given(st.text(max_size=60))
def test_no_text_escapes_the_store(text: str) -> None:
    try:
        parts = parse_ollama("ollama://" + text).path_parts
    except SourceError:
        return
    assert all(part not in ("", ".", "..") and "/" not in part and part[0] != "." for part in parts)
