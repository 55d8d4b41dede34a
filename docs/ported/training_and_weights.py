"""A model trained from a config, its gradients watched, and its weights taken apart.

Training with AdamW while hooks in the backward pass follow the gradients; attribution patching from
recorded gradients (Nanda 2023); OV and QK circuits, their singular values and eigenvalues, and the
composition of heads (Elhage et al. 2021), through FactoredMatrix.

It runs under either library:

    LIBRARY=interp python docs/ported/training_and_weights.py
    LIBRARY=transformer_lens python docs/ported/training_and_weights.py
"""

import json
import os

import torch

if os.environ.get("LIBRARY", "interp") == "transformer_lens":
    from transformer_lens import FactoredMatrix, HookedTransformer, HookedTransformerConfig
    from transformer_lens.utilities import get_act_name
else:
    from interp import FactoredMatrix, HookedTransformer, HookedTransformerConfig
    from interp.utils import get_act_name

STEPS, BATCH, LENGTH, VOCABULARY = 30, 16, 8, 20


def make_model(dtype):
    """Two layers with LayerNorm and SoLU MLPs, fresh weights from a seed."""
    cfg = HookedTransformerConfig(
        n_layers=2,
        d_model=32,
        d_head=8,
        n_heads=4,
        d_mlp=64,
        n_ctx=2 * LENGTH,
        d_vocab=VOCABULARY,
        act_fn="solu_ln",
        normalization_type="LN",
        init_weights=False,
        dtype=dtype,
        device="cpu",
    )
    model = HookedTransformer(cfg)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            kind = name.rpartition(".")[2]
            if kind.startswith("W_"):
                drawn = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
                weight.copy_(0.15 * drawn)
            else:  # biases, and weights of norms
                weight.fill_(1.0 if kind == "w" else 0.0)
    return model


def batches():
    """Sequences that come twice: the second half can be known from the first."""
    generator = torch.Generator().manual_seed(1)
    while True:
        stretch = torch.randint(VOCABULARY, (BATCH, LENGTH), generator=generator)
        yield torch.cat([stretch, stretch], 1)


def main(dtype):
    """The numbers of the run, by name."""
    model = make_model(dtype)
    data = batches()
    found = {}

    # Training, with the size of the gradients that reach each layer's residual stream.
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    losses, norms = [], []

    def watch(gradient, hook):
        norms.append(gradient.norm().item())

    def clip(gradient, hook):  # what flows back into layer 0 from layer 1, halved
        return (0.5 * gradient,)

    streams = [(get_act_name("resid_post", layer), watch) for layer in range(2)]
    model.train()
    for step, tokens in zip(range(STEPS), data, strict=False):
        bwd_hooks = [*streams, ("blocks.1.hook_resid_pre", clip)] if step < 10 else streams
        with model.hooks(bwd_hooks=bwd_hooks):
            loss = model(tokens, return_type="loss")
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    model.eval()
    found["losses"] = torch.tensor(losses, dtype=torch.float64)
    found["gradient_norms"] = torch.tensor(norms, dtype=torch.float64)

    # Attribution patching: activations and gradients of one run, differences to another.
    clean, corrupted = next(data), next(data)
    names = lambda name: name.endswith(("hook_z", "resid_pre", "hook_pattern"))
    model.zero_grad()
    _, cache = model.run_with_cache(clean, names_filter=names, incl_bwd=True, return_type="loss")
    with torch.no_grad():
        _, other = model.run_with_cache(corrupted, names_filter=names)
    for kind in ("z", "resid_pre"):
        for layer in range(2):
            name = get_act_name(kind, layer)
            effect = (other[name] - cache[name]) * cache[name + "_grad"]
            found[f"attribution_{kind}_{layer}"] = effect.flatten(2).sum((0, -1))
    pattern = get_act_name("pattern", 1)
    found["gradient_of_pattern"] = cache[pattern + "_grad"].abs().sum((0, 2, 3))
    model.reset_hooks()
    model.zero_grad()

    # Gradients of a parameter, through an edited run.
    def double(z, hook):
        return 2 * z

    loss = model.run_with_hooks(
        clean, return_type="loss", fwd_hooks=[("blocks.0.attn.hook_z", double)]
    )
    loss.backward()
    found["gradient_of_W_O"] = model.blocks[0].attn.W_O.grad.norm(dim=(1, 2))
    found["gradient_of_W_E"] = model.embed.W_E.grad.norm(dim=-1)
    model.zero_grad()

    # Circuits, never multiplied out.
    with torch.no_grad():
        ov, qk = model.OV, model.QK
        found["ov_singular_values"] = ov.svd()[1]
        found["qk_norms"] = qk.norm()
        head = FactoredMatrix(model.W_V[1, 0], model.W_O[1, 0])
        tokens_to_logits = model.W_E @ head @ model.W_U
        found["copying_eigenvalues"] = tokens_to_logits.eigenvalues.abs().sort().values
        eigenvalues = tokens_to_logits.eigenvalues
        found["copying_score"] = eigenvalues.real.sum() / eigenvalues.abs().sum()
        found["corner"] = tokens_to_logits.AB[:3, :3]
        found["diagonal_rank"] = torch.tensor(tokens_to_logits.shape)
        found["sliced"] = ov[1, 2].AB[:2, :2]
        found["transposed"] = ov[0].T.norm()
        U, S, V = head.svd()
        found["rebuilt"] = ((U * S) @ V.mT)[:2, :2]
        even = head.make_even()
        found["even"] = even.A.norm() / even.B.norm()
        found["collapsed"] = head.collapse_r().norm(dim=-1)
        found["composed"] = (ov[0] @ qk[1]).norm()
        positions = FactoredMatrix(
            model.W_pos @ model.W_Q[0, 1], (model.W_pos @ model.W_K[0, 1]).mT
        )
        found["positions_qk"] = positions.S
        for mode in ("Q", "K", "V"):
            found[f"composition_{mode}"] = model.all_composition_scores(mode)
        found["b_out_norms"] = model.b_out.norm(dim=-1)
        found["neurons_on_logits"] = (model.W_out[1] @ model.W_U).norm(dim=-1)
        found["tokens"] = model.W_E_pos.norm(dim=-1)
    return {name: value.tolist() for name, value in found.items()}


if __name__ == "__main__":
    print(json.dumps({name: main(getattr(torch, name)) for name in ("float32", "float64")}))
