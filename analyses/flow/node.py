"""What one node of the routes is made of: heads by source token, and neurons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from analyses.heads.attention_maps import visible_sources
from interp.attribution.proximity import StreamImportance, neuron_importance
from interp.errors import require, require_whole

if TYPE_CHECKING:
    from interp.cache import ActivationCache


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
