"""Does a head raise the logit of the token that it attends to?

Source: Elhage et al. 2021, A Mathematical Framework for Transformer Circuits: a head copies where
the eigenvalues of its full OV circuit are positive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from interp.errors import require
from interp.factored import FactoredMatrix
from interp.precision import wide
from interp.weight_circuits.chunks import require_square, statistics_of
from interp.weight_circuits.norms import (
    check_linear_logits,
    norm_of_reader,
    path_from_writer,
    path_to_reader,
    pull,
    push,
)
from interp.weight_circuits.vectors import effective_embedding, token_vectors

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


@dataclass(frozen=True, slots=True)
class CopyingScores:
    """How each head's full OV circuit copies: fp64, on the CPU.

    Attributes:
        eigenvalues: Those that may differ from zero, `[layer, head, d_head]` (or fewer).
        score: Σ Re λ / Σ |λ|, in -1 … 1: 1 copies, -1 suppresses what it reads. 0 where the
            circuit has no eigenvalues but rounding, `[layer, head]`.
        eigenvalue_share: Σ |λ| / Σ σ of eigenvalues and singular values, in 0 … 1. Near 0 the
            circuit mostly moves tokens to other tokens, and its eigenvalues say little.
        trace: Σ λ: the sum over tokens of what attending to each adds to its own logit.
        contrast: How far the diagonal stands out: (its mean - that of the rest) / (standard
            deviation of all entries).
        norm: Frobenius norm of the circuit, in logits per unit of the scales left out.
    """

    eigenvalues: Complex[Tensor, "layer head rank"]
    score: Float[Tensor, "layer head"]
    eigenvalue_share: Float[Tensor, "layer head"]
    trace: Float[Tensor, "layer head"]
    contrast: Float[Tensor, "layer head"]
    norm: Float[Tensor, "layer head"]


@torch.no_grad()
def copying_score(circuit: FactoredMatrix) -> Float[Tensor, ""]:
    """Σ Re λ / Σ |λ| over the eigenvalues λ of a square circuit, in -1 … 1.

    The fraction of eigenvalue mass that is positive, less that which is negative. Of the full OV
    circuit it is the copying score; of a composed QK circuit it says whether destinations look for
    sources that match them. 0 where there is no eigenvalue but rounding (Σ |λ| within mdim · √eps
    of Σ σ): such a circuit takes every token to others.

    Raises:
        InputError: for a circuit that is not square or has leading axes.
    """
    require_square(circuit)
    eigenvalues = torch.linalg.eigvals(circuit.B.double() @ circuit.A.double())
    singular = FactoredMatrix(circuit.A.double(), circuit.B.double()).S
    return _score(eigenvalues, singular.sum(), circuit.A.dtype)


def _score(eigenvalues: Tensor, singular_mass: Tensor, dtype: torch.dtype) -> Tensor:
    mass = eigenvalues.abs().sum(-1)
    rounding = eigenvalues.shape[-1] * torch.finfo(dtype).eps ** 0.5 * singular_mass
    score = eigenvalues.real.sum(-1) / mass.clamp(min=torch.finfo(torch.float64).tiny)
    return torch.where(mass > rounding, score, torch.zeros_like(score))


@torch.no_grad()
def copying_scores(
    model: HookedTransformer,
    tokens: Sequence[int] | None = None,
    effective: bool = False,
    less_mean: bool = False,
) -> CopyingScores:
    """The copying score of every head, and what to read it beside.

    Nothing of the size of a vocabulary is made for a head: W_U W_E and the triangular factors of
    W_E and W_Uᵀ, each `[d_model, d_model]`, serve all heads.

    Args:
        model: With `head="lm"`; of an encoder–decoder the decoder's self-attention is scored.
        tokens: Score the circuit between these tokens only. Needed where the model has not as many
            logits as tokens (logit i is then token i's).
        effective: Read each token as block 0 leaves it (`effective_embedding`), from layer 1 on;
            heads of layer 0 read W_E all the same.
        less_mean: Take logits less their mean over the vocabulary, which changes no probability: a
            head that raises all logits alike has a large eigenvalue for it and copies nothing. So
            it is anyway where the unembedding is centred (`process_weights`).

    Raises:
        InputError: for other heads than `lm`, tokens that have no logit, or none given where
            d_vocab and d_vocab_out differ.
    """
    cfg = model.cfg
    check_linear_logits(model)
    require(cfg.n_layers > 0, "copying is what heads do. This model has no layers")
    W_U = wide(model.W_U) * cfg.logit_scale
    if less_mean:
        W_U = W_U - W_U.mean(-1, keepdim=True)
    chosen = _chosen(model, tokens)
    raw, W_U = token_vectors(model)[chosen], W_U[:, chosen]
    own = _Sums(raw, W_U)
    later = own if not effective else _Sums(effective_embedding(model)[chosen], W_U)
    eigenvalues, singular, statistics = [], [], []
    for layer in range(cfg.n_layers):
        sums, start = (later, 1) if effective and layer > 0 else (own, -1)
        attn = model.main_stack.blocks[layer].attn
        W_V = pull(path_to_reader(model, layer, start=start), wide(attn.W_V)).double()
        path = path_from_writer(model, layer) + norm_of_reader(model, cfg.n_layers)
        W_O = push(path, wide(attn.W_O)).double()
        eigenvalues.append(torch.linalg.eigvals(W_O @ sums.unembed_embed @ W_V))
        S = FactoredMatrix(sums.embed_R @ W_V, W_O @ sums.unembed_R.mT).S
        singular.append(S.sum(-1))
        total = torch.einsum("d,hde,hef,f->h", sums.embed, W_V, W_O, sums.unembed)
        statistics.append(torch.stack([total, eigenvalues[-1].real.sum(-1), S.pow(2).sum(-1)], -1))
    found, mass = torch.stack(eigenvalues).cpu(), torch.stack(singular).cpu()
    summed = torch.stack(statistics).cpu()
    contrast = [
        [statistics_of(own.n, *map(float, row)).contrast for row in layer] for layer in summed
    ]
    share = found.abs().sum(-1) / mass.clamp(min=torch.finfo(torch.float64).tiny)
    return CopyingScores(
        found,
        _score(found, mass, W_U.dtype),
        share,
        summed[..., 1],
        torch.tensor(contrast, dtype=torch.float64),
        summed[..., 2].clamp(min=0).sqrt(),
    )


class _Sums:
    """What the heads share: sums over the vocabulary of products of what each token is."""

    def __init__(self, E: Float[Tensor, "token d_model"], U: Float[Tensor, "d_model token"]):
        self.n = E.shape[0]
        self.unembed_embed = (U @ E).double()
        # E = Q R: an orthonormal Q changes neither singular values nor norms.
        self.embed_R = torch.linalg.qr(E, mode="r").R.double()
        self.unembed_R = torch.linalg.qr(U.mT, mode="r").R.double()
        self.embed, self.unembed = E.sum(0).double(), U.sum(1).double()


def _chosen(model: HookedTransformer, tokens: Sequence[int] | None) -> Tensor | slice:
    cfg = model.cfg
    if tokens is None:
        require(
            cfg.d_vocab == cfg.d_vocab_out,
            f"copying needs as many logits as tokens: give tokens=range({cfg.d_vocab_out}), or "
            f"those whose logits are theirs. Received d_vocab {cfg.d_vocab}, d_vocab_out "
            f"{cfg.d_vocab_out}",
        )
        return slice(None)
    n = min(cfg.d_vocab, cfg.d_vocab_out)
    wrong = [t for t in tokens if not 0 <= t < n]
    require(not wrong, f"tokens must have a vector and a logit, 0 … {n - 1}. Received {wrong[:5]}")
    require(len(tokens) > 0, "tokens must not be empty. Received none")
    return torch.as_tensor(list(tokens), device=model.W_E.device)
