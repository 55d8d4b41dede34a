"""Any setter over any indices, against TransformerLens's loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from torch import Tensor

from interp import HookedTransformer, InputError, patching
from tests.covering import covering
from tests.interp.kinds import some_tokens

Check = Callable[..., None]
Kind = Callable[[str], HookedTransformer]
Run = tuple[HookedTransformer, Tensor, Any]


@pytest.fixture(scope="module")
def lens() -> Any:
    return pytest.importorskip("transformer_lens.patching", reason="needs the extra 'lens'")


@pytest.fixture
def run(kind: Kind) -> Run:
    model = kind("gpt2")
    return model, some_tokens(), model.run_with_cache(some_tokens(seed=7))[1]


def last_logits(logits: Tensor) -> Tensor:
    return (logits[:, -1, 3] - logits[:, -1, 5]).mean()


def halves_the_rest(x: Tensor, index: Any, clean: Tensor) -> Tensor:
    """Changes the positions from one on, in place."""
    x[:, index[1] :] = (x[:, index[1] :] + clean[:, index[1] :]) / 2
    return x


def puts_back(x: Tensor, index: Any, clean: Tensor) -> Tensor:
    """Returns another tensor, which is the base's where the index is odd."""
    return x.clone() if index[1] % 2 else clean


@pytest.mark.parametrize(
    ("name", "setter", "max_bytes"),
    covering(
        ("resid_pre", "z", "mlp_out", "q", "pattern", "resid_post"),
        (halves_the_rest, puts_back),
        (None, 2000),
    ),
)
def test_setters_of_ones_own(
    setter: Any,
    name: str,
    max_bytes: int | None,
    run: Run,
    lens: Any,
    assert_close: Check,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if max_bytes is not None:
        monkeypatch.setattr("interp.patching.sweeps.default_budget", lambda device: max_bytes)
    axes = ("layer", "pos") if name != "pattern" else ("layer", "head_index")
    given = (*run, last_logits, setter, name, axes)
    expected = lens.generic_activation_patch(*given)
    found = patching.generic_activation_patch(*given)
    assert_close(found.float(), expected, f"{setter} {name}", 1e-6)


def test_a_table_of_indices(run: Run, lens: Any, assert_close: Check) -> None:
    table = pd.DataFrame([[1, 3, 0], [0, -1, 2], [1, 3, 1]], columns=["layer", "pos", "head"])
    setter = patching.layer_pos_head_vector_patch_setter
    found = patching.generic_activation_patch(
        *run, last_logits, setter, "z", index_df=table, return_index_df=True
    )
    expected = lens.generic_activation_patch(*run, last_logits, setter, "z", index_df=table)
    assert_close(found[0].float(), expected, "table", 1e-6)
    assert found[1] is table


@pytest.mark.parametrize("setter", [patching.layer_pos_patch_setter, halves_the_rest])
def test_a_negative_layer_counts_from_the_last(setter: Any, run: Run) -> None:
    tables = [pd.DataFrame([[layer, 3], [0, 1]], columns=["layer", "pos"]) for layer in (-1, 1)]
    found = [
        patching.generic_activation_patch(*run, last_logits, setter, "mlp_out", index_df=table)
        for table in tables
    ]
    assert isinstance(found[0], Tensor) and found[0].tolist() == found[1].tolist()


def test_the_table_of_axes(run: Run, lens: Any) -> None:
    setter = patching.layer_head_pos_pattern_patch_setter
    given = (*run, last_logits, setter, "pattern", ("layer", "head_index", "dest_pos"), None, True)
    _, found = patching.generic_activation_patch(*given)
    _, expected = lens.generic_activation_patch(*given)
    pd.testing.assert_frame_equal(found, expected)


def test_errors(run: Run) -> None:
    setter = patching.layer_pos_patch_setter

    def refused(match: str, *given: Any, tokens: Tensor = run[1], clean: Any = run[2]) -> None:
        with pytest.raises(InputError, match=match):
            patching.generic_activation_patch(run[0], tokens, clean, *given)

    axes = ("layer", "pos")
    refused("either index_axis_names or index_df", last_logits, setter, "z")
    refused("must be of", last_logits, lambda x, i, c: x, "z", ("layer", "place"))
    refused("takes an index of layer, pos", last_logits, setter, "z", ("layer", "place"))
    refused("must hold blocks.0.hook_resid_pre", last_logits, setter, "resid_pre", axes, clean={})
    refused("no hook is called", last_logits, setter, "resid", axes)
    refused("takes an index of layer, pos", last_logits, setter, "z", ("layer", "pos", "head"))
    refused("one number", lambda x: x[:, -1, 0], setter, "resid_pre", axes)
    refused("must return a tensor", last_logits, lambda x, i, c: None, "resid_pre", axes)
    refused("must return a tensor", last_logits, lambda x, i, c: x[:, :2], "resid_pre", axes)
    heads = patching.layer_pos_head_vector_patch_setter
    swapped = ("layer", "head", "pos")
    refused("takes an index of layer, pos, head", last_logits, heads, "z", swapped)
    for numbers in ([[0.0, 1.0]], [[0, 0.5]], [[True, False]], [["0", "1"]]):
        table = pd.DataFrame(numbers, columns=["layer", "pos"])
        refused("must hold whole numbers", last_logits, setter, "resid_pre", None, table)
    table = pd.DataFrame([[2, 0]], columns=["layer", "pos"])
    refused("layer must lie in -2 … 1. Received 2", last_logits, setter, "resid_pre", None, table)
    table = pd.DataFrame([[0, 5]], columns=["layer", "pos"])
    refused("pos must lie in -5 … 4. Received 5", last_logits, setter, "resid_pre", None, table)
    with pytest.raises(TypeError):
        patching.generic_activation_patch(*run, last_logits, setter, "z", axes, reduce="mean")  # type: ignore[call-arg]
