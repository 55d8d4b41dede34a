"""Weights are read, held, trained, saved and loaded as those of one model."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from interp import HookedTransformer, load_model
from interp.parallel import load_tensor_parallel, tensor_parallel
from tests.covering import EXHAUSTIVE
from tests.interp.kinds import some_tokens
from tests.interp.parallel.checks.common import (
    LLAMA,
    Absent,
    check,
    difference,
    largest,
    make,
    refused,
    whole,
)


@check
def weights_read_whole(out: Path) -> float:
    single = make(**LLAMA, attn_sinks=True)
    spread = tensor_parallel(single)
    names = ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O", "W_in", "W_gate", "W_out")
    worst = [difference(getattr(spread, n), getattr(single, n), n) for n in names]
    worst += [
        difference(spread.OV.AB, single.OV.AB, "OV"),
        difference(spread.accumulated_bias(2), single.accumulated_bias(2), "bias"),
        largest(spread.tl_parameters(), single.tl_parameters(), "tl_parameters"),
        difference(spread.blocks[0].attn.QK.AB, single.blocks[0].attn.QK.AB, "QK"),
        difference(
            spread.all_composition_scores("K"), single.all_composition_scores("K"), "composition"
        ),
    ]
    assert spread.blocks[0].attn.W_Q.requires_grad
    return max(worst)


@check
def each_rank_holds_its_share(out: Path) -> None:
    single = make(**LLAMA)
    spread = tensor_parallel(single)
    held = sum(whole_of(p).numel() for p in spread.parameters())
    shared = sum(p.numel() for p in single.parameters())
    spread_names = [n for n, p in spread.named_parameters() if isinstance(p, DTensor)]
    inside = sum(p.numel() for n, p in single.named_parameters() if n in spread_names)
    assert held == shared - inside // 2
    assert {n.rsplit(".", 1)[-1] for n in spread_names} == {
        "W_Q", "_W_K", "_W_V", "b_Q", "_b_K", "_b_V", "W_O", "W_in", "W_gate", "b_in", "W_out",
    }  # fmt: skip


def whole_of(p: Tensor) -> Tensor:
    return p.to_local() if isinstance(p, DTensor) else p


@check
def trains(out: Path) -> float:
    """Two steps of AdamW change weights as they do on one device."""
    single = make(**LLAMA)
    spread = tensor_parallel(single)
    tokens = some_tokens(4, 8)
    for model in (single, spread):
        optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(2):
            optimiser.zero_grad()
            model(tokens, return_type="loss").backward()
            optimiser.step()
    with torch.no_grad():
        logits = difference(spread(tokens), single(tokens), "logits after training", 1e-9)
    state = {n: whole(p) for n, p in spread.state_dict().items()}
    return max(logits, *(difference(state[n], p, n, 1e-9) for n, p in single.state_dict().items()))


@check
def frozen_weights_stay_frozen(out: Path) -> float:
    single = make(**LLAMA).requires_grad_(False)
    single.blocks[1].attn.W_O.requires_grad_(True)
    spread = tensor_parallel(single)
    for model in (single, spread):
        model(some_tokens(), return_type="loss").backward()
    trained = {n: p.grad for n, p in spread.named_parameters() if p.requires_grad}
    assert list(trained) == ["blocks.1.attn.W_O"]
    return difference(trained["blocks.1.attn.W_O"], single.blocks[1].attn.W_O.grad)


@check
def saves_and_loads(out: Path) -> float:
    single = make(**LLAMA)
    spread = tensor_parallel(single)
    spread.save(out / "saved")
    worst = [largest(load_model(out / "saved", "cpu").state_dict(), single.state_dict(), "saved")]
    read = load_tensor_parallel(out / "saved")
    worst.append(difference(read(some_tokens()), single(some_tokens()), "read"))
    together = spread.gathered()
    assert together is not None and type(together) is HookedTransformer
    worst.append(largest(together.state_dict(), single.state_dict(), "gathered"))
    assert (spread.gathered(on_rank=1) is None) == (dist.get_rank() == 0)
    other = make(**LLAMA)
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(1.1)
    spread.load_state_dict(other.state_dict())
    worst.append(difference(spread(some_tokens()), other(some_tokens()), "loaded"))
    spread.load_state_dict(read.state_dict())
    worst.append(difference(spread(some_tokens()), single(some_tokens()), "loaded back"))
    (out / "file").mkdir(exist_ok=True)
    (out / "file" / "something").touch()
    refused(lambda: spread.save(out / "file"), "")
    return max(worst)


@check
def stories(out: Path) -> float:
    """Real weights: 8 heads, 4 key/value heads, five layers."""
    folder = Path(__file__).resolve().parents[5] / "shared" / "data" / "stories260K"
    if not folder.exists():
        raise Absent("needs the third-party stories260K in ../shared/data")
    mine = out / f"stories-{dist.get_rank()}"
    mine.mkdir()
    for name in ("config.json", "model.safetensors"):  # a tokenizer takes seconds to import
        shutil.copy(folder / name, mine / name)
    single, spread = load_model(mine, "cpu"), load_tensor_parallel(mine)
    tokens = torch.tensor([[1, 403, 407, 261, 378, 432, 383, 285, 261, 376]])
    with torch.no_grad():
        worst = [difference(spread(tokens), single(tokens), "logits")]
        a, b = (m.run_with_cache(tokens)[1].cache_dict for m in (spread, single))
        worst.append(largest(a, b, "hook"))
    a, b = (m.generate(tokens, 20, do_sample=False, stop_at_eos=False) for m in (spread, single))
    assert torch.equal(a, b) and a.shape[1] == 30
    return max(worst)


def shipped(out: Path) -> float:
    single, spread = load_model("zoo:induction", "cpu"), load_tensor_parallel("zoo:induction")
    tokens = torch.arange(6)[None] % single.cfg.d_vocab
    return difference(spread(tokens), single(tokens))


if EXHAUSTIVE:  # it takes a tokenizer, and that two seconds to import
    check(shipped)
