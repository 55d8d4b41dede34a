"""What a recording is told to hold, before it runs, is what it holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import ActivationCache, HookedTransformer, InputError, KeyValueCache
from interp.run import record_size
from interp.run.record_size import RecordBudget
from interp.run.recording import CacheRecorder
from tests.covering import every_nth
from tests.interp.kinds import KINDS, everything, given_to, with_padding

Kind = Callable[[str], HookedTransformer]
Make = Callable[..., HookedTransformer]


class Spy:
    """Keeps the estimates that a model's runs make."""

    def __init__(self, model: HookedTransformer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.budgets: list[RecordBudget] = []

        def make(names: list[str], recorder: CacheRecorder, to_the_end: bool) -> RecordBudget:
            self.budgets.append(RecordBudget(model, names, recorder, to_the_end))
            return self.budgets[-1]

        monkeypatch.setattr(model, "_record_budget", make)

    def check(self, cache: ActivationCache) -> None:
        """The last estimate is what the cache holds, name by name and together."""
        estimate = self.budgets[-1].estimate()
        storages: dict[int, tuple[str, int]] = {}
        for name in self.budgets[-1].names:
            if name in cache.cache_dict:
                storage = cache.cache_dict[name].untyped_storage()
                storages.setdefault(storage._cdata, (name, storage.nbytes()))
        assert estimate == dict(storages.values())
        assert sum(estimate.values()) == cache.nbytes
        bound = sum(stack.at_most(len(self.budgets[-1].names)) for stack in self.budgets[-1].stacks)
        assert bound >= cache.nbytes


OPTIONS: dict[str, dict[str, Any]] = {
    "default": {"names_filter": None},
    "everything": {},
    "ranges": {"pos_slice": (1, 3)},
    "one position": {"pos_slice": -1},
    "narrower": {"dtype": torch.bfloat16},
    "elsewhere": {"device": "meta", "dtype": torch.float32, "pos_slice": [0, 2]},
}


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("name", KINDS)
def test_the_estimate_is_what_is_kept(
    name: str, padded: bool, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = kind(name)
    spy = Spy(model, monkeypatch)
    given = given_to(model)
    if padded:
        given = with_padding(given, [0, 2, 1], left=True)
    with torch.no_grad():
        # Half of them padded, the others not; the other way round with the next kind of model.
        for options in every_nth(list(OPTIONS.values()), 2, list(KINDS).index(name) + padded):
            options = {"names_filter": everything, **options}
            spy.check(model.run_with_cache(**given, **options)[1])


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "gpt-oss", "bert", "translator"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_in_other_dtypes(
    name: str, dtype: str, make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half precision is normalised in fp32."""
    model = make_model(dtype=dtype, **KINDS[name])
    spy = Spy(model, monkeypatch)
    with torch.no_grad():
        for options in ({}, {"dtype": torch.float64}, {"dtype": torch.float16}):
            run: dict[str, Any] = {"names_filter": everything, **options}
            spy.check(model.run_with_cache(**given_to(model), **run)[1])


@pytest.mark.parametrize("name", ["gpt2", "neox", "llama-ungrouped", "no-norm", "gpt-oss"])
def test_parts_of_a_run(name: str, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    model = kind(name)
    spy = Spy(model, monkeypatch)
    tokens = given_to(model)["input"]
    streams = torch.randn(2, 3, 5, model.cfg.d_model).double()
    every: dict[str, Any] = {"names_filter": everything}
    with torch.no_grad():
        for stop in (0, 1, 2, -1):
            spy.check(model.run_with_cache(tokens, stop_at_layer=stop, **every)[1])
        for stream in (streams[0], streams[1, :1].expand(3, -1, -1)):
            spy.check(model.run_with_cache(stream, start_at_layer=1, **every)[1])
            later = {"start_at_layer": 1, "stop_at_layer": 2, "pos_slice": -1, **every}
            spy.check(model.run_with_cache(stream, **later)[1])
        for names in ("blocks.0.attn.hook_pattern", "blocks.*.mlp.*", "*.hook_resid_p*"):
            spy.check(model.run_with_cache(tokens, names_filter=names, return_type=None)[1])
        spy.check(model.run_with_cache(tokens, return_type=None)[1])
        spy.check(model.run_with_cache(tokens[0], remove_batch_dim=True, **every)[1])
        past = KeyValueCache.init_cache(model.cfg, "cpu", 3)
        for part in (tokens[:, :3], tokens[:, 3:]):
            spy.check(model.run_with_cache(part, past_kv_cache=past, **every)[1])


def test_one_stack_of_two(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what the encoder gave before, its hooks are not reached."""
    model = kind("t5")
    spy = Spy(model, monkeypatch)
    given = given_to(model)
    with torch.no_grad():
        encoded = model.encode(given["input"])
        run: dict[str, Any] = {"decoder_input": given["decoder_input"], "encoder_output": encoded}
        spy.check(model.run_with_cache(names_filter=everything, **run)[1])
        for stop in (0, 1):  # the encoder runs to its end all the same
            run = {**given, "stop_at_layer": stop, "names_filter": everything}
            spy.check(model.run_with_cache(**run)[1])


def test_while_gradients_are_recorded(make_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads then read copies of their own; gradients themselves are not estimated."""
    for fields in ({}, {"n_key_value_heads": 2, "qk_norm": "full"}, {"normalization_type": None}):
        model = make_model(dtype="float64", **fields)
        spy = Spy(model, monkeypatch)
        _, cache = model.run_with_cache(
            given_to(model)["input"], return_type="loss", incl_bwd=True, names_filter=everything
        )
        forward = {n: v for n, v in cache.items() if not n.endswith("_grad")}
        spy.check(ActivationCache(forward, model))


def test_another_shape_or_name_is_estimated_anew(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = kind("llama")
    spy = Spy(model, monkeypatch)
    with torch.no_grad():
        for n_batch, n_pos in ((3, 5), (2, 5), (3, 4), (3, 5)):
            for names in (everything, "*.attn.*", None):
                tokens = given_to(model, n_batch, n_pos)["input"]
                spy.check(model.run_with_cache(tokens, names_filter=names)[1])
        model.set_ungroup_grouped_query_attention(True)
        try:
            spy.check(model.run_with_cache(tokens, names_filter="*.hook_k")[1])
        finally:
            model.set_ungroup_grouped_query_attention(False)
        spy.check(model.run_with_cache(tokens, names_filter="*.hook_k")[1])


# --- limits --------------------------------------------------------------------------------------


def blocks_run(model: HookedTransformer, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Filled with the layers that run."""
    seen: list[int] = []
    for layer, block in enumerate(model.blocks):
        monkeypatch.setattr(
            block,
            "forward",
            lambda *a, n=layer, f=block.forward, **k: (seen.append(n), f(*a, **k))[1],
        )
    return seen


def test_what_is_too_large_is_refused_before_a_block_runs(
    make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(n_layers=3)
    tokens = torch.zeros(2, 12, dtype=torch.long)
    plain = model(tokens)
    seen = blocks_run(model, monkeypatch)
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
        assert seen == [0, 1, 2]
        _, again = model.run_with_cache(tokens, max_bytes=cache.nbytes)
        assert again.nbytes == cache.nbytes
        seen.clear()
        with pytest.raises(InputError) as caught:
            model.run_with_cache(tokens, max_bytes=cache.nbytes - 1)
    assert seen == []
    text = str(caught.value)
    # Of [2, 12, ·] fp32: scores and pattern 4 · 12, streams 24, in three layers.
    for part in ("attn.hook_attn_scores of 3 layers: 13.5 KiB", "attn.hook_pattern of 3 layers",
                 "more than max_bytes", "names_filter", "pos_slice", "dtype"):  # fmt: skip
        assert part in text
    assert not any(p.is_watched for p in model.hook_points())
    assert model._watchers.before_blocks is None
    assert torch.equal(model(tokens), plain)


@pytest.mark.parametrize(
    "less", [{"names_filter": "*.hook_z"}, {"pos_slice": -1}, {"dtype": torch.bfloat16}]
)
def test_what_helps_helps(make_model: Make, less: dict[str, Any]) -> None:
    model = make_model()
    tokens = torch.zeros(2, 12, dtype=torch.long)
    with torch.no_grad():
        limit = model.run_with_cache(tokens)[1].nbytes * 2 // 3
        with pytest.raises(InputError, match="max_bytes"):
            model.run_with_cache(tokens, max_bytes=limit)
        _, cache = model.run_with_cache(tokens, max_bytes=limit, **less)
    assert cache.nbytes <= limit


def test_both_stacks_count(kind: Kind) -> None:
    model = kind("t5")
    given = given_to(model)
    with torch.no_grad():
        _, cache = model.run_with_cache(**given)
        model.run_with_cache(**given, max_bytes=cache.nbytes)
        with pytest.raises(InputError, match="would keep"):
            model.run_with_cache(**given, max_bytes=cache.nbytes - 1)


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """How much memory there is, and which devices were asked."""
    state: dict[str, Any] = {"free": None, "asked": []}

    def free_memory(device: torch.device) -> int | None:
        state["asked"].append(str(device))
        return state["free"]

    monkeypatch.setattr(record_size, "free_memory", free_memory)
    monkeypatch.setattr(record_size, "_SMALL", 0)
    return state


def test_without_a_limit_it_is_what_the_device_has_left(
    kind: Kind, left: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an encoder–decoder what the encoder has recorded is there already."""
    for name in ("gpt2", "t5"):
        model = kind(name)
        given = given_to(model)
        left["free"] = None  # nothing tells
        with torch.no_grad():
            _, cache = model.run_with_cache(**given)
            left["free"] = cache.nbytes
            model.run_with_cache(**given)
            if name == "gpt2":
                # What is in the cache by then, the embeddings, needs no more room.
                early = cache["hook_embed"].nbytes + cache["hook_pos_embed"][:1].nbytes
                left["free"] = cache.nbytes - early
                model.run_with_cache(**given)
                left["free"] -= 1
            else:
                left["free"] = cache.nbytes // 3
            with pytest.raises(
                InputError, match=r"more than what cpu has left.*device=.*max_bytes="
            ):
                model.run_with_cache(**given)
            # A limit of one's own is the only one.
            model.run_with_cache(**given, max_bytes=cache.nbytes)
            left["free"] = 0
            with pytest.raises(InputError, match="what meta has left"):
                model.run_with_cache(**given, device="meta")
        assert set(left["asked"]) == {"cpu", "meta"}


def test_small_recordings_are_not_compared_with_memory(
    kind: Kind, left: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_size, "_SMALL", 64 << 20)
    model = kind("gpt2")
    left["free"] = 0
    with torch.no_grad():
        model.run_with_cache(**given_to(model))
    assert left["asked"] == []


def test_hooks_that_change_the_batch(kind: Kind, left: dict[str, Any]) -> None:
    """What counts is what is kept, not what it would be without them."""
    model = kind("gpt2")
    tokens = torch.zeros(4, 6, dtype=torch.long)
    with torch.no_grad():
        one = model.run_with_cache(tokens[:1], names_filter="blocks.*")[1].nbytes
        with model.hooks([("blocks.0.hook_resid_pre", lambda x, hook: x[:1])]):
            _, cache = model.run_with_cache(tokens, names_filter="blocks.*", max_bytes=one)
            assert cache.nbytes == one
            left["free"] = one
            model.run_with_cache(tokens, names_filter="blocks.*")
            left["free"] = one - 1
            with pytest.raises(InputError, match=r"has kept .* more than what cpu has left"):
                model.run_with_cache(tokens, names_filter="blocks.*")
            with pytest.raises(InputError, match=r"has kept .* more than max_bytes"):
                model.run_with_cache(tokens, names_filter="blocks.*", max_bytes=one - 1)
        left["free"] = None
        with model.hooks([("blocks.0.hook_resid_pre", lambda x, hook: x.repeat(3, 1, 1))]):
            four = model.run_with_cache(tokens, names_filter="blocks.*")[1].nbytes // 3
            with pytest.raises(InputError, match="has kept"):
                model.run_with_cache(tokens, names_filter="blocks.*", max_bytes=2 * four)


def test_a_limit_of_one_run_is_not_the_next_ones(kind: Kind, left: dict[str, Any]) -> None:
    """A recorder left in place is not held to what memory was free when it began."""
    model = kind("gpt2")
    tokens = torch.zeros(1, 4, dtype=torch.long)
    with torch.no_grad(), model.hooks([("hook_embed", lambda x, hook: None)]):
        left["free"] = model.run_with_cache(tokens)[1].nbytes
        _, cache = model.run_with_cache(tokens, reset_hooks_end=False)
        model(tokens.repeat(3, 1))
        assert cache["hook_embed"].shape[0] == 3
    model.reset_hooks()


def test_forward_and_gradient_hooks_are_told_apart(make_model: Make) -> None:
    """Only what a forward hook is given is a copy of its own."""
    model = make_model()
    names = ["blocks.0.hook_resid_post", "blocks.1.hook_resid_pre"]
    tokens = torch.zeros(1, 5, dtype=torch.long)
    one = 5 * model.cfg.d_model * 4
    sizes = {"fwd_hooks": 2 * one, "bwd_hooks": one}
    for kind in ("fwd_hooks", "bwd_hooks", "fwd_hooks"):
        hooks: dict[str, Any] = {kind: [(name, lambda x, hook: None) for name in names]}
        with model.hooks(**hooks):
            limit = sizes[kind]
            _, cache = model.run_with_cache(tokens, names_filter=names, max_bytes=limit)
            assert cache.nbytes == limit
            with pytest.raises(InputError, match="max_bytes"):
                model.run_with_cache(tokens, names_filter=names, max_bytes=limit - 1)


def test_runs_inside_a_run_are_not_its_own(kind: Kind) -> None:
    """A hook may run the model on more than the limit of the run around it allows."""
    model = kind("gpt2")
    tokens, long = given_to(model, 1, 3)["input"], torch.zeros(4, 12, dtype=torch.long)
    inside: list[int] = []

    def look(x: Tensor, hook: Any) -> None:
        if model._watchers.run_depth == 1:
            inside.append(model.run_with_cache(long)[1].nbytes)
            model(long)

    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
        with model.hooks([("blocks.0.hook_resid_mid", look)]):
            _, found = model.run_with_cache(tokens, max_bytes=2 * cache.nbytes)
    assert inside[0] > 2 * cache.nbytes
    assert found.nbytes <= 2 * cache.nbytes
