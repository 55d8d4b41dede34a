from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("seaborn", reason="needs the extra 'plots'")

from analyses import AnalysisResult, run_analysis
from interp import HookedTransformer, InputError, load_model
from interp.lens import TunedLens, logit_lens
from tests.interp.kinds import KINDS

MakeModel = Callable[..., HookedTransformer]
TOKENS = [3, 1, 4, 1, 5, 9]


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "bert", "parallel-grouped-bare"])
def test_tables_are_what_the_lens_reads(name: str, make_model: MakeModel) -> None:
    """Every number in its row; the last stream's against the model's own softmax."""
    fields = {k: v for k, v in KINDS[name].items() if k != "n_token_types"}
    model = make_model(dtype="float64", **fields)
    result = run_analysis("logit-lens", model, tokens=TOKENS, target=7, position=2, top_k=3)
    assert result.passed and len(result.checks) == 2, result.checks
    table = result.tables["lens"]
    found = logit_lens(model, torch.tensor([TOKENS]), 7)
    assert len(table) == len(found.labels) * 6
    for row in table.itertuples():
        at = (row.order, 0, row.position)
        assert row.stream == found.labels[row.order]
        assert row.kl == float(found.kl[at]) and row.entropy == float(found.entropy[at])
        assert row.target_rank == int(found.target_rank[at]) + 1
        assert row.top_token == str(int(found.top_tokens[at][0]))
    probabilities = model(torch.tensor([TOKENS]))[0].detach().softmax(-1)
    last = table[table["stream"] == "final_post"]
    assert np.allclose(last["target_probability"], probabilities[:, 7], rtol=0, atol=1e-10)
    assert np.allclose(last["final_probability"], probabilities.max(-1).values, rtol=0, atol=1e-10)
    assert (last["top_token"] == last["final_token"]).all()
    assert set(result.tables["at-position"]["position"]) == {2}
    top = result.tables["top"]
    assert top["rank"].tolist() == [1, 2, 3] * len(found.labels)
    assert top["token_id"].tolist()[-3:] == probabilities[2].topk(3).indices.tolist()


def test_mid_streams(make_model: MakeModel) -> None:
    result = run_analysis("logit-lens", make_model(), tokens=TOKENS, incl_mid=True)
    streams = result.tables["at-position"]["stream"].tolist()
    assert streams == ["0_pre", "0_mid", "1_pre", "1_mid", "final_post"]


def test_default_target_is_the_top_prediction(make_model: MakeModel) -> None:
    result = run_analysis("logit-lens", make_model(), tokens=TOKENS)
    last = result.tables["at-position"].iloc[-1]
    assert last["target_rank"] == 1 and last["target_probability"] == last["final_probability"]
    assert result.tables["predictions"]["token"].iloc[0] == last["final_token"]


@pytest.mark.usefixtures("undrawn_figures")
def test_tuned_lens_trained_saved_and_used(tmp_path: Path) -> None:
    """Beside the logit lens; the same seed gives the same table; one that was saved is used."""
    model = load_model("zoo:induction", device="cpu")
    settings: dict[str, Any] = {"prompt": "k T 4 w k T", "tuned_steps": 12, "tuned_rows": 4}
    result = run_analysis("logit-lens", model, tuned=True, **settings)
    assert result.passed
    tuning = result.tables["tuning"].pivot(index="stream", columns="lens", values="kl")
    assert (tuning["tuned lens"] < tuning["logit lens"]).all()
    again = run_analysis("logit-lens", model, tuned=True, **settings)
    assert again.tables["lens"].equals(result.tables["lens"])
    other = run_analysis("logit-lens", model, tuned=True, seed=1, **settings)
    assert not other.tables["tuning"].equals(result.tables["tuning"])

    lens = TunedLens(model)
    with torch.no_grad():
        lens.b_W[:, 0] += 0.5
    lens.save(tmp_path / "lens")
    used = run_analysis("logit-lens", model, prompt="k T", tuned_from=str(tmp_path / "lens"))
    tokens = model.to_tokens("k T")
    expected = logit_lens(model, tokens, tuned=lens).kl[:, 0].flatten().double().numpy()
    table = used.tables["lens"]
    assert np.array_equal(table[table["lens"] == "tuned lens"]["kl"], expected)
    result.save(tmp_path / "result")
    assert AnalysisResult.load(tmp_path / "result").passed


def test_translator(tmp_path: Path) -> None:
    """The decoder's streams, on what the model writes itself or on what it is given."""
    model = load_model("zoo:translation", device="cpu")
    source = "the small dog sleeps today"
    written = model.generate(source, max_new_tokens=20, do_sample=False)
    result = run_analysis("logit-lens", model, prompt=source)
    assert result.passed
    texts = result.provenance.str_tokens[0]
    assert "".join(texts[1:]).strip().replace(" ", "") == written.replace(" ", "")
    assert result.tables["at-position"]["top_token"].iloc[-1] == "</s>"
    given = run_analysis("logit-lens", model, prompt=source, decoder_prompt="Hoje, o")
    assert given.passed and len(given.provenance.tokens[0]) < len(texts)


def test_real_model(third_party: Callable[[str], Path]) -> None:
    """“… a little girl named” → “ Lily”: it comes up through the layers and is first in the end."""
    model = load_model(third_party("stories260K"), device="cpu")
    prompt = "Once upon a time, there was a little girl named"
    result = run_analysis("logit-lens", model, prompt=prompt, target=" Lily")
    assert result.passed
    ranks = result.tables["at-position"]["target_rank"].tolist()
    assert ranks[-1] == 1 and ranks[0] > 1


def test_bad_input(make_model: MakeModel) -> None:
    model = make_model()
    for rule, settings in {
        "leave out incl_mid": {"tuned": True, "incl_mid": True},
        "not both": {"tuned": True, "tuned_from": "somewhere"},
        "does not exist": {"tuned_from": "nowhere-at-all"},
        "one stack": {"decoder_prompt": "x"},
        "position must lie": {"position": 6},
    }.items():
        with pytest.raises(InputError, match=rule):
            run_analysis("logit-lens", model, tokens=TOKENS, **settings)
    with pytest.raises(InputError, match="give it as tuned_from"):
        encoder = make_model(attention_dir="bidirectional", architecture="encoder")
        run_analysis("logit-lens", encoder, tokens=TOKENS, tuned=True)
    with pytest.raises(InputError, match="one vector for the whole sequence"):
        run_analysis("logit-lens", load_model("zoo:brackets", device="cpu"), prompt="()")
    with pytest.raises(InputError, match="no layers"):
        run_analysis("logit-lens", make_model(n_layers=0), tokens=TOKENS)
