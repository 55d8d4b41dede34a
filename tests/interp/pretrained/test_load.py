from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import interp
from interp import HookedTransformer, InputError, load_model
from tests.covering import slow

TOKENS = torch.tensor([[1, 2, 3, 4, 5]])


@pytest.fixture(scope="module")
def saved(
    tmp_path_factory: pytest.TempPathFactory, hf_gpt2: Any, hf_llama: Any
) -> dict[str, tuple[Path, Any]]:
    """A GPT-2 and a Llama as transformers saves them, each with its model."""
    models = {"gpt2": hf_gpt2(), "llama": hf_llama(tie_word_embeddings=False)}
    folder = tmp_path_factory.mktemp("saved")
    for name, model in models.items():
        model.save_pretrained(folder / name)
    return {name: (folder / name, model) for name, model in models.items()}


@pytest.fixture
def altered(saved: dict[str, tuple[Path, Any]], tmp_path: Path) -> Callable[..., Path]:
    """A copy of a saved model with weights replaced (None: left out) and config fields changed."""

    def alter(name: str, weights: dict[str, Any] | None = None, **config: Any) -> Path:
        source, target = saved[name][0], tmp_path / "altered"
        target.mkdir(exist_ok=True)
        fields = json.loads((source / "config.json").read_text())
        (target / "config.json").write_text(json.dumps({**fields, **config}))
        kept = {**load_file(source / "model.safetensors"), **(weights or {})}
        save_file({k: v for k, v in kept.items() if v is not None}, target / "model.safetensors")
        return target

    return alter


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_directory(
    name: str, saved: dict[str, tuple[Path, Any]], assert_close: Callable[..., None]
) -> None:
    folder, hf_model = saved[name]
    model = load_model(folder)
    assert model.tokenizer is None
    assert model.cfg.model_name == str(folder)
    assert model.cfg.original_architecture == type(hf_model).__name__
    assert model.cfg.weight_processing == ()
    assert_close(model(TOKENS), hf_model(TOKENS).logits)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_shards(
    name: str,
    saved: dict[str, tuple[Path, Any]],
    tmp_path: Path,
    assert_close: Callable[..., None],
) -> None:
    hf_model = saved[name][1]
    hf_model.save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    assert_close(load_model(tmp_path)(TOKENS), hf_model(TOKENS).logits)
    shard = sorted(tmp_path.glob("model-*.safetensors"))[0]
    shard.unlink()
    with pytest.raises(InputError, match=shard.name):
        load_model(tmp_path)


def test_index_that_leaves_a_shard_out(saved: dict[str, tuple[Path, Any]], tmp_path: Path) -> None:
    saved["gpt2"][1].save_pretrained(tmp_path, max_shard_size="10KB")
    index = tmp_path / "model.safetensors.index.json"
    document = json.loads(index.read_text())
    first = min(document["weight_map"].values())
    document["weight_map"] = {k: v for k, v in document["weight_map"].items() if v != first}
    index.write_text(json.dumps(document))
    with pytest.raises(InputError, match="missing"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("gpt2", {"transformer.wpe.weight": None}, r"1 weight missing: wpe\.weight"),
        ("gpt2", {"transformer.h.1.mlp.c_fc.bias": None}, r"h\.1\.mlp\.c_fc\.bias"),
        ("gpt2", {"transformer.zzz": torch.ones(1)}, "1 weight unexpected: zzz"),
        ("gpt2", {"transformer.h.2.ln_1.bias": torch.ones(24)}, r"unexpected: h\.2\.ln_1\.bias"),
        ("gpt2", {"transformer.wte.weight": torch.ones(36, 24)}, r"wte\.weight.*\(36, 24\)"),
        ("gpt2", {"transformer.h.0.ln_1.weight": torch.ones(1)}, r"ln_1\.weight.*\(1,\)"),
        ("gpt2", {"transformer.h.0.attn.c_attn.weight": torch.ones(23, 72)}, "c_attn.weight"),
        ("gpt2", {"transformer.h.0.attn.c_attn.weight": torch.ones(24, 71)}, "c_attn.weight"),
        ("gpt2", {"transformer.h.0.attn.c_attn.bias": torch.ones(72, 1)}, "c_attn.bias"),
        ("llama", {"lm_head.weight": None}, r"missing: lm_head\.weight"),
        ("llama", {"model.layers.0.self_attn.q_proj.weight": torch.ones(41, 24)}, "q_proj.weight"),
        ("llama", {"model.layers.0.self_attn.k_proj.weight": torch.ones(40, 24)}, "k_proj.weight"),
        ("llama", {"model.layers.0.self_attn.q_proj.bias": torch.ones(40)}, "unexpected.*q_proj"),
    ],
)
def test_weights_that_do_not_fit(
    name: str, weights: dict[str, Any], message: str, altered: Callable[..., Path]
) -> None:
    with pytest.raises(InputError, match=message):
        load_model(altered(name, weights))


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("gpt2", {"architectures": ["OtherModel"]}, "architecture must be one of"),
        ("gpt2", {"n_head": 5}, "5 heads"),
        ("gpt2", {"n_layer": None}, "n_layer"),
        ("gpt2", {"n_layer": "two"}, "n_layers"),
        ("gpt2", {"vocab_size": "x"}, "vocab"),
        ("gpt2", {"vocab_size": -3}, "vocab.*-3"),
        ("gpt2", {"layer_norm_epsilon": "a"}, "eps"),
        ("llama", {"mlp_bias": True}, "mlp_bias"),
        ("llama", {"attention_bias": True}, "8 weights missing.*o_proj.bias"),
        ("llama", {"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor"),
        ("llama", {"rope_parameters": None, "rope_scaling": {"type": "dynamic"}}, "give factor"),
        ("llama", {"rope_parameters": None, "rope_scaling": {"type": "longrope"}}, "longrope"),
    ],
)
def test_configs_that_are_refused(
    name: str, config: dict[str, Any], message: str, altered: Callable[..., Path]
) -> None:
    with pytest.raises(InputError, match=message):
        load_model(altered(name, **config))


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.bool], ids=str)
def test_buffers_of_old_checkpoints_are_left_out(
    dtype: torch.dtype, altered: Callable[..., Path], saved: dict[str, tuple[Path, Any]]
) -> None:
    """Their masks are integers on the hub, and come before any weight in the file."""
    buffers = {
        "transformer.h.0.attn.bias": torch.ones(1, 1, 20, 20, dtype=dtype),
        "transformer.h.0.attn.masked_bias": torch.tensor(-1e4),
    }
    model = load_model(altered("gpt2", buffers))
    assert model.cfg.dtype == torch.float32
    assert torch.equal(model.W_E, saved["gpt2"][1].transformer.wte.weight)


def test_buffer_does_not_decide_the_dtype(altered: Callable[..., Path]) -> None:
    buffer = torch.ones(1, 1, 20, 20, dtype=torch.float16)
    model = load_model(altered("gpt2", {"transformer.h.0.attn.bias": buffer}))
    assert model.cfg.dtype == torch.float32


def test_copy_of_a_tied_unembedding_is_left_out(
    altered: Callable[..., Path], saved: dict[str, tuple[Path, Any]]
) -> None:
    embedding = saved["gpt2"][1].transformer.wte.weight.detach().clone()
    model = load_model(altered("gpt2", {"lm_head.weight": embedding}))
    assert model.cfg.tie_word_embeddings
    assert torch.equal(model.W_U, model.W_E.T)


def test_unembedding_that_differs_is_kept(altered: Callable[..., Path]) -> None:
    """transformers, too, ties only what is equal, whatever `tie_word_embeddings` says."""
    model = load_model(altered("gpt2", {"lm_head.weight": torch.zeros(37, 24)}))
    assert not model.cfg.tie_word_embeddings
    assert torch.equal(model.W_U, torch.zeros(24, 37))


def test_names_without_the_prefix(
    altered: Callable[..., Path],
    saved: dict[str, tuple[Path, Any]],
    assert_close: Callable[..., None],
) -> None:
    """As the first GPT-2s on the hub have them."""
    folder = altered("gpt2", {})
    weights = load_file(folder / "model.safetensors")
    bare = {name.removeprefix("transformer."): w for name, w in weights.items()}
    save_file(bare, folder / "model.safetensors")
    assert_close(load_model(folder)(TOKENS), saved["gpt2"][1](TOKENS).logits)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_checkpoints(
    name: str,
    dtype: torch.dtype,
    saved: dict[str, tuple[Path, Any]],
    tmp_path: Path,
    hf_gpt2: Any,
    hf_llama: Any,
) -> None:
    """Weights keep the dtype that they are stored in, unless another is asked for."""
    hf_model = (hf_gpt2 if name == "gpt2" else hf_llama)(dtype)
    hf_model.save_pretrained(tmp_path)
    model = load_model(tmp_path)
    assert {p.dtype for p in model.parameters()} == {model.cfg.dtype} == {dtype}
    expected = hf_model(TOKENS).logits.float()
    found = model(TOKENS).float()
    rounding = torch.finfo(dtype).eps * expected.abs().max()
    assert (found - expected).abs().max() < 8 * rounding
    wide = load_model(tmp_path, dtype="float32")
    assert {p.dtype for p in wide.parameters()} == {wide.cfg.dtype} == {torch.float32}
    assert torch.equal(wide.W_E, model.W_E.float())
    assert (wide(TOKENS) - expected).abs().max() < 8 * rounding


@pytest.mark.parametrize("dtype", ["int8", torch.int64, "float"])
def test_dtypes_that_are_refused(dtype: Any, saved: dict[str, tuple[Path, Any]]) -> None:
    with pytest.raises(InputError, match="dtype must be one of"):
        load_model(saved["gpt2"][0], dtype=dtype)


def test_config_json_that_is_damaged_or_absent(altered: Callable[..., Path]) -> None:
    folder = altered("gpt2")
    for text in ("{", "[]", ""):
        (folder / "config.json").write_text(text)
        with pytest.raises(InputError, match=r"config\.json"):
            load_model(folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json does not exist"):
        load_model(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./absent", "no directory"),
        ("/absent", "no directory"),
        ("a/b/c", "no directory"),
        (Path("absent"), "no directory"),
        ("zoo:no-such-model", "no-such-model"),
        ("absent", "hub could not give it"),
        ("", "name|empty"),
    ],
)
def test_names_that_are_not_there(
    name: str | Path, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        load_model(name)


def test_a_file_is_no_model(altered: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="is a file"):
        load_model(altered("gpt2") / "config.json")


def test_arguments_without_meaning_for_the_zoo() -> None:
    with pytest.raises(InputError, match="revision"):
        load_model("zoo:induction", revision="main")
    with pytest.raises(InputError, match="tokenizer"):
        load_model("zoo:induction", tokenizer=object())


def test_from_hf_copies(hf_gpt2: Any) -> None:
    hf_model = hf_gpt2()
    model = HookedTransformer.from_hf(hf_model)
    before = model(TOKENS)
    with torch.no_grad():
        for parameter in hf_model.parameters():
            parameter.zero_()
    assert torch.equal(model(TOKENS), before)
    assert model.cfg.original_architecture == "GPT2LMHeadModel"


def test_from_hf_changes_dtype(hf_gpt2: Any, assert_close: Callable[..., None]) -> None:
    hf_model = hf_gpt2()
    model = HookedTransformer.from_hf(hf_model, dtype="float64")
    assert_close(model(TOKENS), hf_model.double()(TOKENS).logits, tolerance=1e-10)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_gradients_reach_every_loaded_weight(name: str, saved: dict[str, tuple[Path, Any]]) -> None:
    model = load_model(saved[name][0])
    model(TOKENS, return_type="loss").backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        unused = name == "llama" and parameter_name.endswith("_b_K")
        assert parameter.grad.abs().sum() > 0 or unused, parameter_name


# --- memory --------------------------------------------------------------------------------------

MEASURE = """
import json, os, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
import interp, transformers.models.auto.tokenization_auto  # not part of what is measured
from interp.pretrained.load import load_model

if os.fork():  # what is imported, is imported once; each model has a process of its own
    assert os.wait()[1] == 0
    name = "gpt2"
else:
    name = "llama"
folder = Path(sys.argv[1]) / name
folder.mkdir()
d, layers, vocab = 512, 12, 4000
if name == "gpt2":
    shapes = {
        "wte.weight": (vocab, d), "wpe.weight": (64, d), "ln_f.weight": (d,), "ln_f.bias": (d,),
    }
    per_layer = {
        "ln_1.weight": (d,), "ln_1.bias": (d,), "ln_2.weight": (d,), "ln_2.bias": (d,),
        "attn.c_attn.weight": (d, 3 * d), "attn.c_attn.bias": (3 * d,),
        "attn.c_proj.weight": (d, d), "attn.c_proj.bias": (d,),
        "mlp.c_fc.weight": (d, 4 * d), "mlp.c_fc.bias": (4 * d,),
        "mlp.c_proj.weight": (4 * d, d), "mlp.c_proj.bias": (d,),
    }
    shapes |= {f"h.{i}.{k}": v for i in range(layers) for k, v in per_layer.items()}
    config = {
        "architectures": ["GPT2LMHeadModel"], "n_layer": layers, "n_embd": d, "n_head": 8,
        "n_positions": 64, "vocab_size": vocab,
    }
else:
    shapes = {
        "model.embed_tokens.weight": (vocab, d), "model.norm.weight": (d,),
        "lm_head.weight": (vocab, d),
    }
    per_layer = {
        "input_layernorm.weight": (d,), "post_attention_layernorm.weight": (d,),
        "self_attn.q_proj.weight": (d, d), "self_attn.k_proj.weight": (d // 4, d),
        "self_attn.v_proj.weight": (d // 4, d), "self_attn.o_proj.weight": (d, d),
        "mlp.gate_proj.weight": (4 * d, d), "mlp.up_proj.weight": (4 * d, d),
        "mlp.down_proj.weight": (d, 4 * d),
    }
    shapes |= {f"model.layers.{i}.{k}": v for i in range(layers) for k, v in per_layer.items()}
    config = {
        "architectures": ["LlamaForCausalLM"], "num_hidden_layers": layers, "hidden_size": d,
        "num_attention_heads": 8, "num_key_value_heads": 2, "intermediate_size": 4 * d,
        "max_position_embeddings": 64, "vocab_size": vocab,
    }
(folder / "config.json").write_text(json.dumps(config))
weights = {k: torch.empty(shape).fill_(0.01) for k, shape in shapes.items()}
save_file(weights, folder / "model.safetensors")
del weights
size = (folder / "model.safetensors").stat().st_size

def memory(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before = memory("VmRSS")
model = load_model(folder, device="cpu")
peak = memory("VmHWM")
assert abs(float(model.W_O[-1].mean()) - 0.01) < 1e-6 and model.cfg.n_layers == layers
(folder / "measured.json").write_text(json.dumps({"size": size, "growth": peak - before}))
"""


@slow
@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc to measure the peak"
)
def test_peak_memory_is_the_checkpoints_size(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)],
        capture_output=True, text=True, check=False, cwd=Path(interp.__file__).parents[1],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in ("gpt2", "llama"):
        measured = json.loads((tmp_path / name / "measured.json").read_text())
        assert measured["size"] > 150e6
        assert 0.9 * measured["size"] < measured["growth"] <= 1.2 * measured["size"], name
