"""A shard's rows from a model and tokens: the same bits whoever makes it, and when."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Int64, Shaped
from torch import Tensor

from interp.devices.parsing import dtype_name
from interp.errors import InputError, InterpError, require
from interp.harvest.corpus import TokenBlock, TokenStore
from interp.harvest.manifest import STORED_DTYPES, HookSpec, Manifest
from interp.harvest.selection import chosen_rows
from interp.harvest.settings import HarvestSettings
from interp.run.recording import SCORE_HOOKS, dtype_kept, position_axis

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


class UnstorableError(InterpError, ArithmeticError):
    """A model computed NaN or infinity, or more than the dtype of a dataset can hold."""


@dataclass(frozen=True)
class MadeShard:
    """A shard in memory.

    Attributes:
        shard: Its number.
        hooks: Hook name → its rows `[row, ...]`, in main memory.
        index: The columns `INDEX_COLUMNS` of `interp.harvest.shard_files`, each `[row]`.
    """

    shard: int
    hooks: Mapping[str, Shaped[Tensor, "row ..."]]
    index: Mapping[str, Int64[Tensor, "row"]]


def hook_specs(
    model: HookedTransformer, tokens: TokenStore, hooks: Iterable[str], dtype: torch.dtype | None
) -> dict[str, HookSpec]:
    """How the rows of hooks are stored, told by running one sequence.

    Args:
        model: With one stack.
        tokens: What it will read.
        hooks: Names and globs. Hooks of a glob that this model never reaches are left out.
        dtype: What floating-point hooks are stored as. None: as computed.

    Raises:
        InputError: for a name or glob that fits no hook, a hook that is never reached, and one
            that has no value per token.
    """
    block = tokens.read(0, 1)
    found = _run(model, block, list(hooks))
    specs: dict[str, HookSpec] = {}
    for name, tensor in found.items():
        rows = _by_token(name, tensor, 1, tokens.length)
        stored = dtype_kept(rows, dtype)
        require(stored in STORED_DTYPES.values(), f"{name} is {stored}, which no dataset can hold")
        specs[name] = HookSpec(tuple(rows.shape[2:]), stored)
    require(bool(specs), f"hooks must be reached by a run. None of {list(hooks)!r} is")
    order = [name for name in model.hook_dict if name in specs]
    return {name: specs[name] for name in order}


def make_shard(
    model: HookedTransformer, tokens: TokenStore, manifest: Manifest, shard: int
) -> MadeShard:
    """Run a shard's sequences and gather their rows.

    Args:
        model: The manifest's.
        tokens: The manifest's.
        manifest: What to make.
        shard: Which.

    Raises:
        UnstorableError: naming the hook, if it is NaN or infinite anywhere (masked attention scores
            are -inf and may be), or larger than the dtype can hold.
    """
    settings, sequences = manifest.settings, manifest.plan.sequences(shard)
    block = tokens.read(sequences.start, sequences.stop)
    chosen = chosen_rows(block, sequences.start, settings)
    on_gpu = any(p.is_cuda for p in model.parameters())
    rows = _Rows(manifest.hooks, int(chosen.sum()), on_gpu)
    for batch in manifest.plan.batches(shard):
        here = slice(batch.start - sequences.start, batch.stop - sequences.start)
        if chosen[here].any():
            longest = _longest(model, _part(block, here), settings)
            found = _run(model, _part(block, here, longest), list(settings.hooks))
            rows.add(found, chosen[here, :longest])
    return MadeShard(shard, rows.finish(shard), _index(block, chosen, sequences.start))


@torch.inference_mode()
def _run(model: HookedTransformer, block: TokenBlock, hooks: list[str]) -> dict[str, Tensor]:
    """What the hooks see; no layer runs after the last of them."""
    mask = block.real
    if mask is None and model.cfg.attention_dir != "causal":
        # Otherwise the model would take pad tokens inside the text for padding.
        mask = torch.ones_like(block.tokens, dtype=torch.bool)
    _, found = model.record(
        block.tokens,
        return_type=None,
        names_filter=hooks,
        padding_side="right",
        attention_mask=None if mask is None else mask.long(),
    )
    return found


def _part(block: TokenBlock, rows: slice, length: int | None = None) -> TokenBlock:
    """Some sequences of a block, or their first tokens."""
    real = None if block.real is None else block.real[rows, :length]
    return TokenBlock(
        tokens=block.tokens[rows, :length],
        real=None if real is None or real.all() else real,
        document=block.document[rows, :length],
        document_position=block.document_position[rows, :length],
    )


def _longest(model: HookedTransformer, block: TokenBlock, settings: HarvestSettings) -> int:
    """How many positions of a padded batch have to be run: up to its longest sequence's end."""
    length = block.tokens.shape[1]
    needs_all = any(name.endswith(SCORE_HOOKS) for name in settings.hooks)
    if block.real is None or needs_all or model.pos_embed.depends_on_length:
        return length
    return int(block.real.any(0).nonzero().max()) + 1


def _by_token(name: str, tensor: Tensor, batch: int, pos: int) -> Shaped[Tensor, "batch pos ..."]:
    """A hook's tensor with what belongs to a token behind the first two axes."""
    axis = position_axis(name, tensor)
    if axis is None:
        raise InputError(
            f"a hook must have a value for every token. {name} {tuple(tensor.shape)} has none."
        )
    moved = tensor.movedim(axis, 1)
    try:
        return moved.expand(batch, pos, *moved.shape[2:])  # some are the same everywhere
    except RuntimeError as fault:
        raise InputError(
            f"a hook must have a value for every token of {batch} × {pos}. "
            f"{name} is {tuple(tensor.shape)}."
        ) from fault


def _index(
    block: TokenBlock, chosen: Bool[Tensor, "sequence pos"], first: int
) -> dict[str, Int64[Tensor, "row"]]:
    sequence, position = chosen.nonzero(as_tuple=True)
    return {
        "document": block.document[chosen].long(),
        "document_position": block.document_position[chosen].long(),
        "sequence": sequence + first,
        "position": position,
        "token": block.tokens[chosen].long(),
    }


class _Rows:
    """The rows of a shard, filled batch by batch; each value is copied once, as it is stored."""

    def __init__(self, hooks: Mapping[str, HookSpec], n_rows: int, on_gpu: bool) -> None:
        self.n_filled = 0
        # From a GPU into page-locked memory: such copies do not hold up the model.
        self.rows = {
            name: torch.empty(n_rows, *spec.shape, dtype=spec.dtype, pin_memory=on_gpu)
            for name, spec in hooks.items()
        }
        self.gpus: set[torch.device] = set()
        self.peaks: dict[str, Tensor] = {}

    @torch.inference_mode()
    def add(self, found: Mapping[str, Tensor], chosen: Bool[Tensor, "batch pos"]) -> None:
        """Add the chosen tokens of one batch."""
        n_chosen = int(chosen.sum())
        places = chosen.nonzero(as_tuple=True)
        for name, rows in self.rows.items():
            target = rows[self.n_filled : self.n_filled + n_chosen]
            values = _by_token(name, found[name], *chosen.shape)
            if n_chosen < chosen.numel():
                values = values[tuple(axis.to(values.device) for axis in places)]
            else:
                target = target.unflatten(0, chosen.shape)
            if values.is_floating_point():
                self._note_peak(name, values)
            if values.is_cuda:
                self.gpus.add(values.device)
                target.copy_(values.to(target.dtype), non_blocking=True)
            else:
                target.copy_(values)
        self.n_filled += n_chosen

    def _note_peak(self, name: str, values: Tensor) -> None:
        if name.endswith("hook_attn_scores"):
            values = values.masked_fill(values == -torch.inf, 0.0)
        low, high = values.aminmax()
        peak = torch.maximum(-low, high)
        before = self.peaks.get(name)
        self.peaks[name] = peak if before is None else torch.maximum(before, peak)

    def finish(self, shard: int) -> dict[str, Tensor]:
        """The rows, complete and checked."""
        for device in self.gpus:
            torch.cuda.synchronize(device)
        for name, peak in self.peaks.items():
            _check_peak(name, float(peak), self.rows[name].dtype, shard)
        return self.rows


def _check_peak(name: str, peak: float, dtype: torch.dtype, shard: int) -> None:
    if not math.isfinite(peak):
        what = "NaN" if math.isnan(peak) else "infinity"
        raise UnstorableError(f"the model computed {what} at {name}, in shard {shard}.")
    if torch.tensor(peak, dtype=torch.float64).to(dtype).isinf():
        raise UnstorableError(
            f"{name} reaches {peak:.6g} in shard {shard}. {dtype_name(dtype)} holds at most "
            f"{torch.finfo(dtype).max:.6g}: store it as bfloat16 or float32."
        )
