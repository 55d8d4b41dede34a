"""Charts of what goes in and comes out: what is written, embeddings, the choice."""

from __future__ import annotations

import math

import pandas as pd

from docs.generate.anatomy.recorded import recorded
from interp.charts import Chart
from interp.generation.sampling import Sampling

N_CANDIDATES = 3
ALIKE = (
    *("▁red", "▁blue", "▁new", "▁azul", "▁vermel", "▁branc"),
    *("▁teacher", "▁student", "▁professor", "▁médico", "▁Ana", "▁Lucas", "▁book", "▁livro"),
)
BROKEN_OFF, WRITTEN = "The old teacher", "O professor velho"  # what comes next is open
N_SHOWN = 8
CHOICES = {
    "as it is": Sampling(),
    "temperature 2": Sampling(temperature=2.0),
    "top-k, k = 3": Sampling(top_k=3),
    "top-p, p = 0.8": Sampling(top_p=0.8),
}

Picture = tuple[Chart, pd.DataFrame]


def written() -> Picture:
    """What the model could have written at each step, the likeliest first."""
    found = recorded()
    top = found.logits.softmax(-1).topk(N_CANDIDATES)
    rows = [
        {
            "step": step,
            "written": word,
            "rank": rank + 1,
            "probability": top.values[step, rank].item(),
            "candidate": token,
        }
        for step, word in enumerate(found.writes)
        for rank, token in enumerate(
            found.model.tokenizer.convert_ids_to_tokens(top.indices[step].tolist())
        )
    ]
    table = pd.DataFrame(rows)
    first = table[table["rank"] == 1]
    least = first["probability"].min()
    chart = Chart(
        kind="heatmap",
        table="written",
        x="step",
        x_text="written",
        x_label="token written, one after the other",
        y="rank",
        value="probability",
        text="candidate",
        probability=True,
        title="What the decoder would write next, at every step",
        alt=(
            f"The {N_CANDIDATES} likeliest next tokens at each of {len(first)} steps. The token "
            f"that was written had a probability above {math.floor(1000 * least) / 1000}."
        ),
    )
    return chart, table


def alike() -> Picture:
    """Cosines between the embeddings of a few words of both languages."""
    model = recorded().model
    ids = model.tokenizer.convert_tokens_to_ids(list(ALIKE))
    assert model.tokenizer.unk_token_id not in ids
    vectors = model.W_E[ids].detach()
    unit = vectors / vectors.norm(dim=-1, keepdim=True)
    cosines = unit @ unit.T
    rows = [
        {"i": i, "j": j, "word": ALIKE[i], "other": ALIKE[j], "cosine": cosines[i, j].item()}
        for i in range(len(ALIKE))
        for j in range(len(ALIKE))
    ]
    red = ALIKE.index("▁red")
    near = {word: cosines[red, ALIKE.index(word)].item() for word in ("▁blue", "▁new", "▁vermel")}
    told = ", ".join(f"{word} {cosine:.2f}" for word, cosine in near.items())
    chart = Chart(
        kind="heatmap",
        table="alike",
        x="j",
        x_text="other",
        x_label="token",
        y="i",
        y_text="word",
        y_label="token",
        value="cosine",
        signed=True,
        limits=(-1, 1),
        title="How alike embeddings are: cosines of rows of W_E",
        alt=f"Cosines between the embeddings of {len(ALIKE)} tokens. Of ▁red: {told}.",
    )
    return chart, pd.DataFrame(rows)


def choices() -> Picture:
    """The distribution of one next token, as each way of sampling draws from it."""
    model = recorded().model
    logits = model(BROKEN_OFF, decoder_input=WRITTEN)[:, -1]
    ids = logits[0].topk(N_SHOWN).indices
    tokens = model.tokenizer.convert_ids_to_tokens(ids.tolist())
    rows = [
        {"way": way, "rank": rank, "token": token, "probability": probability}
        for way, sampling in CHOICES.items()
        for rank, (token, probability) in enumerate(
            zip(tokens, sampling.filter(logits).softmax(-1)[0, ids].tolist(), strict=True)
        )
    ]
    table = pd.DataFrame(rows)
    first = table[table["rank"] == 0].set_index("way")["probability"]
    chart = Chart(
        kind="bars",
        table="choices",
        x="rank",
        x_text="token",
        x_label="next token",
        value="probability",
        facet="way",
        probability=True,
        title=f"After “{WRITTEN}”: the same logits, four ways to draw from them",
        alt=(
            f"Probabilities of the {N_SHOWN} likeliest tokens. The first, {tokens[0]}, has "
            + ", ".join(f"{share:.2f} ({way})" for way, share in first.items())
            + "."
        ),
    )
    return chart, table
