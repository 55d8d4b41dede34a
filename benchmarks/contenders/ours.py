"""interp's ways to do the tasks."""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any

from torch import Tensor

from benchmarks.contenders.base import (
    Contenders,
    Job,
    Reading,
    read_blocks,
    read_logits,
    read_values,
)
from benchmarks.contenders.plain_torch import SIMPLE, random_heads

OURS = "interp"
COMPILED = "interp, compiled"
REUSED = "interp, compiled, outputs written over by the next run"


def ablation(head: int) -> Any:
    """A hook that sets one head's output to zero."""

    def ablate(z: Tensor, hook: Any) -> Tensor:
        z[:, :, head] = 0.0
        return z

    return ablate


class Interp(Contenders):
    """interp, eager and compiled."""

    package = "interp"

    @cached_property
    def model(self) -> Any:
        """With the given weights."""
        from interp import HookedTransformer

        return HookedTransformer.from_hf(self.given.weights)

    def forward(self) -> dict[str, Job]:
        """Logits, with nothing watched."""
        model, tokens = self.model, self.given.tokens
        found = {OURS: Job(lambda: model(tokens), read_logits)}
        for label, options in self._compiled("forward"):
            fast = model.compile(**options)
            found[label] = Job(partial(fast, tokens), read_logits, compiles=True)
        return found

    def record_all(self) -> dict[str, Job]:
        """What `run_with_cache` records when nothing is said."""
        model, tokens = self.model, self.given.tokens
        found = {OURS: self._recording(lambda: model.run_with_cache(tokens))}
        for label, options in self._compiled("record_all"):
            fast = model.compile(names_filter=None, **options)
            found[label] = self._recording(partial(fast.run_with_cache, tokens), compiles=True)
        return found

    def _compiled(self, task: str) -> list[tuple[str, dict[str, Any]]]:
        """Contender → options of `model.compile`, where the task has compiled contenders."""
        if task not in self.compiled_tasks:
            return []
        mode = self.given.compile_mode
        plain = {"mode": mode, "backend": self.given.compile_backend}
        found: list[tuple[str, dict[str, Any]]] = [(COMPILED, dict(plain))]
        if mode in ("reduce-overhead", "max-autotune"):
            found.append((REUSED, {**plain, "reuse_outputs": True}))
        return found

    def _recording(self, run: Any, compiles: bool = False) -> Job:
        n_layers = self.given.shape.n_layers

        def read(output: Any) -> Reading:
            logits, cache = output
            return {"logits": logits, **read_blocks(cache.__getitem__, n_layers)}

        return Job(
            run,
            read,
            recorded=lambda output: [output[0], *output[1].values()],
            compiles=compiles,
        )

    def record_pattern(self) -> dict[str, Job]:
        """Logits and the pattern of one layer."""
        model, tokens, name = self.model, self.given.tokens, self.given.pattern_name()

        def read(output: Any) -> Reading:
            return {"logits": output[0], "pattern": output[1][name]}

        found = {OURS: Job(lambda: model.run_with_cache(tokens, names_filter=name), read)}
        for label, options in self._compiled("record_pattern"):
            fast = model.compile(names_filter=name, **options)
            found[label] = Job(partial(fast.run_with_cache, tokens), read, compiles=True)
        return found

    def edit(self) -> dict[str, Job]:
        """Logits with one head's output set to zero."""
        hooks = [(self.given.z_name(), ablation(self.given.head))]
        model, tokens = self.model, self.given.tokens
        found = {OURS: Job(lambda: model.run_with_hooks(tokens, fwd_hooks=hooks), read_logits)}
        for label, options in self._compiled("edit"):
            fast = model.compile(fwd_hooks=hooks, **options)
            found[label] = Job(partial(fast, tokens), read_logits, compiles=True)
        return found

    def attribution(self, where: str) -> dict[str, Job]:
        """Each head's share in a logit difference, at the last position or at all."""
        from interp.attribution.direct import direct_logit_attribution, hooks_needed

        given, model = self.given, self.model
        names = hooks_needed(model)
        n_layers, n_heads = given.shape.n_layers, given.shape.n_heads
        kept = -1 if where == "last" else None

        def run() -> Tensor:
            _, cache = model.run_with_cache(
                given.tokens, return_type=None, names_filter=names, pos_slice=kept
            )
            found = direct_logit_attribution(model, cache, given.right, given.wrong)
            heads: Tensor = found.heads(n_layers, n_heads)
            return heads.flatten(0, 1)

        return {OURS: Job(run, read_values, note="embeddings and MLPs attributed too")}

    def sweep(self, name: str) -> dict[str, Job]:
        """A patch sweep by TransformerLens's name."""
        from interp import patching

        given, model = self.given, self.model
        metric = patching.LogitDiff(given.right, given.wrong)
        helper = getattr(patching, f"get_act_patch_{name}")
        _, source = model.run_with_cache(given.other_tokens)
        return {OURS: Job(lambda: helper(model, given.tokens, source, metric), read_values)}

    def attribution_patching(self) -> dict[str, Job]:
        """First-order estimates for every head at every position, from another prompt's cache."""
        from interp import patching
        from interp.attribution import estimate

        given, model = self.given, self.model
        metric = patching.LogitDiff(given.right, given.wrong)
        _, source = model.run_with_cache(given.other_tokens)

        def run() -> Tensor:
            # The clean run's activations are there, as they are in all contenders.
            return estimate(model, given.tokens, source, "z", metric).mean()

        return {OURS: Job(run, read_values)}

    def pattern_statistics(self, which: str) -> dict[str, Job]:
        """Of random queries and keys: all statistics, or those that fused attention gives too."""
        from interp.kernels import pattern_statistics

        q, k, tokens = random_heads(self.given)
        asked = {"tokens": tokens} if which == "all" else {"statistics": SIMPLE}

        def run() -> Any:
            return pattern_statistics(q, k, **asked)

        # Of equal shares any may be called the top source.
        return {OURS: Job(run, lambda found: {n: found[n] for n in found if n != "top_source"})}

    def generation(self) -> dict[str, Job]:
        """New tokens, greedily."""
        given, model = self.given, self.model

        def run() -> Tensor:
            tokens: Tensor = model.generate(
                given.tokens,
                max_new_tokens=given.new_tokens,
                do_sample=False,
                stop_at_eos=False,
                return_type="tokens",
            )
            return tokens

        return {OURS: Job(run, read_values)}
