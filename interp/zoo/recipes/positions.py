"""zoo:copy-… and zoo:count-…: the same small decoder, with each way to tell it where it is.

`python -m interp.zoo.recipes.positions --task copy --encoding rotary --out DIR` trains one, in one
to six minutes on one core; with `--all` in place of task and encoding all fourteen, each in a
directory of its own inside DIR.

Two tasks (`interp.zoo.tasks`) by seven encodings. What is compared is the encoding, so within a
task all else is the same, but for one scale (below): data, seed, steps, learning rate. (Fresh
weights are drawn from one seed in order, so those that follow an encoding's own weights are other
draws.) The settings were chosen once, on few encodings (learned, rotary, ALiBi, none), but for two
things that follow the sinusoids: `copy` is trained for as many steps as they need, and they alone
scale the embeddings. Another encoding might do better with other settings.

- `copy`: two layers of attention with LayerNorm. No MLPs are needed.
- `count`: the same with a small MLP in each layer, which turns "how far from the start" into a
  digit.

Neither the width of the model nor its length was made to suit one of them: 64 dimensions in heads
of 16, rows of 48 tokens. What an encoding leaves open is as its paper has it: T5's buckets (each
distance up to 15 has its own, all from 113 on share the last), ALiBi's slopes (1/4, 1/16, 1/64 and
1/256), and with sinusoids the embeddings times √d_model (Vaswani et al. 2017, §3.4), without which
the sinusoids, seven times as long as fresh embeddings, drown them: `copy` was then not learned in
4000 steps.

Without positions, `copy` is out of reach of two layers: a head of the first would have to find the
token before, and without positions its scores do not tell one order of the tokens from another. The
model ships all the same, as what the others are compared with. With these settings all others learn
`copy`; `count` is learned but for ALiBi and no positions, which count exactly up to about the
thirtieth token, and from there on guess (three in four answers right in all). That is one seed
each.

How they do it differs too. In `copy` with T5's biases no head of the first layer looks one token
back: they look eight and nine back, so that a place knows both a symbol and the one after it, and
where those eight tokens are there to be read, the second layer looks for the symbol eight places
further on than an induction head would.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from interp.config import HookedTransformerConfig
from interp.errors import require_one_of
from interp.positions import LearnedPositions
from interp.training import History, TrainSettings, train
from interp.transformer import HookedTransformer
from interp.zoo.entry import ZooEntry, write_entry
from interp.zoo.recipes.analysis_defaults import defaults_for
from interp.zoo.recipes.command import print_entry, recipe_parser
from interp.zoo.recipes.symbols import VOCABULARY, make_tokenizer
from interp.zoo.tasks import COUNT_MODULUS, ENCODINGS, TASKS, Offsets, Task, TaskRows

NAMES = tuple((task, encoding) for task in ("copy", "count") for encoding in ENCODINGS)
DESCRIPTIONS = {
    "copy": "Two attention-only layers trained on rows of {} tokens to continue a stretch of "
    "symbols that came before, after a gap of any length",
    "count": "Two layers trained on rows of {} tokens to count one up at each token from the digit "
    f"given first, modulo {COUNT_MODULUS}, whatever the letters",
}
POSITIONS = {
    "sinusoidal": "sinusoidal positions",
    "learned": "learned positions",
    "rotary": "rotary positions",
    "alibi": "ALiBi",
    "t5": "T5's relative biases",
    "shortformer": "learned positions that only queries and keys see (Shortformer)",
    "none": "no positions",
}
STEPS = {"copy": 4000, "count": 2000}
BATCH = 32
D_MODEL = 64
D_MLP = 64  # of `count`
LOGGING_SEED, FINAL_SEED = 1, 2  # of the rows that models are measured on
MULTIPLES = (1, 2, 4, 8)  # of the trained length, for the entry
N_ROWS = 512  # of each

# In the corrupted prompts two symbols of the first stretch are exchanged, one of them the query's:
# after it comes another symbol than in the clean ones.
COPY_PROMPT = "k T 4 w Z m 9 b s T 4 w"  # Z comes next
COPY_PAIRS: dict[str, Any] = {
    "clean": [
        "2 b W 4 A c q G b",
        "F z 6 Y 1 t E w z",
        "L 5 6 n G i s 4 5",
        "W g N Z q I T 6 g",
        "R v E J g w B u v",
        "q d Z 6 J a f U d",
    ],
    "corrupted": [
        "2 c W 4 A b q G b",
        "F t 6 Y 1 z E w z",
        "L i 6 n G 5 s 4 5",
        "W I N Z q g T 6 g",
        "R w E J g v B u v",
        "q a Z 6 J d f U d",
    ],
    "right": ["W", "6", "6", "N", "E", "Z"],
    "wrong": ["q", "E", "s", "T", "B", "f"],
}
# The letters are the same, the digit to count from is another.
COUNT_PROMPT = "3 q f B k T w Z m"  # 1 is the answer: 3, 4, 0, 1, 2, 3, 4, 0, 1
COUNT_PAIRS: dict[str, Any] = {
    "clean": [
        "3 q f B k T w Z",
        "0 y W h A c q G",
        "1 z b Y x t E w",
        "4 g N Z q I T s",
        "2 v E J g w B u",
        "3 d Z r J a f U",
    ],
    "corrupted": [
        "1 q f B k T w Z",
        "2 y W h A c q G",
        "4 z b Y x t E w",
        "0 g N Z q I T s",
        "3 v E J g w B u",
        "0 d Z r J a f U",
    ],
    "right": ["0", "2", "3", "1", "4", "0"],
    "wrong": ["3", "4", "1", "2", "0", "2"],
}
# With fewer steps integrated gradients of some of the models do not add up.
IG_STEPS = 512
DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {
    task: {**usual, "input-attribution": {**usual["input-attribution"], "steps": IG_STEPS}}
    for task, usual in (
        ("copy", defaults_for(COPY_PROMPT, COPY_PAIRS)),
        ("count", defaults_for(COUNT_PROMPT, COUNT_PAIRS)),
    )
}


def model_name(task: str, encoding: str) -> str:
    """Such as `zoo:copy-rotary`."""
    return f"zoo:{task}-{encoding}"


def describe(task: str, encoding: str, metrics: Mapping[str, Any]) -> str:
    """What the model was trained to do, and how far it does not."""
    text = f"{DESCRIPTIONS[task].format(TASKS[task].trained_length)}; {POSITIONS[encoding]}."
    if metrics["accuracy"] >= 0.95:
        return text
    if task == "count":
        text += f" Learned up to position {metrics['right_up_to']} only:"
    else:
        text += " Not learned:"
    return f"{text} {metrics['accuracy']:.0%} of all answers right."


def settings_for(steps: int, seed: int = 0) -> TrainSettings:
    """The recipe's training settings, the same for all models."""
    return TrainSettings(
        steps=steps,
        lr=3e-3,
        warmup_steps=min(100, steps - 1),
        decay="cosine",
        final_lr_fraction=0.02,
        weight_decay=0.01,
        betas=(0.9, 0.98),
        seed=seed,
        log_every=100,
    )


def make_model(task: str, encoding: str, seed: int = 0) -> HookedTransformer:
    """The architecture with fresh weights.

    Raises:
        InputError: for a task or an encoding that is not one of the recipe's.
    """
    require_one_of("task", task, DEFAULTS)
    require_one_of("encoding", encoding, ENCODINGS)
    mlp = {"d_mlp": D_MLP, "act_fn": "gelu"} if task == "count" else {"attn_only": True}
    cfg = HookedTransformerConfig.from_dict(
        {
            "n_layers": 2,
            "d_model": D_MODEL,
            "n_heads": 4,
            "n_ctx": TASKS[task].trained_length,
            "d_vocab": len(VOCABULARY),
            "positional_embedding_type": ENCODINGS[encoding],
            "embed_scale": D_MODEL**0.5 if encoding == "sinusoidal" else 1.0,
            "model_name": model_name(task, encoding),
            "seed": seed,
            "device": "cpu",
            **mlp,
        }
    )
    return HookedTransformer(cfg, make_tokenizer())


def task_loss(model: HookedTransformer, rows: TaskRows) -> Float[Tensor, ""]:
    """Mean cross-entropy in nats of the answers, where they can be known."""
    return F.cross_entropy(model(rows.tokens)[rows.scored], rows.targets[rows.scored])


@torch.no_grad()
def evaluate(
    model: HookedTransformer,
    task: Task,
    length: int,
    seed: int,
    n: int,
    offsets: Offsets | None = None,
) -> dict[str, float]:
    """`loss` in nats and `accuracy` on `n` fresh rows of a length."""
    rows = task.rows(n, length, seed, offsets)
    loss, right = 0.0, 0
    for start in range(0, n, 64):
        of = slice(start, start + 64)
        scored, device = rows.scored[of], model.W_E.device
        logits = model(rows.tokens[of].to(device))[scored.to(device)]
        answers = rows.targets[of][scored].to(device)
        loss += F.cross_entropy(logits, answers, reduction="sum").item()
        right += int((logits.argmax(-1) == answers).sum())
    n_scored = int(rows.scored.sum())
    return {"loss": loss / n_scored, "accuracy": right / n_scored}


def measure(model: HookedTransformer, task: Task, n: int) -> dict[str, Any]:
    """Loss and accuracy at multiples of the trained length, in `loss`, `loss_2x`, … .

    Of `count`, whose every position has an answer, also `right_up_to`: the last position of the
    trained length up to which at least 95% of the answers are right at each.

    Of `copy` also with distances no larger than in training (`loss_2x_trained_offsets`, …). Beyond
    a learned table there is no position: None, with the reason in `beyond`.
    """
    found: dict[str, Any] = {}
    limited = isinstance(model.main_stack.pos_embed, LearnedPositions)
    for times in MULTIPLES:
        for offsets in task.offsets if times > 1 else task.offsets[:1]:
            key = "" if times == 1 else f"_{times}x"
            key += "_trained_offsets" if offsets == "trained" else ""
            if times > 1 and limited:
                found |= {f"loss{key}": None, f"accuracy{key}": None}
                continue
            length = times * task.trained_length
            scores = evaluate(model, task, length, FINAL_SEED, n, offsets)
            found |= {f"{name}{key}": round(value, 5) for name, value in scores.items()}
    if task.name == "count":
        found["right_up_to"] = right_up_to(model, task, n)
    if limited:
        found["beyond"] = f"learned positions end at {model.cfg.n_ctx} tokens"
    return found


@torch.no_grad()
def right_up_to(model: HookedTransformer, task: Task, n: int) -> int:
    """The last position before which, and at which, 95% are right wherever an answer is known."""
    rows = task.rows(n, None, FINAL_SEED)
    right = (model(rows.tokens.to(model.W_E.device)).argmax(-1).cpu() == rows.targets) & rows.scored
    enough = right.sum(0) >= 0.95 * rows.scored.sum(0)
    return int(enough.long().cumprod(0).sum()) - 1


@dataclass(frozen=True)
class Trained:
    """A model, how its training went, and what it reaches on fresh rows."""

    model: HookedTransformer
    history: History
    metrics: dict[str, Any]
    seconds: float


def train_model(
    task: str, encoding: str, settings: TrainSettings, progress: bool = False
) -> Trained:
    """Train one model of the recipe."""
    model = make_model(task, encoding, settings.seed)
    what = TASKS[task]
    start = time.perf_counter()
    history = train(
        model,
        lambda step, generator: what.draw(generator, BATCH, what.trained_length, what.offsets[0]),
        task_loss,
        settings,
        evaluate=lambda m: {
            f"test_{name}": value
            for name, value in evaluate(m, what, what.trained_length, LOGGING_SEED, 128).items()
        },
        progress=progress,
    )
    seconds = time.perf_counter() - start
    return Trained(model, history, measure(model, what, N_ROWS), seconds)


def make_entry(
    out: str | Path, task: str, encoding: str, steps: int | None = None, progress: bool = False
) -> ZooEntry:
    """Train one model and write its entry; the control is the same model before training."""
    settings = settings_for(STEPS[task] if steps is None else steps)
    untrained = evaluate(
        make_model(task, encoding, settings.seed),
        TASKS[task],
        TASKS[task].trained_length,
        FINAL_SEED,
        N_ROWS,
    )
    trained = train_model(task, encoding, settings, progress)
    choices = {"copy": len(VOCABULARY) - 1, "count": COUNT_MODULUS}[task]
    with tempfile.TemporaryDirectory() as no_snapshots:
        return write_entry(
            out,
            trained.model,
            trained.history,
            no_snapshots,
            description=describe(task, encoding, trained.metrics),
            recipe=f"interp.zoo.recipes.positions --task {task} --encoding {encoding}",
            training={
                **dataclasses.asdict(settings),
                "batch": BATCH,
                "length": TASKS[task].trained_length,
                "seconds": round(trained.seconds, 1),
                "torch": torch.__version__,
            },
            metrics=trained.metrics,
            control={
                "steps": 0,
                **{name: round(value, 5) for name, value in untrained.items()},
                "loss_of_a_guess": round(math.log(choices), 5),
                "accuracy_of_a_guess": round(1 / choices, 5),
            },
            defaults=DEFAULTS[task],
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = recipe_parser("positions", None)
    parser.add_argument("--task", choices=list(DEFAULTS))
    parser.add_argument("--encoding", choices=list(ENCODINGS))
    parser.add_argument("--all", action="store_true", help="all models, each in OUT/TASK-ENCODING")
    given = parser.parse_args(arguments)
    named = [name for name in (given.task, given.encoding) if name is not None]
    if len(named) != (0 if given.all else 2):
        parser.error("either --task and --encoding, or --all")
    for task, encoding in NAMES if given.all else [(given.task, given.encoding)]:
        out = given.out / f"{task}-{encoding}" if given.all else given.out
        entry = make_entry(out, task, encoding, given.steps, progress=sys.stderr.isatty())
        print_entry(entry, "trained", "untrained")
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)  # more only gets in the way of so small a model
    sys.exit(main())
