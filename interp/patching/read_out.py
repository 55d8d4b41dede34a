"""From the last residual stream of worlds to the values of a metric."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import InputError, require
from interp.patching.axes import Window, as_index, rows
from interp.patching.base import BaseRun
from interp.patching.lazy_logits import LazyLogits
from interp.patching.metrics import Metric
from interp.precision import wide
from interp.run.plan import RunPlan

LogitsFunction = Callable[[Float[Tensor, "batch *pos d_vocab"]], Any]


class ReadOut(ABC):
    """Gives the values of worlds.

    Attributes:
        end: One past the last position that has to be run.
        kept: Positions whose residual stream is read; None: all.
    """

    end: int
    kept: list[int] | None = None

    @abstractmethod
    def base(self) -> Float[Tensor, "*batch"]:
        """The value of the base run."""

    @abstractmethod
    def worlds(
        self, residual: Float[Tensor, "row pos d_model"], n: int, window: Window
    ) -> Float[Tensor, "world *batch"]:
        """`[world, …]`, from the residual stream at a window of their positions."""

    @abstractmethod
    def of_logits(
        self, logits: Float[Tensor, "row *pos d_vocab"], n: int
    ) -> Float[Tensor, "world *batch"]:
        """`[world, …]`, from the logits of whole worlds."""


class MetricReadOut(ReadOut):
    """Reads what a `Metric` reads, and values are `[world, batch]`."""

    def __init__(self, run: BaseRun, metric: Metric, max_bytes: int) -> None:
        given, cfg = run.given, run.model.cfg
        self.run, self.max_bytes = run, max_bytes
        self.pools = cfg.classifies
        mask = None if self.pools else given.attention_mask
        self.metric = metric.prepared(given.tokens, mask)
        n_pos = 1 if self.pools else run.n_pos
        self.metric.check(run.batch, n_pos, cfg.d_vocab_out)
        reads = self.metric.reads(run.batch, n_pos, mask)
        self.reads = reads.to(run.model.W_E.device)
        by_prompt = reads.tolist()
        self.end = run.n_pos
        if not self.pools:
            self.kept = sorted({p for row in by_prompt for p in row})
            self.end = self.kept[-1] + 1
        # Of each position read: the last place where any prompt has it.
        self.latest = [max(column) for column in zip(*by_prompt, strict=True)]
        self.same_in_all = all(row == by_prompt[0] for row in by_prompt)
        self.read_first = by_prompt[0]
        self._columns = self._weights_read()
        self._base_terms: Tensor | None = None

    def _weights_read(self) -> tuple[Tensor, Tensor]:
        """W_U `[batch or 1, d_model, column]` and b_U `[batch or 1, 1, column]`, fp32 or more."""
        unembed = self.run.model.unembed
        W, b = unembed.W_U.detach(), unembed.b_U.detach()
        columns = self.metric.columns
        if columns is None:
            return wide(W)[None], wide(b)[None, None]
        columns = columns.to(W.device)
        return wide(W.T[columns].mT), wide(b[columns])[:, None]

    def base(self) -> Float[Tensor, "batch"]:
        """The value of the base run."""
        run = self.run
        residual = run.streams[run.n_layers]
        window = Window(0, run.n_pos)
        self._base_terms = self._terms(residual, 1, window)
        return self.metric.total(self._base_terms)[0]

    def worlds(
        self, residual: Float[Tensor, "row pos d_model"], n: int, window: Window
    ) -> Float[Tensor, "world batch"]:
        """The values of these worlds."""
        return self.metric.total(self._terms(residual, n, window))

    def _terms(
        self, residual: Float[Tensor, "row pos d_model"], n: int, window: Window
    ) -> Float[Tensor, "world batch read"]:
        if self.pools:
            logits = self._pooled(residual, n)
            return self.metric.terms(self.metric.pick(logits), slice(None))
        start = window.start
        which = [i for i, p in enumerate(self.latest) if p >= start]
        x = residual.unflatten(0, (n, -1))
        size = self.run.batch * self._columns[0].shape[-1] * 16  # of one position's logits
        found = []
        for part in _parts(which, max(self.max_bytes // (size * n), 1)):
            several = x.split(max(self.max_bytes // size, 1))
            pieces = [self._terms_at(piece, part, window) for piece in several]
            found.append((part, pieces[0] if len(pieces) == 1 else torch.cat(pieces)))
        if len(which) == len(self.latest) and (start == 0 or self.same_in_all):
            return found[0][1] if len(found) == 1 else torch.cat([t for _, t in found], -1)
        assert self._base_terms is not None
        terms = self._base_terms.repeat(n, 1, 1)
        for part, values in found:
            if not self.same_in_all:
                # A prompt that is read before what was run has the base's value there.
                values = torch.where(self.reads[:, part] >= start, values, terms[..., part])
            terms[..., part] = values
        return terms

    def _terms_at(
        self, x: Float[Tensor, "world batch pos d_model"], reads: slice, window: Window
    ) -> Float[Tensor, "world batch read"]:
        """Of these of the positions read."""
        if self.same_in_all:
            at = window.places(np.array(self.read_first[reads], dtype=np.int64))
            if at.tolist() != list(range(window.length)):
                x = x.index_select(2, as_index(at, x.device))
        else:
            places = self.reads[:, reads].clamp(min=window.start)
            if window.kept is None:
                places = places - window.start
            else:
                places = torch.searchsorted(as_index(window.kept, x.device), places)
                places = places.clamp(max=window.length - 1)
            x = x.gather(2, places[None, ..., None].expand(x.shape[0], -1, -1, x.shape[-1]))
        return self.metric.terms(self._logits(x), reads)

    def _logits(
        self, x: Float[Tensor, "world batch read d_model"]
    ) -> Float[Tensor, "world batch read column"]:
        run, cfg = self.run, self.run.model.cfg
        x = run.stack.ln_final(x, False)
        if cfg.head == "mlm":
            x = run.model.mlm_head(x, False)
        W, b = self._columns
        x = wide(x)
        if cfg.logit_scale != 1.0:
            x = x * cfg.logit_scale
        if W.shape[0] == 1:
            logits = x @ W[0] + b
        else:
            # [batch, world * read, d_model] @ [batch, d_model, column]
            by_prompt = x.transpose(0, 1)
            logits = by_prompt.flatten(1, 2) @ W
            logits = logits.unflatten(1, by_prompt.shape[1:3]).transpose(0, 1) + b
        cap = cfg.output_logits_soft_cap
        return cap * torch.tanh(logits / cap) if cap > 0 else logits

    def _pooled(self, residual: Tensor, n: int) -> Float[Tensor, "world batch 1 d_vocab"]:
        return logits_of(self.run, residual, n).unflatten(0, (n, -1))[:, :, None]

    def of_logits(
        self, logits: Float[Tensor, "row *pos d_vocab"], n: int
    ) -> Float[Tensor, "world batch"]:
        """The values of these worlds."""
        logits = logits.unflatten(0, (n, -1))
        if self.pools:
            logits = logits[:, :, None]
        index = self.reads[None, ..., None].expand(n, -1, -1, logits.shape[-1])
        terms = self.metric.terms(self.metric.pick(logits.gather(2, index)), slice(None))
        return self.metric.total(terms)


class FunctionReadOut(ReadOut):
    """Hands a function the full logits of one world after the other.

    What it gives, a number or one per prompt, is the value of the world. Logits at positions that
    the function does not look at are not computed, and those at others for many worlds at once.
    """

    def __init__(self, run: BaseRun, function: LogitsFunction, max_bytes: int) -> None:
        self.run, self.function, self.end = run, function, run.n_pos
        self.max_bytes = max_bytes
        self._base: Tensor | None = None

    def base(self) -> Float[Tensor, "*batch"]:
        """The value of the base run."""
        self._base = logits_of(self.run, self.run.streams[self.run.n_layers], 1)
        return self._value(self._base.clone())  # the function may write into it

    def worlds(
        self, residual: Float[Tensor, "row pos d_model"], n: int, window: Window
    ) -> Float[Tensor, "world *batch"]:
        """The values of these worlds."""
        base = self._base
        assert base is not None
        if base.ndim == 2:  # a classifier's
            return self.of_logits(logits_of(self.run, residual, n), n)
        logits = _ManyLogits(self.run, residual.unflatten(0, (n, -1)), base, window, self.max_bytes)
        values = []
        for world in range(n):
            lazy = LazyLogits.make(partial(logits.at, world), base.shape, base)
            values.append(self._value(lazy))
        return torch.stack(values)

    def of_logits(
        self, logits: Float[Tensor, "row *pos d_vocab"], n: int
    ) -> Float[Tensor, "world *batch"]:
        """The values of these worlds."""
        return torch.stack([self._value(one) for one in logits.unflatten(0, (n, -1))])

    def _value(self, logits: Tensor) -> Tensor:
        given, batch = self.function(logits), self.run.batch
        rule = f"a metric must give a number, or one per prompt ({batch}). Received"
        try:
            found = torch.as_tensor(given, device=logits.device).detach()
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{rule} {given!r}.") from error
        require(found.ndim == 0 or found.shape == (batch,), f"{rule} {tuple(found.shape)}")
        return wide(found) if found.is_floating_point() else found.float()


class _ManyLogits:
    """Logits of worlds, computed for some worlds ahead at the positions that one is asked for."""

    def __init__(
        self,
        run: BaseRun,
        residual: Float[Tensor, "world batch pos d_model"],
        base: Float[Tensor, "batch pos d_vocab"],
        window: Window,
        max_bytes: int,
    ) -> None:
        self.run, self.residual, self.base = run, residual, base
        self.window, self.max_bytes = window, max_bytes
        self._kept: dict[tuple[int, ...], tuple[int, Tensor]] = {}

    def at(self, world: int, positions: tuple[int, ...]) -> Float[Tensor, "batch read d_vocab"]:
        """Those of one world at these positions."""
        start = self.window.start
        run = tuple(p for p in positions if p >= start)
        if not run:
            return self._of_base(positions)
        found = self._ahead(world, run)
        if len(run) == len(positions):
            return found.clone()  # the function may write into it
        logits = self._of_base(positions)
        logits[:, len(positions) - len(run) :] = found
        return logits

    def _of_base(self, positions: tuple[int, ...]) -> Tensor:
        return self.base.index_select(1, as_index(positions, self.base.device))

    def _ahead(self, world: int, positions: tuple[int, ...]) -> Tensor:
        first, logits = self._kept.get(positions, (0, self.residual[:0]))
        if not first <= world < first + len(logits):
            batch, _, d_vocab = self.base.shape
            size = batch * len(positions) * d_vocab * self.base.element_size() * 2
            several = self.residual[world : world + max(self.max_bytes // size, 1)]
            if positions != tuple(range(self.window.start, self.window.end)):
                places = self.window.places(np.array(positions))
                several = several.index_select(2, as_index(places, several.device))
            n = len(several)
            logits = logits_of(self.run, several.flatten(0, 1), n).unflatten(0, (n, -1))
            self._kept = {positions: (world, logits)}
            first = world
        return logits[world - first]


def make_read_out(run: BaseRun, metric: Metric | LogitsFunction, max_bytes: int) -> ReadOut:
    """What reads for a metric.

    Raises:
        InputError: for something else than a metric or a function, or one that does not fit.
    """
    if isinstance(metric, Metric):
        return MetricReadOut(run, metric, max_bytes)
    if not callable(metric):
        raise InputError(f"metric must be a Metric or a function of logits. Received {metric!r}.")
    return FunctionReadOut(run, metric, max_bytes)


def logits_of(
    run: BaseRun, residual: Float[Tensor, "row pos d_model"], n: int, plan: RunPlan | None = None
) -> Float[Tensor, "row *pos d_vocab"]:
    """All logits, as the model gives them; `plan` says which norms' hooks are watched."""
    model, cfg = run.model, run.model.cfg
    explicit = frozenset() if plan is None else plan.explicit_norms
    x = run.stack.ln_final(residual, "ln_final" in explicit)
    if cfg.head == "mlm":
        x = model.mlm_head(x, "mlm_head.ln" in explicit)
    elif cfg.classifies:
        real = run.given.real_keys
        x = model.pooler(x, None if real is None else rows(real, n))
    logits = model.unembed(x)
    cap = cfg.output_logits_soft_cap
    return cap * torch.tanh(logits / cap) if cap > 0 else logits


def _parts(which: list[int], longest: int) -> list[slice]:
    """Runs of neighbouring numbers, none longer than this."""
    parts: list[slice] = []
    for i in which:
        if parts and parts[-1].stop == i and i - parts[-1].start < longest:
            parts[-1] = slice(parts[-1].start, i + 1)
        else:
            parts.append(slice(i, i + 1))
    return parts
