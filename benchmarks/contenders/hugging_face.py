"""Hugging Face transformers, as it is: no hooks but PyTorch's own."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from benchmarks.contenders.base import Contenders, Job, Reading, read_logits, read_values

SDPA = "Hugging Face SDPA"
EAGER = "Hugging Face eager"
COMPILED = "Hugging Face SDPA, compiled"


class HuggingFace(Contenders):
    """GPT2LMHeadModel with fused and with spelt-out attention."""

    package = "transformers"

    @cached_property
    def eager(self) -> Any:
        """With attention spelt out, as output_attentions needs it."""
        return self.given.hugging_face("eager")

    @cached_property
    def sdpa(self) -> Any:
        """With fused attention."""
        return self.given.hugging_face("sdpa")

    def forward(self) -> dict[str, Job]:
        """Logits."""
        sdpa, eager, tokens = self.sdpa, self.eager, self.given.tokens
        found = {
            SDPA: Job(lambda: sdpa(tokens, use_cache=False).logits, read_logits),
            EAGER: Job(lambda: eager(tokens, use_cache=False).logits, read_logits),
        }
        if "forward" in self.compiled_tasks:
            fast = torch.compile(
                self.given.hugging_face("sdpa"),
                mode=self.given.compile_mode,
                backend=self.given.compile_backend,
            )
            found[COMPILED] = Job(
                lambda: fast(tokens, use_cache=False).logits, read_logits, compiles=True
            )
        return found

    def record_all(self) -> dict[str, Job]:
        """All that it offers by itself: hidden states and attentions."""
        model, tokens, n_layers = self.eager, self.given.tokens, self.given.shape.n_layers

        def read(output: Any) -> Reading:
            found = {"logits": output.logits}
            for layer in range(n_layers):
                found[f"pattern.{layer}"] = output.attentions[layer]
                if layer + 1 < n_layers:  # the last one has passed the final norm
                    found[f"resid_post.{layer}"] = output.hidden_states[layer + 1]
            return found

        def run() -> Any:
            return model(tokens, use_cache=False, output_hidden_states=True, output_attentions=True)

        return {EAGER: Job(run, read, note="hidden states and attentions only")}

    def record_pattern(self) -> dict[str, Job]:
        """It gives the patterns of all layers or none."""
        model, tokens, layer = self.eager, self.given.tokens, self.given.layer

        def run() -> Any:
            return model(tokens, use_cache=False, output_attentions=True)

        def read(output: Any) -> Reading:
            return {"logits": output.logits, "pattern": output.attentions[layer]}

        return {EAGER: Job(run, read, note="the patterns of all layers")}

    def edit(self) -> dict[str, Job]:
        """PyTorch's own hook in front of the output projection."""
        given, model = self.given, self.sdpa
        first = given.head * given.shape.d_head
        part = slice(first, first + given.shape.d_head)

        def ablate(module: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            z = args[0].clone()
            z[..., part] = 0.0
            return (z, *args[1:])

        def run() -> Tensor:
            projection = model.transformer.h[given.layer].attn.c_proj
            handle = projection.register_forward_pre_hook(ablate)
            try:
                logits: Tensor = model(given.tokens, use_cache=False).logits
            finally:
                handle.remove()
            return logits

        return {SDPA: Job(run, read_logits, note="PyTorch's forward_pre_hook")}

    def generation(self) -> dict[str, Job]:
        """Greedy, with a key/value cache."""
        given, model = self.given, self.sdpa
        ones = torch.ones_like(given.tokens)

        def run() -> Tensor:
            tokens: Tensor = model.generate(
                given.tokens,
                attention_mask=ones,
                max_new_tokens=given.new_tokens,
                do_sample=False,
                pad_token_id=0,
            )
            return tokens

        return {SDPA: Job(run, read_values)}
