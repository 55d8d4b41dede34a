"""Attribution patching of places: estimates of every site, beside exact patching."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from analyses.patching.estimate_setting import (
    BY_HEAD,
    STREAMS,
    Setting,
    agreement_row,
    columns,
    leading_table,
    unpatched_check,
)
from analyses.results.checks import SCALED, TOLERANCES, scaled_error
from analyses.results.result import Check
from interp.attribution import Estimate, atp_star, estimate_several
from interp.errors import InputError
from interp.patching import Sites, sites, sweep


def places_of(setting: Setting) -> tuple[dict[str, pd.DataFrame], list[Check]]:
    """The tables and checks of `atp` and `atp*`."""
    model, params = setting.model, setting.params
    has = [s for s in (*STREAMS, *BY_HEAD) if s != "mlp_out" or not model.cfg.attn_only]
    for asked in params.sites or ():
        if asked not in has:
            raise InputError(
                f"sites must be of {', '.join(has)} in this model. Received {asked!r}."
            )
    chosen: list[str] = [site for site in has if site in (params.sites or has)]
    where: dict[str, Sites] = {
        s: sites(model, s, positions="each" if s in STREAMS else "all") for s in chosen
    }
    extra = sites(model, "z", positions="all")
    hooks = [hook for place in (*where.values(), extra) for hook in place.hooks]
    with torch.no_grad():
        _, cache = model.run_with_cache(setting.source, names_filter=hooks)
    found = _estimates(setting, cache, where)
    rows: dict[str, list[pd.DataFrame]] = {"streams": [], "heads": []}
    agreements = []
    for site, one in found.items():
        exact = None
        if params.verify:
            swept = sweep(model, setting.base, cache, where[site], setting.pairs.metric)
            change = swept.values - swept.base
            exact = (change if one.signed else change.abs()).mean(-1)
            agreements.append(agreement_row(setting, site, one.mean(), exact, one.signed))
        second = "position" if site in STREAMS else "head"
        grid = pd.MultiIndex.from_product(one.labels, names=["layer", second])
        frame = grid.to_frame(index=False)
        frame.insert(0, "site", site)
        if site in STREAMS:
            frame["token"] = [setting.pairs.labels[p] for p in frame["position"]]
            frame["place"] = [f"{site} L{a} @{b}" for a, b in zip(*_two(frame), strict=True)]
        else:
            frame["place"] = [f"{site} L{a}H{b}" for a, b in zip(*_two(frame), strict=True)]
        name = "streams" if site in STREAMS else "heads"
        rows[name].append(frame.assign(**columns(setting, one.mean(), exact)))
    tables = {name: pd.concat(parts, ignore_index=True) for name, parts in rows.items() if parts}
    # The residual stream at a position holds all: it is no place beside the others.
    every = pd.concat(list(tables.values()), ignore_index=True)
    parts = every[every["site"] != "resid_pre"]
    tables["leading"] = leading_table(parts if len(parts) else every, "place", params.top)
    if agreements:
        tables["agreement"] = pd.DataFrame(agreements)
    return tables, [unpatched_check(setting, found.values()), _plain_check(setting, cache, extra)]


def _two(frame: pd.DataFrame) -> tuple[Any, Any]:
    return frame["layer"], frame.iloc[:, 2]


def _estimates(
    setting: Setting, cache: Mapping[str, Tensor], where: Mapping[str, Sites]
) -> dict[str, Estimate]:
    model, metric = setting.model, setting.pairs.metric
    if setting.params.method == "atp":
        return estimate_several(model, setting.base, cache, where, metric)
    drops = setting.drops
    return {
        name: atp_star(model, setting.base, cache, places, metric, grad_drop=drops)
        for name, places in where.items()
    }


def _plain_check(setting: Setting, cache: Mapping[str, Tensor], z: Sites) -> Check:
    """The estimates of heads' outputs, with gradients by autograd of zeros that a hook adds."""
    model = setting.model
    found = _estimates(setting, cache, {"z": z})["z"].change.double()
    dropped = range(model.cfg.n_layers) if setting.drops else [None]
    changes = [_plain_changes(setting, cache, z.hooks, layer) for layer in dropped]
    expected = changes[0]
    if setting.drops:
        expected = torch.stack(changes).abs().sum(0) / (model.cfg.n_layers - 1)
    return Check(
        name="estimates-equal-plain-autograd",
        value=scaled_error(found, expected),
        tolerance=TOLERANCES[model.cfg.dtype],
        note="every head's output at all positions against gradients of zeros that ordinary hooks "
        f"add, every pair; {SCALED}",
    )


def _plain_changes(
    setting: Setting, cache: Mapping[str, Tensor], hooks: Sequence[str], dropped: int | None
) -> Float[Tensor, "layer head batch"]:
    """By heads' outputs; with nothing flowing back through what a layer adds, if one is named."""
    model = setting.model
    base: dict[str, Tensor] = {}
    added: dict[str, Tensor] = {}

    def add(x: Tensor, hook: Any) -> Tensor:
        base[hook.name] = x.detach()
        added[hook.name] = torch.zeros_like(x, requires_grad=True)
        return x + added[hook.name]

    cut = [f"blocks.{dropped}.hook_{n}_out" for n in ("attn", "mlp")] if dropped is not None else []
    edits: list[Any] = [(h, lambda x, hook: x.detach()) for h in cut if h in model.hook_dict]
    edits += [(hook, add) for hook in hooks]
    with torch.enable_grad():
        logits = model.run_with_hooks(setting.base, fwd_hooks=edits)
        value = setting.pairs.metric.per_prompt(logits).sum()
        inputs = [added[hook] for hook in hooks]
        gradients = torch.autograd.grad(value, inputs, allow_unused=True, materialize_grads=True)
    # [batch, pos, head, d_head] → [head, batch]
    changes = [(cache[h] - base[h]) * g for h, g in zip(hooks, gradients, strict=True)]
    return torch.stack([change.double().sum((1, 3)).T for change in changes])
