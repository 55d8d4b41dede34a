"""What moves in a model over several devices, on devices that are not there.

Torch's fake tensors have a device and no numbers, and refuse to mix devices as a GPU would. The
devices are those of a backend that is made up here, which changes the whole process: these cases
run in one of their own, started by `test_placement.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode

from interp import HookedTransformer, HookedTransformerConfig, InputError, KeyValueCache
from interp.devices.placement import Placement
from tests.interp.devices.test_placement import SHAPES, config, inputs_of

backend_registration._setup_privateuseone_for_python_backend("fake")


@pytest.fixture
def fake_devices(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTensorMode]:
    """`fake:0`, `fake:1`, … with tensors that have no numbers."""
    for module in ("config", "devices.device_map", "cache", "run.recording"):
        monkeypatch.setattr(f"interp.{module}.parse_device", _parse)
    monkeypatch.setattr("interp.transformer.materialise", _materialise)
    with FakeTensorMode() as mode:
        yield mode


def _parse(device: torch.device | str) -> torch.device:
    return torch.device(str(device).replace("cuda", "fake"))


def _materialise(model: HookedTransformer, placement: Placement) -> None:
    """The same for fake weights, which torch's modules cannot move."""
    for name, module in model.named_modules():
        for key, weight in module._parameters.items():
            if weight is not None:
                empty = torch.empty_like(weight, device=placement.of(name))
                module._parameters[key] = nn.Parameter(empty)


def spread(cfg: HookedTransformerConfig, devices: list[int | str]) -> HookedTransformer:
    """A model on these fake GPUs."""
    return HookedTransformer(cfg.replace(init_weights=False), device_map=devices)


# Which experts compute is told by numbers, which are not here.
FAKE = [shape for shape in SHAPES if shape != "experts"]


@pytest.mark.parametrize(("shape", "padded"), [(s, i % 3 > 0) for i, s in enumerate(FAKE)])
def test_every_hook_sees_the_device_of_its_layer(
    shape: str, padded: bool, fake_devices: FakeTensorMode
) -> None:
    model = spread(config(**SHAPES[shape]), [0, 1, 2])
    assert model.cfg.n_devices == 3
    assert model.placement is not None
    seen: dict[str, torch.device] = {}

    def look(x: Tensor, hook: Any) -> None:
        seen[hook.name] = x.device

    given = {name: x.to("fake:1") for name, x in inputs_of(model, padded).items()}
    logits = model.run_with_hooks(**given, fwd_hooks=[("*", look)])
    assert logits.device == model.placement.of("unembed") == model.W_U.device
    fused = model(**given)
    assert fused.device == logits.device
    recorded, cache = model.run_with_cache(**given, names_filter="*")
    assert recorded.device == logits.device
    for name in cache:
        assert cache[name].device == seen[name] == model.placement.of(name), name
    assert len(set(seen.values())) == 3
    for name, weight in model.named_parameters():
        assert weight.device == model.placement.of(name), name


@pytest.mark.parametrize("shape", [s for s in FAKE if s not in ("classifier", "masked")])
def test_losses_and_gradients_cross_devices(shape: str, fake_devices: FakeTensorMode) -> None:
    # The CPU is the second device: the engine that makes gradients knows no more than one fake.
    model = spread(config(**SHAPES[shape]), [0, "cpu"])
    given = {name: x.to("fake:0") for name, x in inputs_of(model, padded=True).items()}
    if model.cfg.d_vocab_out == model.cfg.d_vocab:  # else it looks at tokens, which have no value
        loss, cache = model.run_with_cache(
            **given, return_type="loss", names_filter="*resid*", incl_bwd=True
        )
        assert loss.device == model.W_U.device
        for name in cache:
            assert cache[name].device == model.placement.of(name.removesuffix("_grad")), name
    else:
        model(**given).sum().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.device == weight.device, name


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("grad", [False, True], ids=["no grad", "grad"])
def test_keys_and_values_stay_with_their_layer(
    padded: bool, grad: bool, fake_devices: FakeTensorMode
) -> None:
    shape = SHAPES["rotary"] | {"n_key_value_heads": 2}
    model = spread(config(**shape), [0, 1])
    past = KeyValueCache.init_cache(model.cfg, model.W_E.device, 2)
    tokens = torch.zeros(2, 4, dtype=torch.long)
    with torch.set_grad_enabled(grad):
        mask = torch.ones_like(tokens) if padded else None
        model(tokens, past_kv_cache=past, attention_mask=mask)
        past = past.select(torch.zeros(3, dtype=torch.long, device="fake:0"))
        logits = model(tokens[:1, :1].expand(3, 1), past_kv_cache=past)
    assert logits.shape == (3, 1, 31)
    for layer, entry in enumerate(past.layers):
        assert entry.keys.device == model.placement.of(f"blocks.{layer}")
        assert entry.keys.shape == (3, 5, 2, 6)


def test_a_run_begins_and_stops_anywhere(fake_devices: FakeTensorMode) -> None:
    model = spread(config(**SHAPES["alibi"]), [0, 1])
    tokens = torch.zeros(2, 4, dtype=torch.long)
    for stop in range(5):
        residual = model(tokens, stop_at_layer=stop)
        where = model.placement.of(f"blocks.{max(stop - 1, 0)}")
        assert residual.device == where
        assert model(residual, start_at_layer=stop).device == model.W_U.device
        elsewhere = residual.to("fake:3")
        assert model(elsewhere, start_at_layer=stop).device == model.W_U.device


class Transfers(TorchDispatchMode):
    """Counts what goes from one device to another."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str, tuple[int, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for x in args[:1]:
            if isinstance(x, Tensor) and isinstance(out, Tensor) and x.device != out.device:
                self.found.append((str(x.device), str(out.device), tuple(x.shape)))
        return out


def test_only_the_residual_stream_and_what_is_shared_moves(fake_devices: FakeTensorMode) -> None:
    model = spread(config(**SHAPES["rotary"]), [0, 1])
    tokens = torch.zeros(2, 5, dtype=torch.long, device="fake:0")
    with torch.no_grad():
        model(tokens)  # makes the tables of sines
        with Transfers() as moved:
            model(tokens)
    # Sines, cosines and one residual stream, to the blocks on the second device.
    assert moved.found == [
        ("fake:0", "fake:1", (2, 5, 24)),
        ("fake:0", "fake:1", (1, 5, 1, 6)),
        ("fake:0", "fake:1", (1, 5, 1, 6)),
    ]


def test_a_tied_unembedding_brings_the_stream_back(fake_devices: FakeTensorMode) -> None:
    model = spread(config(**SHAPES["tied"]), [0, 1])
    tokens = torch.zeros(2, 5, dtype=torch.long, device="fake:0")
    with Transfers() as moved:
        logits = model(tokens)
    assert logits.device == torch.device("fake:0")
    stream = (2, 5, 24)
    assert moved.found == [("fake:0", "fake:1", stream), ("fake:1", "fake:0", stream)]


def test_what_needs_one_device_says_so(fake_devices: FakeTensorMode) -> None:
    model = spread(config(), [0, 1])
    places = r"fake:0 \(embed … blocks.1\), fake:1 \(blocks.2 … unembed\)"
    with pytest.raises(InputError, match=f"W_Q of all layers must .* This model is on {places}"):
        _ = model.W_Q
    with pytest.raises(InputError, match="compiled model must have the whole model on one device"):
        model.compile()


def test_processed_weights_stay_where_they_were(fake_devices: FakeTensorMode) -> None:
    model = spread(config(n_layers=2, normalization_type="RMS"), [0, 1])
    processed = model.process_weights()
    assert processed.placement == model.placement
    # Without weights now, and still where the map has it.
    assert processed(torch.zeros(1, 3, dtype=torch.long)).device == torch.device("fake:1")
