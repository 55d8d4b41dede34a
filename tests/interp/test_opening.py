from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from interp import HookedTransformer, InputError

AssertClose = Callable[..., None]
TOKENS = torch.tensor([[1, 2, 3, 4, 5]])
STEPS = ("fold_ln", "center_writing_weights", "center_unembed", "fold_value_biases")
OFF = dict.fromkeys(STEPS, False)


@pytest.fixture
def gpt2(hf_gpt2: Any, tmp_path: Path) -> tuple[str, Any]:
    model = hf_gpt2()
    model.save_pretrained(tmp_path / "gpt2")
    return str(tmp_path / "gpt2"), model


@pytest.fixture
def llama(hf_llama: Any, tmp_path: Path) -> tuple[str, Any]:
    model = hf_llama()
    model.save_pretrained(tmp_path / "llama")
    return str(tmp_path / "llama"), model


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_from_pretrained_folds(
    name: str, request: pytest.FixtureRequest, assert_close: AssertClose
) -> None:
    folder, hf_model = request.getfixturevalue(name)
    model = HookedTransformer.from_pretrained(folder, dtype="float64")
    raw = HookedTransformer.from_pretrained_no_processing(folder, dtype="float64")
    assert_close(model(TOKENS).log_softmax(-1), raw(TOKENS).log_softmax(-1))
    assert_close(raw(TOKENS).float(), hf_model(TOKENS).logits)
    applied = STEPS if name == "gpt2" else (STEPS[0], *STEPS[2:])
    assert model.cfg.weight_processing == applied
    assert raw.cfg.weight_processing == ()
    assert model.cfg.normalization_type == ("LNPre" if name == "gpt2" else "RMSPre")
    assert model.cfg.model_name == raw.cfg.model_name == folder


def test_from_pretrained_is_fp32_unless_told(hf_gpt2: Any, tmp_path: Path) -> None:
    """As TransformerLens: `load_model` keeps the dtype of the checkpoint."""
    hf_gpt2(torch.bfloat16).save_pretrained(tmp_path)
    assert HookedTransformer.from_pretrained(str(tmp_path)).cfg.dtype == torch.float32
    model = HookedTransformer.from_pretrained(str(tmp_path), dtype=torch.bfloat16)
    assert model.cfg.dtype == model.W_E.dtype == torch.bfloat16


@pytest.mark.parametrize("on", STEPS)
def test_one_step(on: str, gpt2: tuple[str, Any], assert_close: AssertClose) -> None:
    model = HookedTransformer.from_pretrained(gpt2[0], **{**OFF, on: True})
    assert model.cfg.weight_processing == (on,)
    expected = gpt2[1](TOKENS).logits.log_softmax(-1)
    assert_close(model(TOKENS).log_softmax(-1), expected)


def test_writing_weights_are_centred_unless_told(gpt2: tuple[str, Any]) -> None:
    """`center_writing_weights` is on by default, whatever the other steps."""
    others = {k: v for k, v in OFF.items() if k != "center_writing_weights"}
    model = HookedTransformer.from_pretrained(gpt2[0], **others)
    assert model.cfg.weight_processing == ("center_writing_weights",)


def test_no_processing_is_raw(gpt2: tuple[str, Any]) -> None:
    model = HookedTransformer.from_pretrained_no_processing(gpt2[0])
    assert torch.equal(model.W_E, gpt2[1].transformer.wte.weight)
    assert model.cfg.normalization_type == "LN"
    folded = HookedTransformer.from_pretrained_no_processing(gpt2[0], fold_ln=True)
    assert folded.cfg.weight_processing == ("fold_ln",)


def test_model_in_memory(gpt2: tuple[str, Any], assert_close: AssertClose) -> None:
    model = HookedTransformer.from_pretrained("gpt2", hf_model=gpt2[1])
    assert model.cfg.model_name == "gpt2"
    assert_close(model(TOKENS).log_softmax(-1), gpt2[1](TOKENS).logits.log_softmax(-1))


def test_default_prepend_bos_and_padding_side(third_party: Callable[[str], Path]) -> None:
    folder = str(third_party("stories260K"))
    model = HookedTransformer.from_pretrained(
        folder, default_prepend_bos=False, default_padding_side="left"
    )
    assert not model.cfg.default_prepend_bos
    assert model.to_str_tokens("Once upon")[0] != "<s>"
    tokens = model.to_tokens(["Once upon a time", "Lily"])
    assert tokens[1, 0] == model.tokenizer.eos_token_id
    plain = HookedTransformer.from_pretrained(folder)
    assert plain.to_str_tokens("Once upon")[0] == "<s>"
    assert plain.to_tokens(["Once upon a time", "Lily"])[1, -1] == plain.tokenizer.eos_token_id


def test_given_tokenizer(gpt2: tuple[str, Any]) -> None:
    class Tokenizer:
        padding_side = "right"
        pad_token_id = eos_token_id = bos_token_id = None

        def get_vocab(self) -> dict[str, int]:
            return {"a": 0}

    tokenizer = Tokenizer()
    model = HookedTransformer.from_pretrained(gpt2[0], tokenizer=tokenizer)
    assert model.tokenizer is tokenizer


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("llama", {"refactor_factored_attn_matrices": True}, "refactor_factored_attn_matrices"),
        ("gpt2", {"checkpoint_index": 3, "n_devices": 2}, "checkpoint_index"),
        ("gpt2", {"dtype": "int8"}, "dtype"),
        ("llama", {"center_writing_weights": True}, "center_writing_weights"),
    ],
)
def test_refusals(
    name: str, options: dict[str, Any], message: str, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(InputError, match=message):
        HookedTransformer.from_pretrained(request.getfixturevalue(name)[0], **options)


def test_neutral_arguments_of_transformer_lens_pass(gpt2: tuple[str, Any]) -> None:
    HookedTransformer.from_pretrained(
        gpt2[0],
        checkpoint_index=None,
        refactor_factored_attn_matrices=False,
        move_to_device=True,
        n_devices=1,
    )


@pytest.mark.parametrize(
    ("short", "hub"), [("gpt2-small", "gpt2"), ("gpt2-xl", "openai-community/gpt2-xl")]
)
def test_short_names(short: str, hub: str, monkeypatch: pytest.MonkeyPatch, hf_gpt2: Any) -> None:
    asked = []

    def load(name: str, *args: Any, **options: Any) -> HookedTransformer:
        asked.append(name)
        return HookedTransformer.from_hf(hf_gpt2())

    monkeypatch.setattr("interp.opening.load_model", load)
    assert HookedTransformer.from_pretrained(short).cfg.model_name == short
    assert asked == [hub]
