"""Induction heads: found by their attention, switched off, and traced to what feeds them.

A random sequence that comes twice; the loss by position; a score for every head by a hook; each
head ablated; and one composition cut: what the first layer tells the second's keys (Olsson et al.
2022). The model is the one that ships with interp: its weights are an ordinary safetensors file
under TransformerLens's names.

It runs under either library:

    LIBRARY=interp python docs/ported/induction_heads.py
    LIBRARY=transformer_lens python docs/ported/induction_heads.py
"""

import json
import os
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file

if os.environ.get("LIBRARY", "interp") == "transformer_lens":
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens.utilities import lm_accuracy, to_numpy
else:
    from interp import HookedTransformer, HookedTransformerConfig
    from interp.utils import lm_accuracy, to_numpy

WEIGHTS = Path(__file__).parents[2] / "interp" / "zoo" / "weights" / "induction"
LENGTH, BATCH = 20, 6


def make_model(dtype):
    """zoo:induction: two layers of attention, no norm, no MLP."""
    cfg = HookedTransformerConfig(
        n_layers=2,
        d_model=64,
        d_head=16,
        n_heads=4,
        n_ctx=64,
        d_vocab=64,
        attn_only=True,
        normalization_type=None,
        use_attn_scale=False,
        init_weights=False,
        dtype=dtype,
        device="cpu",
    )
    model = HookedTransformer(cfg)
    weights = load_file(WEIGHTS / "model.safetensors")
    model.load_state_dict({k: w.to(dtype) for k, w in weights.items()}, strict=False)
    return model.eval()


def repeated_tokens():
    """BOS, a stretch of distinct symbols, and the stretch again: `[batch, 1 + 2 * LENGTH]`."""
    generator = torch.Generator().manual_seed(0)
    rows = [1 + torch.randperm(63, generator=generator)[:LENGTH] for _ in range(BATCH)]
    stretch = torch.stack(rows)
    return torch.cat([torch.zeros(BATCH, 1, dtype=torch.long), stretch, stretch], 1)


@torch.no_grad()
def main(dtype):
    """The numbers of the analysis, by name."""
    model = make_model(dtype)
    tokens = repeated_tokens()
    found = {}

    # In the second half everything can be known.
    by_position = model(tokens, return_type="loss", loss_per_token=True)
    found["loss_by_position"] = by_position.mean(0)
    logits, loss = model(tokens, return_type="both")
    found["loss"] = loss
    found["accuracy_in_repeat"] = lm_accuracy(logits[:, LENGTH + 1 :], tokens[:, LENGTH + 1 :])

    # Scores of all heads in one run, kept by hooks, nothing else stored.
    scores = {
        kind: torch.zeros(model.cfg.n_layers, model.cfg.n_heads, dtype=dtype)
        for kind in ("induction", "previous", "duplicate")
    }
    offsets = {"induction": 1 - LENGTH, "previous": -1, "duplicate": -LENGTH}

    def score(pattern, hook):  # [batch, head, pos, key_pos]
        for kind, offset in offsets.items():
            stripe = pattern.diagonal(dim1=-2, dim2=-1, offset=offset)
            scores[kind][hook.layer()] = stripe.mean(-1).mean(0)

    is_pattern = lambda name: name.endswith("hook_pattern")
    model.run_with_hooks(tokens, return_type=None, fwd_hooks=[(is_pattern, score)])
    found |= {f"{kind}_scores": value for kind, value in scores.items()}

    # What each head is worth: its output set to zero, then to its mean.
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("hook_z"))

    def zero(z, hook, head):
        z[:, :, head] = 0.0
        return z

    def mean(z, hook, head):
        z[:, :, head] = cache[hook.name][:, :, head].mean((0, 1))
        return z

    repeat = slice(LENGTH + 1, None)
    for name, ablate in {"zero": zero, "mean": mean}.items():
        losses = torch.zeros(model.cfg.n_layers, model.cfg.n_heads, dtype=dtype)
        for layer in range(model.cfg.n_layers):
            for head in range(model.cfg.n_heads):
                edited = model.run_with_hooks(
                    tokens,
                    return_type="loss",
                    loss_per_token=True,
                    fwd_hooks=[(f"blocks.{layer}.attn.hook_z", partial(ablate, head=head))],
                )
                losses[layer, head] = edited[:, repeat].mean()
        found[f"loss_in_repeat_{name}_ablated"] = losses

    # K-composition: the second layer's keys without one head of the first.
    def without(keys, hook, head):
        z = cache["z", 0][:, :, head]
        written = z @ model.W_O[0, head]
        return keys - torch.einsum("bpd,hdk->bphk", written, model.W_K[1])

    cut = torch.zeros(model.cfg.n_heads, dtype=dtype)
    for head in range(model.cfg.n_heads):
        with model.hooks(fwd_hooks=[("blocks.1.attn.hook_k", partial(without, head=head))]):
            cut[head] = model(tokens, return_type="loss", loss_per_token=True)[:, repeat].mean()
    found["loss_in_repeat_keys_without"] = cut

    # Hooks that stay until they are taken away, and a context between two of them.
    def remember(pattern, hook):
        hook.ctx["pattern"] = pattern

    def forget_the_first(pattern, hook):
        before = model.hook_dict["blocks.0.attn.hook_pattern"].ctx["pattern"]
        return 0.5 * pattern + 0.5 * before

    model.add_hook("blocks.0.attn.hook_pattern", remember)
    model.add_hook("blocks.1.attn.hook_pattern", forget_the_first)
    found["loss_with_mixed_patterns"] = model(tokens, return_type="loss")
    model.reset_hooks()
    found["loss_after_reset"] = model(tokens, return_type="loss")

    # A run in two parts: from the residual stream that block 1 reads.
    resid = model(tokens, stop_at_layer=1)
    found["logits_from_layer_1"] = model(resid, start_at_layer=1)[:, -1, :8]
    continued = model.generate(
        tokens[:1, : LENGTH + 5],
        max_new_tokens=8,
        do_sample=False,
        stop_at_eos=False,
        verbose=False,
    )
    found["continued"] = continued
    return {name: to_numpy(value).tolist() for name, value in found.items()}


if __name__ == "__main__":
    print(json.dumps({name: main(getattr(torch, name)) for name in ("float32", "float64")}))
