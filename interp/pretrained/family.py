"""What describes a family of pretrained models: its config and a table of its weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from einops import rearrange
from torch import Tensor

from interp.config import HookedTransformerConfig
from interp.errors import InputError

HfConfig = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """Where one of our weights comes from.

    Attributes:
        ours: Its name here; `{l}` stands for every layer.
        theirs: The name there.
        axes: An einops pattern from their axes to ours; empty: the same.
        take: Which entry of the first axis to take after `axes`, where theirs holds several.
        skip: How many entries of their first axis to leave out, before `axes`.
        add: Added to their weight (a norm that stores its weight less one).
        view: Instead of `axes`: the part of their weight that is ours, by any means but a copy.
        wanted: Whether a model of this config has it.
        optional: A bias that is zero where theirs has none.
    """

    ours: str
    theirs: str
    axes: str = ""
    take: int | None = None
    wanted: Callable[[HookedTransformerConfig], bool] | None = None
    skip: int = 0
    add: float = 0.0
    view: Callable[[Tensor, HookedTransformerConfig], Tensor] | None = None
    optional: bool = False

    def convert(self, weight: Tensor, cfg: HookedTransformerConfig) -> Tensor:
        """Their weight with our axes: a view, nothing is copied (but to `add`)."""
        weight = weight[self.skip :]
        if self.add:
            weight = weight + self.add
        if self.view is not None:
            weight = self.view(weight, cfg)
        if self.axes:
            d_head = {"d_head": cfg.d_head} if "d_head" in self.axes else {}
            qkv = {"qkv": 3} if "qkv" in self.axes else {}
            weight = rearrange(weight, self.axes, **d_head, **qkv)
        return weight if self.take is None else weight[self.take]


@dataclass(frozen=True, slots=True)
class Family:
    """One Hugging Face architecture.

    Attributes:
        name: As people call it.
        description: One line.
        architectures: The classes in a checkpoint's `config.json` that it reads.
        model_types: Its `model_type`s, for a config without `architectures`.
        prefix: What their names begin with in a model with a head; base models lack it.
        rows: The table of weights.
        ignored: Patterns of names to leave out: buffers, and copies of tied weights.
        make_config: From their config to ours, refusing what would be computed differently.
    """

    name: str
    description: str
    architectures: tuple[str, ...]
    model_types: tuple[str, ...]
    prefix: str
    rows: tuple[Row, ...]
    ignored: tuple[str, ...]
    make_config: Callable[[HfConfig], dict[str, Any]]

    def table(self, cfg: HookedTransformerConfig) -> Iterator[tuple[str, str, Row]]:
        """Our name, their name and the row, for every weight of a model, layer by layer."""
        rows = [row for row in self.rows if row.wanted is None or row.wanted(cfg)]
        for row in rows:
            if "{l}" not in row.ours:
                yield row.ours, row.theirs, row
        stacks = {"encoder.": cfg.n_encoder_layers or 0, "decoder.": cfg.n_layers, "blocks.": 0}
        if cfg.architecture != "encoder-decoder":
            stacks["blocks."] = cfg.n_layers
        for stack, n_layers in stacks.items():
            of_layers = [r for r in rows if "{l}" in r.ours and r.ours.startswith(stack)]
            for layer in range(n_layers):
                for row in of_layers:
                    yield row.ours.format(l=layer), row.theirs.format(l=layer), row

    def is_ignored(self, name: str, cfg: HookedTransformerConfig) -> bool:
        """Whether a weight of theirs is left out on purpose."""
        if cfg.tie_word_embeddings and name == "lm_head.weight":
            return True
        return any(re.fullmatch(pattern, name) for pattern in self.ignored)


_ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_new",
    "gelu_fast": "gelu_fast",
    "gelu_pytorch_tanh": "gelu_pytorch_tanh",
    "silu": "silu",
    "swish": "silu",
}


def activation(name: str) -> str:
    """Our name for their activation function.

    Raises:
        InputError: for one that interp does not have.
    """
    if name not in _ACTIVATIONS:
        raise InputError(
            f"the activation function must be one of {', '.join(_ACTIVATIONS)}. Received {name!r}."
        )
    return _ACTIVATIONS[name]


def required(config: HfConfig, name: str) -> Any:
    """A field that their config must have."""
    if config.get(name) is None:
        raise InputError(f"the model's config.json must give {name!r}.")
    return config[name]


def refuse(config: HfConfig, **neutral: Any) -> None:
    """Raise `InputError` where a field asks for something that would be computed differently.

    Args:
        config: Theirs.
        **neutral: The value of each field that changes nothing.
    """
    for name, value in neutral.items():
        if config.get(name, value) not in (value, None):
            raise InputError(f"{name}={config[name]!r} is not supported yet (only {value!r} is).")
