"""Constructors of `HookedTransformer` from trained weights, and saving."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from interp import saving
from interp.devices.device_map import DeviceMap
from interp.errors import InputError, require_whole
from interp.pretrained import from_hf, load_model
from interp.tokenization.text import PaddingSide

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

# Names that TransformerLens gave to models on the hub.
_SHORT_NAMES = {
    "gpt2-small": "gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "gpt2-xl": "openai-community/gpt2-xl",
    "distillgpt2": "distilgpt2",
}

# What TransformerLens's arguments may be where they ask for nothing special.
_NEUTRAL = {"move_to_device": True, "trust_remote_code": False}


class Opening:
    """The ways into a `HookedTransformer` that has weights, and out of it."""

    @staticmethod
    def from_hf(
        hf_model: Any,
        tokenizer: Any = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | str | None = None,
        verify: bool = False,
        device_map: DeviceMap | None = None,
    ) -> HookedTransformer:
        """A copy of a Hugging Face model in memory: see `interp.pretrained.from_hf`."""
        return from_hf(hf_model, tokenizer, device, dtype, verify, device_map)

    @staticmethod
    def load(
        directory: str | Path,
        device: torch.device | str | None = None,
        dtype: torch.dtype | str | None = None,
        device_map: DeviceMap | None = None,
    ) -> HookedTransformer:
        """Read what `save` wrote: see `interp.saving.load`.

        Raises:
            InputError: for both a device and a device map, and as there.
        """
        if device is not None and device_map is not None:
            raise InputError(
                f"device and device_map exclude each other. Received device={device!r}."
            )
        return saving.load(directory, device, dtype, device_map=device_map)

    def save(self, directory: str | Path) -> Path:
        """Write weights, config and tokenizer to a directory, whole or not at all."""
        model: Any = self
        return saving.save(model, directory)

    @staticmethod
    def from_pretrained(
        model_name: str,
        fold_ln: bool | None = None,
        center_writing_weights: bool | None = None,
        center_unembed: bool | None = None,
        refactor_factored_attn_matrices: bool = False,
        hf_model: Any = None,
        device: torch.device | str | None = None,
        tokenizer: Any = None,
        fold_value_biases: bool | None = None,
        default_prepend_bos: bool | None = None,
        default_padding_side: PaddingSide | None = None,
        dtype: torch.dtype | str = "float32",
        revision: str | None = None,
        n_devices: int = 1,
        device_map: DeviceMap | None = None,
        **others: Any,
    ) -> HookedTransformer:
        """TransformerLens's constructor with its defaults: the weights are processed and untied.

        `load_model` gives the same model with the weights that its authors published.

        Args:
            model_name: As for `load_model`, or TransformerLens's short name (`gpt2-small`).
            fold_ln, center_writing_weights, center_unembed, fold_value_biases,
            refactor_factored_attn_matrices: For `process_weights`. None: as TransformerLens does,
                where this architecture allows it.
            hf_model: Take the weights from this model in memory instead.
            device: None: that of `hf_model`; without one CUDA where there is one, else the CPU.
            tokenizer: Instead of the model's own.
            default_prepend_bos: Whether texts begin with BOS. None: the config's default.
            default_padding_side: None: the tokenizer's.
            dtype: Of the weights.
            revision: Of a model on the hub.
            n_devices: Spread the blocks in equal parts over so many GPUs, from `cuda:0` on.
            device_map: Spread the model as this says: as for `load_model`.
            **others: TransformerLens's other arguments. `torch_dtype` is `dtype`; those that ask
                for nothing (`move_to_device=True`, None) are taken, all other refused by name.

        Raises:
            InputError: as `load_model`, and for an argument that is not supported.
        """
        dtype = others.pop("torch_dtype", None) or dtype
        refused = [k for k, v in others.items() if v is not None and v != _NEUTRAL.get(k)]
        if refused:
            raise InputError(
                f"from_pretrained does not support {', '.join(sorted(refused))}: models are loaded "
                "whole, as their authors published them."
            )
        require_whole("n_devices", n_devices, 1)
        if n_devices > 1:
            if device_map is not None or device not in (None, "cuda", torch.device("cuda")):
                raise InputError(
                    "n_devices spreads a model over GPUs from cuda:0 on: with it, device must be "
                    f"'cuda' or None and device_map None. Received {device!r} and {device_map!r}."
                )
            device, device_map = None, list(range(n_devices))
        if hf_model is not None:
            raw = from_hf(hf_model, tokenizer, device, dtype, device_map=device_map)
        else:
            name = _SHORT_NAMES.get(model_name, model_name)
            raw = load_model(name, device, dtype, revision, tokenizer, device_map=device_map)
        raw.cfg.model_name = model_name
        if default_prepend_bos is not None:
            raw.cfg.default_prepend_bos = default_prepend_bos
        if default_padding_side is not None and raw.tokenizer is not None:
            raw.set_tokenizer(raw.tokenizer, default_padding_side)
        steps = (fold_ln, center_writing_weights, center_unembed, fold_value_biases)
        as_it_is = not raw.cfg.tie_word_embeddings and not refactor_factored_attn_matrices
        if as_it_is and all(step is False for step in steps):
            return raw
        return raw.process_weights(*steps, refactor_factored_attn_matrices)

    @staticmethod
    def from_pretrained_no_processing(model_name: str, **kwargs: Any) -> HookedTransformer:
        """`from_pretrained` with every processing step off."""
        steps = ("fold_ln", "center_writing_weights", "center_unembed", "fold_value_biases")
        return Opening.from_pretrained(model_name, **{**dict.fromkeys(steps, False), **kwargs})
