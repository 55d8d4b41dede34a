from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, InputError
from interp.pretrained.roberta import make_config
from tests.interp.pretrained.parity import Case, check_parity, parity_cases, random_model

transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")

FIELDS: dict[str, Any] = {
    "num_hidden_layers": 2, "hidden_size": 30, "num_attention_heads": 3, "intermediate_size": 41,
    "vocab_size": 37, "max_position_embeddings": 20, "type_vocab_size": 1,
}  # fmt: skip


def _config(kind: str = "Roberta", **fields: Any) -> Callable[[], Any]:
    return lambda: getattr(transformers, f"{kind}Config")(**{**FIELDS, **fields})


SMALL = {"three heads": _config()}
SHAPES = {
    **SMALL,
    "untied, other activation": _config(
        num_hidden_layers=3, hidden_size=20, num_attention_heads=5, hidden_act="relu",
        layer_norm_eps=1e-5, tie_word_embeddings=False,
    ),
}  # fmt: skip

# Hugging Face counts the tokens that are not padding itself.


@parity_cases(SHAPES, auto="RobertaForMaskedLM")
def test_masked_lm(case: Case, tmp_path: Path) -> None:
    case.check(tmp_path, position_ids=False)


@parity_cases({"three heads": _config("XLMRoberta")}, auto="XLMRobertaForMaskedLM")
def test_xlm_roberta(case: Case, tmp_path: Path) -> None:
    case.check(tmp_path, position_ids=False)


@parity_cases({"three heads": _config("Camembert")}, auto="CamembertForMaskedLM")
def test_camembert(case: Case, tmp_path: Path) -> None:
    case.check(tmp_path, position_ids=False)


LABELS = {"two classes": _config(), "four classes": _config(num_labels=4, hidden_act="relu")}


@parity_cases(LABELS, auto="RobertaForSequenceClassification")
def test_classification(case: Case, tmp_path: Path) -> None:
    case.check(tmp_path, position_ids=False, sides=("right",))


@parity_cases(SMALL, auto="RobertaModel")
def test_base_model_unembeds_with_its_embedding(case: Case, tmp_path: Path) -> None:
    hf_model = case.model()
    embedding = hf_model.embeddings.word_embeddings.weight
    check_parity(
        hf_model,
        case.name,
        tmp_path,
        position_ids=False,
        logits_of=lambda out: out.last_hidden_state @ embedding.T,
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_batch_is_its_rows(
    side: str, assert_close: Any, padded_batch: Callable[..., tuple[Tensor, Tensor]]
) -> None:
    hf_model = random_model(_config()(), auto=transformers.RobertaForSequenceClassification)
    model = HookedTransformer.from_hf(hf_model)
    tokens, mask = padded_batch(side, 37)
    logits = model(tokens, attention_mask=mask)
    for row, real in enumerate(mask.bool()):
        assert_close(logits[row], model(tokens[row, real])[0])


def test_context_ends_where_positions_do() -> None:
    """The first two of `max_position_embeddings` belong to no token."""
    hf_model = random_model(_config()(), auto=transformers.RobertaForMaskedLM)
    model = HookedTransformer.from_hf(hf_model)
    assert model.cfg.n_ctx == 18
    assert torch.equal(model.W_pos, hf_model.roberta.embeddings.position_embeddings.weight[2:])
    with pytest.raises(InputError, match="n_ctx"):
        model(torch.zeros(1, 19, dtype=torch.long))


def test_config() -> None:
    config = make_config({**FIELDS, "hidden_act": "relu"})
    assert (config["head"], config["act_fn"], config["head_act_fn"]) == ("mlm", "relu", "gelu")
    assert config["n_token_types"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"is_decoder": True}, "is_decoder"),
        ({"position_embedding_type": "relative_key_query"}, "position_embedding_type"),
        ({"pad_token_id": 0}, "pad_token_id"),
        ({"vocab_size": None}, "vocab_size"),
    ],
)
def test_config_refusals(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_config({**FIELDS, **change})
