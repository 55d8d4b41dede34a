"""What one node of the routes is made of: heads by source, neurons, and tokens written towards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from analyses.heads.attention_maps import visible_sources
from analyses.inputs.prompts import token_texts
from interp.attribution.proximity import StreamImportance, neuron_importance
from interp.errors import require, require_whole
from interp.lens import component_lens

if TYPE_CHECKING:
    from interp.cache import ActivationCache
    from interp.transformer import HookedTransformer

N_TOKENS = 10  # at either end of what a component does to the logits


def node_heads_table(
    stream: StreamImportance, cache: ActivationCache, position: int, texts: Sequence[str]
) -> pd.DataFrame:
    """What each head of a stream's layer gives a position, by source token.

    Sources that the layer lets no destination there see have no row.

    Args:
        stream: Of one prompt, without padding.
        cache: That it was made from.
        position: The destination.
        texts: The tokens' texts.

    Returns:
        head, source, source_token, importance, attention.

    Raises:
        InputError: for a stream that no attention writes into, or a position that is not there.
    """
    require(stream.heads is not None, f"no attention writes into {stream.label}")
    assert stream.heads is not None
    n = len(texts)
    require(0 <= position < n, f"position must lie in 0 … {n - 1}. Received {position}")
    pattern = cache["pattern", stream.layer][0]
    seen = visible_sources(cache.model, stream.layer, n, n)[position].nonzero().flatten()
    sources = seen.tolist()
    shares = stream.heads[0, :, position].double().cpu()[:, seen]
    looks = pattern[:, position].double().cpu()[:, seen]
    n_heads = len(shares)
    return pd.DataFrame(
        {
            "head": [f"L{stream.layer}H{head}" for head in range(n_heads) for _ in sources],
            "source": sources * n_heads,
            "source_token": [texts[source] for source in sources] * n_heads,
            "importance": shares.flatten().numpy(),
            "attention": looks.flatten().numpy(),
        }
    )


def neurons_table(
    stream: StreamImportance, cache: ActivationCache, position: int, n: int = 20
) -> pd.DataFrame:
    """The neurons of a stream's MLP that have the largest parts at a position.

    Args:
        stream: Of one prompt.
        cache: That it was made from, holding `post` of its layer too.
        position: The destination.
        n: How many, at most.

    Returns:
        neuron, importance, activation.

    Raises:
        InputError: as `neuron_importance`.
    """
    require_whole("n", n, 1)
    shares = neuron_importance(cache, stream)[0, position].double().cpu()
    post = cache["post", stream.layer][0, position].double().cpu()
    top = shares.topk(min(n, len(shares)))
    return pd.DataFrame(
        {
            "neuron": [f"L{stream.layer}N{i}" for i in top.indices.tolist()],
            "importance": top.values.numpy(),
            "activation": post[top.indices].numpy(),
        }
    )


def promoted_table(model: HookedTransformer, cache: ActivationCache, position: int) -> pd.DataFrame:
    """Tokens that each component writes towards and away from at a position, by itself.

    Logits less their mean over the vocabulary, the final norm's scale held as it was. For one
    component or neuron: `analyses.attribution.contributions.promoted_tokens`.

    Args:
        model: The model that was run.
        cache: Of a run that recorded everything.
        position: Where the components write.

    Returns:
        component (`0_attn_out`, `0_mlp_out`, `L0H3`, …), rank, raised_token, raised_id, raised,
        lowered_token, lowered_id, lowered.

    Raises:
        InputError: as `component_lens`.
    """
    frames = []
    k = min(N_TOKENS, model.cfg.d_vocab_out)
    for by in ("layer", "head"):
        found = component_lens(cache, by=by, top_k=k, pos_slice=[position])
        for i, label in enumerate(found.labels):
            if by == "head" and not label.startswith("L"):
                continue  # the remainder: what the layers' parts say already
            top, bottom = found.top_tokens[i, 0, 0], found.bottom_tokens[i, 0, 0]
            frames.append(
                pd.DataFrame(
                    {
                        "component": label,
                        "rank": range(1, k + 1),
                        "raised_token": token_texts(model, top),
                        "raised_id": top.tolist(),
                        "raised": found.top_values[i, 0, 0].double().tolist(),
                        "lowered_token": token_texts(model, bottom),
                        "lowered_id": bottom.tolist(),
                        "lowered": found.bottom_values[i, 0, 0].double().tolist(),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)
