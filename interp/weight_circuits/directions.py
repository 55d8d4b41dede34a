"""The directions that a model's weights write into its residual stream and read from it.

A Transformer does not say what its features are. Taken as such here, as the nearest that weights
alone give to the columns of a toy model's W (Elhage et al. 2022, *Toy Models of Superposition*):

- `W_E`: what each token writes; `W_U`: what each logit reads.
- `W_in`, `W_gate`: what each neuron reads; `W_out`: what it writes.
- `OV`: what each head writes, its singular directions. W_V and W_O can be turned against each other
  at will, so that the rows of W_O are no directions of the head's own; the product W_V W_O = U S Vᵀ
  is. Its directions are the columns of V, each as long as its singular value. Those of one head are
  orthogonal, so that what interferes with one are other heads alone.

Norms are taken as in `interp.weight_circuits.norms`, scales and biases out, weights and centring
in: what is read is taken in front of the norm, what is written behind the norm of what is added
(`sandwich`, `output`) or of the sum (`post`). What is written is less its mean over d_model where
LayerNorm takes that off all that is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.components.norm import Norm
from interp.errors import require
from interp.precision import wide
from interp.weight_circuits.norms import Path, pull, push
from interp.weight_circuits.vectors import token_vectors

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

Kind = Literal["W_E", "W_U", "OV", "cross OV", "W_in", "W_gate", "W_out"]
Stack = Literal["", "encoder", "decoder"]
_ROUNDING = 1e-6  # of a head's largest singular value
_HEADS = ("OV", "cross OV")
_READERS = ("W_U", "W_in", "W_gate")


@dataclass(frozen=True, slots=True)
class Directions:
    """The directions of one kind of weight in one layer.

    Attributes:
        kind: Of which weight they are.
        vectors: A row each, half precision as fp32.
        centred: Whether they have mean zero over d_model, so that one dimension is closed to them.
        stack: `encoder` or `decoder` in a model of both; empty in one of a single stack.
        layer: Whose; None for tokens.
        per_group: How many each head, or each expert of a mixture, has; those of one head are
            orthogonal and come from the longest to the shortest. None: no groups.
        less_mean: Whether the mean of all of them was taken off.
        ids: Which tokens (logits) they are of, rising, where some were left out. None: all.
    """

    kind: Kind
    vectors: Float[Tensor, "direction d_model"]
    centred: bool = False
    stack: Stack = ""
    layer: int | None = None
    per_group: int | None = None
    less_mean: bool = False
    ids: Int[Tensor, "direction"] | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def form(self) -> str:
        """What was taken off a set of tokens: `all`, or `distinct less mean`."""
        return (
            f"{'all' if self.ids is None else 'distinct'}{' less mean' if self.less_mean else ''}"
        )

    @property
    def label(self) -> str:
        """The stack, the kind and what was taken off: `encoder W_in`, `W_E distinct less mean`."""
        return f"{self.stack} {self.kind} {self.form.removeprefix('all').strip()}".strip()

    @property
    def of_heads(self) -> bool:
        """Whether they come in frames of orthogonal directions, one a head."""
        return self.kind in _HEADS

    @property
    def reads(self) -> bool:
        """Whether they are read from the residual stream, not written into it."""
        return self.kind in _READERS

    @property
    def width(self) -> int:
        """The dimensions that are open to them: d_model, or one less."""
        return self.vectors.shape[1] - self.centred

    @property
    def largest_rank(self) -> int:
        """The dimensions that so many directions can span, which their dimensionalities share."""
        return min(self.width, len(self) - self.less_mean)

    def name(self, index: int) -> str:
        """Of one direction: `L1N35` a neuron, `L1E2N35` an expert's, `L1H3.0` a head's longest.

        Tokens have their number.
        """
        if self.layer is None:
            return str(index if self.ids is None else int(self.ids[index]))
        if self.per_group is None:
            return f"L{self.layer}N{index}"
        group, member = divmod(index, self.per_group)
        joined = f"H{group}." if self.of_heads else f"E{group}N"
        return f"L{self.layer}{joined}{member}"

    def places_of(self, tokens: Int[Tensor, "token"]) -> Int[Tensor, "token"]:
        """Rows of tokens by id, without those of tokens that are not among these directions."""
        tokens = tokens.to(self.vectors.device)
        if self.ids is None:
            return tokens[tokens < len(self)]
        rows = torch.searchsorted(self.ids, tokens).clamp(max=len(self) - 1)
        return rows[self.ids[rows] == tokens]

    def only(self, kept: Bool[Tensor, "direction"]) -> Directions:
        """Some of the tokens' directions.

        Raises:
            InputError: for directions of a layer, or if none is left.
        """
        require(
            self.layer is None and bool(kept.any()),
            f"some tokens are to be left. Received {self.label} and {int(kept.sum())} to keep",
        )
        ids = kept.nonzero().flatten()
        rows = ids if self.ids is None else self.ids[ids]
        return replace(self, vectors=self.vectors[ids], ids=rows)

    def without_mean(self) -> Directions:
        """The same less the mean of all of them."""
        return replace(self, vectors=self.vectors - self.vectors.mean(0), less_mean=True)

    def of_norm_one(self) -> Directions:
        """The same, each at norm 1 (zeros as they are)."""
        norms = torch.linalg.vector_norm(self.vectors, dim=-1, keepdim=True)
        return replace(self, vectors=self.vectors / torch.where(norms > 0, norms, 1.0))


@torch.no_grad()
def weight_directions(model: HookedTransformer, fold_norms: bool = True) -> Iterator[Directions]:
    """All directions of a model, one kind of weight and one layer at a time.

    Tokens first, then layer by layer in the order in which a block runs; of an encoder–decoder the
    encoder's layers, then the decoder's, with its cross-attention. The neurons of all experts of a
    mixture are those of one layer.

    Args:
        model: Any.
        fold_norms: Take the norms' weights and centring along. False: the bare weights.
    """
    yield token_directions(model, fold_norms)
    yield unembedding_directions(model, fold_norms)
    for stack, blocks in stacks_of(model):
        for layer in range(len(blocks)):
            yield from block_directions(model, layer, stack, fold_norms)


def stacks_of(model: HookedTransformer) -> list[tuple[Stack, Any]]:
    """Name and blocks of each stack."""
    if model.cfg.architecture == "encoder-decoder":
        return [("encoder", model.encoder.blocks), ("decoder", model.decoder.blocks)]
    return [("", model.main_stack.blocks)]


@torch.no_grad()
def token_directions(model: HookedTransformer, fold_norms: bool = True) -> Directions:
    """The rows of W_E, as the first block (of an encoder–decoder, the decoder's) finds them."""
    vectors = token_vectors(model).detach()
    path: Path = ()
    if fold_norms and model.cfg.post_embedding_ln:
        path = _real([model.main_stack.ln_embed])
    return Directions("W_E", *_written(model, path, vectors, fold_norms))


@torch.no_grad()
def unembedding_directions(model: HookedTransformer, fold_norms: bool = True) -> Directions:
    """The columns of W_U, as they read in front of the last norm.

    That norm is the one at the end of the residual stream, or the one inside a `mlm` head. There,
    and behind a pooler, they read no residual stream.
    """
    path: Path = ()
    if fold_norms and model.cfg.head == "lm":
        path = _real([model.main_stack.ln_final])
    elif fold_norms and model.cfg.head == "mlm":
        path = _real([model.mlm_head.ln])
    W_U = wide(model.W_U.detach())
    if model.cfg.logit_scale != 1.0:
        W_U = W_U * model.cfg.logit_scale
    return Directions("W_U", pull(path, W_U).mT.contiguous(), _centring(path))


@torch.no_grad()
def block_directions(
    model: HookedTransformer, layer: int, stack: Stack = "", fold_norms: bool = True
) -> Iterator[Directions]:
    """The directions of one block: its heads', then its neurons'.

    Args:
        model: Any.
        layer: The block's.
        stack: Which of an encoder–decoder's; empty for a model of a single stack.
        fold_norms: Take the norms' weights and centring along.

    Raises:
        InputError: for a layer or stack that is not there, or heads whose weights are not finite.
    """
    blocks = dict(stacks_of(model)).get(stack)
    require(blocks is not None, f"this model has no stack {stack!r}")
    assert blocks is not None
    require(
        isinstance(layer, int) and 0 <= layer < len(blocks),
        f"layer must lie in 0 … {len(blocks) - 1}. Received {layer!r}",
    )
    block = blocks[layer]
    source = _in_front(block, "ln1") if fold_norms else ()
    yield _heads(model, block.attn, "OV", source, _behind(block, "ln1"), layer, stack, fold_norms)
    if block.crosses:
        source = _real([model.encoder.ln_final]) if fold_norms and model.cfg.final_norm else ()
        behind = _behind(block, "ln2")
        yield _heads(model, block.cross_attn, "cross OV", source, behind, layer, stack, fold_norms)
    if not model.cfg.attn_only:
        yield from _neurons(model, block, layer, stack, fold_norms)


def _heads(
    model: HookedTransformer,
    attn: Any,
    kind: Kind,
    source: Path,
    behind: Path,
    layer: int,
    stack: Stack,
    fold_norms: bool,
) -> Directions:
    W_V = pull(source, wide(attn.W_V.detach()))
    W_O, centred = _written(model, behind, wide(attn.W_O.detach()), fold_norms)
    require(
        bool(W_V.isfinite().all() & W_O.isfinite().all()),
        f"weights of heads must be finite numbers. Received others in layer {layer}",
    )
    # No more than there are dimensions: a head as wide as d_model has one that centring empties.
    n = min(W_O.shape[-2], W_O.shape[-1] - centred)
    frames = _singular_directions(W_V, W_O)[:, :n]
    return Directions(kind, frames.flatten(0, 1), centred, stack, layer, per_group=n)


def _singular_directions(
    W_V: Float[Tensor, "head d_model d_head"], W_O: Float[Tensor, "head d_head d_model"]
) -> Float[Tensor, "head d_head d_model"]:
    """The right singular vectors of each W_V W_O, each as long as its singular value.

    With R of RᵀR = W_VᵀW_V the small B = R W_O has the same. B Bᵀ = U S² Uᵀ is d_head × d_head, and
    UᵀB = S Vᵀ, with no division by small S. Taken in fp64, as squares lose half of the digits.
    Of a head that writes to fewer dimensions than it has, rounding leaves rows that are not
    orthogonal: those are made zeros.
    """
    values, vectors = torch.linalg.eigh(W_V.double().mT @ W_V.double())
    R = values.clamp(min=0).sqrt()[..., None] * vectors.mT
    B = R @ W_O.double()
    U = torch.linalg.eigh(B @ B.mT).eigenvectors.flip(-1)
    rows = U.mT @ B
    norms = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return rows.where(norms > _ROUNDING * norms.amax(-2, keepdim=True), 0.0).to(W_O.dtype)


def _neurons(
    model: HookedTransformer, block: Any, layer: int, stack: Stack, fold_norms: bool
) -> Iterator[Directions]:
    mlp = block.mlp
    per_group = None if model.cfg.num_experts is None else model.cfg.width_mlp
    front = _in_front(block, block.mlp_norm) if fold_norms else ()
    kinds: list[Kind] = ["W_gate", "W_in"] if hasattr(mlp, "W_gate") else ["W_in"]
    for kind in kinds:
        read = pull(front, wide(getattr(mlp, kind).detach())).mT.contiguous()
        vectors = read.view(-1, model.cfg.d_model)  # experts, where there are, one after another
        yield Directions(kind, vectors, _centring(front), stack, layer, per_group)
    W_out = wide(mlp.W_out.detach())
    inner = getattr(mlp, "ln", None)  # of `solu_ln`, between the neurons and W_out
    if fold_norms and inner is not None:
        W_out = pull(_real([inner]), W_out)
    W_out, centred = _written(model, _behind(block, block.mlp_norm), W_out, fold_norms)
    written = W_out.reshape(-1, model.cfg.d_model)
    yield Directions("W_out", written, centred, stack, layer, per_group)


def _written(
    model: HookedTransformer, path: Path, vectors: Tensor, fold_norms: bool
) -> tuple[Tensor, bool]:
    """What is written behind these norms, and whether its mean over d_model was taken off."""
    if not fold_norms:
        return vectors, False
    vectors = push(path, vectors)
    cfg = model.cfg
    if not (cfg.norm_centres and cfg.norm_placement in ("pre", "sandwich") and cfg.final_norm):
        return vectors, False
    return vectors - vectors.mean(-1, keepdim=True), True


def _in_front(block: Any, name: str) -> Path:
    """The norm in front of what reads."""
    return _real([getattr(block, name)]) if block.reads_normalised else ()


def _behind(block: Any, name: str) -> Path:
    """The norms that what is written passes on its way into the stream."""
    added = [getattr(block, f"{name}_post")] if block.adds_normalised else []
    summed = [getattr(block, name)] if block.cfg.norm_placement == "post" else []
    return _real([*added, *summed])


def _real(norms: Iterable[Any]) -> Path:
    return tuple(norm for norm in norms if isinstance(norm, Norm))


def _centring(path: Path) -> bool:
    """Whether what reads behind these norms sees no mean over d_model."""
    return bool(path) and path[0].centres
