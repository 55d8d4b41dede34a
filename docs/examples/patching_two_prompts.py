# %% [markdown]
# # Patching two prompts
#
# Two prompts that differ in one thing, and a model that answers them differently. Copy an
# activation of the one run into the other, at one place: if the answer follows, that place carried
# what differs. This finds where a model keeps an answer, without being told what to look for.
#
# `zoo:induction` continues repeats. Both prompts end on `w`, which came earlier. In the clean one
# `Z` followed it, in the corrupted one `m`: two symbols changed places, nothing else.

# %%
from interp import load_model, patching
from interp.attribution import agreement, estimate
from interp.circuits import patch_edges
from interp.display import show_attribution, show_tokens
from interp.zoo import known

model = load_model("zoo:induction", device="cpu", dtype="float64")
clean, corrupted = "k T 4 w Z m 9 b k T 4 w", "k T 4 Z w m 9 b k T 4 w"
right, wrong = model.to_single_token("Z"), model.to_single_token("m")
metric = patching.LogitDiff(right, wrong)  # logit of Z minus logit of m, at the last position
sure, misled = metric(model(clean)).item(), metric(model(corrupted)).item()
print(f"clean {sure:+.1f}, corrupted {misled:+.1f}")
show_tokens(model, [clean, corrupted])

# %% [markdown]
# ## Where in the stream
#
# A sweep patches every place of a grid by itself: here each position of the residual stream before
# each layer, from the clean run into the corrupted one. The scale that helps reading: 0 is the
# corrupted run's answer, 1 the clean run's.


# %%
def recovered(values):
    return (values - misled) / (sure - misled)


_, cache = model.run_with_cache(clean)
stream = patching.sweep(model, corrupted, cache, "resid_pre", metric)
by_place = recovered(stream.mean())  # [layer, pos]
tokens = model.to_str_tokens(corrupted)
for layer in range(2):
    print(f"layer {layer}:", [f"{x:.2f}" for x in by_place[layer].tolist()])
show_attribution(tokens, by_place[1], limit=1.0)

# %% [markdown]
# Before layer 0 no single place is enough, for two symbols changed places. Before layer 1 the
# answer hangs on what stands behind a `w`: at position 5, `Z` in the clean run, and at position 6,
# `m` in the corrupted one. The symbol `m` at 6 is the same in both, so it is not the symbols alone
# that were patched: something in layer 0 has marked each with the one before it.
#
# ## Which heads
#
# The output `z` of each head, at all positions together:

# %%
heads = patching.sweep(model, corrupted, cache, patching.sites(model, "z", positions="all"), metric)
by_head = recovered(heads.mean())  # [layer, head]
print(by_head)

# %% [markdown]
# Layer 1's heads say the answer, so patching any of them moves it part of the way. In layer 0, L0H1
# does too. Does it speak to the logits, or to those that do? A path patch lets one reader alone see
# what one sender would have written.

# %%
senders = [f"L0H{head}" for head in range(4)]
readers = ["logits", *(f"L1H0.{kind}" for kind in "qkv")]
edges = [f"{sender}->{reader}" for sender in senders for reader in readers]
paths = patch_edges(model, model.to_tokens(corrupted), cache, metric, edges)
for edge, effect in sorted(paths.scores().items(), key=lambda item: -abs(item[1]))[:4]:
    print(f"{edge}: {effect:+.2f}")
strongest = max(paths.scores(), key=lambda edge: abs(paths.scores()[edge]))

# %% [markdown]
# To the logits it says next to nothing. The message arrives in the *keys* of L1H0: each place is
# labelled with the symbol that came before it, and the last `w` looks for that label.
#
# ## All at once, to first order
#
# One backward pass estimates every patch. Use it to choose where to patch, not instead of it: it is
# the slope of the metric, and attention bends. The ranking is often right where the sizes are not.

# %%
guess = estimate(model, corrupted, cache, patching.sites(model, "z", positions="all"), metric)
compared = agreement(guess.mean(), (heads.values - heads.base).mean(-1))
print(f"rank correlation {compared.signed:.2f}; sizes are {compared.scale:.2f} of the true ones")

# %% [markdown]
# ## How it misleads
#
# A patch tells what *one* place can do by itself. Where a second mechanism steps in when the first
# is missing, each looks unimportant. This model was written by hand to do that: L2H0 copies the
# right name, and L3H0 does the same whenever L2H0 has not.

# %%
built = known.name_mover()
of_names = patching.LogitDiff(built.right, built.wrong)
sites = patching.sites(built.model, "z", positions="all")
without = patching.sweep(built.model, built.clean, 0.0, sites, of_names)  # each head silenced
lost = (without.base - without.values).mean(-1)  # [layer, head]
print(f"{without.base.mean():.2f} at first; without L2H0 less by {lost[2, 0]:.2f}")


def silence(z, hook):
    z[:, :, 0] = 0.0


both = [(f"blocks.{layer}.attn.hook_z", silence) for layer in (2, 3)]
left = of_names(built.model.run_with_hooks(built.clean, fwd_hooks=both)).item()
print(f"without it and its backup: {left:.2f} is left")

# %% [markdown]
# What was claimed, checked:

# %%
assert sure > 5 and misled < -5
assert by_place[0].max() < 0.9 and by_place[1].topk(2).indices.sort().values.tolist() == [5, 6]
assert strongest == "L0H1->L1H0.k" and abs(paths.scores()["L0H1->logits"]) < 0.1
assert compared.signed > 0.5
assert abs(lost[2, 0]) < 0.1 and abs(left) < 0.1 < float(without.base.mean())
