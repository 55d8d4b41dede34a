from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

pytest.importorskip("seaborn", reason="needs the extra 'plots'")

from analyses import AnalysisResult, run_analysis
from interp import HookedTransformer, InputError, load_model
from interp.charts.mpl import draw
from interp.weight_circuits.directions import Directions, weight_directions
from tests.covering import EXHAUSTIVE
from tests.interp.kinds import KINDS

Make = Callable[..., HookedTransformer]
# The directions themselves are held against formulas on all kinds, in tests of `interp`.
SOME = [
    "gpt2", "llama", "multi-query", "wide-heads", "solu-ln", "gemma2", "gpt-oss", "mixtral-post",
    "bert-folded-mlm", "classifier", "t5", "marian", "heads-only-translator",
]  # fmt: skip
CHECKS = {
    "dimensionality-equals-pair-by-pair",
    "dimensionalities-sum-to-the-rank-at-most",
    "squared-norms-equal-trace",
}


def _run(model: HookedTransformer, **params: Any) -> AnalysisResult:
    result = run_analysis("superposition-in-model", model, quick=True, **params)
    assert {check.name for check in result.checks} == CHECKS
    assert result.passed, result.checks
    return result


def _row(table: pd.DataFrame, **where: Any) -> pd.Series:
    for column, value in where.items():
        table = table[table[column] == value]
    (row,) = table.to_dict("records")
    return pd.Series(row)


@pytest.mark.parametrize("kind", KINDS if EXHAUSTIVE else SOME)
def test_every_kind(kind: str, make_model: Make) -> None:
    """Each set's mean D by every product of two of its directions."""
    dtype = "float32" if kind in ("gpt2", "t5", "mixtral-post") else "float64"
    model = make_model(**{**KINDS[kind], "dtype": dtype})
    tables = _run(model).tables
    cfg = model.cfg
    for each in weight_directions(model):
        table = tables["tokens" if each.layer is None else "layers"]
        where = {"directions": each.label, "weights": "model"}
        row = _row(table, **where, **({} if each.layer is None else {"layer": each.layer}))
        W = each.vectors.double().numpy()
        squares = (W**2).sum(1)
        D = [s**2 / ((W @ w) ** 2).sum() if s > 0 else 0.0 for w, s in zip(W, squares, strict=True)]
        assert row["dimensionality"] == pytest.approx(np.mean(D), rel=1e-5), each.label
        assert row["norm_mean"] == pytest.approx(np.sqrt(squares).mean(), rel=1e-5)
        random = _row(
            table,
            **{**where, "weights": "random"}
            | ({} if each.layer is None else {"layer": each.layer}),
        )
        assert random["norm_mean"] == pytest.approx(row["norm_mean"], rel=1e-5)
        assert random["at_most"] == row["at_most"] == each.largest_rank / len(each)
    n_stacks = 2 if cfg.architecture == "encoder-decoder" else 1
    assert ("alignment" in tables) == (cfg.norm_placement != "post")
    if n_stacks == 1:
        assert len(tables["heads"]) == cfg.n_layers * cfg.n_heads


def test_figures_and_files(make_model: Make, tmp_path: Path) -> None:
    result = _run(make_model(**KINDS["t5"]))
    assert set(result.figures) == {
        "tokens", "spread", "cosines", "dimensionality", "effective-dimensions", "heads",
        "alignment", "neighbours",
    }  # fmt: skip
    draw(result.figures["alignment"], result.tables["alignment"])  # the only one with two stacks
    loaded = AnalysisResult.load(_unwritten(result).save(tmp_path / "run"))
    assert list(loaded.tables) == list(result.tables)


def _unwritten(result: AnalysisResult) -> AnalysisResult:
    """The result without its figures, which are drawn of the zoo's models."""
    parts = (result.tables, {}, result.checks, result.provenance, result.caveat)
    return AnalysisResult(result.name, result.question, *parts)


def _bare(make_model: Make, W_E: Tensor, **fields: Any) -> HookedTransformer:
    """A model without norms whose tokens are these directions."""
    n, d_model = W_E.shape
    model = make_model(
        **{"normalization_type": None, "dtype": "float64", "d_vocab": n, "d_model": d_model,
           "d_vocab_out": 3, **fields}
    )  # fmt: skip
    with torch.no_grad():
        model.W_E.copy_(W_E)
    return model


def _polytopes() -> Tensor:
    """A pentagon, a digon and a direction alone, each in dimensions of its own, and one of none."""
    W = torch.zeros(8, 24, dtype=torch.float64)
    angles = torch.arange(5) * 2 * torch.pi / 5
    W[:5, 0], W[:5, 1] = 3 * angles.cos(), 3 * angles.sin()
    W[5, 2], W[6, 2], W[7, 3] = 0.1, -0.1, 40.0
    return W


def test_known_polytopes(make_model: Make) -> None:
    result = _run(_bare(make_model, _polytopes()), k=8)
    row = _row(result.tables["tokens"], directions="W_E", weights="model")
    assert row["dimensionality"] == pytest.approx((5 * 0.4 + 2 * 0.5 + 1) / 8, abs=1e-7)
    assert row["dimensionality_largest"] == pytest.approx(1.0, abs=1e-12)
    assert row["effective_dimensions"] < 2  # the longest direction is nearly all there is
    found = result.tables["extremes"].query("directions == 'W_E' and which == 'most'")
    found = found.set_index("direction")["dimensionality"]
    assert found[["0", "1", "2", "3", "4"]].to_numpy() == pytest.approx(0.4, abs=1e-7)
    assert found[["5", "6"]].to_numpy() == pytest.approx(0.5, abs=1e-7)
    even = _run(_bare(make_model, _polytopes()), unit_norms=True)
    row = _row(even.tables["tokens"], directions="W_E", weights="model")
    # Eigenvalues 5/2, 5/2, 2 and 1 of the second moment.
    assert row["effective_dimensions"] == pytest.approx(8**2 / (12.5 + 4 + 1))
    assert row["norm_mean"] == pytest.approx(1.0)
    assert row["dimensions_per_feature"] == pytest.approx(24 / 8)
    assert row["interference"] == pytest.approx((5 * 1.5 + 2 * 1) / 8)
    assert row["smallest_cosine"] == pytest.approx(-1.0)
    pair = _row(even.tables["pairs"], directions="W_E", which="most opposite", rank=1)
    assert {pair["first"], pair["second"]} == {"5", "6"}


def test_spread(make_model: Make) -> None:
    """Of polytopes all dimensionalities lie in three classes, and all cosines are counted."""
    W_E = _polytopes()
    model = _bare(make_model, W_E / W_E.norm(dim=1, keepdim=True))
    model.blocks[0].attn.W_O.data[0] *= 1e-3  # a head with next to nothing of its dimensions
    spread = _run(model).tables["spread"]
    assert spread.query("directions == 'OV' and measure == 'dimensionality'")["value"].min() < 1e-5
    found = spread.query("directions == 'W_E' and weights == 'model'")
    D = found.query("measure == 'dimensionality' and share > 0")
    assert D["share"].tolist() == [5 / 8, 2 / 8, 1 / 8]
    of_tokens = spread.query("measure == 'dimensionality' and directions == 'W_E'")
    width = np.log(of_tokens["value"]).diff().abs().min()
    assert width < 0.07  # classes of its own, though heads' dimensionalities lie elsewhere
    assert np.abs(np.log(D["value"] / [0.4, 0.5, 1.0])).max() <= width / 2 + 1e-9
    cosine = found.query("measure == 'cosine' and share > 0").set_index("value")["share"]
    assert cosine.sum() == pytest.approx(1.0)
    assert cosine.iloc[0] == pytest.approx(2 / 56)  # the digon's, at -1
    shown = spread[spread["shown"]]["directions"].unique().tolist()
    assert "W_E less mean" in shown
    assert "W_E" not in shown


def test_copies_count_once(make_model: Make) -> None:
    """Tokens that share a direction are measured with and without their copies."""
    generator = torch.Generator().manual_seed(0)
    some = torch.randn(20, 24, generator=generator, dtype=torch.float64)
    unseen = some[:1] + 1e-3 * torch.randn(40, 24, generator=generator, dtype=torch.float64)
    W_E = torch.cat([some, unseen])[torch.randperm(60, generator=generator)]
    tables = _run(_bare(make_model, W_E), sampled=60).tables
    rows = tables["tokens"].query("kind == 'W_E' and weights == 'model'").set_index("form")
    assert rows["n"].to_dict() == {
        "all": 60, "all less mean": 60, "distinct": 20, "distinct less mean": 20,
    }  # fmt: skip
    alone = _run(_bare(make_model, some)).tables["tokens"]
    for form in ("all", "all less mean"):
        expected = _row(alone, kind="W_E", weights="model", form=form)
        found = rows.loc[form.replace("all", "distinct")]
        assert found["dimensionality"] == pytest.approx(expected["dimensionality"], rel=0.01)
    assert "distinct" not in set(alone["form"])
    neighbours = tables["neighbours"]
    assert neighbours["directions"].iloc[0] == "W_E distinct less mean"  # as the figure shows
    # Ids are those of the vocabulary, whatever was left out.
    unit = (W_E / W_E.norm(dim=1, keepdim=True)).numpy()
    for row in neighbours.query("directions == 'W_E distinct'").to_dict("records"):
        cosine = unit[row["token_id"]] @ unit[row["neighbour_id"]]
        assert row["cosine"] == pytest.approx(cosine)
        assert row["neighbour"] == str(row["neighbour_id"])


def test_neighbours(make_model: Make) -> None:
    model = make_model(normalization_type=None, dtype="float64")
    found = _run(model, tokens=[7, "#3", 7], k=4).tables["neighbours"]
    W = model.W_E.detach().numpy()
    less = W - W.mean(0)
    for label, vectors in (("W_E", W), ("W_E less mean", less)):
        rows = found[found["directions"] == label]
        assert rows["token_id"].tolist() == [7] * 4 + [3] * 4
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        for token, part in rows.groupby("token_id"):
            expected = unit @ unit[int(str(token))]
            order = [i for i in np.argsort(-expected) if i != token][:4]
            assert part["neighbour_id"].tolist() == order
            assert part["cosine"].to_numpy() == pytest.approx(expected[order])
    default = _run(model, n_tokens=5).tables["neighbours"].query("directions == 'W_E less mean'")
    nearest = default.query("rank == 1")["cosine"].to_numpy()
    assert len(nearest) == 5
    assert (np.diff(nearest) <= 0).all()  # from the closest to the loneliest


@torch.no_grad()
def test_what_is_written_beside_what_reads_it(make_model: Make) -> None:
    """Neurons of the last layer read what the first heads write, and nothing that its MLP does."""
    model = make_model(normalization_type=None, dtype="float64")
    first, last = model.blocks
    first.attn.W_O.zero_()[:, :, :3] = 1.0
    first.attn.W_O[:, :, :3] += 0.1 * torch.randn(4, 6, 3, generator=_generator())
    first.mlp.W_out.zero_()[:, 20:] = torch.randn(20, 4, generator=_generator()).double()
    last.mlp.W_in.zero_()[:3] = torch.randn(3, 20, generator=_generator()).double()
    found = _run(model).tables["alignment"].set_index(["written", "read"])
    assert found.loc[("L0 W_out", "L1 W_in"), "alignment"] == 0.0
    assert np.isnan(found.loc[("L0 W_out", "L1 W_in"), "doublings"])
    heads = {d.kind: d for d in weight_directions(model) if d.layer == 0}["OV"].vectors
    expected = 24 * _mean_squared_cosine(heads, last.mlp.W_in.T)
    row = found.loc[("L0 OV", "L1 W_in")]
    assert row["alignment"] == pytest.approx(expected)
    assert row["doublings"] == pytest.approx(np.log2(expected))
    # What is read sees what was written before it: its own block's heads, not its own MLP.
    pairs = set(found.index)
    assert ("L1 OV", "L1 W_in") in pairs
    assert ("L1 W_out", "L1 W_in") not in pairs
    assert ("L1 OV", "L0 W_in") not in pairs
    assert ("W_E", "W_U") in pairs
    assert len(pairs) == 2 + 4 + 5
    side_by_side = make_model(parallel_attn_mlp=True)
    pairs = set(_run(side_by_side).tables["alignment"].set_index(["written", "read"]).index)
    assert ("L1 OV", "L1 W_in") not in pairs
    assert ("L0 OV", "L1 W_in") in pairs
    assert "alignment" not in _run(model, between=False).tables


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _mean_squared_cosine(a: Tensor, b: Tensor) -> float:
    """Over all pairs, weighted by both squared norms."""
    weights = [float((x @ x) * (y @ y)) for x in a for y in b]
    values = [float(x @ y) ** 2 for x in a for y in b]
    return sum(values) / sum(weights)


def test_stacks_of_a_translator(make_model: Make) -> None:
    """Tokens enter both stacks; each reads what it writes itself."""
    found = _run(make_model(**KINDS["t5"])).tables["alignment"]
    assert set(found["stack"]) == {"encoder", "decoder"}
    encoder = found[found["stack"] == "encoder"]
    assert set(encoder["written"]) == {"W_E", "L0 OV", "L0 W_out", "L1 OV"}
    assert set(encoder["read"]) == {"L0 W_in", "L1 W_in"}
    decoder = found[found["stack"] == "decoder"]
    assert set(decoder["written"]) == {"W_E", "L0 OV", "L0 cross OV", "L0 W_out"}
    assert set(decoder["read"]) == {"L0 W_in", "W_U"}


@torch.no_grad()
def test_heads_that_write_the_same(make_model: Make) -> None:
    model = make_model(normalization_type=None, dtype="float64")
    attn = model.blocks[1].attn
    attn.W_V[3], attn.W_O[3] = 2 * attn.W_V[1], attn.W_O[1]
    heads = _run(model).tables["heads"].set_index("component")
    assert (heads.loc["L1H1", "nearest"], heads.loc["L1H3", "nearest"]) == ("L1H3", "L1H1")
    assert heads.loc["L1H1", "nearest_overlap"] == pytest.approx(1.0)
    assert heads.loc["L1H3", "norm"] == pytest.approx(2 * heads.loc["L1H1", "norm"])
    norm = (attn.W_V[2] @ attn.W_O[2]).norm()
    assert heads.loc["L1H2", "norm"] == pytest.approx(float(norm))
    moments = [x.T @ x for x in (v @ o for v, o in zip(attn.W_V, attn.W_O, strict=True))]
    expected = [torch.cosine_similarity(moments[0].flatten(), m.flatten(), dim=0) for m in moments]
    assert heads.loc["L1H0", "overlap"] == pytest.approx(float(sum(expected[1:])) / 3)
    column = heads["doublings"]
    assert column.to_numpy() == pytest.approx(np.log2(heads["overlap"] / heads["random_overlap"]))


def test_narrow_models(make_model: Make) -> None:
    """One head, one neuron, one logit, no layers, one token: what there is of it is measured."""
    lone = make_model(n_heads=1, d_head=1, d_mlp=1, d_vocab_out=1)
    tables = _run(lone).tables
    assert "overlap" not in tables["heads"]
    assert tables["layers"]["dimensionality"].to_numpy() == pytest.approx(1.0)
    assert set(tables["tokens"]["directions"]) == {"W_E", "W_E less mean", "W_U"}
    flat = _run(make_model(n_layers=0))
    assert set(flat.tables["alignment"]["written"]) == {"W_E"}
    assert "layers" not in flat.tables
    single = _run(make_model(d_vocab=1, d_vocab_out=1, n_layers=0))
    assert "neighbours" not in single.tables
    same = _run(_bare(make_model, torch.ones(6, 24, dtype=torch.float64), n_layers=0))
    rows = same.tables["tokens"].query("kind == 'W_E' and weights == 'model'").set_index("form")
    assert rows["dimensionality"].to_dict() == pytest.approx(
        {"all": 1 / 6, "all less mean": 0.0, "distinct": 1.0, "distinct less mean": 0.0}
    )
    for result in (flat, single, same):
        for chart in result.figures.values():
            chart.rows(result.tables[chart.table])


def test_zoo_and_real_models(third_party: Callable[[str], Path]) -> None:
    """Arithmetic on circles fills few dimensions, two classes are a digon, unseen bytes one."""
    rows = (
        _run(load_model("zoo:modular-addition"))
        .tables["tokens"]
        .set_index(["directions", "weights"])
    )
    assert rows.loc[("W_U", "model"), "effective_dimensions"] < 12
    assert rows.loc[("W_U", "random"), "effective_dimensions"] > 50
    classes = _run(load_model("zoo:brackets")).tables
    row = _row(classes["tokens"], directions="W_U less mean", weights="model")
    assert row["dimensionality"] == pytest.approx(0.5)
    assert "class 0" in set(classes["extremes"]["direction"])
    model = load_model(third_party("stories260K"))
    tables = _run(model, tokens=[" upon", " Lily"], k=2).tables
    rows = tables["tokens"].query("kind == 'W_E' and weights == 'model'").set_index("form")
    assert rows.loc["all", "n"] == 512
    assert rows.loc["distinct", "n"] < 300
    assert rows.loc["distinct", "dimensionality"] > 3 * rows.loc["all", "dimensionality"]
    assert set(tables["neighbours"]["token"]) == {" upon", " Lily"}


def test_same_seed_same_numbers(make_model: Make) -> None:
    model = make_model()
    first, again, other = (_run(model, seed=seed).tables["layers"] for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    differs = first["dimensionality"] != other["dimensionality"]
    assert set(first["weights"][differs]) == {"random"}


def test_bad_input(make_model: Make) -> None:
    model = make_model()
    with pytest.raises(InputError, match=r"a token must lie in 0 … 30. Received 31"):
        _run(model, tokens=[31])
    with pytest.raises(InputError, match=r"no tokenizer: give tokens by id. Received 'cat'"):
        _run(model, tokens=["cat"])
    with pytest.raises(InputError, match="duplicate_cosine"):
        _run(model, duplicate_cosine=0.0)
    model.blocks[1].mlp.W_out.data[0, 0] = torch.nan
    with pytest.raises(InputError, match="must be finite numbers"):
        _run(model)
    narrow = make_model(d_model=1, d_head=1, n_heads=1, normalization_type=None)
    with pytest.raises(InputError, match="its residual stream has a single dimension"):
        _run(narrow)


def test_labels_are_unique(make_model: Make) -> None:
    found = [*weight_directions(make_model(**KINDS["translator"]))]
    assert len({(each.label, each.layer) for each in found}) == len(found)
    assert all(isinstance(each, Directions) for each in found)
