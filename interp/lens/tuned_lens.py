"""The tuned lens: an affine translator for each layer, put in front of the logit lens.

A stream of an early layer need not be written in the terms that the unembedding reads. A translator
h + h W + b, trained so that what is read comes close to the model's final prediction, takes out
what differs between layers by a fixed affine map.

Source: Belrose et al. 2023, Eliciting Latent Predictions from Transformers with the Tuned Lens.
"""

from __future__ import annotations

import json
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from interp.errors import is_whole, require
from interp.files import contained, read_json
from interp.files.atomic import replacing_directory
from interp.lens.logit_lens import stream_hooks
from interp.lens.read_out import require_lens
from interp.saving import read_weights
from interp.weights import weight_hash

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

_State = tuple[weakref.ref[nn.Module], tuple[tuple[int, int], ...]]
FORMAT, VERSION = "interp-tuned-lens", 1
SETTINGS = "tuned_lens.json"
WEIGHTS = "tuned_lens.safetensors"


class TunedLens(nn.Module):
    """Translators for what each block of one model reads; they begin as identities.

    `final_post`, the last stream, is what they are trained towards and has none.

    Args:
        model: Whose streams they translate. The lens does not keep it.

    Attributes:
        W: `[layer, d_model, d_model]`; b_W `[layer, d_model]`: layer l's translator gives
            h + h W[l] + b_W[l]. In fp32 (in fp64 for an fp64 model).
        hooks: The hook of each.
        model_name: The model's name.
        weight_hash: SHA-256 of the model's weights.
        training_record: What it was trained with; empty before that.

    Raises:
        InputError: for a model without a logit lens, or without blocks.
    """

    def __init__(self, model: HookedTransformer) -> None:
        super().__init__()
        require_lens(model)
        require(model.cfg.n_layers > 0, "a tuned lens needs a model with blocks. This has none")
        n, d = model.cfg.n_layers, model.cfg.d_model
        wide = torch.float64 if model.cfg.dtype == torch.float64 else torch.float32
        at = model.W_E.device
        self.W = nn.Parameter(torch.zeros(n, d, d, dtype=wide, device=at))
        self.b_W = nn.Parameter(torch.zeros(n, d, dtype=wide, device=at))
        self.hooks = stream_hooks(model)[:-1]
        self.model_name: str | None = model.cfg.model_name
        self.weight_hash = weight_hash(model)
        self.training_record: dict[str, Any] = {}
        self._known = _state(model)

    def translate(
        self, layer: int, h: Float[Tensor, "*axes d_model"]
    ) -> Float[Tensor, "*axes d_model"]:
        """What is read in place of stream number `layer`, in its dtype; the last stays itself.

        Raises:
            InputError: for a stream that is not there.
        """
        n = len(self.hooks)
        fits = is_whole(layer, 0) and layer <= n
        require(fits, f"layer must lie in 0 … {n}, the last stream's number. Received {layer!r}")
        if layer == n:
            return h
        x = h.to(self.W.dtype)
        return (x + F.linear(x, self.W[layer].mT, self.b_W[layer])).to(h.dtype)

    def check(self, model: HookedTransformer) -> None:
        """Check that this is the model that the lens is of.

        Its weights are read once, and again only for another model or after they changed. What is
        written through `.data`, which torch keeps no count of, goes unseen.

        Raises:
            InputError: for other weights.
        """
        state = _state(model)
        if state is not None and state == self._known:
            return
        found = weight_hash(model)
        require(
            found == self.weight_hash,
            f"a tuned lens must be used on the very weights that it was trained on, those of "
            f"{self.model_name!r} with SHA-256 {self.weight_hash}. Received "
            f"{model.cfg.model_name!r} with {found}",
        )
        self._known = state

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled or copied: the model that was checked is not."""
        return {**self.__dict__, "_known": None}

    def save(self, directory: str | Path) -> Path:
        """Write it to a directory, whole or not at all; a lens saved there before is replaced.

        Raises:
            InputError: if something other than a saved lens stands there.
        """
        target = Path(directory)
        stands = target.exists() and not (target.is_dir() and not any(target.iterdir()))
        require(
            not stands or (target / SETTINGS).is_file(),
            f"a lens goes to a new or empty directory, or in place of another. Received {target}",
        )
        document = {
            "format": FORMAT,
            "version": VERSION,
            "model": self.model_name,
            "weight_hash": self.weight_hash,
            "hooks": self.hooks,
            "training": self.training_record,
        }
        with replacing_directory(target) as fresh:
            weights = {k: v.detach().cpu().contiguous() for k, v in self.state_dict().items()}
            save_file(weights, fresh / WEIGHTS, metadata={"format": "pt"})
            text = json.dumps(document, indent=1, allow_nan=False)
            (fresh / SETTINGS).write_text(text + "\n", encoding="utf-8")
            (fresh / WEIGHTS).chmod((fresh / SETTINGS).stat().st_mode)  # safetensors: owner alone
        return target

    @classmethod
    def load(cls, directory: str | Path, model: HookedTransformer) -> TunedLens:
        """Read a lens that `save` wrote, for the model that it was trained on.

        Raises:
            InputError: if files are missing, damaged or links out of the directory, translators
                are not finite, or the model has other weights.
        """
        folder = Path(directory)
        document = read_json(contained(folder, folder / SETTINGS))
        known = document.get("format") == FORMAT and document.get("version") == VERSION
        require(known, f"{folder / SETTINGS} was not written by TunedLens.save of this version")
        lens = cls(model)
        name, training = document.get("model"), document.get("training") or {}
        kinds = (name is None or isinstance(name, str)) and isinstance(training, dict)
        require(kinds, f"{folder / SETTINGS} must name its model and hold its training")
        lens.model_name, lens.weight_hash = name, str(document.get("weight_hash"))[:64]
        lens.training_record = training
        lens._known = None
        lens.check(model)
        read_weights(lens, contained(folder, folder / WEIGHTS))
        return lens


def _state(model: nn.Module) -> _State | None:
    """Tells a model's weights from others and from what they were before they were written into.

    None in inference tensors, which do not tell. An address alone would not do: what is freed may
    be given to another model's weights.
    """
    weights = list(model.parameters())
    if any(w.is_inference() for w in weights):
        return None
    return weakref.ref(model), tuple((w.data_ptr(), w._version) for w in weights)
