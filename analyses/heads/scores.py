"""Which heads look where known kinds of heads look: previous token, induction, sink, …"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import torch
from pydantic import Field, field_validator
from torch import Tensor

from analyses.base import Analysis, Parameters
from analyses.heads.offsets import by_offset_table, offsets_table
from analyses.heads.training import log_table, scored_snapshots, training_table
from analyses.inputs.prompts import token_texts
from analyses.registry import register
from analyses.results.checks import SCALED, TOLERANCES, scaled_error
from analyses.results.result import AnalysisResult, Check
from interp.behaviour import (
    BEHAVIOURS,
    BehaviourScore,
    CheckpointScores,
    OffsetScores,
    RepeatedTokens,
    head_scores,
    in_context_score,
    mean_loss,
    offset_scores,
    predicts_next_tokens,
    repeated_tokens,
    shows,
    token_losses,
)
from interp.behaviour.reading import Part, read_text
from interp.behaviour.scores import N_ERRORS, THRESHOLD
from interp.charts.spec import Chart
from interp.errors import InputError

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

SHORTEST = 12  # tokens that a model must be able to read
LEADING = 3  # heads shown of each behaviour
RANDOM, GIVEN = "repeated random tokens", "text"


class HeadScoresParams(Parameters):
    """What is read, and what counts as showing a behaviour."""

    length: int | None = Field(
        None, ge=2, description="Tokens of the stretch that comes twice; by default 50, or what "
        "the model can read twice.",
    )  # fmt: skip
    batch: int = Field(32, ge=2, le=1024, description="How many rows of repeated random tokens.")
    seed: int = Field(0, ge=0, description="Of the random tokens.")
    text: list[str] = Field(
        [], description="Texts to score heads on too, each one sequence; errors need two or more."
    )
    threshold: float = Field(
        THRESHOLD,
        gt=0,
        le=1,
        description="A head shows a behaviour if (score - chance) / (1 - chance) reaches this …",
    )
    n_errors: float = Field(
        N_ERRORS, ge=0, description="… and its score is this many standard errors above chance."
    )
    offsets: bool = Field(True, description="Score every distance that heads may look back too.")
    part: Literal["decoder", "encoder"] | None = Field(
        None,
        description="Of an encoder-decoder: whose attention to its own text; the encoder's by "
        "default.",
    )
    over_training: bool = Field(
        True, description="Score the snapshots of a zoo model's training too, where it has any."
    )
    snapshots: int = Field(
        20, ge=1, le=100, description="How many of them at most, evenly chosen, the last included."
    )
    prepend_bos: bool | None = Field(
        None, description="Begin rows with BOS; by default as the model was made for."
    )

    @field_validator("text", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, text: Any) -> Any:
        return [text] if isinstance(text, str) else text


@dataclass(frozen=True)
class Text:
    """One of the two kinds of text, and how heads score on it."""

    name: str
    arguments: dict[str, Any]
    scores: dict[str, BehaviourScore]


@register
class HeadScores(Analysis[HeadScoresParams]):
    """Attention mass of every head where a kind of head would look, with errors and chance.

    Sources: Elhage et al. 2021, A Mathematical Framework for Transformer Circuits; Olsson et al.
    2022, In-context Learning and Induction Heads.
    """

    name = "head-scores"
    question = "Which heads look at the previous token, at earlier copies, or at a sink?"
    caveat = (
        "A score says where a head looks, not what it does there: a head that attends like an "
        "induction head need not copy what it sees, and a head that copies need not be one. "
        "Repeated random tokens are unlike any text; a head may do something else on text. Error "
        "bars are standard errors over sequences of this kind of text, and say nothing about "
        "other kinds. Heads below the threshold are not reported, however steady they are."
    )

    @classmethod
    def supports(cls, model: HookedTransformer) -> str | None:
        """Models with heads that can read a repeated stretch."""
        cfg = model.cfg
        if not cfg.n_layers:
            return "it has no heads"
        if cfg.n_ctx < SHORTEST:
            return f"it reads {cfg.n_ctx} tokens, too few for a stretch that comes twice"
        return None

    def quick(self, params: HeadScoresParams) -> HeadScoresParams:
        """Fewer rows and snapshots."""
        return params.model_copy(update={"batch": 8, "snapshots": 5})

    def run(self, model: HookedTransformer, params: HeadScoresParams) -> AnalysisResult:
        """Score repeated random tokens and the texts given, and look back along the training."""
        has_both = model.cfg.architecture == "encoder-decoder"
        if params.part is not None and not has_both:
            raise InputError(
                f"part is for an encoder-decoder. This is a(n) {model.cfg.architecture}."
            )
        part: Part | None = (params.part or "encoder") if has_both else None
        repeated, texts = _texts(model, params, part)
        training: list[CheckpointScores] = []
        if params.over_training:
            training = scored_snapshots(
                model,
                params.snapshots,
                batch=params.batch,
                length=params.length,
                seed=params.seed,
                prepend_bos=params.prepend_bos,
            )
        scores = pd.concat([_scores_table(text, params) for text in texts], ignore_index=True)
        tables = {
            "found": _ranked(scores[scores["verdict"] == "shows it"]),
            "leading": _leading(scores),
            "scores": scores,
        }
        if params.offsets:
            by_offset = offset_scores(model, **texts[0].arguments)
            tables["offsets"] = offsets_table(by_offset)
            tables["by-offset"] = by_offset_table(by_offset)
        if predicts_next_tokens(model):
            tables["in-context"] = _in_context_table(model, repeated)
        if training:
            tables["training"] = training_table(model, training, params.threshold, params.n_errors)
            log = log_table(model, training[-1], params.threshold, params.n_errors)
            if log is not None:
                tables["training-log"] = log
        return self.result(
            model,
            params,
            tables=tables,
            figures=_figures(tables),
            checks=_checks(model, texts, by_offset if params.offsets else None),
            tokens=repeated.tokens.tolist(),
            str_tokens=[token_texts(model, row) for row in repeated.tokens],
        )


def _texts(
    model: HookedTransformer, params: HeadScoresParams, part: Part | None
) -> tuple[RepeatedTokens, list[Text]]:
    def made(of: Part | None) -> RepeatedTokens:
        return repeated_tokens(
            model, params.batch, params.length, params.seed, params.prepend_bos, of
        )

    repeated = made(part)
    arguments: dict[str, Any] = {"input": repeated.tokens, "part": part}
    if part == "decoder":
        arguments = {
            "input": made("encoder").tokens, "decoder_input": repeated.tokens, "part": part,
        }  # fmt: skip
    texts = [Text(RANDOM, arguments, head_scores(model, **arguments))]
    if params.text:
        if part == "decoder":
            raise InputError("text is scored in the encoder alone. Received part='decoder'.")
        arguments = {"input": params.text, "part": part, "prepend_bos": params.prepend_bos}
        texts.append(Text(GIVEN, arguments, head_scores(model, **arguments)))
    return repeated, texts


def _scores_table(text: Text, params: HeadScoresParams) -> pd.DataFrame:
    rows = []
    for name, of in text.scores.items():
        judged = of.n_sequences > 1
        shown = shows(of, params.threshold, params.n_errors) if judged else None
        score, stderr, chance, excess = of.score, of.stderr, of.chance, of.excess
        errors = of.errors_above_chance
        for layer in range(score.shape[0]):
            for head in range(score.shape[1]):
                verdict = "not judged: fewer than two sequences"
                if shown is not None:
                    verdict = "shows it" if bool(shown[layer, head]) else "does not"
                rows.append(
                    {
                        "text": text.name,
                        "behaviour": name.replace("_", " "),
                        "layer": layer,
                        "head": head,
                        "label": f"L{layer}H{head}",
                        "score": float(score[layer, head]),
                        "stderr": float(stderr[layer, head]),
                        "chance": float(chance[layer]),
                        "excess": float(excess[layer, head]),
                        "errors_above_chance": float(errors[layer, head]),
                        "verdict": verdict,
                        "sequences": of.n_sequences,
                        "destinations": of.n_destinations,
                    }
                )
    return pd.DataFrame(rows)


def _ranked(scores: pd.DataFrame) -> pd.DataFrame:
    columns = ["text", "behaviour", "label", "score", "stderr", "chance", "errors_above_chance"]
    order = scores.sort_values("score", ascending=False, kind="stable")
    kinds = [name.replace("_", " ") for name in BEHAVIOURS]
    groups = [order[order["behaviour"] == kind] for kind in kinds]
    return pd.concat(groups, ignore_index=True)[columns]


def _leading(scores: pd.DataFrame) -> pd.DataFrame:
    """The heads with the highest scores of each behaviour, those that do not show it too."""
    on_random = scores[(scores["text"] == RANDOM) & scores["score"].notna()]
    order = on_random.sort_values("score", ascending=False, kind="stable")
    top = order.groupby("behaviour", sort=False).head(LEADING)
    ranked = _ranked(top)
    return ranked.merge(top[["behaviour", "label", "verdict"]], on=["behaviour", "label"])


def _in_context_table(model: HookedTransformer, repeated: RepeatedTokens) -> pd.DataFrame:
    losses = token_losses(model, repeated.tokens)
    found = {
        "loss of the repeat": mean_loss(losses, repeated.known),
        "loss of the stretch": mean_loss(losses, repeated.unknown),
        "in-context score": in_context_score(losses, repeated.unknown, repeated.known),
    }
    rows = [(name, of.mean, of.stderr) for name, of in found.items()]
    rows.append(("a guess", math.log(model.cfg.d_vocab_out), 0.0))
    table = pd.DataFrame(rows, columns=["quantity", "nats", "stderr"])
    first, last = repeated.unknown, repeated.known
    notes = [
        f"tokens {last.start} … {last.stop - 1}, which follow from earlier ones",
        f"tokens {first.start} … {first.stop - 1}, which follow from nothing",
        "the first less the second, row by row: negative where context helps",
        "ln of the vocabulary's size",
    ]
    return table.assign(note=notes)


def _figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, Chart]:
    charts = {}
    for text, suffix in ((RANDOM, ""), (GIVEN, "-on-text")):
        rows = tables["scores"]
        if not (rows["text"] == text).any():
            continue
        charts[f"scores{suffix}"] = Chart(
            kind="heatmap",
            table="scores",
            where={"text": text},
            x="head",
            y="layer",
            value="score",
            value_label="attention mass",
            facet="behaviour",
            probability=True,
            title=f"Where heads look, on {text}",
            alt="Attention mass of every head where a head of each behaviour would look, layers "
            "down, heads across.",
        )
    charts["leading"] = Chart(
        kind="bars",
        table="leading",
        x="label",
        value="score",
        error="stderr",
        value_label="attention mass (± standard error)",
        facet="behaviour",
        color="verdict",
        probability=True,
        title="The highest scores of each behaviour",
        alt="The heads with the highest score of each behaviour, with standard errors; a head may "
        "lead and yet not show it.",
    )
    if "by-offset" in tables:
        charts["offsets"] = Chart(
            kind="heatmap",
            table="by-offset",
            x="offset",
            x_label="tokens back",
            y="order",
            y_text="label",
            y_label="head",
            value="mass",
            value_label="attention mass",
            probability=True,
            title="How far back heads look",
            alt="Attention mass at each distance, for the heads with most at any one distance.",
        )
    for name, title in (("training", "snapshots"), ("training-log", "the training run's log")):
        if name in tables:
            charts[name] = Chart(
                kind="line",
                table=name,
                x="step",
                y="value",
                y_label="attention mass, or loss over a guess's",
                color="measure",
                error="stderr" if name == "training" else None,
                where={"drawn": True},
                title=f"Losses and heads over training: {title}",
                alt="Loss, in-context score and the scores of the heads that end highest, by "
                "training step. The training run's own log takes means over stretches of several "
                "lengths, and counts the first token as a previous one.",
            )
    return charts


def _checks(
    model: HookedTransformer, texts: Sequence[Text], by_offset: OffsetScores | None
) -> list[Check]:
    tolerance = TOLERANCES[model.cfg.dtype]
    checks = [_rows_check(model, texts, tolerance)]
    errors = []
    for text in texts:
        spelled_out = head_scores(model, **text.arguments, route="patterns")
        errors += [
            scaled_error(of.values, spelled_out[name].values)
            for name, of in text.scores.items()
            if of.n_sequences
        ]
    checks.append(
        Check(
            name="scores-two-ways",
            value=max(errors),
            tolerance=tolerance,
            note="scores from pattern statistics beside fused attention against those of the "
            f"patterns themselves, every sequence and head; {SCALED}",
        )
    )
    previous = texts[0].scores["previous_token"]
    if by_offset is not None and 1 in by_offset.by_offset:
        checks.append(
            Check(
                name="offset-one-is-previous-token",
                value=scaled_error(by_offset.by_offset[1].values, previous.values),
                tolerance=tolerance,
                note=f"attention one token back against the previous-token score; {SCALED}",
            )
        )
    return checks


def _rows_check(model: HookedTransformer, texts: Sequence[Text], tolerance: float) -> Check:
    """Every real destination's attention sums to 1 (with a learned sink: to no more)."""
    worst = [0.0]
    for text in texts:
        given = read_text(model, **text.arguments)
        real = given.real[:, None]

        def look(layer: int, pattern: Tensor, real: Tensor = real) -> None:
            off = pattern.double().sum(-1) - 1
            off = off.clamp(min=0) if model.cfg.attn_sinks else off.abs()
            worst.append(float(torch.where(real, off, 0).max()))

        given.watch_patterns(look)
    rule = "at most 1, the rest being a learned sink's" if model.cfg.attn_sinks else "1"
    return Check(
        name="attention-sums-to-one",
        value=max(worst),
        tolerance=tolerance,
        note=f"attention of every destination, which sums to {rule}: largest deviation",
    )
