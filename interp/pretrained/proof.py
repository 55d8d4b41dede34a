"""A loaded model proves itself: by what holds for any Transformer, and beside Hugging Face."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from interp.config import Architecture
from interp.errors import InputError, require_extra
from interp.files import short

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

# Of sums and differences within a model, and of logits beside another implementation's (which
# may compute in fp32 within a wider model), as a share of the largest logit.
_OWN = {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 0.01, torch.bfloat16: 0.05}
_OTHER = {torch.float64: 1e-4, torch.float32: 1e-4, torch.float16: 0.03, torch.bfloat16: 0.25}
_LENGTH = 8
_ELSEWHERE = re.compile("implementation|transformers_weights|quantization_config|auto_map|kernel")


# What every conversion has to fulfil, whoever asks.
ON_LOADING = "every weight has its name and shape, and none is left over"


def checks(shape: Architecture) -> list[str]:
    """What `verify=True` checks of a model of this shape, in words."""
    causal = [] if shape == "encoder" else ["later tokens change nothing earlier"]
    return [
        "weights and logits are finite",
        "patterns sum to one",
        *causal,
        "logits are Hugging Face's",
    ]


@dataclass(frozen=True, slots=True)
class Proof:
    """One thing that must hold of a model.

    Attributes:
        name: What.
        value: How far it is from holding.
        tolerance: How far it may be.
    """

    name: str
    value: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether it holds."""
        return self.value <= self.tolerance  # NaN: no


@torch.no_grad()
def prove(model: HookedTransformer, hf_model: Any = None) -> list[Proof]:
    """Check a model on a few random tokens.

    Its weights and logits are finite; patterns and logits have the shapes that the config says;
    what a destination reads sums to one; a later token changes no earlier logit.

    Args:
        model: Any model.
        hf_model: Of transformers, with the same weights: the logits must be the same.

    Raises:
        InputError: if `hf_model` gives no logits.
    """
    cfg = model.cfg
    given: dict[str, Any] = _probe(model, hf_model)
    names = [name for name in model.hook_dict if name.endswith("hook_pattern")]
    logits, cache = model.run_with_cache(**given, names_filter=names)
    patterns = list(cache.values())
    tolerance = _OWN[cfg.dtype]
    odd = sum(int((~weight.isfinite()).sum()) for weight in model.parameters())
    found = [
        Proof("weights that are not finite", odd, 0),
        Proof("logits that are not finite", int((~logits.isfinite()).sum()), 0),
        Proof("tensors of a wrong shape", _misshapen(model, given, logits, patterns), 0),
    ]
    if patterns and not cfg.attn_sinks:
        sums = torch.stack([(p.sum(-1) - 1).abs().max() for p in patterns])
        found.append(Proof("distance of a pattern's rows from summing to 1", _max(sums), tolerance))
    if cfg.attention_dir == "causal" and logits.ndim == 3:
        last = "decoder_input" if "decoder_input" in given else "input"
        changed = given[last].clone()
        changed[:, -1] = (changed[:, -1] + 1) % cfg.d_vocab
        other = model(**{**given, last: changed})
        found.append(
            Proof(
                "what a later token changes of earlier logits",
                _error(other[:, :-1], logits[:, :-1]),
                tolerance,
            )
        )
    if hf_model is not None:
        theirs = _logits_of(hf_model, given).to(logits.device)
        name = "difference from Hugging Face's logits"
        if theirs.shape != logits.shape:
            shapes = f"{tuple(logits.shape)} beside {tuple(theirs.shape)}"
            return [*found, Proof(f"{name}: {shapes}", math.inf, 0)]
        allowed = max(_OTHER[cfg.dtype], _OTHER.get(hf_model.dtype, 0.0))
        found.append(Proof(name, _error(logits, theirs), allowed))
    return found


def require_proof(model: HookedTransformer, hf_model: Any = None) -> None:
    """Raise `InputError` with the figures of all that does not hold: see `prove`."""
    failed = [proof for proof in prove(model, hf_model) if not proof.passed]
    if failed:
        figures = "; ".join(f"{p.name}: {p.value:.1e} (at most {p.tolerance:.0e})" for p in failed)
        raise InputError(f"{model.cfg.model_name} is not the model that it should be: {figures}.")


def open_hf_model(
    folder: Path, config: Mapping[str, Any], architecture: str, dtype: torch.dtype
) -> Any:
    """Hugging Face's own model of a directory, on the CPU.

    What its config says of how it is computed, which could name code on the hub, and of where its
    weights are is left out: those of interp's reading are there already.

    Args:
        folder: With config and weights.
        config: Its config.json.
        architecture: The class to take where that names none.
        dtype: Of the weights.

    Raises:
        InputError: if transformers cannot open it, or it has an adapter.
        MissingExtraError: if transformers is not installed.
    """
    require_extra("transformers", "hf")
    import transformers

    if os.path.lexists(folder / "adapter_config.json"):  # it names a model somewhere else
        raise InputError(f"{folder} has an adapter; only a model without one can be verified.")
    named = config.get("architectures") or [architecture]
    kind = getattr(transformers, named[0])
    plain = {name: value for name, value in config.items() if not _ELSEWHERE.search(name)}
    try:
        return kind.from_pretrained(
            folder,
            config=kind.config_class.from_dict(plain),
            dtype=dtype,
            attn_implementation="eager",
            local_files_only=True,
        )
    except Exception as fault:  # it raises whatever an odd value leads to
        raise InputError(f"transformers cannot open {folder}: {short(fault)}") from fault


def _probe(model: HookedTransformer, hf_model: Any) -> dict[str, Tensor]:
    """Two rows of random tokens; none of them is Hugging Face's padding."""
    cfg = model.cfg
    pad = None if hf_model is None else hf_model.config.get_text_config().pad_token_id
    generator = torch.Generator().manual_seed(0)
    shape = (2, min(_LENGTH, cfg.n_ctx))
    tokens = torch.randint(cfg.d_vocab, shape, generator=generator)
    if pad is not None:
        tokens = torch.where(tokens == pad, (pad + 1) % cfg.d_vocab, tokens)
    given = {"input": tokens, "attention_mask": torch.ones_like(tokens)}
    if cfg.architecture == "encoder-decoder":
        # The decoder reads fewer, so that neither can pass for the other.
        given["decoder_input"] = tokens.flip(1)[:, : max(shape[1] - 2, 1)]
    return {name: value.to(model.W_E.device) for name, value in given.items()}


def _logits_of(hf_model: Any, given: Mapping[str, Tensor]) -> Tensor:
    names = {"input": "input_ids", "decoder_input": "decoder_input_ids"}
    device = next(hf_model.parameters()).device
    arguments = {names.get(name, name): value.to(device) for name, value in given.items()}
    was_training = hf_model.training
    hf_model.eval()
    try:
        output = hf_model(**arguments)
    finally:
        hf_model.train(was_training)
    for name in ("logits", "prediction_logits"):
        if getattr(output, name, None) is not None:
            logits: Tensor = getattr(output, name)
            return logits
    raise InputError(
        f"verify=True needs a model with a head: {type(hf_model).__name__} gives no logits."
    )


def _misshapen(
    model: HookedTransformer, given: Mapping[str, Tensor], logits: Tensor, patterns: list[Tensor]
) -> int:
    cfg = model.cfg
    n_batch, n_source = given["input"].shape
    n_target = given.get("decoder_input", given["input"]).shape[1]
    shape = (n_batch, cfg.d_vocab_out) if cfg.classifies else (n_batch, n_target, cfg.d_vocab_out)
    lengths = {n_source, n_target}
    wrong = int(logits.shape != shape)
    for pattern in patterns:
        right = pattern.shape[:2] == (n_batch, cfg.n_heads)
        wrong += int(not (right and set(pattern.shape[2:]) <= lengths))
    return wrong


def _max(x: Tensor) -> float:
    return float(x.max()) if x.numel() else 0.0


def _error(found: Tensor, expected: Tensor) -> float:
    """|found - expected| / max(1, max |expected|)."""
    found, expected = found.double(), expected.double()
    if not expected.numel():
        return 0.0
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1.0))
