"""Every public name of the installed TransformerLens, as JSON: run by its own Python.

For each class its methods, properties and the attributes of an instance (without torch's), for each
module what it defines; with the parameters of what can be called.
"""

import inspect
import json
import warnings
from importlib.metadata import version

import torch

SMALL = {
    "n_layers": 1,
    "d_model": 4,
    "d_head": 2,
    "n_heads": 2,
    "d_mlp": 4,
    "n_ctx": 4,
    "d_vocab": 5,
    "act_fn": "gelu",
    "device": "cpu",
}


def parameters_of(value):
    """Names of the parameters of something that can be called: `*args`, `**kwargs` with stars."""
    if not callable(value) or isinstance(value, torch.nn.Module):
        return None
    try:
        found = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return None
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return [stars.get(p.kind, "") + p.name for p in found if p.name not in ("self", "cls")]


def entry(kind, value=None):
    """What is told of one name."""
    return {"kind": kind, "parameters": parameters_of(value) if kind == "method" else None}


def names_of_class(cls, instance=None):
    """Public names that a class (and an instance) has beyond torch's and Python's."""
    foreign = (object, torch.nn.Module, dict)
    found = {}
    for base in reversed(cls.__mro__):
        if base in foreign or not base.__module__.startswith("transformer_lens"):
            continue
        for name, value in vars(base).items():
            if name.startswith("_"):
                continue
            is_value = isinstance(value, property) or not callable(getattr(cls, name))
            found[name] = entry("attribute") if is_value else entry("method", getattr(cls, name))
    held = {} if instance is None else vars(instance)
    modules = held.get("_modules", {}) | held.get("_parameters", {})
    torch_names = set(vars(torch.nn.Module()))
    for name in [*held, *modules]:
        if not name.startswith("_") and name not in torch_names:
            found.setdefault(name, entry("attribute"))
    found["__init__"] = entry("method", cls.__init__)
    return dict(sorted(found.items()))


def names_of_module(module, reexports=False):
    """Public functions, classes and values that a module defines (or also hands on)."""
    found = {}
    for name, value in vars(module).items():
        if name.startswith("_") or inspect.ismodule(value):
            continue
        home = getattr(value, "__module__", None) or ""
        if type(value).__module__ == "functools":  # patching's helpers are partials
            home = module.__name__
        if not home.startswith("transformer_lens" if reexports else module.__name__):
            continue
        is_class = inspect.isclass(value)
        found[name] = entry("class") if is_class else entry("method", value)
    return dict(sorted(found.items()))


def main():
    """The names by owner."""
    import transformer_lens as lens
    from transformer_lens.hook_points import HookPoint

    torch.set_num_threads(1)
    cfg = lens.HookedTransformerConfig(**SMALL)
    decoder = lens.HookedTransformer(cfg)
    # An encoder looks for a tokenizer by name, and T5 has buckets: neither may be left out.
    encoder = lens.HookedEncoder(cfg)
    buckets = {"relative_attention_num_buckets": 4, "relative_attention_max_distance": 8}
    t5 = lens.HookedTransformerConfig(
        **SMALL, **buckets, positional_embedding_type="relative_positional_bias"
    )
    cross = lens.HookedEncoderDecoder(t5)
    _, cache = decoder.run_with_cache(torch.zeros(1, 2, dtype=torch.long))
    factored = lens.FactoredMatrix(torch.eye(2), torch.eye(2))
    key_values = lens.TransformerLensKeyValueCache.init_cache(cfg, "cpu")
    owners = {
        "HookedTransformer": names_of_class(lens.HookedTransformer, decoder),
        "HookedTransformerConfig": names_of_class(lens.HookedTransformerConfig, cfg),
        "ActivationCache": names_of_class(lens.ActivationCache, cache),
        "HookPoint": names_of_class(HookPoint, HookPoint()),
        "FactoredMatrix": names_of_class(lens.FactoredMatrix, factored),
        "HookedEncoder": names_of_class(lens.HookedEncoder, encoder),
        "HookedEncoderDecoder": names_of_class(lens.HookedEncoderDecoder, cross),
        "BertNextSentencePrediction": names_of_class(
            lens.BertNextSentencePrediction, lens.BertNextSentencePrediction(encoder)
        ),
        "HookedAudioEncoder": names_of_class(lens.HookedAudioEncoder),
        "TransformerLensKeyValueCache": names_of_class(
            lens.TransformerLensKeyValueCache, key_values
        ),
        "TransformerLensKeyValueCacheEntry": names_of_class(
            lens.TransformerLensKeyValueCacheEntry, key_values[0]
        ),
        "SVDInterpreter": names_of_class(lens.SVDInterpreter, lens.SVDInterpreter(decoder)),
        "utils": names_of_module(lens.utilities, reexports=True),
        "patching": names_of_module(lens.patching),
        "head_detector": names_of_module(lens.head_detector),
        "evals": names_of_module(lens.evals),
        "train": names_of_module(lens.train),
        "loading": names_of_module(lens.loading),
        "hook_points": names_of_module(lens.hook_points),
        "transformer_lens": {
            name: entry("module" if inspect.ismodule(value) else "class")
            for name, value in sorted(vars(lens).items())
            if not name.startswith("_")
        },
    }
    print(json.dumps({"version": version("transformer_lens"), "owners": owners}))


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is deprecated is known
        main()
