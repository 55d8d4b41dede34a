"""What each token writes as an input and reads as an output: a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import torch

from analyses.weights.tables import Texts
from interp.weight_circuits.directions import token_directions, unembedding_directions

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


@torch.no_grad()
def vocabulary_table(model: HookedTransformer, texts: Texts) -> pd.DataFrame:
    """Norms of each token's embedding and unembedding, and how alike the two are.

    Norms' weights and centring are in, their scales and all biases out
    (`interp.weight_circuits.directions`); of an encoder–decoder the decoder's.

    Args:
        model: Any.
        texts: Looks texts of tokens up.

    Returns:
        token_id, token, embedding_norm; of tokens that have an output also unembedding_norm and
        cosine (of both vectors; 0 for one of zeros), NaN for others: all tokens of a classifier.
    """
    written = token_directions(model).vectors.double()
    read = unembedding_directions(model).vectors.double()
    n = len(written)
    both = 0 if model.cfg.classifies else min(n, len(read))  # classes are no tokens
    norms, read_norms = (torch.linalg.vector_norm(x, dim=-1) for x in (written, read))
    unembedding, cosine = (torch.full((n,), torch.nan, dtype=torch.float64) for _ in range(2))
    unembedding[:both] = read_norms[:both].cpu()
    sizes = norms[:both] * read_norms[:both]
    products = (written[:both] * read[:both]).sum(-1)
    cosine[:both] = torch.where(sizes > 0, products / torch.where(sizes > 0, sizes, 1.0), 0.0).cpu()
    return pd.DataFrame(
        {
            "token_id": range(n),
            "token": texts(range(n)),
            "embedding_norm": norms.tolist(),
            "unembedding_norm": unembedding.tolist(),
            "cosine": cosine.tolist(),
        }
    )
