from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, InputError, load_model
from interp.pretrained.marian import make_config
from tests.interp.pretrained.parity import NEW, Case, check_parity, parity_cases, random_model

transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")

FIELDS: dict[str, Any] = {
    "d_model": 30, "encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 3,
    "decoder_attention_heads": 3, "encoder_ffn_dim": 41, "decoder_ffn_dim": 41, "vocab_size": 37,
    "max_position_embeddings": 50, "decoder_start_token_id": 36, "pad_token_id": 36,
    "activation_function": "swish", "forced_eos_token_id": None,
}  # fmt: skip


def _config(**fields: Any) -> Callable[[], Any]:
    return lambda: transformers.MarianConfig(**{**FIELDS, **fields})


SHAPES = {
    "scaled": _config(scale_embedding=True),
    "relu": _config(
        activation_function="relu", d_model=22, encoder_layers=1, decoder_layers=3,
        encoder_attention_heads=1, decoder_attention_heads=1,
    ),
}  # fmt: skip


@torch.no_grad()
def _exact(hf_model: Any) -> Any:
    """transformers makes its table of sines in fp64 and rounds it to fp32, whatever the dtype."""
    for stack in (hf_model.get_encoder(), hf_model.get_decoder()):
        table = stack.embed_positions.weight
        n, d = table.shape
        wide = torch.float64
        frequencies = 10_000.0 ** (-torch.arange(0, d, 2, dtype=wide) / d)
        angles = torch.arange(n, dtype=wide)[:, None] * frequencies
        exact = torch.cat([angles.sin(), angles.cos()], 1)
        assert (table - exact).abs().max() < 1e-7
        table.copy_(exact)
    return hf_model


def _translator(config: Any) -> Any:
    return _exact(transformers.MarianMTModel(config))


# Its positions count padding too, so Hugging Face is right for padding on the right only.


@parity_cases(SHAPES, auto=_translator)
def test_marian(case: Case, tmp_path: Path) -> None:
    figures = case.check(tmp_path, sides=("right",))
    assert figures.generation == [3 * NEW, 3 * NEW]


@parity_cases(
    {"scaled": _config(scale_embedding=True)},
    auto=lambda config: _exact(transformers.MarianModel(config)),
)
def test_base_model_unembeds_with_its_embedding(case: Case, tmp_path: Path) -> None:
    hf_model = case.model()
    check_parity(
        hf_model,
        case.name,
        tmp_path,
        sides=("right",),
        logits_of=lambda out: out.last_hidden_state @ hf_model.shared.weight.T,
        generates=False,
    )


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("target_side", ["left", "right"])
def test_batch_is_its_rows(
    side: str,
    target_side: str,
    assert_close: Any,
    padded_batch: Callable[..., tuple[Tensor, Tensor]],
) -> None:
    """Each row by itself, without padding, is Hugging Face's."""
    hf_model = random_model(_config()(), auto=_translator)
    model = HookedTransformer.from_hf(hf_model)
    source, mask = padded_batch(side, 37)
    target, target_mask = (x.flip(0) for x in padded_batch(target_side, 37))
    logits = model(
        source,
        attention_mask=mask,
        decoder_input=target,
        decoder_attention_mask=target_mask,
    )
    for row in range(3):
        real, target_real = mask[row].bool(), target_mask[row].bool()
        with torch.no_grad():
            expected = hf_model(
                source[row : row + 1, real], decoder_input_ids=target[row : row + 1, target_real]
            )
        assert_close(logits[row, target_real], expected.logits[0])


@pytest.mark.parametrize("stored", [True, False])
def test_positions_may_be_stored(stored: bool, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    hf_model = random_model(_config()(), auto=_translator)
    hf_model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    for stack in ("encoder", "decoder"):
        name = f"model.{stack}.embed_positions.weight"
        assert name not in weights
        if stored:
            weights[name] = hf_model.state_dict()[name].clone()
    save_file(weights, path, metadata={"format": "pt"})
    tokens = torch.arange(9)[None]
    found = load_model(tmp_path, device="cpu")(tokens, decoder_input=tokens)
    assert torch.equal(found, HookedTransformer.from_hf(hf_model)(tokens, decoder_input=tokens))


def test_vocabularies_of_each_language_are_refused() -> None:
    config = _config(share_encoder_decoder_embeddings=False, tie_word_embeddings=False)()
    with pytest.raises(InputError, match="share_encoder_decoder_embeddings"):
        HookedTransformer.from_hf(transformers.MarianMTModel(config))


def test_config() -> None:
    config = make_config(FIELDS)
    assert (config["act_fn"], config["sinusoidal_layout"]) == ("silu", "halves")
    assert (config["n_layers"], config["n_encoder_layers"]) == (2, 3)
    assert "post_embedding_ln" not in config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"share_encoder_decoder_embeddings": False}, "share_encoder_decoder_embeddings"),
        ({"static_position_embeddings": False}, "static_position_embeddings"),
        ({"normalize_embedding": True}, "normalize_embedding"),
        ({"normalize_before": True}, "normalize_before"),
        ({"encoder_attention_heads": 5}, "encoder_attention_heads and decoder_attention_heads"),
    ],
)
def test_config_refusals(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_config({**FIELDS, **change})


def test_what_is_never_written_comes_from_the_generation_config(tmp_path: Path) -> None:
    """Marian's pad token has the logit 0, which is often the highest; its checkpoints forbid it."""
    hf_model = transformers.MarianMTModel(SHAPES["scaled"]()).eval()
    pad = hf_model.config.pad_token_id
    with torch.no_grad():
        hf_model.model.shared.weight[pad] = 0.0
        hf_model.final_logits_bias.fill_(-2.0)
        hf_model.final_logits_bias[0, pad] = 0.0
    hf_model.generation_config.bad_words_ids = [[pad]]
    hf_model.save_pretrained(tmp_path)
    tokens = torch.tensor([[5, 4, 3, 0]])
    for model in (HookedTransformer.from_hf(hf_model), load_model(tmp_path, device="cpu")):
        assert model.cfg.suppress_tokens == (pad,)
        written = model.generate(tokens, max_new_tokens=6, do_sample=False)[0, 1:]
        assert pad not in written.tolist()
