"""What a batch holds and who comes next."""

from hypothesis import given
from hypothesis import strategies as st

from groundql.decoding.schedule import Capacity, Row, Waiting, choose_shape

LENGTHS = st.dictionaries(
    st.integers(0, 50).map(lambda n: (1,) * n), st.integers(1, 20), min_size=1, max_size=6
)
CAPACITIES = st.builds(
    Capacity,
    n_slots=st.integers(1, 40),
    kv_tokens=st.integers(1, 5000),
    rows_a_group=st.integers(1, 8),
    multiple=st.sampled_from([1, 16]),
)


@given(counts=LENGTHS, n_own=st.integers(1, 60), capacity=CAPACITIES)
def test_a_shape_holds_every_row_and_stays_within_the_capacity_unless_one_row_is_too_much(
    counts, n_own, capacity
):
    shape = choose_shape(counts, n_own, capacity)
    assert shape.n_prefix >= max(map(len, counts))
    assert shape.n_own >= n_own
    assert 1 <= shape.n_slots <= capacity.n_slots
    assert shape.kv_tokens <= capacity.kv_tokens or shape.n_slots == 1


@given(counts=LENGTHS, n_own=st.integers(1, 60))
def test_with_room_enough_no_more_slots_are_empty_than_groups_need(counts, n_own):
    shape = choose_shape(counts, n_own, Capacity(n_slots=10_000, kv_tokens=10**9))
    assert sum(counts.values()) <= shape.n_slots <= sum(counts.values()) + 3 * len(counts)


def test_long_prefixes_come_first_and_their_short_questions():
    rows = [
        Row(prefix, (0,) * n, 5, 0, place)
        for place, (prefix, n) in enumerate([((1,), 1), ((1, 2), 3), ((1, 2), 2)])
    ]
    waiting = Waiting(rows)
    assert list(waiting.counts()) == [(1, 2), (1,)]
    assert [waiting.take((1, 2)).place for _ in range(2)] == [2, 1]
    assert waiting.counts() == {(1,): 1}
    assert waiting.n_own() == 6
