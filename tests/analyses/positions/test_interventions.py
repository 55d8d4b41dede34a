"""Tables of moved positions and removed subspaces against runs made by hand."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch

pytest.importorskip("tokenizers", reason="needs the extra 'hf'")

from analyses import AnalysisResult, run_analysis
from interp import HookedTransformer, HookedTransformerConfig, InputError, load_model
from interp.zoo.tasks import task_of

NAME = "position-interventions"
FEW: dict[str, Any] = {"sequences": 12, "shifts": [1, 3], "ranks": [1, 3], "draws": 2}


@pytest.fixture(scope="module")
def results() -> dict[str, AnalysisResult]:
    return {
        name: run_analysis(NAME, load_model(f"zoo:{name}", device="cpu"), **FEW)
        for name in ("count-learned", "copy-rotary", "count-none", "copy-t5")
    }


def effect(result: AnalysisResult, move: str, table: str = "effects") -> pd.Series:
    rows = result.tables[table]
    found = rows[rows["move"] == move]
    assert len(found) == 1, (move, list(rows["move"]))
    return found.iloc[0]


def random_model(encoding: str, **fields: Any) -> HookedTransformer:
    small: dict[str, Any] = {
        "n_layers": 2, "d_model": 16, "n_ctx": 12, "n_heads": 2, "d_vocab": 20, "act_fn": "gelu",
        "device": "cpu", "default_prepend_bos": False, "initializer_range": 0.4,
    }  # fmt: skip
    cfg = HookedTransformerConfig(**{**small, **fields}, positional_embedding_type=encoding)
    return HookedTransformer(cfg).eval()


def test_a_shift_of_all_is_a_shifted_table(results: dict[str, AnalysisResult]) -> None:
    """Of learned positions, with loss and accuracy by hand."""
    model = load_model("zoo:count-learned", device="cpu")
    task = task_of(model)
    assert task is not None
    result = results["count-learned"]
    assert result.provenance.parameters["length"] is None
    rows = task.rows(12, task.trained_length - 3, 0)  # room for the largest shift
    with torch.no_grad():
        clean = model(rows.tokens).double().log_softmax(-1)
        W_pos = model.pos_embed.W_pos
        W_pos.copy_(W_pos.roll(-3, 0))
        moved = model(rows.tokens).double().log_softmax(-1)
    losses = -moved.gather(-1, rows.targets[..., None])[..., 0][rows.scored]
    right = (moved.argmax(-1) == rows.targets)[rows.scored]
    kl = (clean.exp() * (clean - moved)).sum(-1).mean()
    found = effect(result, "shift +3, all")
    assert found["loss"] == pytest.approx(float(losses.mean()), rel=1e-5)
    assert found["accuracy"] == pytest.approx(float(right.double().mean()))
    assert found["kl"] == pytest.approx(float(kl), rel=1e-5)
    assert found["loss_change"] == pytest.approx(found["loss"] - found["loss_clean"], abs=1e-9)


def test_relative_positions_do_not_see_a_shift_of_all(results: dict[str, AnalysisResult]) -> None:
    for name in ("copy-rotary", "copy-t5"):
        for by in (1, 3):
            assert effect(results[name], f"shift +{by}, all")["kl"] < 1e-5
            assert effect(results[name], f"shift +{by}, queries")["kl"] > 0.1
    # And all at one position is as good as none at all.
    for name in ("copy-rotary", "copy-t5"):
        frozen, zero = (effect(results[name], f"{what}, all") for what in ("freeze", "zero"))
        assert frozen["kl"] == pytest.approx(zero["kl"], abs=1e-4)


def test_one_layer_without_turning(results: dict[str, AnalysisResult]) -> None:
    """Queries and keys put back as they were before they were turned."""
    model = load_model("zoo:copy-rotary", device="cpu")
    task = task_of(model)
    assert task is not None
    rows = task.rows(12, task.trained_length - 3, 0)  # room for the largest shift
    for layer in range(model.cfg.n_layers):
        straight: dict[str, torch.Tensor] = {}

        def keep(x: torch.Tensor, hook: Any, straight: dict[str, torch.Tensor] = straight) -> None:
            straight[hook.name.rsplit("_", 1)[1]] = x

        def put_back(x: torch.Tensor, hook: Any, straight: Any = straight) -> torch.Tensor:
            return straight[hook.name.rsplit("_", 1)[1]]

        attn = f"blocks.{layer}.attn"
        hooks = [(f"{attn}.hook_{n}", keep) for n in "qk"]
        hooks += [(f"{attn}.hook_rot_{n}", put_back) for n in "qk"]
        with torch.no_grad():
            clean = model(rows.tokens).double().log_softmax(-1)
            moved = model.run_with_hooks(rows.tokens, fwd_hooks=hooks).double().log_softmax(-1)
        kl = float((clean.exp() * (clean - moved)).sum(-1).mean())
        found = effect(results["copy-rotary"], f"zero, all, layer {layer}", "by-layer")
        assert found["kl"] == pytest.approx(kl, rel=1e-4)
        assert found["layer"] == layer


def test_a_subspace_by_hand() -> None:
    """Rank 1 of the means at the last site: principal direction, share, and what is lost."""
    model = random_model("standard", n_ctx=16, dtype="float64")
    result = run_analysis(NAME, model, sequences=16, length=8, shifts=[1], ranks=[1], draws=2)
    from interp.position_effects import position_rows

    tokens = position_rows(model, 16, 8).tokens
    hook = "blocks.1.hook_resid_post"
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens)
        x = cache[hook]
        means = x.mean(0)
        away = means - means.mean(0)
        directions = torch.linalg.eigh(away.T @ away).eigenvectors
        top, centre = directions[:, -1], x.mean((0, 1))
        edited = x - ((x - centre) @ top)[..., None] * top
        moved = model(edited, start_at_layer=2)
    clean, moved = (y.log_softmax(-1) for y in (logits, moved))
    kl = float((clean.exp() * (clean - moved)).sum(-1).mean())
    rows = result.tables["subspace"]
    found = rows[(rows["which"] == "position means") & (rows["layer"] == 2)].iloc[0]
    assert found["kl"] == pytest.approx(kl, rel=1e-8)
    share = ((x - centre) @ top).square().sum() / (x - centre).square().sum()
    assert found["variance"] == pytest.approx(float(share))
    assert found["error"] == "standard error over sequences" and found["draws"] == 1
    drawn = rows[rows["which"] == "random, equal rank"]
    assert (drawn["draws"] == 2).all() and (drawn["error"] == "sd over draws").all()
    equal = rows[(rows["which"] == "random, equal variance") & (rows["layer"] == 2)].iloc[0]
    assert equal["dims"] == max(1, round(float(share) * 16))


def test_position_leaves_with_its_subspace() -> None:
    """Where positions are one direction, a new probe finds nothing once that is gone."""
    model = random_model("standard", n_ctx=24, d_model=16, n_layers=1)
    along = torch.randn(16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        model.pos_embed.W_pos.copy_((torch.arange(24.0) / 8)[:, None] * along)
    result = run_analysis(NAME, model, sequences=60, length=16, shifts=[1], ranks=[1], draws=2)
    rows = result.tables["remaining"]
    at = rows[rows["layer"] == 0].set_index("which")
    r2, exact = at["position_r2"], at["position_accuracy"]
    assert r2["nothing"] > 0.95 and r2["random, equal rank"] > 0.9
    assert r2["position means"] < 0.2  # the means' own noise leaves a little
    assert exact["nothing"] > 2 * exact["position means"] and exact["position means"] < 0.2
    assert (result.tables["subspace"]["dims"] >= 1).all()


def test_what_a_probe_finds_before_and_after() -> None:
    """R² and accuracy of a probe for position at the first site, by fits of one site each."""
    from analyses.positions.removal import ALPHAS
    from interp.position_effects import position_rows
    from interp.probes import fit_ridge, split_by_group

    model = random_model("standard", n_ctx=24)
    result = run_analysis(NAME, model, sequences=30, length=16, shifts=[1], ranks=[2], draws=2)
    with torch.no_grad():
        _, cache = model.run_with_cache(position_rows(model, 30, 16).tokens)
    x = cache["blocks.0.hook_resid_pre"].double()
    means = x.mean(0) - x.mean((0, 1))
    basis = torch.linalg.svd(means, full_matrices=False).Vh[:2]
    split = split_by_group(torch.arange(30).repeat_interleave(16), seed=0)
    table = result.tables["remaining"]
    assert set(table["which"]) == {
        "nothing", "probe", "position means", "random, equal rank", "random, equal variance",
    }  # fmt: skip
    at = table[table["layer"] == 0].set_index("which")
    for which, kept in (("nothing", x), ("position means", x - x @ basis.T @ basis)):
        features = {"site": kept.flatten(0, 1)}
        fit = fit_ridge(features, torch.arange(16.0).repeat(30), split, ALPHAS)["site"]
        assert at["position_r2"][which] == pytest.approx(fit["r2"].value, abs=1e-4)
        assert at["position_accuracy"][which] == pytest.approx(fit["accuracy"].value, abs=0.02)


def test_rounding_is_no_position() -> None:
    """Where all dimensions are taken out, a new probe finds nothing."""
    model = random_model("standard", n_ctx=24, n_layers=1)
    along = torch.randn(16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        model.pos_embed.W_pos.copy_((torch.arange(24.0) * 100)[:, None] * along)
    result = run_analysis(NAME, model, sequences=20, length=16, shifts=[1], ranks=[1], draws=2)
    subspace, remaining = (
        result.tables[name].query("layer == 0").set_index("which")
        for name in ("subspace", "remaining")
    )
    all_of_it = "random, equal variance"
    assert subspace["dims"][all_of_it] == 16
    assert remaining["position_r2"][all_of_it] <= 0.0
    assert remaining["position_r2"]["nothing"] > 0.99


def test_ranks_that_do_not_fit_are_said() -> None:
    model = random_model("rotary")
    result = run_analysis(NAME, model, **{**FEW, "ranks": [1, 8, 7], "length": 8})
    assert set(result.tables["subspace"]["rank"]) == {1, 7}
    out = result.tables["left-out"].set_index("move")["reason"]
    assert out.to_dict() == {
        "removal, rank 8": "a rank must be below 8 positions and 16 dimensions"
    }


@pytest.mark.parametrize("encoding", ["standard", "rotary", "alibi"])
def test_checks_hold_with_other_hooks_on_the_model(encoding: str) -> None:
    model = random_model(encoding)
    encodes = {"standard": "hook_pos_embed", "alibi": "hook_pos_bias"}
    hook = encodes.get(encoding, "blocks.0.attn.hook_rot_q")
    with model.hooks(fwd_hooks=[(hook, lambda x, hook: 2 * x)]):
        result = run_analysis(NAME, model, **{**FEW, "length": 8})
    assert result.passed, result.checks
    assert len(result.checks) == 4 + (encoding != "standard")


def test_what_cannot_be_moved_is_said(results: dict[str, AnalysisResult]) -> None:
    none = results["count-none"]
    assert "effects" not in none.tables and "by-layer" not in none.tables
    assert "no positional encoding" in none.tables["left-out"]["reason"][0]
    assert {"subspace", "remaining"} <= set(none.figures)
    model = random_model("standard")
    full = run_analysis(NAME, model, length=12, sequences=6, shifts=[1, -1], removal=False)
    out = full.tables["left-out"].set_index("move")["reason"]
    assert set(out.index) == {"shift +1, all", "shift +1, half", "shift -1, all"}
    assert "learned positions end at 11: none for 12 (rows of 12 tokens)" in out["shift +1, all"]
    assert "vectors begin at position 0: none for -1" in out["shift -1, all"]
    # Nobody asked for a length: rows are left room.
    assert (
        "left-out"
        not in run_analysis(NAME, model, sequences=6, shifts=[1, 2], removal=False).tables
    )
    turned = run_analysis(NAME, random_model("rotary"), sequences=6, shifts=[-20], removal=False)
    assert "left-out" not in turned.tables and turned.passed


@pytest.mark.parametrize("encoding", ["rotary", "alibi", "shortformer"])
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_checks_hold_in_any_model(encoding: str, dtype: str) -> None:
    model = random_model(encoding, dtype=dtype, n_key_value_heads=1, normalization_type="RMS")
    result = run_analysis(NAME, model, **{**FEW, "shifts": [1], "length": 8})
    assert result.passed, result.checks
    assert len(result.checks) == 5


def test_a_bidirectional_encoder_has_kl_alone() -> None:
    result = run_analysis(NAME, load_model("zoo:brackets", device="cpu"), quick=True, **FEW)
    assert result.passed
    assert "loss" not in result.tables["effects"] and "loss" not in result.figures
    assert (result.tables["effects"]["kl"] >= 0).all()


def test_refusals() -> None:
    model = random_model("rotary")
    for settings, rule in (
        ({"ranks": [0]}, "ranks must be at least 1"),
        ({"shifts": [1, 0]}, "shifts must be other than 0"),
        ({"sequences": 4}, "sequences must be at least 5"),
        ({"length": 7}, "rows must have at least 8 tokens"),
        ({"length": 8, "ranks": [8, 64]}, r"below 8 positions and 16 dimensions. Received ranks"),
    ):
        with pytest.raises(InputError, match=rule):
            run_analysis(NAME, model, **settings)
    with pytest.raises(InputError, match="too few to move them about"):
        run_analysis(NAME, random_model("rotary", n_ctx=6))
