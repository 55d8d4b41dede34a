"""A loaded model proves itself, and a damaged one is caught with its figure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from interp import HookedTransformer, InputError, load_model
from interp.pretrained import load
from interp.pretrained.proof import Proof, open_hf_model, prove, require_proof
from tests.interp.pretrained.parity import random_model

KINDS: dict[str, dict[str, Any]] = {
    "decoder": {},
    "grouped": {"n_key_value_heads": 2, "positional_embedding_type": "rotary"},
    "one token": {"n_ctx": 1},
    "sinks": {"attn_sinks": True},
    "encoder": {"architecture": "encoder", "head": "mlm"},
    "classifier": {"architecture": "encoder", "head": "classification", "d_vocab_out": 3},
    "encoder-decoder": {"architecture": "encoder-decoder", "n_encoder_layers": 1},
    "no layers": {"n_layers": 0},
    "half": {"dtype": "bfloat16"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_sound_models(kind: str, make_model: Callable[..., HookedTransformer]) -> None:
    model = make_model(**KINDS[kind])
    proofs = prove(model)
    assert all(proof.passed for proof in proofs), proofs
    require_proof(model)
    names = " ".join(proof.name for proof in proofs)
    assert ("later token" in names) == (model.cfg.attention_dir == "causal")
    assert ("pattern" in names) == (kind not in ("sinks", "no layers"))


def _failed(model: HookedTransformer, hf_model: Any = None) -> str:
    with pytest.raises(InputError, match="custom is not the model that it should be") as caught:
        require_proof(model, hf_model)
    return str(caught.value)


@torch.no_grad()
def test_weights_that_are_not_finite(make_model: Callable[..., HookedTransformer]) -> None:
    model = make_model()
    model.blocks[1].mlp.W_in[3, 4] = torch.nan
    assert "weights that are not finite: 1.0e+00 (at most 0e+00)" in _failed(model)


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        ("blocks.0.attn.hook_pattern", "rows from summing to 1: 1.0e+00"),
        ("unembed.hook_out", "logits that are not finite"),
    ],
)
def test_runs_that_are_wrong(
    hook: str, message: str, make_model: Callable[..., HookedTransformer]
) -> None:
    model = make_model()

    def damage(x: torch.Tensor, hook: Any) -> torch.Tensor:
        return x * (2.0 if "pattern" in hook.name else torch.inf)

    model.add_hook(hook, damage)
    assert message in _failed(model)


def test_a_model_that_sees_the_future(make_model: Callable[..., HookedTransformer]) -> None:
    model = make_model()
    model.causal = False
    assert "what a later token changes of earlier logits" in _failed(model)


def test_a_figure_that_is_no_number_fails() -> None:
    assert not Proof("x", float("nan"), 1.0).passed


# --- beside Hugging Face -------------------------------------------------------------------------

# Seq2seq and other heads: what the config's class makes by itself.
HF_MODELS = {
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", {"n_embd": 24, "n_head": 3, "n_layer": 2}),
    "llama": (
        "LlamaForCausalLM",
        "LlamaConfig",
        {
            "hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 2,
            "intermediate_size": 31, "num_key_value_heads": 2,
        },
    ),
    "gemma2": (
        "Gemma2ForCausalLM",
        "Gemma2Config",
        {
            "hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 2, "head_dim": 8,
            "intermediate_size": 31, "num_key_value_heads": 2, "sliding_window": 3,
        },
    ),
    "t5": (
        "T5ForConditionalGeneration",
        "T5Config",
        {"d_model": 24, "num_heads": 3, "d_kv": 8, "d_ff": 31, "num_layers": 2},
    ),
    "bert": (
        "BertForMaskedLM",
        "BertConfig",
        {
            "hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 2,
            "intermediate_size": 31, "max_position_embeddings": 20,
        },
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def hf_model() -> Callable[..., Any]:
    transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")

    def make(name: str, dtype: torch.dtype = torch.float32) -> Any:
        kind, config, fields = HF_MODELS[name]
        shape = {"vocab_size": 37, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
        made = getattr(transformers, config)(**shape, **fields)
        return random_model(made, dtype, getattr(transformers, kind))

    return make


@pytest.mark.parametrize("name", HF_MODELS)
def test_conversions_are_verified(name: str, hf_model: Callable[..., Any], tmp_path: Path) -> None:
    theirs = hf_model(name).train()
    model = HookedTransformer.from_hf(theirs, verify=True)
    assert theirs.training
    assert "Hugging Face" in prove(model, theirs)[-1].name
    assert prove(model, theirs)[-1].value < 1e-5
    theirs.save_pretrained(tmp_path)
    load_model(tmp_path, device="cpu", verify=True)
    load_model(tmp_path, device="cpu", dtype="bfloat16", verify=True)
    load_model(tmp_path, device="cpu", dtype="float64", verify=True)


@pytest.mark.parametrize("name", HF_MODELS)
def test_damaged_conversions_are_caught(
    name: str, hf_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One weight of one layer, upside down: nothing but the comparison can tell."""
    convert = load._build

    @torch.no_grad()
    def damaged(*args: Any) -> HookedTransformer:
        model = convert(*args)
        name = next(n for n, _ in model.named_parameters() if n.endswith("blocks.1.attn.W_O"))
        weight = model.get_parameter(name)
        weight.copy_(weight.flip(0))
        return model

    theirs = hf_model(name)
    theirs.save_pretrained(tmp_path)
    monkeypatch.setattr(load, "_build", damaged)
    message = r"difference from Hugging Face's logits: \d\.\de[-+]\d+ \(at most 1e-04\)"
    with pytest.raises(InputError, match=message):
        HookedTransformer.from_hf(theirs, verify=True)
    with pytest.raises(InputError, match=message):
        load_model(tmp_path, device="cpu", verify=True)
    HookedTransformer.from_hf(theirs)


def test_config_without_architectures(hf_model: Callable[..., Any], tmp_path: Path) -> None:
    hf_model("llama").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["architectures"]
    found = open_hf_model(tmp_path, config, "LlamaForCausalLM", torch.float64)
    assert type(found).__name__ == "LlamaForCausalLM"
    assert found.dtype == torch.float64


def test_other_logits_than_asked_for(hf_model: Callable[..., Any]) -> None:
    theirs = hf_model("gpt2")
    model = HookedTransformer.from_hf(theirs)
    theirs.resize_token_embeddings(40)
    assert "(2, 8, 37) beside (2, 8, 40): inf" in _message(model, theirs)


def _message(model: HookedTransformer, theirs: Any) -> str:
    with pytest.raises(InputError) as caught:
        require_proof(model, theirs)
    return str(caught.value)


def test_a_model_without_a_head_gives_no_logits(hf_model: Callable[..., Any]) -> None:
    base = hf_model("gpt2").transformer
    HookedTransformer.from_hf(base)
    with pytest.raises(InputError, match="GPT2Model gives no logits"):
        HookedTransformer.from_hf(base, verify=True)


def test_own_formats_prove_themselves(
    make_model: Callable[..., HookedTransformer], tmp_path: Path
) -> None:
    assert load_model("zoo:induction", device="cpu", verify=True).cfg.n_layers > 0
    folder = make_model().save(tmp_path / "saved")
    load_model(folder, device="cpu", verify=True)
    weights = load_file(folder / "model.safetensors")
    name = next(n for n in weights if n.endswith("W_in"))
    weights[name] = weights[name] * torch.nan
    save_file(weights, folder / "model.safetensors")
    load_model(folder, device="cpu", allow_nonfinite=True)
    with pytest.raises(InputError, match="weights that are not finite"):
        load_model(folder, device="cpu", allow_nonfinite=True, verify=True)
