"""One pass over queries and keys that adds up the statistics; imported only where triton is used.

Each program has a block of destinations of one head and goes over the keys that they see, as flash
attention does (Dao 2023), with running sums in place of values: with m the largest score so far
and e_j = exp(score_j - m) it keeps Σ e_j, Σ e_j (score_j - m), Σ e_j (i - j), and Σ e_j over the
sets of tokens.

Within, scores that are scaled and nothing else stay plain q·k. `unit` times a difference of scores
is a power of 2, which is what the hardware raises; differences come first, so that large scores
keep their digits.

Names in capitals are constants of the compiled program: what is not asked for is not in it.
"""
# A kernel's arguments are pointers, numbers and blocks of them: no types of Python's.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, check-untyped-defs=False

import triton  # type: ignore[import-untyped, import-not-found, unused-ignore]
import triton.language as tl  # type: ignore[import-untyped, import-not-found, unused-ignore]

_LOG2E = tl.constexpr(1.4426950408889634)
_LN2 = tl.constexpr(0.6931471805599453)
_NONE_YET = tl.constexpr(-1.0e28)  # below every score, so that exp2 of the difference is 0
_HIDDEN = tl.constexpr(-1.0e30)  # below that too, so that hidden keys are never the largest
_BEYOND = tl.constexpr(2147483647)


@triton.jit
def _scores_of(
    dots, distance, added, slope, scale, cap,
    HAS_CAP: tl.constexpr, HAS_SLOPES: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """Scores of q·k, but for the scale where that is all."""
    if not (HAS_CAP or HAS_SLOPES or HAS_BIAS):
        scores = dots
    elif HAS_CAP:
        # cap · tanh(x) = ± cap · (1 - exp(-2|x|)) / (1 + exp(-2|x|))
        x = dots * scale / cap
        faded = tl.exp2(tl.abs(x) * (-2.0 * _LOG2E))
        scores = cap * (1.0 - faded) / (1.0 + faded)
        scores = tl.where(x < 0, -scores, scores)
    else:
        scores = dots * scale
    if HAS_SLOPES:
        scores -= slope * tl.abs(distance)
    if HAS_BIAS:
        scores = tl.maximum(scores + added, _HIDDEN)  # a bias may be -inf
    return scores


@triton.jit
def _add_block(
    start, largest, total, weighted, far, top, same, after,
    q, query, low, high, query_place, origin, query_token, slope, scale, cap, unit,
    k_head, k_pos_stride, k_d_stride, key_places, real, tokens, tokens_before,
    bias_rows, bias_key_stride, n_keys, d_head,
    EDGE: tl.constexpr, CAUSAL: tl.constexpr, PADDED: tl.constexpr, HAS_CAP: tl.constexpr,
    HAS_SLOPES: tl.constexpr, HAS_BIAS: tl.constexpr, ENTROPY: tl.constexpr,
    DISTANCE: tl.constexpr, TOP: tl.constexpr, SAME: tl.constexpr, AFTER: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, EVEN_D: tl.constexpr,
):  # fmt: skip
    """The sums with BLOCK_N keys from `start` on; EDGE: some of them may be hidden."""
    within = tl.arange(0, BLOCK_N)
    d = tl.arange(0, BLOCK_D)
    key = start + within
    there = key < n_keys
    # The start may be beyond 2³¹ elements, what is within a block is not.
    k_block = k_head + tl.cast(start, tl.int64) * k_pos_stride
    pointers = k_block + within[None, :] * k_pos_stride + d[:, None] * k_d_stride
    if EDGE:
        k = tl.load(pointers, mask=there[None, :] & (d[:, None] < d_head), other=0.0)
    elif EVEN_D:
        k = tl.load(pointers)
    else:
        k = tl.load(pointers, mask=d[:, None] < d_head, other=0.0)
    dots = tl.dot(q, k, input_precision="ieee")

    key_place = key
    if PADDED:
        key_place = tl.load(key_places + key, mask=there, other=0)
    distance = dots
    added = dots
    if HAS_SLOPES:
        distance = (query_place[:, None] - key_place[None, :]).to(tl.float32)
    if HAS_BIAS:
        at = bias_rows[:, None] + key.to(tl.int64)[None, :] * bias_key_stride
        added = tl.load(at, mask=there[None, :], other=0.0).to(tl.float32)
    s = _scores_of(dots, distance, added, slope, scale, cap, HAS_CAP, HAS_SLOPES, HAS_BIAS)
    if EDGE:
        seen = (key[None, :] >= low[:, None]) & (key[None, :] < high[:, None])
        if PADDED:
            seen = seen & (tl.load(real + key, mask=there, other=0) != 0)[None, :]
        s = tl.where(seen, s, _HIDDEN)

    block_largest = tl.max(s, 1)
    if TOP:
        better = block_largest > largest
        # Late blocks rarely hold a row's largest score, so its place is rarely looked for.
        if tl.max(better.to(tl.int32), 0) > 0:
            is_largest = s == block_largest[:, None]
            place = tl.min(tl.where(is_largest, key[None, :], _BEYOND), 1)
            top = tl.where(better, place, top)
    new_largest = tl.maximum(largest, block_largest)
    lower = (largest - new_largest) * unit
    shrink = tl.exp2(lower)
    s = (s - new_largest[:, None]) * unit
    e = tl.exp2(s)
    if ENTROPY:
        weighted = (weighted + lower * total) * shrink + tl.sum(e * s, 1)
    block_total = tl.sum(e, 1)
    total = total * shrink + block_total
    if DISTANCE:
        if EDGE or not CAUSAL:
            behind = (query_place[:, None] - key_place[None, :]).to(tl.float32)
            far = far * shrink + tl.sum(e * behind, 1)
        else:
            # All of the keys are before the origin, and that is before the destinations: sums of
            # positive numbers, so that small distances lose no digits far into a text.
            to_origin = tl.sum(e * (origin - key_place).to(tl.float32)[None, :], 1)
            from_origin = block_total * (query_place - origin).to(tl.float32)
            far = far * shrink + (to_origin + from_origin)
    if SAME:
        token = tl.load(tokens + key, mask=there, other=0) if EDGE else tl.load(tokens + key)
        member = query_token[:, None] == token[None, :]
        if EDGE or not CAUSAL:
            member = member & (key[None, :] < query[:, None])
        same = same * shrink + tl.sum(tl.where(member, e, 0.0), 1)
    if AFTER:
        token = (
            tl.load(tokens_before + key, mask=there, other=0)
            if EDGE
            else tl.load(tokens_before + key)
        )
        member = query_token[:, None] == token[None, :]
        if EDGE or not CAUSAL:
            member = member & (key[None, :] <= query[:, None])
        after = after * shrink + tl.sum(tl.where(member, e, 0.0), 1)
    return new_largest, total, weighted, far, top, same, after


@triton.jit
def _single_share(
    source, row, q, low, high, query_place, slope, scale, cap, unit, largest, above,
    k_head, k_pos_stride, k_d_stride, key_places, real, bias_rows, bias_key_stride, d_head,
    PADDED: tl.constexpr, HAS_CAP: tl.constexpr, HAS_SLOPES: tl.constexpr, HAS_BIAS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):  # fmt: skip
    """The share of one source of each destination, whose index is at `source`."""
    key = tl.load(source + row)
    seen = (key >= low) & (key < high) & (key >= 0)
    d = tl.arange(0, BLOCK_D)
    pointers = k_head + key.to(tl.int64)[:, None] * k_pos_stride + d[None, :] * k_d_stride
    k = tl.load(pointers, mask=seen[:, None] & (d[None, :] < d_head), other=0.0)
    dots = tl.sum(q.to(tl.float32) * k.to(tl.float32), 1)
    key_place = key
    if PADDED:
        key_place = tl.load(key_places + key, mask=seen, other=0)
        seen = seen & (tl.load(real + key, mask=seen, other=0) != 0)
    distance = dots
    added = dots
    if HAS_SLOPES:
        distance = (query_place - key_place).to(tl.float32)
    if HAS_BIAS:
        at = bias_rows + key.to(tl.int64) * bias_key_stride
        added = tl.load(at, mask=seen, other=0.0).to(tl.float32)
    s = _scores_of(dots, distance, added, slope, scale, cap, HAS_CAP, HAS_SLOPES, HAS_BIAS)
    return tl.where(seen, tl.exp2(tl.where(seen, (s - largest) * unit - above, 0.0)), 0.0)


@triton.jit
def statistics_kernel(
    q, k, low, high, query_places, key_places, real, tokens, tokens_before,
    first_source, previous_source, own_source, slopes, bias, sinks,
    lse_out, entropy_out, first_out, previous_out, self_out, same_out, after_out, distance_out,
    top_out, top_share_out,
    q_batch_stride, q_pos_stride, q_head_stride, q_d_stride,
    k_batch_stride, k_pos_stride, k_head_stride, k_d_stride,
    bias_batch_stride, bias_head_stride, bias_pos_stride, bias_key_stride,
    query_row_stride, key_row_stride, n_queries, n_keys, n_heads, n_group, d_head, scale, cap,
    length_class,
    CAUSAL: tl.constexpr, WINDOWED: tl.constexpr, PADDED: tl.constexpr, HAS_CAP: tl.constexpr,
    HAS_SLOPES: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_SINKS: tl.constexpr,
    LSE: tl.constexpr, ENTROPY: tl.constexpr, FIRST: tl.constexpr, PREVIOUS: tl.constexpr,
    SELF: tl.constexpr, SAME: tl.constexpr, AFTER: tl.constexpr, DISTANCE: tl.constexpr,
    TOP: tl.constexpr, TOP_SHARE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, EVEN_D: tl.constexpr,
):  # fmt: skip
    """Statistics of BLOCK_M destinations of one head.

    `query_row_stride` and `key_row_stride` are 0 where all rows of the batch share their places.
    `length_class` is for the tuner, which keeps a choice for every size of problem.
    """
    n_blocks = tl.cdiv(n_queries, BLOCK_M)
    program = tl.program_id(0)
    # Blocks of a head run together and share its keys in the cache; those that see most go first.
    block = n_blocks - 1 - program % n_blocks
    batch = (program // n_blocks) // n_heads
    head = (program // n_blocks) % n_heads
    wide_batch = tl.cast(batch, tl.int64)
    wide_head = tl.cast(head, tl.int64)

    number = block * BLOCK_M + tl.arange(0, BLOCK_M)
    inside = number < n_queries
    row = tl.minimum(number, n_queries - 1)  # beyond the last: that one again, never stored
    query = row + (n_keys - n_queries)
    d = tl.arange(0, BLOCK_D)
    q_head = q + wide_batch * q_batch_stride + wide_head * q_head_stride
    q_at = q_head + row.to(tl.int64)[:, None] * q_pos_stride + d[None, :] * q_d_stride
    q_block = tl.load(q_at, mask=d[None, :] < d_head, other=0.0)
    k_head = k + wide_batch * k_batch_stride + (wide_head // n_group) * k_head_stride

    query_rows = wide_batch * query_row_stride
    key_rows = wide_batch * key_row_stride
    low_block = tl.load(low + query_rows + row)
    high_block = tl.load(high + query_rows + row)
    query_place = tl.load(query_places + query_rows + row)
    origin = tl.min(query_place, 0)
    query_token = row
    if SAME or AFTER:
        query_token = tl.load(tokens + wide_batch * n_keys + query)
    token_row = tokens + wide_batch * n_keys
    before_row = tokens_before + wide_batch * n_keys
    unit = _LOG2E
    if not (HAS_CAP or HAS_SLOPES or HAS_BIAS):
        unit = scale * _LOG2E
    slope = 0.0
    if HAS_SLOPES:
        slope = tl.load(slopes + head).to(tl.float32)
    bias_rows = row.to(tl.int64)
    if HAS_BIAS:
        bias_head = bias + wide_batch * bias_batch_stride + wide_head * bias_head_stride
        bias_rows = bias_head + row.to(tl.int64) * bias_pos_stride

    largest = tl.full([BLOCK_M], _NONE_YET, tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    weighted = tl.zeros([BLOCK_M], tl.float32)
    far = tl.zeros([BLOCK_M], tl.float32)
    top = tl.full([BLOCK_M], -1, tl.int32)
    same = tl.zeros([BLOCK_M], tl.float32)
    after = tl.zeros([BLOCK_M], tl.float32)

    # Keys between `clear` and `clear_end` are before all of these destinations and seen by all.
    begin = tl.min(low_block, 0) // BLOCK_N * BLOCK_N
    end = tl.max(high_block, 0)
    if PADDED:
        clear = begin
        clear_end = begin
    else:
        clear = tl.cdiv(tl.max(low_block, 0), BLOCK_N) * BLOCK_N
        clear_end = tl.maximum((tl.min(high_block, 0) - 1) // BLOCK_N * BLOCK_N, clear)
    if WINDOWED:
        for start in range(begin, tl.minimum(clear, end), BLOCK_N):
            largest, total, weighted, far, top, same, after = _add_block(
                start, largest, total, weighted, far, top, same, after,
                q_block, query, low_block, high_block, query_place, origin, query_token,
                slope, scale, cap, unit, k_head, k_pos_stride, k_d_stride, key_places + key_rows,
                real + key_rows, token_row, before_row, bias_rows, bias_key_stride, n_keys, d_head,
                True, CAUSAL, PADDED, HAS_CAP, HAS_SLOPES, HAS_BIAS, ENTROPY, DISTANCE, TOP, SAME,
                AFTER, BLOCK_N, BLOCK_D, EVEN_D,
            )  # fmt: skip
    if not PADDED:
        for start in range(clear, clear_end, BLOCK_N):
            largest, total, weighted, far, top, same, after = _add_block(
                start, largest, total, weighted, far, top, same, after,
                q_block, query, low_block, high_block, query_place, origin, query_token,
                slope, scale, cap, unit, k_head, k_pos_stride, k_d_stride, key_places + key_rows,
                real + key_rows, token_row, before_row, bias_rows, bias_key_stride, n_keys, d_head,
                False, CAUSAL, PADDED, HAS_CAP, HAS_SLOPES, HAS_BIAS, ENTROPY, DISTANCE, TOP, SAME,
                AFTER, BLOCK_N, BLOCK_D, EVEN_D,
            )  # fmt: skip
    for start in range(clear_end, end, BLOCK_N):
        largest, total, weighted, far, top, same, after = _add_block(
            start, largest, total, weighted, far, top, same, after,
            q_block, query, low_block, high_block, query_place, origin, query_token,
            slope, scale, cap, unit, k_head, k_pos_stride, k_d_stride, key_places + key_rows,
            real + key_rows, token_row, before_row, bias_rows, bias_key_stride, n_keys, d_head,
            True, CAUSAL, PADDED, HAS_CAP, HAS_SLOPES, HAS_BIAS, ENTROPY, DISTANCE, TOP, SAME,
            AFTER, BLOCK_N, BLOCK_D, EVEN_D,
        )  # fmt: skip

    blind = total == 0
    keys_total = tl.where(blind, 1.0, total)
    # ln Σ - m over ln 2, apart from m: large scores would leave few digits for it.
    above = tl.log2(keys_total)
    kept = 1.0 / keys_total  # turns e into p
    if HAS_SINKS:
        sink = tl.load(sinks + head).to(tl.float32) * _LOG2E - largest * unit
        larger = tl.maximum(above, sink)
        with_sink = larger + tl.log2(tl.exp2(above - larger) + tl.exp2(sink - larger))
        kept = kept * tl.exp2(above - with_sink)
        above = with_sink
    kept = tl.where(blind, 0.0, kept)

    out = (wide_batch * n_heads + wide_head) * n_queries + row
    if LSE:
        lse = (largest * unit + above) * _LN2
        tl.store(lse_out + out, tl.where(blind, -float("inf"), lse), mask=inside)
    if ENTROPY:
        entropy = kept * (total * above - weighted) * _LN2
        tl.store(entropy_out + out, tl.where(blind, 0.0, entropy), mask=inside)
    if DISTANCE:
        tl.store(distance_out + out, tl.where(blind, 0.0, far / keys_total), mask=inside)
    if TOP:
        tl.store(top_out + out, tl.where(blind, -1, top).to(tl.int64), mask=inside)
    if TOP_SHARE:
        tl.store(top_share_out + out, kept, mask=inside)
    if SAME:
        tl.store(same_out + out, kept * same, mask=inside)
    if AFTER:
        tl.store(after_out + out, kept * after, mask=inside)
    if FIRST:
        share = _single_share(
            first_source + query_rows, row, q_block, low_block, high_block, query_place, slope,
            scale, cap, unit, largest, above, k_head, k_pos_stride, k_d_stride,
            key_places + key_rows, real + key_rows, bias_rows, bias_key_stride, d_head, PADDED,
            HAS_CAP, HAS_SLOPES, HAS_BIAS, BLOCK_D,
        )  # fmt: skip
        tl.store(first_out + out, tl.where(blind, 0.0, share), mask=inside)
    if PREVIOUS:
        share = _single_share(
            previous_source + query_rows, row, q_block, low_block, high_block, query_place, slope,
            scale, cap, unit, largest, above, k_head, k_pos_stride, k_d_stride,
            key_places + key_rows, real + key_rows, bias_rows, bias_key_stride, d_head, PADDED,
            HAS_CAP, HAS_SLOPES, HAS_BIAS, BLOCK_D,
        )  # fmt: skip
        tl.store(previous_out + out, tl.where(blind, 0.0, share), mask=inside)
    if SELF:
        share = _single_share(
            own_source + query_rows, row, q_block, low_block, high_block, query_place, slope,
            scale, cap, unit, largest, above, k_head, k_pos_stride, k_d_stride,
            key_places + key_rows, real + key_rows, bias_rows, bias_key_stride, d_head, PADDED,
            HAS_CAP, HAS_SLOPES, HAS_BIAS, BLOCK_D,
        )  # fmt: skip
        tl.store(self_out + out, tl.where(blind, 0.0, share), mask=inside)
