from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, InputError
from interp.lens import TunedLens, lens_kl, logit_lens, train_tuned_lens
from interp.training import TrainSettings
from tests.interp.kinds import KINDS, given_to, some_tokens, with_padding

MakeModel = Callable[..., HookedTransformer]
AssertClose = Callable[..., None]


def _linear_model(make_model: MakeModel) -> HookedTransformer:
    """Every block adds a fixed linear map: each position attends to itself alone, no norms."""
    model = make_model(
        n_layers=3, attn_only=True, act_fn=None, normalization_type=None, dtype="float64",
        positional_embedding_type="none", window_size=1, attn_types=("local",) * 3,
    )  # fmt: skip
    with torch.no_grad():
        for block in model.blocks:
            block.attn.W_O *= 3.0  # so that the layers differ
    return model


def _perfect(model: HookedTransformer) -> tuple[Tensor, Tensor]:
    """What takes each stream to the last: (I + A_l)(I + A_{l+1}) … − I, and where 0 goes."""
    maps = []
    for block in model.blocks:
        attn = block.attn
        A = torch.einsum("hde,hef->df", attn.W_V, attn.W_O)
        b = attn.b_O + torch.einsum("he,hef->f", attn.b_V, attn.W_O)
        maps.append((A.detach(), b.detach()))
    W, b_W = [], []
    for layer in range(len(maps)):
        whole, offset = torch.eye(24, dtype=torch.float64), torch.zeros(24, dtype=torch.float64)
        for A, b in maps[layer:]:
            whole, offset = whole + whole @ A, offset + offset @ A + b
        W.append(whole - torch.eye(24, dtype=torch.float64))
        b_W.append(offset)
    return torch.stack(W), torch.stack(b_W)


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "bert", "t5"])
def test_untrained_is_the_logit_lens(
    name: str, make_model: MakeModel, assert_close: AssertClose
) -> None:
    model = make_model(dtype="float64", **KINDS[name])
    given = given_to(model)
    found = logit_lens(model, **given, tuned=TunedLens(model), keep_logits=True)
    assert_close(found.logits, logit_lens(model, **given, keep_logits=True).logits)
    assert_close(lens_kl(model, given), found.kl[:-1].mean((1, 2)))


def test_known_translators_leave_nothing(make_model: MakeModel, assert_close: AssertClose) -> None:
    """Where later layers are an affine map, the translator that is that map foretells the end."""
    model = _linear_model(make_model)
    lens = TunedLens(model)
    W, b_W = _perfect(model)
    lens.load_state_dict({"W": W, "b_W": b_W})
    tokens = some_tokens(4, 9)
    assert lens_kl(model, tokens).min() > 0.1
    assert lens_kl(model, tokens, lens).max() < 1e-12
    found = logit_lens(model, tokens, tuned=lens, keep_logits=True)
    assert_close(found.logits, model(tokens).detach().expand(4, -1, -1, -1))


def test_training_finds_what_is_there_to_find(make_model: MakeModel) -> None:
    """In the same model, from nothing, on other tokens: what is left goes to 0 with the steps."""
    model = _linear_model(make_model)
    left = [lens_kl(model, some_tokens(16, 8, seed=1))]
    for steps in (40, 160):
        settings = TrainSettings(steps=steps, lr=0.06, log_every=steps)
        lens, history = train_tuned_lens(model, some_tokens(64, 8), settings, batch_size=16)
        left.append(lens_kl(model, some_tokens(16, 8, seed=1), lens))
    assert (left[1] < left[0] / 5).all() and (left[2] < left[1] / 3).all(), left
    assert history.rows[-1]["loss"] < history.rows[0]["loss"] / 40


def test_loss_is_the_mean_divergence(make_model: MakeModel, assert_close: AssertClose) -> None:
    """Before the first update: what `lens_kl` gives, over real positions and layers."""
    model = make_model(dtype="float64")
    given = with_padding(given_to(model), [0, 2, 1], left=True)
    _, history = train_tuned_lens(
        model, lambda step, generator: given, TrainSettings(steps=1, log_every=1)
    )
    expected = lens_kl(model, given)
    assert abs(history.rows[0]["loss"] - float(expected.mean())) < 1e-10
    real = given["attention_mask"].bool()
    by_hand = logit_lens(model, **given).kl[:-1, real].mean(-1)
    assert_close(expected, by_hand)
    assert_close(lens_kl(model, given, batch_size=1), expected)


def test_groups_of_layers_learn_the_same(make_model: MakeModel, assert_close: AssertClose) -> None:
    model = make_model(dtype="float64", n_layers=3)
    settings = TrainSettings(steps=5, lr=0.01)
    lenses = [
        train_tuned_lens(model, some_tokens(8, 6), settings, batch_size=4, max_bytes=n)[0]
        for n in (1, 40_000, 1 << 29)
    ]
    for other in lenses[1:]:
        assert_close(other.W, lenses[0].W)
        assert_close(other.b_W, lenses[0].b_W)
    assert lenses[0].W.abs().max() > 0


def test_training_leaves_the_model_alone_and_is_a_function_of_its_seed(
    make_model: MakeModel,
) -> None:
    model = make_model()
    before = {name: p.clone() for name, p in model.named_parameters()}
    lenses = []
    for seed in (0, 0, 1):
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(len(lenses))  # what is drawn elsewhere has no say
            settings = TrainSettings(steps=3, seed=seed)
            lenses.append(train_tuned_lens(model, some_tokens(8, 6), settings, batch_size=2)[0])
    assert torch.equal(lenses[0].W, lenses[1].W)
    assert not torch.equal(lenses[0].W, lenses[2].W)
    for name, p in model.named_parameters():
        assert p.grad is None and p.requires_grad and torch.equal(p, before[name])
    assert not model.watched_hooks()[0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_saved_and_loaded(dtype: str, make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model(dtype=dtype)
    settings = TrainSettings(steps=2)
    lens, _ = train_tuned_lens(model, some_tokens(8, 6), settings, batch_size=2)
    assert lens.W.dtype == torch.float32
    lens.save(tmp_path / "lens")
    lens.save(tmp_path / "lens")  # in place of the one before
    again = TunedLens.load(tmp_path / "lens", model)
    assert torch.equal(again.W, lens.W) and torch.equal(again.b_W, lens.b_W)
    assert again.training_record == json.loads(json.dumps(lens.training_record))
    assert again.training_record["steps"] == 2
    found = logit_lens(model, some_tokens(), tuned=again)
    assert torch.equal(found.kl, logit_lens(model, some_tokens(), tuned=lens).kl)


def test_other_weights_are_refused(make_model: MakeModel, tmp_path: Path) -> None:
    """Another model's, at once; and the model's own, once they were written into."""
    model, other = make_model(), make_model(n_layers=3)
    lens = TunedLens(model)
    lens.save(tmp_path / "lens")
    with pytest.raises(InputError, match="very weights"):
        logit_lens(other, some_tokens(), tuned=lens)
    with pytest.raises(InputError, match="very weights"):
        TunedLens.load(tmp_path / "lens", other)
    logit_lens(model, some_tokens(), tuned=lens)
    with torch.no_grad():
        model.W_U[0, 0] += 1.0
    with pytest.raises(InputError, match="very weights"):
        logit_lens(model, some_tokens(), tuned=lens)
    with torch.no_grad():
        model.W_U[0, 0] -= 1.0
    twin = make_model()
    logit_lens(twin, some_tokens(), tuned=lens)  # the same weights elsewhere


def test_weights_at_the_same_place_are_no_proof(make_model: MakeModel) -> None:
    """Another model in the memory of the first, and weights that torch keeps no count of."""
    model = make_model()
    lens = TunedLens(model)
    logit_lens(model, some_tokens(), tuned=copy.deepcopy(lens))
    twin = make_model()
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        theirs.data = mine.data
    twin.W_U.data[0, 0] += 1.0
    with pytest.raises(InputError, match="very weights"):
        logit_lens(twin, some_tokens(), tuned=lens)
    with torch.inference_mode():
        uncounted, other = make_model(), make_model(n_layers=3)
    with pytest.raises(InputError, match="very weights"):
        TunedLens(uncounted).check(other)


def test_single_vectors_are_translated(make_model: MakeModel, assert_close: AssertClose) -> None:
    lens = TunedLens(make_model(dtype="float64"))
    torch.nn.init.normal_(lens.W, generator=torch.Generator().manual_seed(0))
    torch.nn.init.normal_(lens.b_W, generator=torch.Generator().manual_seed(1))
    h = torch.randn(2, 3, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found = lens.translate(1, h)
    assert_close(found, h + h @ lens.W[1] + lens.b_W[1])
    assert_close(lens.translate(1, h[0, 0]), found[0, 0])
    assert torch.equal(lens.translate(2, h), h)
    for layer in (-1, 3):
        with pytest.raises(InputError, match="layer must lie in 0 … 2"):
            lens.translate(layer, h)


def test_trained_in_inference_mode(make_model: MakeModel) -> None:
    """As outside of it."""
    model, settings = make_model(), TrainSettings(steps=2)
    expected, _ = train_tuned_lens(model, some_tokens(), settings, batch_size=2)
    with torch.inference_mode():
        found, _ = train_tuned_lens(model, some_tokens(), settings, batch_size=2)
    assert torch.equal(found.W, expected.W) and not found.W.is_inference()


def test_bad_input(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="new or empty directory"):
        TunedLens(model).save(tmp_path / "notes")
    with pytest.raises(InputError, match="does not exist"):
        TunedLens.load(tmp_path / "nowhere", model)
    folder = TunedLens(model).save(tmp_path / "lens")
    (folder / "tuned_lens.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match="damaged"):
        TunedLens.load(folder, model)
    with pytest.raises(InputError, match="needs a model with blocks"):
        TunedLens(make_model(n_layers=0))
    with pytest.raises(InputError, match="next-sentence"):
        TunedLens(make_model(**KINDS["next-sentence"]))
    wrong: list[Any] = ["text", torch.zeros(3), {"attention_mask": some_tokens()}]
    for prompts in wrong:
        with pytest.raises(InputError, match="prompts must be"):
            lens_kl(model, prompts)
    tokens = some_tokens()
    padding = {"input": tokens, "attention_mask": torch.zeros_like(tokens)}
    with pytest.raises(InputError, match="padding alone"):
        lens_kl(model, padding)
    with pytest.raises(InputError, match="padding alone"):
        train_tuned_lens(model, padding)
    with pytest.raises(InputError, match="batch_size"):
        lens_kl(model, some_tokens(), batch_size=0)


def test_each_layer_of_real_models_comes_closer(
    third_party: Callable[[str], Path], assert_close: AssertClose
) -> None:
    """stories260K, on what it writes itself: a short training lowers every layer's divergence."""
    from interp import load_model

    model = load_model(third_party("stories260K"), device="cpu")
    start = model.to_tokens("Once").expand(24, -1)
    rows = model.generate(start, max_new_tokens=20, do_sample=True, seed=0, return_type="tokens")
    settings = TrainSettings(steps=40, lr=0.01)
    lens, _ = train_tuned_lens(model, rows[:16], settings, batch_size=8)
    before, after = lens_kl(model, rows[16:]), lens_kl(model, rows[16:], lens)
    assert (after < before).all(), (before, after)


def test_the_zoo_comes_closer() -> None:
    from interp import zoo

    model = zoo.load("zoo:induction", device="cpu")
    generator = torch.Generator().manual_seed(0)
    half = torch.randint(5, model.cfg.d_vocab, (40, 12), generator=generator)
    rows = torch.cat([torch.full((40, 1), model.tokenizer.bos_token_id), half, half], 1)
    lens, _ = train_tuned_lens(model, rows[:32], TrainSettings(steps=60, lr=0.01))
    before, after = lens_kl(model, rows[32:]), lens_kl(model, rows[32:], lens)
    assert (after < before).all(), (before, after)
