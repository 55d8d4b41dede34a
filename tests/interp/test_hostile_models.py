"""Models that others wrote: what is claimed, what leads elsewhere, what is no number."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from analyses import AnalysisResult
from interp import HookedTransformer, HookedTransformerConfig, InputError, load_model
from interp.pretrained.tokenizers import open_tokenizer
from interp.sae import SAEConfig, load_sae, make_sae, save_sae
from interp.saving import is_saved_model
from interp.zoo import read_entry

MakeModel = Callable[..., HookedTransformer]


@pytest.fixture
def saved(make_model: MakeModel, tmp_path: Path) -> Path:
    return make_model().save(tmp_path / "m")


@pytest.fixture(params=["gpt2", "llama"])
def hugging_face(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    hf_model = request.getfixturevalue(f"hf_{request.param}")()
    hf_model.save_pretrained(tmp_path / "hf")
    return tmp_path / "hf"


@pytest.fixture
def little_memory() -> Any:
    """2 GiB beyond what is taken already: what is claimed cannot be allocated unnoticed."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2 * 2**30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def _refused(folder: Path, words: str, **options: Any) -> None:
    with pytest.raises(InputError, match=words or None) as fault:
        load_model(folder, device="cpu", **options)
    assert len(str(fault.value)) < 1500 and "\n" not in str(fault.value)


def _change(path: Path, part: str | None = None, **fields: Any) -> None:
    document = json.loads(path.read_text())
    (document if part is None else document[part]).update(fields)
    path.write_text(json.dumps(document))


# --- sizes ---------------------------------------------------------------------------------------

SIZES = [
    ("n_layers", 10**12, "n_layers must be at most"),
    ("n_layers", 60_000, "asks for 60000 layers"),
    ("n_layers", -1, "n_layers"),
    ("n_layers", 10**200, "n_layers"),
    ("d_model", 10**12, "d_model must be at most"),
    ("d_model", 2**30, "must be"),
    ("d_vocab", 2**31 - 1, "must be"),
    ("n_ctx", 2**31 - 1, "must be"),
    ("d_mlp", 2**31 - 1, "must be"),
    ("n_heads", 2**30, "does not fit"),
    ("n_heads", "4", "n_heads must be a whole number"),
    ("d_head", -5, "d_head"),
    ("seed", 2**70, "seed must be at most"),
    ("eps", True, "eps must be a finite number"),
    ("eps", [], "eps must be a finite number"),
    ("dtype", 3, "dtype must be one of"),
    ("act_fn", {}, "act_fn"),
    ("suppress_tokens", ["a"], "suppress_tokens must be a list of whole numbers"),
    ("attn_types", "global", "attn_types must be a list"),
    ("rotary_scaling", {"kind": "yarn"}, "rotary_scaling"),
]


@pytest.mark.parametrize(("field", "value", "words"), SIZES)
def test_what_a_config_claims_is_refused_before_memory_is_taken(
    field: str, value: Any, words: str, saved: Path, little_memory: None
) -> None:
    _change(saved / "config.json", "config", **{field: value})
    _refused(saved, words)


@pytest.mark.parametrize("value", [10**12, 60_000, -1, 10**200, []])
def test_what_a_hugging_face_config_claims_is_too(
    value: Any, hugging_face: Path, little_memory: None
) -> None:
    path = hugging_face / "config.json"
    before = path.read_text()
    for name in ("n_layer", "n_embd", "n_head", "vocab_size", "n_positions", "hidden_size",
                 "num_hidden_layers", "num_attention_heads", "intermediate_size"):  # fmt: skip
        if name in json.loads(before):
            path.write_text(before)
            _change(path, **{name: value})
            _refused(hugging_face, "")


def test_an_sae_is_as_large_as_its_file(tmp_path: Path, little_memory: None) -> None:
    cfg = SAEConfig(kind="topk", d_in=4, d_sae=8, k=2, device="cpu")
    folder = save_sae(make_sae(cfg), tmp_path / "sae")
    for changes in ({"d_sae": 10**10}, {"d_in": 10**30, "d_sae": 10**30}, {"d_sae": 16}):
        save_sae(make_sae(cfg), folder)
        _change(folder / "config.json", "config", **changes)
        with pytest.raises(InputError, match=r"must hold \d+ units of \d+ numbers"):
            load_sae(folder, "cpu")


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ours", [True, False])
def test_weights_that_are_not_finite(
    ours: bool, saved: Path, hf_gpt2: Callable[..., Any], tmp_path: Path
) -> None:
    folder, name = (
        (saved, "blocks.1.mlp.W_in") if ours else (tmp_path / "hf", "h.1.mlp.c_fc.weight")
    )
    if not ours:
        hf_gpt2().save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    name = next(each for each in weights if each.endswith(name))
    weights[name][3, 4:7] = torch.tensor([float("nan"), float("inf"), -float("inf")])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _refused(folder, rf"model\.safetensors has 3 NaN or infinite of \d+ in {name}")
    model = load_model(folder, device="cpu", allow_nonfinite=True)
    assert int((~model.blocks[1].mlp.W_in.isfinite()).sum()) == 3
    with pytest.raises(InputError, match="allow_nonfinite has no meaning for a zoo model"):
        load_model("zoo:copy-none", allow_nonfinite=True)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool])
def test_numbers_that_would_need_scales(
    dtype: torch.dtype, saved: Path, hf_gpt2: Callable[..., Any], tmp_path: Path
) -> None:
    hf_gpt2().save_pretrained(tmp_path / "hf")
    for folder in (saved, tmp_path / "hf"):
        weights = load_file(folder / "model.safetensors")
        name = next(n for n in weights if n.endswith(("mlp.W_in", "mlp.c_fc.weight")))
        save_file({**weights, name: weights[name].to(dtype)}, folder / "model.safetensors")
        _refused(folder, rf"weights must be one of .*{name} in {dtype}")


def test_pickled_weights_are_checked_alike(hf_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    hf_gpt2().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    for change, words in (
        ({"transformer.wte.weight": torch.tensor(1.0).expand(10**6, 10**6)}, "not there"),
        ({"transformer.wte.weight": torch.full((37, 24), torch.nan)}, "888 NaN or infinite"),
        ({"transformer.wte.weight": torch.ones(3, 24)}, "does not fit"),
        ({3: torch.ones(1)}, "dictionary of tensors"),
    ):
        torch.save({**weights, **change}, tmp_path / "pytorch_model.bin")
        _refused(tmp_path, words, allow_pickle=True)


# --- ways out ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shard",
    ["../secret.safetensors", "/etc/passwd", "a\x00b", "a\nb", "", ".", 3, None, ["a"], {"a": 1},
     "sub/x.safetensors", "C:\\x"],
)  # fmt: skip
def test_shards_are_files_of_their_directory(
    shard: Any, hugging_face: Path, tmp_path: Path
) -> None:
    (hugging_face / "model.safetensors").rename(tmp_path / "secret.safetensors")
    weights = load_file(tmp_path / "secret.safetensors")
    index = {"weight_map": dict.fromkeys(weights, shard)}
    (hugging_face / "model.safetensors.index.json").write_text(json.dumps(index))
    _refused(hugging_face, "must name files of its own directory")


def test_a_weight_in_two_shards_is_refused(hugging_face: Path) -> None:
    path = hugging_face / "model.safetensors"
    weights = load_file(path)
    for shard in ("a.safetensors", "b.safetensors"):
        save_file(weights, hugging_face / shard)
    path.unlink()
    shards = ["a.safetensors", "b.safetensors"] * len(weights)
    index = {"weight_map": dict(zip(weights, shards, strict=False))}
    (hugging_face / "model.safetensors.index.json").write_text(json.dumps(index))
    _refused(hugging_face, r"b\.safetensors holds .*, which a\.safetensors holds already")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_links_out_and_pipes_are_not_read(name: str, saved: Path, hugging_face: Path) -> None:
    for folder in (saved, hugging_face):
        outside = folder.parent / f"{folder.name}-{name}"
        (folder / name).rename(outside)
        (folder / name).symlink_to(outside)
        _refused(folder, "is a link that leads out of")
        (folder / name).unlink()
        os.mkfifo(folder / name)
        _refused(folder, "")


def test_config_rules_hold_for_python_callers_too() -> None:
    with pytest.raises(
        InputError, match=r"n_layers must be at most 65536\. Received 1000000000000"
    ):
        HookedTransformerConfig(n_layers=10**12, d_model=8, n_ctx=4, n_heads=2, act_fn="relu")
    with pytest.raises(InputError, match="n_heads must be a whole number"):
        HookedTransformerConfig(n_layers=1, d_model=8, n_ctx=4, n_heads="2")  # type: ignore[arg-type]


def test_a_config_that_is_a_link_out_is_not_looked_at(saved: Path, tmp_path: Path) -> None:
    """Nor is what is wrong with it told."""
    (tmp_path / "other").write_text('{"secret": 1, "secret": 2}')
    (saved / "config.json").unlink()
    (saved / "config.json").symlink_to(tmp_path / "other")
    _refused(saved, "is a link that leads out of")
    with pytest.raises(InputError, match="is a link that leads out of"):
        is_saved_model(saved)


@pytest.mark.parametrize("name", ["x" * 5000, "a/" + "x" * 300, "a\x00b"])
@pytest.mark.parametrize("kind", [str, Path])
def test_names_that_no_file_can_have(name: str, kind: type) -> None:
    for read in (load_model, load_sae, read_entry, AnalysisResult.load, open_tokenizer):
        with pytest.raises(InputError):
            read(kind(name))


# --- beside Hugging Face's own model -------------------------------------------------------------


@pytest.mark.parametrize(
    "field",
    ["attn_implementation", "_attn_implementation", "experts_implementation",
     "transformers_weights", "quantization_config", "auto_map"],
)  # fmt: skip
def test_what_is_verified_names_no_code_and_no_file(
    field: str, hugging_face: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers would fetch a kernel of that name from the hub, and run it."""
    import transformers

    opened = []
    read = transformers.PreTrainedModel.from_pretrained.__func__  # type: ignore[attr-defined]

    def watched(cls: type, folder: Path, *, config: Any, **options: Any) -> Any:
        opened.append((str(config.to_dict()), options["attn_implementation"]))
        return read(cls, folder, config=config, **options)

    monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", classmethod(watched))
    name = "../elsewhere/kernel"
    value = {"quantization_config": {"quant_method": name}, "auto_map": {"AutoModel": name}}
    _change(hugging_face / "config.json", **{field: value.get(field, name)})
    load_model(hugging_face, device="cpu", verify=True)
    (config, attention) = opened[0]
    assert name not in config and attention == "eager"


def test_what_transformers_cannot_open_is_told_in_a_line(hugging_face: Path) -> None:
    before = (hugging_face / "config.json").read_text()
    _change(hugging_face / "config.json", id2label=3)
    _refused(hugging_face, "transformers cannot open", verify=True)
    (hugging_face / "config.json").write_text(before)
    (hugging_face / "adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere"}')
    _refused(hugging_face, "has an adapter", verify=True)
