# %% [markdown]
# # Induction heads, from training to circuit
#
# Show a small Transformer texts in which a stretch of random symbols comes twice. It can predict
# nothing the first time and everything the second, if it learns to look up what followed the last
# time. The heads that do this are found in language models of every size (Elhage et al. 2021;
# Olsson et al. 2022). Here a model is trained to have them, in seconds; then they are found, taken
# out, patched, and drawn as a circuit.

# %%
import string

import torch
import torch.nn.functional as F

from interp import HookedTransformer, HookedTransformerConfig, patching, zoo
from interp.attribution import edge_attribution
from interp.behaviour import found_heads, head_scores, repeated_tokens, scores_over_checkpoints
from interp.circuits import Circuit, EdgeRun, patch_edges, resample_reference, smallest
from interp.display import show_attention
from interp.interventions import Interventions, Mean, Place, Reference, applied
from interp.training import TrainSettings, train

torch.set_num_threads(1)  # the model is tiny: more threads wait for one another
N_CTX, N_SYMBOLS, LONGEST = 32, 48, 12
NAMES = string.ascii_letters[:N_SYMBOLS]

# %% [markdown]
# ## The task
#
# Rows of random symbols, in which a stretch of 4 to 12 begins somewhere and then comes again.
# Length and place differ from row to row, or positions alone would tell what comes next. The loss
# is taken where the next symbol follows from earlier ones, and nowhere else.


# %%
def rows(generator, batch=32):
    symbols = torch.rand(batch, N_SYMBOLS, generator=generator).argsort(1)  # no symbol twice
    length = torch.randint(4, LONGEST + 1, (batch, 1), generator=generator)
    room = N_CTX - 2 * length
    start = (torch.rand(batch, 1, generator=generator) * (room + 1)).long()
    place, repeat = torch.arange(N_CTX), start + length
    tokens = symbols.gather(1, torch.where(place < repeat, place, place - length))
    return tokens, (place > repeat) & (place < repeat + length)


def loss(model, batch):
    tokens, known = batch
    logits = model(tokens)[:, :-1]
    return F.cross_entropy(logits[known[:, 1:]], tokens[:, 1:][known[:, 1:]])


tokens, known = rows(torch.Generator().manual_seed(0), batch=3)
for row, marks in zip(tokens, known, strict=True):
    print("".join(NAMES[i] for i in row))
    print("".join("^" if mark else " " for mark in marks))

# %% [markdown]
# ## The model and its training
#
# Two layers of attention and nothing else. While it trains, two scores of every head are watched:
# how much it attends to the token before, and to the token that followed an earlier copy of the
# present one.

# %%
cfg = HookedTransformerConfig(
    n_layers=2,
    d_model=64,
    n_heads=4,
    n_ctx=N_CTX,
    d_vocab=N_SYMBOLS,
    attn_only=True,
    normalization_type=None,
    use_attn_scale=False,
    model_name="repeats",
    device="cpu",
)
model = HookedTransformer(cfg)
measured = repeated_tokens(model, batch=16, length=LONGEST).tokens  # random, twice over


def best_scores(model):
    scores = head_scores(model, measured, ["previous_token", "induction"])
    return {name: found.score.max().item() for name, found in scores.items()}


settings = TrainSettings(
    steps=400, lr=1e-2, warmup_steps=50, decay="cosine", final_lr_fraction=0.05,
    weight_decay=0.05, betas=(0.9, 0.98), log_every=50,
)  # fmt: skip
history = train(
    model, lambda step, generator: rows(generator), loss, settings, evaluate=best_scores
)
columns = ["step", "loss", "previous_token", "induction"]
print(history.frame()[columns].round(2).to_string(index=False))
model

# %% [markdown]
# Little happens for a while, then the loss falls within some fifty steps, and both scores rise
# with it: neither kind of head is of use without the other. `zoo:induction` is the same model on
# longer rows with more symbols, trained for ten times as long; its checkpoints tell the rest of the
# story. Its recipe trains a model of one layer as well, which never learns this.

# %%
for found in scores_over_checkpoints("zoo:induction", steps=[0, 400, 600, 4000]):
    scores = {name: score.score.max().item() for name, score in found.scores.items()}
    print(found.step, {name: round(scores[name], 2) for name in ("previous_token", "induction")})
shipped = zoo.entries()["zoo:induction"]
print("loss on repeats: two layers", shipped.metrics["repeat_loss"], end=", ")
print("one layer", shipped.control["repeat_loss"])

# %% [markdown]
# ## Finding the heads
#
# On tokens drawn at random and repeated, every head is scored for what it attends to. A head counts
# as found where the score is far above chance, by its standard error over sequences.

# %%
heads = found_heads(head_scores(model, measured))
for head in heads:
    print(f"{head.label}: {head.behaviour} {head.score:.2f} (chance {head.chance:.2f})")
previous = sorted(h.head for h in heads if h.behaviour == "previous_token" and h.layer == 0)
induction = sorted(h.head for h in heads if h.behaviour == "induction" and h.layer == 1)

# %% [markdown]
# Where they look, in one row. The second layer's bright diagonal begins where the repeat does:
# there, each symbol looks at the one after its earlier copy.

# %%
_, cache = model.run_with_cache(measured[:1], names_filter="blocks.*.attn.hook_pattern")
patterns = torch.cat([cache["pattern", layer][0] for layer in range(2)])
labels = [f"L{layer}H{head}" for layer in range(2) for head in range(4)]
letters = [NAMES[i] for i in measured[0]]
show_attention(letters, patterns, labels=labels, enlarged=4 + induction[0])

# %% [markdown]
# ## Taking them out
#
# A head's output is replaced by its mean over other rows, which says nothing of this row. (Zero
# would also take away what it always says.) Loss in nats on the repeat; a guess among 48 symbols
# costs 3.87.


# %%
def loss_on_repeat(plan=()):
    with torch.no_grad(), applied(model, Interventions(plan)):
        each = model(measured, return_type="loss", loss_per_token=True)
    return each[:, LONGEST:].mean().item()  # predictions of the repeat, from its second on


def mean_of(layer, heads):
    return Mean(Place("z", layers=layer, heads=heads), Reference(rows(generator, 64)[0]))


generator = torch.Generator().manual_seed(1)
whole = loss_on_repeat()
without = {f"L1H{head}": loss_on_repeat([mean_of(1, [head])]) for head in induction}
without["all induction heads"] = loss_on_repeat([mean_of(1, induction)])
without["all previous-token heads"] = loss_on_repeat([mean_of(0, previous)])
print(f"whole model: {whole:.2f}")
for name, value in without.items():
    print(f"without {name}: {value:.2f}")

# %% [markdown]
# One induction head is hardly missed, for the others say the same: a single ablation tells nothing
# of parts that share their work. Together they are all there is.
#
# ## What they tell each other
#
# Two prompts that end on the same symbol. In the corrupted one it has changed places with another
# in the first stretch, so that something else followed it. If heads of the first layer tell what
# each symbol came after, it is that message alone which differs; a path patch shows who hears it.

# %%
stretch = torch.rand(16, N_SYMBOLS, generator=generator).argsort(1)[:, :LONGEST]
swapped = stretch.clone()
swapped[:, [5, 9]] = stretch[:, [9, 5]]
clean = torch.cat([stretch, stretch[:, :6]], 1)  # the last symbol is the sixth
corrupted = torch.cat([swapped, stretch[:, :6]], 1)
metric = patching.LogitDiff(right=stretch[:, 6], wrong=stretch[:, 10])
print("clean", metric(model(clean)).item(), " corrupted", metric(model(corrupted)).item())

_, source = model.run_with_cache(clean)
edges = [f"L0H{s}->L1H{r}.{kind}" for s in range(4) for r in range(4) for kind in "qkv"]
effects = patch_edges(model, corrupted, source, metric, edges).scores()
by_kind = {kind: sum(e for edge, e in effects.items() if edge.endswith(kind)) for kind in "qkv"}
print("heard through", {kind: round(value, 2) for kind, value in by_kind.items()})

# %% [markdown]
# Through the keys: "I stand behind that symbol" is written on every place, and the induction heads'
# queries look for it. This is K-composition, the point of the whole circuit.
#
# ## The circuit
#
# Every edge of the model's graph is scored in a few runs (edge attribution patching with integrated
# gradients), and the smallest set from the top of that ranking is taken with which the model still
# does 90 % of what it does. All other edges carry what they carry in the corrupted prompts.

# %%
scores = edge_attribution(model, clean, corrupted, metric, "eap-ig").scores
run = EdgeRun(model, clean, resample_reference(model, corrupted))
mask, judgement = smallest(run, scores, metric, faithfulness=0.9)
circuit = Circuit.of(run.graph, mask, scores, "what the corrupted prompts give", "EAP-IG")
faithful = float(judgement.faithfulness[0])
print(f"{len(circuit)} of {len(run.graph.edges)} edges, faithful to {faithful:.2f}")
circuit

# %% [markdown]
# What was claimed, checked:

# %%
final = history.frame().iloc[-1]
assert final["loss"] < 0.3 and min(final["previous_token"], final["induction"]) > 0.4
assert previous and len(induction) >= 2
assert whole < 0.5 < 3.87 < without["all induction heads"]
assert without["all previous-token heads"] > 2
assert min(without[f"L1H{head}"] for head in induction) < whole + 0.5
assert by_kind["k"] > 3 * max(abs(by_kind["q"]), abs(by_kind["v"]))
assert faithful >= 0.9 and len(circuit) < len(run.graph.edges) / 2
read = {edge for edge in circuit.edges if edge.endswith(".k") and edge.startswith("L0")}
assert {int(edge[3]) for edge in read} & set(previous)
