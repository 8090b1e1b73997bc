"""Writes `corpus/` anew: `python -m tests.fuzz.make_corpus`. The cases are kept as files because a byte matters."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "corpus"
POST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n"
GET = b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n"
TE = POST + b"transfer-encoding: chunked\r\n\r\n"
REQUESTS = {
    "ok1-length": POST + b"content-length: 5\r\n\r\nhello",
    "ok1-chunked": TE + b"5\r\nhello\r\n0\r\n\r\n",
    "ok1-chunk-extension": TE + b"5;a=b\r\nhello\r\n0\r\n\r\n",
    "ok1-chunk-sizes-with-zeros": TE + b"0005\r\nhello\r\n000\r\n\r\n",
    "ok1-trailers": TE + b"5\r\nhello\r\n0\r\nx-a: b\r\n\r\n",
    "ok2-pipelined": POST + b"content-length: 5\r\n\r\nhello" + GET,
    "ok3-pipelined": GET * 3,
    "ok2-upgrade-with-body": POST + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 5\r\n\r\nhello" + GET,
    "ok1-connection-close-hides-the-next": POST + b"connection: close\r\ncontent-length: 5\r\n\r\nhello" + GET,
    "ok0-half-a-head": POST + b"content-le",
    "ok0-half-a-body": POST + b"content-length: 50\r\n\r\nhello",
    "400-cl-and-te": POST + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + GET,
    "400-te-and-cl": POST + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n" + GET,
    "400-two-lengths": POST + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello" + GET,
    "400-two-equal-lengths": POST + b"content-length: 5\r\ncontent-length: 5\r\n\r\nhello",
    "400-length-list": POST + b"content-length: 5, 5\r\n\r\nhello",
    "400-length-signed": POST + b"content-length: +5\r\n\r\nhello",
    "400-length-negative": POST + b"content-length: -5\r\n\r\nhello",
    "400-length-hexadecimal": POST + b"content-length: 0x5\r\n\r\nhello",
    "400-length-too-large-for-any-integer": POST + b"content-length: 99999999999999999999999\r\n\r\nhello",
    "413-length-above-the-limit": POST + b"content-length: 999999999999\r\n\r\nhello",
    "400-te-twice": POST + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "400-te-gzip-chunked": POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "400-te-chunked-identity": POST + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "400-te-identity": POST + b"transfer-encoding: identity\r\n\r\n",
    "400-te-with-a-vertical-tab": POST + b"transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "400-te-misspelt": POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "400-space-before-colon": POST + b"content-length : 5\r\n\r\nhello",
    "400-te-space-before-colon": POST + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    "400-obs-fold": POST + b"x-a: b\r\n c\r\n\r\n",
    "400-obs-fold-of-te": POST + b"transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "400-bare-cr-in-a-value": POST + b"x-a: b\rc: d\r\n\r\n",
    "400-nul-in-a-value": POST + b"x-a: \x00\r\n\r\n",
    "400-nul-in-a-name": POST + b"x\x00a: b\r\n\r\n",
    "400-no-name": POST + b": b\r\n\r\n",
    "400-no-host": b"GET /v1/models HTTP/1.1\r\n\r\n",
    "400-two-hosts": b"GET /v1/models HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    "400-chunk-size-signed": TE + b"+5\r\nhello\r\n0\r\n\r\n",
    "400-chunk-size-prefixed": TE + b"0x5\r\nhello\r\n0\r\n\r\n",
    "400-chunk-size-empty": TE + b"\r\nhello\r\n0\r\n\r\n",
    "400-chunk-size-overflows": TE + b"fffffffffffffffff5\r\nhello\r\n0\r\n\r\n",
    "400-chunk-without-its-end": TE + b"5\r\nhelloXX0\r\n\r\n",
    "400-chunk-ends-with-lf": TE + b"5\r\nhello\n0\r\n\r\n",
    "400-chunk-size-ends-with-cr": TE + b"5\rXhello\r\n0\r\n\r\n",
    "400-http-2-preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "400-version-unknown": b"GET /v1/models HTTP/3.1\r\nhost: a\r\n\r\n",
    "400-tls-hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "1-400-rubbish-behind": GET + b"\x00\x01rubbish\r\n\r\n",
    "417-unknown-expectation": POST + b"expect: tea\r\ncontent-length: 5\r\n\r\nhello",
}
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
ANSWERS = {
    "again-length": OK + b"content-length: 2\r\n\r\n{}",
    "again-chunked": CHUNKED + b"2\r\n{}\r\n0\r\n\r\n",
    "again-chunk-extension": CHUNKED + b"2;a=b\r\n{}\r\n0\r\n\r\n",
    "again-trailers": CHUNKED + b"2\r\n{}\r\n0\r\nx: y\r\n\r\n",
    "again-interim-first": b"HTTP/1.1 103 Hints\r\nlink: x\r\n\r\n" + OK + b"content-length: 2\r\n\r\n{}",
    "again-continue-twice": b"HTTP/1.1 100 C\r\n\r\n" * 2 + OK + b"content-length: 2\r\n\r\n{}",
    "again-no-content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "once-connection-close": OK + b"connection: close\r\ncontent-length: 2\r\n\r\n{}",
    "once-http-1-0": b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    "once-another-answer-behind": (OK + b"content-length: 2\r\n\r\n{}") * 2,
    "once-rubbish-behind": OK + b"content-length: 2\r\n\r\n{}\x00\x01",
    "end-no-length": OK + b"\r\n{}",
    "end-http-1-0-no-length": b"HTTP/1.0 200 OK\r\n\r\n{}",
    "part-length": OK + b"content-length: 9\r\n\r\n{}",
    "part-chunk": CHUNKED + b"9\r\n{}",
    "part-chunks": CHUNKED + b"2\r\n{}\r\n",
    "part-head": OK + b"content-le",
    "part-interim-only": b"HTTP/1.1 100 C\r\n\r\n",
    "broken-length-and-chunked": OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "broken-two-lengths": OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}x",
    "broken-length-negative": OK + b"content-length: -2\r\n\r\n{}",
    "broken-chunk-size": CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n",
    "broken-chunk-size-prefixed": CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n",
    "broken-chunk-end": CHUNKED + b"2\r\n{}XX0\r\n\r\n",
    "broken-no-http": b"SSH-2.0-OpenSSH_9.7\r\n\r\n",
    "broken-upgrade": b"HTTP/1.1 101 X\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
    "broken-obs-fold": OK + b"x: y\r\n z\r\ncontent-length: 2\r\n\r\n{}",
    "broken-interim-for-ever": b"HTTP/1.1 100 C\r\n\r\n" * 20,
}


def main() -> None:
    for kind, cases in (("requests", REQUESTS), ("answers", ANSWERS)):
        for name, data in cases.items():
            (FOLDER / kind / f"{name}.http").write_bytes(data)


if __name__ == "__main__":
    main()
