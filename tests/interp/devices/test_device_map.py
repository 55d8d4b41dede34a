"""Which part of a model goes where: strategies against a search of all ways, and the rules."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp import HookedTransformer, HookedTransformerConfig, InputError, load_model
from interp.devices.device_map import balanced, choose_devices, filled, known_device

CPU, META = torch.device("cpu"), torch.device("meta")
SIZES = {"embed": 50, **{f"blocks.{i}": 10 for i in range(6)}, "ln_final": 1, "unembed": 50}

sizes_of_parts = st.lists(st.integers(0, 40), min_size=1, max_size=7)
rooms = st.lists(st.integers(0, 120), min_size=1, max_size=3)


@given(sizes_of_parts, rooms)
def test_balanced_is_the_best_of_all_ways(sizes: list[int], room: list[int]) -> None:
    parts = {f"blocks.{i}": size for i, size in enumerate(sizes)}
    devices = {torch.device("cuda", i): size for i, size in enumerate(room)}
    found = balanced(parts, devices)
    # Every way to cut the parts, in order, into one run for each device.
    shares = []
    for cuts in itertools.combinations_with_replacement(range(len(sizes) + 1), len(room) - 1):
        edges = (0, *cuts, len(sizes))
        used = [sum(sizes[a:b]) for a, b in itertools.pairwise(edges)]
        if all(u <= r for u, r in zip(used, room, strict=True)):
            shares.append(max((u / r for u, r in zip(used, room, strict=True) if r), default=0.0))
    assert (found is None) == (not shares)
    if found is not None:
        used = {d: sum(parts[p] for p, at in found.items() if at == d) for d in devices}
        assert all(used[d] <= devices[d] for d in devices)
        assert max((used[d] / devices[d] for d in devices if devices[d]), default=0.0) == (
            pytest.approx(min(shares), abs=1e-9)
        )
        order = [list(devices).index(found[p]) for p in parts]
        assert order == sorted(order)


@given(sizes_of_parts, rooms)
def test_filled_leaves_a_device_only_when_the_next_part_does_not_fit(
    sizes: list[int], room: list[int]
) -> None:
    parts = {f"blocks.{i}": size for i, size in enumerate(sizes)}
    devices = {torch.device("cuda", i): size for i, size in enumerate(room)}
    at, left, expected = 0, list(room), []
    for size in sizes:
        while at < len(room) and size > left[at]:
            at += 1
        if at == len(room):
            break
        left[at] -= size
        expected.append(torch.device("cuda", at))
    found = filled(parts, devices)
    assert found == (dict(zip(parts, expected, strict=True)) if at < len(room) else None)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> dict[torch.device, int | None]:
    """Free bytes by device, to be filled in: what the machine is taken to have."""
    free: dict[torch.device, int | None] = {}
    count = lambda: sum(device.type == "cuda" for device in free)
    monkeypatch.setattr("torch.cuda.device_count", count)
    monkeypatch.setattr("interp.devices.device_map.free_memory", lambda device: free[device])
    return free


def spread_over(chosen: dict[str, torch.device]) -> dict[str, int]:
    found: dict[str, int] = {}
    for part, device in chosen.items():
        found[str(device)] = found.get(str(device), 0) + SIZES[part]
    return found


def test_strategies(gpus: dict[torch.device, int | None]) -> None:
    gpus[CPU] = 10**6
    for strategy in ("auto", "balanced"):
        assert spread_over(choose_devices(SIZES, strategy)) == {"cpu": 161}
    gpus |= {torch.device("cuda:0"): 1000, torch.device("cuda:1"): 1000}
    assert spread_over(choose_devices(SIZES, "auto")) == {"cuda:0": 161}
    # 80 and 81 lie nearest to halves; a block is 10.
    assert spread_over(choose_devices(SIZES, "balanced")) == {"cuda:0": 80, "cuda:1": 81}
    # The larger one alone has room for all: nine tenths of what is free.
    gpus[torch.device("cuda:0")] = 100
    assert spread_over(choose_devices(SIZES, "auto")) == {"cuda:1": 161}
    gpus[torch.device("cuda:1")] = 100
    assert spread_over(choose_devices(SIZES, "auto")) == {"cuda:0": 80, "cuda:1": 81}
    gpus[torch.device("cuda:1")] = 60
    assert spread_over(choose_devices(SIZES, "auto")) == {"cuda:0": 90, "cuda:1": 21, "cpu": 50}
    with pytest.raises(
        InputError, match=r"weights \(161 B\) must fit .*: cuda:0 90 B, cuda:1 54 B"
    ):
        choose_devices(SIZES, "balanced")
    gpus[CPU] = 49
    with pytest.raises(InputError, match="cpu 49 B"):
        choose_devices(SIZES, "auto")


def test_a_tied_unembedding_needs_no_room(gpus: dict[torch.device, int | None]) -> None:
    gpus |= {torch.device("cuda:0"): 100, torch.device("cuda:1"): 100}
    chosen = choose_devices({**SIZES, "unembed": 0}, "balanced", tied=True)
    assert chosen["unembed"] == chosen["embed"] == torch.device("cuda:0")
    assert chosen["ln_final"] == torch.device("cuda:1")


def test_lists_cut_the_blocks_into_equal_parts() -> None:
    chosen = choose_devices(SIZES, ["cpu", "meta"])
    assert [p for p, d in chosen.items() if d == CPU] == [
        "embed",
        *(f"blocks.{i}" for i in range(3)),
    ]
    stacks = ("encoder", "decoder")
    inner = [f"{stack}.{part}" for stack in stacks for part in ("blocks.0", "blocks.1", "ln_final")]
    both = dict.fromkeys(["embed", *inner, "unembed"], 1)
    chosen = choose_devices(both, ["cpu", "meta"], tied=True)
    assert [p for p, d in chosen.items() if d == META] == [
        "decoder.blocks.0",
        "decoder.blocks.1",
        "decoder.ln_final",
    ]
    assert set(choose_devices({"embed": 1, "unembed": 1}, ["cpu", "meta"]).values()) == {CPU, META}


def test_names_and_globs() -> None:
    chosen = choose_devices(SIZES, {"*": "cpu", "blocks.[345]": META, "blocks.4": "cpu"})
    assert [p for p, d in chosen.items() if d == META] == ["blocks.3", "blocks.5"]
    assert list(chosen) == list(SIZES)


@pytest.mark.parametrize(
    ("device_map", "message"),
    [
        ("sequential", "device_map must be one of 'auto', 'balanced'. Received 'sequential'"),
        ([], r"device_map must be 'auto', .* Received \[\]"),
        (3, "device_map must be 'auto', .* Received 3"),
        ({"*": "cpu", "layers.0": "cpu"}, "must fit a part of the model .* Received 'layers.0'"),
        ({"blocks.*": "cpu"}, "a device for every part. None: embed, ln_final, unembed"),
        ({"*": "nowhere"}, "device must be one that torch knows"),
        ({"*": True}, "device must be one that torch knows"),
        ([99], "cuda:99"),
        ({"*": "cpu", "unembed": "meta"}, "must be on the embedding's device .cpu.. Received meta"),
    ],
)
def test_maps_that_break_a_rule(device_map: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_devices(SIZES, device_map, tied=True)  # type: ignore[arg-type]


def test_devices_are_those_that_tensors_name() -> None:
    assert known_device("cpu") == known_device(CPU) == CPU


# --- loading --------------------------------------------------------------------------------------


def small(**changes: object) -> HookedTransformer:
    fields = {
        "n_layers": 3, "d_model": 16, "n_ctx": 8, "n_heads": 2, "act_fn": "gelu", "d_vocab": 11,
        "device": "cpu", "seed": 4, **changes,
    }  # fmt: skip
    return HookedTransformer(HookedTransformerConfig.from_dict(fields))


def test_every_way_of_opening_a_model_takes_a_map(tmp_path: Path) -> None:
    model = small()
    model.save(tmp_path / "model")
    parts = {"*": "meta", "embed": "cpu", "blocks.0": "cpu"}
    for opened in (
        load_model(tmp_path / "model", device_map=parts),
        HookedTransformer.load(tmp_path / "model", device_map=parts),
        HookedTransformer.from_pretrained_no_processing(str(tmp_path / "model"), device_map=parts),
        small().to_devices(parts),
    ):
        assert str(opened.placement) == "cpu (embed … blocks.0), meta (blocks.1 … unembed)"
        for name, weight in model.state_dict().items():
            mine = opened.state_dict()[name]
            if mine.device.type == "cpu":
                assert torch.equal(mine, weight), name
    zoo = load_model("zoo:induction", device_map=["cpu", "meta"])
    assert zoo.cfg.n_devices == 2


def test_arguments_that_exclude_each_other(tmp_path: Path) -> None:
    small().save(tmp_path / "model")
    for call in (load_model, HookedTransformer.load):
        with pytest.raises(InputError, match="device and device_map exclude each other"):
            call(tmp_path / "model", device="cpu", device_map=["cpu"])
    opened = HookedTransformer.from_pretrained_no_processing
    with pytest.raises(InputError, match="n_devices must be a whole number of at least 1"):
        opened(str(tmp_path / "model"), n_devices=0)
    with pytest.raises(InputError, match="n_devices spreads a model over GPUs"):
        opened(str(tmp_path / "model"), n_devices=2, device="cpu")
    if torch.cuda.device_count() < 2:
        with pytest.raises(InputError, match="cuda:"):
            opened(str(tmp_path / "model"), n_devices=2)
    with pytest.raises(InputError, match="move_to_device=False excludes it"):
        HookedTransformer(small().cfg, move_to_device=False, device_map=["cpu"])


def _resident(what: str) -> int:
    status = Path(f"/proc/{os.getpid()}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith(what)) * 1024


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
def test_a_model_larger_than_memory_is_read_tensor_by_tensor(tmp_path: Path) -> None:
    """On a device with memory of its own: the host holds about the largest tensor at a time."""
    wide = small(n_layers=8, d_model=512, d_mlp=2048, n_heads=8, d_vocab=1000)
    total = sum(w.nbytes for w in wide.parameters())
    largest = max(w.nbytes for w in wide.parameters())
    wide.save(tmp_path / "model")
    del wide
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = _resident("VmRSS")
    load_model(tmp_path / "model", device_map={"*": "meta"})
    assert total > 20 * largest
    assert _resident("VmHWM") - before < 6 * largest + (8 << 20)
