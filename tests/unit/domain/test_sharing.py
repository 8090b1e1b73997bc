"""Gateways that agree on who lives divide the slots of an endpoint exactly."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pointsman.domain.sharing import ALONE, Crew, crew

NAMES = st.sets(st.text("abcdef0123456789-", min_size=1, max_size=12), min_size=1, max_size=9)


@given(NAMES, st.integers(1, 500), st.text(max_size=40))
def test_the_shares_of_all_gateways_add_up(names: set[str], slots: int, endpoint: str) -> None:
    shares = [crew(names, me).share(slots, endpoint) for me in names]
    assert sum(shares) == max(slots, len(names))
    assert max(shares) - min(shares) <= 1


@given(NAMES, st.text("abc", min_size=1))
def test_a_gateway_counts_itself(names: set[str], me: str) -> None:
    assert crew(names, me).size == len(names | {me})


def test_what_is_left_over_is_not_always_the_same_gateway_s() -> None:
    lucky = {max(range(3), key=lambda place: Crew(3, place).share(4, f"pod-{n}")) for n in range(30)}
    assert lucky == {0, 1, 2}


def test_alone() -> None:
    assert ALONE.share(7, "any") == 7
