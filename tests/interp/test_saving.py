from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from interp import HookedTransformer, InputError, load_model
from interp.files import read_json
from interp.pretrained.tokenizers import load_tokenizer
from interp.saving import compare_names, is_saved_model

MakeModel = Callable[..., HookedTransformer]
TOKENS = torch.tensor([[1, 2, 3, 4]])

MODELS: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "tied-grouped": {
        "normalization_type": "RMS", "positional_embedding_type": "rotary", "gated_mlp": True,
        "act_fn": "silu", "n_key_value_heads": 2, "tie_word_embeddings": True,
        "rotary_base": 50.0, "rotary_dim": 4, "rotary_adjacent_pairs": True,
    },
    "fp64": {"dtype": "float64", "attn_only": True, "default_prepend_bos": False},
    "bf16": {"dtype": "bfloat16", "act_fn": "solu_ln", "attention_dir": "bidirectional"},
    "fp16": {"dtype": "float16", "parallel_attn_mlp": True, "eps": 0.1, "d_vocab_out": 7},
    "no-layers": {"n_layers": 0, "normalization_type": None},
}  # fmt: skip


def _same(model: HookedTransformer, other: HookedTransformer) -> None:
    assert other.cfg == model.cfg
    state, found = model.state_dict(), other.state_dict()
    assert set(found) == set(state)
    for name, weight in state.items():
        assert found[name].dtype == weight.dtype, name
        assert torch.equal(found[name], weight), name
    assert torch.equal(other(TOKENS), model(TOKENS))


@pytest.mark.parametrize("processed", [False, True])
@pytest.mark.parametrize("fields", MODELS.values(), ids=MODELS)
def test_round_trip(
    fields: dict[str, Any], processed: bool, make_model: MakeModel, tmp_path: Path
) -> None:
    model = make_model(**fields)
    model = model.process_weights() if processed else model
    assert model.save(tmp_path / "m") == tmp_path / "m"
    assert is_saved_model(tmp_path / "m")
    _same(model, HookedTransformer.load(tmp_path / "m"))
    _same(model, load_model(tmp_path / "m"))
    assert HookedTransformer.load(str(tmp_path / "m")).tokenizer is None


def test_files_are_plain(make_model: MakeModel, tmp_path: Path) -> None:
    """Weights by their own names, contiguous; a config of plain values."""
    model = make_model()
    model.save(tmp_path / "m")
    weights = load_file(tmp_path / "m" / "model.safetensors")
    assert set(weights) == set(model.state_dict())
    document = json.loads((tmp_path / "m" / "config.json").read_text())
    assert document["format"] == "interp"
    assert document["config"]["dtype"] == "float32"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]


def test_another_dtype(make_model: MakeModel, tmp_path: Path) -> None:
    make_model().save(tmp_path / "m")
    for load in (HookedTransformer.load, load_model):
        wide = load(tmp_path / "m", dtype=torch.float64)
        assert wide.cfg.dtype == wide.W_E.dtype == torch.float64
        assert torch.equal(wide.W_E, make_model().W_E.double())
    with pytest.raises(InputError, match="dtype"):
        HookedTransformer.load(tmp_path / "m", dtype="int8")


@pytest.mark.parametrize("name", ["gpt2-tokenizer", "stories260K"])
def test_tokenizer_comes_along(
    name: str, make_model: MakeModel, tmp_path: Path, third_party: Callable[[str], Path]
) -> None:
    tokenizer = load_tokenizer(third_party(name))
    tokenizer.padding_side = "left"
    model = make_model(
        tokenizer, d_vocab=-1, d_model=4, d_head=2, n_heads=2, default_prepend_bos=False
    )
    model.save(tmp_path / "m")
    found = HookedTransformer.load(tmp_path / "m")
    text = "Once upon a time, é 漢"
    assert found.tokenizer is not tokenizer
    assert found.tokenizer.padding_side == "left"
    assert found.to_str_tokens(text) == model.to_str_tokens(text)
    batch = [text, "Lily"]
    assert torch.equal(found.to_tokens(batch), model.to_tokens(batch))
    assert torch.equal(
        found.to_tokens(text, prepend_bos=True), model.to_tokens(text, prepend_bos=True)
    )
    assert torch.equal(found(batch), model(batch))
    other = load_model(tmp_path / "m", tokenizer=tokenizer)
    assert other.tokenizer.get_vocab() == tokenizer.get_vocab()


# --- where it may be written ---------------------------------------------------------------------


def test_an_older_model_is_replaced_whole(make_model: MakeModel, tmp_path: Path) -> None:
    make_model().save(tmp_path / "m")
    (tmp_path / "m" / "tokenizer.json").write_text("old")
    new = make_model(n_layers=1)
    new.save(tmp_path / "m")
    _same(new, HookedTransformer.load(tmp_path / "m"))
    assert {p.name for p in (tmp_path / "m").iterdir()} == {"config.json", "model.safetensors"}


def test_an_empty_directory_is_used(make_model: MakeModel, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    make_model().save(tmp_path / "a")
    make_model().save(tmp_path / "b" / "c")
    assert is_saved_model(tmp_path / "a")
    assert is_saved_model(tmp_path / "b" / "c")


@pytest.mark.parametrize("content", ["other", "hf", "file"])
def test_anything_else_is_left_alone(content: str, make_model: MakeModel, tmp_path: Path) -> None:
    target = tmp_path / "m"
    if content == "file":
        target.write_text("mine")
        files = [target]
    else:
        target.mkdir()
        name = "config.json" if content == "hf" else "thesis.tex"
        (target / name).write_text('{"model_type": "gpt2"}')
        files = [target / name]
    before = files[0].read_text()
    with pytest.raises(InputError, match="is not a saved model"):
        make_model().save(target)
    assert files[0].read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_failed_save_leaves_the_older_model(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = make_model()
    old.save(tmp_path / "m")

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("interp.saving.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        make_model(n_layers=1).save(tmp_path / "m")
    monkeypatch.undo()
    _same(old, HookedTransformer.load(tmp_path / "m"))
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


# --- damage --------------------------------------------------------------------------------------


@pytest.fixture
def saved(make_model: MakeModel, tmp_path: Path) -> Path:
    return make_model().save(tmp_path / "m")


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_truncated_weights(keep: int, saved: Path) -> None:
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"model\.safetensors"):
        HookedTransformer.load(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embed.W_E": None}, r"1 weight missing: embed\.W_E"),
        ({"extra": torch.ones(1)}, "1 weight unexpected: extra"),
        ({"embed.W_E": torch.ones(30, 24)}, r"embed\.W_E must be \(31, 24\)"),
        ({"embed.W_E": torch.ones(1)}, r"embed\.W_E must be"),
    ],
)
def test_weights_that_do_not_fit(
    change: dict[str, Tensor | None], message: str, saved: Path
) -> None:
    path = saved / "model.safetensors"
    weights = {**load_file(path), **change}
    save_file({k: v for k, v in weights.items() if v is not None}, path)
    with pytest.raises(InputError, match=message):
        HookedTransformer.load(saved)


@pytest.mark.parametrize(
    "document",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"format": "other"}',
        '{"format": "interp", "version": 1}',
        '{"format": "interp", "version": 1, "config": []}',
        '{"format": "interp", "version": 1, "config": {"n_layers": 2}}',
    ],
)
def test_damaged_config(document: str, saved: Path) -> None:
    (saved / "config.json").write_text(document)
    with pytest.raises(InputError):
        HookedTransformer.load(saved)


@pytest.mark.parametrize(
    ("field", "value"),
    [("n_layers", "two"), ("n_layrs", 2), ("dtype", "int3"), ("n_heads", 5), ("d_vocab", None)],
)
def test_damaged_field(field: str, value: object, saved: Path) -> None:
    document = json.loads((saved / "config.json").read_text())
    document["config"][field] = value
    (saved / "config.json").write_text(json.dumps(document))
    with pytest.raises(InputError):
        HookedTransformer.load(saved)


def test_missing_files(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model\.safetensors does not exist"):
        HookedTransformer.load(saved)
    (saved / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json does not exist"):
        HookedTransformer.load(saved)


def test_hugging_face_directory_is_not_ours(saved: Path) -> None:
    (saved / "config.json").write_text('{"model_type": "gpt2"}')
    assert not is_saved_model(saved)
    with pytest.raises(InputError, match="was not written by"):
        HookedTransformer.load(saved)


# --- helpers -------------------------------------------------------------------------------------


def test_compare_names() -> None:
    compare_names({"a"}, {"a"}, "here")
    with pytest.raises(
        InputError, match=r"here .* 1 weight missing: b; 2 weights unexpected: c, d"
    ):
        compare_names({"a", "b"}, {"a", "c", "d"}, "here")
    many = {f"w{i:02}" for i in range(20)}
    with pytest.raises(InputError, match=r"20 weights missing: w00, .*w07, …"):
        compare_names(many, set(), "here")


def test_read_json(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"é": 1}', encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {"é": 1}
    (tmp_path / "b.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(InputError, match=r"b\.json"):
        read_json(tmp_path / "b.json")
