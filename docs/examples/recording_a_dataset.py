# %% [markdown]
# # Recording a dataset, and training a probe and a sparse autoencoder on it
#
# What does a layer hold? Two instruments ask in different ways. A *probe* is told what to look for
# and says how well it can be read. A *sparse autoencoder* is told nothing, and looks for directions
# of which only a few are used at a time. Both need activations of many tokens: a harvest writes
# them to disk once, and whatever comes later reads them from there.
#
# The model is `zoo:induction`, whose first layer tells every place which symbol came just before
# it. Can that be read off what the layer writes? Is it there as directions, one for each symbol?

# %%
import random
import tempfile
from pathlib import Path

import torch
from torch.utils.data import Subset

from interp import load_model
from interp.harvest import CorpusSettings, harvest
from interp.probes import fit_logistic_streamed, split_by_group
from interp.sae import SAEConfig, SAESettings, detection, make_sae, score_sae, train_sae
from interp.zoo.recipes.symbols import SYMBOLS

model = load_model("zoo:induction", device="cpu")
scratch = tempfile.TemporaryDirectory(prefix="interp-example-")
folder = Path(scratch.name)

# %% [markdown]
# ## A corpus
#
# A text file with a document a line: 20 different symbols, then the same again.

# %%
draw = random.Random(0)
lines = [" ".join(draw.sample(SYMBOLS, 20) * 2) for _ in range(300)]
(folder / "corpus.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
print(lines[0])

# %% [markdown]
# ## The harvest
#
# Each token becomes a row, with what every named hook saw there. Stopped at any moment, the same
# call goes on where it was. (`interp harvest` is the same as a command.) `attn_out` is what the
# first layer's heads wrote, `resid_pre` what was there before they did.

# %%
corpus = CorpusSettings(files=(str(folder / "corpus.txt"),), documents="line", layout="padded")
before, written = "blocks.0.hook_resid_pre", "blocks.0.hook_attn_out"
data = harvest(model, corpus, [before, written], folder / "activations", skip_special=True)
data

# %% [markdown]
# Rows are read from mapped files when they are asked for, and each knows where it came from. So
# does this one's predecessor, which gives the question for the probe.

# %%
print(data.rows[100])
position, token = data.rows.column("position"), data.rows.column("token")
bos = model.tokenizer.bos_token_id
previous = torch.where(position == 1, bos, token.roll(1))  # rows of a document lie together
assert token[99] == previous[100]

# %% [markdown]
# ## A probe
#
# Multinomial logistic regression from one token's vector to the symbol before it, at both hooks.
# Whole documents go to training, validation or test: tokens of one text resemble one another.

# %%
split = split_by_group(data.rows.column("document"))
fits = fit_logistic_streamed(data, previous, split, Cs=[1.0], tol=1e-4)
for hook in data.hooks:
    print(f"{hook}: accuracy {fits[hook]['accuracy'].value:.3f} on held-out documents")

# %% [markdown]
# Before the heads have run nothing tells the symbol before, save that it is another one than this.
# After, it can be read almost without fault. What a probe can read the model need not use: for that
# there is patching (`patching_two_prompts.py`).
#
# ## A sparse autoencoder
#
# TopK: of 256 units the one that fits best fires, for the message is thought to name one symbol at
# a time. It reads the dataset as it lies on disk, and nobody tells it about symbols.

# %%
stream = data.only(written)
train = Subset(stream, split.train.tolist())
config = SAEConfig(kind="topk", d_in=model.cfg.d_model, d_sae=256, k=1, device="cpu")
sae, history = train_sae(
    config, train, SAESettings(steps=250, lr=3e-3, centre="mean"), batch_size=512
)
held_out = stream[split.test]
scores = score_sae(sae, held_out)
print(f"variance explained on held-out rows: {scores.fve:.3f}; dead units: {scores.dead} of 256")

# %% [markdown]
# What do its units stand for? For each symbol: is there a unit that fires where this symbol came
# just before, and nowhere else? It is chosen on the training rows and judged on the others, by F1,
# the harmonic mean of precision and recall. The same for the symbol itself, and for an autoencoder
# that was not trained.

# %%
symbols = torch.arange(model.cfg.d_vocab)
symbols = symbols[symbols != bos]


def best_f1(sae, is_symbol):
    """Of each symbol, how well its best unit tells it."""

    def fires_and_present(rows):
        return sae.encode(stream[rows]) > 0, is_symbol[rows, None] == symbols

    fires, present = fires_and_present(split.train)
    both = present.double().T @ fires.double()  # [symbol, unit]
    f1 = 2 * both / (present.sum(0)[:, None] + fires.sum(0))
    units = f1.argmax(1)
    return detection(*fires_and_present(split.test), units).f1.nan_to_num(0.0), units


f1, units = best_f1(sae, previous)
of_token, _ = best_f1(sae, token)
untrained, _ = best_f1(make_sae(config), previous)
print(f"the symbol before: mean F1 {f1.mean():.2f}; {int((f1 > 0.9).sum())} of {len(f1)} above 0.9")
print(f"the symbol itself: mean F1 {of_token.mean():.2f}; untrained: {untrained.mean():.2f}")

# %% [markdown]
# So the first layer's message is a dictionary of directions, one for each symbol that may have come
# before. The control matters: with one unit of many to fire, random directions tell symbols apart
# too, and half the score is had for nothing. Where the best unit fires most:

# %%
best = int(f1.argmax())
symbol, unit = model.to_single_str_token(int(symbols[best])), int(units[best])
top = sae.encode(stream[:])[:, unit].topk(5).indices
print(f"unit {unit}, for the symbol after {symbol!r}:")
for row in data.rows[top].row.tolist():
    place = data.rows[row]
    text = model.to_str_tokens(data.tokens.read(place.sequence, place.sequence + 1).tokens)
    print("   ", " ".join(text[max(0, place.position - 3) : place.position + 1]))

# %% [markdown]
# What was claimed, checked:

# %%
assert fits[before]["accuracy"].value < 0.1 < 0.95 < fits[written]["accuracy"].value
assert scores.fve > 0.8
assert f1.mean() > 0.85 > 0.7 > untrained.mean() > of_token.mean()
assert {model.to_single_str_token(int(t)) for t in previous[top]} == {symbol}
scratch.cleanup()
