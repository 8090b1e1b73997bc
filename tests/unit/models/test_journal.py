"""The journal of a partial blob: whatever a crash does to it, it never claims a byte that is not there."""

from hypothesis import given
from hypothesis import strategies as st

from pointsman.models import journal
from pointsman.models.coverage import Coverage

DIGEST = "sha256:" + "ab" * 32
SIZE = 1000

_entries = st.lists(
    st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(lambda p: (min(p), max(p) + 1)).filter(
        lambda r: r[1] <= SIZE
    ),
    max_size=8,
)  # fmt: skip


@given(_entries)
def test_what_was_noted_is_read_again(entries: list[tuple[int, int]]) -> None:
    text = journal.header(DIGEST, SIZE) + b"".join(journal.entries([entry]) for entry in entries)
    assert journal.replay(text, DIGEST, SIZE) == Coverage(entries)


@given(_entries)
def test_written_anew_it_says_the_same(entries: list[tuple[int, int]]) -> None:
    coverage = Coverage(entries)
    assert journal.replay(journal.whole(DIGEST, SIZE, coverage), DIGEST, SIZE) == coverage


@given(_entries, st.data())
def test_cut_anywhere_it_only_forgets(entries: list[tuple[int, int]], data: st.DataObject) -> None:
    text = journal.header(DIGEST, SIZE) + journal.entries(entries)
    cut = data.draw(st.integers(0, len(text)))
    _assert_only_forgets(journal.replay(text[:cut], DIGEST, SIZE), entries)


@given(_entries, st.data())
def test_a_damaged_byte_only_forgets(entries: list[tuple[int, int]], data: st.DataObject) -> None:
    text = bytearray(journal.header(DIGEST, SIZE) + journal.entries(entries))
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] = data.draw(st.integers(0, 255))
    _assert_only_forgets(journal.replay(bytes(text), DIGEST, SIZE), entries)


@given(_entries, st.integers(1, 40))
def test_a_tail_of_zeros_only_forgets(entries: list[tuple[int, int]], zeros: int) -> None:
    text = journal.header(DIGEST, SIZE) + journal.entries(entries) + bytes(zeros)
    _assert_only_forgets(journal.replay(text, DIGEST, SIZE), entries)


@given(st.binary(max_size=200))
def test_garbage_claims_nothing(text: bytes) -> None:
    assert journal.replay(text, DIGEST, SIZE).total == 0


def test_a_journal_of_another_blob_claims_nothing() -> None:
    text = journal.whole(DIGEST, SIZE, Coverage([(0, 500)]))
    assert journal.replay(text, "sha256:" + "cd" * 32, SIZE).total == 0
    assert journal.replay(text, DIGEST, SIZE + 1).total == 0


def _assert_only_forgets(read: Coverage, entries: list[tuple[int, int]]) -> None:
    both = Coverage([*entries, *read])
    assert both == Coverage(entries)
