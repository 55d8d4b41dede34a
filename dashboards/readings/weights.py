"""Numbers read off a model's weights alone; subjects are those of `dashboards.page.model_alone`."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from analyses.weights.neurons import neuron_sizes_table, neuron_tokens_table
from analyses.weights.pairs import moved_table, sought_table
from analyses.weights.sizes import Where, ov_sizes_table, qk_sizes_table, singular_values_table
from analyses.weights.tables import (
    Texts,
    bigrams_table,
    composition_table,
    eigenvalues_table,
    heads_table,
    label,
    trigrams_table,
)
from analyses.weights.vocabulary import vocabulary_table
from dashboards.page.subject import Subject
from dashboards.readings.base import reading
from interp import HookedTransformer, InputError
from interp.factored import FactoredMatrix
from interp.weight_circuits import (
    copying_scores,
    cross_ov_circuit,
    cross_qk_circuit,
    ov_circuit,
    qk_circuit,
)
from interp.weight_circuits.circuits import Rows
from interp.weight_circuits.composition import Baseline
from interp.weight_circuits.directions import Stack

MOST_PRODUCTS = 10**12  # multiplications that one list of pairs may take: some seconds
MOST_RANDOM_PRODUCTS = 10**11  # with weights that are drawn for each: half a minute at most
MOST_HEADS = 256  # whose compositions are worked out at once
N_DRAWS = 20  # random sets of weights that compositions stand beside


@dataclass(frozen=True)
class Copying:
    """What the full OV circuits of all heads do to the token that they read.

    Attributes:
        heads: As `analyses.weights.tables.heads_table`.
        eigenvalues: As `analyses.weights.tables.eigenvalues_table`, of all heads.
    """

    heads: pd.DataFrame
    eigenvalues: pd.DataFrame


@reading(max_entries=16, spinner="Reading the heads’ circuits …")
def copying(model: HookedTransformer, subject: Subject, effective: bool) -> Copying:
    """The copying scores of all heads; logits less their mean."""
    cfg = model.cfg
    n = min(cfg.d_vocab, cfg.d_vocab_out)
    tokens = None if cfg.d_vocab == cfg.d_vocab_out else range(n)
    scores = copying_scores(model, tokens, effective, less_mean=True)
    heads = [(layer, head) for layer in range(cfg.n_layers) for head in range(cfg.n_heads)]
    return Copying(heads_table(scores, n), eigenvalues_table(scores, heads))


@reading(max_entries=16)
def ov_sizes(model: HookedTransformer, subject: Subject, where: Where) -> pd.DataFrame:
    """Norm and effective dimensions of every W_V W_O."""
    return ov_sizes_table(model, where)


@reading(max_entries=16)
def qk_sizes(model: HookedTransformer, subject: Subject) -> pd.DataFrame:
    """Norm and effective dimensions of every W_Q W_Kᵀ."""
    return qk_sizes_table(model)


@reading(max_entries=64)
def singular_values(
    model: HookedTransformer, subject: Subject, layer: int, head: int, where: Where
) -> pd.DataFrame:
    """The singular values of one W_V W_O."""
    return singular_values_table(model, layer, head, where)


@dataclass(frozen=True)
class OneHead:
    """A head, and how its circuits are read.

    Attributes:
        layer, head: Which.
        cross: Of cross-attention instead of self-attention.
        effective: Read tokens as the first MLP leaves them, from layer 1 on.
        distance: Rotary positions: how far back the source lies.
    """

    layer: int
    head: int
    cross: bool = False
    effective: bool = False
    distance: int = 0

    @property
    def name(self) -> str:
        """`L1H2`."""
        return label((self.layer, self.head))

    @property
    def _rows(self) -> Rows:
        return "effective" if self.effective and self.layer > 0 else "token"

    def ov(self, model: HookedTransformer) -> FactoredMatrix:
        """Its full OV circuit, logits less their mean."""
        if self.cross:
            return cross_ov_circuit(model, self.layer, self.head, less_mean=True)
        return ov_circuit(model, self.layer, self.head, self._rows, less_mean=True)

    def qk(self, model: HookedTransformer) -> FactoredMatrix:
        """Its full QK circuit, as scores."""
        if self.cross:
            return cross_qk_circuit(model, self.layer, self.head, scaled=True)
        rows = self._rows
        return qk_circuit(model, self.layer, self.head, rows, rows, self.distance, scaled=True)

    @property
    def ov_code(self) -> str:
        """Python that makes the OV circuit."""
        if self.cross:
            return f"cross_ov_circuit(model, {self.layer}, {self.head}, less_mean=True)"
        return f"ov_circuit(model, {self.layer}, {self.head}, {self._rows!r}, less_mean=True)"

    @property
    def qk_code(self) -> str:
        """Python that makes the QK circuit."""
        if self.cross:
            return f"cross_qk_circuit(model, {self.layer}, {self.head}, scaled=True)"
        return (
            f"qk_circuit(\n    model, {self.layer}, {self.head}, {self._rows!r}, {self._rows!r}, "
            f"{self.distance}, scaled=True\n)"
        )


@reading(max_entries=64, spinner="Looking through all pairs of tokens …")
def moved(
    model: HookedTransformer, subject: Subject, one: OneHead, k: int, token: int | None
) -> pd.DataFrame:
    """What attending to which token raises and lowers the most.

    Raises:
        InputError: If there are too many pairs for a page.
    """
    if token is None:
        _require_pairs(model, model.cfg.d_vocab_out)
    return moved_table(one.ov(model), k, Texts(model), token)


@reading(max_entries=64, spinner="Looking through all pairs of tokens …")
def sought(
    model: HookedTransformer, subject: Subject, one: OneHead, k: int, token: int | None
) -> pd.DataFrame:
    """Which destination likes which source most. Raises as `moved`, and as `qk_circuit`."""
    if token is None:
        _require_pairs(model, model.cfg.d_vocab)
    return sought_table(one.qk(model), k, Texts(model), token)


@reading(max_entries=64, spinner="Looking through all triples of tokens …")
def trigrams(model: HookedTransformer, subject: Subject, one: OneHead, k: int) -> pd.DataFrame:
    """source … destination → output, by attention × logit. Raises as `sought`."""
    _require_pairs(model, model.cfg.d_vocab + model.cfg.d_vocab_out)
    head = (one.layer, one.head)
    return trigrams_table(model, [head], k, one.effective, one.distance, Texts(model))


@reading(max_entries=8, spinner="Comparing heads …")
def compositions(
    model: HookedTransformer, subject: Subject, baseline: Baseline | None
) -> pd.DataFrame:
    """Every pair of an earlier and a later head, through queries, keys and values.

    Raises:
        InputError: If there are too many heads for a page, or too many for this baseline.
    """
    n = model.cfg.n_layers * model.cfg.n_heads
    if n > MOST_HEADS:
        raise InputError(
            f"a page compares {MOST_HEADS} heads at most; this model has {n}. Run the analysis "
            "weight-circuits from the command line."
        )
    if baseline is not None and not affords_baseline(model):
        raise InputError(
            f"{N_DRAWS} sets of random weights for {n} heads would take minutes. Look at "
            "the scores without a baseline, or run the analysis weight-circuits in the background."
        )
    return composition_table(model, baseline, N_DRAWS, 0)


def affords_baseline(model: HookedTransformer) -> bool:
    """Whether a page can compare this model's heads with random weights."""
    cfg = model.cfg
    pairs = cfg.n_heads**2 * cfg.n_layers * (cfg.n_layers - 1) // 2
    return 3 * N_DRAWS * pairs * cfg.d_model * cfg.d_head**2 <= MOST_RANDOM_PRODUCTS


@reading(max_entries=32)
def neuron_sizes(
    model: HookedTransformer, subject: Subject, layer: int, stack: Stack
) -> pd.DataFrame:
    """How much each neuron of a layer reads and writes."""
    return neuron_sizes_table(model, layer, stack)


@reading(max_entries=64)
def neuron_tokens(
    model: HookedTransformer, subject: Subject, layer: int, neuron: int, k: int, effective: bool
) -> pd.DataFrame:
    """The tokens that one neuron reads and writes most of."""
    return neuron_tokens_table(model, layer, neuron, k, effective, Texts(model))


@reading(max_entries=8, spinner="Reading the vocabulary …")
def vocabulary(model: HookedTransformer, subject: Subject) -> pd.DataFrame:
    """Norms of each token's embedding and unembedding, and how alike the two are."""
    return vocabulary_table(model, Texts(model))


@reading(max_entries=32, spinner="Looking through all pairs of tokens …")
def bigrams(model: HookedTransformer, subject: Subject, k: int, token: int | None) -> pd.DataFrame:
    """What the direct path puts after a token, or the strongest pairs. Raises as `moved`."""
    if token is None:
        _require_pairs(model, model.cfg.d_vocab_out, model.cfg.d_model)
    return bigrams_table(model, k, token, Texts(model))


def _require_pairs(model: HookedTransformer, columns: int, rank: int | None = None) -> None:
    cfg = model.cfg
    products = cfg.d_vocab * columns * (cfg.d_head if rank is None else rank)
    if products > MOST_PRODUCTS:
        raise InputError(
            f"pairs of {cfg.d_vocab:,} × {columns:,} tokens take {products:.1e} multiplications; a "
            f"page makes {MOST_PRODUCTS:.0e} at most. Run the analysis weight-circuits from the "
            "command line."
        )
