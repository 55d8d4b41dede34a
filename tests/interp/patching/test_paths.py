"""Direct paths, against runs whose hooks add what the sender writes to what one reader reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, InputError, patching
from tests.covering import covering
from tests.interp.kinds import everything, some_tokens

Check = Callable[..., None]
Kind = Callable[[str], HookedTransformer]
METRIC = patching.LogitDiff(3, 5)


def written(model: HookedTransformer, cache: Any, hook: str, head: int | None) -> Tensor:
    if head is None:
        return cache[hook]
    block: Any = model.blocks[int(hook.split(".")[1])]
    return cache[hook][:, :, head] @ block.attn.W_O[head]


SENDERS, RECEIVERS = ("z", "attn_out", "hook_embed"), ("q_input", "v_input", "resid_post")


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind_name", "sender", "receiver"),
    [
        *covering(
            ("gpt2", "llama", "neox", "shortformer"), (*SENDERS, "mlp_out"), (*RECEIVERS, "mlp_in")
        ),
        *covering(("attn-only",), SENDERS, RECEIVERS),
    ],
)
def test_one_reader_sees_what_changes(
    sender: str, receiver: str, kind_name: str, kind: Kind, assert_close: Check
) -> None:
    model = kind(kind_name)
    tokens = some_tokens()
    _, base = model.run_with_cache(tokens, names_filter=everything)
    _, clean = model.run_with_cache(some_tokens(seed=7), names_filter=everything)
    senders = patching.sites(model, sender, positions="all")
    last = [model.cfg.n_layers - 1] if receiver == "resid_post" else None
    receivers = patching.sites(model, receiver, layers=last, positions="all")
    found = patching.path_sweep(model, tokens, clean, senders, receivers, METRIC)
    steps = model.cfg.n_layers * 2
    heads_there = range(model.cfg.n_heads) if sender == "z" else [None]
    heads_here = range(receivers.axes.n_heads) if receivers.axes.n_heads else [None]
    expected = []
    for there in senders.hooks:
        for head in heads_there:
            change = written(model, clean, there, head) - written(model, base, there, head)
            for here in receivers.hooks:
                for to_head in heads_here:
                    if not _before(model, there, here):
                        expected.append(torch.full((3,), torch.nan, dtype=torch.float64))
                        continue

                    def add(x: Tensor, hook: Any, at: int | None = to_head) -> None:
                        part = x if at is None else x[:, :, at]
                        part += change  # noqa: B023

                    logits = model.run_with_hooks(tokens, fwd_hooks=[(here, add)])
                    expected.append(METRIC.per_prompt(logits))
    assert steps
    known = torch.stack(expected).isfinite()
    values = found.values.reshape(-1, 3)
    assert torch.equal(values.isfinite(), known) and known.any()
    assert_close(values[known], torch.stack(expected)[known], f"{sender} {receiver}", 1e-10)
    assert found.axis_names[-1] == ("to_head" if receivers.axes.n_heads else "to_layer")


def _before(model: HookedTransformer, there: str, here: str) -> bool:
    """Whether the order of hooks in a run has the sender before the reader, through the stream."""
    if not there.startswith("blocks."):
        return True
    from_layer, to_layer = (int(name.split(".")[1]) for name in (there, here))
    if here.endswith("hook_resid_post") or from_layer < to_layer:
        return from_layer <= to_layer
    same_layer_mlp = here.endswith("hook_mlp_in") and not there.endswith("mlp_out")
    return from_layer == to_layer and same_layer_mlp and not model.cfg.parallel_attn_mlp


@pytest.mark.parametrize("component", ["q", "k", "v"])
def test_as_transformer_lens(component: Any, kind: Kind, assert_close: Check) -> None:
    lens = pytest.importorskip("transformer_lens.patching", reason="needs the extra 'lens'")
    model, tokens = kind("gpt2"), some_tokens()
    _, base = model.run_with_cache(tokens)
    _, clean = model.run_with_cache(some_tokens(seed=7))
    metric = lambda logits: (logits[:, -1, 3] - logits[:, -1, 5]).mean()
    given = (model, tokens, clean, base, metric)
    one = patching.get_act_patch_direct_path(*given, 0, 1, component, verbose=False)
    expected = lens.get_act_patch_direct_path(*given, 0, 1, component, verbose=False)
    assert_close(one.float(), expected, component, 1e-6)
    every = patching.get_act_patch_direct_path_all_sources(*given, component, verbose=False)
    theirs = lens.get_act_patch_direct_path_all_sources(*given, component, verbose=False)
    assert_close(every.float(), theirs, component, 1e-6)


def test_errors(kind: Kind) -> None:
    model, tokens = kind("gpt2"), some_tokens()
    _, clean = model.run_with_cache(tokens)
    z = patching.sites(model, "z", positions="all")
    q = patching.sites(model, "q_input", positions="all")

    def refused(match: str, senders: Any, receivers: Any, model: Any = model) -> None:
        with pytest.raises(InputError, match=match):
            patching.path_sweep(model, tokens, clean, senders, receivers, METRIC)

    refused("senders must be sites of", q, q)
    refused("receivers must be sites of", z, z)
    refused("receivers must be sites of", z, patching.sites(model, "resid_post", positions="all"))
    refused("senders must be sites at all positions", patching.sites(model, "z"), q)
    whole = patching.sites(model, "z", positions="all", heads="all")
    refused("of single heads", whole, q)
    refused("senders must be what patching.sites gives", "z", q)
    refused("norms in front", z, q, kind("gemma2"))
    short = kind("shortformer")
    positions = patching.sites(short, "hook_pos_embed", positions="all")
    refused("no direct sender", positions, patching.sites(short, "q_input", positions="all"), short)
    given = (kind("llama"), tokens, clean, clean, METRIC, 0, 0)
    with pytest.raises(InputError, match="component must be 'q' where"):
        patching.get_act_patch_direct_path(*given, "k")
    with pytest.raises(InputError, match="component must be one of"):
        patching.get_act_patch_direct_path(*given, "z")  # type: ignore[arg-type]


@torch.no_grad()
@pytest.mark.parametrize(
    "hook",
    ["attn.hook_pattern", "attn.hook_attn_scores", "attn.hook_result", "ln1.hook_scale",
     "ln2.hook_normalized", "hook_q_input", "hook_resid_pre"],
)  # fmt: skip
def test_hooks_of_ones_own_act_where_the_sender_writes(
    hook: str, kind: Kind, assert_close: Check
) -> None:
    model, tokens = kind("gpt2"), some_tokens()
    _, clean = model.run_with_cache(some_tokens(seed=7), names_filter=everything)
    senders = patching.sites(model, "z", layers=[0], positions="all", heads=[1])
    receivers = patching.sites(model, "v_input", layers=[1], positions="all", heads=[2])
    with model.hooks([(f"blocks.0.{hook}", lambda x, hook: x * 1.5)]):
        found = patching.path_sweep(model, tokens, clean, senders, receivers, METRIC)
        _, base = model.run_with_cache(tokens, names_filter="*.hook_z")
        z = "blocks.0.attn.hook_z"
        change = written(model, clean, z, 1) - written(model, base, z, 1)

        def add(x: Tensor, hook: Any) -> None:
            x[:, :, 2] += change

        logits = model.run_with_hooks(tokens, fwd_hooks=[("blocks.1.hook_v_input", add)])
    assert_close(found.values.flatten(), METRIC.per_prompt(logits), hook, 1e-10)


def test_only_missing_paths_are_zero(kind: Kind) -> None:
    model, tokens = kind("gpt2"), some_tokens()
    _, clean = model.run_with_cache(some_tokens(seed=7))
    nan = lambda logits: torch.tensor(torch.nan)
    given = (model, tokens, clean, clean, nan)
    found = patching.get_act_patch_direct_path_all_sources(*given, verbose=False)
    later = torch.ones(model.cfg.n_layers, model.cfg.n_layers).triu(1).bool()
    expected = later[:, None, :, None].expand(found.shape)
    assert torch.equal(found.isnan(), expected) and not found[~expected].any()
