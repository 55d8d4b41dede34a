# %% [markdown]
# # interp beside TransformerLens
#
# TransformerLens 4 wraps a Hugging Face model in a `TransformerBridge`. What one has built on that
# can stay: interp's analyses take a bridge, what it recorded can be read with interp's
# decompositions, and TransformerLens's tools run on interp's models.
#
# So that this runs offline and in seconds, the model is a GPT-2 with random weights. What agrees
# below agrees for any weights; only the answers mean nothing. With a network, begin with
# `bridge = TransformerBridge.boot_transformers("gpt2")`.

# %%
from importlib.util import find_spec

if find_spec("transformer_lens") is None or find_spec("transformers") is None:
    print("skipped: this example needs TransformerLens (pip install 'interp[lens,hf]')")
    raise SystemExit(0)

# %%
import tempfile

import torch
import transformers
from transformer_lens import ActivationCache, patching
from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

from analyses import run_analysis
from interp import patching as interp_patching
from interp.compat.transformer_lens import adopt, read_cache
from interp.zoo.recipes.symbols import make_tokenizer

torch.manual_seed(0)
with tempfile.TemporaryDirectory() as folder:  # TransformerLens reopens tokenizers where they lie
    tokenizer = make_tokenizer()  # a token for each letter and digit
    tokenizer.eos_token = tokenizer.bos_token
    tokenizer.save_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    config = transformers.GPT2Config(
        n_layer=2, n_embd=32, n_head=4, n_positions=32, vocab_size=len(tokenizer),
        initializer_range=0.3, attn_implementation="eager",
    )  # fmt: skip
    hf_model = transformers.GPT2LMHeadModel(config).eval()
    bridge = build_bridge_from_module(
        hf_model, "GPT2LMHeadModel", hf_config=config, tokenizer=tokenizer
    )
    bridge.enable_compatibility_mode(no_processing=True, disable_warnings=True)
prompt = "a b c d a b"
print(bridge(prompt).shape)

# %% [markdown]
# ## interp's analyses on a bridge
#
# `run_analysis` takes it as it is. The result is interp's: tables, figures, and checks, here that
# the parts add up to the logit. In a notebook, `result` alone shows all of it.

# %%
result = run_analysis("head-attribution", bridge, prompt=prompt, target="c", wrong="d")
for check in result.checks:
    print("passed" if check.passed else "FAILED", check.name, f"{check.value:.1e}")
print(result.tables["at-position"].head())

# %% [markdown]
# ## The bridge as a model of interp
#
# `adopt` copies the weights and compares the logits. From there on everything is available:
# optional hooks without flags, patching sweeps, compiled runs.

# %%
model = adopt(bridge)
tokens = bridge.to_tokens(prompt)
with torch.no_grad():
    print("logits differ by at most", (model(tokens) - bridge(tokens)).abs().max().item())
model.hook_dict["blocks.0.attn.hook_result"]  # there, and computed when somebody asks

# %% [markdown]
# ## What a bridge recorded
#
# `read_cache` shares the tensors of a TransformerLens cache and gives them interp's names and
# methods. The residual stream before the unembedding, as a sum of its parts:

# %%
with torch.no_grad():
    _, theirs = bridge.run_with_cache(tokens)
cache = read_cache(theirs, model)
parts, labels = cache.decompose_resid(return_labels=True)
print(labels)
summed = parts.sum(0)

# %% [markdown]
# ## TransformerLens's tools on a model of interp
#
# Its `patching` module needs no change: it asks a model for hooks, and a cache for tensors. interp
# has the same helpers by name, which give the same numbers and share runs.

# %%
corrupted = bridge.to_tokens("a b c e a b")
right, wrong = model.to_single_token("c"), model.to_single_token("d")


def metric(logits):
    return logits[0, -1, right] - logits[0, -1, wrong]


with torch.no_grad():
    _, clean = model.run_with_cache(tokens)
    there = ActivationCache(dict(clean.items()), model)
    by_theirs = patching.get_act_patch_resid_pre(model, corrupted, there, metric)
by_ours = interp_patching.get_act_patch_resid_pre(model, corrupted, clean, metric)
print("patching results differ by at most", (by_theirs - by_ours).abs().max().item())

# %% [markdown]
# What was claimed, checked:

# %%
largest = float(cache["resid_post", -1].abs().max())
assert result.passed
assert (summed - cache["resid_post", -1]).abs().max() < 1e-5 * max(1.0, largest)
assert torch.allclose(model(tokens), bridge(tokens), atol=1e-4)
assert torch.allclose(by_theirs, by_ours, atol=1e-4)
