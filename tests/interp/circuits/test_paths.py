"""Path patching against sweeps of direct paths, hooks by hand, and the restated Transformer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, InputError, patching
from interp.circuits import Graph, patch_edges, patch_paths, source_of
from tests.interp.circuits.plain import logits_of_edges, plain_values, written
from tests.interp.kinds import some_tokens

Check = Callable[..., None]
Kind = Callable[[str], HookedTransformer]
METRIC = patching.LogitDiff(3, 5)
HERE, THERE = some_tokens(), some_tokens(seed=7)


@torch.no_grad()
@pytest.mark.parametrize("name", ["gpt2", "llama", "neox", "attn-only", "bert-folded-mlm"])
def test_every_edge_is_a_direct_path(name: str, kind: Kind, assert_close: Check) -> None:
    model = kind(name)
    source = source_of(model, THERE)
    found = patch_edges(model, HERE, source, METRIC)
    assert found.paths == tuple(Graph.of(model).edges)
    by_edge = dict(zip(found.paths, found.values, strict=True))
    seen = 0
    for writer in ("z", "mlp_out", "hook_embed"):
        for reader in ("q_input", "k_input", "v_input", "mlp_in", "resid_post"):
            if model.cfg.attn_only and "mlp" in writer + reader:
                continue
            senders = patching.sites(model, writer, positions="all")
            layers = [1] if reader == "resid_post" else None
            receivers = patching.sites(model, reader, layers=layers, positions="all")
            swept = patching.path_sweep(model, HERE, source, senders, receivers, METRIC)
            graph = Graph.of(model)
            there = [n.label for n in graph.sender_nodes if n.hook in senders.hooks]
            here = [n.label for n in graph.receiver_nodes if n.hook in receivers.hooks]
            values = swept.values.reshape(len(there), len(here), 3)
            assert_close(found.base, swept.base)
            for i, sender in enumerate(there):
                for j, receiver in enumerate(here):
                    edge = f"{sender}->{receiver}"
                    assert (edge in by_edge) == bool(values[i, j].isfinite().all())
                    if edge in by_edge:
                        assert_close(by_edge[edge], values[i, j], edge, 1e-10)
                        seen += 1
    assert seen >= len(found.paths) * 0.8  # all but those of positions
    some = patch_edges(model, HERE, source, METRIC, edges=["L0H1->logits", "embed->L1H0.q"])
    assert some.scores() == pytest.approx(
        {edge: found.scores()[edge] for edge in some.paths}, abs=1e-12
    )
    alone = [patch_paths(model, HERE, source, [edge], METRIC).values[0] for edge in some.paths]
    assert_close(torch.stack(alone), some.values, "as paths", 1e-12)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "path", "edges"),
    [
        ("gpt2", "embed->L0H1->L1H0.k->logits",
         ["embed->L0H1.q", "embed->L0H1.k", "embed->L0H1.v", "L0H1->L1H0.k", "L1H0->logits"]),
        ("gpt2", "L0H1->L0MLP->L1H2.q->L1MLP->logits",
         ["L0H1->L0MLP", "L0MLP->L1H2.q", "L1H2->L1MLP", "L1MLP->logits"]),
        ("llama", "L0H3->L1KV1.v->logits", ["L0H3->L1KV1.v", "L1H2->logits", "L1H3->logits"]),
        ("llama", "L0H3->L1KV1.v->L1H2->logits", ["L0H3->L1KV1.v", "L1H2->logits"]),
        ("gpt2", "L0H1->L1H0.k->L1H0->logits", ["L0H1->L1H0.k", "L1H0->logits"]),
        ("llama", "L0H3->L1H2->logits",
         ["L0H3->L1H2.q", "L0H3->L1KV1.k", "L0H3->L1KV1.v", "L1H2->logits"]),
        ("attn-only", "embed->logits", ["embed->logits"]),
    ],
)  # fmt: skip
def test_only_the_path_carries_anything(
    name: str, path: str, edges: list[str], kind: Kind, assert_close: Check
) -> None:
    model = kind(name)
    source = source_of(model, THERE)
    found = patch_paths(model, HERE, source, [path], METRIC)
    base = written(model, plain_values(model, {"input": HERE}))
    first = path.split("->")[0]

    def starts(hook: str, x: Tensor) -> Tensor:
        if first == "embed":
            return source[hook] if hook == "hook_embed" else x
        layer, head = int(first[1]), int(first[3])
        if hook == f"blocks.{layer}.attn.hook_z":
            x = x.clone()
            x[:, :, head] = source[hook][:, :, head]
        return x

    expected = logits_of_edges(model, {"input": HERE}, set(edges), base, starts)
    assert_close(found.values[0], METRIC.per_prompt(expected), path, 1e-10)
    assert_close(found.base, METRIC.per_prompt(model(HERE)), "base", 1e-12)
    assert (found.effects.abs() > 1e-7).all()


@torch.no_grad()
@pytest.mark.parametrize("part", ["q", "k", "v"])
@pytest.mark.parametrize("heads", [[2], [0, 3]])
def test_through_mlps_as_wang_et_al_do(
    part: str, heads: list[int], make_model: Any, assert_close: Check
) -> None:
    """Run with all other heads frozen, keep what the receivers read, and put that into the base."""
    model = make_model(dtype="float64", n_layers=3)
    source = source_of(model, THERE)
    _, base = model.run_with_cache(HERE)

    def freeze(x: Tensor, hook: Any) -> Tensor:
        x = base[hook.name].clone()
        if hook.name == "blocks.0.attn.hook_z":
            x[:, :, 1] = source[hook.name][:, :, 1]
        return x

    name = f"blocks.2.hook_{part}_input"
    with model.hooks([("blocks.*.attn.hook_z", freeze)]):
        _, frozen = model.record(HERE, names_filter=name)

    def put_in(x: Tensor, hook: Any) -> None:
        x[:, :, heads] = frozen[name][:, :, heads]

    expected = METRIC.per_prompt(model.run_with_hooks(HERE, fwd_hooks=[(name, put_in)]))
    paths = [f"L0H1->L2H{head}.{part}" for head in heads]
    found = patch_paths(model, HERE, source, {"all": paths}, METRIC, through_mlps=True)
    assert found.paths == ("all",)
    assert_close(found.values[0], expected, part, 1e-10)
    direct = patch_paths(model, HERE, source, {"all": paths}, METRIC)
    assert (direct.values - found.values).abs().max() > 1e-4


@torch.no_grad()
def test_what_ends_in_the_logits_goes_through_mlps_too(kind: Kind, assert_close: Check) -> None:
    model, source = kind("gpt2"), source_of(kind("gpt2"), THERE)
    _, base = model.run_with_cache(HERE)

    def freeze(x: Tensor, hook: Any) -> Tensor:
        x = base[hook.name].clone()
        if hook.name == "blocks.0.attn.hook_z":
            x[:, :, 1] = source[hook.name][:, :, 1]
        return x

    expected = model.run_with_hooks(HERE, fwd_hooks=[("blocks.*.attn.hook_z", freeze)])
    found = patch_paths(model, HERE, source, ["L0H1->logits"], METRIC, through_mlps=True)
    assert_close(found.values[0], METRIC.per_prompt(expected), "logits", 1e-10)


@torch.no_grad()
def test_mlps_carry_on_from_each_part_to_the_next(kind: Kind, assert_close: Check) -> None:
    model, source = kind("gpt2"), source_of(kind("gpt2"), THERE)
    base = written(model, plain_values(model, {"input": HERE}))

    def starts(hook: str, x: Tensor) -> Tensor:
        if hook == "blocks.0.attn.hook_z":
            x = x.clone()
            x[:, :, 1] = source[hook][:, :, 1]
        return x

    edges = {"L0H1->L0MLP", "L0MLP->L1H0.k", "L0H1->L1H0.k",
             "L1H0->L1MLP", "L1MLP->logits", "L1H0->logits"}  # fmt: skip
    expected = logits_of_edges(model, {"input": HERE}, edges, base, starts)
    path = ["L0H1->L1H0.k->logits"]
    found = patch_paths(model, HERE, source, path, METRIC, through_mlps=True)
    assert_close(found.values[0], METRIC.per_prompt(expected), "path", 1e-10)


@torch.no_grad()
def test_several_readers_take_a_change_at_once(kind: Kind, assert_close: Check) -> None:
    model = kind("neox")
    source = source_of(model, THERE)
    ends = [f"embed->{label}" for label in Graph.of(model).receivers if label != "logits"]
    found = patch_paths(model, HERE, source, {"all": ends}, METRIC)
    # Every layer reads the source's embedding, and the logits do not.
    hooks = [
        ("hook_embed", lambda x, hook: source["hook_embed"]),
        ("blocks.1.hook_resid_post", lambda x, hook: x - source["hook_embed"] + model.embed(HERE)),
    ]
    expected = METRIC.per_prompt(model.run_with_hooks(HERE, fwd_hooks=hooks))
    assert_close(found.values[0], expected, "all", 1e-10)


@pytest.mark.parametrize("component", ["q", "k", "v"])
def test_as_transformer_lens(component: Any, kind: Kind, assert_close: Check) -> None:
    lens = pytest.importorskip("transformer_lens.patching", reason="needs the extra 'lens'")
    model = kind("gpt2")
    _, base = model.run_with_cache(HERE)
    _, clean = model.run_with_cache(THERE)
    metric = lambda logits: (logits[:, -1, 3] - logits[:, -1, 5]).mean()
    theirs = lens.get_act_patch_direct_path(
        model, HERE, clean, base, metric, 0, 1, component, verbose=False
    )
    edges = [f"L0H1->L1H{head}.{component}" for head in range(4)]
    ours = patch_edges(model, HERE, clean, metric, edges)
    assert_close(ours.values.float(), theirs[1], component, 1e-6)
    assert ours.base.ndim == 0 and ours.frame().shape == (4, 3)


@torch.no_grad()
def test_paths_in_parts_are_paths_at_once(kind: Kind, assert_close: Check) -> None:
    model, source = kind("gpt2"), source_of(kind("gpt2"), THERE)
    paths = ["L0H1->L1H0.k", "embed->L1H0.k", "L0H2->L1MLP", "L0H1->L1H0->logits", "embed->logits"]
    found = patch_paths(model, HERE, source, paths, METRIC)
    tight = patch_paths(model, HERE, source, paths, METRIC, max_bytes=1)
    assert_close(found.values, tight.values, "parts", 1e-12)
    mask = torch.ones_like(HERE)
    mask[0, :2] = 0
    padded = source_of(model, THERE, mask)
    run = patch_paths(model, HERE, padded, paths, METRIC, attention_mask=mask)
    short = source_of(model, THERE[:1, 2:])
    alone = patch_paths(model, HERE[:1, 2:], short, paths, METRIC)
    assert_close(run.values[:, 0], alone.values[:, 0], "padded", 1e-10)


def test_errors(kind: Kind) -> None:
    model, source = kind("gpt2"), source_of(kind("gpt2"), THERE)

    def refused(match: str, paths: Any) -> None:
        with pytest.raises(InputError, match=match):
            patch_paths(model, HERE, source, paths, METRIC)

    refused("a list of paths", "L0H1->logits")
    refused("a set of paths is a list", {"a": "L0H1->logits"})
    refused("a path is written", ["L0H1"])
    refused("no sender of this model", ["L0H9->logits"])
    refused("L1H0.q reads before L1H1 writes", ["L1H1->L1H0.q"])
    refused("can only begin at what reads nothing", ["L0H1->embed->logits"])
    refused("all end in logits, or none", {"a": ["L0H1->logits", "L0H1->L1H0.k"]})
    refused("a path goes on", ["L0H1->logits->L1H0.k"])
