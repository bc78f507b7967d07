"""Caches that take the place of the full one: whatever they forget or scatter, the logits must not notice."""

import pytest
import torch
import torch.nn.functional as F

from llmbook.model import KVCache, OutOfPages, PagedCache, PagePool, SlidingKVCache
from tests.model.helpers import OUTPUT, POSITIONS, SANDWICH, random_ids, small_config, small_lm

CHUNKS = [7, 1, 3, 5]


def close(actual, expected):
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


def in_chunks(model, ids, cache, mask=None):
    """The logits of ``ids`` read in uneven pieces, the cache carrying what came before."""
    pieces, end = [], 0
    with torch.no_grad():
        for chunk in ids.split(CHUNKS, dim=1):
            end += chunk.shape[1]
            pieces.append(model(chunk, attention_mask=None if mask is None else mask[:, :end], cache=cache).logits)
    return torch.cat(pieces, dim=1)


def caches_of(config, dtype=None):
    """One of each kind, for two rows."""
    pool = PagePool(config, n_pages=8, page_size=4, dtype=dtype)
    return [
        KVCache(config, batch_size=2, dtype=dtype),
        SlidingKVCache(config, batch_size=2, dtype=dtype),
        PagedCache(pool, [pool.new_sequence(), pool.new_sequence()]),
    ]


@pytest.mark.parametrize(
    ("other", "dtype", "message"),
    [
        (dict(n_layers=1), None, "made for 1 layers, and this model has more"),
        (dict(n_kv_heads=1), None, "brings 2 heads of 6 numbers and the cache has 1 heads of 6 numbers"),
        (dict(d_head=8), None, "brings 2 heads of 6 numbers and the cache has 2 heads of 8 numbers"),
        ({}, torch.bfloat16, "computes in torch.float32 and the cache holds torch.bfloat16"),
    ],
)
def test_a_cache_of_another_model_is_refused(other, dtype, message):
    """Catches one head copied into two without a word, and errors about axes and types from within torch."""
    model = small_lm(positions="rope", sliding_window=4, n_kv_heads=2)
    for cache in caches_of(model.config.replace(**other), dtype):
        with torch.no_grad(), pytest.raises(ValueError, match=message):
            model(random_ids(2, 3), cache=cache)


def test_a_cache_without_room_for_convolutions_is_refused():
    """Catches an error about None, or about sizes, where the cache was made for a model without convolutions."""
    model = small_lm(positions="rope", sliding_window=4, conv_width=3)
    for cache in caches_of(model.config.replace(conv_width=None)):
        with torch.no_grad(), pytest.raises(ValueError, match="from the model's own config"):
            model(random_ids(2, 3), cache=cache)


def test_autocast_reads_a_cache_in_float32():
    """Catches a check of types that also refuses the keys autocast has narrowed, which are widened again."""
    model, ids = small_lm(positions="rope"), random_ids(2, 6)
    cache = KVCache(model.config, batch_size=2)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        model(ids[:, :4], cache=cache)
        chunk = model(ids[:, 4:], cache=cache).logits
    torch.testing.assert_close(chunk.float(), model(ids).logits[:, 4:], atol=0.3, rtol=0.1)


# --- sliding window


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("window", [1, 4, 9])
def test_a_sliding_cache_equals_the_full_one(positions, window):
    """A key forgotten one step early or late, a ring read out of order: chunks longer and shorter than the window."""
    model, ids = small_lm(positions=positions, sliding_window=window, n_kv_heads=2), random_ids(2, 16)
    with torch.no_grad():
        at_once = model(ids).logits
    sliding = SlidingKVCache(model.config, batch_size=2)
    close(in_chunks(model, ids, sliding), at_once)
    close(in_chunks(model, ids, KVCache(model.config, batch_size=2, max_len=16)), at_once)
    assert sliding.length == 16


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_sliding_cache_with_left_padding(positions):
    """Padding counted as a position, or hidden at the wrong columns once the window has moved past it."""
    model, ids = small_lm(positions=positions, sliding_window=4), random_ids(1, 13)
    padded = F.pad(ids, (3, 0), value=5)
    mask = torch.tensor([[0] * 3 + [1] * 13])
    with torch.no_grad():
        alone = model(ids).logits
    close(in_chunks(model, padded, SlidingKVCache(model.config), mask)[:, 3:], alone)


def test_a_window_changes_what_the_model_sees():
    """A window that nobody applies: then the tests above would compare two full caches."""
    ids = random_ids(1, 16)
    logits = [small_lm(positions="rope", sliding_window=window)(ids).logits for window in (None, 4)]
    assert (logits[0] - logits[1])[:, :4].abs().max() < 1e-5  # nothing is out of reach yet
    assert (logits[0] - logits[1])[:, 4:].abs().amax(-1).gt(1e-4).all()


def test_a_sliding_cache_does_not_grow():
    """Memory that follows the length of the text: 200 tokens through a window of 4 hold what 4 tokens hold."""
    model = small_lm(positions="rope", sliding_window=4)
    cache = SlidingKVCache(model.config)
    at_start = cache.n_bytes
    with torch.no_grad():
        for token in random_ids(1, 200).split(1, dim=1):
            model(token, cache=cache)
    assert cache.length == 200
    assert cache.n_bytes == at_start == KVCache(model.config, max_len=4).n_bytes
    assert cache.keys.untyped_storage().nbytes() + cache.values.untyped_storage().nbytes() == at_start


def test_a_sliding_cache_refuses_what_it_would_get_wrong():
    """Silent forgetting in a model that reads its whole past; mixed batches; swallowed gradients."""
    with pytest.raises(ValueError, match=r"full_layers=\(1,\) read their whole past"):
        SlidingKVCache(small_config(sliding_window=4, full_layers=(1,)))
    with pytest.raises(ValueError, match="sliding_window=None"):
        SlidingKVCache(small_config())
    model = small_lm(positions="rope", sliding_window=4)
    with torch.no_grad(), pytest.raises(ValueError, match="batch of 2"):
        model(random_ids(1, 5), cache=SlidingKVCache(model.config, batch_size=2))
    with pytest.raises(RuntimeError, match="no_grad"):
        model(random_ids(1, 5), cache=SlidingKVCache(model.config))


# --- pages


def scattered_pool(config, *, n_pages=24, page_size=4) -> PagePool:
    """A pool whose free pages lie in no order, and hold what an earlier sequence left there."""
    pool = PagePool(config, n_pages=n_pages, page_size=page_size)
    pool.keys.normal_(std=9.0)
    pool.values.normal_(std=9.0)
    order = torch.randperm(n_pages, generator=torch.Generator().manual_seed(3)).tolist()
    pool._free = order
    return pool


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("page_size", [1, 4, 16])
def test_pages_equal_one_pass(positions, page_size):
    """Pages read in another order than they were filled, or an offset within the page lost between chunks."""
    model, ids = small_lm(positions=positions, n_kv_heads=2), random_ids(2, 16)
    pool = scattered_pool(model.config, n_pages=40, page_size=page_size)
    cache = PagedCache(pool, [pool.new_sequence(), pool.new_sequence()])
    with torch.no_grad():
        close(in_chunks(model, ids, cache), model(ids).logits)
    assert cache.length == 16
    assert pool.n_free == 40 - 2 * (16 // page_size)


class Row:
    """One text beside others in a pool, and the same text alone with a full cache: what both must agree on."""

    def __init__(self, model, pool, ids):
        self.sequence, self.ids, self.read = pool.new_sequence(), ids, 0
        self.alone = KVCache(model.config, max_len=len(ids))

    def next(self, n):
        self.read += n
        return self.ids[self.read - n : self.read]


def step_together(model, pool, rows, n_new):
    """One forward pass in which row b reads ``n_new[b]`` tokens; each must write what it writes alone."""
    new = [row.next(n) for row, n in zip(rows, n_new, strict=True)]
    width = max(n_new)
    ids = torch.stack([F.pad(tokens, (width - len(tokens), 0), value=30) for tokens in new])
    cache = PagedCache(pool, [row.sequence for row in rows])
    mask = cache.reserve(n_new)
    assert cache.n_keys(width) == max(max(row.read for row in rows), width)  # no column that no row needs
    with torch.no_grad():
        together = model(ids, attention_mask=mask, cache=cache).logits
        for b, (row, tokens) in enumerate(zip(rows, new, strict=True)):
            close(together[b, width - len(tokens) :], model(tokens[None], cache=row.alone).logits[0])
            assert row.sequence.length == row.read


@pytest.mark.parametrize(
    "options",
    [
        *(dict(positions=scheme) for scheme in POSITIONS),
        dict(positions="rope", sliding_window=5),
        dict(positions="rope", conv_width=2),
        dict(positions="alibi", sliding_window=3, conv_width=6),
        SANDWICH,
        OUTPUT,
    ],
    ids=str,
)
def test_rows_join_and_leave(options):
    """A mask or position not moved when rows differ in length, pages of one row read by another, pages not freed; what
    a short convolution looks back on lost between steps, taken from another row, or left in front of padding."""
    model = small_lm(**options)
    pool = scattered_pool(model.config, n_pages=12, page_size=4)
    texts = random_ids(4, 20)
    a, b, c = (Row(model, pool, text) for text in texts[:3])
    step_together(model, pool, [a, b], [3, 9])  # two prompts of unequal length
    step_together(model, pool, [a, b], [1, 1])
    step_together(model, pool, [a, b, c], [1, 1, 6])  # c joins while the others go on
    step_together(model, pool, [c, a, b], [1, 1, 1])  # the order of the rows does not matter
    pool.free(b.sequence)
    d = Row(model, pool, texts[3])  # takes the pages b gave back
    step_together(model, pool, [d, a, c], [11, 1, 1])
    step_together(model, pool, [d, c], [2, 4])
    for row in (a, c, d):
        pool.free(row.sequence)
    assert pool.n_free == pool.n_pages
    assert pool.use().held == 0


def test_padding_reads_no_other_sequence():
    """Padding that points at another's memory: one sequence gone bad must not poison its neighbour."""
    model, ids = small_lm(positions="rope"), random_ids(2, 8)
    pool = PagePool(model.config, n_pages=4, page_size=8)
    pool.keys.fill_(float("nan"))
    pool.values.fill_(float("nan"))
    bad, good = pool.new_sequence(), pool.new_sequence()
    pool.reserve([bad], [8])
    bad.length = 8
    cache = PagedCache(pool, [bad, good])
    mask = cache.reserve([1, 3])
    with torch.no_grad():
        logits = model(ids[:, :3], attention_mask=mask, cache=cache).logits
        close(logits[1], model(ids[1:, :3]).logits[0])
    assert logits[0].isnan().any()


@pytest.mark.parametrize("conv_width", [None, 4])
def test_an_exhausted_pool_says_so_and_changes_nothing(conv_width):
    """A batch half of whose rows got their page: all or nothing, and freed pages are usable again."""
    model, ids = small_lm(positions="rope", conv_width=conv_width), random_ids(2, 8)
    pool = PagePool(model.config, n_pages=3, page_size=4)
    a, b = pool.new_sequence(), pool.new_sequence()
    cache = PagedCache(pool, [a, b])
    with torch.no_grad():
        model(ids[:, :4], cache=cache)
        with pytest.raises(OutOfPages, match="2 pages of 4 positions are needed and 1 are free"):
            model(ids[:, 4:5], cache=cache)
        assert (len(a.pages), len(b.pages), pool.n_free, a.length) == (1, 1, 1, 4)
        pool.free(b)
        alone = PagedCache(pool, [a])
        close(model(ids[:1, 4:], cache=alone).logits, model(ids[:1]).logits[:, 4:])
    with pytest.raises(ValueError, match="freed before"):
        pool.free(b)


def test_what_is_wasted_is_less_than_a_page_each():
    """Bytes counted wrongly: against a contiguous cache for the same rows, by hand."""
    config = small_config(positions="rope")
    pool = PagePool(config, n_pages=20, page_size=4)
    lengths = [1, 4, 9, 14]
    sequences = [pool.new_sequence() for _ in lengths]
    pool.reserve(sequences, lengths)
    for sequence, length in zip(sequences, lengths, strict=True):
        sequence.length = length
    position = 2 * config.n_layers * config.n_kv_heads * config.d_head * 4  # bytes of a key and a value in fp32
    use = pool.use()
    assert use.reserved == pool.keys.nbytes + pool.values.nbytes == 80 * position
    assert use.held == (4 + 4 + 12 + 16) * position
    assert use.filled == sum(lengths) * position
    assert use.wasted == (3 + 0 + 3 + 2) * position
    contiguous = KVCache(config, batch_size=4, max_len=config.max_seq_len).n_bytes
    assert contiguous - use.filled > 10 * use.wasted  # every row reserves max_seq_len = 32 positions


@pytest.mark.parametrize("conv_width", [None, 4])
def test_forks_share_pages_until_one_writes(conv_width):
    """A write into a shared page seen by the other reader, a page freed under a reader, a copy nobody needs; a fork
    whose short convolutions have nothing to look back on, or what the other has read since."""
    model, ids = small_lm(positions="rope", conv_width=conv_width), random_ids(1, 6)
    pool = scattered_pool(model.config, n_pages=6, page_size=4)
    a = pool.new_sequence()
    with torch.no_grad():
        model(ids, cache=PagedCache(pool, [a]))
        b = pool.fork(a)
        assert pool.n_free == 4  # two pages, read by both
        one_text = pool.use()
        endings = torch.tensor([[7, 8, 9], [20, 21, 22]])
        both = PagedCache(pool, [a, b])
        first = model(endings[:, :1], cache=both).logits
        assert pool.n_free == 3  # only one of the two needed a copy of the half-filled page
        second = model(endings[:, 1:], cache=both).logits
        expected = model(torch.cat([ids.expand(2, -1), endings], dim=1)).logits[:, 6:]
    close(torch.cat([first, second], dim=1), expected)
    assert a.pages[0] == b.pages[0]
    assert pool.use().held > one_text.held
    pool.free(a)
    with torch.no_grad():  # b still has the page they shared
        again = model(torch.tensor([[3]]), cache=PagedCache(pool, [b])).logits
        text = torch.cat([ids[0], endings[1], torch.tensor([3])])[None]
        close(again, model(text).logits[:, -1:])
    pool.free(b)
    assert pool.n_free == 6


def test_a_fork_at_a_page_boundary_copies_nothing():
    """A full page copied although the next position falls behind it."""
    model, ids = small_lm(positions="rope"), random_ids(1, 8)
    pool = PagePool(model.config, n_pages=4, page_size=4)
    a = pool.new_sequence()
    with torch.no_grad():
        model(ids, cache=PagedCache(pool, [a]))
        b = pool.fork(a)
        assert pool.pages_missing([a, b], [1, 1]) == 2
        model(torch.tensor([[1], [2]]), cache=PagedCache(pool, [a, b]))
    assert a.pages[:2] == b.pages[:2]
    assert pool.n_free == 0


def test_a_paged_cache_refuses_what_it_would_get_wrong():
    """Rows of unequal length read without a mask, a width that was not reserved, gradients, an empty batch."""
    model, ids = small_lm(positions="rope"), random_ids(2, 5)
    pool = PagePool(model.config, n_pages=8, page_size=4)
    a, b = pool.new_sequence(), pool.new_sequence()
    cache = PagedCache(pool, [a, b])
    with torch.no_grad():
        model(ids[:1], cache=PagedCache(pool, [a]))
        with pytest.raises(ValueError, match=r"rows hold \[6, 1\] positions: pass attention_mask=cache.reserve"):
            model(ids[:, :1], cache=cache)
        mask = cache.reserve([2, 1])
        with pytest.raises(ValueError, match=r"reserved for \[2, 1\].*3 have come"):
            model(ids[:, :3], cache=cache)
        with pytest.raises(ValueError, match="a batch of 2 cannot take a batch of 1"):
            model(ids[:1, :2], cache=cache)
    with pytest.raises(RuntimeError, match="no_grad"):
        model(ids[:, :2], attention_mask=mask, cache=cache)
    with pytest.raises(ValueError, match=r"n_new=\[0, 1\]"):
        cache.reserve([0, 1])
    with pytest.raises(ValueError, match="at least one sequence"):
        PagedCache(pool, [])
    with pytest.raises(ValueError, match="page_size=0"):
        PagePool(model.config, n_pages=4, page_size=0)


def test_reserving_twice_writes_into_no_shared_page():
    """A page that was shared while more had been reserved behind it: the next write went into the twin's memory."""
    pool = PagePool(small_config(), n_pages=8, page_size=4)
    first = pool.new_sequence()
    pool.reserve([first], [3])
    first.length = 3
    pool.reserve([first], [4])  # a second page, and no pass that fills it
    twin = pool.fork(first)
    shared = list(first.pages)
    assert pool.pages_missing([twin], [2]) == 2
    pool.reserve([twin], [2])
    assert not set(twin.pages) & set(shared)
    assert first.pages == shared
    pool.reserve([first], [2])  # the last reader keeps its pages
    assert first.pages == shared
    pool.free(first)
    pool.free(twin)
    assert pool.n_free == 8
