"""What zoo models were trained to do, as rows of any length with the right answers.

```python
task = task_of("zoo:copy-rotary")
rows = task.rows(n=100, length=4 * task.trained_length, seed=0)
right = model(rows.tokens).argmax(-1) == rows.targets
right[rows.scored].float().mean()
```

Three tasks, all in the alphabet of `interp.zoo.recipes.symbols`, all rows beginning with BOS:

- `copy`: a stretch of symbols comes a second time after a gap. Lead-in, stretch and gap differ from
  row to row, so that positions alone give nothing away, and nor does any one distance. What has
  to be known is where a symbol was before, and what came after it.
- `count`: the first symbol is a digit; at every position from there on the answer is the digit that
  counting one up at each token has come to, modulo `COUNT_MODULUS`. The letters in between say
  nothing. What has to be known is how far from the start one is.
- `repeat`: what `zoo:induction` was trained to do: `copy` with no gap. (In its training rows no
  symbol of lead-in or tail came twice; here they may.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.errors import require_one_of, require_whole
from interp.zoo.recipes.symbols import BOS_ID, SYMBOLS, VOCABULARY

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

COPY_LENGTH = COUNT_LENGTH = 48  # tokens, BOS included, that the models are trained on
REPEAT_LENGTH = 64
COUNT_MODULUS = 5
DIGIT_IDS = tuple(VOCABULARY.index(str(digit)) for digit in range(10))
LETTER_IDS = tuple(i for i, text in enumerate(VOCABULARY) if text.isalpha())
SHORTEST_STRETCH = 4

Offsets = Literal["scaled", "trained"]


@dataclass(frozen=True)
class TaskRows:
    """Rows of a task.

    Attributes:
        tokens: `[batch, pos]`, BOS first.
        targets: `[batch, pos]`: what the logits at each position should say.
        scored: `[batch, pos]`: where that can be known.
    """

    tokens: Int[Tensor, "batch pos"]
    targets: Int[Tensor, "batch pos"]
    scored: Bool[Tensor, "batch pos"]


@dataclass(frozen=True)
class Task:
    """What a model was trained to do.

    Attributes:
        name: `copy`, `count` or `repeat`.
        description: In a sentence or two.
        trained_length: Tokens in a row of the training, BOS included.
        shortest: The shortest rows there can be, in tokens.
        offsets: How distances may go with the rows' length; the first is the default. See `rows`.
        next_tokens: Whether answers are the next tokens. If not, the model's logits say nothing
            about what comes next, in any text.
        draw: `draw(generator, n, length, offsets)` makes rows.
    """

    name: str
    description: str
    trained_length: int
    shortest: int
    offsets: tuple[Offsets, ...]
    next_tokens: bool
    draw: Callable[[torch.Generator, int, int, Offsets], TaskRows]

    def rows(
        self, n: int, length: int | None = None, seed: int = 0, offsets: Offsets | None = None
    ) -> TaskRows:
        """Fresh rows, the same for the same arguments, on the CPU.

        Args:
            n: Number of rows.
            length: Tokens in each, BOS included. None: as in training.
            seed: Of the rows.
            offsets: How far apart are things that belong together, in rows of other lengths than in
                training: `scaled`, in proportion to the length; `trained`, as in training, so that
                places are new but distances are not. None: the first of the task's own. `copy` has
                both; `count` is of distances from the start, which are `scaled`; `repeat` is of
                stretches with no gap, `trained`.

        Raises:
            InputError: for a number out of bounds, for rows too short for the task, or for
                offsets that the task does not have.
        """
        length = self.trained_length if length is None else length
        offsets = self.offsets[0] if offsets is None else offsets
        require_whole("n", n, 1)
        require_whole("length", length, self.shortest)
        require_whole("seed", seed, 0)
        require_one_of(f"offsets of {self.name!r}", offsets, self.offsets)
        return self.draw(torch.Generator().manual_seed(seed), n, length, offsets)


def _copy(generator: torch.Generator, n: int, length: int, offsets: Offsets) -> TaskRows:
    """Rows of BOS, lead-in, stretch, gap, the stretch again, and a tail.

    A stretch has 4 … 16 symbols, none of them twice. Lead-in, gap and tail are any of the other
    symbols, drawn one by one, so rows may be of any length with no symbol of the stretch in a third
    place. Scored is what follows from an earlier occurrence: at symbols of the second stretch other
    than its last, the next one.
    """
    gap_within = length if offsets == "scaled" else min(length, COPY_LENGTH)
    return _stretches(generator, n, length, longest=16, gap_within=gap_within)


def _repeat(generator: torch.Generator, n: int, length: int, offsets: Offsets) -> TaskRows:
    """As `_copy`, with stretches of 4 … 24 symbols and no gap."""
    return _stretches(generator, n, length, longest=24, gap_within=0)


def _count(generator: torch.Generator, n: int, length: int, offsets: Offsets) -> TaskRows:
    """Rows of BOS, a digit d below `COUNT_MODULUS`, and letters.

    The answer at position t (BOS is position 0) is (d + t - 1) modulo `COUNT_MODULUS`: at the digit
    itself the digit, at the letter after it one more. Scored from position 1 on.
    """
    digits, letters = torch.tensor(DIGIT_IDS), torch.tensor(LETTER_IDS)
    first = torch.randint(0, COUNT_MODULUS, (n, 1), generator=generator)
    rest = torch.randint(0, len(LETTER_IDS), (n, length - 2), generator=generator)
    tokens = torch.cat([torch.full((n, 1), BOS_ID), digits[first], letters[rest]], 1)
    place = torch.arange(length)
    targets = digits[(first + place - 1) % COUNT_MODULUS]
    return TaskRows(tokens, targets, (place >= 1).expand(n, length).contiguous())


def _stretches(
    generator: torch.Generator, n: int, length: int, longest: int, gap_within: int
) -> TaskRows:
    """Rows with a stretch that comes twice, the gap at most what rows of `gap_within` leave."""
    longest = min(longest, length // 2)
    order = torch.rand(n, len(SYMBOLS), generator=generator).argsort(1) + BOS_ID + 1
    stretch = torch.randint(SHORTEST_STRETCH, longest + 1, (n, 1), generator=generator)
    room = length - 2 * stretch  # one token more than the row has: the last one's target
    most = (gap_within - 2 * stretch).clamp(min=0)
    gap = torch.minimum(_up_to(generator, most), _up_to(generator, most))
    start = _up_to(generator, room - gap)
    again = start + stretch + gap
    other = _up_to(generator, (len(SYMBOLS) - stretch - 1).expand(n, length)) + stretch
    place = torch.arange(length)
    source = torch.where((place >= start) & (place < start + stretch), place - start, other)
    source = torch.where((place >= again) & (place < again + stretch), place - again, source)
    symbols = order.gather(1, source)
    tokens = torch.cat([torch.full((n, 1), BOS_ID), symbols[:, :-1]], 1)
    scored = (place > again) & (place < again + stretch)  # by the place of the answer
    return TaskRows(tokens, symbols, scored)


def _up_to(generator: torch.Generator, most: Int[Tensor, "*axes"]) -> Int[Tensor, "*axes"]:
    """A whole number from 0 to `most`, all equally likely."""
    chance = torch.rand(most.shape, generator=generator, dtype=torch.float64)
    return (chance * (most + 1)).long()


TASKS = {
    task.name: task
    for task in (
        Task(
            "copy",
            "Continue a stretch of symbols that came before, at whatever distance.",
            COPY_LENGTH,
            2 * SHORTEST_STRETCH,
            ("scaled", "trained"),
            True,
            _copy,
        ),
        Task(
            "count",
            f"Count one up at each token from the digit given first, modulo {COUNT_MODULUS}.",
            COUNT_LENGTH,
            2,
            ("scaled",),
            False,
            _count,
        ),
        Task(
            "repeat",
            "Continue a stretch of symbols that has just come.",
            REPEAT_LENGTH,
            2 * SHORTEST_STRETCH,
            ("trained",),
            True,
            _repeat,
        ),
    )
}
ENCODINGS = {
    "sinusoidal": "sinusoidal",
    "learned": "standard",
    "rotary": "rotary",
    "alibi": "alibi",
    "t5": "relative_positional_bias",
    "shortformer": "shortformer",
    "none": "none",
}


def task_of(model: HookedTransformer | str) -> Task | None:
    """What a zoo model was trained to do; None for a model whose task is not one of these.

    Args:
        model: The model, or its name, such as `zoo:copy-rotary`.
    """
    name = model if isinstance(model, str) else str(model.cfg.model_name)
    return _BY_MODEL.get(name)


_BY_MODEL = {
    "zoo:induction": TASKS["repeat"],
    **{f"zoo:{task}-{each}": TASKS[task] for task in ("copy", "count") for each in ENCODINGS},
}
