"""How well a model predicts beyond the length that it was trained at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor

from analyses.base import Analysis
from analyses.inputs.prompts import token_texts
from analyses.positions.length_tables import (
    by_length_table,
    by_position_table,
    figures,
    published_table,
)
from analyses.positions.rows import RowChoice
from analyses.registry import register
from analyses.results.checks import SCALED, TOLERANCES, scaled_error
from analyses.results.result import AnalysisResult, Check
from interp import zoo
from interp.behaviour import predicts_next_tokens
from interp.errors import InputError, require
from interp.position_effects.length import (
    LengthScores,
    Variant,
    by_position,
    kind_to_predict,
    length_generalisation,
    rotary_variant,
    trained_length_of,
    variants_of,
)
from interp.position_effects.rows import Rows, RowsKind, position_rows
from interp.rotary_scaling import RotaryScaling
from interp.zoo.tasks import ENCODINGS, task_of

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

SHORTEST = 12  # tokens that a model must be able to read
ROWS_OF_A_TASK, ROWS_OF_OTHERS = 64, 8  # of others the lengths are mostly long
TIMES_OF_A_TASK, TIMES_OF_OTHERS = 8, 4
CHECKED_ROWS, LONGEST_CHECKED = 4, 256


class LengthParams(RowChoice):
    """Which lengths are read, and how."""

    sequences: int | None = Field(
        None,
        ge=2,
        le=100_000,
        description=f"How many rows of each length; by default {ROWS_OF_A_TASK} of a task, "
        f"{ROWS_OF_OTHERS} of text or random tokens.",
    )
    rows: RowsKind = Field(
        "auto",
        description="What rows are: of the model's task, of the texts given, of random tokens, or "
        "of random tokens that come twice; auto is the first of text, task, repeated that there "
        "is.",
    )
    lengths: list[int] | None = Field(
        None,
        min_length=1,
        description="Tokens of the rows; by default the trained length and its doublings.",
    )
    times: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Up to how many trained lengths to double; by default "
        f"{TIMES_OF_A_TASK} for a task, else {TIMES_OF_OTHERS}. Not with lengths.",
    )
    trained_length: int | None = Field(
        None,
        ge=1,
        description="Tokens of a row in training; by default that of the model's task, else what "
        "it was made for.",
    )
    variants: list[str] = Field(
        [],
        description="Ways to stretch rotary positions (plain, linear, ntk, dynamic, yarn); by "
        "default all.",
    )
    siblings: bool = Field(
        False, description="Beside a zoo model, those of the other encodings with its task."
    )

    @field_validator("lengths")
    @classmethod
    def _lengths_are_rows(cls, lengths: list[int] | None) -> list[int] | None:
        if lengths is not None and (min(lengths) < 2 or len(set(lengths)) < len(lengths)):
            raise ValueError("lengths must be different numbers of at least 2")
        return lengths

    @field_validator("variants")
    @classmethod
    def _variants_exist(cls, variants: list[str]) -> list[str]:
        foreign = [each for each in variants if each not in get_args(Variant)]
        if foreign or len(set(variants)) < len(variants):
            raise ValueError(f"variants are different ones of {', '.join(get_args(Variant))}")
        return variants


@register
class LengthGeneralisation(Analysis[LengthParams]):
    """Loss and accuracy by position and by length, within and beyond the trained length.

    Sources: Press et al. 2022, Train Short, Test Long; Kazemnejad et al. 2023, The Impact of
    Positional Encoding on Length Generalization in Transformers; Chen et al. 2023, Extending
    Context Window via Positional Interpolation; Peng et al. 2023, YaRN.
    """

    name = "length-generalisation"
    question = "How well does it predict beyond the length that it was trained at?"
    caveat = (
        "A model is one training run: another seed may read further or less far with the same "
        "encoding, and a task says little about text. Rows of other lengths are other rows, with "
        "other distances and more tokens to tell apart, so a curve over lengths mixes these with "
        "new positions; where a task can keep its distances both are shown. Variants of rotary "
        "positions are used without the fine-tuning that their authors recommend, and two of them "
        "in the form of transformers, not of the paper: dynamic, whose base grows faster, and "
        "yarn, which in short training lengths keeps more fast pairs. Without a task a model is "
        "taken to be trained at n_ctx, which its training may not have filled. Random tokens that "
        "come twice say nothing of a model without induction, which is at chance or worse at "
        "every length: a variant that lowers such a loss does not read better. In rows longer than "
        "twice the vocabulary they are not distinct, and what follows is not certain. Error bars "
        "are standard errors over rows, not over trainings."
    )

    @classmethod
    def supports(cls, model: HookedTransformer) -> str | None:
        """Causal language models of one stack that read more than a few tokens."""
        if not predicts_next_tokens(model) and task_of(model) is None:
            return "it does not predict next tokens"
        if model.cfg.n_ctx < SHORTEST:
            return f"it reads {model.cfg.n_ctx} tokens, too few to tell positions apart"
        return None

    def quick(self, params: LengthParams) -> LengthParams:
        """Fewer rows, and twice the trained length only."""
        times = 2 if params.lengths is None else None
        return params.model_copy(update={"sequences": 8, "times": times})

    def run(self, model: HookedTransformer, params: LengthParams) -> AnalysisResult:
        """Read rows of every length in every way, and put it beside what was published."""
        require(
            params.lengths is None or params.times is None,
            "give lengths or times, not both",
        )
        models = _models(model, params.siblings)
        found = [(each, _scores(each, params)) for each in models]
        by_length = by_length_table(found)
        tables = {
            "by-length": by_length,
            "by-position": by_position_table(found),
            "published": published_table(by_length),
        }
        rows = _checked_rows(model, params)
        return self.result(
            model,
            params,
            tables=tables,
            figures=figures(tables),
            checks=_checks(model, rows, _chosen(model, params)),
            tokens=rows.tokens.tolist(),
            str_tokens=[token_texts(model, row) for row in rows.tokens],
        )


def _models(model: HookedTransformer, siblings: bool) -> list[HookedTransformer]:
    """The model, and those of the zoo that had the same training with other encodings."""
    if not siblings:
        return [model]
    name = str(model.cfg.model_name)
    family = name.rsplit("-", 1)[0]
    names = [f"{family}-{encoding}" for encoding in ENCODINGS]
    if name not in names or name not in zoo.entries():
        raise InputError(
            "siblings are of the zoo's models of one task with different encodings, such as "
            f"zoo:copy-rotary. Received {name!r}."
        )
    device, dtype = model.W_E.device, model.cfg.dtype
    return [model if each == name else zoo.load(each, device, dtype) for each in names]


def _kind(model: HookedTransformer, params: LengthParams) -> RowsKind:
    return kind_to_predict(model, params.text, params.rows)


def _n_rows(model: HookedTransformer, params: LengthParams) -> int:
    if params.sequences is not None:
        return params.sequences
    return ROWS_OF_A_TASK if _kind(model, params) == "task" else ROWS_OF_OTHERS


def _lengths(model: HookedTransformer, params: LengthParams) -> list[int]:
    if params.lengths is not None:
        return sorted(params.lengths)
    times = params.times
    if times is None:
        times = TIMES_OF_A_TASK if _kind(model, params) == "task" else TIMES_OF_OTHERS
    trained = trained_length_of(model, params.trained_length)
    return [trained << doubling for doubling in range(times.bit_length())]


def _chosen(model: HookedTransformer, params: LengthParams) -> tuple[Variant, ...]:
    """The variants asked for; of a model without rotary positions, beside one, what it has."""
    own = variants_of(model)
    if not params.variants:
        return own
    wanted: Any = tuple(params.variants)
    return wanted if not params.siblings else tuple(v for v in wanted if v in own) or ("plain",)


def _scores(model: HookedTransformer, params: LengthParams) -> list[LengthScores]:
    return length_generalisation(
        model,
        _lengths(model, params),
        _n_rows(model, params),
        params.seed,
        _chosen(model, params),
        trained_length=params.trained_length,
        texts=params.text,
        kind=_kind(model, params),
        prepend_bos=params.prepend_bos,
    )


# --- identities ----------------------------------------------------------------------------------


def _checked_rows(model: HookedTransformer, params: LengthParams) -> Rows:
    """A few rows of a length that the model can read."""
    length = min(model.cfg.n_ctx, *_lengths(model, params), LONGEST_CHECKED)
    n = min(CHECKED_ROWS, _n_rows(model, params))
    kind, texts = _kind(model, params), params.text
    return position_rows(model, n, length, params.seed, texts, kind, params.prepend_bos)


@torch.no_grad()
def _checks(model: HookedTransformer, rows: Rows, variants: Sequence[Variant]) -> list[Check]:
    tolerance = TOLERANCES[model.cfg.dtype]
    assert rows.targets is not None
    scores = by_position(model, rows)
    logits = model(rows.tokens, attention_mask=torch.ones_like(rows.tokens))
    targets = rows.targets.masked_fill(~rows.scored, -100)
    mean = F.cross_entropy(logits.flatten(0, 1).double(), targets.flatten())
    at = scores.count > 0
    summed = (scores.loss[at] * scores.count[at]).sum() / scores.count.sum()
    checks = [
        Check(
            name="positions-make-the-whole",
            value=scaled_error(summed, mean),
            tolerance=tolerance,
            note="losses of positions, weighted by their predictions, against torch's "
            f"cross-entropy of all of them; {SCALED}",
        )
    ]
    scaling = model.cfg.rotary_scaling
    if not (isinstance(scaling, RotaryScaling) and scaling.depends_on_length):
        checks.append(
            Check(
                name="what-follows-changes-nothing",
                value=scaled_error(*_losses_of_a_prefix(model, rows)),
                tolerance=tolerance,
                note="losses at each position of rows cut at three quarters, read one at a time, "
                f"against those of whole rows read together; {SCALED}",
            )
        )
    stretched = [each for each in variants if each != "plain"]
    if stretched:
        errors = [
            scaled_error(rotary_variant(model, each, rows.length, rows.length)(rows.tokens), logits)
            for each in stretched
        ]
        checks.append(
            Check(
                name="factor-one-changes-nothing",
                value=max(errors),
                tolerance=tolerance,
                note=f"logits with positions stretched by 1 ({', '.join(stretched)}) against the "
                f"model's own; {SCALED}",
            )
        )
    return checks


def _losses_of_a_prefix(model: HookedTransformer, rows: Rows) -> tuple[Tensor, Tensor]:
    """The losses of its positions: cut and row by row; in the whole rows, all together."""
    everywhere = replace(rows, scored=torch.ones_like(rows.scored))
    cut = rows.length * 3 // 4
    assert rows.targets is not None
    first = replace(
        everywhere,
        tokens=rows.tokens[:, :cut],
        targets=rows.targets[:, :cut],
        scored=everywhere.scored[:, :cut],
    )
    whole = by_position(model, everywhere).losses[:, :cut]
    return by_position(model, first, batch_size=1).losses, whole
