"""Which parts of a model tell two answers apart: the field's first notebook, as one script.

Logit differences, the logit lens, direct attribution to layers, heads and neurons, attention
patterns, and activation patching of residual streams, heads and patterns, on pairs of prompts of
which each is the other's corruption (as in Wang et al. 2022, the indirect object).

It runs under either library:

    LIBRARY=interp python docs/ported/exploratory_analysis.py
    LIBRARY=transformer_lens python docs/ported/exploratory_analysis.py

The weights come from a seed, so that nothing has to be downloaded: the numbers mean nothing by
themselves. What they show is that they are the same. On a trained model only `make_model` and
`make_prompts` change.
"""

import json
import os
from functools import partial

import einops
import torch

if os.environ.get("LIBRARY", "interp") == "transformer_lens":
    import transformer_lens.utilities as utils
    from transformer_lens import (
        ActivationCache,
        HookedTransformer,
        HookedTransformerConfig,
        patching,
    )
else:
    from interp import ActivationCache, HookedTransformer, HookedTransformerConfig, patching, utils

N_PROMPTS, N_POS = 4, 9


def make_model(dtype):
    """Four layers of GPT-2's shape behind folded norms, every weight and bias from a seed."""
    cfg = HookedTransformerConfig(
        n_layers=4,
        d_model=32,
        d_head=8,
        n_heads=4,
        d_mlp=64,
        n_ctx=16,
        d_vocab=50,
        act_fn="gelu_new",
        normalization_type="LNPre",
        init_weights=False,
        dtype=dtype,
        device="cpu",
    )
    model = HookedTransformer(cfg)
    generator = torch.Generator().manual_seed(0)
    state = model.state_dict()
    for name in sorted(state):
        if not name.endswith(("mask", "IGNORE")):  # buffers of TransformerLens
            drawn = torch.randn(state[name].shape, generator=generator, dtype=torch.float64)
            state[name] = (0.2 * drawn).to(dtype)
    model.load_state_dict(state)
    return model.eval()


def make_prompts():
    """Prompts in pairs that differ in one token, and their answers `[batch, 2]`: right, wrong."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, 50, (N_PROMPTS, N_POS), generator=generator)
    tokens[:, 0] = 0
    tokens[1::2] = tokens[::2]
    tokens[1::2, 4] = torch.randint(1, 50, (N_PROMPTS // 2,), generator=generator)
    answers = torch.randint(1, 50, (N_PROMPTS // 2, 2), generator=generator)
    answers = torch.stack([answers, answers.flip(-1)], 1).reshape(N_PROMPTS, 2)
    return tokens, answers


def logit_difference(logits, answers, per_prompt=False):
    """Right less wrong at the last position."""
    found = logits[:, -1].gather(-1, answers)
    found = found[:, 0] - found[:, 1]
    return found if per_prompt else found.mean()


def replace_position(activation, hook, pos, clean_cache):
    """What the clean run had at one position."""
    activation[:, pos] = clean_cache[hook.name][:, pos]
    return activation


def replace_head(activation, hook, head, clean_cache):
    """What the clean run had in one head, at all positions."""
    activation[:, :, head] = clean_cache[hook.name][:, :, head]
    return activation


@torch.no_grad()
def main(dtype):
    """The numbers of the analysis, by name."""
    model = make_model(dtype)
    clean, answers = make_prompts()
    corrupted = clean[[1, 0, 3, 2]]  # each prompt's partner
    found = {}

    logits, cache = model.run_with_cache(clean)
    corrupted_logits, _ = model.run_with_cache(corrupted)
    found["logit_difference"] = logit_difference(logits, answers, per_prompt=True)
    found["corrupted_logit_difference"] = logit_difference(corrupted_logits, answers)
    found["loss"] = model(clean, return_type="loss")

    # Direct attribution: the final residual stream on the direction that tells the answers apart.
    directions = model.tokens_to_residual_directions(answers)  # [batch, 2, d_model]
    direction = directions[:, 0] - directions[:, 1]

    def to_logit_difference(stack):
        scaled = cache.apply_ln_to_stack(stack, layer=-1, pos_slice=-1)
        return einops.einsum(scaled, direction, "... batch d, batch d -> ...") / N_PROMPTS

    lens, labels = cache.accumulated_resid(-1, incl_mid=True, pos_slice=-1, return_labels=True)
    found["logit_lens"] = to_logit_difference(lens)
    found["n_labels"] = torch.tensor(len(labels))
    by_layer, _ = cache.decompose_resid(layer=-1, pos_slice=-1, return_labels=True)
    found["by_layer"] = to_logit_difference(by_layer)
    heads = cache.stack_head_results(layer=-1, pos_slice=-1)
    by_head = to_logit_difference(heads)
    found["by_head"] = einops.rearrange(by_head, "(layer head) -> layer head", layer=4)
    found["by_head_with_logit_attrs"] = cache.logit_attrs(
        heads, answers[:, 0], incorrect_tokens=answers[:, 1], pos_slice=-1
    ).mean(-1)
    neurons, names = cache.stack_neuron_results(layer=-1, pos_slice=-1, return_labels=True)
    found["neurons"] = to_logit_difference(neurons).reshape(4, -1)[:, :8]
    found["n_neurons"] = torch.tensor(len(names))
    full = cache.get_full_resid_decomposition(
        layer=-1, expand_neurons=False, pos_slice=-1, apply_ln=True
    )
    found["full_decomposition"] = full.norm(dim=-1).mean(-1)

    # Where the strongest head of the last layer looks, and how much its values weigh.
    head = int(found["by_head"][-1].abs().argmax())
    pattern = cache["pattern", 3][:, head]
    found["pattern"] = pattern.mean(0)
    values = cache["v", 3][:, :, head] @ model.W_O[3, head]
    found["value_weighted_pattern"] = (pattern * values.norm(dim=-1)[:, None]).mean(0)
    found["scale"] = cache["scale", 2, "ln2"].squeeze(-1)
    found["resid_stack"] = cache.stack_activation("resid_pre").norm(dim=-1).mean(1)

    # Activation patching by hand: one run for each place.
    def metric(logits):
        return logit_difference(logits, answers)

    patched = torch.zeros(model.cfg.n_layers, N_POS, dtype=dtype)
    for layer in range(model.cfg.n_layers):
        for pos in range(N_POS):
            hook = partial(replace_position, pos=pos, clean_cache=cache)
            edited = model.run_with_hooks(
                corrupted, fwd_hooks=[(utils.get_act_name("resid_pre", layer), hook)]
            )
            patched[layer, pos] = metric(edited)
    found["patched_resid_pre"] = patched
    patched = torch.zeros(model.cfg.n_layers, model.cfg.n_heads, dtype=dtype)
    for layer in range(model.cfg.n_layers):
        for head in range(model.cfg.n_heads):
            hook = partial(replace_head, head=head, clean_cache=cache)
            name = utils.get_act_name("z", layer, "attn")
            patched[layer, head] = metric(
                model.run_with_hooks(corrupted, fwd_hooks=[(name, hook)], return_type="logits")
            )
    found["patched_z"] = patched

    # The same and more through the helpers.
    every = patching.get_act_patch_block_every(model, corrupted, cache, metric)
    found["helper_block_every"] = every
    every = patching.get_act_patch_attn_head_all_pos_every(model, corrupted, cache, metric)
    found["helper_head_every"] = every
    by_pos = patching.get_act_patch_attn_head_out_by_pos(model, corrupted, cache, metric)
    found["helper_head_by_pos"] = by_pos

    # A cache that was filled by hooks, kept in part.
    names = [utils.get_act_name("resid_post", layer) for layer in range(4)]
    kept, hooks, _ = model.get_caching_hooks(lambda name: name in names)
    model.run_with_hooks(corrupted, fwd_hooks=hooks, return_type=None)
    kept = ActivationCache(kept, model)
    found["kept_in_part"] = kept["resid_post", -1].norm(dim=-1)
    _, last = model.run_with_cache(clean, names_filter=names, pos_slice=-1)
    found["last_position"] = last["resid_post", 0].norm(dim=-1)
    return {name: value.tolist() for name, value in found.items()}


if __name__ == "__main__":
    print(json.dumps({name: main(getattr(torch, name)) for name in ("float32", "float64")}))
