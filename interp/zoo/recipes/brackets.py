"""zoo:brackets: an encoder that tells whether a string of brackets is balanced.

`python -m interp.zoo.recipes.brackets --out DIR` trains it, in some minutes on one core.

A string of `(` and `)` is balanced if every prefix has at least as many `(` as `)`, and the whole
as many of each. Two things must hold, and a model may find them in different heads: the counts are
equal, and the height, summed from the end, is never positive. It has served interpretability
courses as a puzzle (C. McDougall's ARENA), read from a bidirectional encoder.

A third of the training strings are balanced, a third are balanced ones with a fault (two brackets
exchanged or one turned round), and a third are any: without the second kind, counting is enough for
a small loss. Control: the same model without positions, which sees the counts alone.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.config import HookedTransformerConfig
from interp.errors import require_extra
from interp.training import History, Snapshots, TrainSettings, train
from interp.transformer import HookedTransformer
from interp.zoo.entry import ZooEntry, write_entry
from interp.zoo.recipes.analysis_defaults import PAIR_ANALYSES
from interp.zoo.recipes.command import recipe_parser, run_recipe

NAME = "zoo:brackets"
DESCRIPTION = (
    "Three bidirectional layers that tell balanced strings of brackets from others. Logit 1 is for "
    "balanced, 0 for not; read at the first token."
)
VOCABULARY = ("<pad>", "<cls>", "(", ")")
PAD, CLS, OPEN, CLOSE = range(4)
MAX_LENGTH = 40  # brackets; all trained lengths are even and at most this
N_CTX = MAX_LENGTH + 1
STEPS = 6500
BATCH = 128
SNAPSHOT_STEPS = (0, 200, 700, 1500, 3000)
LOGGING_SEED, FINAL_SEED = 1, 2
# The first and the last bracket exchanged: as many of each, in the wrong order. Counting does not
# tell the two apart.
PAIRS: dict[str, Any] = {
    "clean": [
        "(()())(())()",
        "()()()()()()",
        "((()))((()))",
        "()((())())()",
        "(((())))(())",
        "((()()()()))",
    ],
    "corrupted": [
        ")()())(())((",
        "))()()()()((",
        ")(()))((())(",
        "))((())())((",
        ")((())))(()(",
        ")(()()()())(",
    ],
    "right": ["#1"],
    "wrong": ["#0"],
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "input-attribution": {"prompt": PAIRS["clean"][0]},
    "information-flow": {"prompt": PAIRS["clean"][0]},
    **dict.fromkeys(PAIR_ANALYSES, PAIRS),
}
# One string in this many, by a hash of its brackets, is never trained on. The shortest, of which
# there are few, all are.
HELD_OUT = 20
SHORTEST_HELD_OUT = 10


class Strings(NamedTuple):
    """Strings of brackets of different lengths, padded on the right.

    Attributes:
        tokens: `[batch, 1 + MAX_LENGTH]`: CLS, brackets, padding.
        mask: 1 for tokens, 0 for padding.
        balanced: `[batch]`.
    """

    tokens: Int[Tensor, "batch pos"]
    mask: Int[Tensor, "batch pos"]
    balanced: Bool[Tensor, "batch"]


def heights(tokens: Int[Tensor, "batch pos"]) -> Int[Tensor, "batch pos"]:
    """How many brackets are open behind each token."""
    return ((tokens == OPEN).long() - (tokens == CLOSE).long()).cumsum(-1)


def is_balanced(tokens: Int[Tensor, "batch pos"]) -> Bool[Tensor, "batch"]:
    """Whether each row is balanced; tokens that are no brackets count nothing."""
    height = heights(tokens)
    return (height[:, -1] == 0) & (height.amin(-1) >= 0)


def is_held_out(tokens: Int[Tensor, "batch pos"]) -> Bool[Tensor, "batch"]:
    """Whether each row is kept for testing: a function of its brackets alone."""
    weights = torch.arange(1, tokens.shape[1] + 1) ** 3 + 7
    chosen = ((tokens * weights).sum(-1) % HELD_OUT) == 0
    return chosen & ((tokens >= OPEN).sum(-1) >= SHORTEST_HELD_OUT)


def draw(generator: torch.Generator, n: int, held_out: bool) -> Strings:
    """Strings of all trained lengths, none of them (or all of them) held out."""
    rows: list[Tensor] = []
    found = 0
    while found < n:
        tokens = _candidates(generator, HELD_OUT * n if held_out else n)
        tokens = tokens[is_held_out(tokens) == held_out]
        rows.append(tokens)
        found += tokens.shape[0]
    tokens = torch.cat(rows)[:n]
    return Strings(tokens, (tokens != PAD).long(), is_balanced(tokens))


def _candidates(generator: torch.Generator, n: int) -> Int[Tensor, "batch pos"]:
    """A third balanced, a third balanced with a fault, a third anything."""
    lengths = 2 * torch.randint(1, MAX_LENGTH // 2 + 1, (n,), generator=generator)
    kind = torch.randint(0, 3, (n,), generator=generator)
    brackets = torch.where(kind[:, None] < 2, _balanced(generator, lengths), _any(generator, n))
    brackets = torch.where(kind[:, None] == 1, _spoilt(generator, brackets, lengths), brackets)
    beyond = torch.arange(MAX_LENGTH) >= lengths[:, None]
    brackets = brackets.masked_fill(beyond, PAD)
    return torch.cat([torch.full((n, 1), CLS), brackets], 1)


def _any(generator: torch.Generator, n: int) -> Int[Tensor, "batch pos"]:
    return OPEN + torch.randint(0, 2, (n, MAX_LENGTH), generator=generator)


def _balanced(
    generator: torch.Generator, lengths: Int[Tensor, "batch"]
) -> Int[Tensor, "batch pos"]:
    """Balanced strings, each of a length as likely as any other.

    With h brackets open and r to come, the next one opens with probability
    (r - h)(h + 2) / (2 r (h + 1)): the share of the ways to go on that begin so
    (Arnold & Sleep 1980, Uniform random generation of balanced parenthesis strings).
    """
    n = lengths.shape[0]
    chance = torch.rand(n, MAX_LENGTH, generator=generator)
    height = torch.zeros(n)
    brackets = torch.full((n, MAX_LENGTH), PAD)
    for place in range(MAX_LENGTH):
        to_come = (lengths - place).float()
        opens = chance[:, place] < (to_come - height) * (height + 2) / (
            2 * to_come.clamp(min=1) * (height + 1)
        )
        brackets[:, place] = torch.where(opens, OPEN, CLOSE)
        height = height + torch.where(opens, 1.0, -1.0)
        height = torch.where(to_come > 0, height, 0.0)
    return brackets


def _spoilt(
    generator: torch.Generator,
    brackets: Int[Tensor, "batch pos"],
    lengths: Int[Tensor, "batch"],
) -> Int[Tensor, "batch pos"]:
    """Two brackets exchanged, or one turned round; some of the results are balanced again."""
    n = brackets.shape[0]
    rows = torch.arange(n)
    first, second = (
        (torch.rand(n, generator=generator) * lengths).long().clamp(max=MAX_LENGTH - 1)
        for _ in "ab"
    )
    spoilt = brackets.clone()
    spoilt[rows, first], spoilt[rows, second] = brackets[rows, second], brackets[rows, first]
    turned = brackets.clone()
    turned[rows, first] = OPEN + CLOSE - brackets[rows, first]
    exchanges = torch.rand(n, 1, generator=generator) < 0.7
    return torch.where(exchanges, spoilt, turned)


def make_tokenizer() -> Any:
    """A Hugging Face tokenizer: each bracket a token, `<cls>` in front, white space ignored.

    Raises:
        MissingExtraError: if transformers or tokenizers is not installed.
    """
    require_extra("tokenizers", "hf")
    require_extra("transformers", "hf")
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({text: i for i, text in enumerate(VOCABULARY)}))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("[()]"), "isolated")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<cls> $A", special_tokens=[("<cls>", CLS)]
    )
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", cls_token="<cls>", padding_side="right"
    )


def settings_for(steps: int, seed: int = 0) -> TrainSettings:
    """The recipe's training settings."""
    return TrainSettings(
        steps=steps,
        lr=1e-3,
        warmup_steps=min(200, steps - 1),
        decay="cosine",
        final_lr_fraction=0.02,
        weight_decay=0.01,
        betas=(0.9, 0.98),
        seed=seed,
        log_every=100,
    )


def make_model(seed: int = 0, positions: str = "standard") -> HookedTransformer:
    """The architecture with fresh weights."""
    cfg = HookedTransformerConfig.from_dict(
        {
            "architecture": "encoder",
            "head": "classification",
            "n_layers": 3,
            "d_model": 48,
            "n_heads": 4,
            "d_mlp": 96,
            "act_fn": "relu",
            "n_ctx": N_CTX,
            "d_vocab": len(VOCABULARY),
            "d_vocab_out": 2,
            "positional_embedding_type": positions,
            "model_name": NAME,
            "seed": seed,
            "device": "cpu",
        }
    )
    return HookedTransformer(cfg, make_tokenizer())


def loss(model: HookedTransformer, strings: Strings) -> Float[Tensor, ""]:
    """Cross-entropy of balanced or not, in nats."""
    logits = model(strings.tokens, attention_mask=strings.mask)
    return F.cross_entropy(logits, strings.balanced.long())


@torch.no_grad()
def evaluate(model: HookedTransformer, seed: int, n: int) -> dict[str, float]:
    """Loss and accuracy on held-out strings, all and by kind."""
    strings = draw(torch.Generator().manual_seed(seed), n, held_out=True)
    logits = model(strings.tokens, attention_mask=strings.mask)
    right = logits.argmax(-1) == strings.balanced.long()
    even = heights(strings.tokens)[:, -1] == 0
    return {
        "test_loss": F.cross_entropy(logits, strings.balanced.long()).item(),
        "accuracy": right.float().mean().item(),
        "accuracy_balanced": right[strings.balanced].float().mean().item(),
        # As many of each, but in the wrong order: what counting alone cannot tell.
        "accuracy_wrong_order": right[even & ~strings.balanced].float().mean().item(),
    }


@dataclass(frozen=True)
class Trained:
    """A model, how its training went, and what it reaches on held-out strings."""

    model: HookedTransformer
    history: History
    metrics: dict[str, float]
    seconds: float


def train_model(
    settings: TrainSettings,
    positions: str = "standard",
    callbacks: Sequence[Snapshots] = (),
    progress: bool = False,
) -> Trained:
    """Train one model of the recipe."""
    model = make_model(settings.seed, positions)
    start = time.perf_counter()
    history = train(
        model,
        lambda step, generator: draw(generator, BATCH, held_out=False),
        loss,
        settings,
        evaluate=lambda m: evaluate(m, LOGGING_SEED, 500),
        callbacks=callbacks,
        progress=progress,
    )
    seconds = time.perf_counter() - start
    metrics = evaluate(model, FINAL_SEED, 20_000)
    return Trained(model, history, {k: round(v, 5) for k, v in metrics.items()}, seconds)


def make_entry(out: str | Path, steps: int = STEPS, progress: bool = False) -> ZooEntry:
    """Train the model and its control without positions, and write the entry."""
    settings = settings_for(steps)
    with tempfile.TemporaryDirectory() as folder:
        kept = {step for step in SNAPSHOT_STEPS if step < steps} | {steps}
        shipped = train_model(settings, callbacks=[Snapshots(folder, kept)], progress=progress)
        brief = settings_for(max(1, steps // 4))
        control = train_model(brief, positions="none", progress=progress)
        return write_entry(
            out,
            shipped.model,
            shipped.history,
            folder,
            description=DESCRIPTION,
            recipe="interp.zoo.recipes.brackets",
            training={
                **dataclasses.asdict(settings),
                "batch": BATCH,
                "seconds": round(shipped.seconds, 1),
                "torch": torch.__version__,
            },
            metrics=dict(shipped.metrics),
            control={"positions": "none", "steps": brief.steps, **control.metrics},
            defaults=DEFAULTS,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = recipe_parser("brackets", STEPS)
    return run_recipe(parser, arguments, make_entry, "brackets", "no positions")


if __name__ == "__main__":
    torch.set_num_threads(1)  # more only gets in the way of so small a model
    sys.exit(main())
