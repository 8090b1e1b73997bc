"""Which Go is new enough."""

from tests.cluster.programs.go import NEEDED, version


def test_the_version_is_read_from_what_go_prints() -> None:
    assert version("go version go1.26.6 linux/amd64\n") == (1, 26)
    assert version("go version go1.19.8 linux/amd64") < NEEDED
    assert version("") == (0, 0)
