"""The statistics in plain torch, a block of destinations at a time, on every device.

A block of scores is small enough to stay in the processor's cache while it is gone over: largest
score, exponential, sums. Only real keys are looked at (they are gathered first), and of those only
the range that the block sees; masks are made at the two ends of the range alone. Memory beside the
result is O(n d_head) for the keys and a constant number of scores, at least `16 · n` a head.

On a CPU one matrix product and five light passes over a cached block take less than fused attention
itself, whose second product and whose output are not needed: entropy needs Σ p·score, not p·K.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.kernels.token_sets import Members, TokenSets
from interp.kernels.visible import SINGLE_SOURCES, ScoreRule, Visible

_TOP = 64  # keys of a group whose largest score is found at once
_CACHED_SCORES = 2**18  # scores of a block: 1 MiB in fp32, half of a second-level cache
_MANY_SCORES = 2**24  # on other devices, whose blocks are to fill them
_MOST_QUERIES = 128
# Below these, exp gives nothing that a sum would notice, and takes many times longer to give it.
_FAINTEST = {torch.float32: -80.0, torch.float64: -700.0}


def reference_statistics(
    q: Float[Tensor, "batch pos head d_head"],
    k: Float[Tensor, "batch key_pos kv_head d_head"],
    rule: ScoreRule,
    visible: Visible,
    tokens: Int[Tensor, "batch key_pos"] | None,
    names: tuple[str, ...],
) -> dict[str, Float[Tensor, "batch head pos"]]:
    """The statistics of these names; all arguments are checked already."""
    batch, pos, n_heads, _ = q.shape
    found = _Sums(names, (batch, n_heads, pos), rule, _wide(q.dtype), q.device)
    for row in range(batch):
        _Row(q, k, rule, visible, tokens, row, found).run()
    return found.statistics()


def _scores_of_block(device: torch.device) -> int:
    """How many scores are gone over at once."""
    if device.type != "cpu":
        return _MANY_SCORES
    # Threads wait for each other after every step, so that several take fewer, larger steps.
    return torch.get_num_threads() * _CACHED_SCORES


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _lowest(dtype: torch.dtype) -> float:
    """The score of hidden keys: finite, so that no difference is undefined."""
    return torch.finfo(dtype).min / 4


class _Sums:
    """What is added up for every destination, `[batch, head, pos]`, and what follows from it.

    With m the largest score of a destination and e_j = exp(score_j - m): `largest` is m, `total`
    Σ e_j, `sums` those of e_j over sets of sources or times something (`entropy`: Σ e_j (score_j -
    m); `mean_distance`: Σ e_j (i - j)), and `single` holds the e_j of single sources.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        shape: tuple[int, int, int],
        rule: ScoreRule,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.names, self.rule, self.dtype = names, rule, dtype
        self.largest = torch.empty(shape, dtype=dtype, device=device)
        self.total = torch.empty_like(self.largest)
        sums = set(names) - {"lse", "top_share", "top_source", *SINGLE_SOURCES}
        self.sums = {name: torch.zeros_like(self.largest) for name in sums}
        self.single_names = [name for name in SINGLE_SOURCES if name in names]
        self.single = self.largest.new_zeros(*shape, len(self.single_names))
        self.top_source = None
        if "top_source" in names:
            self.top_source = torch.empty(shape, dtype=torch.int64, device=device)

    def statistics(self) -> dict[str, Tensor]:
        """The results, in the order asked for."""
        # Also where a bias of -inf hides all that the mask shows.
        blind = (self.total == 0) | (self.largest <= _lowest(self.dtype) / 2)
        total = self.total.masked_fill(blind, 1.0)
        # lse - m, apart from m: large scores would leave few digits for it.
        above = total.log()
        kept = 1.0 / total  # exp(m - lse): turns e into p
        if self.rule.sinks is not None:
            with_sink = torch.logaddexp(above, self.rule.sinks.to(above)[:, None] - self.largest)
            kept, above = kept * (above - with_sink).exp(), with_sink
        kept = kept.masked_fill(blind, 0.0)
        found: dict[str, Tensor] = {}
        for name in self.names:
            if name == "lse":
                found[name] = (self.largest + above).masked_fill(blind, -torch.inf)
            elif name == "entropy":
                # Σ p (lse - score) = Σ p · (lse - m) - Σ p (score - m)
                found[name] = (kept * (total * above - self.sums[name])).masked_fill(blind, 0.0)
            elif name == "mean_distance":
                found[name] = (self.sums[name] / total).masked_fill(blind, 0.0)
            elif name == "top_source":
                assert self.top_source is not None
                found[name] = self.top_source.masked_fill(blind, -1)
            elif name == "top_share":
                found[name] = kept
            elif name in self.sums:
                found[name] = kept * self.sums[name]
            else:
                found[name] = kept * self.single[..., self.single_names.index(name)]
        return found


class _Row:
    """One row of a batch: its real keys, gathered, and its destinations, block by block."""

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        rule: ScoreRule,
        visible: Visible,
        tokens: Tensor | None,
        row: int,
        found: _Sums,
    ) -> None:
        self.rule, self.row, self.found = rule, row, found
        # What masks write, as tensors: a number would be made into one at every call.
        self.zero = torch.zeros((), dtype=found.dtype, device=q.device)
        self.lowest = self.zero + _lowest(found.dtype)
        self.visible, self.dtype, self.device = visible, found.dtype, q.device
        self.n_kv, self.group = k.shape[2], q.shape[2] // k.shape[2]
        # [kv_head, query head of it, pos, d_head]
        self.q = q[row].transpose(0, 1).unflatten(0, (self.n_kv, self.group))
        shared = visible.places.shape[0] == 1
        at = 0 if shared else row
        self.real = None
        if visible.real_keys is not None:
            self.real = visible.real_keys[row].nonzero()[:, 0]
            k = k[row, self.real]
        else:
            k = k[row]
        self.n_real = k.shape[0]
        # Transposed, and padded to whole groups of keys, which are masked like any end of a range.
        width = -(-self.n_real // _TOP) * _TOP
        self.keys = torch.zeros(
            self.n_kv, k.shape[2], width, dtype=self.dtype, device=self.device
        )  # [kv_head, d_head, key]
        # The scale goes into the keys, which are copied anyway.
        self.keys[:, :, : self.n_real].copy_(k.permute(1, 2, 0)).mul_(rule.scale)
        self.places = visible.places[at].to(self.dtype)
        self.key_places = torch.arange(width, device=self.device, dtype=self.dtype)
        self.low = self._gathered_index(visible.low[at])
        self.high = self._gathered_index(visible.high[at])
        self.single = None
        if found.single_names:
            sources = [visible.single_source(name)[at] for name in found.single_names]
            self.single = self._gathered_single(torch.stack(sources, -1))  # [pos, name]
        self.sets: TokenSets | None = None
        if tokens is not None:
            before = self._gathered_index(visible.query_indices)
            up_to = self._gathered_index(visible.query_indices + 1)
            self.sets = TokenSets(tokens[row], self.real, self.low, before, up_to, set(found.names))

    def _gathered_index(self, index: Tensor) -> Tensor:
        """How many real keys are before these key indices."""
        if self.visible.real_keys is None:
            return index
        real = self.visible.real_keys[self.row]
        before = torch.cat([real.new_zeros(1, dtype=torch.int64), real.cumsum(0)])
        return before[index]

    def _gathered_single(self, index: Tensor) -> Tensor:
        """Where these keys are among the gathered ones; -1 for those that are not."""
        if self.visible.real_keys is None:
            return index
        real = self.visible.real_keys[self.row]
        is_there = (index >= 0) & real[index.clamp(min=0)]
        return torch.where(is_there, self._gathered_index(index.clamp(min=0)), -1)

    def run(self) -> None:
        """Go over all destinations, in blocks that fit in the cache with the keys that they see."""
        n_queries = self.q.shape[2]
        most = _scores_of_block(self.device)
        # The bounds of blocks are read on the host: all of them at once.
        low, high = self.low.tolist(), self.high.tolist()
        scores = exponentials = self.keys.new_empty(0)
        start = 0
        while start < n_queries:
            stop = min(start + _MOST_QUERIES, n_queries)
            seen = max(high[stop - 1] - low[start], _TOP)
            n = max(most // (seen * self.group) // 16 * 16, 16)
            stop = min(start + n, stop)
            last = stop - 1
            block = _Block(self, start, stop, low[start], low[last], high[start], high[last])
            of_one = max(self.group * (stop - start) * block.width, 1)
            n_kv = min(max(most // of_one, 1), self.n_kv)
            if n_kv * of_one > scores.shape[0]:
                room = max(n_kv * of_one, min(most, self.n_kv * of_one))
                scores, exponentials = self.keys.new_empty(2, room)
            for kv in range(0, self.n_kv, n_kv):
                block.go_over(slice(kv, min(kv + n_kv, self.n_kv)), scores, exponentials)
            start = stop


class _Block:
    """Some destinations of a row and the range of keys that they see."""

    def __init__(
        self, row: _Row, start: int, stop: int, low: int, low_of_last: int, high_of_first: int,
        high: int,
    ) -> None:  # fmt: skip
        self.row, self.start, self.stop = row, start, stop
        self.first = low // _TOP * _TOP
        self.last = max(-(-high // _TOP) * _TOP, self.first)
        self.width = self.last - self.first
        keys = slice(self.first, self.last)
        places = row.key_places[keys]
        queries = slice(start, stop)
        # Key ranges in which some destination does not see some key, with what each sees there.
        self.edges: list[tuple[slice, Tensor]] = []
        ends = [(self.first, low_of_last), (high_of_first, self.last)]
        if low_of_last >= high_of_first:
            ends = [(self.first, self.last)]
        for begin, end in ends:
            if begin < end:
                at = torch.arange(begin, end, device=row.device)
                hidden = (at < row.low[queries, None]) | (at >= row.high[queries, None])
                self.edges.append((slice(begin - self.first, end - self.first), hidden))
        self.places = row.places[queries]
        self.distances = self._distances(places) if "mean_distance" in row.found.sums else []
        self.sets: dict[str, Members] = {}
        if row.sets is not None:
            self.sets = row.sets.within(queries, self.first, self.last)
        if row.single is not None and self.width:
            index = row.single[queries] - self.first
            self.absent = (index < 0) | (index >= self.width)
            self.single = index.clamp_(0, self.width - 1)

    def _distances(self, key_places: Tensor) -> list[tuple[slice, Tensor, Tensor | None]]:
        """Ranges of keys, and how far the block's destinations are from them.

        Keys before the block's first destination are so far from that, and it from the others: sums
        of numbers of one sign, so that small distances lose no digits far into a text. Keys after
        the last one likewise. Only those between need a distance for each pair.
        """
        row = self.row
        origins = row.places[self.start], row.places[self.stop - 1]
        between = (int(origins[0]) - self.first, int(origins[1]) + 1 - self.first)
        begin, end = (min(max(at, 0), self.width) for at in between)
        found: list[tuple[slice, Tensor, Tensor | None]] = []
        for keys, origin in ((slice(0, begin), origins[0]), (slice(end, self.width), origins[1])):
            if keys.start < keys.stop:
                found.append((keys, origin - key_places[keys], self.places - origin))
        if begin < end:
            found.append((slice(begin, end), self.places[:, None] - key_places[begin:end], None))
        return found

    def _add_distances(self, e: Tensor, to: Float[Tensor, "head pos"]) -> None:
        """Add Σ e_j (i - j)."""
        for keys, distance, to_origin in self.distances:
            part = e[..., keys]
            if to_origin is None:
                to += torch.linalg.vecdot(part, distance)
                continue
            # As one matrix, which a range of its columns is without a copy.
            to += torch.mv(part.flatten(0, 1), distance).view(to.shape)
            to += part.sum(-1).mul_(to_origin)

    def go_over(self, kv: slice, scores: Tensor, exponentials: Tensor) -> None:
        """Add up what these key/value heads' queries see; the two are room to work in."""
        row, found = self.row, self.row.found
        heads = slice(kv.start * row.group, kv.stop * row.group)
        n_kv, n = kv.stop - kv.start, self.stop - self.start
        at = (row.row, heads, slice(self.start, self.stop))
        if self.width == 0:
            found.largest[at], found.total[at] = 0.0, 0.0
            return
        q = row.q[kv, :, self.start : self.stop].flatten(1, 2).to(row.dtype)
        size = n_kv * row.group * n * self.width
        s = scores[:size].view(n_kv, row.group * n, self.width)
        torch.bmm(q, row.keys[kv, :, self.first : self.last], out=s)
        s = s.view(n_kv * row.group, n, self.width)
        self._finish_scores(s, heads)
        largest = self._largest(s, found.top_source, at)
        found.largest[at] = largest
        s.sub_(largest[..., None]).clamp_(min=_FAINTEST[row.dtype])
        sums = {name: x[at] for name, x in found.sums.items()}
        e = torch.exp(s, out=exponentials[:size].view(s.shape) if "entropy" in sums else s)
        for keys, hidden in self.edges:
            e[..., keys].masked_fill_(hidden, row.zero)
        total = e.sum(-1)
        found.total[at] = total
        if "mean_distance" in sums:
            self._add_distances(e, sums["mean_distance"])
        if row.single is not None:
            picked = e.gather(2, self.single.expand(e.shape[0], -1, -1))
            found.single[at] = picked.masked_fill_(self.absent, row.zero)
        for name, members in self.sets.items():
            members.add(e, sums[name])
        if "entropy" in sums:
            torch.sum(s.mul_(e), -1, out=sums["entropy"])

    def _finish_scores(self, s: Float[Tensor, "head pos key"], heads: slice) -> None:
        """Cap, position and mask, in place."""
        row, rule = self.row, self.row.rule
        if rule.soft_cap > 0:
            s.div_(rule.soft_cap).tanh_().mul_(rule.soft_cap)
        if rule.slopes is not None:
            places = row.key_places[self.first : self.last]
            distance = (self.places[:, None] - places).abs_()
            s.addcmul_(rule.slopes[heads, None, None].to(s), distance, value=-1.0)
        if rule.bias is not None:
            bias = rule.bias[
                row.row if rule.bias.shape[0] > 1 else 0, heads, self.start : self.stop
            ]
            end = min(self.last, row.n_real)
            if row.real is None:
                bias = bias[..., self.first : end]
            else:
                bias = bias.index_select(-1, row.real[self.first : end])
            s[..., : end - self.first].add_(bias.to(s)).clamp_(min=row.lowest)
        for keys, hidden in self.edges:
            s[..., keys].masked_fill_(hidden, row.lowest)

    def _largest(
        self,
        s: Float[Tensor, "head pos key"],
        top_source: Tensor | None,
        at: tuple[int, slice, slice],
    ) -> Float[Tensor, "head pos"]:
        """The largest score of each destination; where it is goes into `top_source`."""
        if top_source is None:
            return s.amax(-1)
        # The largest of each group of keys, the best group, and then the best key within it.
        by_group = s.view(-1, self.width // _TOP, _TOP)
        largest, group = by_group.amax(-1).max(-1)
        rows = torch.arange(by_group.shape[0], device=s.device)
        index = by_group[rows, group].max(-1).indices + group * _TOP + self.first
        if self.row.real is not None:
            index = self.row.real[index.clamp(max=self.row.n_real - 1)]
        top_source[at] = index.view(s.shape[:2])
        return largest.view(s.shape[:2])
