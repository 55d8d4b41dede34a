# %% [markdown]
# # Hooks in twenty lines
#
# A hook is a function that sees a tensor in the middle of a run and may change it. That is most of
# what mechanistic interpretability needs: read what a head did, change it, and see what the model
# says then. Here it is done to a model that ships with interp. It was trained to continue text that
# repeats itself; every symbol is a token.

# %%
import torch

from interp import load_model
from interp.display import show_attention, show_tokens

model = load_model("zoo:induction", device="cpu")
prompt = "k d R 7 q k d R"  # 7 came after R the first time
logits = model(prompt)
answer = model.to_single_token("7")
print("probability of 7:", logits[0, -1].softmax(-1)[answer].item())
show_tokens(model, prompt)

# %% [markdown]
# ## Read
#
# `run_with_cache` records every hook that you name; `model.hook_dict` lists all of them. A cache
# finds a tensor by its short name and layer. This is where each head of the second layer looks
# from the last token: to the token after the earlier R.

# %%
_, cache = model.run_with_cache(prompt, names_filter="blocks.*.attn.hook_pattern")
pattern = cache["pattern", 1]  # [batch, head, pos, key_pos]
tokens = model.to_str_tokens(prompt)
for head, place in enumerate(pattern[0, :, -1].argmax(-1).tolist()):
    print(f"L1H{head} looks from {tokens[-1]!r} at {tokens[place]!r}, position {place}")
show_attention(tokens, pattern)

# %% [markdown]
# ## Change
#
# A hook function gets the tensor and its hook point. It writes into the tensor, or returns another
# in its place. It is on the model for this run alone, also when the run fails. Here the second
# layer's heads may not look from the last token at the one after the earlier R: those scores become
# -inf, before the softmax.


# %%
def look_away(scores, hook):  # [batch, head, pos, key_pos]
    scores[:, :, -1, 4] = -torch.inf


blind = model.run_with_hooks(prompt, fwd_hooks=[("blocks.1.attn.hook_attn_scores", look_away)])
print("without that one look:", blind[0, -1].softmax(-1)[answer].item())

# %% [markdown]
# ## Several at once
#
# Names may be globs, and hooks can stay for a block of code. What is recorded inside it is what
# flows on after the edits. Here every head but one of each layer is silenced, each pair in turn:
# which two are enough?


# %%
def keep(head):
    def silence_others(z, hook):  # [batch, pos, head, d_head]
        others = [h for h in range(z.shape[2]) if h != head]
        z[:, :, others] = 0.0

    return silence_others


enough = {}
for first in range(model.cfg.n_heads):
    for second in range(model.cfg.n_heads):
        with model.hooks([("blocks.0.attn.hook_z", keep(first)), ("blocks.1.*_z", keep(second))]):
            enough[first, second] = model(prompt)[0, -1].softmax(-1)[answer].item()
best = max(enough, key=enough.get)
print(f"L0H{best[0]} and L1H{best[1]} alone give 7 a probability of {enough[best]:.2f}")
assert not any(point.is_watched for point in model.hook_points())  # nothing is left on the model

# %% [markdown]
# ## Gradients
#
# A backward hook sees the gradient of a scalar with respect to what flows on from its hook. Here:
# of the answer's logit, by the attention pattern. Where it is large, looking there more would raise
# the logit.

# %%
seen = []


def keep_gradient(gradient, hook):  # [batch, head, pos, key_pos]
    seen.append(gradient)


with model.hooks(bwd_hooks=[("blocks.1.attn.hook_pattern", keep_gradient)]):
    model(prompt)[0, -1, answer].backward()
from_last = seen[0][0, :, -1]  # [head, key_pos]
print("looking where would raise the logit of 7 most:", from_last.argmax(-1).tolist())

# %% [markdown]
# What was claimed, checked:

# %%
assert logits[0, -1].softmax(-1)[answer] > 0.99
assert pattern[0, :, -1].argmax(-1).tolist() == [4] * 4
assert enough[best] > 0.5
assert blind[0, -1].softmax(-1)[answer] < 0.1
assert from_last.argmax(-1).tolist() == [4] * 4
