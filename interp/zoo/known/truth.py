"""What is known of a model by construction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.zoo.known.words import make_tokenizer

if TYPE_CHECKING:
    from interp.patching.metrics import LogitDiff
    from interp.transformer import HookedTransformer

Labels = frozenset[Any]
"""Labels of heads and MLPs, or of edges; for `joint_ablation`, sets of labels."""


@dataclass(frozen=True, eq=False)
class KnownModel:
    """A model whose weights were written by hand, with the truth about it.

    Every number here follows from the constants of the construction by a formula; none was read off
    a run of the model. Nodes are called `embed`, `pos_embed`, `L0H1`, `L0MLP` and `logits`, edges
    `L0H0->L1H1.k`, `L0H0->L1MLP`, `L1H1->logits`.

    The metric is the logit of `right` minus that of `wrong` at `position`. An effect is normalised:
    its mean over the batch, divided by the mean of `clean_value - corrupted_value`. Methods find
    what has an effect of more than `threshold` in absolute value.

    What `expected` may hold (only where a method's definition predicts something definite):

    - `direct`: components with a direct effect on the logit difference of the clean prompts.
    - `ablation`: heads and MLPs whose output, set to zero or to its mean over `reference`, changes
      the metric on the clean prompts. Each alone.
    - `joint_ablation`: sets which have an effect together, while no member has one alone.
    - `activation_patching`: heads and MLPs whose clean output at all positions, put into the
      corrupted run, changes the metric.
    - `attribution_patching`: the same to first order, with gradients of the corrupted run;
      `attribution_patching_noise`: corrupted outputs put into the clean run, with gradients of it.
    - `atp_star`: heads, MLPs, and heads' queries, keys and values (`L1H1.q`), that AtP* finds on
      the corrupted run, with the QK fix, and with GradDrop where there are two layers or more.
    - `eap`, `eap_ig`: edges that edge attribution patching finds with gradients of the corrupted
      run, and with gradients along the straight line between the two prompts' embeddings.
    - `path_patching`: edges that matter when each alone is patched, exactly.
    - `circuit_search`: edges that greedy search (ACDC) keeps in the clean run, with a threshold of
      a hundredth of the span, where edges that are cut carry what they do in the corrupted run.
    - `induction_heads`, `previous_token_heads`, `current_token_heads`, `first_token_heads`,
      `duplicate_token_heads`: heads that attend so on prompts of random tokens.
    - `copying_heads`: heads that make the token which they read more likely.
    - `k_composition`: the pairs (earlier head, later head) of which the later one's keys are made
      from what the earlier one writes; `q_composition` and `v_composition` likewise.

    Attributes:
        name: As in `known.induction`; the model's `cfg.model_name` is `known:induction`.
        description: The mechanism in a sentence or two.
        model: The model, in eval mode; without tokenizer until `give_tokenizer`.
        clean, corrupted: Tokens, `[batch, pos]`.
        right, wrong: Tokens, `[batch]`.
        position: Where the logits are read, counted from 0.
        clean_value, corrupted_value: The metric, `[batch]`.
        logits: What the model says of the clean prompts at `position`, `[batch, d_vocab]`.
        direct: What each component adds to the clean prompts' metric directly, `[batch]`;
            components that are not named add exactly nothing.
        patterns: Where (head, destination) looks in the clean prompts, `[batch, key_pos]`.
        heads: Every head's role.
        mlps: Every MLP's role.
        edges: The circuit: the edges that have an effect when they alone are patched.
        fixed_edges: Edges of the mechanism that carry the same for both prompts, such as positions:
            no patch from one to the other sees them, though zero ablation does.
        silent_edges: Edges of the mechanism that carry nothing on these prompts unless something
            else is broken first.
        expected: What each method finds; see above.
        words: A word for each token.
        threshold: Normalised effects up to this count as none.
        reference: Prompts to take means over, `[prompt, pos]`.
    """

    name: str
    description: str
    model: HookedTransformer
    clean: Int[Tensor, "batch pos"]
    corrupted: Int[Tensor, "batch pos"]
    right: Int[Tensor, "batch"]
    wrong: Int[Tensor, "batch"]
    position: int
    clean_value: Float[Tensor, "batch"]
    corrupted_value: Float[Tensor, "batch"]
    logits: Float[Tensor, "batch d_vocab"]
    direct: Mapping[str, Float[Tensor, "batch"]]
    patterns: Mapping[tuple[str, int], Float[Tensor, "batch key_pos"]]
    heads: Mapping[str, str]
    edges: frozenset[str]
    expected: Mapping[str, Labels]
    words: tuple[str, ...]
    reference: Int[Tensor, "prompt pos"]
    threshold: float = 1e-6
    mlps: Mapping[str, str] = field(default_factory=dict)
    fixed_edges: frozenset[str] = frozenset()
    silent_edges: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        # Truths are written on the CPU; they are compared with what the model gives where it is.
        device = self.model.cfg.torch_device
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                object.__setattr__(self, name, value.to(device))
        for name in ("direct", "patterns"):
            moved = {key: value.to(device) for key, value in getattr(self, name).items()}
            object.__setattr__(self, name, moved)

    @property
    def metric(self) -> LogitDiff:
        """The logit difference, as sweeps take it."""
        from interp.patching.metrics import LogitDiff

        return LogitDiff(self.right, self.wrong, pos=self.position)

    @property
    def span(self) -> Float[Tensor, ""]:
        """The mean of clean_value - corrupted_value, which effects are divided by."""
        return (self.clean_value - self.corrupted_value).mean()

    @property
    def texts(self) -> list[str]:
        """The clean prompts in words."""
        return [" ".join(self.words[token] for token in row) for row in self.clean.tolist()]

    def as_pairs(self) -> dict[str, Any]:
        """The prompts and answers as plain lists, as canned analyses take pairs.

        `run_analysis("path-patching", truth.model, **truth.as_pairs())`
        """
        return {
            "clean_tokens": self.clean.tolist(),
            "corrupted_tokens": self.corrupted.tolist(),
            "right": self.right.tolist(),
            "wrong": self.wrong.tolist(),
            "position": self.position,
        }

    def give_tokenizer(self) -> HookedTransformer:
        """The model, from now on with a tokenizer for `words`, so that it reads text.

        Raises:
            MissingExtraError: if transformers or tokenizers is not installed.
        """
        if self.model.tokenizer is None:
            self.model.set_tokenizer(make_tokenizer(self.words))
        return self.model

    def found(self, effects: Mapping[str, Float[Tensor, "*batch"] | float]) -> frozenset[str]:
        """The labels whose effect, a number or `[batch]`, is more than the threshold.

        Args:
            effects: Changes of the metric, not normalised.
        """
        span = float(self.span)
        means = {
            label: float(torch.as_tensor(effect, dtype=torch.float64).detach().mean()) / span
            for label, effect in effects.items()
        }
        return frozenset(label for label, mean in means.items() if abs(mean) > self.threshold)
