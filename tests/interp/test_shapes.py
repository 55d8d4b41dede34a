"""Every positional encoding in every shape: hooks are causal, a batch is its rows, with or without
a key/value cache."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, HookedTransformerConfig, InputError, KeyValueCache
from interp.positions import ENCODINGS
from tests.covering import EXHAUSTIVE, covering, every_nth

SHAPES = ("decoder", "encoder", "encoder-decoder")
BOTH = list(itertools.product(SHAPES, ENCODINGS))
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
LEARNED = ("standard", "shortformer")


def make(architecture: str, encoding: str, **fields: Any) -> HookedTransformer:
    """A small model whose weights are all different from neutral ones."""
    given: dict[str, Any] = {
        "architecture": architecture,
        "positional_embedding_type": encoding,
        "n_layers": 2,
        "d_model": 18,
        "n_ctx": 16,
        "n_heads": 3,
        "act_fn": "gelu",
        "d_vocab": 13,
        "dtype": torch.float64,
        "device": "cpu",
        **fields,
    }
    if encoding == "relative_positional_bias":
        given.update(relative_attention_num_buckets=8, relative_attention_max_distance=9)
    if architecture == "encoder-decoder":
        given.setdefault("n_encoder_layers", 1)
    model = HookedTransformer(HookedTransformerConfig(**given))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            drawn = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
            centre = 1.0 if name.endswith(".w") else 0.0
            weight.copy_((centre + 0.3 * drawn).to(weight.dtype))
    return model


def arguments(model: HookedTransformer, n_rows: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    found = {"input": torch.randint(1, 13, (n_rows, 7), generator=generator)}
    if model.cfg.architecture == "encoder-decoder":
        found["decoder_input"] = torch.randint(1, 13, (n_rows, 5), generator=generator)
    return found


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def gap(found: Tensor, wanted: Tensor) -> float:
    assert found.shape == wanted.shape
    return float((found - wanted).abs().max() / max(1.0, wanted.abs().max()))


@pytest.mark.parametrize(("shape", "encoding"), BOTH)
def test_every_hook_fires_and_is_causal(shape: str, encoding: str) -> None:
    model = make(shape, encoding, n_layers=2 if EXHAUSTIVE else 1)
    given = arguments(model)
    plain = model(**given)
    seen = set()
    hooks = [name for name in model.hook_dict if not name.endswith("hook_tokens")]
    for name in every_nth(hooks, 3, BOTH.index((shape, encoding))):
        same = model.run_with_hooks(**given, fwd_hooks=[(name, lambda x, hook: x.clone())])
        assert gap(same, plain) <= 1e-12, name
    for name in hooks:

        def change(x: Tensor, hook: Any, name: str = name) -> Tensor:
            seen.add(name)
            assert hook.name == name
            return x * 1.5 + 0.1 * torch.arange(x.shape[-1], dtype=x.dtype)

        changed = model.run_with_hooks(**given, fwd_hooks=[(name, change)])
        assert changed.shape == plain.shape
        assert (changed - plain).abs().max() > 1e-6, name
    assert seen == set(hooks)
    assert gap(model(**given), plain) == 0.0


@pytest.mark.parametrize(
    ("shape", "encoding", "dtype"),
    covering(SHAPES, tuple(ENCODINGS), [torch.float32, torch.float64]),
)
def test_padded_batch_is_its_rows(shape: str, encoding: str, dtype: torch.dtype) -> None:
    model = make(shape, encoding, dtype=dtype)
    given = arguments(model)
    lengths = {"input": (7, 4, 1), "decoder_input": (2, 5, 3)}
    masks = {"input": "attention_mask", "decoder_input": "decoder_attention_mask"}
    alone = [
        model(**{k: v[row : row + 1, : lengths[k][row]] for k, v in given.items()})[0]
        for row in range(3)
    ]
    for left in (False, True):
        for spelled_out in (False, True):
            model.cfg.use_fused_attention = not spelled_out
            padded: dict[str, Tensor] = {}
            for key, tokens in given.items():
                padded[key] = torch.zeros_like(tokens)
                padded[masks[key]] = torch.zeros_like(tokens)
                for row, n in enumerate(lengths[key]):
                    place = slice(-n, None) if left else slice(0, n)
                    padded[key][row, place] = tokens[row, :n]
                    padded[masks[key]][row, place] = 1
            logits = model(**padded)
            outer = "decoder_input" if shape == "encoder-decoder" else "input"
            for row, n in enumerate(lengths[outer]):
                found = logits[row, -n:] if left else logits[row, :n]
                assert gap(found, alone[row]) <= TOLERANCE[dtype]


@pytest.mark.parametrize(
    ("shape", "encoding", "padded"),
    covering(["decoder", "encoder-decoder"], tuple(ENCODINGS), [False, True]),
)
def test_a_cache_changes_nothing(shape: str, encoding: str, padded: bool) -> None:
    model = make(shape, encoding)
    given = arguments(model)
    outer = "decoder_input" if shape == "encoder-decoder" else "input"
    tokens = given.pop(outer)
    mask = torch.ones_like(tokens)
    if padded:
        mask[0, :2] = 0
    name = "decoder_attention_mask" if shape == "encoder-decoder" else "attention_mask"
    whole = model(**given, **{outer: tokens, name: mask})
    past = KeyValueCache.init_cache(model.cfg, "cpu", 3)
    if "input" in given:
        given = {"encoder_output": model.encode(given["input"])}
    steps = [slice(0, 2), slice(2, 3), slice(3, tokens.shape[1])]
    parts = [
        model(**given, **{outer: tokens[:, s], name: mask[:, s]}, past_kv_cache=past) for s in steps
    ]
    found = torch.cat(parts, 1)
    assert len(past) == tokens.shape[1]
    real = mask.bool()
    assert gap(found[real], whole[real]) <= 1e-10


@pytest.mark.parametrize(("shape", "encoding"), BOTH)
def test_only_past_tokens_are_seen_where_attention_is_causal(shape: str, encoding: str) -> None:
    model = make(shape, encoding)
    given = arguments(model)
    plain = model(**given)
    outer = "decoder_input" if shape == "encoder-decoder" else "input"
    changed = {k: v.clone() for k, v in given.items()}
    changed[outer][:, 3] = (changed[outer][:, 3] + 1) % 13
    moved = (model(**changed) - plain).abs().amax((0, 2)) > 1e-9
    n = moved.shape[0]
    expected = [True] * n if shape == "encoder" else [False] * 3 + [True] * (n - 3)
    assert moved.tolist() == expected
    if shape == "encoder-decoder":
        changed = {k: v.clone() for k, v in given.items()}
        changed["input"][:, -1] = (changed["input"][:, -1] + 1) % 13
        assert ((model(**changed) - plain).abs().amax((0, 2)) > 1e-9).all()


@pytest.mark.parametrize(("shape", "encoding"), BOTH)
def test_beyond_n_ctx_where_the_definition_allows(shape: str, encoding: str) -> None:
    model = make(shape, encoding, n_ctx=6)
    long = torch.ones(1, 9, dtype=torch.long)
    given = {"decoder_input": long[:, :4]} if shape == "encoder-decoder" else {}
    if encoding in LEARNED:
        with pytest.raises(InputError, match=r"learned positions end at n_ctx \(6\).*9"):
            model(long, **given)
    else:
        longer = make(shape, encoding, n_ctx=9)
        assert gap(model(long, **given), longer(long, **given)) == 0.0


@pytest.mark.parametrize(("shape", "encoding"), BOTH)
def test_fused_and_spelled_out_attention_agree(shape: str, encoding: str) -> None:
    for window in (None, 3):
        model = make(shape, encoding, window_size=window)
        given = arguments(model)
        fused = model(**given)
        model.cfg.use_fused_attention = False
        assert gap(model(**given), fused) <= 1e-12


@pytest.mark.parametrize("placement", ["pre", "post", "sandwich", "output"])
@pytest.mark.parametrize("shape", SHAPES)
def test_recording_everything_changes_nothing(shape: str, placement: str) -> None:
    model = make(
        shape,
        "rotary",
        norm_placement=placement,
        qk_norm="full",
        gated_mlp=True,
        num_experts=4,
        experts_per_token=2,
        n_key_value_heads=1,
        window_size=3,
        attn_types=("local", "global"),
        attn_scores_soft_cap=5.0,
        output_logits_soft_cap=3.0,
        attn_sinks=True,
        embed_scale=2.0,
        post_embedding_ln=True,
    )
    given = arguments(model)
    plain = model(**given)
    logits, cache = model.run_with_cache(**given, names_filter=lambda name: True)
    assert set(cache) == set(model.hook_dict)
    assert gap(logits, plain) <= 1e-12
    assert plain.abs().max() <= 3.0


def test_the_encoder_runs_once_and_is_reused() -> None:
    model = make("encoder-decoder", "sinusoidal")
    given = arguments(model)
    encoded = model.encode(given["input"])
    calls: list[str] = []
    with model.hooks(
        fwd_hooks=[("encoder.blocks.0.hook_resid_pre", lambda x, hook: calls.append("e"))]
    ):
        first = model(encoder_output=encoded, decoder_input=given["decoder_input"])
        assert not calls
        assert gap(first, model(**given)) == 0.0
        assert calls == ["e"]


def test_arguments_of_another_shape_are_refused() -> None:
    decoder, both = make("decoder", "none"), make("encoder-decoder", "none")
    tokens = torch.ones(1, 3, dtype=torch.long)
    with pytest.raises(InputError, match="decoder_input has no meaning in this decoder"):
        decoder(tokens, decoder_input=tokens)
    with pytest.raises(InputError, match="needs decoder_input"):
        both(tokens)
    with pytest.raises(InputError, match="either input or encoder_output"):
        both(decoder_input=tokens)
    with pytest.raises(InputError, match="either input or encoder_output"):
        both(tokens, decoder_input=tokens, encoder_output=both.encode(tokens))
    with pytest.raises(InputError, match="a row for each"):
        both(tokens, decoder_input=tokens.expand(2, -1))
    with pytest.raises(InputError, match="start_at_layer has no meaning"):
        both(tokens, decoder_input=tokens, start_at_layer=1)
    with pytest.raises(InputError, match="encode needs an encoder-decoder"):
        decoder.encode(tokens)
    with pytest.raises(InputError, match="next-token loss"):
        make("encoder", "none")(tokens, return_type="loss")


def test_dynamic_scaling_stretches_each_row_by_its_own_length() -> None:
    scaling = {"kind": "dynamic", "factor": 4.0, "original_n_ctx": 3}
    model = make("decoder", "rotary", rotary_scaling=scaling)
    tokens = arguments(model)["input"]
    alone = model(tokens[1:2, 2:])
    for left in (True, False):
        padded, mask = tokens.clone(), torch.ones_like(tokens)
        place = slice(2, 7) if left else slice(0, 5)
        padded[1, place], mask[1] = tokens[1, 2:], 0
        mask[1, place] = 1
        assert gap(model(padded, attention_mask=mask)[1:2, place], alone) <= 1e-10
    past = KeyValueCache.init_cache(model.cfg, "cpu", 3)
    model(tokens[:, :3], past_kv_cache=past)
    with pytest.raises(InputError, match="at most original_n_ctx"):
        model(tokens[:, 3:], past_kv_cache=past)


def test_windows_count_real_tokens() -> None:
    model = make("decoder", "none", window_size=3)
    tokens = arguments(model)["input"][:1]
    whole = model(tokens)
    past = KeyValueCache.init_cache(model.cfg, "cpu", 1)
    gapped = torch.cat([tokens[:, :4], torch.zeros(1, 2, dtype=torch.long)], 1)
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]])
    model(gapped, attention_mask=mask, past_kv_cache=past)
    assert gap(model(tokens[:, 4:], past_kv_cache=past), whole[:, 4:]) <= 1e-10


def test_cross_keys_are_made_again_for_another_source_only() -> None:
    model = make("encoder-decoder", "alibi")
    given = arguments(model)
    target = given["decoder_input"]
    first = model.encode(given["input"])
    other = first._replace(residual=first.residual + 1e-6)
    past = KeyValueCache.init_cache(model.cfg, "cpu", 3)
    model(encoder_output=first, decoder_input=target[:, :2], past_kv_cache=past)
    kept = past[0].cross
    model(given["input"], decoder_input=target[:, 2:3], past_kv_cache=past)
    assert kept is not None and past[0].cross is kept
    _, cache = model.run_with_cache(
        encoder_output=other, decoder_input=target[:, 3:], past_kv_cache=past
    )
    _, fresh = model.run_with_cache(encoder_output=other, decoder_input=target)
    name = "decoder.blocks.1.cross_attn.hook_k"
    assert torch.equal(cache[name], fresh[name])
    assert past[0].cross is not kept


def test_only_what_is_wanted_of_the_encoder_runs() -> None:
    model = make("encoder-decoder", "none", n_encoder_layers=2)
    given = arguments(model)
    ran: list[str] = []
    for prefix, stack in (("E", model.encoder), ("D", model.decoder)):
        for i, block in enumerate(stack.blocks):
            block.register_forward_hook(lambda *_, name=f"{prefix}{i}": ran.append(name))

    def run(names: list[str]) -> list[str]:
        ran.clear()
        _, cache = model.run_with_cache(**given, names_filter=names, return_type=None)
        assert set(cache) == set(names)
        return list(ran)

    assert run(["encoder.blocks.0.hook_resid_pre"]) == ["E0"]
    assert run(["decoder.hook_embed"]) == []
    both = ["E0", "E1"]
    assert run(["encoder.ln_final.hook_scale"]) == both
    assert run(["decoder.blocks.0.hook_attn_out"]) == [*both, "D0"]


def test_positions_sliced_are_the_decoders() -> None:
    model = make("encoder-decoder", "alibi")
    _, cache = model.run_with_cache(**arguments(model), pos_slice=(1, 3))
    assert cache["resid_pre", 0].shape == (3, 2, 18)
    assert cache["encoder.resid_pre", 0].shape == (3, 7, 18)
    assert cache["k", 0, "cross_attn"].shape == (3, 7, 3, 6)
    assert cache["pattern", 0, "cross_attn"].shape == (3, 3, 2, 7)
    assert cache["decoder.hook_pos_bias"].shape == (3, 3, 2, 5)
    classifier = make("encoder", "none", head="classification", d_vocab_out=4)
    _, cache = classifier.run_with_cache(arguments(classifier)["input"], pos_slice=(0, 2))
    assert cache["pooler.hook_pre"].shape == (3, 18)
    assert cache["unembed.hook_out"].shape == (3, 4)
