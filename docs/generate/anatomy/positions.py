"""Charts of the positional encoding: its waves, their products, and what it does to scores."""

from __future__ import annotations

import pandas as pd
import torch

from docs.generate.anatomy.recorded import HEAD, recorded
from docs.generate.anatomy.words import Picture
from interp.charts import Chart
from interp.position_effects import sinusoidal_product

N_POSITIONS = 32  # drawn
STARTS = (0, 20, 63)  # positions whose products with all others are drawn


def sinusoids() -> Picture:
    """What positions add to the embeddings."""
    model = recorded().model
    table = model.encoder.pos_embed.table(N_POSITIONS, torch.device("cpu"))[:N_POSITIONS]
    rows = [
        {"position": t, "dimension": i, "value": value}
        for t, vector in enumerate(table.tolist())
        for i, value in enumerate(vector)
    ]
    period = 2 * torch.pi / model.encoder.pos_embed.frequencies(torch.device("cpu"))
    chart = Chart(
        kind="heatmap",
        table="sinusoids",
        x="dimension",
        y="position",
        value="value",
        signed=True,
        limits=(-1, 1),
        title="The sinusoids: a vector for each position",
        alt=(
            f"{table.shape[0]} positions by {table.shape[1]} dimensions, each pair of dimensions "
            f"a sine and a cosine. The first pair repeats every {period[0]:.1f} positions; the "
            f"last would after {period[-1]:,.0f} and hardly changes here."
        ),
    )
    return chart, pd.DataFrame(rows)


def products() -> Picture:
    """Products of the vectors of positions, by how far these lie apart."""
    model = recorded().model
    table = model.encoder.pos_embed.table(model.cfg.n_ctx, torch.device("cpu"))[: model.cfg.n_ctx]
    rows = [
        {"offset": t - start, "product": value, "from position": str(start)}
        for start in STARTS
        for t, value in enumerate((table @ table[start]).tolist())
    ]
    frequencies = model.encoder.pos_embed.frequencies(torch.device("cpu"))
    formula = sinusoidal_product(frequencies, torch.arange(3))
    chart = Chart(
        kind="line",
        table="products",
        x="offset",
        x_label="offset k, in positions",
        y="product",
        y_label="PE(t) · PE(t + k)",
        color="from position",
        title="Products depend on the offset alone",
        alt=(
            f"PE(t)·PE(t + k) against k for t = {', '.join(map(str, STARTS))}: one curve, "
            f"symmetric about 0, with {formula[0]:.0f} at k = 0, {formula[1]:.1f} at 1 and "
            f"{formula[2]:.1f} at 2."
        ),
    )
    return chart, pd.DataFrame(rows)


def score_parts() -> Picture:
    """One head's scores, split by what the query and the key are made from."""
    found = recorded()
    attn = found.model.encoder.blocks[0].attn
    content = found.cache["encoder.hook_embed"][0]
    position = found.cache["encoder.hook_pos_embed"][0]
    rows = []
    sizes = {}
    for asks, query in (("content", content), ("position", position)):
        for answers, key in (("content", content), ("position", position)):
            scores = (query @ attn.W_Q[HEAD]) @ (key @ attn.W_K[HEAD]).T / attn.attn_scale
            name = f"{asks} asks, {answers} answers"
            sizes[name] = scores.detach().std().item()
            rows += [
                {
                    "part": name,
                    "destination": i,
                    "source": j,
                    "asks": found.sources[i],
                    "answers": found.sources[j],
                    "score": value,
                }
                for i, line in enumerate(scores.tolist())
                for j, value in enumerate(line)
            ]
    told = ", ".join(f"{name}: {size:.2f}" for name, size in sizes.items())
    chart = Chart(
        kind="attention",
        table="score-parts",
        x="source",
        x_text="answers",
        x_label="source (key)",
        y="destination",
        y_text="asks",
        y_label="destination (query)",
        value="score",
        facet="part",
        signed=True,
        title=f"Scores of head {HEAD} of the encoder's first layer, in four parts (without biases)",
        alt=f"Four matrices that sum to the scores but for biases. Standard deviations: {told}.",
    )
    return chart, pd.DataFrame(rows)
