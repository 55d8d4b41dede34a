"""nnsight, tracing locally (never remotely)."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from torch import Tensor

from benchmarks.contenders.base import Contenders, Job, Reading, read_logits, read_values

SDPA = "nnsight"
EAGER = "nnsight, eager attention"


class NNsight(Contenders):
    """`TransformersModel` around a model in memory; the body of a trace is run by nnsight."""

    package = "nnsight"

    def _wrap(self, attention: str) -> Any:
        from nnsight import TransformersModel  # type: ignore[import-untyped]

        return TransformersModel(
            self.given.hugging_face(attention), tokenizer=self.given.tokenizer,
            task="text-generation",
        )  # fmt: skip

    @cached_property
    def sdpa(self) -> Any:
        """Around a model with fused attention."""
        return self._wrap("sdpa")

    @cached_property
    def eager(self) -> Any:
        """Around one that gives patterns."""
        return self._wrap("eager")

    def forward(self) -> dict[str, Job]:
        """A trace that saves the logits."""
        model, tokens = self.sdpa, self.given.tokens

        def run() -> Tensor:
            with model.trace(tokens, use_cache=False):
                logits = model.output.logits.save()
            return logits  # noqa: RET504 - nnsight fills it when the trace ends

        return {SDPA: Job(run, read_logits)}

    def record_all(self) -> dict[str, Job]:
        """What modules put out: blocks, attention (with its pattern) and MLPs."""
        import nnsight

        model, tokens, n_layers = self.eager, self.given.tokens, self.given.shape.n_layers

        def run() -> dict[str, Tensor]:
            with model.trace(tokens, use_cache=False, output_attentions=True):
                kept = nnsight.save({})
                for layer in range(n_layers):
                    block = model.transformer.h[layer]
                    attn_out, pattern = block.attn.output
                    kept[f"attn_out.{layer}"] = attn_out
                    kept[f"pattern.{layer}"] = pattern
                    kept[f"mlp_out.{layer}"] = block.mlp.output
                    kept[f"resid_post.{layer}"] = block.output
                kept["logits"] = model.output.logits
            return kept

        return {
            EAGER: Job(
                run,
                lambda kept: kept,
                note="outputs of blocks, attention, MLPs, and patterns: no q, k, v, z, scores, "
                "norms or MLP neurons",
                recorded=lambda kept: kept.values(),
            )
        }

    def record_pattern(self) -> dict[str, Job]:
        """The second output of one attention module."""
        model, tokens, chosen = self.eager, self.given.tokens, self.given.layer

        def run() -> tuple[Tensor, Tensor]:
            with model.trace(tokens, use_cache=False, output_attentions=True):
                pattern = model.transformer.h[chosen].attn.output[1].save()
                logits = model.output.logits.save()
            return logits, pattern

        def read(output: tuple[Tensor, Tensor]) -> Reading:
            return {"logits": output[0], "pattern": output[1]}

        return {EAGER: Job(run, read)}

    def edit(self) -> dict[str, Job]:
        """Zeros written into what the output projection reads."""
        model, tokens, chosen = self.sdpa, self.given.tokens, self.given.layer
        first = self.given.head * self.given.shape.d_head
        part = slice(first, first + self.given.shape.d_head)

        def run() -> Tensor:
            with model.trace(tokens, use_cache=False):
                model.transformer.h[chosen].attn.c_proj.input[..., part] = 0.0
                logits = model.output.logits.save()
            return logits  # noqa: RET504 - nnsight fills it when the trace ends

        return {SDPA: Job(run, read_logits)}

    def generation(self) -> dict[str, Job]:
        """Hugging Face's generate, inside a trace."""
        model, tokens, n = self.sdpa, self.given.tokens, self.given.new_tokens

        def run() -> Tensor:
            with model.generate(
                tokens, max_new_tokens=n, do_sample=False, eos_token_id=None
            ) as tracer:
                found = tracer.result.save()
            return found  # noqa: RET504

        return {SDPA: Job(run, read_values)}
