from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, HookedTransformerConfig, InputError
from interp.weights import process_weights, weight_hash
from tests.covering import covering

MakeModel = Callable[..., HookedTransformer]
AssertClose = Callable[..., None]

LLAMA = {
    "normalization_type": "RMS", "positional_embedding_type": "rotary", "gated_mlp": True,
    "act_fn": "silu", "n_key_value_heads": 2,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "tied": {"tie_word_embeddings": True},
    "llama": LLAMA,
    "llama-tied": {**LLAMA, "tie_word_embeddings": True, "n_key_value_heads": 1},
    "grouped-ln": {"n_key_value_heads": 2, "positional_embedding_type": "none"},
    "parallel": {"parallel_attn_mlp": True, "positional_embedding_type": "rotary"},
    "attn-only": {"attn_only": True, "n_layers": 3},
    "attn-only-bare": {"attn_only": True, "normalization_type": None},
    "solu_ln": {"act_fn": "solu_ln"},
    "solu_ln-bare": {"act_fn": "solu_ln", "normalization_type": None},
    "ln-pre": {"normalization_type": "LNPre"},
    "rms-pre": {"normalization_type": "RMSPre"},
    "gated-bare": {"gated_mlp": True, "normalization_type": None},
    "encoder": {"attention_dir": "bidirectional", "d_vocab_out": 9},
    "no-layers": {"n_layers": 0},
    "ungrouped": {**LLAMA, "ungroup_grouped_query_attention": True},
}  # fmt: skip
OPTIONS = ("fold_ln", "center_writing_weights", "center_unembed", "fold_value_biases")
OFF = dict.fromkeys(OPTIONS, False)

models = pytest.mark.parametrize("fields", MODELS.values(), ids=MODELS)


def _tokens() -> Tensor:
    return torch.randint(31, (3, 9), generator=torch.Generator().manual_seed(0))


def _has_layernorm(model: HookedTransformer) -> bool:
    return model.cfg.normalization_type in ("LN", "LNPre")


@models
def test_every_choice_of_options_keeps_the_predictions(
    fields: dict[str, Any], make_model: MakeModel, assert_close: AssertClose
) -> None:
    model = make_model(dtype="float64", **fields)
    logits, original = model.run_with_cache(_tokens())
    log_probs = logits.log_softmax(-1)
    before = weight_hash(model)
    for chosen in covering(*[[False, True]] * 4, strength=3):
        options = dict(zip(OPTIONS, chosen, strict=True))
        if options["center_writing_weights"] and not _has_layernorm(model):
            continue
        processed = model.process_weights(**options)
        found, cache = processed.run_with_cache(_tokens())
        assert_close(found.log_softmax(-1), log_probs, str(options))
        if not options["center_unembed"]:
            assert_close(found, logits, str(options))
        else:
            assert_close(found, logits - logits.mean(-1, keepdim=True), str(options))
        for layer in range(model.cfg.n_layers):
            assert_close(cache["pattern", layer], original["pattern", layer], str(options))
    assert weight_hash(model) == before


@models
def test_defaults(fields: dict[str, Any], make_model: MakeModel, assert_close: AssertClose) -> None:
    model = make_model(dtype="float64", **fields)
    processed = model.process_weights()
    assert_close(processed(_tokens()).log_softmax(-1), model(_tokens()).log_softmax(-1))
    expected = list(OPTIONS)
    if model.cfg.normalization_type not in ("LN", "LNPre", "RMS"):
        expected.remove("fold_ln")
    if not _has_layernorm(model):
        expected.remove("center_writing_weights")
    assert list(processed.cfg.weight_processing) == expected
    assert model.cfg.weight_processing == ()
    kind = model.cfg.normalization_type
    assert processed.cfg.normalization_type == {"LN": "LNPre", "RMS": "RMSPre"}.get(kind, kind)
    assert processed.cfg.init_weights == model.cfg.init_weights


@models
def test_twice_is_once(
    fields: dict[str, Any], make_model: MakeModel, assert_close: AssertClose
) -> None:
    once = make_model(dtype="float64", **fields).process_weights()
    twice = once.process_weights()
    assert twice.cfg == once.cfg
    assert twice.cfg.weight_processing == once.cfg.weight_processing
    for name, weight in once.state_dict().items():
        assert_close(twice.state_dict()[name], weight, name)


@models
def test_one_at_a_time_is_all_at_once(
    fields: dict[str, Any], make_model: MakeModel, assert_close: AssertClose
) -> None:
    """In any order, up to what each order leaves to LayerNorm."""
    model = make_model(dtype="float64", **fields)
    steps = [o for o in OPTIONS if o != "center_writing_weights" or _has_layernorm(model)]
    whole = model.process_weights()
    for order in (steps, steps[::-1]):
        stepwise = model
        for step in order:
            stepwise = stepwise.process_weights(**{**OFF, step: True})
        assert set(stepwise.cfg.weight_processing) == set(whole.cfg.weight_processing)
        assert_close(stepwise(_tokens()), whole(_tokens()))


def test_each_step_does_what_it_says(make_model: MakeModel, assert_close: AssertClose) -> None:
    model = make_model(dtype="float64", act_fn="solu_ln", tie_word_embeddings=True)
    zero = torch.zeros((), dtype=torch.float64)

    folded = model.process_weights(**{**OFF, "fold_ln": True})
    assert not any(".ln" in name or "ln_" in name for name in folded.state_dict())
    assert_close(folded.W_Q.mean(-2).abs().max(), zero)
    assert_close(folded.W_U.mean(0).abs().max(), zero)
    assert not folded.cfg.tie_word_embeddings
    assert torch.equal(folded.W_E, model.W_E)

    centred = model.process_weights(**{**OFF, "center_writing_weights": True})
    for weight in (
        centred.W_E,
        centred.W_pos,
        centred.W_O,
        centred.b_O,
        centred.W_out,
        centred.b_out,
    ):
        assert_close(weight.mean(-1).abs().max(), zero)
    _, cache = centred.run_with_cache(_tokens())
    assert_close(cache["resid_post", 1].mean(-1).abs().max(), zero)

    unembedded = model.process_weights(**{**OFF, "center_unembed": True})
    assert_close(unembedded.W_U.mean(-1).abs().max(), zero)
    assert_close(unembedded.b_U.mean().abs(), zero)

    moved = model.process_weights(**{**OFF, "fold_value_biases": True})
    assert not moved.b_V.any()
    assert not moved.cfg.tie_word_embeddings
    assert_close(moved.W_U, model.W_U)
    expected = model.b_O + torch.einsum("lhe,lhed->ld", model.b_V, model.W_O)
    assert_close(moved.b_O, expected)


@pytest.mark.parametrize("kind", ["RMS", "RMSPre", None])
def test_no_centring_without_layernorm(kind: str | None, make_model: MakeModel) -> None:
    model = make_model(normalization_type=kind)
    with pytest.raises(InputError, match="center_writing_weights"):
        model.process_weights(center_writing_weights=True)


def test_gated_mlp_cannot_take_a_norms_bias(
    make_model: MakeModel, assert_close: AssertClose
) -> None:
    """Its products have no bias inside: folding is refused, left out, or exact where it is zero."""
    model = make_model(gated_mlp=True, dtype="float64")
    with pytest.raises(InputError, match=r"ln2\.b"):
        model.process_weights(fold_ln=True)
    other = model.process_weights()
    assert "fold_ln" not in other.cfg.weight_processing
    assert_close(other(_tokens()).log_softmax(-1), model(_tokens()).log_softmax(-1))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dtype_device_mode_and_tokenizer_stay(dtype: str, make_model: MakeModel) -> None:
    model = make_model(dtype=dtype).eval()
    model.tokenizer = tokenizer = object()
    processed = model.process_weights()
    assert processed.cfg.dtype == model.cfg.dtype
    assert {p.dtype for p in processed.parameters()} == {model.cfg.dtype}
    assert processed.cfg.device == model.cfg.device
    assert processed.tokenizer is tokenizer
    assert not processed.training
    assert model.train().process_weights().training


def test_fp32_is_folded_in_fp64(make_model: MakeModel, assert_close: AssertClose) -> None:
    wide = make_model(dtype="float64")
    narrow = make_model()
    for name, weight in wide.process_weights().state_dict().items():
        found = narrow.process_weights().state_dict()[name]
        assert (found.double() - weight).abs().max() <= 2**-24 * weight.abs().max(), name


def test_the_new_model_shares_nothing(make_model: MakeModel) -> None:
    model = make_model()
    for options in (OFF, {}):
        processed = model.process_weights(**options)
        before = weight_hash(model)
        with torch.no_grad():
            for parameter in processed.parameters():
                parameter.add_(1.0)
        processed.cfg.n_ctx = 3
        assert weight_hash(model) == before
        assert model.cfg.n_ctx == 16


def test_hooks_are_not_taken_along(make_model: MakeModel) -> None:
    model = make_model()
    model.add_hook("hook_embed", lambda x, hook: x * 0)
    processed = model.process_weights()
    model.reset_hooks()
    torch.testing.assert_close(
        processed(_tokens()).log_softmax(-1), model(_tokens()).log_softmax(-1), rtol=0, atol=1e-4
    )


def test_method_and_function_are_one(make_model: MakeModel) -> None:
    model = make_model()
    assert weight_hash(process_weights(model)) == weight_hash(model.process_weights())


def test_weight_hash(make_model: MakeModel) -> None:
    model, twin = make_model(), make_model()
    assert weight_hash(model) == weight_hash(twin)
    assert len(weight_hash(model)) == 64
    with torch.no_grad():
        twin.blocks[1].attn.b_O[0] += 1e-6
    assert weight_hash(model) != weight_hash(twin)
    assert weight_hash(model) != weight_hash(make_model(dtype="float64"))
    assert weight_hash(make_model(dtype="bfloat16")) == weight_hash(make_model(dtype="bfloat16"))


def test_real_model(third_party: Callable[[str], Path], assert_close: AssertClose) -> None:
    model = HookedTransformer.from_pretrained_no_processing(
        str(third_party("stories260K")), dtype="float64"
    )
    text = "Once upon a time, there was a little girl named"
    processed = model.process_weights()
    assert_close(processed(text).log_softmax(-1), model(text).log_softmax(-1))
    options = {"max_new_tokens": 30, "do_sample": False}
    assert processed.generate(text, **options) == model.generate(text, **options)


@pytest.mark.parametrize("norm", ["LN", "RMS", None])
def test_refactoring_keeps_both_circuits(
    norm: str | None, make_model: MakeModel, assert_close: AssertClose
) -> None:
    """QK and OV stay, with orthonormal rows in W_O; so do the model's predictions."""
    model = make_model(normalization_type=norm, dtype="float64")
    model.load_state_dict({k: torch.randn_like(v) for k, v in model.state_dict().items()})
    refactored = model.process_weights(**OFF, refactor_factored_attn_matrices=True)
    assert_close(refactored(_tokens()).log_softmax(-1), model(_tokens()).log_softmax(-1))
    assert_close(refactored.QK.AB, model.QK.AB)
    assert_close(refactored.OV.AB, model.OV.AB)
    gram = refactored.W_O @ refactored.W_O.mT
    assert_close(gram, torch.eye(model.cfg.d_head, dtype=torch.float64).expand_as(gram))
    assert "refactor_factored_attn_matrices" in refactored.cfg.weight_processing


@pytest.mark.parametrize(
    "fields", [{"positional_embedding_type": "rotary"}, {"n_key_value_heads": 2}]
)
def test_refactoring_needs_plain_heads(fields: dict[str, Any], make_model: MakeModel) -> None:
    with pytest.raises(InputError, match="plain heads"):
        make_model(**fields).process_weights(refactor_factored_attn_matrices=True)


@pytest.mark.parametrize(
    ("of", "placement", "norm", "mlp"),
    covering(
        [
            ("decoder", "lm"),
            ("encoder", "lm"),
            ("encoder", "mlm"),
            ("encoder", "classification"),
            ("encoder-decoder", "lm"),
        ],
        ["pre", "post", "sandwich", "output"],
        ["LN", "RMS", None],
        ["none", "plain", "gated", "experts"],
    ),
)
def test_what_none_decides_keeps_every_models_predictions(
    of: tuple[str, str], placement: str, norm: str | None, mlp: str
) -> None:
    shape, head = of
    encodings = ("standard", "shortformer") if mlp == "plain" else ("standard",)
    for encoding in encodings:
        model = _any_shape(
            architecture=shape,
            norm_placement=placement,
            normalization_type=norm,
            attn_only=mlp == "none",
            act_fn=None if mlp == "none" else "gelu",
            gated_mlp=mlp in ("gated", "experts"),
            num_experts=4 if mlp == "experts" else None,
            experts_per_token=2 if mlp == "experts" else None,
            head=head,
            positional_embedding_type=encoding,
            post_embedding_ln=mlp == "plain",
            logit_scale=0.5,
            qk_norm="head" if norm else None,
        )
        given = {"input": torch.tensor([[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]])}
        if shape == "encoder-decoder":
            given["decoder_input"] = torch.tensor([[1, 2, 3], [3, 2, 6]])
        processed = model.process_weights()
        with torch.no_grad():
            logits = model(**given)
            before, after = logits.log_softmax(-1), processed(**given).log_softmax(-1)
            again = processed.process_weights()(**given).log_softmax(-1)
        limit = 1e-10 * max(1.0, logits.abs().max().item())
        assert (before - after).abs().max() <= limit
        assert (again - after).abs().max() <= limit
        foldable = placement in ("pre", "sandwich") and encoding != "shortformer" and norm
        assert ("fold_ln" in processed.cfg.weight_processing) == bool(foldable)


@pytest.mark.parametrize(
    ("fields", "step", "match"),
    [
        ({"norm_placement": "post"}, "fold_ln", "nothing reads"),
        ({"norm_placement": "output"}, "fold_ln", "nothing reads"),
        ({"positional_embedding_type": "shortformer"}, "fold_ln", "behind the norms"),
        ({"norm_placement": "sandwich"}, "center_writing_weights", "read without a norm"),
        ({"final_norm": False}, "center_writing_weights", "read without a norm"),
        ({"normalization_type": "RMS"}, "center_writing_weights", "only LayerNorm"),
        ({"output_logits_soft_cap": 2.0}, "center_unembed", "soft cap"),
        ({"attn_sinks": True}, "fold_value_biases", "sinks"),
    ],
)
def test_steps_that_would_change_predictions_are_refused(
    fields: dict[str, Any], step: str, match: str
) -> None:
    model = _any_shape(**fields)
    with pytest.raises(InputError, match=match):
        model.process_weights(**{step: True})
    assert step not in model.process_weights().cfg.weight_processing


def _any_shape(**fields: Any) -> HookedTransformer:
    given: dict[str, Any] = {
        "n_layers": 2,
        "d_model": 12,
        "n_ctx": 12,
        "n_heads": 4,
        "n_key_value_heads": 2,
        "act_fn": "gelu",
        "d_vocab": 11,
        "dtype": torch.float64,
        "device": "cpu",
        **fields,
    }
    model = HookedTransformer(HookedTransformerConfig(**given))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            drawn = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
            weight.copy_((1.0 if name.endswith(".w") else 0.0) + 0.4 * drawn)
            if model.cfg.gated_mlp and ".ln" in name and name.endswith(".b"):
                weight.zero_()  # a gated MLP has no bias that could take it
    return model
