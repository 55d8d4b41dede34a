"""TransformerLens 4 beside interp: its tools on our models, our analyses on its bridges.

Its tools take a `HookedTransformer` as it is. It has what `transformer_lens.model_protocol` asks
for, so `patching`, `head_detector`, `SVDInterpreter` and `ActivationCache` run on it unchanged:

```python
_, clean = model.run_with_cache(clean_tokens)
patching.get_act_patch_resid_pre(model, tokens, clean, metric)
transformer_lens.ActivationCache(clean.cache_dict, model).logit_lens()
```

The other way, `run_analysis` takes a `TransformerBridge` and adopts it: `adopt` gives a
`HookedTransformer` with the bridge's weights as they are at that moment, raw or processed.
`read_cache` gives what a bridge recorded as an `ActivationCache` of interp, names and
decompositions included.

This module imports no TransformerLens: whoever has a bridge has imported it.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from interp.cache import ActivationCache
from interp.errors import InputError
from interp.transformer import HookedTransformer

# How far a tensor may be from the bridge's, as a share of its largest number. (In float64 too some
# norms of transformers compute in float32.)
_TOLERANCES = {torch.float64: 1e-4, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}
_PROBE = (2, 8)  # batch and length of the tokens that both are run on
_PROCESSED = "transformer_lens.process_weights"


def is_bridge(model: object) -> bool:
    """Whether something is a TransformerLens `TransformerBridge`."""
    lens = sys.modules.get("transformer_lens.model_bridge")
    return lens is not None and isinstance(model, lens.TransformerBridge)


def adopt(bridge: Any) -> HookedTransformer:
    """A `HookedTransformer` that computes what a bridge computes, checked on a few tokens.

    Weights are copied as they are: those of a bridge in compatibility mode are the folded and
    centred ones (its norms keep their weights, which are then one). Hooks are not taken over.

    Args:
        bridge: Of a Hugging Face model of a family that `HookedTransformer.from_hf` reads. Left as
            it is.

    Raises:
        InputError: for another kind of model; for weights processed by TransformerLens in a model
            that has some which it does not give back by name; and if the logits differ.
    """
    if not is_bridge(bridge):
        raise InputError(f"adopt takes a TransformerBridge. Received a {type(bridge).__name__}.")
    model = HookedTransformer.from_hf(_unwrapped(bridge.original_model), bridge.tokenizer)
    if bridge._weights_processed:
        model = _with_processed_weights(model, bridge)
    model.cfg.default_prepend_bos = bridge.cfg.default_prepend_bos
    model.train(bridge.training)
    _check_same(model, bridge)
    return model


def read_cache(cache: Any, model: HookedTransformer | None = None) -> ActivationCache:
    """What a bridge recorded, under interp's names.

    Tensors are shared, not copied. A tensor recorded only under one of the names that
    TransformerLens 4 has for its own modules (`blocks.0.hook_out`) is found under the usual one
    (`blocks.0.hook_resid_post`).

    Left out is what has no usual name, and what is another tensor there than here: both are run on
    a few tokens to see. (So in BERT, where a bridge's `hook_attn_out` is what the block's norm
    made of the sum.) Outside of compatibility mode a bridge records the scores that causality
    forbids as the lowest number of their dtype, where interp has -inf.

    Args:
        cache: A `transformer_lens.ActivationCache` of a bridge.
        model: What `adopt` gave for that bridge. None: the bridge is adopted here.

    Raises:
        InputError: for the cache of something else, of an encoder-decoder, or without any tensor
            that the model has too.
    """
    bridge: Any = getattr(cache, "model", None)
    if not is_bridge(bridge):
        raise InputError(
            f"read_cache takes the cache of a TransformerBridge. Received {type(cache).__name__} "
            f"of {type(bridge).__name__}."
        )
    model = adopt(bridge) if model is None else model
    if model.cfg.architecture == "encoder-decoder":
        raise InputError("read_cache does not know the names of an encoder-decoder bridge.")
    differ = _other_tensors(model, bridge)
    found = _renamed(cache.cache_dict, model, bridge)
    found = {n: t for n, t in found.items() if n.removesuffix("_grad") not in differ}
    if not found:
        raise InputError(
            f"none of the {len(cache.cache_dict)} tensors of this cache is one that interp has."
        )
    return ActivationCache(found, model, cache.has_batch_dim)


def _renamed(
    recorded: Mapping[str, Tensor], model: HookedTransformer, bridge: Any
) -> dict[str, Tensor]:
    """What was recorded at hook points that the model has too, by the name that it has here."""
    points = bridge.hook_dict
    names_of: dict[int, list[str]] = defaultdict(list)
    for name, point in points.items():
        names_of[id(point)].append(name)
    found: dict[str, Tensor] = {}
    for name in model.hook_dict:
        synonyms = [name, *names_of[id(points.get(name))]]
        for kind in ("", "_grad"):
            there = next((s + kind for s in synonyms if s + kind in recorded), None)
            if there is not None:
                found[name + kind] = recorded[there]
    return found


@torch.no_grad()
def _other_tensors(model: HookedTransformer, bridge: Any) -> set[str]:
    """Names under which a bridge records something else than interp does."""
    tokens = _probe(model, bridge)
    theirs = _renamed(bridge.run_with_cache(tokens)[1].cache_dict, model, bridge)
    _, ours = model.record(tokens, names_filter=list(theirs))
    allowed = _TOLERANCES[model.cfg.dtype]
    return {name for name, tensor in theirs.items() if not _error(ours[name], tensor) <= allowed}


def _unwrapped(model: nn.Module) -> _Unwrapped:
    """What `from_hf` needs of a model inside a bridge; it reads the architecture off the class."""
    if not hasattr(getattr(model, "config", None), "to_dict"):
        raise InputError(
            "only the bridge of a Hugging Face model can be adopted. This one wraps a "
            f"{type(model).__name__}."
        )
    return type(type(model).__name__, (_Unwrapped,), {})(model)


class _Unwrapped:
    """A Hugging Face model as it was before a bridge put its components into it.

    The components hold the model's own as `_original_component` and further names for the same
    tensors; which names are Hugging Face's, a model of the same class without memory tells.
    """

    def __init__(self, model: Any) -> None:
        self.config: Any = model.config
        self._model = model

    def parameters(self) -> Iterator[nn.Parameter]:
        return self._model.parameters()

    def state_dict(self) -> dict[str, Tensor]:
        with torch.device("meta"):
            names = type(self._model)(self.config).state_dict()
        held = self._model.state_dict()
        weights = {key.replace("._original_component", ""): w for key, w in held.items()}
        return {name: weights[name] for name in names if name in weights}


def _with_processed_weights(raw: HookedTransformer, bridge: Any) -> HookedTransformer:
    """The same architecture with the weights that the bridge made of its own."""
    cfg = raw.cfg.replace(tie_word_embeddings=False)
    model = HookedTransformer.uninitialised(cfg, bridge.tokenizer)
    # Of an encoder-decoder TransformerLens gives no weights by name at all.
    given = {} if cfg.architecture == "encoder-decoder" else bridge.tl_parameters()
    shared = cfg.n_heads // cfg.n_kv_heads
    weights: dict[str, Tensor] = {}
    missing: list[str] = []
    for name in model.state_dict():
        part, _, kind = name.rpartition(".")
        if kind.startswith("_"):  # grouped: one per key/value head, given one per query head
            name_there, step = f"{part}.{kind[1:]}", shared
        else:
            name_there, step = name, 1
        if name_there in given:
            weights[name] = given[name_there].detach()[::step]
        else:
            missing.append(name)
    if missing:
        raise InputError(
            "this bridge's weights were processed, and TransformerLens does not give "
            f"{', '.join(missing[:3])}{' and others' * (len(missing) > 3)} back. Adopt a bridge "
            "with enable_compatibility_mode(no_processing=True) and call process_weights() on the "
            "result."
        )
    model.load_state_dict(weights)
    model.cfg.weight_processing = (_PROCESSED,)
    return model


@torch.no_grad()
def _check_same(model: HookedTransformer, bridge: Any) -> None:
    tokens = _probe(model, bridge)
    inputs = {"decoder_input": tokens} if model.cfg.architecture == "encoder-decoder" else {}
    error = _error(model(tokens, **inputs), bridge(tokens, **inputs))
    tolerance = _TOLERANCES[model.cfg.dtype]
    if not error <= tolerance:
        raise InputError(
            f"this bridge does not compute what its weights compute in interp: logits differ by "
            f"{error:.1e} of the largest (tolerance {tolerance:.0e}). Are hooks attached to it?"
        )


def _error(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, as a share of the largest number; masked scores count nothing."""
    if ours.shape != theirs.shape:
        return torch.inf
    there = ~ours.isneginf()
    ours, theirs = ours[there].double(), theirs[there].double()
    return float((ours - theirs).abs().max() / ours.abs().max().clamp(min=1.0))


def _probe(model: HookedTransformer, bridge: Any) -> Tensor:
    """Tokens that mean nothing special: no padding, no BOS."""
    config = bridge.original_model.config
    rows, length = _PROBE
    length = min(length, model.cfg.n_ctx)
    special: set[int | None] = set(getattr(model.tokenizer, "all_special_ids", ()))
    for kind in ("pad", "bos", "eos"):
        ids = getattr(config, f"{kind}_token_id", None)
        special |= set(ids) if isinstance(ids, list) else {ids}
    plain = [i for i in range(model.cfg.d_vocab) if i not in special][: rows * length]
    chosen = [plain[i % len(plain)] for i in range(rows * length)]
    return torch.tensor(chosen, device=model.cfg.torch_device).reshape(rows, length)
