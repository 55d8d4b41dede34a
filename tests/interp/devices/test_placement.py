"""Models over several devices: where their parts lie, and that the numbers stay the same."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import backend_registration

from interp import HookedTransformer, HookedTransformerConfig, InputError
from interp.devices.placement import Placement, part_of, part_sizes, placement_now, tell_stacks
from tests.covering import EXHAUSTIVE

GPUS = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")

# Every way in which something can be shared by the layers, or stand before or behind the blocks.
SHAPES: dict[str, dict[str, Any]] = {
    "learned": {},
    "rotary": {"positional_embedding_type": "rotary", "normalization_type": "RMS"},
    "tied": {"tie_word_embeddings": True},
    "weightless norms": {"normalization_type": "LNPre"},
    "no norms": {"normalization_type": None},
    "alibi": {"positional_embedding_type": "alibi"},
    "relative": {"positional_embedding_type": "relative_positional_bias"},
    "shortformer": {"positional_embedding_type": "shortformer"},
    "windows": {"window_size": 3, "attn_types": ("local", "global", "local", "global")},
    "grouped": {"n_key_value_heads": 2, "act_fn": "silu", "gated_mlp": True, "d_vocab_out": 9},
    "experts": {"num_experts": 4, "experts_per_token": 2, "act_fn": "silu", "gated_mlp": True},
    "masked": {"architecture": "encoder", "head": "mlm", "n_token_types": 2},
    "classifier": {"architecture": "encoder", "head": "classification", "d_vocab_out": 3},
    "both": {"architecture": "encoder-decoder", "decoder_start_token_id": 0},
    "both, relative": {
        "architecture": "encoder-decoder",
        "n_encoder_layers": 2,
        "positional_embedding_type": "relative_positional_bias",
        "tie_word_embeddings": True,
        "decoder_start_token_id": 0,
    },
}


def config(**changes: Any) -> HookedTransformerConfig:
    fields = {
        "n_layers": 4, "d_model": 24, "n_ctx": 16, "n_heads": 4, "d_head": 6, "d_mlp": 20,
        "act_fn": "gelu", "d_vocab": 31, "device": "cpu",
    }  # fmt: skip
    if changes.get("architecture") == "encoder":
        changes = {"attention_dir": "bidirectional", **changes}
    return HookedTransformerConfig(**{**fields, **changes})


def inputs_of(model: HookedTransformer, padded: bool) -> dict[str, Tensor]:
    """Arguments of `forward`, on the CPU."""
    tokens, mask = torch.zeros(3, 5, dtype=torch.long), torch.ones(3, 5, dtype=torch.long)
    given = {"input": tokens}
    if padded:
        given["attention_mask"] = mask
    if model.cfg.architecture == "encoder-decoder":
        given["decoder_input"] = tokens[:, :4]
        if padded:
            given["decoder_attention_mask"] = mask[:, :4]
    if model.cfg.n_token_types:
        given["token_type_ids"] = tokens
    return given


@pytest.mark.skipif(not EXHAUSTIVE, reason="takes a minute: INTERP_EXHAUSTIVE=1")
@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="needs a torch that lets Python make up a device",
)
def test_what_moves_between_devices() -> None:
    cases = Path(__file__).with_name("fakes_of_devices.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(cases)]
    done = subprocess.run(command, cwd=cases.parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


@pytest.mark.parametrize("shape", [s for s in SHAPES if "tied" not in s and "both, " not in s])
def test_every_hook_sees_the_device_of_its_layer(shape: str) -> None:
    """The second device has no numbers, and refuses to be mixed with the first in most operations.

    Nothing can come back from it, as it would to a tied unembedding.
    """
    model = HookedTransformer(config(**SHAPES[shape]), device_map=["cpu", "meta"])
    assert model.cfg.n_devices == 2
    assert model.placement is not None
    for name, weight in model.named_parameters():
        assert weight.device == model.placement.of(name), name
    given = inputs_of(model, padded=shape != "learned")
    logits, cache = model.run_with_cache(**given, names_filter="*")
    assert logits.device == model.placement.of("unembed")
    for name, value in cache.items():
        assert value.device == model.placement.of(name), name
    if shape != "experts":  # which of them compute is told by numbers
        assert model(**given).device == logits.device


@pytest.mark.parametrize("shape", SHAPES)
def test_the_way_over_devices_computes_the_same_bits(shape: str) -> None:
    """All on the CPU, once as a model on one device and once as one that moves at every block."""
    plain = HookedTransformer(config(**SHAPES[shape], seed=2)).eval()
    spread = HookedTransformer(config(**SHAPES[shape], seed=2)).eval()
    cpu = torch.device("cpu")
    spread.placement = Placement(dict.fromkeys(part_sizes(spread), cpu))
    tell_stacks(spread)
    generator = torch.Generator().manual_seed(0)
    given = {
        name: x if "mask" in name else torch.randint(0, 2, x.shape, generator=generator)
        for name, x in inputs_of(plain, padded=True).items()
    }
    given["attention_mask"][0, 3:] = 0
    with torch.no_grad():
        assert torch.equal(plain(**given), spread(**given))
        expected, found = (
            model.run_with_cache(**given, names_filter="*")[1] for model in (plain, spread)
        )
    assert expected.keys() == found.keys()
    for name in expected:
        assert torch.equal(expected[name], found[name]), name


@pytest.mark.parametrize("shape", SHAPES)
def test_made_in_parts_it_is_the_same_model(shape: str) -> None:
    """Made without memory first and then given it: constants and drawn weights are the same."""
    one = HookedTransformer(config(**SHAPES[shape], seed=5))
    two = HookedTransformer(config(**SHAPES[shape], seed=5), device_map=["cpu", "cpu"])
    assert two.placement is None
    assert two.cfg == one.cfg
    state, expected = two.state_dict(), one.state_dict()
    assert list(state) == list(expected)
    for name, weight in expected.items():
        assert torch.equal(state[name], weight), name
        assert state[name].stride() == weight.stride(), name
        if (kind := name.rsplit(".", 1)[-1])[0] != "W" and not kind.startswith("_W"):
            assert set(weight.flatten().tolist()) == {1.0 if kind == "w" else 0.0}, name
    given = inputs_of(one, padded=False)
    assert torch.equal(one(**given), two(**given))


def test_a_split_model_moves_converts_and_comes_together() -> None:
    model = HookedTransformer(config(normalization_type="LNPre"))
    expected = {name: w.clone() for name, w in model.state_dict().items()}
    moved = model.to_devices({"*": "cpu", "blocks.[23]": "meta", "ln_final": "cpu"})
    assert moved is model
    assert str(model.placement) == (
        "cpu (embed … blocks.1), meta (blocks.2 … blocks.3), cpu (ln_final … unembed)"
    )
    assert model._norm_device == torch.device("cpu")
    model.double()
    assert model.placement.of("ln_final") == torch.device("cpu")  # known although it has no weights
    assert model.cfg.n_devices == 2
    assert model.blocks[3].attn.W_Q.dtype == torch.float64
    for name, weight in model.named_parameters():
        if weight.device.type == "cpu":
            assert torch.equal(weight, expected[name].double()), name
    model.to("meta")
    assert model.placement is None
    assert model._block_devices is None
    assert model.cfg.n_devices == 1


def test_what_combines_weights_of_several_layers_is_refused() -> None:
    model = HookedTransformer(config(), device_map=["cpu", "meta"])
    for combine in (lambda: model.W_Q, lambda: model.accumulated_bias(3)):
        with pytest.raises(InputError, match=r"one device.*This model is on cpu .*, meta"):
            combine()
    with pytest.raises(InputError, match=r"must fit a part of the model .*Received 0"):
        model.to_devices({0: "cpu"})  # type: ignore[dict-item]


def test_a_model_that_was_split_by_hand_is_found_out() -> None:
    model = HookedTransformer(config(n_layers=2))
    model.blocks[1].to("meta")
    found = placement_now(model, None)
    assert str(found) == "cpu (embed … blocks.0), meta (blocks.1 … ln_final), cpu (unembed)" or (
        str(found) == "cpu (embed … blocks.0), meta (blocks.1), cpu (ln_final … unembed)"
    )


def test_records_that_one_device_cannot_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    model = HookedTransformer(config()).to_devices(
        {"*": "cpu", "blocks.3": "meta", "ln_final": "meta", "unembed": "meta"}
    )
    room = {"cpu": 10**9, "meta": 1000}
    monkeypatch.setattr("interp.run.record_size._SMALL", 0)
    monkeypatch.setattr("interp.devices.placement.free_memory", lambda device: room[device.type])
    tokens = torch.zeros(2, 5, dtype=torch.long)
    model.run_with_cache(tokens, names_filter="blocks.[012].*")
    with pytest.raises(InputError, match="no more on meta than it has left"):
        model.run_with_cache(tokens, names_filter="blocks.3.hook_resid*")
    room["meta"] = 10**9
    _, cache = model.run_with_cache(tokens, names_filter="*resid*")
    # What enters the block on the second device is a tensor of its own there.
    assert cache["resid_pre", 3].device.type == "meta"
    assert cache["resid_post", 2].device.type == "cpu"


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("blocks.11.attn.hook_q", "blocks.11"),
        ("decoder.blocks.0.mlp.W_in", "decoder.blocks.0"),
        ("encoder.ln_final.hook_scale", "encoder.ln_final"),
        ("ln_final.w", "ln_final"),
        ("pooler.W", "unembed"),
        ("mlm_head.ln.w", "unembed"),
        ("unembed.b_U", "unembed"),
        ("encoder.pos_embed.W_pos", "embed"),
        ("hook_pos_bias", "embed"),
        ("ln_embed.w", "embed"),
    ],
)
def test_parts_by_name(name: str, part: str) -> None:
    assert part_of(name) == part


@GPUS
@pytest.mark.parametrize("shape", SHAPES)
def test_two_gpus_compute_what_one_does(shape: str, assert_close: Callable[..., None]) -> None:
    """The same bits where both are of one kind; else the same numbers within fp64's tolerance."""
    fields = {**SHAPES[shape], "seed": 2, "dtype": torch.float64}
    one = HookedTransformer(config(**fields)).eval().to("cuda:0")
    two = HookedTransformer(config(**fields), device_map=[0, 1]).eval()
    given = inputs_of(one, padded=True)
    given["attention_mask"][0, 3:] = 0
    alike = torch.cuda.get_device_name(0) == torch.cuda.get_device_name(1)
    expected, oracle = one.run_with_cache(**given, names_filter="*")
    found, cache = two.run_with_cache(**given, names_filter="*")
    for name in oracle:
        assert cache[name].device == two.placement.of(name)
        assert_close(cache[name].cpu(), oracle[name].cpu(), name)
    if alike:
        assert torch.equal(found.cpu(), expected.cpu())
    model = two if two.cfg.head == "lm" and two.cfg.architecture != "encoder" else None
    if model is not None and model.cfg.d_vocab_out == model.cfg.d_vocab:
        prompt = torch.tensor([[1, 2, 3]])
        settings = {"max_new_tokens": 6, "do_sample": False, "stop_at_eos": False}
        assert torch.equal(
            two.generate(prompt, **settings).cpu(), one.generate(prompt, **settings).cpu()
        )
