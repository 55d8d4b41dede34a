# %% [markdown]
# # A translation seen through cross-attention
#
# `zoo:translation` turns English into Portuguese. While it writes, the cross-attention of its
# decoder looks back at the English. Does it look at the word that is being translated? And does
# what is written depend on that look? The first is asked of patterns, the second of patches.

# %%
import torch

from interp import load_model
from interp.display import show_attention
from interp.run.arguments import EncoderOutput
from interp.zoo.recipes.alignment import align, is_right, words_of_tokens
from interp.zoo.recipes.parallel_grammar import held_out_sentences

model = load_model("zoo:translation", device="cpu")
english = "The old teacher gave Ana a red book."
portuguese = model.generate(english, max_new_tokens=30, do_sample=False)
print(portuguese)

# %% [markdown]
# ## The map
#
# A row for each Portuguese token, where it was about to be written; a column for each English one;
# a picture for each head of the last layer. The step back at *livro vermelho* is the adjective
# that moves behind its noun.

# %%
patterns = align(model, english, portuguese)  # [layer, head, target_token, source_token]
sources = [*model.tokenizer.tokenize(english), "</s>"]
targets = model.tokenizer.tokenize(portuguese)
for token, row in zip(targets, patterns[-1].mean(0), strict=True):
    print(f"{token:>10} ← {sources[int(row.argmax())]:8} {row.max():.2f}")
show_attention(targets, patterns[-1], key_tokens=sources)

# %% [markdown]
# ## How often it is right
#
# The grammar that made the training text knows which English words each Portuguese word comes from.
# The model was never told. A word counts as right if the largest share of its layer's mean lies on
# one of them. The control looks at the English word at the same place, as if nothing ever moved.

# %%
shares = {"layer 0": [], "layer 1": [], "same place": []}
for s in held_out_sentences(torch.Generator().manual_seed(0), 60):
    of_layers = align(model, s.english, s.portuguese).mean(1)
    source = words_of_tokens(model.tokenizer, s.english, s.english_words)
    target = words_of_tokens(model.tokenizer, s.portuguese, s.portuguese_words)
    for layer in (0, 1):
        shares[f"layer {layer}"] += is_right(of_layers[layer], source, target, s.alignment)
    last = len(s.english_words) - 1
    shares["same place"] += [min(i, last) in gold for i, gold in enumerate(s.alignment)]
right = {name: sum(found) / len(found) for name, found in shares.items()}
print({name: f"{share:.0%}" for name, share in right.items()})

# %% [markdown]
# ## Whether it matters
#
# Put the encoder's vector of *one* English token from the run of another sentence in its place, and
# read what is written. If the look at `red` is how the colour gets across, that vector decides it.

# %%
tokens = model.to_tokens(english)
red = model.encode(english).residual
blue = model.encode(english.replace("red", "blue")).residual
written = model.tokenize(portuguese, target=True)[0]
place = targets.index("▁vermel")  # where the colour is written
azul = model.to_single_token(" azul")
chance = {}
for at, name in enumerate(sources):
    mixed = red.clone()
    mixed[:, at] = blue[:, at]
    with torch.no_grad():
        logits = model(encoder_output=EncoderOutput(mixed), decoder_input=written)
    chance[name] = logits[0, place].softmax(-1)[azul].item()
print({name: f"{p:.3f}" for name, p in chance.items()})

# %% [markdown]
# How it misleads: the map says where a head reads from, not what it takes. Some rows look at the
# full stop or at `</s>`, which explain nothing. And an encoder's vector *at* a word carries more
# than that word, so a right-looking map need not be a cause; here the patch says that it is.

# %%
assert portuguese == "O professor velho deu um livro vermelho para Ana."
assert right["layer 1"] > 0.85 > right["layer 0"] and right["layer 1"] > right["same place"] + 0.3
assert chance.pop("▁red") > 0.9 and max(chance.values()) < 0.05
