"""The interventions of a text on a prompt, made once for each model and within limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from dashboards.edits import parse, plan, runs_wanted
from dashboards.readings.base import require_room, require_work
from interp.errors import require
from interp.interventions import applied
from interp.lens.logit_lens import stream_hooks
from interp.patching.axes import axes_of

if TYPE_CHECKING:
    from dashboards.page.subject import Line, Loaded
    from interp.interventions import Intervention
    from interp.transformer import HookedTransformer

KEPT = 32  # plans of one model
_READINGS = 4  # of one page: each takes the references' activations anew


def planned(
    loaded: Loaded, text: str, line: Line, other: Line | None, decoder: Line | None
) -> tuple[Intervention, ...]:
    """As `dashboards.edits.plan`; directions that are contrasts are measured once.

    Raises:
        InputError: As `plan` and `applied`, for what takes more runs or memory than a page may ask
            for, and where a run with them is no longer made of numbers.
    """
    rows = [None if row is None else row.tokens for row in (line, other, decoder)]
    key = (text, *rows)
    model, n = loaded.model, max(len(row) for row in rows if row is not None)
    # Kept under the model's own lock: a cache with another might wait for who waits for it.
    with loaded.lock, torch.no_grad():
        if key not in loaded.plans:
            weights = sum(p.numel() for p in model.parameters())
            require_work(
                _READINGS * runs_wanted(parse(text)) * n * weights,
                f"taking activations from {runs_wanted(parse(text))} runs of {n} tokens",
                "take fewer seeds and contrasts, or a shorter prompt",
            )
            made = plan(text, model, line.tokens, *rows[1:])
            require_room(_recorded(made, model, n), "what interventions take from other runs")
            _try(model, made, line, decoder)
            while len(loaded.plans) >= KEPT:
                del loaded.plans[next(iter(loaded.plans))]
            loaded.plans[key] = made
        return loaded.plans[key]


def _try(
    model: HookedTransformer, made: tuple[Intervention, ...], line: Line, decoder: Line | None
) -> None:
    """Run once: some faults show only then, and no page can draw what is not a number."""
    inputs: dict[str, Any] = {"input": torch.tensor([line.tokens], device=model.W_E.device)}
    if decoder is not None:
        inputs["decoder_input"] = torch.tensor([decoder.tokens], device=model.W_E.device)
    with applied(model, made, **inputs):
        logits, cache = model.run_with_cache(**inputs, names_filter=stream_hooks(model))
    norms = [x.norm(dim=-1) for x in cache.values()]
    dtype = str(model.cfg.dtype).removeprefix("torch.")
    require(
        not logits.isnan().any() and all(bool(x.isfinite().all()) for x in norms),
        f"with the interventions, the run has numbers beyond the range of {dtype}: take smaller "
        "amounts",
    )


def _recorded(made: tuple[Intervention, ...], model: HookedTransformer, n: int) -> int:
    """How many numbers are recorded for a plan, no reference's hook twice; at most."""
    cfg = model.cfg
    wide = max(cfg.d_model, cfg.n_heads * cfg.d_head, 0 if cfg.attn_only else cfg.width_mlp)
    taken = {
        (reference, hook): 1 if reference is None else len(reference.rows)
        for each in made
        for reference, hooks in each.needs(model)
        for hook in hooks
    }
    return sum(
        rows * n * (cfg.n_heads * n if "src_pos" in axes_of(model, hook).names else wide)
        for (_, hook), rows in taken.items()
    )
