"""The tuned lens of the logit-lens analysis: a saved one, or one trained on what a model writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from interp.errors import InputError
from interp.lens import TunedLens, lens_kl, train_tuned_lens
from interp.training import TrainSettings

if TYPE_CHECKING:
    from analyses.lenses.logit_lens import LogitLensParams
    from interp.transformer import HookedTransformer

LONGEST_SAMPLE = 64  # tokens of a row that a tuned lens learns from


def tuned_lens(
    model: HookedTransformer, params: LogitLensParams, start: Int[Tensor, "1 1"]
) -> tuple[TunedLens | None, pd.DataFrame | None]:
    """The tuned lens that is asked for, and how close it comes on fresh rows if it is trained here.

    Args:
        model: The model.
        params: `tuned` trains one, `tuned_from` reads one.
        start: The token that the rows it learns from begin with.

    Raises:
        InputError: if both are asked for, for a model that cannot write rows by itself, and as
            `TunedLens.load`.
    """
    if params.tuned_from:
        if params.tuned:
            raise InputError(
                "give tuned (train one now) or tuned_from (use a saved one), not both."
            )
        return TunedLens.load(params.tuned_from, model), None
    if not params.tuned:
        return None, None
    if model.cfg.architecture != "decoder":
        raise InputError(
            f"tuned=true trains on what the model writes, which this {model.cfg.architecture} does "
            "not do by itself: train one with interp.lens and give it as tuned_from."
        )
    settings = TrainSettings(
        steps=params.tuned_steps, lr=1e-2, seed=params.seed, log_every=params.tuned_steps
    )
    rows = _written(model, start, params.tuned_rows, 2 * params.seed)
    fresh = _written(model, start, max(params.tuned_rows // 4, 2), 2 * params.seed + 1)
    lens, _ = train_tuned_lens(model, rows, settings)
    frames = [
        pd.DataFrame(
            {
                "lens": name,
                "order": range(len(lens.hooks)),
                "stream": [f"{layer}_pre" for layer in range(len(lens.hooks))],
                "kl": found.cpu().numpy(),
                "rows": len(fresh),
            }
        )
        for name, found in (
            ("logit lens", lens_kl(model, fresh)),
            ("tuned lens", lens_kl(model, fresh, lens)),
        )
    ]
    return lens, pd.concat(frames, ignore_index=True)


def _written(
    model: HookedTransformer, start: Int[Tensor, "1 1"], n_rows: int, seed: int
) -> Int[Tensor, "row pos"]:
    """Rows that the model writes from one token on, drawn as it predicts them."""
    length = min(LONGEST_SAMPLE, model.cfg.n_ctx)
    rows: Tensor = model.generate(
        start.expand(n_rows, -1),
        max_new_tokens=length - 1,
        stop_at_eos=False,
        do_sample=True,
        seed=seed,
        return_type="tokens",
        attention_mask=torch.ones_like(start).expand(n_rows, -1),
    )
    return rows
