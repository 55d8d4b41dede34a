"""How far each encoding reads past its training: docs/measured/length-generalisation.md.

`python -m benchmarks.length_generalisation [FOLDER TEXT]` prints the page. The zoo's models of both
tasks with every encoding at 1, 2, 4 and 8 times the trained length and by position at twice it, the
rotary ones also with their positions stretched; and a rotary checkpoint on real text, by position.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from torch import Tensor

from analyses.positions.length_tables import encoding_name
from interp import HookedTransformer, load_model, zoo
from interp.position_effects.length import (
    TIMES,
    LengthScores,
    by_position,
    length_generalisation,
    rotary_variant,
    trained_length_of,
    variants_of,
    with_rotary,
)
from interp.position_effects.rows import position_rows
from interp.rotary_scaling import RotaryScaling
from interp.zoo.recipes.symbols import SYMBOLS
from interp.zoo.tasks import COUNT_MODULUS, ENCODINGS, TASKS, Offsets

ROWS = 128  # of a task, of each length
POSITION_ROWS, BIN = 512, 8  # of the tables by position, whose cells have fewer predictions
TEXT_ROWS, TEXT_TIMES = 8, (1, 2, 4)
INTRO = """# Reading past the trained length

Made by `python -m benchmarks.length_generalisation FOLDER TEXT`. Seven small decoders of two
layers (of attention alone for *copy*, with MLPs for *count*), trained alike (same data, same seed,
{trained} tokens a row) but for how they encode position, on each of two tasks of the zoo: *copy*,
which continues a stretch of symbols that came before, at whatever distance, and *count*, which
counts on from a digit given first, modulo 5.
Each reads {rows} fresh rows of its trained length and of 2, 4 and 8 times that.

Cells are the share of right answers, ± its standard error over rows, and in brackets that of the
positions past the trained length alone. *Refuses*: there is no vector for such a position, and the
model says so. A guess is right in {copy_chance:.0%} of cases in copy and in {count_chance:.0%} in
count.

What was trained alike is not all alike: the sinusoids alone came with embeddings scaled by √d_model
(without it copy was not learned), copy was trained for as many steps as they need, and the other
settings were chosen on learned, rotary, ALiBi and no encoding. Longer rows have more tokens to tell
apart as well as new positions.

*dynamic* and *yarn* are as in transformers. In the paper (Peng et al. 2023) the dynamic factor is
the length over the trained one, which in rows of one length is *ntk*; transformers' base grows by
s² - s + 1 in place of s. And the share of a frequency that YaRN keeps falls off linearly in turns
there, but in the index of the pair in the authors' code and in transformers: *yarn, as its formula*
is the former. In rows of 48 tokens the two are far apart, for no pair turns 32 times in them.
"""

DISCUSSION = """## Beside what was published

What was measured rules; each model is one training run, and errors are over rows, not over
trainings.

- **ALiBi holds** on copy, nearly whole at four times the length and best at eight, as Press et al.
  (2022) found for the perplexity of text. Kazemnejad et al. (2023) found it only middling on small
  tasks.
- **T5's biases** hold at twice the length, though less well at its end, and then fall, ALiBi ahead
  of them: the order of Press et al., not that of Kazemnejad et al., where T5's biases led all
  explicit encodings. Here distances from 52 on fall into buckets that training never reached.
- **Rotary and sinusoidal** degrade, far behind both, as in both papers. Sinusoids lose from the
  first new positions on; rotary reads the first eight whole and then breaks off. Press et al. saw
  rotary last longer. Here it is ahead where distances stay as in training, and behind where they
  grow with the row.
- **Learned tables** (learned, shortformer) end: the model refuses.
- **No encoding** is not in between: two attention-only layers without one do not learn to copy
  (0.04), so there is nothing to carry further. In Kazemnejad et al., with deeper models, it led all
  encodings; Haviv et al. (2022), too, studied deeper ones.
- **Count** is carried far by none of them. T5's biases fall from 0.67 to a guess within the first
  new length; sinusoidal and rotary miscount, far below a guess at some positions and above it at
  others. ALiBi and no encoding never learned it to the end: they count the first thirty positions
  or so, and at the last trained ones are at a guess already. That an encoding "holds" is a
  statement about tasks of relative position.
- **Stretching rotary** on copy: YaRN (the code's) first at two and four times the length, dynamic
  NTK at eight, where with distances as in training its lead is large; fixed NTK above the plain
  model at every length. Linear interpolation is worse than nothing, while Chen et al. (2023), who
  recommend fine-tuning, found it far better than nothing even without. YaRN by its formula is
  nearly as bad: in rows this short it stretches every frequency, and the fast ones carry the step
  to the token before. On count every variant costs more than it gives: even where new positions
  gain (NTK at twice the length), trained ones lose more, for they are read as others than they
  were.
- **stories260K** shows no cliff at its 512 tokens up to four times that, unlike the LLaMA models of
  Chen et al.; NTK with factor 2 is within the error of the plain model, linear interpolation costs
  0.4 to 1 nats, dynamic NTK and YaRN up to 0.4, mostly within the first 512 tokens. Shakespeare is
  not what it was trained on, and its loss is high throughout, which may hide what a loss of context
  would cost.
"""


def table_of(found: Iterable[tuple[str, Sequence[LengthScores]]], lengths: Sequence[int]) -> str:
    """A row for each label, a column for each length."""
    rows = []
    for label, scores in found:
        by_length = {of.length: of for of in scores}
        rows.append([label, *(accuracy_cell(by_length[length]) for length in lengths)])
    return _markdown(["", *(f"{length}" for length in lengths)], rows)


def accuracy_cell(of: LengthScores) -> str:
    """`0.61 ± 0.03 (0.43)`."""
    if of.scores is None:
        return "refuses"
    whole = of.scores.mean_accuracy()
    beyond = of.scores.mean_accuracy(slice(of.trained_length, None))
    cell = f"{whole.mean:.2f} ± {whole.stderr:.2f}"
    return cell if math.isnan(beyond.mean) else f"{cell} ({beyond.mean:.2f})"


def tasks() -> Iterator[str]:
    """The tables of both tasks."""
    for task in ("copy", "count"):
        models = {each: zoo.load(f"zoo:{task}-{each}", device="cpu") for each in ENCODINGS}
        lengths = [times * TASKS[task].trained_length for times in TIMES]
        for offsets in TASKS[task].offsets:
            asked: dict[str, Any] = {"n": ROWS, "offsets": (offsets,)}
            plain = [
                (name, length_generalisation(model, lengths, variants=["plain"], **asked))
                for name, model in models.items()
            ]
            yield f"## {_title(task, offsets)}\n"
            yield table_of(plain, lengths) + "\n"
            rotary = models["rotary"]
            read = length_generalisation(rotary, lengths, **asked)
            stretched: list[tuple[str, list[LengthScores]]] = [
                (name, [of for of in read if of.variant == name]) for name in variants_of(rotary)
            ]
            stretched.append(("yarn, as its formula", _formula(rotary, lengths, offsets)))
            yield "Rotary, without further training:\n"
            yield table_of(stretched, lengths) + "\n"
            length = TIMES[1] * TASKS[task].trained_length
            yield f"By position, in {POSITION_ROWS} rows of {length}:\n"
            yield position_table(models, length, offsets) + "\n"


def position_table(models: Mapping[str, HookedTransformer], length: int, offsets: Offsets) -> str:
    """Share of right answers by position, from the last trained positions on."""
    trained = length // TIMES[1]
    parts = [slice(at, at + BIN) for at in range(trained - BIN, length, BIN)]
    rows = []
    for name, model in models.items():
        (of,) = length_generalisation(
            model, [length], POSITION_ROWS, variants=["plain"], offsets=(offsets,)
        )
        if of.scores is not None:
            found = [of.scores.mean_accuracy(part).mean for part in parts]
            rows.append([name, *(f"{mean:.2f}" for mean in found)])
    return _markdown(["", *map(_named, parts)], rows)


class RampInTurns(RotaryScaling):
    """YaRN with the ramp of the paper's formula (Peng et al. 2023, NTK-by-parts)."""

    def frequencies(self, plain: Tensor, base: float, length: int) -> Tensor:
        turns = self.original_n_ctx * plain / (2 * math.pi)
        kept = ((turns - self.beta_slow) / (self.beta_fast - self.beta_slow)).clamp(0, 1)
        return plain * (kept + (1 - kept) / self.factor)


def _formula(
    model: HookedTransformer, lengths: Sequence[int], offsets: Offsets
) -> list[LengthScores]:
    trained, found = trained_length_of(model), []
    for length in lengths:
        rows = position_rows(model, ROWS, length, offsets=offsets)
        scaling = RampInTurns(kind="yarn", factor=length / trained, original_n_ctx=trained)
        scores = by_position(with_rotary(model, scaling), rows)
        found.append(LengthScores("yarn", offsets, length, trained, rows.kind, scores, None))
    return found


def _title(task: str, offsets: str) -> str:
    if len(TASKS[task].offsets) == 1:
        return task.capitalize()
    return {
        "scaled": f"{task.capitalize()}, distances growing with the row",
        "trained": f"{task.capitalize()}, distances as in training, at new places",
    }[offsets]


def text_table(folder: str, text: str) -> Iterator[str]:
    """Loss on a text by position, for each variant, in rows of 8 trained lengths."""
    model = load_model(folder, device="cpu")
    trained = trained_length_of(model)
    length = TEXT_TIMES[-1] * trained
    rows = position_rows(model, TEXT_ROWS, length, texts=[Path(text).read_text("utf-8")])
    edges = [0, *(times * trained for times in TEXT_TIMES)]
    parts = [slice(start, stop) for start, stop in itertools.pairwise(edges)]
    name = os.path.basename(folder.rstrip("/"))
    yield f"## {name} ({encoding_name(model)}) on {os.path.basename(text)}\n"
    yield (
        f"Trained on {trained} tokens; {TEXT_ROWS} rows of {length}. Loss in nats by position, ± "
        "standard error over rows. The factor of each variant is one for the whole row.\n"
    )
    lines = []
    for variant in variants_of(model):
        for times in (1,) if variant == "plain" else TEXT_TIMES[1:]:
            scores = by_position(rotary_variant(model, variant, times * trained, trained), rows)
            means = [scores.mean_loss(part) for part in parts]
            cells = [f"{mean.mean:.2f} ± {mean.stderr:.2f}" for mean in means]
            lines.append([variant if times == 1 else f"{variant}, {times}", *cells])
    yield _markdown(["variant, factor", *map(_named, parts)], lines) + "\n"


def _named(part: slice) -> str:
    return f"{part.start} … {part.stop - 1}"


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.length_generalisation", description=__doc__
    )
    parser.add_argument("folder", nargs="?", help="a rotary checkpoint")
    parser.add_argument("text", nargs="?", help="a text file for it to read")
    asked = parser.parse_args()
    if (asked.folder is None) != (asked.text is None):
        parser.error("a checkpoint needs a text, and a text a checkpoint")
    trained = TASKS["copy"].trained_length
    chances = {"copy_chance": 1 / len(SYMBOLS), "count_chance": 1 / COUNT_MODULUS}
    print(INTRO.format(trained=trained, rows=ROWS, **chances))
    for part in tasks():
        print(part, flush=True)
    if asked.folder is not None:
        for part in text_table(asked.folder, asked.text):
            print(part, flush=True)
    print(DISCUSSION, end="")


if __name__ == "__main__":
    main()
