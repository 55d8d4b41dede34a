"""Charts of attention: one query, the heads, who may look where, and the words of a translation."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from docs.generate.anatomy.recorded import ENGLISH, HEAD, LAYER, WORD, recorded, texts
from docs.generate.anatomy.words import Picture
from interp import load_model
from interp.charts import Chart

SHORT = "Lucas is sleeping."  # beside the sentence, in one batch


def cells(
    pattern: Tensor, destinations: Sequence[str], sources: Sequence[str], name: str
) -> list[dict[str, object]]:
    """A pattern as rows of a table; NaN is drawn as a blank."""
    return [
        {
            "panel": name,
            "destination": i,
            "source": j,
            "reads": destinations[i],
            "read": sources[j],
            "attention": value,
        }
        for i, line in enumerate(pattern.tolist())
        for j, value in enumerate(line)
    ]


def attention(table: str, title: str, alt: str, facet: bool = True) -> Chart:
    """A chart of such rows."""
    return Chart(
        kind="attention",
        table=table,
        x="source",
        x_text="read",
        x_label="source (key)",
        y="destination",
        y_text="reads",
        y_label="destination (query)",
        value="attention",
        facet="panel" if facet else None,
        title=title,
        alt=alt,
    )


def one_query() -> Picture:
    """One query's pattern, and what it would be if scores were not divided by √d_head."""
    found = recorded()
    row = found.at(f"▁{WORD}")
    scores = found.cache[f"encoder.blocks.{LAYER}.attn.hook_attn_scores"][0, HEAD, row]
    scale = found.model.cfg.attn_scale
    ways = {"divided by √d_head": scores.softmax(-1), "not divided": (scores * scale).softmax(-1)}
    rows = [
        {"scores": way, "source": j, "read": found.sources[j], "attention": share}
        for way, pattern in ways.items()
        for j, share in enumerate(pattern.tolist())
    ]
    most = [f"{pattern.max():.2f} {way}" for way, pattern in ways.items()]
    chart = Chart(
        kind="bars",
        table="one-query",
        x="source",
        x_text="read",
        x_label="source (key)",
        value="attention",
        color="scores",
        probability=True,
        title=f"What “▁{WORD}” looks at: head {HEAD} of the encoder's layer {LAYER}",
        alt=(
            f"Attention of “▁{WORD}” to each token. The largest share is on "
            f"“{found.sources[int(scores.argmax())]}”: {', '.join(most)}."
        ),
    )
    return chart, pd.DataFrame(rows)


def heads() -> Picture:
    """The patterns of all heads of the encoder."""
    found = recorded()
    cfg = found.model.cfg
    rows, told = [], []
    for layer in range(cfg.n_encoder_layers or 0):
        for head in range(cfg.n_heads):
            pattern = found.cache[f"encoder.blocks.{layer}.attn.hook_pattern"][0, head]
            name = f"layer {layer}, head {head}"
            rows += cells(pattern, found.sources, found.sources, name)
            told.append(f"{name}: {found.sources[int(pattern[found.at(f'▁{WORD}')].argmax())]}")
    alt = f"Four patterns of one sentence. What “▁{WORD}” looks at most: {'; '.join(told)}."
    return attention("heads", "The heads of the encoder", alt), pd.DataFrame(rows)


def masks() -> Picture:
    """Who may look where: an encoder, an encoder with padding, a decoder."""
    found = recorded()
    model = found.model
    names = ["encoder.blocks.1.attn.hook_pattern"]
    tokens, mask = model.tokenize([SHORT, ENGLISH])
    assert mask is not None  # one is shorter
    start = torch.full((2, 1), model.tokenizer.bos_token_id)
    _, cache = model.run_with_cache(
        tokens, attention_mask=mask, decoder_input=start, names_filter=names, return_type=None
    )
    padded = cache[names[0]][0, 0]
    causal = found.cache["decoder.blocks.1.attn.hook_pattern"][0, 0]
    unseen = torch.ones_like(causal, dtype=torch.bool).triu(1)
    causal = causal.masked_fill(unseen, torch.nan)
    hidden = mask[0] == 0
    padded = padded.masked_fill(hidden, torch.nan)
    short = texts(model, tokens[0])
    full = found.cache[names[0]][0, 0]
    rows = [
        *cells(full, found.sources, found.sources, "encoder"),
        *cells(padded, short, short, "encoder, padded"),
        *cells(causal, found.reads, found.reads, "decoder"),
    ]
    alt = (
        "Three patterns. The encoder's is full: every token sees every other. With padding its "
        f"last {int(hidden.sum())} columns are blank. The decoder's is a triangle: a token sees "
        "itself and what stands before it."
    )
    return attention("masks", "Who may look where", alt), pd.DataFrame(rows)


def crossing() -> Picture:
    """Which source words each written word was read from: the mean of the last layer's heads."""
    found = recorded()
    pattern = found.cache["decoder.blocks.1.cross_attn.hook_pattern"][0].mean(0)
    rows = cells(pattern, found.writes, found.sources, "")
    place = found.writes.index("▁vermel")
    most = int(pattern[place].argmax())
    chart = attention(
        "crossing",
        "Where the decoder looked while it wrote each word (layer 1, mean of both heads)",
        f"Rows are the Portuguese tokens as they were written, columns the English ones. While "
        f"▁vermel was written, most attention was on {found.sources[most]} "
        f"({pattern[place, most]:.2f}).",
        facet=False,
    )
    return chart.model_copy(update={"y_label": "token written"}), pd.DataFrame(rows)


def shapes() -> Picture:
    """A pattern of an encoder-only and of a decoder-only model."""
    rows = []
    for name, prompt, hook, head in (
        ("zoo:brackets, an encoder", "(()())", "blocks.0.attn.hook_pattern", 3),
        ("zoo:induction, a decoder", "k d R 7 q k d R", "blocks.1.attn.hook_pattern", 0),
    ):
        model = load_model(name.split(",")[0], device="cpu")
        tokens = model.to_tokens(prompt)
        with torch.no_grad():
            _, cache = model.run_with_cache(tokens, names_filter=hook)
        pattern = cache[hook][0, head]
        if model.cfg.architecture == "decoder":
            hidden = torch.ones_like(pattern, dtype=torch.bool).triu(1)
            pattern = pattern.masked_fill(hidden, torch.nan)
        labels = texts(model, tokens[0])
        rows += cells(pattern, labels, labels, name)
    return attention(
        "shapes",
        "One stack alone: an encoder sees both ways, a decoder what came before",
        "A full square of attention in zoo:brackets, a triangle in zoo:induction.",
    ), pd.DataFrame(rows)
