"""What is fuzzed: whole files of each kind, and what reads them."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from analyses import AnalysisResult, list_analyses
from analyses.registry import validate_params
from analyses.results.report import page
from analyses.results.storage import look
from interp import HookedTransformer, HookedTransformerConfig, InputError, load_model, zoo
from interp.circuits import Circuit
from interp.interventions import Interventions, Noise, Patch, Steer, Zero
from interp.interventions.parts import Part
from interp.lens import TunedLens
from interp.pretrained.tokenizers import load_tokenizer
from interp.sae import SAEConfig, load_sae, make_sae, save_sae
from interp.toys import ReconstructionLoss, SparseFeatures, ToyModel, ToySettings
from interp.toys import train as train_toys
from interp.training import TrainSettings, make_optimizer, train
from interp.training.checkpoint import load_checkpoint
from tests.fuzz.mutations import Files

SMALL: dict[str, Any] = {
    "n_layers": 2, "d_model": 8, "n_ctx": 8, "n_heads": 2, "d_head": 4, "d_mlp": 12,
    "act_fn": "gelu", "d_vocab": 11, "device": "cpu",
}  # fmt: skip
TEXT = "text.json"  # the file of a target that reads a text


@dataclass(frozen=True)
class Target:
    """Something that reads what others wrote.

    Attributes:
        name: Of it.
        make: Writes a whole input to a directory; called once.
        read: Reads a directory: what it raises is judged.
        weight: Of how many turns it gets.
    """

    name: str
    make: Callable[[Path], object]
    read: Callable[[Path], object]
    weight: int = 1

    def files(self) -> Files:
        """The files of the whole input."""
        return dict(_files(self))


@functools.cache
def _files(target: Target) -> Files:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "whole"
        target.make(folder)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def _model(**fields: Any) -> HookedTransformer:
    return HookedTransformer(HookedTransformerConfig(**{**SMALL, **fields}))


@functools.cache
def _one_model() -> HookedTransformer:
    return _model()


def _texts(texts: dict[str, str]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        folder.mkdir()
        for name, text in texts.items():
            (folder / name).write_text(text)

    return make


def _any_text(folder: Path) -> str:
    """The texts of a folder as a user hands them over; what is no text has no meaning here."""
    path = folder / TEXT
    if path.is_symlink() or not path.is_file():
        raise InputError("no text")
    return path.read_bytes().decode("utf-8", "replace")


# --- models --------------------------------------------------------------------------------------


def _write_other(folder: Path) -> None:
    _model(
        positional_embedding_type="rotary", n_key_value_heads=1, normalization_type="RMS",
        gated_mlp=True, act_fn="silu", tie_word_embeddings=True,
        rotary_scaling={"kind": "yarn", "factor": 2.0, "original_n_ctx": 4},
    ).save(folder)  # fmt: skip


def _hugging_face(kind: str, **fields: Any) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        import transformers

        config = getattr(transformers, f"{kind}Config")(**fields)
        name = {"Bert": "BertForMaskedLM", "T5": "T5ForConditionalGeneration"}.get(
            kind, f"{kind}LMHeadModel" if kind == "GPT2" else f"{kind}ForCausalLM"
        )
        model = getattr(transformers, name)(config)
        shards = {"max_shard_size": "4KB"} if kind == "Llama" else {}
        model.save_pretrained(folder, **shards)

    return make


def _pickled(folder: Path) -> None:
    _hugging_face("GPT2", n_layer=1, n_embd=8, n_head=2, n_positions=8, vocab_size=11)(folder)
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<s>": 0, "a": 1, "b": 2, "[UNK]": 3}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="[UNK]")
    fast.save_pretrained(folder)


def _read_tokenizer(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    if tokenizer is not None:
        tokenizer.get_vocab()


def _zoo(folder: Path) -> None:
    import shutil

    shutil.copytree(zoo.entries()["zoo:copy-rotary"].directory, folder)


# --- others --------------------------------------------------------------------------------------


def _sae(kind: str) -> Callable[[Path], None]:
    extra = {"k": 2} if kind == "topk" else {"l1_coefficient": 0.1}

    def make(folder: Path) -> None:
        cfg = SAEConfig(kind=kind, d_in=4, d_sae=7, device="cpu", **extra)  # type: ignore[arg-type]
        save_sae(make_sae(cfg), folder)

    return make


def _toys() -> tuple[ToyModel, SparseFeatures, ReconstructionLoss]:
    return (
        ToyModel(2, 4, [2, 2]),
        SparseFeatures.of(2, 4),
        ReconstructionLoss.of(2, 4),
    )


_TOY_SETTINGS = ToySettings(steps=2, batch_size=4, log_every=1, snapshots=(0, 2))
_SETTINGS = TrainSettings(steps=2, log_every=1)


def _read_toys(folder: Path) -> None:
    path = folder / "chunk-00000.pt"
    if path.is_symlink() or not path.is_file():
        return  # a run that begins anew, and writes
    train_toys(*_toys(), _TOY_SETTINGS, directory=folder)


def _batch(step: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(3, 4, generator=generator)


def _linear() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Linear(4, 2)


def _training(folder: Path) -> None:
    loss = lambda model, x: model(x).square().mean()
    with tempfile.TemporaryDirectory() as made:
        train(_linear(), _batch, loss, _SETTINGS, run_dir=made)
        (Path(made) / "checkpoint").rename(folder)


def _read_training(folder: Path) -> None:
    """A checkpoint that is refused has changed nothing."""
    model = _linear()
    optimizer = make_optimizer(model, _SETTINGS)
    before = [p.clone() for p in model.parameters()]
    try:
        load_checkpoint(folder, model, optimizer, _SETTINGS)
    except InputError:
        same = all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
        assert same and not optimizer.state, "half of a checkpoint was taken over"
        raise
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()


def _lens(folder: Path) -> None:
    TunedLens(_one_model()).save(folder)


def _result(folder: Path) -> None:
    import pandas as pd

    from analyses import Check
    from analyses.results.provenance import collect
    from analyses.results.storage import save
    from interp.charts import Chart

    table = pd.DataFrame({"token": ["a", "<b>"], "layer": [0, 1], "score": [0.1, 2.0]})
    chart = Chart(kind="bars", table="scores", title="t", alt="a", x="layer", value="score")
    provenance = collect(tokens=[[1]], str_tokens=[["<s>"]], parameters={"n": 3}, seed=7)
    checks = [Check("sums", 1e-7, 1e-5, "in float32")]
    result = AnalysisResult(
        "demo", "Which?", {"scores": table}, {"scores": chart}, checks, provenance
    )
    save(result, folder, pictures=False)


def _read_result(folder: Path) -> None:
    look(folder)
    result = AnalysisResult.load(folder)
    written = page(result, {})
    assert "<script" not in written and 'href="javascript' not in written
    written.encode()


_INTERVENTIONS = Interventions(
    (
        Zero("blocks.0.hook_resid_pre"),
        Patch("blocks.1.attn.hook_z", torch.arange(6)[None]),
        Steer("blocks.0.hook_resid_post", torch.ones(8), 2.0),
        Noise("hook_embed", 0.5),
    )
)


def _read_interventions(folder: Path) -> None:
    part = Part.from_json(_any_text(folder))
    assert Part.from_json(part.to_json()) == part


_CIRCUIT = Circuit("m", {"embed->a0.q": 0.5}, {"a0.q": ("a0",)}, "zero", "by hand")


def _read_circuit(folder: Path) -> None:
    text = _any_text(folder)
    if text.lstrip().startswith("<"):
        Circuit.from_graphml(text).frame()
    else:
        Circuit.from_json(text).frame()


@functools.cache
def _every_params() -> dict[str, str]:
    return {
        f"{cls.name}.json": json.dumps(cls.Params().model_dump(mode="json"))
        for cls in list_analyses()
    }


def _read_params(folder: Path) -> None:
    from interp.files import read_json

    refused = None
    for cls in list_analyses():
        path = folder / f"{cls.name}.json"
        try:
            validate_params(cls, read_json(path))
        except InputError as fault:
            refused = fault
    if refused:
        raise refused


def _read_config(folder: Path) -> None:
    from interp.files import read_json

    HookedTransformerConfig.from_dict(read_json(folder / "config.json"))


def _write_config(folder: Path) -> None:
    _texts({"config.json": json.dumps(_one_model().cfg.to_dict())})(folder)


def _dataset(folder: Path) -> None:
    from interp.harvest.manifest import HookSpec
    from tests.interp.harvest.written import write_dataset

    write_dataset(folder, {"a": HookSpec((3,), torch.float32)}, [2, 3])


def _read_dataset(folder: Path) -> None:
    from interp.harvest.dataset import ActivationDataset

    data = ActivationDataset(folder)
    data[: min(len(data), 4)]


def _cpu(folder: Path) -> None:
    load_model(folder, device="cpu")


GPT2 = _hugging_face("GPT2", n_layer=1, n_embd=8, n_head=2, n_positions=8, vocab_size=11)
LLAMA = _hugging_face(
    "Llama", num_hidden_layers=1, hidden_size=8, num_attention_heads=2, num_key_value_heads=1,
    intermediate_size=12, vocab_size=11, max_position_embeddings=8,
)  # fmt: skip
BERT = _hugging_face(
    "Bert", num_hidden_layers=1, hidden_size=8, num_attention_heads=2, intermediate_size=12,
    vocab_size=11, max_position_embeddings=8,
)  # fmt: skip
T5 = _hugging_face("T5", num_layers=1, d_model=8, num_heads=2, d_kv=4, d_ff=12, vocab_size=11)
GEMMA = _hugging_face(
    "Gemma2", num_hidden_layers=1, hidden_size=8, num_attention_heads=2, num_key_value_heads=1,
    head_dim=4, intermediate_size=12, vocab_size=11, max_position_embeddings=8,
)  # fmt: skip

TARGETS: tuple[Target, ...] = (
    Target("model", lambda folder: _model().save(folder), _cpu, 2),
    Target("model, rotary", _write_other, _cpu, 2),
    Target("config", _write_config, _read_config, 4),
    Target("Hugging Face GPT-2", GPT2, _cpu, 2),
    Target("Hugging Face Llama, shards", LLAMA, _cpu, 2),
    Target("Hugging Face BERT", BERT, _cpu),
    Target("Hugging Face T5", T5, _cpu),
    Target("Hugging Face Gemma 2", GEMMA, _cpu),
    Target("pickled", _pickled, lambda f: load_model(f, device="cpu", allow_pickle=True), 2),
    Target("tokenizer", _tokenizer, _read_tokenizer, 2),
    Target("zoo entry", _zoo, lambda f: zoo.read_entry(f).load("cpu")),
    Target("SAE", _sae("topk"), lambda f: load_sae(f, "cpu")),
    Target("SAE, gated", _sae("gated"), lambda f: load_sae(f, "cpu")),
    Target("tuned lens", _lens, lambda f: TunedLens.load(f, _one_model())),
    Target("toys", lambda f: train_toys(*_toys(), _TOY_SETTINGS, directory=f), _read_toys, 2),
    Target("training checkpoint", _training, _read_training, 2),
    Target("result", _result, _read_result, 3),
    Target("interventions", _texts({TEXT: _INTERVENTIONS.to_json()}), _read_interventions, 4),
    Target("circuit", _texts({TEXT: _CIRCUIT.to_json()}), _read_circuit, 2),
    Target("circuit, GraphML", _texts({"text.json": _CIRCUIT.to_graphml()}), _read_circuit, 2),
    Target("parameters", lambda f: _texts(_every_params())(f), _read_params, 4),
    Target("dataset", _dataset, _read_dataset, 4),
)
