"""What a run keeps: whole, in part, elsewhere; and that nothing writes into it later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, HookPoint, InputError
from interp.run.recording import CacheRecorder, position_axis

Make = Callable[..., HookedTransformer]
Check = Callable[..., None]
TOKENS = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
MODES = {
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "grad": torch.enable_grad,
}


@pytest.fixture
def model(make_model: Make) -> HookedTransformer:
    return make_model(dtype="float64", n_key_value_heads=2)


def everything(name: str) -> bool:
    return True


def zero(x: Tensor, hook: HookPoint) -> None:
    x.zero_()


def storage(x: Tensor) -> int:
    """Which memory a tensor lies in, on devices without addresses too."""
    return x.untyped_storage()._cdata


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("recorded", "edited", "fields"),
    [
        ("blocks.0.hook_resid_post", "blocks.1.hook_resid_pre", {}),
        ("blocks.0.hook_resid_pre", "blocks.0.hook_attn_in", {}),
        ("blocks.0.hook_resid_pre", "blocks.0.hook_v_input", {}),
        ("blocks.0.hook_attn_in", "blocks.0.hook_q_input", {}),
        ("blocks.0.hook_resid_mid", "blocks.0.hook_mlp_in", {}),
        ("blocks.0.hook_resid_pre", "blocks.0.hook_mlp_in", {"parallel_attn_mlp": True}),
        ("hook_embed", "blocks.0.hook_resid_pre", {"positional_embedding_type": "rotary"}),
        ("hook_embed", "blocks.0.hook_resid_pre", {"positional_embedding_type": "none"}),
        (
            "blocks.0.mlp.ln.hook_normalized",
            "blocks.0.mlp.hook_post",
            {"act_fn": "solu_ln", "normalization_type": "RMS"},
        ),
        ("blocks.1.hook_resid_post", "unembed.hook_in", {"normalization_type": None}),
        ("ln_final.hook_normalized", "unembed.hook_in", {"normalization_type": "LNPre"}),
    ],
)
def test_writing_downstream_leaves_the_record(
    make_model: Make,
    assert_close: Check,
    recorded: str,
    edited: str,
    fields: dict[str, Any],
    mode: str,
) -> None:
    model = make_model(dtype="float64", **fields)
    with MODES[mode]():
        plain = model(TOKENS)
        expected = model.run_with_cache(TOKENS, names_filter=recorded)[1][recorded].clone()
        assert expected.abs().max() > 0
        with model.hooks([(edited, zero)]):
            for names in (recorded, [recorded, edited], everything):
                logits, cache = model.run_with_cache(TOKENS, names_filter=names)
                assert_close(cache[recorded], expected)
                assert not torch.allclose(logits, plain)
                if edited in cache:
                    assert cache[edited].abs().max() == 0


def test_a_record_is_not_written_into_by_the_next_run(model: HookedTransformer) -> None:
    with torch.no_grad():
        _, cache = model.run_with_cache(TOKENS, names_filter=everything)
        before = {name: value.clone() for name, value in cache.items()}
        with model.hooks([("*", zero)]):
            model(TOKENS)
            model.run_with_cache((TOKENS + 5) % 31)
        model(cache["resid_pre", 1], start_at_layer=1)
    for name, value in cache.items():
        assert torch.equal(value, before[name]), name


def test_records_are_detached_and_survive_backward(model: HookedTransformer) -> None:
    loss, cache = model.run_with_cache(TOKENS, return_type="loss", names_filter=everything)
    assert loss.requires_grad
    assert not any(value.requires_grad for value in cache.values())
    before = {name: value.clone() for name, value in cache.items()}
    loss.backward()
    assert all(torch.equal(value, before[name]) for name, value in cache.items())


def test_recording_in_grad_mode_is_recording_without(
    model: HookedTransformer, assert_close: Check
) -> None:
    _, with_graph = model.run_with_cache(TOKENS, names_filter=everything)
    with torch.no_grad():
        _, without = model.run_with_cache(TOKENS, names_filter=everything)
    for name in without:
        assert_close(with_graph[name].double(), without[name].double(), name)
    assert with_graph.nbytes == without.nbytes


def test_position_axis() -> None:
    assert position_axis("blocks.0.attn.hook_pattern", torch.zeros(1, 2, 3, 3)) == 2
    assert position_axis("blocks.0.attn.hook_attn_scores", torch.zeros(1, 2, 3, 3)) == 2
    assert position_axis("blocks.0.attn.hook_z", torch.zeros(1, 3, 2, 4)) == 1
    assert position_axis("hook_tokens", torch.zeros(1, 3)) == 1
    assert position_axis("anything", torch.zeros(1)) is None


@pytest.mark.parametrize(
    ("given", "as_index"),
    [
        (1, slice(1, 2)),
        (-1, slice(-1, None)),
        ((1, 3), slice(1, 3)),
        ((None, None, 2), slice(None, None, 2)),
        ((2,), slice(2)),
        (slice(2, None), slice(2, None)),
        ([0, 3], torch.tensor([0, 3])),
        (torch.tensor([4, 0, 4]), torch.tensor([4, 0, 4])),
        (None, slice(None)),
    ],
)
def test_pos_slice_keeps_destinations(
    model: HookedTransformer, given: Any, as_index: Any, assert_close: Check
) -> None:
    with torch.no_grad():
        logits, whole = model.run_with_cache(TOKENS, names_filter=everything)
        found, part = model.run_with_cache(TOKENS, names_filter=everything, pos_slice=given)
    assert_close(found, logits)
    assert whole.keys() == part.keys()
    for name, value in whole.items():
        on_scores = name.endswith(("hook_attn_scores", "hook_pattern"))
        expected = value[:, :, as_index] if on_scores else value[:, as_index]
        assert part[name].dtype == expected.dtype, name
        assert part[name].shape == expected.shape, name
        assert torch.equal(part[name], expected), name


def test_positions_left_out_are_not_kept_in_memory(model: HookedTransformer) -> None:
    with torch.no_grad():
        _, cache = model.run_with_cache(TOKENS, names_filter="*.hook_z", pos_slice=(0, 1))
    assert cache.nbytes == 2 * 2 * 1 * 4 * 6 * 8


def test_pos_slice_keeps_gradients_too(model: HookedTransformer) -> None:
    names = sorted(model.default_hook_names())
    kwargs: dict[str, Any] = {"return_type": "loss", "incl_bwd": True, "names_filter": names}
    _, whole = model.run_with_cache(TOKENS, **kwargs)
    _, part = model.run_with_cache(TOKENS, pos_slice=(1, 3), **kwargs)
    for name, value in whole.items():
        axis = 2 if "scores" in name or "pattern" in name else 1
        assert torch.equal(part[name], value.narrow(axis, 1, 2)), name


def test_a_position_outside_is_an_error(model: HookedTransformer) -> None:
    for bad in (5, -6, [0, 7]):
        with pytest.raises(InputError, match="outside"):
            model.run_with_cache(TOKENS, pos_slice=bad)


@pytest.mark.parametrize("pos_slice", [None, (1, 3), -1])
def test_remove_batch_dim(model: HookedTransformer, pos_slice: Any) -> None:
    kwargs: dict[str, Any] = {"names_filter": everything, "pos_slice": pos_slice}
    with torch.no_grad():
        _, cache = model.run_with_cache(TOKENS[:1], **kwargs)
        _, single = model.run_with_cache(TOKENS[:1], remove_batch_dim=True, **kwargs)
    assert cache.has_batch_dim
    assert not single.has_batch_dim
    assert cache.keys() == single.keys()
    for name, value in cache.items():
        assert torch.equal(single[name], value[0]), name
    with pytest.raises(InputError, match=r"batch of one.*\(2, "):
        model.run_with_cache(TOKENS, remove_batch_dim=True, **kwargs)


def test_another_device(model: HookedTransformer, assert_close: Check) -> None:
    with torch.no_grad():
        logits, cache = model.run_with_cache(TOKENS, names_filter=everything, device="meta")
        _, here = model.run_with_cache(TOKENS, names_filter=everything)
    assert logits.device.type == "cpu"
    for name, value in cache.items():
        assert value.device.type == "meta"
        assert value.shape == here[name].shape, name
    assert_close(model(TOKENS), logits)


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"device": "cpu"},
        {"device": "meta"},
        {"pos_slice": (0, 3)},
        {"pos_slice": -1},
        {"pos_slice": [0, 2]},
        {"pos_slice": (1, 2), "device": "meta"},
    ],
)
def test_names_of_one_tensor_share_memory(model: HookedTransformer, kwargs: dict[str, Any]) -> None:
    names = ["blocks.0.hook_resid_post", "blocks.1.hook_resid_pre"]
    with torch.no_grad():
        _, cache = model.run_with_cache(TOKENS, names_filter=names, **kwargs)
    assert storage(cache[names[0]]) == storage(cache[names[1]])


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"device": "cpu"},
        {"device": "meta"},
        {"pos_slice": (0, 3)},
        {"pos_slice": -1},
        {"pos_slice": [0, 2]},
        {"pos_slice": (1, 2), "device": "meta"},
    ],
)
def test_inputs_of_heads_are_never_stored_per_head(
    model: HookedTransformer, kwargs: dict[str, Any]
) -> None:
    with torch.no_grad():
        for name in ("attn_in", "q_input", "k_input", "v_input"):
            hook = f"blocks.0.hook_{name}"
            _, cache = model.run_with_cache(TOKENS, names_filter=hook, **kwargs)
            one = cache[hook].select(-2, 0)
            assert cache[hook].untyped_storage().nbytes() <= TOKENS.numel() * 24 * 8, hook
            if kwargs.get("pos_slice") is not None:
                assert cache[hook].untyped_storage().nbytes() == one.numel() * 8, hook


@pytest.mark.parametrize("kwargs", [{}, {"device": "meta"}, {"pos_slice": (0, 3)}])
def test_inputs_of_heads_share_the_stream_s_memory(
    model: HookedTransformer, kwargs: dict[str, Any]
) -> None:
    names = [f"blocks.0.hook_{n}" for n in ("resid_pre", "attn_in", "q_input", "k_input")]
    with torch.no_grad():
        _, cache = model.run_with_cache(TOKENS, names_filter=names, **kwargs)
    assert len({storage(cache[name]) for name in names}) == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "kwargs", [{"pos_slice": (0, 3)}, {"dtype": torch.float32}, {"device": "meta"}]
)
def test_copies_are_shared_in_every_mode(
    model: HookedTransformer, kwargs: dict[str, Any], mode: str
) -> None:
    names = [f"blocks.{n}" for n in ("0.hook_resid_post", "1.hook_resid_pre", "1.hook_attn_in")]
    with MODES[mode]():
        _, cache = model.run_with_cache(TOKENS, names_filter=names, **kwargs)
    assert len({storage(cache[name]) for name in names}) == 1


def test_no_record_keeps_more_memory_than_its_own(make_model: Make) -> None:
    """Neither a pattern whose sink is cut off nor a part of the caller's tensors."""
    model = make_model(dtype="float64", attn_sinks=True)
    streams, tokens = torch.randn(4, 2, 5, 24).double(), TOKENS.repeat(3, 2)
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens[:2, :5], names_filter=everything)
        _, later = model.run_with_cache(streams[1], start_at_layer=1, names_filter="blocks.1.*")
        for kept in (cache, later):
            for name, value in kept.items():
                assert value.untyped_storage().nbytes() <= value.nbytes, name
        assert torch.equal(cache["hook_tokens"], tokens[:2, :5])
        assert torch.equal(later["resid_pre", 1], streams[1])
        assert storage(later["resid_pre", 1]) == storage(later["attn_in", 1])
        _, whole = model.run_with_cache(streams[1].clone(), start_at_layer=1)
        assert whole.nbytes < cache.nbytes


def test_one_position_of_what_is_the_same_at_all(make_model: Make) -> None:
    """Segments that nobody gave are the first everywhere: one vector."""
    model = make_model(n_token_types=2)
    with torch.no_grad():
        _, whole = model.run_with_cache(TOKENS)
        for given, places in ((3, [3]), ((1, 4), [1, 2, 3]), ([4, 0], [4, 0])):
            _, cache = model.run_with_cache(TOKENS, pos_slice=given)
            found, expected = cache["hook_token_type_embed"], whole["hook_token_type_embed"]
            assert torch.equal(found, expected[:, places])
        with pytest.raises(InputError, match="outside"):
            model.run_with_cache(TOKENS, names_filter="hook_token_type_embed", pos_slice=5)


def test_moving_a_cache_keeps_sharing(model: HookedTransformer) -> None:
    names = [f"blocks.{n}" for n in ("0.hook_resid_post", "1.hook_resid_pre", "1.hook_q_input")]
    with torch.no_grad():
        _, cache = model.run_with_cache(TOKENS, names_filter=names)
    moved = cache.to("meta")
    assert {value.device.type for value in moved.values()} == {"meta"}
    assert {value.device.type for value in cache.values()} == {"cpu"}
    assert storage(moved[names[0]]) == storage(moved[names[1]])
    per_head = moved[names[2]]
    assert per_head.shape == cache[names[2]].shape
    assert per_head.untyped_storage().nbytes() == cache[names[2]].untyped_storage().nbytes()
    same = cache.to("cpu")
    for name in names:
        assert same[name].data_ptr() == cache[name].data_ptr()


def test_a_recorder_of_one_s_own(model: HookedTransformer, assert_close: Check) -> None:
    with torch.no_grad():
        _, expected = model.run_with_cache(TOKENS)
        recorder = CacheRecorder()
        with model._recording(["hook_embed"], recorder) as inside:
            assert inside is recorder
            model(TOKENS)
            with model._recording(["hook_embed", "hook_pos_embed"], CacheRecorder()) as inner:
                model((TOKENS + 1) % 31)
    assert list(recorder.cache) == ["hook_embed"]
    assert list(inner.cache) == ["hook_embed", "hook_pos_embed"]
    assert_close(recorder.cache["hook_embed"], expected["embed"])
    assert not any(point.is_watched for point in model.hook_points())
