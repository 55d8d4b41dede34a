"""A patch is part of a compiled run's input: one program for a whole sweep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given as for_any
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from interp import HookedTransformer, InputError, Patch
from tests.interp.kinds import KINDS, given_to, some_tokens, with_padding

MakeModel = Callable[..., HookedTransformer]
AssertClose = Callable[..., None]

# Which axes of these hooks are position and head.
SITES: dict[str, tuple[str, int, int | None]] = {
    "resid_pre": ("hook_resid_pre", 1, None),
    "hook_mlp_out": ("hook_mlp_out", 1, None),
    "z": ("attn.hook_z", 1, 2),
    "v": ("attn.hook_v", 1, 2),
    "pattern": ("attn.hook_pattern", 2, 1),
}


def _row_by_row(
    model: HookedTransformer, site: str, given: dict[str, Tensor], patch: Patch
) -> Tensor:
    """Each row by itself, with the entries of its patch written by index."""
    name, pos_axis, head_axis = SITES[site]
    prefix = "decoder." if model.cfg.architecture == "encoder-decoder" else ""
    rows = []
    for i, layer in enumerate(patch.layer):  # type: ignore[arg-type]

        def write(x: Tensor, hook: Any, i: int = i) -> None:
            at: list[Any] = [slice(None)] * x.ndim
            at[0] = 0
            for axis, index in ((pos_axis, patch.pos), (head_axis, patch.head)):
                if axis is not None and index is not None:
                    at[axis] = int(index[i])  # type: ignore[index]
            x[tuple(at)] = patch.value[i]

        n = int(layer) % model.cfg.n_layers
        row = {key: x[i : i + 1] for key, x in given.items()}
        hook = f"{prefix}blocks.{n}.{name}"
        rows.append(model.run_with_hooks(**row, fwd_hooks=[(hook, write)]))
    return torch.cat(rows).detach()


def _some_patch(
    model: HookedTransformer, site: str, n_rows: int, n_pos: int, axes: str, seed: int
) -> Patch:
    random = torch.Generator().manual_seed(seed)

    def index(size: int) -> Tensor:
        return torch.randint(-size, size, (n_rows,), generator=random)

    _, pos_axis, head_axis = SITES[site]
    heads = model.cfg.n_kv_heads if site == "v" else model.cfg.n_heads
    width = {"pattern": n_pos}.get(site, model.cfg.d_model if head_axis is None else 6)
    shape = {0: n_rows, pos_axis: n_pos, 3 if head_axis else 2: width}
    if head_axis is not None:
        shape[head_axis] = heads
    layer, pos, head = index(model.cfg.n_layers), None, None
    if "p" in axes:
        pos = index(shape.pop(pos_axis))
    if "h" in axes and head_axis is not None:
        head = index(shape.pop(head_axis))
    value = torch.rand([shape[a] for a in sorted(shape)], generator=random, dtype=model.cfg.dtype)
    return Patch(layer, pos, value, head)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(
    ("kind", "site", "axes"),
    [
        ("gpt2", "resid_pre", "p"), ("gpt2", "resid_pre", ""), ("llama", "v", "ph"),
        ("llama", "z", "h"), ("gemma2", "pattern", "ph"), ("neox", "hook_mlp_out", "p"),
        ("marian", "z", "ph"),
    ],
)  # fmt: skip
def test_every_row_as_if_patched_alone(
    make_model: MakeModel, assert_close: AssertClose, kind: str, site: str, axes: str
) -> None:
    model = make_model(**KINDS[kind], dtype=torch.float64)
    compiled = model.compile(patch=site)
    given = given_to(model, 6, 5)
    n_pos = given.get("decoder_input", given["input"]).shape[1]
    for seed in range(2):
        patch = _some_patch(model, site, 6, n_pos, axes, seed)
        expected = _row_by_row(model, site, given, patch)
        assert_close(compiled(**given, patch=patch), expected)
    assert compiled.n_graphs == 1
    assert float((model(**given) - expected).abs().max()) > 1e-3


@pytest.mark.usefixtures("traced")
@settings(max_examples=3, deadline=None)
@for_any(data=st.data())
def test_any_patch(make_model: MakeModel, assert_close: AssertClose, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["gpt2", "llama", "gptj"]))
    site = data.draw(st.sampled_from(["resid_pre", "z", "pattern"]))
    model = make_model(**KINDS[kind], dtype=torch.float64)
    n_rows, n_pos = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5))
    given = given_to(model, n_rows, n_pos)
    n_pad = data.draw(st.lists(st.integers(0, n_pos - 1), min_size=n_rows, max_size=n_rows))
    given = with_padding(given, n_pad, data.draw(st.booleans()))
    axes = data.draw(st.sampled_from(["", "p", "h", "ph"]))
    patch = _some_patch(model, site, n_rows, n_pos, axes, data.draw(st.integers(0, 99)))
    compiled = model.compile(patch=site)
    assert_close(compiled(**given, patch=patch), _row_by_row(model, site, given, patch))


@pytest.mark.usefixtures("traced")
def test_numbers_for_all_rows(make_model: MakeModel, assert_close: AssertClose) -> None:
    model = make_model(**KINDS["gpt2"])
    tokens, value = some_tokens(), torch.rand(3, 24)
    compiled = model.compile(patch="resid_pre")
    found = compiled(tokens, patch=Patch(1, -2, value))
    again = compiled(tokens, patch=Patch(torch.ones(3, dtype=torch.int32), [3, 3, 3], value))  # type: ignore[arg-type]

    def write(x: Tensor, hook: Any) -> None:
        x[:, 3] = value

    expected = model.run_with_hooks(tokens, fwd_hooks=[("blocks.1.hook_resid_pre", write)])
    assert_close(found, expected)
    assert_close(again, expected)
    assert_close(compiled(tokens), model(tokens), "without a patch")


@pytest.mark.usefixtures("traced")
def test_what_is_recorded_is_patched_after_the_hooks(
    make_model: MakeModel, assert_close: AssertClose
) -> None:
    model = make_model(**KINDS["gpt2"])
    name, tokens, value = "blocks.1.hook_resid_pre", some_tokens(), torch.rand(3, 24)
    compiled = model.compile(
        "blocks.*.hook_resid_pre", [(name, lambda x, hook: x * 2)], patch="hook_resid_pre"
    )
    _, cache = compiled.run_with_cache(tokens, patch=Patch(1, 2, value))
    expected = model.run_with_cache(tokens)[1]["resid_pre", 1] * 2
    expected[:, 2] = value
    assert_close(cache[name], expected)


def test_with_a_compiler(make_model: MakeModel, assert_close: AssertClose) -> None:
    model = make_model(**{**KINDS["llama"], "n_layers": 2})
    compiled = model.compile(patch="z", backend="eager")
    given = given_to(model, 4)
    for seed in range(2):
        patch = _some_patch(model, "z", 4, 5, "ph", seed)
        assert_close(compiled(**given, patch=patch), _row_by_row(model, "z", given, patch))
    assert compiled.n_graphs == 1


@pytest.mark.usefixtures("traced")
def test_layers_that_do_not_run(make_model: MakeModel, assert_close: AssertClose) -> None:
    model = make_model(**KINDS["gpt2"])
    compiled, value = model.compile(patch="resid_pre"), torch.rand(3, 24)
    tokens, residual = some_tokens(), torch.rand(3, 5, 24)
    for late in (1, -1, [0, 0, 1]):
        with pytest.raises(InputError, match=r"in layers that run: \[0\]\. Received \[.*1\]"):
            compiled(tokens, stop_at_layer=1, patch=Patch(late, 0, value))  # type: ignore[arg-type]
    for early in (0, torch.tensor([1, -2, 1])):
        with pytest.raises(InputError, match=r"in layers that run: \[1\]\. Received \[0"):
            compiled(residual, start_at_layer=1, patch=Patch(early, 0, value))
    with pytest.raises(InputError, match=r"in layers that run: \[\]"):
        compiled(residual, start_at_layer=1, stop_at_layer=1, patch=Patch(1, 0, value))
    residual[:, 0] = value
    found = compiled(torch.rand(3, 5, 24), start_at_layer=1, patch=Patch(1, None, residual))
    assert_close(found, model(residual, start_at_layer=1))


@pytest.mark.usefixtures("traced")
def test_refusals(make_model: MakeModel) -> None:
    model = make_model(**KINDS["gpt2"])
    tokens, value = some_tokens(), torch.rand(3, 24)
    with pytest.raises(InputError, match="no hook is called"):
        model.compile(patch="resid")
    with pytest.raises(
        InputError, match=r"inside a block.*'z'.*Received 'blocks\.0\.attn\.hook_z'"
    ):
        model.compile(patch="blocks.0.attn.hook_z")
    with pytest.raises(InputError, match="patch must name a hook"):
        model.compile(patch=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"compiled with patch=<hook>"):
        model.compile()(tokens, patch=Patch(0, 0, value))
    compiled = model.compile(patch="resid_pre")
    wrong = [
        ((0, 0, value), "patch must be a Patch"),
        (Patch(None, 0, value), "a patch needs a layer"),  # type: ignore[arg-type]
        (Patch(0, 0, value[:2]), r"a value for each of the 3 rows. Received \(2, 24\)"),
        (Patch(0, 0, 1.0), r"a value for each of the 3 rows. Received 1.0"),  # type: ignore[arg-type]
        (Patch(0, None, value), r"must be \(3, 5, 24\) here. Received \(3, 24\)"),
        (Patch(0, 0, value[:, :-1]), r"must be \(3, 24\) here. Received \(3, 23\)"),
        (Patch(0, 0, value, 1), "has no axis for head"),
        (Patch(torch.zeros(2).long(), 0, value), "layer of a patch must be a whole number, or one"),
        (Patch(0, 0.5, value), "pos of a patch must be a whole number"),  # type: ignore[arg-type]
        (Patch(2, 0, value), r"layer of a patch must lie in -2 … 1. Received 2 … 2"),
        (Patch(0, torch.tensor([0, 5, -6]), value), r"must lie in -5 … 4. Received -6 … 5"),
    ]
    for patch, message in wrong:
        with pytest.raises(InputError, match=message):
            compiled(tokens, patch=patch)  # type: ignore[arg-type]
    assert not model.watched_hooks()[0]
