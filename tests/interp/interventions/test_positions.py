"""Moved positions against a restatement in which every token is told where it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from interp import HookedTransformer, HookedTransformerConfig, InputError
from interp.interventions import (
    FreezePositions,
    Interventions,
    ShiftPositions,
    ShufflePositions,
    SwapPositions,
    ZeroPositions,
    applied,
    hooks_for,
)
from tests.interp.interventions.moved import Told, compare, found, plain, restated
from tests.interp.kinds import KINDS, given_to, some_tokens, with_padding

EMBEDDED = ["gpt2", "grouped-standard", "classifier", "bert", "shortformer", "full-ungrouped"]


TURNED = [
    "llama", "llama-ungrouped", "neox", "gptj", "gemma3", "gpt-oss", "mixtral-post", "dynamic",
    "stablelm2",
]  # fmt: skip


BIASED = ["bloom", "bert-folded-mlm", "next-sentence"]


RELATIVE = ["rotary", "alibi", "relative_positional_bias"]


ADDED = ["standard", "sinusoidal"]


def swapped(n: int) -> list[float | None]:
    places = plain(n)
    places[0], places[-1] = places[-1], places[0]
    return places


def several(n: int) -> list[float | None]:
    """Shifted by 2, the first two frozen at 4, then the ends swapped, then the last shifted."""
    places: list[Any] = [i + 2 for i in range(n)]
    places[:2] = [4, 4]
    places[0], places[-1] = places[-1], places[0]
    places[-1] += 3
    return places


MOVES: dict[str, tuple[Any, Told]] = {
    "shift all": (ShiftPositions(3), lambda n: [i + 3 for i in range(n)]),
    "shift some": (
        ShiftPositions(2, positions=[1, -1]),
        lambda n: [i + 2 * (i in (1, n - 1)) for i in range(n)],
    ),
    "shift back": (ShiftPositions(-1, positions=[1, 2]), lambda n: [0, 0, 1, *range(3, n)]),
    "freeze all": (FreezePositions(2), lambda n: [2] * n),
    "freeze some": (
        FreezePositions(5, positions=[0, -2]),
        lambda n: [5, *range(1, n - 2), 5, n - 1],
    ),
    "swap": (SwapPositions(0, -1), swapped),
    "zero all": (ZeroPositions(), lambda n: [None] * n),
    "zero some": (ZeroPositions(positions=[2, 0]), lambda n: [None, 1, None, *range(3, n)]),
    "several": (
        Interventions([
            ShiftPositions(2), FreezePositions(4, positions=[0, 1]), SwapPositions(-1, 0),
            ShiftPositions(3, positions=-1),
        ]),
        several,
    ),
    "shift what has none": (
        Interventions([ZeroPositions(positions=0), ShiftPositions(1)]),
        lambda n: [None, *range(2, n + 1)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [*EMBEDDED, *TURNED, *BIASED])
def test_tokens_are_where_they_are_told_to_be(
    kind: Callable[[str], HookedTransformer], name: str
) -> None:
    model = kind(name)
    plainly = given_to(model, n_batch=2)
    padded = with_padding(given_to(model, n_batch=3, n_pos=6), [0, 1, 2], left=True)
    for label, (item, told) in MOVES.items():
        for given in (plainly, padded):
            if given is padded and label not in ("shift some", "zero some", "several"):
                continue
            expected = restated(model, given, told, told)
            compare(found(model, given, item), expected, given, label)
            if label in ("swap", "several"):  # it is something else than nothing
                with torch.no_grad():
                    assert float((model(**given) - expected).abs().max()) > 1e-4, label


@pytest.mark.parametrize("name", [*TURNED[:1], "gemma3", "dynamic", *BIASED])
@pytest.mark.parametrize("role", ["query", "key"])
def test_queries_and_keys_apart(
    kind: Callable[[str], HookedTransformer], name: str, role: str
) -> None:
    model = kind(name)
    given = with_padding(given_to(model), [0, 1, 0], left=False)
    alone = {"as_query": role == "query", "as_key": role == "key"}
    cases: list[tuple[Any, Told]] = [
        (ShiftPositions(2, positions=[0, 2], **alone), lambda n: [2, 1, 4, *range(3, n)]),
        (ZeroPositions(positions=1, **alone), lambda n: [0, None, *range(2, n)]),
        (SwapPositions(0, -1, **alone), swapped),
    ]
    for item, told in cases:
        roles = (told, plain) if role == "query" else (plain, told)
        compare(found(model, given, item), restated(model, given, *roles), given)


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_one_layer(kind: Callable[[str], HookedTransformer], name: str) -> None:
    model, told = kind(name), MOVES["freeze some"][1]
    given = given_to(model)
    item = FreezePositions(5, positions=[0, -2], layers=-1)
    compare(found(model, given, item), restated(model, given, told, told, [1]), given)
    both = Interventions([ShiftPositions(1, positions=0, layers=0), item])
    only = [hook for hook, _ in hooks_for(model, both)]
    assert sorted(only) == [f"blocks.{n}.attn.hook_rot_{role}" for n in (0, 1) for role in "kq"]


def _of(encoding: str, dtype: str = "float64", **fields: Any) -> HookedTransformer:
    small: dict[str, Any] = {
        "n_layers": 2, "d_model": 16, "n_ctx": 24, "n_heads": 4, "d_vocab": 31, "act_fn": "gelu",
        "device": "cpu", "initializer_range": 0.4,
    }  # fmt: skip
    cfg = HookedTransformerConfig(
        **small, dtype=dtype, positional_embedding_type=encoding, **fields
    )
    return HookedTransformer(cfg).eval()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("encoding", RELATIVE)
def test_relative_encodings_do_not_see_a_shift_of_all(
    encoding: str, dtype: str, assert_close: Any
) -> None:
    model, tokens = _of(encoding, dtype), some_tokens(2, 12)
    with torch.no_grad():
        clean = model(tokens)
    for by in (1, -3, 200):
        assert_close(found(model, {"input": tokens}, ShiftPositions(by)), clean, f"by {by}")


@pytest.mark.parametrize("encoding", ["standard", "shortformer"])
def test_a_shift_is_a_shifted_table(encoding: str, assert_close: Any) -> None:
    model, other = _of(encoding), _of(encoding)
    with torch.no_grad():
        other.pos_embed.W_pos.copy_(model.pos_embed.W_pos.roll(-5, 0))
        expected = other(some_tokens(2, 12))
    assert_close(found(model, {"input": some_tokens(2, 12)}, ShiftPositions(5)), expected)


@pytest.mark.parametrize("encoding", [*RELATIVE, *ADDED, "shortformer"])
def test_without_positions_it_is_a_model_without(encoding: str, assert_close: Any) -> None:
    model, tokens = _of(encoding), some_tokens(2, 9)
    none = _of("none")
    weights = {k: v for k, v in model.state_dict().items() if not k.startswith("pos_embed.")}
    none.load_state_dict(weights)
    with torch.no_grad():
        expected = none(tokens)
        assert float((model(tokens) - expected).abs().max()) > 1e-3
    assert_close(found(model, {"input": tokens}, ZeroPositions()), expected)
    if encoding in RELATIVE:  # and so all at one place
        assert_close(found(model, {"input": tokens}, FreezePositions(7)), expected)


@pytest.mark.parametrize("encoding", [*RELATIVE, *ADDED])
def test_with_positions_swapped_the_input_is_swapped_in_a_model_that_looks_both_ways(
    encoding: str, assert_close: Any
) -> None:
    """Without a causal mask a token is what it is and where it is said to be, and no more."""
    model, tokens = _of(encoding, attention_dir="bidirectional"), some_tokens(2, 7)
    order = torch.tensor([5, 1, 2, 3, 4, 0, 6])
    with torch.no_grad():
        expected = model(tokens[:, order])[:, order]
    assert_close(found(model, {"input": tokens}, SwapPositions(0, 5)), expected)
    shuffled = ShufflePositions(seed=4)
    places = torch.from_numpy(np.random.default_rng(4).permutation(7))
    with torch.no_grad():  # token i is at places[i]
        expected = model(tokens[:, places.argsort()])[:, places]
    assert_close(found(model, {"input": tokens}, shuffled), expected)


@pytest.mark.parametrize("name", ["gpt2", "shortformer", "llama", "bloom", "classifier"])
def test_half_precision_and_gradients(
    make_model: Callable[..., HookedTransformer], name: str, assert_close: Any
) -> None:
    """In bf16 a vector or bias is exactly that of the other position; weights get gradients."""
    model = make_model(dtype="bfloat16", **KINDS[name])
    tokens = some_tokens()
    hook = hooks_for(model, FreezePositions(3))[0][0]
    seen = model.run_with_cache(tokens, names_filter=hook)[1][hook]
    with model.hooks(fwd_hooks=hooks_for(model, FreezePositions(3, positions=[0, 3]))):
        cache = model.run_with_cache(tokens, names_filter=hook)[1]
        model(tokens)  # and the hooks serve again
    if hook == "hook_pos_embed":
        assert torch.equal(cache[hook][:, 0], seen[:, 3])
        assert torch.equal(cache[hook][:, 1], seen[:, 1])
    elif hook == "hook_pos_bias":
        assert torch.equal(cache[hook][..., 0, 4], seen[..., 3, 4])
        assert torch.equal(cache[hook][..., 1, 2], seen[..., 1, 2])
    wide = make_model(dtype="float64", **KINDS[name]).train()
    for _ in range(2):
        fn = hooks_for(wide, [FreezePositions(3, positions=[0, 3]), SwapPositions(1, 2)])
        with wide.hooks(fwd_hooks=fn):
            wide.zero_grad()
            wide(tokens).square().sum().backward()
            wide(tokens).square().sum().backward()
    if name in ("gpt2", "shortformer"):
        used = wide.pos_embed.W_pos.grad.abs().sum(1) > 0
        assert used[:5].tolist() == [False, True, True, True, True]
        assert not used[5:].any()


@settings(max_examples=25, deadline=None)
@drawn(
    encoding=st.sampled_from([*RELATIVE, *ADDED]),
    n_pos=st.integers(2, 8),
    seed=st.integers(0, 99),
    some=st.booleans(),
)  # fmt: skip
def test_what_is_undone_is_undone(encoding: str, n_pos: int, seed: int, some: bool) -> None:
    """A swap and its like, a shift and its opposite: the model as it was. Rows are alone."""
    model, tokens = _of(encoding), some_tokens(3, n_pos, seed)
    which = None if not some else [seed % n_pos]
    undone = [
        ShiftPositions(3, positions=which), ShiftPositions(-3, positions=which),
        SwapPositions(0, -1), SwapPositions(-1, 0),
    ]  # fmt: skip
    with torch.no_grad():
        assert float((found(model, {"input": tokens}, undone) - model(tokens)).abs().max()) < 1e-10
    item = [ShufflePositions(seed=seed), ZeroPositions(positions=which)]
    whole = found(model, {"input": tokens}, item)
    rows = torch.cat([found(model, {"input": row[None]}, item) for row in tokens])
    assert float((whole - rows).abs().max()) < 1e-10


@pytest.mark.parametrize("encoding", ["rotary", "standard", "relative_positional_bias"])
def test_inference_mode_leaves_nothing_behind(encoding: str) -> None:
    model, tokens = _of(encoding), some_tokens()
    hooks = hooks_for(model, ShiftPositions(2, positions=1))
    with torch.inference_mode():
        model.run_with_hooks(tokens, fwd_hooks=hooks)
    model.run_with_hooks(tokens, fwd_hooks=hooks).sum().backward()


@pytest.mark.parametrize("encoding", [*RELATIVE, *ADDED])
def test_moves_of_two_calls_are_refused(encoding: str) -> None:
    """Each would take out what the other has put in; given together they are made in turn."""
    model, tokens = _of(encoding), some_tokens(2, 9)
    with (
        torch.no_grad(),
        applied(model, ShiftPositions(3, positions=1)),
        applied(model, SwapPositions(1, 2)),
        pytest.raises(InputError, match="must be given to hooks_for together"),
    ):
        model(tokens)
    assert not model.watched_hooks()[0]
    given = {"input": tokens}
    together = [ShiftPositions(3, positions=1), SwapPositions(1, 2)]
    told: Told = lambda n: [0, 2, 4, *range(3, n)]
    compare(found(model, given, together), restated(model, given, told, told), given)


@pytest.mark.parametrize(
    ("encoding", "make", "rule"),
    [
        ("none", lambda: ShiftPositions(1), "needs a positional encoding. This model has none"),
        ("standard", lambda: ShiftPositions(20), r"positions 0 … 23 \(standard\). Received 24"),
        ("standard", lambda: ShiftPositions(-1), r"positions 0 … 23 .* Received -1"),
        ("shortformer", lambda: FreezePositions(24), r"positions 0 … 23 .* Received 24"),
        ("sinusoidal", lambda: ShiftPositions(-1), r"positions 0 and up .* Received -1"),
        ("standard", lambda: ZeroPositions(layers=0), "once for all layers.* Received"),
        ("alibi", lambda: ZeroPositions(layers=0), "once for all layers.* Received"),
        ("sinusoidal", lambda: ShiftPositions(1, as_key=False), "cannot be moved for one"),
        ("rotary", lambda: ShiftPositions(1, layers=2), "layers must lie in -2 … 1. Received 2"),
        ("rotary", lambda: ShiftPositions(1, positions=5), "positions must lie in -5 … 4"),
        ("alibi", lambda: SwapPositions(0, 9), "second must lie in -5 … 4"),
        ("rotary", lambda: SwapPositions([0, 1], [1, 2]), "a token is swapped once"),
        ("rotary", lambda: SwapPositions([0, 1], 2), "must be as many. Received 2 and 1"),
        ("rotary", lambda: SwapPositions(None, 2), "first must be one or several"),
        ("rotary", lambda: ShiftPositions(1.5), "by must be"),
        ("rotary", lambda: ShiftPositions([1, 2]), "by must be one whole number"),
        ("rotary", lambda: ShufflePositions(seed=-1), "seed must be a whole number"),
        ("rotary", lambda: FreezePositions(-1), "at must be a whole number"),
        ("rotary", lambda: ShiftPositions(1, as_query=False, as_key=False), "Both are False"),
        ("rotary", lambda: ShiftPositions(1, as_query=1), "as_query must be True or False"),
    ],
)
def test_refusals(encoding: str, make: Callable[[], Any], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        found(_of(encoding), {"input": some_tokens()}, make())


def test_an_encoder_decoder_is_refused(kind: Callable[[str], HookedTransformer]) -> None:
    with pytest.raises(InputError, match="This is an encoder-decoder"):
        hooks_for(kind("t5"), ShiftPositions(1))


def test_a_cache_is_refused_where_it_shows() -> None:
    from interp import KeyValueCache

    model = _of("alibi")
    cache = KeyValueCache.init_cache(model.cfg, "cpu", 3)
    model(some_tokens(), past_kv_cache=cache)
    hooks = hooks_for(model, ShiftPositions(1, positions=0))
    with model.hooks(fwd_hooks=hooks), pytest.raises(InputError, match="need runs of whole texts"):
        model(some_tokens(3, 2), past_kv_cache=cache)
