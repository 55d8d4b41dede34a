"""Attribution patching: a first-order estimate of activation patching, of every place at once.

To first order a metric changes by (source − base) · ∂ metric / ∂ activation when an activation of
the base run is replaced by that of a source run (Nanda 2023, Attribution Patching: Activation
Patching At Industrial Scale). One forward and one backward pass give that for all places of a
model, where patching takes a run for each. It is exact where the metric is linear in what is
patched; it misses what lies further away, such as attention that is saturated in the base run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.attribution.gradients import traced
from interp.errors import InputError, require
from interp.patching.axes import as_index
from interp.patching.base import BaseRun
from interp.patching.grids import Grid, Sites
from interp.patching.grids import sites as make_sites
from interp.patching.metrics import Metric
from interp.patching.read_out import LogitsFunction
from interp.patching.sweeps import Source, SweepResult, activation_in
from interp.precision import wide

if TYPE_CHECKING:
    import pandas as pd

    from interp.tokenization.text import TextInput
    from interp.transformer import HookedTransformer

_GRID_ORDER = ("pos", "head", "src_pos")


@dataclass(frozen=True)
class Estimate:
    """About how much the metric would change if each place were patched by itself.

    It lies beside `patching.SweepResult`: the same axes and labels, and `values` beside its values.

    Attributes:
        change: Of the metric, estimated: `[*grid, batch]`, or `[*grid]` where the metric gave one
            number for all prompts.
        base: The metric of the run without a patch, `[batch]` or a scalar. Not estimated.
        axis_names: The names of the grid's axes.
        labels: For each of them, the layers, positions, heads or entries along it.
        signed: Whether `change` has a sign. GradDrop gives its absolute value alone.
    """

    change: Float[Tensor, "*grid_and_batch"]
    base: Float[Tensor, "*batch"]
    axis_names: tuple[str, ...]
    labels: tuple[tuple[int, ...], ...]
    signed: bool = True

    @property
    def values(self) -> Float[Tensor, "*grid_and_batch"]:
        """What the metric would be after each patch, estimated: `base + change`.

        Raises:
            InputError: if `change` has no sign.
        """
        require(self.signed, "an estimate by GradDrop has no sign, so values cannot be told")
        return self.base + self.change

    def mean(self) -> Float[Tensor, "*grid"]:
        """The mean change over prompts, `[*grid]`."""
        by_prompt = self.change.ndim > len(self.axis_names)
        return self.change.mean(-1) if by_prompt else self.change

    def to_frame(self) -> pd.DataFrame:
        """One row for each place and prompt: the grid's axes, `prompt`, `estimate`."""
        laid = SweepResult(self.change, self.base, self.axis_names, self.labels)
        return laid.to_frame().rename(columns={"value": "estimate"})


def estimate(
    model: HookedTransformer,
    tokens: TextInput | Int[Tensor, "batch pos"],
    source: Source,
    sites: Sites | str,
    metric: Metric | LogitsFunction,
    attention_mask: Int[Tensor, "batch pos"] | None = None,
    decoder_input: TextInput | Int[Tensor, "batch pos"] | None = None,
    decoder_attention_mask: Int[Tensor, "batch pos"] | None = None,
    token_type_ids: Int[Tensor, "batch pos"] | None = None,
    entries: bool = False,
) -> Estimate:
    """Estimate what `patching.sweep` with the same arguments would find, by one backward pass.

    So with corrupted prompts and a clean `source` it estimates denoising, and the gradients are
    those of the corrupted run.

    Args:
        model: The model.
        tokens: The prompts that are run.
        source: What would be put in, as in `sweep`: activations by hook name, or a number.
        sites: Where: what `patching.sites` gives, or its `name`: `resid_pre`, `z`, `mlp_out`, `q`,
            `pattern`, `mlp.hook_post` …
        metric: A `Metric`, or a function of full logits that can be differentiated.
        attention_mask, decoder_input, decoder_attention_mask, token_type_ids: As in `sweep`.
        entries: Estimate every entry of the tensors' last axis by itself too: the neurons of
            `mlp.hook_post`. It becomes the grid's last axis, `entry`.

    Raises:
        InputError: as `sweep` and `run_with_gradients`, for scores that are masked in one of the
            two runs alone, and for `entries` of a hook without such an axis.
    """
    inputs = (tokens, attention_mask, decoder_input, decoder_attention_mask, token_type_ids)
    several = {"": as_sites(model, sites)}
    return _estimates(model, inputs, source, several, metric, entries)[""]


def estimate_several(
    model: HookedTransformer,
    tokens: TextInput | Int[Tensor, "batch pos"],
    source: Source,
    sites: Mapping[str, Sites | str] | Sequence[str],
    metric: Metric | LogitsFunction,
    attention_mask: Int[Tensor, "batch pos"] | None = None,
    decoder_input: TextInput | Int[Tensor, "batch pos"] | None = None,
    decoder_attention_mask: Int[Tensor, "batch pos"] | None = None,
    token_type_ids: Int[Tensor, "batch pos"] | None = None,
) -> dict[str, Estimate]:
    """`estimate` for several kinds of sites, all from one forward and one backward pass.

    Args:
        sites: By names of one's own; or names of hooks, such as `["z", "mlp_out"]`.
        model, tokens, source, metric: As in `estimate`, and so all others.

    Returns:
        Name → estimate.

    Raises:
        InputError: for no sites, and as `estimate`.
    """
    inputs = (tokens, attention_mask, decoder_input, decoder_attention_mask, token_type_ids)
    require(
        not isinstance(sites, str) and len(sites) > 0,
        f"sites must be a list of names, one at least, or a mapping. Received {sites!r}",
    )
    named = sites if isinstance(sites, Mapping) else {name: name for name in sites}
    several = {name: as_sites(model, given) for name, given in named.items()}
    return _estimates(model, inputs, source, several, metric)


def _estimates(
    model: HookedTransformer,
    inputs: tuple[Any, ...],
    source: Source,
    several: Mapping[str, Sites],
    metric: Metric | LogitsFunction,
    entries: bool = False,
) -> dict[str, Estimate]:
    hooks = [hook for sites in several.values() for hook in sites.hooks]
    with traced(model, inputs, hooks, metric) as trace, torch.no_grad():
        base, gradients = trace.activations, trace.gradients()
        return {
            name: Places(sites, trace.run, entries).estimate(
                (
                    difference(put_in(source, trace.run, sites, hook), base[hook], hook)
                    * wide(gradients[hook])
                    for hook in sites.hooks
                ),
                trace.value,
            )
            for name, sites in several.items()
        }


def as_sites(model: HookedTransformer, given: Sites | str) -> Sites:
    """Sites as they are, or those of a name.

    Raises:
        InputError: for anything else.
    """
    found = make_sites(model, given) if isinstance(given, str) else given
    if not isinstance(found, Sites):
        raise InputError(f"sites must be what patching.sites gives. Received {given!r}.")
    require(bool(found.hooks), "an estimate needs a layer at least. Received sites without any")
    return found


def put_in(
    source: Source, run: BaseRun, sites: Sites, hook: str
) -> Float[Tensor, "batch_or_1 ..."] | float:
    """What is put in at a hook, where the model is.

    Raises:
        InputError: as `sweep`, for a source that lacks it or does not fit.
    """
    if isinstance(source, Real) and not isinstance(source, bool):
        return float(source)
    found = activation_in(source, run, sites, hook)
    return found.to(run.model.W_E.device)


def difference(
    source: Float[Tensor, "batch_or_1 ..."] | float, base: Float[Tensor, "batch ..."], hook: str
) -> Float[Tensor, "batch ..."]:
    """source − base in at least fp32; 0 where both are a masked score, −inf.

    Raises:
        InputError: where only one is.
    """
    change = wide(source - base)
    if hook.endswith("hook_attn_scores"):
        masked = base == -torch.inf
        change = change.masked_fill(masked & (source == base), 0.0)
        require(
            bool(change.isfinite().all()),
            "masked scores have an estimate where the source's are the same ones. Received others "
            f"at {hook}: take the pattern instead",
        )
    return change


class Places:
    """The places of `Sites` in a run: from tensors at the hooks to the entries of the grid.

    Args:
        sites: The places.
        run: What is run.
        entries: Whether the last axis, behind those of the sites, is kept too.

    Raises:
        InputError: for a place that is not there.
    """

    def __init__(self, sites: Sites, run: BaseRun, entries: bool = False) -> None:
        self.sites, self.entries = sites, entries
        self.grid: Grid = sites.grid(run.n_pos, run.n_source)

    def estimate(
        self, products: Iterable[Float[Tensor, "batch *axes"]], value: Float[Tensor, "*batch"]
    ) -> Estimate:
        """What the estimates of single entries, a tensor for each hook, make of each place."""
        change = self.lay_out(products, by_prompt=value.ndim > 0)
        names, labels = self.grid.axis_names, self.grid.labels
        if self.entries:
            n = change.shape[len(names)]
            names, labels = (*names, "entry"), (*labels, tuple(range(n)))
        return Estimate(change, value, names, labels)

    def lay_out(
        self, products: Iterable[Float[Tensor, "batch *axes"]], by_prompt: bool
    ) -> Float[Tensor, "*grid"]:
        """Sums over what belongs to one place, `[*grid, batch]` or `[*grid]`."""
        found = [self._of_hook(x, by_prompt) for x in products]
        return torch.stack(found) if self.sites.layers is not None else found[0]

    def _of_hook(self, x: Tensor, by_prompt: bool) -> Tensor:
        names = self.sites.axes.names
        behind = x.ndim - 1 - len(names)
        require(
            behind == 1 or not self.entries,
            f"entries needs a hook with an axis behind {', '.join(names)}. "
            f"{self.sites.hooks[0]} has {behind} of them",
        )
        if behind and not self.entries:
            x = x.flatten(1 + len(names)).sum(-1)
        here = [name for name in _GRID_ORDER if name in names]
        order = [1 + names.index(name) for name in here]
        # [batch, *axes of the tensor, entry] → [*axes of the grid, entry, batch]
        x = x.permute(*order, *range(1 + len(names), x.ndim), 0)
        picked = dict(zip(self.grid.axis_names, self.grid.labels, strict=True))
        for axis, name in reversed(list(enumerate(here))):
            chosen = self.sites.chosen[name]
            if chosen == "all":
                x = x.sum(axis)
            elif chosen != "each":
                x = x.index_select(axis, as_index(picked[name], x.device))
        return x if by_prompt else x.sum(-1)
