"""What a model would predict if each of its layers were the last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from analyses.base import OPENS_FILES, Analysis, Parameters
from analyses.inputs.prompts import predictions_table, prompt_tokens, token_texts
from analyses.inputs.targets import resolve_position, resolve_token, token_name
from analyses.lenses.tables import lens_table, top_tokens_table
from analyses.lenses.tuning import tuned_lens
from analyses.registry import register
from analyses.results.checks import SCALED, TOLERANCES, scaled_error
from analyses.results.result import AnalysisResult, Check
from interp.charts.spec import Chart
from interp.charts.tokens import visible
from interp.errors import InputError
from interp.lens import LensReading, logit_lens
from interp.lens.logit_lens import final_stream
from interp.lens.read_out import why_not

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

LONGEST_ANSWER = 48  # tokens that an encoder–decoder is let write


class LogitLensParams(Parameters):
    """What is read, and which token is followed."""

    prompt: str = Field("", description="The text that the model reads.")
    tokens: list[int] | None = Field(
        None, description="Token ids to read instead of a prompt, used as they are."
    )
    decoder_prompt: str = Field(
        "",
        description="What an encoder-decoder's decoder reads behind its start token; by default "
        "what the model itself writes, token by token the likeliest.",
    )
    target: str | int | None = Field(
        None,
        description="The token to follow: its text, or #7 for id 7; by default the model's top "
        "prediction.",
    )
    position: int = Field(
        -1, description="The position to look at closely; negative counts from the end."
    )
    incl_mid: bool = Field(
        False, description="Read the streams between attention and MLP too (not with a tuned lens)."
    )
    top_k: int = Field(5, ge=1, le=50, description="How many of the likeliest tokens to list.")
    tuned: bool = Field(
        False,
        description="Put a tuned lens beside the logit lens, trained now on rows that the model "
        "itself writes.",
    )
    tuned_from: str = Field(
        "",
        description="Directory of a tuned lens that was saved for this very model, to use it.",
        json_schema_extra=OPENS_FILES,
    )
    tuned_steps: int = Field(250, ge=1, le=20_000, description="Updates in training a tuned lens.")
    tuned_rows: int = Field(
        64, ge=2, le=4096, description="Rows sampled from the model to train a tuned lens on."
    )
    seed: int = Field(0, ge=0, description="Of the rows sampled and of the training.")
    prepend_bos: bool | None = Field(
        None, description="Begin the prompt with BOS; by default as the model was made for."
    )


@dataclass(frozen=True)
class _Setting:
    """What is asked, resolved for one model.

    Attributes:
        given: Arguments of `forward` by name.
        read: The tokens whose positions are read, `[1, pos]`.
        texts: Theirs.
        logits: The model's, `[pos, d_vocab_out]`.
        target: The token that is followed.
        position: The one looked at closely.
    """

    given: dict[str, Any]
    read: Int[Tensor, "1 pos"]
    texts: list[str]
    logits: Float[Tensor, "pos d_vocab_out"]
    target: int
    position: int


@register
class LogitLens(Analysis[LogitLensParams]):
    """The logit lens, and a tuned lens beside it.

    Source: nostalgebraist 2020; Belrose et al. 2023.
    """

    name = "logit-lens"
    takes_interventions = True
    question = "What would the model predict if each layer were its last?"
    caveat = (
        "Early layers need not be written in the terms that the unembedding reads: where the lens "
        "finds nothing, a later layer may still find it there. A tuned lens takes out what is a "
        "fixed affine map, but it is trained towards the final prediction and may say more than "
        "the layer knows, and on prompts unlike its training rows (with tuned=true what the model "
        "writes by itself) it may be further off than the logit lens. A prediction that shows at a "
        "layer need not be made there, nor used."
    )

    @classmethod
    def merged(cls, defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """Prompts that the user gives take the place of the model's own, and of its target."""
        if given.get("tokens") is not None or given.get("prompt"):
            about = ("prompt", "tokens", "target", "position", "decoder_prompt")
            defaults = {k: v for k, v in defaults.items() if k not in about}
        return super().merged(defaults, given)

    @classmethod
    def supports(cls, model: HookedTransformer) -> str | None:
        """Layers, and a prediction at every position."""
        if not model.cfg.n_layers:
            return "it has no layers to look between"
        return why_not(model.cfg)

    def quick(self, params: LogitLensParams) -> LogitLensParams:
        """A shorter training of the tuned lens."""
        return params.model_copy(update={"tuned_steps": 60, "tuned_rows": 24})

    def run(self, model: HookedTransformer, params: LogitLensParams) -> AnalysisResult:
        """Read every stream with each lens, and check the last one against the model."""
        if params.incl_mid and (params.tuned or params.tuned_from):
            raise InputError("a tuned lens reads the streams between blocks: leave out incl_mid.")
        setting = _resolve(model, params)
        lenses = {"logit lens": logit_lens(
            model, **setting.given, targets=setting.target, top_k=params.top_k,
            incl_mid=params.incl_mid,
        )}  # fmt: skip
        tuned, tuning = tuned_lens(model, params, setting.read[:, :1])
        if tuned is not None:
            lenses["tuned lens"] = logit_lens(
                model, **setting.given, targets=setting.target, top_k=params.top_k, tuned=tuned
            )
        read = pd.concat([_read_table(model, n, r, setting) for n, r in lenses.items()])
        read = read.reset_index(drop=True)
        here = read[read["position"] == setting.position].reset_index(drop=True)
        top = pd.concat([_top_table(model, n, r, setting) for n, r in lenses.items()])
        tables = {
            "at-position": here,
            "top": top.reset_index(drop=True),
            "predictions": predictions_table(model, setting.logits[setting.position]),
            **({} if tuning is None else {"tuning": tuning}),
            "lens": read,
        }
        return self.result(
            model,
            params,
            tables=tables,
            figures=_figures(model, setting, tuning is not None),
            checks=_checks(model, setting, lenses["logit lens"]),
            tokens=setting.read.tolist(),
            str_tokens=[setting.texts],
        )


def _resolve(model: HookedTransformer, params: LogitLensParams) -> _Setting:
    tokens = prompt_tokens(model, params.prompt, params.tokens, params.prepend_bos)
    given: dict[str, Any] = {"input": tokens}
    read = tokens
    with torch.no_grad():
        if model.cfg.architecture == "encoder-decoder":
            if params.decoder_prompt:
                read = model.tokenize(params.decoder_prompt, target=True)[0]
            else:
                n_new = min(LONGEST_ANSWER, model.cfg.n_ctx - 1)
                written = model.generate(
                    tokens, max_new_tokens=n_new, do_sample=False, return_type="tokens"
                )
                read = written[:, :-1]  # nothing follows the last token
            given["decoder_input"] = read
        elif params.decoder_prompt:
            raise InputError("decoder_prompt has no meaning for a model with one stack.")
        logits = model(**given)[0]
    position = resolve_position(params.position, read.shape[1])
    target = (
        int(logits[position].argmax())
        if params.target is None
        else resolve_token(model, params.target)
    )
    return _Setting(given, read, token_texts(model, read[0]), logits, target, position)


# --- tables --------------------------------------------------------------------------------------


def _read_table(
    model: HookedTransformer, name: str, reading: LensReading, setting: _Setting
) -> pd.DataFrame:
    """A row for each stream and position."""
    table = lens_table(model, reading, setting.texts)
    table.insert(0, "lens", name)
    return table


def _top_table(
    model: HookedTransformer, name: str, reading: LensReading, setting: _Setting
) -> pd.DataFrame:
    """The likeliest tokens of each stream at the position looked at."""
    table = top_tokens_table(model, reading, setting.position).drop(columns="order")
    table.insert(0, "lens", name)
    return table


# --- figures and checks --------------------------------------------------------------------------


def _figures(model: HookedTransformer, setting: _Setting, trained: bool) -> dict[str, Chart]:
    at = f"at position {setting.position} (“{visible(setting.texts[setting.position])}”)"
    name = token_name(model, setting.target)
    grid: dict[str, Any] = {
        "kind": "heatmap", "table": "lens", "x": "position", "x_text": "token",
        "y": "order", "y_text": "stream", "y_label": "residual stream", "facet": "lens",
    }  # fmt: skip
    line: dict[str, Any] = {
        "kind": "line", "table": "at-position", "x": "order", "x_text": "stream",
        "x_label": "residual stream", "color": "lens",
    }  # fmt: skip
    figures = {
        "prediction": Chart(
            **grid,
            value="final_probability",
            value_label="probability",
            probability=True,
            title="Probability of the token that the model predicts in the end",
            alt="For each position, across, and residual stream, down: what the lens gives the "
            "token that the model itself predicts there.",
        ),
        "kl": Chart(
            **grid,
            value="kl",
            value_label="KL(final ‖ lens) (nats)",
            title="How far each stream's prediction is from the final one",
            alt="KL divergence from the model's own distribution to the lens's, for each position, "
            "across, and residual stream, down.",
        ),
        "target": Chart(
            **line,
            y="target_probability",
            y_label=f"probability of {name}",
            probability=True,
            title=f"Probability of {name} {at}",
            alt=f"Probability of {name} {at}, read from each residual stream in turn.",
        ),
        "rank": Chart(
            **line,
            y="target_rank",
            y_label=f"rank of {name} (1: the top)",
            log_y=True,
            title=f"Rank of {name} {at}",
            alt=f"One more than the number of tokens that are likelier than {name} {at}, read from "
            "each residual stream in turn.",
        ),
    }
    if trained:
        figures["tuning"] = Chart(
            kind="line",
            table="tuning",
            x="order",
            x_text="stream",
            x_label="residual stream",
            y="kl",
            y_label="mean KL(final ‖ lens) (nats)",
            color="lens",
            title="Both lenses on fresh rows that the model wrote",
            alt="Mean KL divergence from the model's distribution to each lens's, by stream.",
        )
    return figures


def _checks(model: HookedTransformer, setting: _Setting, reading: LensReading) -> list[Check]:
    last = logit_lens(model, **setting.given, hooks=[final_stream(model)], keep_logits=True)
    assert last.logits is not None and reading.target_probability is not None
    tolerance = TOLERANCES[model.cfg.dtype]
    own = setting.logits.double().softmax(-1)[:, setting.target]
    return [
        Check(
            name="last-stream-gives-the-logits",
            value=scaled_error(last.logits[-1, 0], setting.logits),
            tolerance=tolerance,
            note=f"what the lens reads of the last stream against the model's logits; {SCALED}",
        ),
        Check(
            name="last-stream-gives-the-probability",
            value=scaled_error(reading.target_probability[-1, 0], own),
            tolerance=tolerance,
            note="the target's probability at every position, taken from the last stream, against "
            f"the softmax of the model's logits; {SCALED}",
        ),
    ]
