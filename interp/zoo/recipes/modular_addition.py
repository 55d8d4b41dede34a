"""zoo:modular-addition: one layer that learned (a + b) mod 113, long after it knew its examples.

`python -m interp.zoo.recipes.modular_addition --out DIR` trains it: ten minutes on one core, and as
long again for the control. With `--run-dir` a run that was stopped goes on where it was.

Power et al. (2022), Grokking; Nanda et al. (2023), Progress measures for grokking via mechanistic
interpretability. The model sees a part of the addition table, all of it at every step. It first
learns that part by heart and answers wrongly elsewhere. Weight decay goes on pulling at what was
learned by heart, which needs large weights; a rule made of a few Fourier frequencies, which works
everywhere, needs smaller ones and takes over. Without weight decay, the control, nothing drives
the model from the one to the other.

Choices:

- Cross-entropy in float64. In float32 the gradient of a well-known example, its probability less 1,
  is a small multiple of 6e-8, and Adam would blow the rounding up to full steps.
- `answer_logits` shares what rows have in common, a fifth of the time of the model's own forward.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from interp.config import HookedTransformerConfig
from interp.errors import require_extra
from interp.training import History, Snapshots, TrainSettings, train
from interp.transformer import HookedTransformer
from interp.zoo.entry import ZooEntry, write_entry
from interp.zoo.recipes.analysis_defaults import defaults_for
from interp.zoo.recipes.command import recipe_parser, run_recipe

NAME = "zoo:modular-addition"
DESCRIPTION = (
    "One layer that adds modulo 113: it reads `a b =` and answers at the last position. It was "
    "trained on 35 % of all pairs, had them by heart after a few hundred steps, and found the rule "
    "that holds for all of them thousands of steps later (grokking)."
)
MODULUS = 113
EQUALS = MODULUS  # the token that asks for the answer
FRACTION = 0.35  # of all pairs, for training
STEPS = 12_000
# By heart from 400 on, dense where the rule takes over. The last step comes on top.
SNAPSHOT_STEPS = (0, 200, 400, 2000, 5000, 6400, 7200, 7600, 8000, 8800, 10_000)

PROMPT = "17 42 ="  # 59 comes next
# The corrupted prompt has another second number, so that both sums are known and the first number
# and `=` are the same.
PAIRS: dict[str, Any] = {
    "clean": ["17 42 =", "5 90 =", "101 33 =", "64 8 =", "29 77 =", "88 56 ="],
    "corrupted": ["17 95 =", "5 21 =", "101 70 =", "64 49 =", "29 2 =", "88 110 ="],
    "right": ["59", "95", "21", "72", "106", "31"],
    "wrong": ["112", "26", "58", "0", "31", "85"],
}
DEFAULTS: dict[str, dict[str, Any]] = defaults_for(PROMPT, PAIRS)

Rows = Int[Tensor, "row 3"]


def make_tokenizer() -> Any:
    """A Hugging Face tokenizer for words between spaces: 0 … 112 and `=`. Others are errors.

    Raises:
        MissingExtraError: if transformers or tokenizers is not installed.
    """
    require_extra("tokenizers", "hf")
    require_extra("transformers", "hf")
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = (*map(str, range(MODULUS)), "=")
    tokenizer = Tokenizer(models.WordLevel({word: token for token, word in enumerate(words)}))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def make_model(seed: int = 0) -> HookedTransformer:
    """The architecture with fresh weights."""
    cfg = HookedTransformerConfig(
        n_layers=1,
        d_model=128,
        n_heads=4,
        d_mlp=256,
        act_fn="relu",
        n_ctx=3,
        d_vocab=MODULUS + 1,
        d_vocab_out=MODULUS,
        normalization_type=None,
        positional_embedding_type="standard",
        default_prepend_bos=False,
        model_name=NAME,
        seed=seed,
        device="cpu",
    )
    return HookedTransformer(cfg, make_tokenizer())


def table() -> Rows:
    """All pairs as tokens `a b =`, by a and then by b."""
    numbers = torch.arange(MODULUS)
    return torch.cartesian_prod(numbers, numbers, torch.tensor([EQUALS]))


def split(seed: int = 0, fraction: float = FRACTION) -> tuple[Rows, Rows]:
    """The pairs to train on and the pairs held out, at random and the same for the same seed."""
    rows = table()
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    n_train = round(fraction * len(rows))
    return rows[order[:n_train]], rows[order[n_train:]]


def right_answers(rows: Rows) -> Int[Tensor, "row"]:
    """(a + b) mod 113."""
    return (rows[:, 0] + rows[:, 1]) % MODULUS


def answer_logits(model: HookedTransformer, rows: Rows) -> Float[Tensor, "row answer"]:
    """`model(rows)[:, -1]`, but for rounding, for rows that end on `=`; hooks do not fire.

    All rows ask with the same query, and read from 227 vectors: each number at each of two places,
    and `=`. So scores and values are made once for those, and added up per row.
    """
    block: Any = model.blocks[0]
    attn, mlp = block.attn, block.mlp
    numbers, equals = model.W_E[:MODULUS], model.W_E[EQUALS] + model.W_pos[2]
    sources = torch.cat([numbers + model.W_pos[0], numbers + model.W_pos[1], equals[None]])
    query = torch.einsum("d,hde->he", equals, attn.W_Q) + attn.b_Q
    key = torch.einsum("sd,hde->she", sources, attn.W_K) + attn.b_K
    value = torch.einsum("sd,hde->she", sources, attn.W_V) + attn.b_V
    scores = torch.einsum("he,she->sh", query, key) / attn.attn_scale
    weight = (scores - scores.amax(0)).exp()[..., None]
    # Softmax's numerator and denominator side by side: [source, head * (d_head + 1)]
    terms = torch.cat([weight * value, weight], -1).flatten(1)
    a, b = rows[:, 0], rows[:, 1]
    total = F.embedding(a, terms) + F.embedding(b + MODULUS, terms) + terms[-1]
    total = total.unflatten(1, (model.cfg.n_heads, -1))
    z = total[..., :-1] / total[..., -1:]
    resid_mid = equals + attn.b_O + z.flatten(1) @ attn.W_O.flatten(0, 1)
    resid_post = resid_mid + mlp.b_out + F.relu(resid_mid @ mlp.W_in + mlp.b_in) @ mlp.W_out
    return resid_post @ model.W_U + model.b_U


def answer_loss(model: HookedTransformer, rows: Rows) -> Float[Tensor, ""]:
    """Mean cross-entropy of the right answers in nats, in float64."""
    return F.cross_entropy(answer_logits(model, rows).double(), right_answers(rows))


@torch.no_grad()
def accuracy(model: HookedTransformer, rows: Rows) -> float:
    """The fraction of rows whose largest logit is the right answer's."""
    found = answer_logits(model, rows).argmax(-1)
    return (found == right_answers(rows)).double().mean().item()


@torch.no_grad()
def evaluate(model: HookedTransformer, train_rows: Rows, test_rows: Rows) -> dict[str, float]:
    """Accuracy on both sets, loss on the held-out one, and the L2 norm of all weights."""
    return {
        "test_loss": answer_loss(model, test_rows).item(),
        "train_accuracy": accuracy(model, train_rows),
        "test_accuracy": accuracy(model, test_rows),
        "weight_norm": sum(p.square().sum().item() for p in model.parameters()) ** 0.5,
    }


def settings_for(steps: int, weight_decay: float = 1.0, seed: int = 0) -> TrainSettings:
    """The recipe's training settings."""
    return TrainSettings(
        steps=steps,
        lr=1e-3,
        warmup_steps=min(10, steps - 1),
        decay="constant",
        weight_decay=weight_decay,
        betas=(0.9, 0.98),
        max_grad_norm=None,
        seed=seed,
        log_every=50,
        checkpoint_every=500,
    )


@dataclass(frozen=True)
class Trained:
    """A model, how its training went, and what it reaches.

    Attributes:
        model: The trained model.
        history: `loss` is that of the training pairs; see `evaluate` for the rest.
        metrics: The history's last row.
        seconds: Of the training; of its last part, if it was stopped in between.
    """

    model: HookedTransformer
    history: History
    metrics: dict[str, float]
    seconds: float


def train_model(
    settings: TrainSettings,
    run_dir: Path,
    callbacks: Sequence[Snapshots] = (),
    progress: bool = False,
) -> Trained:
    """Train one model of the recipe, or go on with it."""
    model = make_model(settings.seed)
    train_rows, test_rows = split(settings.seed)
    start = time.perf_counter()
    history = train(
        model,
        lambda step, generator: train_rows,
        answer_loss,
        settings,
        evaluate=lambda m: evaluate(m, train_rows, test_rows),
        callbacks=callbacks,
        run_dir=run_dir,
        resume=True,
        progress=progress,
    )
    seconds = time.perf_counter() - start
    measured = {
        "train_loss": answer_loss(model, train_rows).item(),
        **evaluate(model, train_rows, test_rows),
    }
    rounded = {name: float(f"{value:.4g}") for name, value in measured.items()}
    return Trained(model, history, rounded, seconds)


def make_entry(
    out: str | Path, steps: int = STEPS, run_dir: str | Path | None = None, progress: bool = False
) -> ZooEntry:
    """Train the model and its control without weight decay, and write the entry.

    Args:
        out: Directory of the entry.
        steps: Number of updates, of either model.
        run_dir: Where the runs are kept, to go on with if this is stopped. None: nowhere.
        progress: Show progress bars.
    """
    settings = settings_for(steps)
    with ExitStack() as stack:
        folder = Path(run_dir or stack.enter_context(tempfile.TemporaryDirectory()))
        snapshots = folder / "snapshots"
        kept = {step for step in SNAPSHOT_STEPS if step < steps} | {steps}
        shipped = train_model(settings, folder / "run", [Snapshots(snapshots, kept)], progress)
        no_decay = settings_for(steps, weight_decay=0.0)
        control = train_model(no_decay, folder / "control", progress=progress)
        return write_entry(
            out,
            shipped.model,
            shipped.history,
            snapshots,
            description=DESCRIPTION,
            recipe="interp.zoo.recipes.modular_addition",
            training={
                **dataclasses.asdict(settings),
                "fraction": FRACTION,
                "seconds": round(shipped.seconds, 1),
                "torch": torch.__version__,
            },
            metrics=shipped.metrics,
            control={"weight_decay": 0.0, "steps": steps, **control.metrics},
            defaults=DEFAULTS,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = recipe_parser("modular_addition", STEPS)
    parser.add_argument("--run-dir", type=Path, help="keep the runs here, to go on if stopped")
    return run_recipe(parser, arguments, make_entry, "with weight decay", "without")


if __name__ == "__main__":
    torch.set_num_threads(1)  # more only gets in the way of so small a model
    torch.set_flush_denormal(True)  # weights and moments that fade away would take twice the time
    sys.exit(main())
