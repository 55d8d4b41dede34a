"""A shard's rows are, bit for bit, what `run_with_cache` gives on the same batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interp import HookedTransformer
from interp.devices.parsing import parse_dtype
from interp.errors import InputError
from interp.harvest.corpus import CorpusSettings, TokenStore, prepare_tokens
from interp.harvest.make_shard import UnstorableError, hook_specs, make_shard
from interp.harvest.manifest import Manifest
from interp.harvest.plan import ShardPlan
from interp.harvest.selection import chosen_rows
from interp.harvest.settings import HarvestSettings
from interp.run.recording import position_axis

_ARCHITECTURES: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "llama": {
        "positional_embedding_type": "rotary", "rotary_dim": 6, "n_key_value_heads": 2,
        "gated_mlp": True, "normalization_type": "RMS",
    },
    "alibi": {"positional_embedding_type": "alibi", "parallel_attn_mlp": True},
    "encoder": {"attention_dir": "bidirectional"},
    "experts": {"gated_mlp": True, "num_experts": 3, "experts_per_token": 2},
}  # fmt: skip


def _manifest(
    model: HookedTransformer, tokens: TokenStore, hooks: Any, dtype: Any = None, **others: Any
) -> Manifest:
    wanted = HarvestSettings.make(hooks, dtype, **{"shard_tokens": 40, "batch_size": 3, **others})
    specs = hook_specs(model, tokens, wanted.hooks, wanted.dtype and parse_dtype(wanted.dtype))
    plan = ShardPlan.make(tokens.n_sequences, tokens.length, wanted.shard_tokens, wanted.batch_size)
    named = HarvestSettings.from_dict({**wanted.to_dict(), "hooks": list(specs)})
    counts = {"n_sequences": tokens.n_sequences, "length": tokens.length, "digest": ""}
    return Manifest(named, {}, counts, specs, plan.sequences_per_shard, plan.n_shards)


def _reference(
    model: HookedTransformer, tokens: TokenStore, manifest: Manifest, shard: int
) -> tuple[dict[str, Any], list[tuple[int, ...]]]:
    """The rows one by one, out of caches of the same batches."""
    rows: dict[str, list[torch.Tensor]] = {name: [] for name in manifest.hooks}
    index = []
    first = shard * manifest.sequences_per_shard
    last = min(first + manifest.sequences_per_shard, tokens.n_sequences)
    for start in range(first, last, manifest.settings.batch_size):
        block = tokens.read(start, min(start + manifest.settings.batch_size, last))
        width, mask = tokens.length, None
        if block.real is not None:  # padding at the end is run only where somebody sees it
            sees_padding = any("attn_scores" in n or "pattern" in n for n in manifest.hooks)
            if not sees_padding:
                width = max(i + 1 for row in block.real.tolist() for i, r in enumerate(row) if r)
            real = block.real[:, :width]
            mask = None if real.all() else real.long()
        if mask is None and model.cfg.attention_dir != "causal":
            mask = torch.ones_like(block.tokens[:, :width])
        with torch.no_grad():
            _, cache = model.run_with_cache(
                block.tokens[:, :width], names_filter=list(manifest.hooks), attention_mask=mask,
                padding_side="right",
            )  # fmt: skip
        chosen = chosen_rows(block, start, manifest.settings)
        for i in range(len(block.tokens)):
            for j in range(tokens.length):
                if not chosen[i, j]:
                    continue
                for name in rows:
                    x = cache[name]
                    x = x[min(i, len(x) - 1)]
                    x = x.movedim(position_axis(name, cache[name]) - 1, 0)  # type: ignore[operator]
                    rows[name].append(x[j if len(x) > 1 else 0])
                of = block.document[i, j], block.document_position[i, j], start + i, j
                index.append((*map(int, of), int(block.tokens[i, j])))
    return {name: torch.stack(each) for name, each in rows.items() if each}, index


def _same(model: HookedTransformer, tokens: TokenStore, manifest: Manifest) -> int:
    """Compare all shards; gives how many rows there were."""
    n_rows = 0
    for shard in range(manifest.n_shards):
        made = make_shard(model, tokens, manifest, shard)
        expected, index = _reference(model, tokens, manifest, shard)
        assert list(zip(*(column.tolist() for column in made.index.values()), strict=True)) == index
        for name, spec in manifest.hooks.items():
            found = made.hooks[name]
            assert found.shape == (len(index), *spec.shape) and found.dtype == spec.dtype
            assert found.is_contiguous()
            if index:
                assert torch.equal(found, expected[name].to(spec.dtype)), name
        n_rows += len(index)
    return n_rows


def _prepare(corpus: CorpusSettings, model: Any, tmp_path: Path) -> TokenStore:
    return prepare_tokens(corpus, model, tmp_path / "tokens")


def _documents(lengths: Sequence[int], d_vocab: int = 31) -> list[list[int]]:
    generator = torch.Generator().manual_seed(len(lengths))
    return [torch.randint(d_vocab, (n,), generator=generator).tolist() for n in lengths]


@pytest.mark.parametrize("name", _ARCHITECTURES)
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_every_hook_is_what_the_cache_has(
    make_model: Callable[..., HookedTransformer], token_corpus: Any, tmp_path: Path, name: str,
    layout: str,
) -> None:  # fmt: skip
    model = make_model(**_ARCHITECTURES[name])
    corpus = token_corpus(_documents([9, 3, 8, 8, 1, 5, 7]), layout=layout, length=8)
    tokens = _prepare(corpus, model, tmp_path)
    hooks = [hook for hook in model.hook_dict if hook.startswith(("hook", "blocks", "ln", "unem"))]
    manifest = _manifest(model, tokens, [f"{hook.split('.')[0]}*" for hook in hooks])
    assert len(manifest.hooks) > 20 and manifest.n_shards == 1 + (layout == "padded")
    assert any(spec.shape == (4, 8) for spec in manifest.hooks.values())  # patterns
    assert _same(model, tokens, manifest) > 30


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lengths=st.lists(st.integers(1, 10), min_size=1, max_size=9),
    layout=st.sampled_from(["packed", "padded"]), length=st.integers(1, 10),
    positions=st.sampled_from(["all", "last", "1:", ":-1", "::2", (-2, 0)]),
    sample=st.sampled_from([None, 0.5, 2]), batch_size=st.integers(1, 4),
    shard_tokens=st.integers(1, 60), skip_special=st.booleans(),
    dtype=st.sampled_from([None, "float16", "bfloat16", "float64"]),
)  # fmt: skip
def test_whatever_the_shape(
    make_model: Callable[..., HookedTransformer], token_corpus: Any,
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], layout: str, length: int,
    **wanted: Any,
) -> None:  # fmt: skip
    model = make_model(n_layers=1)
    corpus = token_corpus(_documents(lengths), layout=layout, length=length)
    if layout == "packed" and sum(lengths) < length:
        return
    tokens = _prepare(corpus, model, tmp_path_factory.mktemp("made"))
    hooks = ["blocks.0.hook_resid_mid", "blocks.0.attn.hook_q"]
    _same(model, tokens, _manifest(model, tokens, hooks, **wanted))


def test_padding_is_not_run_where_nobody_sees_it(
    make_model: Callable[..., HookedTransformer], token_corpus: Any, tmp_path: Path
) -> None:
    model = make_model(positional_embedding_type="rotary", rotary_dim=6)
    corpus = token_corpus(_documents([3, 2, 4, 2]), layout="padded", length=12)
    tokens = _prepare(corpus, model, tmp_path)
    shapes = []
    model_record = model.record
    model.record = lambda x, **kwargs: shapes.append(tuple(x.shape)) or model_record(x, **kwargs)  # type: ignore
    for hook, width in (("blocks.1.hook_resid_post", 4), ("blocks.1.attn.hook_pattern", 12)):
        manifest = _manifest(model, tokens, hook, batch_size=4, shard_tokens=100)
        shapes.clear()
        made = make_shard(model, tokens, manifest, 0)
        assert shapes == [(4, width)] and len(made.index["token"]) == 11


def test_global_randomness_and_other_shards_change_nothing(
    make_model: Callable[..., HookedTransformer], token_corpus: Any, tmp_path: Path
) -> None:
    model = make_model()
    tokens = _prepare(token_corpus(_documents([90]), length=6), model, tmp_path)
    manifest = _manifest(model, tokens, "blocks.1.hook_resid_post", sample=0.5)
    shards = [make_shard(model, tokens, manifest, k) for k in range(manifest.n_shards)]
    state = torch.get_rng_state()
    for k in reversed(range(manifest.n_shards)):
        torch.rand(k + 1)
        again = make_shard(model, tokens, manifest, k)
        assert all(torch.equal(again.hooks[n], shards[k].hooks[n]) for n in again.hooks)
        assert all(torch.equal(again.index[n], shards[k].index[n]) for n in again.index)
    torch.set_rng_state(state)
    make_shard(model, tokens, manifest, 0)
    assert torch.equal(torch.get_rng_state(), state)


def test_layers_behind_the_last_hook_do_not_run(
    make_model: Callable[..., HookedTransformer], token_corpus: Any, tmp_path: Path
) -> None:
    model = make_model(n_layers=3)
    tokens = _prepare(token_corpus(_documents([12]), length=6), model, tmp_path)
    manifest = _manifest(model, tokens, "blocks.1.hook_resid_post")
    model.blocks[2] = torch.nn.Identity()  # would not take a block's arguments
    assert len(make_shard(model, tokens, manifest, 0).index["token"]) == 12


def test_what_cannot_be_stored_is_an_error_that_names_it(
    make_model: Callable[..., HookedTransformer], token_corpus: Any, tmp_path: Path
) -> None:
    model = make_model()
    tokens = _prepare(token_corpus(_documents([64]), length=8), model, tmp_path)
    with torch.no_grad():
        model.embed.W_E.zero_()[3, 2] = 65_519.0  # the largest that rounds to a float16
        model.embed.W_E[4, 1] = -65_504.0
    hook = "hook_embed"
    assert {3, 4} <= set(tokens.read(0, 8).tokens.flatten().tolist())
    small = _manifest(model, tokens, hook, "float16", shard_tokens=1000)
    assert make_shard(model, tokens, small, 0).hooks[hook].isfinite().all()
    with torch.no_grad():
        model.embed.W_E[4, 1] = -65_520.0
    with pytest.raises(UnstorableError, match=r"hook_embed reaches 65520 in shard 0\. float16"):
        make_shard(model, tokens, small, 0)
    wide = _manifest(model, tokens, hook, "bfloat16", shard_tokens=1000)
    assert make_shard(model, tokens, wide, 0).hooks[hook].isfinite().all()
    for value, word in ((math.nan, "NaN"), (math.inf, "infinity"), (-math.inf, "infinity")):
        with torch.no_grad():
            model.embed.W_E[4, 1] = value
        for manifest in (small, wide):
            with pytest.raises(UnstorableError, match=f"{word} at hook_embed, in shard 0"):
                make_shard(model, tokens, manifest, 0)


def test_masked_scores_may_be_infinite_and_others_not(
    make_model: Callable[..., HookedTransformer], token_corpus: Any, tmp_path: Path
) -> None:
    model = make_model()
    tokens = _prepare(token_corpus(_documents([64]), length=8), model, tmp_path)
    hook = "blocks.0.attn.hook_attn_scores"
    manifest = _manifest(model, tokens, hook, "float16")
    found = make_shard(model, tokens, manifest, 0).hooks[hook]
    assert (found == -torch.inf).any() and not found.isnan().any()
    with torch.no_grad():
        model.blocks[0].attn.W_Q *= 1e4
        model.blocks[0].attn.W_K *= 1e4
    with pytest.raises(UnstorableError, match="float16"):
        make_shard(model, tokens, manifest, 0)


def test_hooks_without_a_value_per_token_are_refused(
    make_model: Callable[..., HookedTransformer], token_corpus: Any, tmp_path: Path
) -> None:
    model = make_model(head="classification", attention_dir="bidirectional", d_vocab_out=3)
    tokens = _prepare(token_corpus(_documents([64]), length=8), model, tmp_path)
    pooled = next(name for name in model.hook_dict if name.startswith("pooler."))
    with pytest.raises(InputError, match=rf"a value for every token\. {pooled}"):
        _manifest(model, tokens, ["hook_embed", pooled])
    for hooks, word in ((["blocks.7.*"], "glob"), (["hook_embde"], "hook_embed")):
        with pytest.raises(InputError, match=word):
            _manifest(model, tokens, hooks)


def test_hooks_are_in_the_order_of_the_model(
    make_model: Callable[..., HookedTransformer], token_corpus: Any, tmp_path: Path
) -> None:
    model = make_model()
    tokens = _prepare(token_corpus(_documents([64]), length=8), model, tmp_path)
    wanted = ["blocks.1.hook_resid_post", "blocks.*.hook_resid_pre", "hook_tokens", "hook_embed"]
    found = hook_specs(model, tokens, wanted, torch.float16)
    assert list(found) == [name for name in model.hook_dict if name in found]
    assert found["hook_tokens"].dtype == torch.int64 and found["hook_tokens"].shape == ()
    assert found["hook_embed"].dtype == torch.float16
