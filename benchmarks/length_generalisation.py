"""How far each encoding reads past its training: docs/length-generalisation.md.

`python -m benchmarks.length_generalisation [FOLDER TEXT]` prints the page. The zoo's models of both
tasks with every encoding at 1, 2, 4 and 8 times the trained length, the rotary ones also with their
positions stretched; and a rotary checkpoint on real text, by position.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from analyses.length_tables import encoding_name
from interp import load_model, zoo
from interp.positional.length import (
    TIMES,
    LengthScores,
    by_position,
    length_generalisation,
    rotary_variant,
    trained_length_of,
    variants_of,
)
from interp.positional.rows import position_rows
from interp.zoo.tasks import ENCODINGS, TASKS

ROWS = 128  # of a task, of each length
TEXT_ROWS, TEXT_TIMES = 8, (1, 2, 4)
INTRO = """# Reading past the trained length

Made by `python -m benchmarks.length_generalisation FOLDER TEXT`. Seven small decoders with two
attention layers, trained alike (same data, same seed, {trained} tokens a row) but for how they
encode position, on each of two tasks of the zoo: *copy*, which continues a stretch of symbols that
came before, at whatever distance, and *count*, which says how many tokens have come, modulo 5.
Each reads {rows} fresh rows of its trained length and of 2, 4 and 8 times that.

Cells are the share of right answers, ± its standard error over rows, and in brackets that of the
positions past the trained length alone. *Refuses*: there is no vector for such a position, and the
model says so. A guess is right in {copy_chance:.0%} of cases in copy and in 20% in count.
"""

DISCUSSION = """## Beside what was published

What was measured rules; each model is one training run, and errors are over rows, not over
trainings.

- **ALiBi holds** on copy, nearly whole at four times the length and best at eight, as Press et al.
  (2022) found for the perplexity of text.
- **T5's biases** hold at twice the length and then fall, ALiBi ahead of them: the order of Press et
  al., not that of Kazemnejad et al. (2023), where T5's biases led on small tasks. Distances beyond
  the training fall into buckets of their own here, which were never trained.
- **Rotary and sinusoidal** degrade from the first new position on. Press et al. saw rotary last
  longer; here, where distances grow too, sinusoidal lasts longer.
- **Learned tables** (learned, shortformer) end: the model refuses.
- **No encoding** is not in between: two attention-only layers without one do not learn to copy at
  all, so there is nothing to carry further. Haviv et al. (2022) and Kazemnejad et al. studied
  deeper models.
- **Count** is carried by none of them: beyond the trained length all are near a guess, T5's biases
  a little above it at twice. ALiBi and no encoding do not learn it fully in the first place. That
  an encoding "holds" is a statement about tasks of relative position.
- **Stretching rotary** on copy: YaRN first at two and four times the length, dynamic NTK at eight,
  fixed NTK above the plain model at every length. Linear interpolation is worse than nothing; Chen
  et al. (2023) fine-tuned, which was not done here. On count every variant costs more than it
  gives: even where new positions gain (NTK at twice the length), trained ones lose more, for they
  are read as others than they were.
- **stories260K** shows no cliff at its 512 tokens up to four times that, unlike the LLaMA models of
  Chen et al.; NTK with factor 2 is within the error of the plain model, linear interpolation costs
  0.3 to 1 nats. Shakespeare is not what it was trained on, and its loss is high throughout, which
  may hide what a loss of context would cost.
"""


def table_of(found: Iterable[tuple[str, Sequence[LengthScores]]], lengths: Sequence[int]) -> str:
    """A row for each label, a column for each length."""
    head = ["", *(f"{length}" for length in lengths)]
    lines = [_line(head), _line(["---"] * len(head))]
    for label, scores in found:
        by_length = {of.length: of for of in scores}
        lines.append(_line([label, *(accuracy_cell(by_length[length]) for length in lengths)]))
    return "\n".join(lines)


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
            read = length_generalisation(rotary, lengths, variants=variants_of(rotary), **asked)
            yield "Rotary, without further training:\n"
            yield (
                table_of(
                    [
                        (name, [of for of in read if of.variant == name])
                        for name in variants_of(rotary)
                    ],
                    lengths,
                )
                + "\n"
            )


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
    head = ["variant, factor", *(f"{part.start} … {part.stop - 1}" for part in parts)]
    lines = [_line(head), _line(["---"] * len(head))]
    for variant in variants_of(model):
        for times in (1,) if variant == "plain" else TEXT_TIMES[1:]:
            scores = by_position(rotary_variant(model, variant, times * trained, trained), rows)
            means = [scores.mean_loss(part) for part in parts]
            cells = [f"{mean.mean:.2f} ± {mean.stderr:.2f}" for mean in means]
            lines.append(_line([variant if times == 1 else f"{variant}, {times}", *cells]))
    yield "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


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
    chance = 1 / 62
    print(INTRO.format(trained=TASKS["copy"].trained_length, rows=ROWS, copy_chance=chance))
    for part in tasks():
        print(part, flush=True)
    if asked.folder is not None:
        for part in text_table(asked.folder, asked.text):
            print(part, flush=True)
    print(DISCUSSION)


if __name__ == "__main__":
    main()
