from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, InputError, load_model
from interp.pretrained.bert import make_config
from tests.interp.pretrained.parity import Case, check_parity, parity_cases, random_model

transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")

FIELDS: dict[str, Any] = {
    "num_hidden_layers": 2, "hidden_size": 30, "num_attention_heads": 3, "intermediate_size": 41,
    "vocab_size": 37, "max_position_embeddings": 20,
}  # fmt: skip


def _config(**fields: Any) -> Callable[[], Any]:
    return lambda: transformers.BertConfig(**{**FIELDS, **fields})


SMALL = {"three heads": _config()}
SHAPES = {
    **SMALL,
    "one layer, other activation": _config(
        num_hidden_layers=1, hidden_size=20, num_attention_heads=5, hidden_act="gelu_new",
        layer_norm_eps=0.01, type_vocab_size=3,
    ),
    "untied": _config(tie_word_embeddings=False, hidden_act="relu", num_hidden_layers=3),
}  # fmt: skip


@parity_cases(SHAPES, auto="BertForMaskedLM")
def test_masked_lm(case: Case, tmp_path: Path) -> None:
    case.check(tmp_path)


@parity_cases(SMALL, auto="BertForPreTraining")
def test_pretraining_gives_its_masked_lm(case: Case, tmp_path: Path) -> None:
    case.check(tmp_path, logits_of=lambda out: out.prediction_logits)


@parity_cases(SMALL, auto="BertForNextSentencePrediction")
def test_next_sentence(case: Case, tmp_path: Path) -> None:
    case.check(tmp_path, sides=("right",))


LABELS = {"two classes": _config(), "five classes": _config(num_labels=5, hidden_act="relu")}


@parity_cases(LABELS, auto="BertForSequenceClassification")
def test_classification(case: Case, tmp_path: Path) -> None:
    case.check(tmp_path, sides=("right",))


@parity_cases(SMALL, auto="BertModel")
def test_base_model_unembeds_with_its_embedding(case: Case, tmp_path: Path) -> None:
    hf_model = case.model()
    embedding = hf_model.embeddings.word_embeddings.weight
    check_parity(
        hf_model, case.name, tmp_path, logits_of=lambda out: out.last_hidden_state @ embedding.T
    )


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("auto", ["BertForSequenceClassification", "BertForMaskedLM"])
def test_batch_is_its_rows(
    side: str, auto: str, assert_close: Any, padded_batch: Callable[..., tuple[Tensor, Tensor]]
) -> None:
    """Also for a head that reads the first token, wherever that stands."""
    model = HookedTransformer.from_hf(random_model(_config()(), auto=getattr(transformers, auto)))
    tokens, mask = padded_batch(side, 37)
    types = torch.randint(2, tokens.shape)
    logits = model(tokens, attention_mask=mask, token_type_ids=types)
    for row, real in enumerate(mask.bool()):
        alone = model(tokens[row, real], token_type_ids=types[row : row + 1, real])
        found = logits[row] if logits.ndim == 2 else logits[row, real]
        assert_close(found, alone[0])


# --- what files look like ------------------------------------------------------------------------


def _rewritten(folder: Path, hf_model: Any, change: Callable[[dict[str, Tensor]], None]) -> Path:
    from safetensors.torch import load_file, save_file

    hf_model.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_published_file_of_2018(tmp_path: Path) -> None:
    """`bert-base-uncased` has gamma and beta, a pooler, and the other head's weights."""
    hf_model = random_model(_config()(), auto=transformers.BertForMaskedLM)

    def change(weights: dict[str, Tensor]) -> None:
        for name in list(weights):
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma")
            weights[old.replace("LayerNorm.bias", "LayerNorm.beta")] = weights.pop(name)
        weights["bert.pooler.dense.weight"] = torch.zeros(30, 30)
        weights["cls.seq_relationship.weight"] = torch.zeros(2, 30)
        weights["bert.embeddings.position_ids"] = torch.arange(20)[None]
        assert "cls.predictions.decoder.bias" not in weights

    model = load_model(_rewritten(tmp_path, hf_model, change), device="cpu")
    tokens = torch.arange(9)[None]
    assert torch.equal(model(tokens), HookedTransformer.from_hf(hf_model)(tokens))


def test_file_that_holds_tied_weights_twice(tmp_path: Path) -> None:
    hf_model = random_model(_config()(), auto=transformers.BertForMaskedLM)

    def change(weights: dict[str, Tensor]) -> None:
        for kind, of in (("weight", "bert.embeddings.word_embeddings.weight"), ("bias", "")):
            twice = weights[of or "cls.predictions.bias"].clone()
            weights[f"cls.predictions.decoder.{kind}"] = twice

    model = load_model(_rewritten(tmp_path, hf_model, change), device="cpu")
    assert model.cfg.tie_word_embeddings
    tokens = torch.arange(9)[None]
    assert torch.equal(model(tokens), HookedTransformer.from_hf(hf_model)(tokens))


def test_checkpoint_without_its_pooler(tmp_path: Path) -> None:
    hf_model = random_model(_config()(), auto=transformers.BertForSequenceClassification)
    name = "bert.pooler.dense.bias"
    folder = _rewritten(tmp_path, hf_model, lambda weights: weights.__delitem__(name))
    with pytest.raises(InputError, match=r"1 weight missing: pooler\.dense\.bias"):
        load_model(folder)


# --- its config ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["BertForNextSentencePrediction", "BertModel"])
def test_the_class_is_remembered(name: str) -> None:
    hf_model = random_model(_config()(), auto=getattr(transformers, name))
    assert HookedTransformer.from_hf(hf_model).cfg.original_architecture == name


def test_config() -> None:
    config = make_config(FIELDS)
    assert (config["head"], config["act_fn"], config["head_act_fn"]) == ("mlm", "gelu", "gelu")
    assert (config["eps"], config["n_token_types"]) == (1e-12, 2)
    assert config["tie_word_embeddings"] is True
    labelled = {**FIELDS, "architectures": ["BertForSequenceClassification"]}
    assert make_config(labelled)["d_vocab_out"] == 2
    assert make_config({**labelled, "num_labels": 4})["d_vocab_out"] == 4
    assert make_config({**labelled, "id2label": {"0": "a", "1": "b", "2": "c"}})["d_vocab_out"] == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"is_decoder": True}, "is_decoder"),
        ({"add_cross_attention": True}, "add_cross_attention"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"hidden_act": "quick_gelu"}, "activation function"),
        ({"hidden_size": None}, "hidden_size"),
    ],
)
def test_config_refusals(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_config({**FIELDS, **change})


# --- text ----------------------------------------------------------------------------------------

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "sat", "##s", "on", "mat", "."]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    path.write_text("\n".join(WORDS))
    return transformers.BertTokenizer(vocab=str(path))


@pytest.mark.parametrize("side", ["left", "right"])
def test_text(side: str, tokenizer: Any, tmp_path: Path, assert_close: Any) -> None:
    hf_model = random_model(_config()(), auto=transformers.BertForMaskedLM)
    texts = ["a cat sat on a mat .", "cats", "A MAT sat ."]
    hf_model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = load_model(tmp_path, device="cpu")
    assert model.to_str_tokens("cats") == ["[CLS]", "cat", "##s", "[SEP]"]
    assert model.to_str_tokens("cats", prepend_bos=False) == ["cat", "##s"]
    logits = model(texts, padding_side=side)
    for row, text in enumerate(texts):
        ids = tokenizer(text, return_tensors="pt")
        assert torch.equal(model.to_tokens(text), ids.input_ids)
        alone = model(text)
        with torch.no_grad():
            assert_close(alone, hf_model(**ids).logits, text)
        n = alone.shape[1]
        assert_close(logits[row, :n] if side == "right" else logits[row, -n:], alone[0], text)


def test_padded_tokens_need_no_mask(tokenizer: Any, assert_close: Any) -> None:
    hf_model = random_model(_config()(), auto=transformers.BertForMaskedLM)
    model = HookedTransformer.from_hf(hf_model, tokenizer)
    padded = tokenizer(["a cat sat .", "mat"], padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = hf_model(**padded).logits
    found = model(padded.input_ids)
    real = padded.attention_mask.bool()
    assert_close(found[real], expected[real])
