"""Activation patching sweeps: every place of a grid, patched by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import InputError, is_whole, require
from interp.patching.axes import Window, as_index, window_for
from interp.patching.base import BaseRun, inside_a_run
from interp.patching.engine import Engine
from interp.patching.grids import Sites
from interp.patching.grids import sites as make_sites
from interp.patching.metrics import Metric
from interp.patching.read_out import LogitsFunction, make_read_out
from interp.patching.schedule import default_budget
from interp.patching.worlds import GridWorlds, SetterWorlds, Worlds
from interp.progress import report

if TYPE_CHECKING:
    import pandas as pd

    from interp.tokenization.text import TextInput
    from interp.transformer import HookedTransformer

Source = Mapping[str, Float[Tensor, "batch_or_1 ..."]] | float
"""What is put in: hook name → activation, as in a cache (TransformerLens's too), or a number."""


@dataclass(frozen=True)
class SweepResult:
    """The metric in every world of a sweep.

    Attributes:
        values: `[*grid, batch]`; without `batch` where the metric gave one number for all prompts.
        base: The metric of the run without a patch, `[batch]` or a scalar.
        axis_names: The names of the grid's axes.
        labels: For each of them, the layers, positions or heads along it.
    """

    values: Float[Tensor, "*grid_and_batch"]
    base: Float[Tensor, "*batch"]
    axis_names: tuple[str, ...]
    labels: tuple[tuple[int, ...], ...]

    def mean(self) -> Float[Tensor, "*grid"]:
        """The mean over prompts, `[*grid]`."""
        by_prompt = self.values.ndim > len(self.axis_names)
        return self.values.mean(-1) if by_prompt else self.values

    def to_frame(self) -> pd.DataFrame:
        """One row for each place and prompt: the grid's axes, `prompt`, `value`."""
        import pandas as pd

        names, labels = list(self.axis_names), [list(axis) for axis in self.labels]
        if self.values.ndim > len(names):
            names.append("prompt")
            labels.append(list(range(self.values.shape[-1])))
        values = self.values.detach().cpu().double().numpy().ravel()
        if not names:
            return pd.DataFrame({"value": values})
        index = pd.MultiIndex.from_product(labels, names=names)
        return pd.DataFrame({"value": values}, index=index).reset_index()


def sweep(
    model: HookedTransformer,
    tokens: TextInput | Int[Tensor, "batch pos"],
    source: Source,
    sites: Sites | str,
    metric: Metric | LogitsFunction,
    attention_mask: Int[Tensor, "batch pos"] | None = None,
    decoder_input: TextInput | Int[Tensor, "batch pos"] | None = None,
    decoder_attention_mask: Int[Tensor, "batch pos"] | None = None,
    token_type_ids: Int[Tensor, "batch pos"] | None = None,
    max_bytes: int | None = None,
    progress: bool = False,
) -> SweepResult:
    """Patch every place of a grid by itself, in all prompts, and take a metric of each run.

    It gives what a loop over the places would, each with a run of its own and a hook that puts the
    source's entries in, but runs nothing of which the outcome is known: not the layers below a
    patch, not (in a causal model) the positions before it, not those after the last that the metric
    reads, and no logits that it does not read. Many places share a run. No gradients are kept.

    Where hooks of yours are on the model, there is a whole run for every place, so that they see
    what they would see in such a loop.

    Args:
        model: The model.
        tokens: The prompts that are run (with a patch), as `forward` takes them.
        source: What is put in. Its tensors are of runs on as many prompts (or one) of the same
            length. A number: that number everywhere (0.0 ablates).
        sites: Where: what `patching.sites` gives, or its `name`.
        metric: A `Metric`; or a function of full logits `[batch, pos, d_vocab]`, called for every
            place, that gives a number or one per prompt. It may write into its logits; but into a
            part (`logits[:, -1]`) that it took from them, only before it reads them as a whole.
        attention_mask: As for `forward`, and so the following.
        decoder_input: Of an encoder–decoder, whose metric is taken of its decoder's logits.
        decoder_attention_mask: `attention_mask` for it.
        token_type_ids: Which segment each token is of.
        max_bytes: About how much memory the runs of places that share one may take. None: half of
            what is free on a GPU, 128 MiB elsewhere.
        progress: Show a progress bar.

    Raises:
        InputError: for a hook that the source lacks, a source of another shape, a place or token
            that is not there, and as `forward`.
    """
    if isinstance(sites, str):
        sites = make_sites(model, sites)
    if not isinstance(sites, Sites):
        raise InputError(f"sites must be what patching.sites gives. Received {sites!r}.")
    with torch.no_grad():
        run = BaseRun(
            model, tokens, attention_mask, decoder_input, decoder_attention_mask, token_type_ids
        )
        grid = sites.grid(run.n_pos, run.n_source)
        put_in = _put_in(run, sites, source)
        worlds = GridWorlds(sites.hooks, sites.axes, grid.hook_of, grid.coordinates, put_in)
        found, base = values_of(run, worlds, metric, max_bytes, progress)
    values = found.view((*grid.shape, *base.shape))
    return SweepResult(values, base, grid.axis_names, grid.labels)


def values_of(
    run: BaseRun,
    worlds: Worlds,
    metric: Metric | LogitsFunction,
    max_bytes: int | None = None,
    progress: bool = False,
) -> tuple[Float[Tensor, "world *batch"], Float[Tensor, "*batch"]]:
    """The metric in these worlds, `[world, …]`, and in the base. Nothing is left on the model.

    Raises:
        InputError: unless `max_bytes` is None or a whole number of at least 1.
    """
    require(
        max_bytes is None or is_whole(max_bytes, 1),
        f"max_bytes must be a whole number of at least 1. Received {max_bytes!r}",
    )
    model = run.model
    budget = model._agreed(default_budget(model.W_E.device)) if max_bytes is None else max_bytes
    read_out = make_read_out(run, metric, budget)
    with inside_a_run(model):
        if any(model.hook_dict[name].fwd_hooks for name in model.watched_hooks()[1]):
            return _one_by_one(run, worlds, read_out, progress)
        groups: Iterator[tuple[np.ndarray, Engine]]
        engine = Engine(run, worlds, read_out, budget)
        layers, hooks = engine.needs()
        if isinstance(worlds, SetterWorlds):
            run.run(layers, hooks | set(worlds.hooks), keeps_keys=run.causal)
            base = read_out.base()
            made = worlds.made(run.recorded, budget)
            groups = ((which, Engine(run, group, read_out, budget)) for which, group in made)
        else:
            from_start = all(batch.start == 0 for batch in engine.batches[1])
            run.run(layers, hooks, keeps_keys=not from_start)
            base = read_out.base()
            groups = iter([(np.arange(len(worlds)), engine)])
        orders, values = [], [base.expand(0, *base.shape)]
        with _bar(len(worlds), progress) as advance:
            for which, engine in groups:
                for order, found in engine.run_all(base):
                    orders.append(which[order])
                    values.append(found)
                    advance(len(order))
    order = np.concatenate([*orders, np.zeros(0, dtype=np.int64)])
    return torch.cat(values)[as_index(np.argsort(order), base.device)], base


def _one_by_one(
    run: BaseRun, worlds: Worlds, read_out: Any, progress: bool
) -> tuple[Tensor, Tensor]:
    """A whole run for every world, with the hooks that are on the model."""
    model = run.model
    base = read_out.of_logits(model(**run.inputs), 1)[0]
    axes = worlds.axes
    window = window_for(axes, Window(0, run.n_pos), run.n_source)
    values = []
    with _bar(len(worlds), progress) as advance:
        for world in range(len(worlds)):

            def write(x: Tensor, hook: Any, world: int = world) -> None:
                worlds.write(hook.name, x[None], np.array([world]), window)

            hook = worlds.hooks[worlds.hook_of[world]]
            logits = model.run_with_hooks(**run.inputs, fwd_hooks=[(hook, write)])
            values.append(read_out.of_logits(logits, 1)[0])
            advance(1)
    return torch.stack(values) if values else base.expand(0, *base.shape), base


def _put_in(run: BaseRun, sites: Sites, source: Source) -> list[Tensor] | float:
    """What is put in at each of the hooks, checked."""
    if isinstance(source, Real) and not isinstance(source, bool):
        return float(source)
    return [activation_in(source, run, sites, hook) for hook in sites.hooks]


def activation_in(
    source: Source, run: BaseRun, sites: Sites, hook: str
) -> Float[Tensor, "batch_or_1 ..."]:
    """What a source has at a hook, of as many prompts of the same length.

    Raises:
        InputError: for something else than a source, and one that lacks it or does not fit.
    """
    if not (hasattr(source, "keys") and hasattr(source, "__getitem__")):
        raise InputError(
            "a source must be a mapping from hook names to activations, or (of a sweep) a number. "
            f"Received a {type(source).__name__}."
        )
    require(hook in source, f"the source must hold {hook}. It does not")  # type: ignore[operator]
    tensor: object = source[hook]
    if not isinstance(tensor, Tensor):
        raise InputError(f"the source's {hook} must be a tensor. Received {tensor!r}.")
    names = sites.axes.names
    own = run.n_source if sites.axes.of_source else run.n_pos
    lengths = {
        "pos": own,
        "head": sites.axes.n_heads,
        "src_pos": run.n_source if sites.axes.reads_source else run.n_pos,
    }
    expected = [lengths[name] for name in names]
    fits = tensor.ndim > len(names) and tensor.shape[0] in (1, run.batch)
    require(
        fits and list(tensor.shape[1 : 1 + len(names)]) == expected,
        f"the source's {hook} must be of {run.batch} prompts (or one) and have "
        f"[{', '.join(names)}] = {expected}. Its shape is {tuple(tensor.shape)}",
    )
    return tensor


@contextmanager
def _bar(total: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """Give a function to be called with how many more worlds are done."""
    done = 0

    def tell(n: int) -> None:
        nonlocal done
        done += n
        report(done / max(total, 1), f"{done:,} of {total:,} patched runs")

    if not shown:
        yield tell
        return
    from rich.progress import Progress

    with Progress() as bar:
        task = bar.add_task("patch", total=total)

        def advance(n: int) -> None:
            tell(n)
            bar.advance(task, n)

        yield advance
