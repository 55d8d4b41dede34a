"""Head scores against plain loops over the model's own patterns, on every kind of model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, HookedTransformerConfig, InputError, load_model
from interp.behaviour import (
    BEHAVIOURS,
    found_heads,
    head_scores,
    offset_scores,
    repeated_tokens,
    shows,
)
from interp.behaviour.scores import BehaviourScore
from tests.covering import every_nth
from tests.interp.kinds import KINDS, given_to, with_padding

Kind = Callable[[str], HookedTransformer]


def looked_for(behaviour: str, tokens: list[int], i: int) -> set[int]:
    """Where a head of this kind looks from token i of an unpadded text."""
    if behaviour == "previous_token":
        return {i - 1} if i >= 1 else set()
    if behaviour == "same_token":
        return {i}
    if behaviour == "first_token":
        return {0}
    earlier = [j for j in range(i) if tokens[j] == tokens[i]]
    return set(earlier) if behaviour == "duplicate_token" else {j + 1 for j in earlier}


def expected(
    behaviour: str, pattern: Tensor, tokens: Tensor, real: Tensor, causal: bool, window: int | None
) -> tuple[list[list[float]], list[float], int]:
    """Each sequence's mean by head, its chance, and the number of destinations."""
    values, chances, n = [], [], 0
    for row in range(len(tokens)):
        index = [i for i in range(tokens.shape[1]) if real[row, i]]
        text = [int(tokens[row, i]) for i in index]
        first = 2 if behaviour == "previous_token" else 1
        masses, uniform = [], []
        for i in range(first, len(text)):
            sources = looked_for(behaviour, text, i)
            if not sources:
                continue
            seen = [
                j
                for j in range(len(text))
                if (j <= i or not causal) and (window is None or abs(i - j) < window)
            ]
            masses.append(pattern[row, :, index[i], [index[j] for j in sources]].sum(-1))
            uniform.append(len(sources & set(seen)) / len(seen))
        n += len(masses)
        if masses:
            values.append((sum(masses) / len(masses)).tolist())
            chances.append(sum(uniform) / len(uniform))
    return values, chances, n


def check(model: HookedTransformer, run: dict[str, Tensor], assert_close: Any) -> None:
    both = model.cfg.architecture == "encoder-decoder"
    _, cache = model.run_with_cache(**run, names_filter=lambda n: n.endswith("attn.hook_pattern"))
    for part in ("encoder", "decoder") if both else (None,):
        of_encoder = ("input", "attention_mask")
        arguments = {k: v for k, v in run.items() if part != "encoder" or k in of_encoder}
        prefix = "" if part is None else f"{part}."
        own = "decoder_" if part == "decoder" else ""
        tokens = run[f"{own}input"]
        mask = run.get(f"{own}attention_mask", torch.ones_like(tokens))
        stack: Any = {"encoder": getattr(model, "encoder", None)}.get(part or "", model.main_stack)
        for route in ("statistics", "patterns"):
            found = head_scores(model, part=part, route=route, **arguments)  # type: ignore[arg-type]
            assert tuple(found) == BEHAVIOURS
            for name, of in found.items():
                for layer, block in enumerate(stack.blocks):
                    window = block.cfg.window_size if block.local else None
                    pattern = cache[f"{prefix}blocks.{layer}.attn.hook_pattern"]
                    values, chances, n = expected(
                        name, pattern, tokens, mask.bool(), stack.causal, window
                    )
                    what = f"{name} of {prefix}{layer} by {route}"
                    assert of.n_destinations == n, what
                    assert of.n_sequences == len(values), what
                    if values:
                        wide = torch.tensor(values, dtype=torch.float64)
                        assert_close(of.values[:, layer], wide, what)
                        wide = torch.tensor(chances, dtype=torch.float64)
                        assert_close(of.chances[:, layer], wide, what)


# Positions, and how many of each row are padding, on the left or on the right.
ROWS: list[tuple[int, list[int] | None, bool]] = [
    (8, None, False), (7, [0, 2, 3], True), (6, [3, 0, 1], False), (2, [0, 1, 1], True),
    (5, [1, 1, 4], True),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "rows"),
    [(name, rows) for i, name in enumerate(KINDS) for rows in every_nth(ROWS, len(ROWS), i)],
)
def test_equal_loops_over_patterns(
    kind: Kind, assert_close: Any, name: str, rows: tuple[int, list[int] | None, bool]
) -> None:
    model = kind(name)
    n_pos, pads, left = rows
    run = given_to(model, 3, n_pos, seed=len(name))
    run = {k: v % 3 if "input" in k else v for k, v in run.items()}  # so that tokens repeat
    if pads is not None:
        run = with_padding(run, [min(n, n_pos - 1) for n in pads], left)
    check(model, run, assert_close)


def score_of(values: list[list[float]], chances: list[float]) -> BehaviourScore:
    """One layer, a head for each column."""
    return BehaviourScore(
        "induction",
        torch.tensor(values, dtype=torch.float64)[:, None],
        torch.tensor(chances, dtype=torch.float64)[:, None],
        len(values),
    )


def test_errors_and_chance_by_hand() -> None:
    of = score_of([[0.8, 0.1], [0.6, 0.3]], [0.2, 0.4])
    assert of.score.tolist() == [[pytest.approx(0.7), pytest.approx(0.2)]]
    # s of 0.8 and 0.6 is 0.2 / √2, and that over √2 is 0.1
    assert of.stderr.tolist() == [[pytest.approx(0.1), pytest.approx(0.1)]]
    assert of.chance.tolist() == [pytest.approx(0.3)]
    assert of.excess.tolist() == [[pytest.approx(0.4 / 0.7), pytest.approx(-0.1 / 0.7)]]
    # 0.6 and 0.2 above chance: mean 0.4, error 0.2
    assert float(of.errors_above_chance[0, 0]) == pytest.approx(2.0)


def test_the_rule_has_two_parts() -> None:
    steady_but_small = score_of([[0.2], [0.2001]], [0.1, 0.1])
    assert float(steady_but_small.errors_above_chance) > 100
    assert not shows(steady_but_small).any()
    large_but_unsteady = score_of([[1.0], [0.1]], [0.05, 0.05])
    assert float(large_but_unsteady.excess) > 0.4
    assert not shows(large_but_unsteady).any()
    assert shows(large_but_unsteady, n_errors=1.0).all()
    assert shows(score_of([[0.9], [0.91]], [0.05, 0.05])).all()
    likely_by_chance = score_of([[0.9], [0.91]], [0.88, 0.88])  # a short text
    assert not shows(likely_by_chance).any()
    no_spread = score_of([[0.9], [0.9]], [0.1, 0.1])
    assert shows(no_spread).all()


@pytest.mark.parametrize("seed", every_nth(range(12), 2, 0))
def test_untrained_models_have_no_such_heads(seed: int) -> None:
    fields: list[dict[str, Any]] = [
        {"positional_embedding_type": "standard"},
        {"positional_embedding_type": "rotary", "normalization_type": "RMS"},
        {"positional_embedding_type": "alibi", "attention_dir": "bidirectional"},
    ]
    cfg = HookedTransformerConfig(
        n_layers=4, d_model=64, n_ctx=64, n_heads=8, d_head=8, d_mlp=128, act_fn="gelu",
        d_vocab=200, seed=seed, device="cpu", **fields[seed % 3],
    )  # fmt: skip
    model = HookedTransformer(cfg)
    scores = head_scores(model, repeated_tokens(model, 16, seed=seed).tokens)
    assert found_heads(scores) == []
    assert all(of.n_sequences == 16 for of in scores.values())


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_a_head_made_to_look_there_is_found(
    make_model: Callable[..., HookedTransformer], behaviour: str
) -> None:
    """A pattern written by a hook, with all of the mass where the behaviour looks."""
    model = make_model(d_vocab=31)
    repeated = repeated_tokens(model, 4, 7)
    tokens = repeated.tokens

    def write(pattern: Tensor, hook: Any) -> Tensor:
        pattern = pattern.clone()
        for row in range(len(tokens)):
            for i in range(tokens.shape[1]):
                at = looked_for(behaviour, tokens[row].tolist(), i) or {i}
                pattern[row, 2, i] = 0
                pattern[row, 2, i, sorted(at)] = 1 / len(at)
        return pattern

    with model.hooks(fwd_hooks=[("blocks.1.attn.hook_pattern", write)]):
        scores = head_scores(model, tokens, route="patterns")
        with pytest.raises(InputError, match="hook_pattern"):
            head_scores(model, tokens)
    assert float(scores[behaviour].score[1, 2]) == pytest.approx(1.0)
    (found,) = [f for f in found_heads(scores, 0.99) if f.behaviour == behaviour]
    assert (found.label, found.score) == ("L1H2", pytest.approx(1.0))
    assert not any(p.is_watched for p in model.hook_points())


def test_texts_are_read_as_the_model_reads_them(third_party: Any, assert_close: Any) -> None:
    """Padded texts give each what it gives alone."""
    model = load_model(str(third_party("stories260K")), dtype="float64")
    texts = ["Lily and Tom saw a dog. Lily and Tom ran.", "One day, one day, a cat sat.", "Hello!"]
    together = head_scores(model, texts)
    alone = [head_scores(model, text) for text in texts]
    for name in BEHAVIOURS:
        values = torch.cat([of[name].values for of in alone])
        chances = torch.cat([of[name].chances for of in alone])
        assert_close(together[name].values, values, name)
        assert_close(together[name].chances, chances, name)


def test_a_text_that_names_the_pad_token_is_not_padded(assert_close: Any) -> None:
    """As for `forward`, which reads a text's tokens all as real."""
    model = load_model("zoo:brackets", device="cpu", dtype="float64")
    text = f"(){model.tokenizer.pad_token}()"
    tokens, mask = model.tokenize(text)
    assert mask is None
    assert model.tokenizer.pad_token_id in tokens
    ones = torch.ones_like(tokens)
    expected = head_scores(model, tokens, attention_mask=ones, route="patterns")
    for route in ("statistics", "patterns"):
        for name, of in head_scores(model, text, route=route).items():  # type: ignore[arg-type]
            assert_close(of.values, expected[name].values, name)
    padded = head_scores(model, tokens)["same_token"]
    assert padded.n_destinations < expected["same_token"].n_destinations


def test_a_behaviour_without_destinations(make_model: Callable[..., HookedTransformer]) -> None:
    model = make_model()
    scores = head_scores(model, torch.arange(5)[None].repeat(3, 1))
    assert scores["induction"].n_sequences == 0
    assert scores["induction"].score.isnan().all()
    assert not shows(scores["induction"]).any()


def test_one_sequence_has_no_error(make_model: Callable[..., HookedTransformer]) -> None:
    model = make_model()
    scores = head_scores(model, torch.tensor([[1, 2, 1, 2, 1]]), ["induction"])
    assert math.isnan(float(scores["induction"].stderr[0, 0]))
    with pytest.raises(InputError, match="two sequences"):
        found_heads(scores)


def test_bad_input(make_model: Callable[..., HookedTransformer]) -> None:
    model = make_model()
    tokens = torch.tensor([[1, 2, 1], [2, 1, 2]])
    with pytest.raises(InputError, match="unknown behaviour 'inducton'; did you mean 'induction'"):
        head_scores(model, tokens, ["inducton"])
    with pytest.raises(InputError, match="sequence of names"):
        head_scores(model, tokens, "induction")
    with pytest.raises(InputError, match="at least one"):
        head_scores(model, tokens, [])
    with pytest.raises(InputError, match="route"):
        head_scores(model, tokens, route="both")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="one stack"):
        head_scores(model, tokens, part="encoder")
    with pytest.raises(InputError, match="tokens must lie"):
        head_scores(model, tokens + 40)
    with pytest.raises(InputError, match="no layers"):
        head_scores(make_model(n_layers=0), tokens)
    good = head_scores(model, tokens)
    for threshold in (0.0, 1.5):
        with pytest.raises(InputError, match="threshold"):
            found_heads(good, threshold)
    with pytest.raises(InputError, match="n_errors"):
        found_heads(good, n_errors=-1)


def test_nothing_of_the_model_is_changed(make_model: Callable[..., HookedTransformer]) -> None:
    model = make_model()
    head_scores(model, torch.tensor([[1, 2, 1]]), route="patterns")
    head_scores(model, torch.tensor([[1, 2, 1]]))
    assert not any(p.is_watched for p in model.hook_points())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_a_gpu(make_model: Callable[..., HookedTransformer], assert_close: Any) -> None:
    here, there = make_model(), make_model(device="cuda")
    tokens = repeated_tokens(here, 4, 7).tokens
    on_gpu = repeated_tokens(there, 4, 7).tokens
    assert torch.equal(on_gpu.cpu(), tokens)
    expected = head_scores(here, tokens)
    for route in ("statistics", "patterns"):
        found = head_scores(there, on_gpu, route=route)  # type: ignore[arg-type]
        for name, of in expected.items():
            assert found[name].values.device.type == "cuda"
            assert_close(found[name].values.cpu(), of.values, name, 1e-5)
            assert_close(found[name].chances.cpu(), of.chances, name)
    expected_offsets, found_offsets = offset_scores(here, tokens), offset_scores(there, on_gpu)
    for offset, of in expected_offsets.by_offset.items():
        assert_close(found_offsets.by_offset[offset].values.cpu(), of.values, "", 1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(make_model: Callable[..., HookedTransformer], dtype: str) -> None:
    wide, half = make_model(), make_model(dtype=dtype)
    tokens = repeated_tokens(wide, 3, 6).tokens
    for route in ("statistics", "patterns"):
        found = head_scores(half, tokens, route=route)  # type: ignore[arg-type]
        for name, of in head_scores(wide, tokens).items():
            assert (found[name].values - of.values).abs().max() < 0.05
