"""Runs worlds: each from the layer and position on where it departs from the base."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from interp.components.context import AttentionContext
from interp.hooks import HookPoint
from interp.patching.axes import Window, as_index, rows, window_for
from interp.patching.base import BaseRun
from interp.patching.entry import HEADS_WROTE, Entry, Stage, entry_of
from interp.patching.read_out import ReadOut, logits_of
from interp.patching.schedule import Batch, schedule
from interp.patching.worlds import Worlds
from interp.run.steps import embed_tokens

_SCORES = ("hook_attn_scores", "hook_pattern")


class Engine:
    """Runs some worlds of a base run.

    Args:
        run: The base, which has to be run, keeping what `needs` tells, before any world is.
        worlds: The worlds.
        read_out: What is read of them.
        max_bytes: About how much memory a batch may take.
    """

    def __init__(self, run: BaseRun, worlds: Worlds, read_out: ReadOut, max_bytes: int) -> None:
        self.run, self.worlds, self.read_out = run, worlds, read_out
        self.max_bytes = max_bytes
        self.entries = [entry_of(run.model, hook) for hook in worlds.hooks]
        self.end = read_out.end if self._may_end_early() else run.n_pos
        self._contexts: dict[tuple[int, int], dict[bool, AttentionContext]] = {}

    def _may_end_early(self) -> bool:
        """Whether what comes after the positions that are read has no part in any world."""
        positions = self.run.stack.pos_embed
        return (
            self.run.causal
            # A patched pattern may look ahead, and some rotations depend on the whole length.
            and not any(hook.endswith(_SCORES) for hook in self.worlds.hooks)
            and not positions.depends_on_length
        )

    def needs(self) -> tuple[set[int], set[str]]:
        """Which layers' streams, and which hooks, the base run has to keep."""
        layers, hooks = set(), set()
        for hook, (layer, stage) in zip(self.worlds.hooks, self.entries, strict=True):
            if stage in (Stage.STREAM, Stage.ATTENTION, Stage.SUBLAYERS):
                layers.add(layer)
            if stage is Stage.SUBLAYERS:
                hooks.add(self._resumed_at(hook))
        return layers, hooks

    def _resumed_at(self, hook: str) -> str:
        """The hook whose activations in the base a world goes on from."""
        blocks = f"{self.run.prefix}blocks."
        number, inside = hook.removeprefix(blocks).split(".", 1)
        return f"{blocks}{number}.{'attn.hook_z' if inside in HEADS_WROTE else 'hook_attn_out'}"

    @cached_property
    def batches(self) -> tuple[np.ndarray, list[Batch]]:
        """The worlds that are the base, and batches of all others."""
        run, worlds = self.run, self.worlds
        if len(worlds) == 0:
            return np.empty(0, dtype=np.int64), []
        layer = np.array([e.layer for e in self.entries])[worlds.hook_of]
        same = self._same_as_base(layer)
        numbers = np.flatnonzero(~same)
        first = worlds.first if self._runs_suffixes else np.zeros_like(worlds.first)
        batches = schedule(
            numbers,
            first[numbers],
            layer[numbers],
            run.n_layers,
            run.batch,
            self.end,
            run.model.W_E.device,
            self._bytes_per_row(),
            self._bytes_per_key(),
            self.max_bytes,
        )
        return np.flatnonzero(same), batches

    @property
    def _runs_suffixes(self) -> bool:
        return self.run.causal and not self.worlds.axes.of_source

    def _same_as_base(self, layer: np.ndarray) -> np.ndarray:
        """Whether nothing that is changed reaches what is read."""
        worlds, n_layers = self.worlds, self.run.n_layers
        if worlds.axes.of_source:
            return np.zeros(len(worlds), dtype=bool)
        same = worlds.first >= (self.read_out.end if self.run.causal else self.run.n_pos)
        if self.read_out.kept is not None:
            # Behind the last attention no position reads another.
            stage = np.array([e.stage for e in self.entries])[worlds.hook_of]
            alone = (layer == n_layers) & (stage == Stage.STREAM)
            alone |= (layer == n_layers - 1) & (stage == Stage.SUBLAYERS)
            unread = (worlds.only >= 0) & ~np.isin(worlds.only, self.read_out.kept)
            same |= alone & unread
        return same

    def _bytes_per_row(self) -> int:
        """About how much memory a position of a prompt takes in the widest place of a layer."""
        cfg = self.run.model.cfg
        mlp = 0 if cfg.attn_only else 3 * cfg.width_mlp * (cfg.num_experts or 1)
        heads = 2 * (cfg.n_heads + 2 * cfg.n_kv_heads) * cfg.d_head
        scores = 0
        if any(hook.endswith(_SCORES) for hook in self.worlds.hooks) or not cfg.can_fuse_attention:
            scores = 4 * cfg.n_heads * self.end
        wide = max(mlp, heads + scores)
        if any("_input" in hook or "attn_in" in hook for hook in self.worlds.hooks):
            wide = max(wide, 4 * cfg.n_heads * cfg.d_model)
        if any(e.stage is Stage.WHOLE or e.stage is Stage.READ_OUT for e in self.entries):
            wide = max(wide, 3 * cfg.d_vocab_out)
        return (4 * cfg.d_model + wide) * self.run.model.W_E.element_size()

    def _bytes_per_key(self) -> int:
        cfg = self.run.model.cfg
        return 2 * cfg.n_kv_heads * cfg.d_head * self.run.model.W_E.element_size()

    def run_all(
        self, base: Float[Tensor, "*batch"]
    ) -> Iterator[tuple[np.ndarray, Float[Tensor, "world *batch"]]]:
        """Worlds and their values, `[world, …]`, batch by batch; `base`: the base run's value."""
        same, batches = self.batches
        if len(same):
            yield same, base.expand(len(same), *base.shape)
        for batch in batches:
            yield self.values(batch)

    # --- one batch -------------------------------------------------------------------------------

    def values(self, batch: Batch) -> tuple[np.ndarray, Float[Tensor, "world *batch"]]:
        """The worlds of a batch in the order of their values, and these, `[world, …]`."""
        n_layers = self.run.n_layers
        window = Window(batch.start, self.end)
        last = window if self.read_out.kept is None else window.keeping(self.read_out.kept)
        hook_of = self.worlds.hook_of[batch.worlds]
        groups = [
            (entry, hook, batch.worlds[hook_of == i])
            for i, (entry, hook) in enumerate(zip(self.entries, self.worlds.hooks, strict=True))
        ]
        groups = sorted((g for g in groups if len(g[2])), key=lambda g: (g[0], g[1]))
        order = np.concatenate([worlds for _, _, worlds in groups])
        read = [g for g in groups if g[0].stage is Stage.READ_OUT]
        values = [self._read_out(hook, worlds) for _, hook, worlds in read]
        groups = groups[: len(groups) - len(read)]
        if groups:
            running = torch.empty(0)
            n = 0
            for layer in range(groups[0][0].layer, n_layers + 1):
                here = [g for g in groups if g[0].layer == layer]
                at = last if layer == n_layers else window
                streams = [g for g in here if g[0].stage < Stage.ATTENTION]
                residuals = [self._stream(*g, at) for g in streams]
                running = _joined([running] if n else [], residuals)
                n += sum(len(g[2]) for g in streams)
                if layer == n_layers:
                    break
                inside = [g for g in here if g[0].stage >= Stage.ATTENTION]
                behind = last if layer == n_layers - 1 else window
                residuals = [self._through_block(*g, window, behind) for g in inside]
                if n:
                    running = self._block(layer, running, n, window, behind)
                running = _joined([running] if n else [], residuals)
                n += sum(len(g[2]) for g in inside)
            values.insert(0, self.read_out.worlds(running, n, last))
        return order, values[0] if len(values) == 1 else torch.cat(values)

    def _block(
        self, layer: int, residual: Tensor, n: int, window: Window, behind: Window, hook: str = ""
    ) -> Tensor:
        """The stream behind a layer, of `n` worlds, at the positions of `behind`."""
        run = self.run
        block: Any = run.stack.blocks[layer]
        plan = run.plan(frozenset({hook}) if hook else frozenset())
        keep = None
        if behind is not window:
            places = window.places(np.array(behind.kept))
            keep = as_index(places, residual.device)
        return block(
            residual,
            plan.blocks[layer],
            self._context(n, window, residual)[bool(block.local)],
            run.past(layer, n, window),
            run.source(n, behind.length),
            keep,
        )

    def _context(self, n: int, window: Window, like: Tensor) -> dict[bool, AttentionContext]:
        key = (n if self.run.contexts_depend_on_rows else 0, window.start)
        if key not in self._contexts:
            self._contexts = {key: self.run.contexts(n, window, like)}
        return self._contexts[key]

    # --- worlds that enter -----------------------------------------------------------------------

    def _stream(self, entry: Entry, hook: str, worlds: np.ndarray, window: Window) -> Tensor:
        """The residual stream that worlds enter a layer with."""
        run, n = self.run, len(worlds)
        if entry.stage is Stage.STREAM:
            return self._patched(run.streams[entry.layer], hook, worlds, window)
        whole = Window(0, run.n_pos)
        if entry.stage is Stage.EMBEDDING:
            with self._writing(hook, worlds, whole):
                plan = run.plan(frozenset({hook}))
                given = run.repeated_given(n)
                residual, _ = embed_tokens(run.stack, given, run.model.embed, plan)
        else:
            with self._writing(hook, worlds, whole):
                inputs = run.repeated_inputs(n)
                residual = run.model(**inputs, stop_at_layer=run.n_layers)
        return window.cut(residual, 1)

    def _patched(self, base: Tensor, hook: str, worlds: np.ndarray, window: Window) -> Tensor:
        """The base's activation with what is changed in these worlds."""
        n = len(worlds)
        cut = window.cut(base, 1)
        x = cut.expand(n, *cut.shape).clone(memory_format=torch.contiguous_format)
        self.worlds.write(hook, x, worlds, window)
        return x.flatten(0, 1)

    def _through_block(
        self, entry: Entry, hook: str, worlds: np.ndarray, window: Window, behind: Window
    ) -> Tensor:
        """The stream behind the layer that worlds enter inside."""
        run, n, layer = self.run, len(worlds), entry.layer
        resid_pre = run.streams[layer]
        if entry.stage is Stage.ATTENTION:
            with self._writing(hook, worlds, window):
                residual = rows(window.cut(resid_pre, 1), n)
                return self._block(layer, residual, n, window, behind, hook)
        block: Any = run.stack.blocks[layer]
        plan = run.plan(frozenset({hook})).blocks[layer]
        past, source = run.past(layer, n, window), run.source(n, behind.length)
        residual = rows(behind.cut(resid_pre, 1), n)
        resumed_at = self._resumed_at(hook)
        before = run.recorded[resumed_at]
        if resumed_at.endswith("hook_z"):
            attn_out = block.added_by_heads(
                self._heads_wrote(block, before, hook, worlds, behind), plan
            )
            return block.after_attention(residual, attn_out, plan, past, source)
        with self._writing(hook, worlds, behind):
            attn_out = rows(behind.cut(before, 1), n)
            return block.after_attention(residual, attn_out, plan, past, source)

    def _heads_wrote(
        self, block: Any, z: Tensor, hook: str, worlds: np.ndarray, window: Window
    ) -> Float[Tensor, "row pos d_model"]:
        """What the heads write together, with z or each one's result changed."""
        attn = block.attn
        if hook.endswith("hook_z"):
            z = self._patched(z, hook, worlds, window)
            return F.linear(z.flatten(2), attn.W_O.flatten(0, 1).T, attn.b_O)
        result = self._patched(attn.head_results(z), hook, worlds, window)
        return result.sum(-2) + attn.b_O

    def _read_out(self, hook: str, worlds: np.ndarray) -> Tensor:
        """The values of worlds that are changed behind the last layer."""
        run, n = self.run, len(worlds)
        with self._writing(hook, worlds, Window(0, run.n_pos)):
            residual = rows(run.streams[run.n_layers], n)
            logits = logits_of(run, residual, n, run.plan(frozenset({hook})))
        return self.read_out.of_logits(logits, n)

    @contextmanager
    def _writing(self, hook: str, worlds: np.ndarray, window: Window) -> Iterator[None]:
        """The hook writes these worlds' activations, for as long as this lasts."""
        axes = self.worlds.axes
        length = self.run.n_source if axes.of_source else self.run.n_pos
        window = window_for(axes, window, length)
        fired = False

        def write(x: Tensor, hook: HookPoint) -> None:
            nonlocal fired
            fired = True
            assert hook.name is not None
            self.worlds.write(hook.name, x.unflatten(0, (len(worlds), -1)), worlds, window)

        with attached(self.run.model.hook_dict[hook], write):
            yield
        assert fired, f"{hook} did not fire"


@contextmanager
def attached(point: HookPoint, function: Callable[..., Any]) -> Iterator[None]:
    """A hook for as long as this lasts."""
    handle = point.add_hook(function)
    try:
        yield
    finally:
        point.detach(handle)


def _joined(running: list[Tensor], entering: list[Tensor]) -> Tensor:
    both = running + entering
    return both[0] if len(both) == 1 else torch.cat(both) if both else torch.empty(0)
