from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from interp import HookedTransformer, InputError
from interp.pretrained.distilbert import make_config
from tests.interp.pretrained.parity import Case, check_parity, parity_cases, random_model

transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")

FIELDS: dict[str, Any] = {
    "n_layers": 2, "dim": 30, "n_heads": 3, "hidden_dim": 41, "vocab_size": 37,
    "max_position_embeddings": 20,
}  # fmt: skip


def _config(**fields: Any) -> Callable[[], Any]:
    return lambda: transformers.DistilBertConfig(**{**FIELDS, **fields})


SMALL = {"three heads": _config()}
SHAPES = {
    **SMALL,
    "untied, other activation": _config(
        n_layers=3, dim=20, n_heads=5, activation="relu", tie_word_embeddings=False
    ),
    "sinusoidal": _config(n_layers=1, sinusoidal_pos_embds=True),
}


@parity_cases(SHAPES, auto="DistilBertForMaskedLM")
def test_masked_lm(case: Case, tmp_path: Path) -> None:
    case.check(tmp_path)


LABELS = {"two classes": _config(), "regression": _config(num_labels=1, activation="relu")}


@parity_cases(LABELS, auto="DistilBertForSequenceClassification")
def test_classification(case: Case, tmp_path: Path) -> None:
    case.check(tmp_path, sides=("right",))


@parity_cases(SMALL, auto="DistilBertModel")
def test_base_model_unembeds_with_its_embedding(case: Case, tmp_path: Path) -> None:
    hf_model = case.model()
    embedding = hf_model.embeddings.word_embeddings.weight
    check_parity(
        hf_model, case.name, tmp_path, logits_of=lambda out: out.last_hidden_state @ embedding.T
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_batch_is_its_rows(
    side: str, assert_close: Any, padded_batch: Callable[..., tuple[Tensor, Tensor]]
) -> None:
    hf_model = random_model(_config()(), auto=transformers.DistilBertForSequenceClassification)
    model = HookedTransformer.from_hf(hf_model)
    tokens, mask = padded_batch(side, 37)
    logits = model(tokens, attention_mask=mask)
    for row, real in enumerate(mask.bool()):
        assert_close(logits[row], model(tokens[row, real])[0])


def test_config() -> None:
    assert make_config({**FIELDS, "activation": "relu"})["head_act_fn"] == "relu"
    assert make_config(FIELDS)["head_act_fn"] == "gelu"
    labelled = {**FIELDS, "architectures": ["DistilBertForSequenceClassification"]}
    assert make_config(labelled)["head_act_fn"] == "relu"


@pytest.mark.parametrize(
    ("change", "message"),
    [({"activation": "mish"}, "activation function"), ({"dim": None}, "dim")],
)
def test_config_refusals(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_config({**FIELDS, **change})
