"""TransformerLens 4: its bridge around Hugging Face's model, and its own model."""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.contenders.base import (
    Contenders,
    Job,
    Reading,
    read_blocks,
    read_logits,
    read_values,
)
from benchmarks.contenders.ours import ablation

BRIDGE = "TransformerLens bridge"
NATIVE = "TransformerLens native"
FROM_Z = "TransformerLens bridge, results made from z"
SWEEP_ON_OURS = "TransformerLens's sweep of interp's model"


class TransformerLens(Contenders):
    """Both of its kinds of model. Gradients are off for all, as in its demos."""

    package = "transformer_lens"

    @cached_property
    def bridge(self) -> Any:
        """Around Hugging Face's GPT-2."""
        return self._bridge()

    @cached_property
    def folded(self) -> Any:
        """One with its norms folded into what reads them, as its logit_attrs requires."""
        return self._folded()

    @cached_property
    def folded_with_results(self) -> Any:
        """One that makes each head's output while it runs, too."""
        bridge = self._folded()
        bridge.set_use_attn_result(True)
        return bridge

    def _folded(self) -> Any:
        bridge = self._bridge(shares_weights=False)
        # Value biases stay: folded away, they would no longer count as the heads' doing.
        bridge.enable_compatibility_mode(disable_warnings=True, fold_value_biases=False)
        return bridge

    def _bridge(self, shares_weights: bool = True) -> Any:
        from transformer_lens.model_bridge import sources

        model = self.given.hugging_face("eager", shares_weights)
        return sources.build_bridge_from_module(
            model, "GPT2LMHeadModel", hf_config=model.config, tokenizer=None
        )

    @cached_property
    def native(self) -> Any:
        """Its own Transformer, with the same numbers."""
        from transformer_lens.config import TransformerBridgeConfig
        from transformer_lens.model_bridge import sources
        from transformer_lens.model_bridge.sources.native import NativeModel

        shape = self.given.shape
        config = TransformerBridgeConfig(
            n_layers=shape.n_layers,
            d_model=shape.d_model,
            n_heads=shape.n_heads,
            d_head=shape.d_head,
            n_ctx=shape.n_ctx,
            d_vocab=shape.d_vocab,
            d_mlp=4 * shape.d_model,
            act_fn="gelu_new",
            normalization_type="LN",
            eps=1e-5,
            attention_dir="causal",
        )
        with torch.device(self.given.device):
            model = NativeModel(config).eval().to(self.given.dtype)
        _fill_native(model, self.given.weights)
        return sources.build_bridge_from_module(model, "TransformerLensNative", tl_config=config)

    @cached_property
    def ours(self) -> Any:
        """interp's model, which its sweeps take too."""
        from interp import HookedTransformer

        return HookedTransformer.from_hf(self.given.weights)

    def _both(self) -> dict[str, Any]:
        return {BRIDGE: self.bridge, NATIVE: self.native}

    def forward(self) -> dict[str, Job]:
        """Logits."""
        tokens = self.given.tokens
        return {n: Job(partial(m, tokens), read_logits) for n, m in self._both().items()}

    def record_all(self) -> dict[str, Job]:
        """`run_with_cache` with nothing said."""
        tokens, n_layers = self.given.tokens, self.given.shape.n_layers

        def read(output: Any) -> Reading:
            logits, cache = output
            return {"logits": logits, **read_blocks(cache.__getitem__, n_layers)}

        return {
            name: Job(
                partial(m.run_with_cache, tokens),
                read,
                recorded=lambda output: [output[0], *output[1].values()],
            )
            for name, m in self._both().items()
        }

    def record_pattern(self) -> dict[str, Job]:
        """`run_with_cache` with one name."""
        tokens, wanted = self.given.tokens, self.given.pattern_name()

        def read(output: Any) -> Reading:
            return {"logits": output[0], "pattern": output[1][wanted]}

        return {
            name: Job(partial(m.run_with_cache, tokens, names_filter=wanted), read)
            for name, m in self._both().items()
        }

    def edit(self) -> dict[str, Job]:
        """The same hook function as interp's."""
        tokens = self.given.tokens
        hooks = [(self.given.z_name(), ablation(self.given.head))]
        return {
            name: Job(partial(m.run_with_hooks, tokens, fwd_hooks=hooks), read_logits)
            for name, m in self._both().items()
        }

    def attribution(self, where: str) -> dict[str, Job]:
        """`stack_head_results`, then `logit_attrs`; at the last position or at all.

        Heads' outputs are recorded (`use_attn_result`), or made from z by `stack_head_results`.
        """
        given = self.given
        kept = -1 if where == "last" else None

        def job(model: Any, activation: str) -> Job:
            wanted = [f"blocks.{i}.attn.{activation}" for i in range(given.shape.n_layers)]
            wanted.append("ln_final.hook_scale")

            def run() -> Tensor:
                _, cache = model.run_with_cache(given.tokens, names_filter=wanted)
                heads = cache.stack_head_results(layer=-1, pos_slice=kept)
                values: Tensor = cache.logit_attrs(
                    heads, given.right, incorrect_tokens=given.wrong, pos_slice=kept
                )
                return values.unsqueeze(-1) if where == "last" else values

            return Job(run, read_values)

        return {
            BRIDGE: job(self.folded_with_results, "hook_result"),
            FROM_Z: job(self.folded, "hook_z"),
        }

    def sweep(self, name: str) -> dict[str, Job]:
        """One forward pass for every patch; of its bridge, and of interp's model."""
        from transformer_lens import patching

        given = self.given
        helper = getattr(patching, f"get_act_patch_{name}")
        found = {}
        for label, model in ((BRIDGE, self.bridge), (SWEEP_ON_OURS, self.ours)):
            _, source = model.run_with_cache(given.other_tokens)
            found[label] = Job(
                partial(helper, model, given.tokens, source, given.logit_difference),
                read_values,
            )
        return found

    def attribution_patching(self) -> dict[str, Job]:
        """As its demo does: caches of activations and of gradients, then their product.

        Hooks fill the caches, at heads' outputs alone; the demo's fill them at every hook.
        """
        given = self.given
        names = [f"blocks.{i}.attn.hook_z" for i in range(given.shape.n_layers)]

        def job(model: Any) -> Job:
            _, source = model.run_with_cache(given.other_tokens, names_filter=names)

            def run() -> Tensor:
                cache: dict[str, Tensor] = {}
                gradients: dict[str, Tensor] = {}

                def keep(x: Tensor, hook: Any, where: dict[str, Tensor], name: str) -> None:
                    where[name] = x.detach()

                def hooks(where: dict[str, Tensor]) -> list[Any]:
                    # A bridge calls its hooks by other names than those asked for.
                    return [(name, partial(keep, where=where, name=name)) for name in names]

                with (
                    torch.enable_grad(),
                    model.hooks(fwd_hooks=hooks(cache), bwd_hooks=hooks(gradients)),
                ):
                    given.logit_difference(model(given.tokens)).backward()
                model.zero_grad()
                changes = torch.stack([source[n] - cache[n] for n in names])
                by_head = changes * torch.stack([gradients[n] for n in names])
                # [layer, batch, pos, head, d_head]: the metric is a mean over prompts.
                return by_head.sum((1, -1))

            return Job(run, read_values)

        return {name: job(model) for name, model in self._both().items()}

    def generation(self) -> dict[str, Job]:
        """Greedy."""
        given, model = self.given, self.bridge

        def run() -> Tensor:
            tokens: Tensor = model.generate(
                given.tokens,
                max_new_tokens=given.new_tokens,
                do_sample=False,
                stop_at_eos=False,
                return_type="tokens",
                verbose=False,
            )
            return tokens

        return {BRIDGE: Job(run, read_values)}


@torch.no_grad()
def _fill_native(model: Any, gpt2: Any) -> None:
    """Copy GPT-2's weights, which hold q, k and v in one and are transposed."""
    theirs = gpt2.transformer
    model.tok_embed.weight.copy_(theirs.wte.weight)
    model.pos.weight.copy_(theirs.wpe.weight)
    for ours, block in zip(model.layers, theirs.h, strict=True):
        ours.ln1.load_state_dict(block.ln_1.state_dict())
        ours.ln2.load_state_dict(block.ln_2.state_dict())
        attn, joint = ours.attn, block.attn.c_attn
        parts = zip(
            (attn.q, attn.k, attn.v), joint.weight.chunk(3, 1), joint.bias.chunk(3), strict=True
        )
        for linear, weight, bias in parts:
            linear.weight.copy_(weight.T)
            linear.bias.copy_(bias)
        for linear, projection in (
            (attn.o, block.attn.c_proj),
            (ours.mlp.fc_in, block.mlp.c_fc),
            (ours.mlp.fc_out, block.mlp.c_proj),
        ):
            linear.weight.copy_(projection.weight.T)
            linear.bias.copy_(projection.bias)
    model.ln_out.load_state_dict(theirs.ln_f.state_dict())
    model.head.weight.copy_(gpt2.lm_head.weight)
