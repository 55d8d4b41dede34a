"""Values of a wrong kind at the commonest entry points are refused by a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from interp import ActivationCache, HookedTransformer, InputError, load_model, patching

Case = Callable[[HookedTransformer, ActivationCache], object]
TOKENS = torch.tensor([[5, 3, 9]])
RESID = torch.zeros(1, 3, 64)
WRONG: dict[str, Case] = {
    "texts None": lambda m, c: m.to_tokens(None),
    "texts int": lambda m, c: m.to_tokens(3),
    "texts 0-d": lambda m, c: m.to_tokens(np.array("k d")),
    "texts dict": lambda m, c: m.to_tokens({"text": "k d"}),
    "generate None": lambda m, c: m.generate(None),
    "generate bool": lambda m, c: m.generate(TOKENS.bool()),
    "generate complex": lambda m, c: m.generate(TOKENS * 1j),
    "stop 0-d": lambda m, c: m.generate(TOKENS, max_new_tokens=1, stop=torch.tensor(1.5)),
    "string floats": lambda m, c: m.to_string([1.5]),
    "string negative": lambda m, c: m.to_string([-1]),
    "str tokens 3-d": lambda m, c: m.to_str_tokens(TOKENS[None]),
    "one of two": lambda m, c: m.to_single_str_token(TOKENS),
    "one of none": lambda m, c: m.to_single_str_token(None),
    "position": lambda m, c: m.get_token_position(5, None),
    "directions bool": lambda m, c: m.tokens_to_residual_directions(TOKENS.bool()),
    "directions outside": lambda m, c: m.tokens_to_residual_directions(10**6),
    "past": lambda m, c: m(TOKENS, past_kv_cache=[1]),
    "stop layer": lambda m, c: m(TOKENS, stop_at_layer="1"),
    "start layer": lambda m, c: m(RESID, start_at_layer=1.5),
    "start dtype": lambda m, c: m(RESID.double(), start_at_layer=0),
    "pairs": lambda m, c: m.run_with_hooks(TOKENS, fwd_hooks=[("hook_embed",)]),
    "no pairs": lambda m, c: m.run_with_hooks(TOKENS, fwd_hooks=None),
    "hook gives int": lambda m, c: m.run_with_hooks(
        TOKENS, fwd_hooks=[("hook_embed", lambda x, hook: x.long())]
    ),
    "slice": lambda m, c: c.decompose_resid(pos_slice=["a"]),
    "layer": lambda m, c: c.accumulated_resid("1"),
    "layer tensor": lambda m, c: c.accumulated_resid(torch.arange(2)),
    "key": lambda m, c: c[3],
    "no key": lambda m, c: c[()],
    "attrs numpy": lambda m, c: c.logit_attrs(RESID.numpy(), 3),
    "attrs cut": lambda m, c: c.logit_attrs(RESID[..., :-1], 3),
    "attrs rows": lambda m, c: c.logit_attrs(RESID, torch.tensor([1, 2])),
    "metric": lambda m, c: patching.LogitDiff(3, 4)(RESID.numpy()),
    "metric empty": lambda m, c: patching.LogitDiff(3, 4)(RESID[:0]),
    "clean cache": lambda m, c: patching.get_act_patch_resid_pre(
        m, TOKENS, RESID, lambda logits: logits.sum()
    ),
    "model": lambda m, c: load_model(None),
}  # fmt: skip


@pytest.fixture(scope="module")
def recorded() -> tuple[HookedTransformer, ActivationCache]:
    model = load_model("zoo:induction")
    return model, model.run_with_cache(TOKENS)[1]


@pytest.mark.parametrize("case", WRONG)
def test_is_refused(case: str, recorded: tuple[HookedTransformer, ActivationCache]) -> None:
    with pytest.raises(InputError):
        WRONG[case](*recorded)


def test_whole_numbers_of_numpy_and_torch_count_as_ints(
    recorded: tuple[HookedTransformer, ActivationCache],
) -> None:
    model, cache = recorded
    text = model.to_single_str_token(5)
    for one in (np.int64(5), torch.tensor(5), torch.tensor([5], dtype=torch.int32)):
        assert model.to_single_str_token(one) == text
    for layer in (np.int64(1), torch.tensor(1)):
        assert torch.equal(cache.accumulated_resid(layer), cache.accumulated_resid(1))
        assert torch.equal(model(TOKENS, stop_at_layer=layer), model(TOKENS, stop_at_layer=1))


def test_a_path_names_a_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no directory"):
        load_model(tmp_path / "none")
