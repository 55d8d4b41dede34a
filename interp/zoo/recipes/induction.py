"""zoo:induction: two layers of attention that learn to continue what they have seen before.

`python -m interp.zoo.recipes.induction --out DIR` trains it, in a minute or two on one core.

Olsson et al. (2022), In-context Learning and Induction Heads: a head of the first layer writes at
each position which token came before; a head of the second layer looks from a token to the place
where that same token was "the one before", and copies what stands there. One layer cannot do this,
which the recipe shows by training one in the same way.

Choices that make the heads clean, found by trying:

- The loss is taken only where the next token follows from the earlier ones.
- No norm and no 1/√d_head on the scores. With a norm, an attention of ¼ on the right token already
  gives a confident answer and training stops there. Without, sharper attention is the cheapest way
  to a larger logit.
- A little weight decay: heads that the circuit does not need fade away.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from interp.config import HookedTransformerConfig
from interp.training import History, Snapshots, TrainSettings, train
from interp.transformer import HookedTransformer
from interp.zoo.entry import ZooEntry, write_entry
from interp.zoo.recipes.analysis_defaults import defaults_for
from interp.zoo.recipes.command import recipe_parser, run_recipe
from interp.zoo.recipes.repeats import N_CTX, Repeats, Scores, evaluate, training_rows
from interp.zoo.recipes.symbols import VOCABULARY, make_tokenizer

NAME = "zoo:induction"
DESCRIPTION = (
    "Two attention-only layers that continue a repeated sequence of symbols: a previous-token head "
    "in the first layer, induction heads in the second. Trained on the repeats alone: what it says "
    "of symbols that cannot be known is no guide."
)
STEPS = 4000
BATCH = 32
# Dense where the loss falls. The last step comes on top.
SNAPSHOT_STEPS = (0, 100, 200, 250, 300, 350, 400, 450, 500, 600, 800, 1200, 2000)
LOGGING_SEED, FINAL_SEED = 1, 2  # of the sequences that the model is measured on

PROMPT = "k T 4 w Z m 9 b k T 4 w"  # Z comes next
# The last symbol comes earlier too, and in the corrupted prompt the symbols at its place and at
# another are exchanged: what came after it is now another symbol. All else is the same, the answers
# themselves and the query included, so that only "which symbol came before" tells the two apart:
# the previous-token head's message, which the induction heads read through their keys.
PAIRS: dict[str, Any] = {
    "clean": [
        "2 y W 4 A c q G y",
        "F z 6 Y 1 t E w z",
        "L 5 6 n G i s 4 5",
        "W g N Z q I T 6 g",
        "R v E J g w B u v",
        "q d Z 6 J a f U d",
    ],
    "corrupted": [
        "2 c W 4 A y q G y",
        "F t 6 Y 1 z E w z",
        "L i 6 n G 5 s 4 5",
        "W I N Z q g T 6 g",
        "R w E J g v B u v",
        "q a Z 6 J d f U d",
    ],
    "right": ["W", "6", "6", "N", "E", "Z"],
    "wrong": ["q", "E", "s", "T", "B", "f"],
}
DEFAULTS: dict[str, dict[str, Any]] = defaults_for(PROMPT, PAIRS)


def settings_for(steps: int, seed: int = 0) -> TrainSettings:
    """The recipe's training settings."""
    return TrainSettings(
        steps=steps,
        lr=5e-3,
        warmup_steps=min(100, steps - 1),
        decay="cosine",
        final_lr_fraction=0.05,
        weight_decay=0.05,
        betas=(0.9, 0.98),
        seed=seed,
        log_every=25,
    )


def make_model(n_layers: int, seed: int = 0) -> HookedTransformer:
    """The architecture with fresh weights."""
    cfg = HookedTransformerConfig(
        n_layers=n_layers,
        d_model=64,
        n_heads=4,
        n_ctx=N_CTX,
        d_vocab=len(VOCABULARY),
        attn_only=True,
        normalization_type=None,
        use_attn_scale=False,
        positional_embedding_type="standard",
        model_name=NAME,
        seed=seed,
        device="cpu",
    )
    return HookedTransformer(cfg, make_tokenizer())


def repeat_loss(model: HookedTransformer, rows: Repeats) -> Float[Tensor, ""]:
    """Mean cross-entropy in nats of the tokens that follow from earlier ones."""
    logits = model(rows.tokens)[:, :-1]
    wanted = rows.predictable[:, 1:]
    return F.cross_entropy(logits[wanted], rows.tokens[:, 1:][wanted])


@dataclass(frozen=True)
class Trained:
    """A model, how its training went, and what it reaches on fresh sequences."""

    model: HookedTransformer
    history: History
    scores: Scores
    seconds: float


def train_model(
    n_layers: int,
    settings: TrainSettings,
    callbacks: Sequence[Snapshots] = (),
    progress: bool = False,
) -> Trained:
    """Train one model of the recipe."""
    model = make_model(n_layers, settings.seed)
    start = time.perf_counter()
    history = train(
        model,
        lambda step, generator: training_rows(generator, BATCH),
        repeat_loss,
        settings,
        evaluate=lambda m: evaluate(m, LOGGING_SEED, batch=16).columns(),
        callbacks=callbacks,
        progress=progress,
    )
    seconds = time.perf_counter() - start
    return Trained(model, history, evaluate(model, FINAL_SEED, batch=256), seconds)


def best_heads(scores: Scores) -> dict[str, Any]:
    """The loss, and the best head of each kind with its score."""
    found: dict[str, Any] = {"repeat_loss": round(scores.loss, 5)}
    for name in ("previous_token", "induction"):
        table: Tensor = getattr(scores, name)
        layer, head = divmod(int(table.argmax()), table.shape[1])
        found[name] = round(table.max().item(), 4)
        found[f"{name}_head"] = f"L{layer}H{head}"
    return found


def make_entry(out: str | Path, steps: int = STEPS, progress: bool = False) -> ZooEntry:
    """Train the model and its one-layer control, and write the entry."""
    settings = settings_for(steps)
    with tempfile.TemporaryDirectory() as folder:
        kept = {step for step in SNAPSHOT_STEPS if step < steps} | {steps}
        shipped = train_model(2, settings, [Snapshots(folder, kept)], progress)
        control = train_model(1, settings, progress=progress)
        return write_entry(
            out,
            shipped.model,
            shipped.history,
            folder,
            description=DESCRIPTION,
            recipe="interp.zoo.recipes.induction",
            training={
                **dataclasses.asdict(settings),
                "batch": BATCH,
                "seconds": round(shipped.seconds, 1),
                "torch": torch.__version__,
            },
            metrics=best_heads(shipped.scores),
            control={"n_layers": 1, **best_heads(control.scores)},
            defaults=DEFAULTS,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = recipe_parser("induction", STEPS)
    return run_recipe(parser, arguments, make_entry, "two layers", "one layer")


if __name__ == "__main__":
    torch.set_num_threads(1)  # more only gets in the way of so small a model
    sys.exit(main())
