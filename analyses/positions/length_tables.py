"""Length generalisation as tables and figures, beside what was published."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from interp.behaviour.in_context import Estimate
from interp.charts.palette import CATEGORICAL
from interp.charts.spec import Chart
from interp.position_effects.length import LengthScores, PositionScores
from interp.zoo.tasks import ENCODINGS

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

Found = Sequence[tuple["HookedTransformer", Sequence[LengthScores]]]

BINS = 8  # of a curve, for each trained length: at most
POINTS = 32  # of a whole curve: about
NAMES = {kind: name for name, kind in ENCODINGS.items()}
DISTANCES = {
    "scaled": "distances scaled",
    "trained": "distances as trained",
    None: "no task",
}


class Published(NamedTuple):
    """What a paper reports of reading beyond the trained length."""

    encoding: str
    variant: str
    source: str
    finding: str


PUBLISHED = (
    Published(
        "sinusoidal", "plain", "Press et al. 2022 (ALiBi)",
        "Perplexity holds for some tens of tokens past the trained length, then rises.",
    ),
    Published(
        "sinusoidal", "plain", "Kazemnejad et al. 2023",
        "Sinusoids carry small algorithmic tasks to longer inputs badly.",
    ),
    Published(
        "learned", "plain", "Press et al. 2022 (ALiBi)",
        "Cannot read further: there is no vector for a position past the table.",
    ),
    Published(
        "rotary", "plain", "Press et al. 2022 (ALiBi)",
        "Perplexity holds somewhat further than with sinusoids, then rises.",
    ),
    Published(
        "rotary", "plain", "Chen et al. 2023 (Position Interpolation)",
        "LLaMA past its 2048 tokens without interpolation: perplexity beyond 1000.",
    ),
    Published(
        "rotary", "plain", "Kazemnejad et al. 2023",
        "Carries small algorithmic tasks to longer inputs as badly as sinusoids.",
    ),
    Published(
        "rotary", "linear", "Chen et al. 2023 (Position Interpolation)",
        "LLaMA at four times its length: perplexity below 20 even without fine-tuning, far better "
        "than without interpolation. With up to 1000 steps of it, it reads 32768 tokens; short "
        "texts get slightly worse.",
    ),
    Published(
        "rotary", "ntk", "Peng et al. 2023 (YaRN)",
        "Without fine-tuning better than linear interpolation; with it worse.",
    ),
    Published(
        "rotary", "dynamic", "Peng et al. 2023 (YaRN)",
        "A factor that follows the length works without fine-tuning, and leaves short texts as "
        "they were. (Theirs is the length over the trained one, which in rows of one length is "
        "ntk; measured is the form of transformers, which stretches further.)",
    ),
    Published(
        "rotary", "yarn", "Peng et al. 2023 (YaRN)",
        "Better than linear and NTK-aware interpolation, fine-tuned on little text or not at all. "
        "(Measured is the ramp of their code, which is not their formula's.)",
    ),
    Published(
        "alibi", "plain", "Press et al. 2022 (ALiBi)",
        "Trained on 1024 tokens it reads 2048 as well as a sinusoidal model trained on those, and "
        "holds beyond.",
    ),
    Published(
        "alibi", "plain", "Kazemnejad et al. 2023",
        "On small algorithmic tasks worse than T5's biases and than no encoding.",
    ),
    Published(
        "t5", "plain", "Press et al. 2022 (ALiBi)",
        "Reads further than sinusoids and rotary, less far than ALiBi.",
    ),
    Published(
        "t5", "plain", "Kazemnejad et al. 2023",
        "The best of the explicit encodings at carrying small algorithmic tasks to longer inputs.",
    ),
    Published(
        "shortformer", "plain", "Press et al. 2021 (Shortformer)",
        "Sinusoids for queries and keys alone, so that earlier short inputs can be cached; longer "
        "inputs are not what is measured. Here its vectors are a learned table, which ends.",
    ),
    Published(
        "none", "plain", "Haviv et al. 2022",
        "Causal models learn position without an encoding; longer inputs are not what is measured.",
    ),
    Published(
        "none", "plain", "Kazemnejad et al. 2023",
        "Carries small algorithmic tasks to longer inputs better than explicit encodings, T5's "
        "biases next.",
    ),
)  # fmt: skip


def encoding_name(model: HookedTransformer) -> str:
    """A model's encoding as tables call it: `learned`, `t5`, else as in its config."""
    kind = model.cfg.positional_embedding_type
    return NAMES.get(kind, kind)


def _identity(model: HookedTransformer, of: LengthScores) -> dict[str, object]:
    encoding = encoding_name(model)
    return {
        "model": str(model.cfg.model_name),
        "encoding": encoding,
        "variant": of.variant,
        "label": encoding if of.variant == "plain" else f"{encoding}, {of.variant}",
        "distances": DISTANCES[of.offsets],
        "kind": of.kind,
        "length": of.length,
    }


def by_length_table(found: Found) -> pd.DataFrame:
    """Loss and accuracy of whole rows: a row for each model, variant, kind of distance, length.

    `kind` is what rows were read (`task copy`, `repeated random tokens`); empty where none were.
    `accuracy_beyond` is that of the positions past the trained length alone.
    """
    rows = []
    for model, of_model in found:
        for of in of_model:
            loss = accuracy = beyond = Estimate(math.nan, math.nan, 0)
            if of.scores is not None:
                loss, accuracy = of.scores.mean_loss(), of.scores.mean_accuracy()
                beyond = of.scores.mean_accuracy(slice(of.trained_length, None))
            rows.append(
                {
                    **_identity(model, of),
                    "doublings": math.log2(of.length / of.trained_length),
                    "times": f"{of.length / of.trained_length:.3g}×",
                    "loss": loss.mean,
                    "loss_stderr": loss.stderr,
                    "accuracy": accuracy.mean,
                    "accuracy_stderr": accuracy.stderr,
                    "accuracy_beyond": beyond.mean,
                    "rows": loss.n_sequences,
                    "predictions": int(of.scores.count.sum()) if of.scores else 0,
                    "drawn": of.scores is not None,
                    "note": of.refusal or "",
                }
            )
    return pd.DataFrame(rows)


def by_position_table(found: Found) -> pd.DataFrame:
    """Loss and accuracy within rows, positions binned: an eighth of the trained length or more.

    A bin lies either within the trained length or beyond it. Bins in which nothing is scored are
    left out.
    """
    rows = []
    for model, of_model in found:
        longest = max((of.length for of in of_model if of.scores is not None), default=0)
        for of in of_model:
            if of.scores is None:
                continue
            for start, stop in _bins(of.scores, of.trained_length):
                part = slice(start, stop)
                loss, accuracy = of.scores.mean_loss(part), of.scores.mean_accuracy(part)
                if not loss.n_sequences:
                    continue
                middle = (start + stop - 1) / 2
                rows.append(
                    {
                        **_identity(model, of),
                        "first": start,
                        "last": stop - 1,
                        "position": middle,
                        "trained_lengths": (middle + 0.5) / of.trained_length,
                        "beyond_trained": start >= of.trained_length,
                        "loss": loss.mean,
                        "loss_stderr": loss.stderr,
                        "accuracy": accuracy.mean,
                        "accuracy_stderr": accuracy.stderr,
                        "rows": loss.n_sequences,
                        "predictions": int(of.scores.count[part].sum()),
                        "longest": of.length == longest,
                    }
                )
    return pd.DataFrame(rows)


def _bins(scores: PositionScores, trained_length: int) -> list[tuple[int, int]]:
    """Beginnings and ends, which divide the trained length and all beyond it alike."""
    length = scores.losses.shape[1]
    each = min(BINS, max(1, POINTS * trained_length // length))
    edges = {round(i * trained_length / each) for i in range(each * length // trained_length + 1)}
    inner = sorted(edge for edge in edges if 0 < edge < length)
    return list(zip([0, *inner], [*inner, length], strict=True))


def published_table(by_length: pd.DataFrame) -> pd.DataFrame:
    """What papers report of the encodings and variants that were read, and what came of it here.

    Of tasks that is accuracy. Of text and random tokens it is loss, which is what papers report of
    text.
    """
    rows = []
    for each in PUBLISHED:
        same = (by_length["encoding"] == each.encoding) & (by_length["variant"] == each.variant)
        if same.any():
            rows.append({**each._asdict(), "measured": _in_words(by_length[same])})
    columns = [*Published._fields, "measured"]
    return pd.DataFrame(rows, columns=columns)


def _in_words(rows: pd.DataFrame) -> str:
    """`accuracy 1.00 at 48, 0.44 at 96 tokens`, for each kind of distance; or `loss 4.61 at …`."""
    sentences = []
    for distances, of in rows.groupby("distances", sort=False):
        measure = "loss" if distances == DISTANCES[None] else "accuracy"
        at = [
            f"{value:.2f} at {length}" if drawn else f"refused at {length}"
            for value, length, drawn in zip(of[measure], of["length"], of["drawn"], strict=True)
        ]
        kind = f" ({distances})" if rows["distances"].nunique() > 1 else ""
        sentences.append(f"{measure} {', '.join(at)} tokens{kind}")
    return "; ".join(sentences)


def figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, Chart]:
    """Loss and accuracy by length and by position.

    Where there are more lines than colours that can be told apart, encodings are beside each other
    as they were trained, and the ways to stretch one (rotary) in figures of their own.
    """
    by_position = tables["by-position"]
    if not len(by_position):
        return {}
    if by_position["label"].nunique() <= len(CATEGORICAL):
        return _figures(tables, "", {}, "label")
    stretched = by_position.loc[by_position["variant"] != "plain", "encoding"].iloc[0]
    return {
        **_figures(tables, "", {"variant": "plain"}, "encoding"),
        **_figures(tables, f"-{stretched}", {"encoding": stretched}, "variant"),
    }


def _figures(
    tables: Mapping[str, pd.DataFrame], suffix: str, where: dict[str, Any], color: str
) -> dict[str, Chart]:
    by_length, by_position = tables["by-length"], tables["by-position"]
    facet = "distances" if by_length["distances"].nunique() > 1 else None
    rows_are = ", ".join(by_position["kind"].unique())
    of = f" of {where['encoding']} positions" if "encoding" in where else ""
    measured: dict[str, dict[str, Any]] = {
        measure: {
            "kind": "line",
            "y": measure,
            "y_label": f"{label} (± standard error)",
            "error": f"{measure}_stderr",
            "color": color,
            "facet": facet,
            "probability": measure == "accuracy",
        }
        for measure, label in (("accuracy", "accuracy"), ("loss", "loss in nats"))
    }
    charts: dict[str, Chart] = {}
    for measure, line in measured.items():
        charts[f"{measure}-by-length{suffix}"] = Chart(
            **line,
            table="by-length",
            where={"drawn": True, **where},
            x="doublings",
            x_text="times",
            x_label="length of the row, in trained lengths",
            title=f"{measure.capitalize()}{of} by length ({rows_are})",
            alt=f"Mean {measure} of rows of each length, from the shortest up, for each way of "
            "placing tokens. A line ends where the model refuses to read further.",
        )
    for measure, line in measured.items():
        charts[f"{measure}-by-position{suffix}"] = Chart(
            **line,
            table="by-position",
            where={"longest": True, **where},
            x="trained_lengths",
            x_label="position, in trained lengths (beyond 1: never trained)",
            title=f"{measure.capitalize()}{of} by position, in the longest rows read ({rows_are})",
            alt=f"Mean {measure} at each position of the longest rows, for each way of placing "
            "tokens; positions beyond 1 never occurred in training.",
        )
    return charts
