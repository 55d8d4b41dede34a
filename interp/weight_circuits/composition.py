"""How strongly a later head reads what an earlier one writes, beside what chance would give.

Source: Elhage et al. 2021, A Mathematical Framework for Transformer Circuits: Q-, K- and
V-composition, ‖W_left W_right‖ / (‖W_left‖ ‖W_right‖) with Frobenius norms.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from interp.components.norm import Norm
from interp.errors import require, require_one_of, require_whole
from interp.precision import wide
from interp.weight_circuits.circuits import qk_weights
from interp.weight_circuits.norms import (
    norm_of_reader,
    path_from_writer,
    pull,
    push,
)

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

Mode = Literal["Q", "K", "V"]
Baseline = Literal["permuted", "gaussian", "rotated"]
Scores = Float[Tensor, "layer head layer head"]


@dataclass(frozen=True, slots=True)
class Composition:
    """Composition scores with a baseline of random weights.

    Pairs whose second head is not in a later layer are NaN everywhere but in `scores`, where they
    are 0 as in `model.all_composition_scores`.

    Attributes:
        mode: What of the later head reads: its queries, keys or values.
        baseline: What was random.
        n_draws, seed: How many times, from which seed.
        scores: Earlier head, then later head, `[layer, head, layer, head]`.
        mean, std: Of the scores with random weights, over the draws.
        z: (scores - mean) / std.
    """

    mode: Mode
    baseline: Baseline
    n_draws: int
    seed: int
    scores: Scores
    mean: Scores
    std: Scores
    z: Scores


@torch.no_grad()
def composition_scores(model: HookedTransformer, mode: Mode, norms: bool = True) -> Scores:
    """‖W_left W_right‖ / (‖W_left‖ ‖W_right‖) of every earlier head with every later one.

    Left is the earlier head's W_V W_O; right the later head's W_Q W_Kᵀ (`Q`), W_K W_Qᵀ (`K`) or
    W_V W_O (`V`). Zero unless the right head's layer is the later one. Rotary positions are taken
    at distance 0.

    Args:
        model: Any; of an encoder–decoder the decoder's self-attention.
        mode: Which input of the later head.
        norms: Put the centring and weights of the norms that the two heads read and write through
            into the products (with their scales left out), so that a model scores as it does with
            its norms folded and its writing weights centred. False: the bare weights, as
            `model.all_composition_scores` and TransformerLens, which expect a folded model.

    Raises:
        InputError: for another mode.
    """
    return _scores(model, _pairs_of_layers(model, mode, norms))


@torch.no_grad()
def composition_baseline(
    model: HookedTransformer,
    mode: Mode,
    baseline: Baseline = "permuted",
    n_draws: int = 20,
    seed: int = 0,
    norms: bool = True,
) -> Composition:
    """Composition scores, and how far they lie from those of random weights of the same shapes.

    Args:
        model: Any; of an encoder–decoder the decoder's self-attention.
        mode: Which input of the later head.
        baseline: `permuted`: the entries of each head's matrices in random order. `gaussian`:
            normal entries of the same mean square. `rotated`: both circuits as they are, the
            stream between them turned at random: keeps their singular values, and so gives the
            widest spread where circuits are of few dimensions.
        n_draws: How often, at least 2.
        seed: Of the draws; torch's global random state is not touched.
        norms: As in `composition_scores`.

    Raises:
        InputError: for another mode or baseline, or fewer than two draws.
    """
    require_one_of("baseline", baseline, ("permuted", "gaussian", "rotated"))
    require_whole("n_draws", n_draws, 1)
    require(n_draws > 1, f"a spread needs at least two draws. Received n_draws {n_draws}")
    pairs = [*_pairs_of_layers(model, mode, norms)]
    scores = _scores(model, pairs)
    generator = torch.Generator().manual_seed(seed)
    mean, squares = torch.zeros_like(scores), torch.zeros_like(scores)
    for draw in range(1, n_draws + 1):
        random = _Draw(baseline, generator)
        found = _scores(model, map(random, pairs))
        # Welford's update: the spread is small beside the mean.
        step = found - mean
        mean = mean + step / draw
        squares = squares + step * (found - mean)
    std = (squares / (n_draws - 1)).sqrt()
    later = _later(model, scores.device)
    mean, std = (torch.where(later, x, torch.nan) for x in (mean, std))
    return Composition(mode, baseline, n_draws, seed, scores, mean, std, (scores - mean) / std)


@dataclass(frozen=True, slots=True)
class _Pair:
    """The heads of one layer, and those of a later one that read them.

    Attributes:
        earlier, later: The layers.
        V, O: What the earlier heads write, `[head, d_model, d_head]` and `[head, d_head, d_model]`.
        reads, other: Factors of what the later heads do with it, of the same shapes: `reads` meets
            the stream.
    """

    earlier: int
    later: int
    V: Tensor
    O: Tensor  # noqa: E741
    reads: Tensor
    other: Tensor


class _Draw:
    """One set of random weights, in which every layer's are the same to all that pair with it."""

    def __init__(self, baseline: Baseline, generator: torch.Generator) -> None:
        self.baseline, self.generator = baseline, generator
        self._drawn: dict[tuple[str, int], Tensor] = {}

    def __call__(self, pair: _Pair) -> _Pair:
        """The pair with its weights replaced, or with a random turn between the two."""
        if self.baseline == "rotated":
            turn = self._once("turn", 0, lambda: self._turn(pair.O.shape[-1])).to(pair.O)
            return dataclasses.replace(pair, O=pair.O @ turn)
        of = self._permuted if self.baseline == "permuted" else self._gaussian
        return dataclasses.replace(
            pair,
            V=of("V", pair.earlier, pair.V),
            O=of("O", pair.earlier, pair.O),
            reads=of("reads", pair.later, pair.reads),
            other=of("other", pair.later, pair.other),
        )

    def _once(self, role: str, layer: int, draw: Callable[[], Tensor]) -> Tensor:
        if (role, layer) not in self._drawn:
            self._drawn[role, layer] = draw()
        return self._drawn[role, layer]

    def _permuted(self, role: str, layer: int, weight: Float[Tensor, "head m n"]) -> Tensor:
        """Entries of each head in random order, the same for the heads of a layer."""
        n = weight[0].numel()
        order = self._once(role, layer, lambda: torch.randperm(n, generator=self.generator))
        return weight.flatten(1)[:, order.to(weight.device)].view_as(weight)

    def _gaussian(self, role: str, layer: int, weight: Float[Tensor, "head m n"]) -> Tensor:
        size = weight.pow(2).mean((-2, -1), keepdim=True).sqrt()
        normal = self._once(
            role, layer, lambda: torch.randn(weight.shape, generator=self.generator)
        )
        return normal.to(weight) * size

    def _turn(self, d_model: int) -> Float[Tensor, "d_model d_model"]:
        """Uniform over all rotations and reflections."""
        normal = torch.randn(d_model, d_model, generator=self.generator, dtype=torch.float64)
        turn, R = torch.linalg.qr(normal)
        return turn * R.diagonal().sign()


def _pairs_of_layers(model: HookedTransformer, mode: Mode, norms: bool) -> Iterator[_Pair]:
    require_one_of("mode", mode, ("Q", "K", "V"))
    cfg, blocks = model.cfg, model.main_stack.blocks
    writers = [(wide(block.attn.W_V), wide(block.attn.W_O)) for block in blocks]
    readers = [_reader(model, layer, mode, norms) for layer in range(cfg.n_layers)]
    for earlier in range(cfg.n_layers - 1):
        V, O = writers[earlier]  # noqa: E741
        if norms:
            V = pull(norm_of_reader(model, earlier), V)
        for later in range(earlier + 1, cfg.n_layers):
            written = O
            if norms:
                front = norm_of_reader(model, later)
                written = push(path_from_writer(model, earlier, to=later), O)
                if any(norm.centres for norm in front):
                    written = written - written.mean(-1, keepdim=True)
            yield _Pair(earlier, later, V, written, *readers[later])


def _reader(model: HookedTransformer, layer: int, mode: Mode, norms: bool) -> tuple[Tensor, Tensor]:
    """`[head, d_model, d_head]` that meets the stream, `[head, d_head, d_model]` behind it."""
    front = norm_of_reader(model, layer) if norms else ()
    attn = model.main_stack.blocks[layer].attn
    if mode == "V":
        W_O = wide(attn.W_O)
        return pull(front, wide(attn.W_V)), _added(model, layer, W_O) if norms else W_O
    if norms:
        found = [qk_weights(model, layer, head) for head in range(model.cfg.n_heads)]
        W_Q, W_K = (pull(front, torch.stack(part)) for part in zip(*found, strict=True))
    else:
        W_Q, W_K = wide(attn.W_Q), wide(attn.W_K)
    return (W_Q, W_K.mT) if mode == "Q" else (W_K, W_Q.mT)


def _added(model: HookedTransformer, layer: int, W_O: Tensor) -> Tensor:
    """What heads add to the stream: behind their norm, less the mean that no reader sees."""
    block = model.main_stack.blocks[layer]
    if block.adds_normalised and isinstance(block.ln1_post, Norm):
        return push((block.ln1_post,), W_O)
    cfg = model.cfg
    if cfg.norm_placement == "pre" and cfg.norm_centres and cfg.final_norm:
        return W_O - W_O.mean(-1, keepdim=True)
    return W_O


def _scores(model: HookedTransformer, pairs: Iterable[_Pair]) -> Scores:
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    scores = torch.zeros(
        n_layers, n_heads, n_layers, n_heads,
        dtype=wide(model.W_E).dtype, device=model.W_E.device,
    )  # fmt: skip
    roots: dict[tuple[str, int], Tensor] = {}
    for pair in pairs:
        # Of the layer's heads, whichever layer they are paired with.
        for role, layer, factor in (
            ("V", pair.earlier, pair.V),
            ("other", pair.later, pair.other.mT),
        ):
            if (role, layer) not in roots:
                roots[role, layer] = gram_root(factor)
        rows = roots["V", pair.earlier] @ pair.O  # [head, d_head, d_model]
        columns = pair.reads @ roots["other", pair.later]  # [head, d_model, d_head]
        scores[pair.earlier, :, pair.later] = _scores_of(rows, columns)
    return scores


def _scores_of(
    rows: Float[Tensor, "head d_head d_model"], columns: Float[Tensor, "head d_model d_head"]
) -> Float[Tensor, "head head"]:
    """All pairs of two layers in one product of what is left of both circuits."""
    squares = pair_norms(rows, columns).pow(2)
    sizes = rows.pow(2).sum((1, 2))[:, None] * columns.pow(2).sum((1, 2))
    # A head that writes or reads nothing composes with none.
    return torch.where(
        sizes > 0, squares / sizes.clamp(min=torch.finfo(sizes.dtype).tiny), 0
    ).sqrt()


def pair_norms(
    rows: Float[Tensor, "head m d_model"], columns: Float[Tensor, "other_head d_model n"]
) -> Float[Tensor, "head other_head"]:
    """‖rows_i columns_j‖ of every pair, by one product of all of them."""
    product = rows.flatten(0, 1) @ columns.permute(1, 0, 2).flatten(1)
    by_head = product.view(rows.shape[0], rows.shape[1], columns.shape[0], columns.shape[2])
    return by_head.pow(2).sum((1, 3)).sqrt()


def gram_root(
    weight: Float[Tensor, "head d_model d_head"],
) -> Float[Tensor, "head d_head d_head"]:
    """The symmetric R with R² = WᵀW: ‖W X‖ = ‖R X‖ for every X, and R is small."""
    values, vectors = torch.linalg.eigh((weight.mT @ weight).double())
    root = (vectors * values.clamp(min=0).sqrt()[..., None, :]) @ vectors.mT
    return root.to(weight.dtype)


def _later(model: HookedTransformer, device: torch.device) -> Tensor:
    """`[layer, 1, layer, 1]`: whether the second layer is the later one."""
    layers = torch.arange(model.cfg.n_layers, device=device)
    return (layers[:, None] < layers[None, :])[:, None, :, None]
