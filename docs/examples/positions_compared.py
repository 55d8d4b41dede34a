# %% [markdown]
# # Positions compared
#
# Seven small decoders of the zoo differ in one thing: how they are told where a token stands. All
# were trained on `copy`: a stretch of symbols comes a second time, after a gap of any length, and
# has to be continued. The usual mechanism needs position once: a head of the first layer that looks
# at the *token before*, so that a head of the second can ask “where did this symbol come, and what
# followed?”

# %%
import pandas as pd

from interp import InputError, load_model
from interp.charts import Chart, show
from interp.interventions import ShiftPositions
from interp.position_effects import (
    by_position,
    intervention_effects,
    mean_patterns,
    offset_curves,
    position_rows,
)
from interp.zoo.tasks import ENCODINGS

models = {encoding: load_model(f"zoo:copy-{encoding}", device="cpu") for encoding in ENCODINGS}
rows = {encoding: position_rows(model, n=48) for encoding, model in models.items()}
learned = {e: by_position(m, rows[e]).mean_accuracy().mean for e, m in models.items()}
print({encoding: f"{share:.0%}" for encoding, share in learned.items()})

# %% [markdown]
# All but one know the task. Without positions the first layer cannot tell one order of the tokens
# from another, so there is no token before. (It is not blind: a causal mask alone says how many
# tokens there are before a place, which is enough for other tasks.)
#
# ## Who looks one token back?
#
# Each head's attention by how far back it looks, the mean over all places of 48 rows; of each
# model's first layer the head that looks most at one distance other than 0, itself.

# %%
found, reach, most = [], {}, {}
for encoding, model in models.items():
    offsets, curves = offset_curves(mean_patterns(model, rows[encoding].tokens))
    offsets, curves = offsets[1:], curves[0, :, 1:]  # [head, offset]
    curve = curves[curves.amax(-1).argmax()]
    most[encoding], reach[encoding] = curve.max().item(), int(offsets[curve.argmax()])
    near = zip(offsets[:12].tolist(), curve[:12].tolist(), strict=True)
    found += [{"encoding": encoding, "tokens back": at, "attention": share} for at, share in near]
print({encoding: f"{most[encoding]:.2f} at {reach[encoding]}" for encoding in models})
chart = Chart(
    kind="line", table="offsets", x="tokens back", y="attention", color="encoding",
    title="Attention by distance, the most decided head of layer 0",
    alt="Rotary and learned positions: a peak one token back. T5's: eight or nine. ALiBi: a slope.",
)  # fmt: skip
show(chart, pd.DataFrame(found))

# %% [markdown]
# The same task, the same loss, and not the same mechanism. T5's biases make heads that look eight
# and nine back. ALiBi's only fall with distance: recent tokens weigh more, none is picked out.
# An explanation found in one model is a hypothesis about the next.
#
# ## Told to be elsewhere, and longer than in training
#
# Shift *all* positions by 8. Encodings of distance cannot notice: no score changes. Those that add
# a vector for each position may. Then rows of twice the length.

# %%
moved, longer = {}, {}
for encoding, model in models.items():
    if encoding != "none":
        short = position_rows(model, n=48, length=40)
        effect = intervention_effects(model, short, {"+8": ShiftPositions(8)}, heads=False)["+8"]
        moved[encoding] = effect.mean_kl.mean
    try:
        longer[encoding] = by_position(model, position_rows(model, n=48, length=96))
    except InputError as refused:  # a table has no row for a position beyond its end
        print(f"{encoding}: {refused}")
print("KL when shifted, nats:", {encoding: f"{kl:.0e}" for encoding, kl in moved.items()})
twice = {encoding: scores.mean_accuracy().mean for encoding, scores in longer.items()}
print("right at twice the length:", {encoding: f"{share:.0%}" for encoding, share in twice.items()})

# %% [markdown]
# How it misleads: one seed of one small model each, with settings chosen for some of them. That an
# encoding is relative does not make it reach further: rotary positions miss much where ALiBi's go
# on.

# %%
assert learned.pop("none") < 0.1 and min(learned.values()) > 0.95
assert reach["rotary"] == reach["learned"] == 1 and most["rotary"] > 0.9 and reach["t5"] > 1
assert max(moved[e] for e in ("rotary", "alibi", "t5")) < 1e-6 < moved["sinusoidal"]
assert min(twice["alibi"], twice["t5"]) > 0.9 > twice["rotary"] and "learned" not in twice
