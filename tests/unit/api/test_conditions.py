"""The set of reasons is closed, and wide enough for what reasons are made of."""

from pointsman.api.conditions import Reason
from pointsman.models.errors import PullReason


def test_every_failure_of_a_pull_is_a_reason_of_a_condition() -> None:
    assert {r.value for r in PullReason} <= {r.value for r in Reason}
