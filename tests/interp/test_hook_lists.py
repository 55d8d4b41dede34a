"""Which hooks a model has, and that no tensor of theirs is kept twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from interp import HookedTransformer
from tests.interp.kinds import (
    PLAIN,
    everything,
    some_tokens,
)
from tests.interp.restatement import SPLIT

Kind = Callable[[str], HookedTransformer]


def _transformerlens_names(model: HookedTransformer, flags_off: bool) -> set[str]:
    """What TransformerLens 3.9 lists (or, with its flags off, fires), from its source.

    Left out on purpose: `hook_mlp_in` of models without MLPs (never fires there), `hook_pos_embed`
    where no position is added. `hook_tokens`, there only with its flag, is always here.
    """
    cfg = model.cfg
    names = {"hook_embed", "unembed.hook_in", "unembed.hook_out"}
    if cfg.positional_embedding_type == "standard":
        names.add("hook_pos_embed")
    norm = ["hook_scale", "hook_normalized"] if cfg.normalization_type else []
    for i in range(cfg.n_layers):
        block = ["hook_resid_pre", "hook_attn_out", "hook_resid_post"]
        attn = ["hook_q", "hook_k", "hook_v", "hook_attn_scores", "hook_pattern", "hook_z"]
        if cfg.positional_embedding_type == "rotary":
            attn += ["hook_rot_q", "hook_rot_k"]
        block += [f"ln1.{h}" for h in norm]
        if not cfg.attn_only:
            block += ["hook_mlp_out", "mlp.hook_pre", "mlp.hook_post", *(f"ln2.{h}" for h in norm)]
            if cfg.gated_mlp:
                block.append("mlp.hook_pre_linear")
            if cfg.act_fn == "solu_ln":
                block += ["mlp.hook_mid", "mlp.ln.hook_scale", "mlp.ln.hook_normalized"]
            if not cfg.parallel_attn_mlp:
                block.append("hook_resid_mid")
        if not flags_off:
            block += SPLIT
            attn.append("hook_result")
            if not cfg.attn_only:
                block.append("hook_mlp_in")
        names |= {f"blocks.{i}.{h}" for h in block} | {f"blocks.{i}.attn.{h}" for h in attn}
    names |= {f"ln_final.{h}" for h in norm}
    return names if flags_off else names | {"hook_tokens"}


@pytest.mark.parametrize("name", PLAIN)
def test_hook_names_are_transformerlens_s(name: str, kind: Kind) -> None:
    model = kind(name)
    assert set(model.hook_dict) == _transformerlens_names(model, flags_off=False)
    assert model.default_hook_names() == _transformerlens_names(model, flags_off=True)
    _, cache = model.run_with_cache(some_tokens())
    assert set(cache.keys()) == _transformerlens_names(model, flags_off=True)


@pytest.mark.parametrize("name", PLAIN)
def test_no_tensor_is_kept_twice(name: str, kind: Kind) -> None:
    model, tokens = kind(name), some_tokens()
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=everything)

    def place(hook: str) -> int:
        return cache[hook].untyped_storage().data_ptr()

    cfg = model.cfg
    same = [("blocks.0.hook_resid_post", "blocks.1.hook_resid_pre")]
    for i in range(cfg.n_layers):
        same += [(f"blocks.{i}.hook_resid_pre", f"blocks.{i}.{h}") for h in SPLIT]
        if not cfg.attn_only:
            stream = "hook_resid_pre" if cfg.parallel_attn_mlp else "hook_resid_mid"
            same.append((f"blocks.{i}.{stream}", f"blocks.{i}.hook_mlp_in"))
        if cfg.act_fn == "solu_ln" and cfg.normalization_type != "LN":
            mlp = f"blocks.{i}.mlp"
            same.append((f"{mlp}.ln.hook_normalized", f"{mlp}.hook_post"))
    if cfg.positional_embedding_type != "standard":
        same.append(("hook_embed", "blocks.0.hook_resid_pre"))
    if cfg.normalization_type is None:
        same.append(("blocks.1.hook_resid_post", "unembed.hook_in"))
    elif cfg.normalization_type.endswith("Pre"):
        same.append(("ln_final.hook_normalized", "unembed.hook_in"))
    for one, other in same:
        assert place(one) == place(other), (one, other)

    # Every other pair is apart, and bytes count each storage once.
    groups = {hook: hook for hook in cache}
    for one, other in same:
        old, new = groups[other], groups[one]
        groups = {hook: new if group == old else group for hook, group in groups.items()}
    assert len({place(hook) for hook in cache}) == len(set(groups.values()))
    once = {place(hook): cache[hook].untyped_storage().nbytes() for hook in cache}
    assert cache.nbytes == sum(once.values())
    assert cache.nbytes < sum(t.numel() * t.element_size() for t in cache.values())
