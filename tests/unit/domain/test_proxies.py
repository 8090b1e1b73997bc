"""Which proxy leads to a host: the environment's variables and the exceptions to them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.domain.proxies import Proxy, read_proxies

P = "http://proxy.example:3128"


def reached(environ: dict[str, str], host: str, port: int = 443, *, tls: bool = True) -> Proxy | None:
    return read_proxies(environ).of(host, port, tls=tls)


def test_each_scheme_has_its_own_and_all_stands_in() -> None:
    both = {"HTTPS_PROXY": P, "http_proxy": "other.example"}
    assert reached(both, "api.example.com") == Proxy("proxy.example", 3128)
    assert reached(both, "api.example.com", 80, tls=False) == Proxy("other.example", 80), "http:// and port 80"
    assert reached({"HTTPS_PROXY": P}, "api.example.com", 80, tls=False) is None
    assert reached({"ALL_PROXY": P}, "api.example.com", 80, tls=False) == Proxy("proxy.example", 3128)
    assert reached({"HTTPS_PROXY": "http://upper", "https_proxy": P}, "a.example") == Proxy("proxy.example", 3128)
    assert reached({"HTTPS_PROXY": ""}, "a.example") is None


@pytest.mark.parametrize(
    ("no_proxy", "host", "direct"),
    [
        ("*", "api.example.com", True),
        ("example.com", "example.com", True),
        ("example.com", "api.example.com", True),
        (".example.com", "api.EXAMPLE.com.", True),
        (".example.com", "example.com", True),
        ("*.example.com", "api.example.com", True),
        ("example.com", "notexample.com", False),
        ("a.test, api.example.com ,b.test", "api.example.com", True),
        ("10.0.0.0/8", "10.2.3.4", True),
        ("10.0.0.0/8", "11.2.3.4", False),
        ("10.2.3.4", "10.2.3.4", True),
        ("10.0.0.0/8", "ten.example", False),
        ("fd00::/8", "fd00::1", True),
        ("[fd00::1]", "fd00::1", True),
        ("10.0.0.0/8", "fd00::1", False),
        ("example.com:443", "api.example.com", True),
        ("example.com:8443", "api.example.com", False),
        ("10.2.3.4:443", "10.2.3.4", True),
        (".svc,.cluster.local", "vllm.team.svc", True),
        (".svc,.cluster.local", "vllm.team.svc.cluster.local", True),
        (",,", "api.example.com", False),
    ],
)
def test_exceptions(no_proxy: str, host: str, direct: bool) -> None:
    assert (reached({"HTTPS_PROXY": P, "NO_PROXY": no_proxy}, host) is None) is direct


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "a.localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_this_machine_is_reached_directly(host: str) -> None:
    assert reached({"HTTPS_PROXY": P}, host) is None


def test_credentials_are_decoded_and_never_shown() -> None:
    proxy = reached({"HTTPS_PROXY": "http://me:p%40ss%3A@proxy.example:3128"}, "a.example")
    assert proxy is not None
    assert proxy.authorization == "Basic bWU6cEBzczo="
    assert "bWU6" not in repr(proxy)


@pytest.mark.parametrize("value", ["socks5://proxy:1080", "https://proxy:3128", "http://", "http://proxy:port"])
def test_what_we_cannot_use_is_a_problem_and_not_passed_over(value: str) -> None:
    proxy = reached({"HTTPS_PROXY": value}, "a.example")
    assert proxy is not None
    assert proxy.problem


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_nothing_in_the_environment_can_raise(proxy: str, exceptions: str, host: str) -> None:
    reached({"HTTPS_PROXY": proxy, "NO_PROXY": exceptions}, host)
