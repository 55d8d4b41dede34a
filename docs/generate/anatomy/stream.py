"""Charts of the residual stream: what norms do to it, and what neurons answer to."""

from __future__ import annotations

import pandas as pd
import torch

from analyses.superposition.shipped import load_shipped
from docs.generate.anatomy.recorded import recorded
from docs.generate.anatomy.words import Picture
from interp import load_model
from interp.charts import Chart

N_NEURONS = 24
RATIO, TOYS = 0.9, ("1-S = 1", "1-S = 0.3", "1-S = 0.01")  # importances 0.9ⁱ, densities
BRACKETS = "(()())(())()"


def lengths() -> Picture:
    """How long the residual stream is, post-norm and pre-norm."""
    found = recorded()
    rows = []
    post = "zoo:translation's encoder (post-norm)"
    for layer in range(found.model.cfg.n_encoder_layers or 0):
        at = f"encoder.blocks.{layer}."
        x, mid, end = (found.cache[f"{at}hook_resid_{name}"] for name in ("pre", "mid", "post"))
        attn, mlp = found.cache[f"{at}hook_attn_out"], found.cache[f"{at}hook_mlp_out"]
        if layer == 0:
            rows.append((post, "embedded", x))
        rows += [
            (post, f"L{layer} + attention", x + attn),
            (post, f"L{layer} norm 1", mid),
            (post, f"L{layer} + MLP", mid + mlp),
            (post, f"L{layer} norm 2", end),
        ]
    model = load_model("zoo:brackets", device="cpu")
    pre = "zoo:brackets (pre-norm)"
    with torch.no_grad():
        _, cache = model.run_with_cache(BRACKETS)
    for layer in range(model.cfg.n_layers):
        if layer == 0:
            rows.append((pre, "embedded", cache["resid_pre", 0]))
        rows.append((pre, f"L{layer} + attention", cache["resid_mid", layer]))
        rows.append((pre, f"L{layer} + MLP", cache["resid_post", layer]))
    table = pd.DataFrame(
        {"model": name, "place": place, "length": x.norm(dim=-1).mean().item()}
        for name, place, x in rows
    )
    told = []
    for name in (post, pre):
        each = table.loc[table["model"] == name, "length"].tolist()
        told.append(f"{name}: {each[0]:.1f} at first, {each[-1]:.1f} in the end")
    chart = Chart(
        kind="bars",
        table="lengths",
        x="place",
        x_label="",
        value="length",
        value_label="length of the residual stream, mean over positions",
        facet="model",
        title="What is carried from part to part",
        alt=f"Lengths of the residual stream. {'; '.join(told)}.",
    )
    return chart, table


def neurons() -> Picture:
    """The neurons of an MLP that are largest somewhere in the sentence."""
    found = recorded()
    active = found.cache["encoder.blocks.0.mlp.hook_post"][0]
    chosen = active.amax(0).topk(N_NEURONS).indices.sort().values
    rows = [
        {"neuron": str(j), "position": i, "token": found.sources[i], "activation": value}
        for i, line in enumerate(active[:, chosen].tolist())
        for j, value in zip(chosen.tolist(), line, strict=True)
    ]
    share = (active > 0).float().mean().item()
    chart = Chart(
        kind="heatmap",
        table="neurons",
        x="neuron",
        y="position",
        y_text="token",
        y_label="token",
        value="activation",
        title="The first encoder layer's neurons, those largest in this sentence",
        alt=(
            f"Activations of {N_NEURONS} of {active.shape[1]} neurons at each token. Of all "
            f"neurons and tokens {share:.0%} are above zero."
        ),
    )
    return chart, pd.DataFrame(rows)


def features() -> Picture:
    """Five features in two dimensions: superposition, from results that ship with interp."""
    directions = load_shipped("five-in-two-dimensions").tables["directions"]
    shown = directions[(directions["ratio"] == RATIO) & directions["toy"].isin(TOYS)]
    assert shown["toy"].nunique() == len(TOYS)
    chart = Chart(
        kind="points",
        table="features",
        x="x",
        y="y",
        x_label="dimension 0",
        y_label="dimension 1",
        color="feature",
        facet="toy",
        vectors=True,
        title="Five features in two dimensions, ever sparser",
        alt=(
            "Columns of W of three toy models. Dense features: two at a right angle, the other "
            "three at nothing. Sparser: four in a cross, one at nothing. Sparsest: all five in a "
            "star."
        ),
    )
    return chart, shown
