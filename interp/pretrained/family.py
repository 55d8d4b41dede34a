"""What describes a family of pretrained models: its config and a table of its weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from interp.config import Architecture, HookedTransformerConfig
from interp.errors import InputError

HfConfig = Mapping[str, Any]

# Axes of weights that hold several of ours.
_PARTS = {"qkv": 3, "gate_up": 2}


@dataclass(frozen=True, slots=True)
class Row:
    """Where one of our weights comes from.

    Attributes:
        ours: Its name here; `{l}` stands for every layer. `W_in[{e}]` is one expert's part,
            `w[{h}]` one query head's, `w[{g}]` one key/value head's.
        theirs: The name there.
        axes: An einops pattern from their axes to ours; empty: the same.
        take: Which entry of the first axis to take after `axes`, where theirs holds several.
        skip: How many entries of their first axis to leave out, before `axes`.
        add: Added to their weight, in our dtype (a norm that stores its weight less one).
        view: Instead of `axes`: the part of their weight that is ours, by any means but a copy.
        wanted: Whether a model of this config has it.
        optional: A bias that is zero where theirs has none.
        when: The field of their config that says whether it is there, or a function of their
            config that does; empty: it always is.
    """

    ours: str
    theirs: str
    axes: str = ""
    take: int | None = None
    wanted: Callable[[HookedTransformerConfig], bool] | None = None
    skip: int = 0
    add: float = 0.0
    view: Callable[[Float[Tensor, "..."], HookedTransformerConfig], Float[Tensor, "..."]] | None = (
        None
    )
    optional: bool = False
    when: str | Callable[[HfConfig], bool] = ""

    def convert(
        self, weight: Float[Tensor, "..."], cfg: HookedTransformerConfig
    ) -> Float[Tensor, "..."]:
        """Their weight with our axes: a view, nothing is copied; `add` is left to the caller."""
        weight = weight[self.skip :]
        if self.view is not None:
            weight = self.view(weight, cfg)
        if self.axes:
            d_head = {"d_head": cfg.d_head} if "d_head" in self.axes else {}
            parts = {name: n for name, n in _PARTS.items() if name in self.axes}
            weight = rearrange(weight, self.axes, **d_head, **parts)
        return weight if self.take is None else weight[self.take]

    def is_in(self, config: HfConfig) -> bool:
        """Whether models of their config have it."""
        if callable(self.when):
            return self.when(config)
        return not self.when or bool(config.get(self.when))

    def parts(self, cfg: HookedTransformerConfig) -> list[dict[str, int]]:
        """What its names are filled in with, beside the layer, for every part it stands for."""
        counts = {"e": cfg.num_experts or 0, "h": cfg.n_heads, "g": cfg.n_kv_heads}
        for letter, n in counts.items():
            if f"{{{letter}}}" in self.ours:
                return [{letter: i} for i in range(n)]
        return [{}]


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
        renamed: Patterns of names that some files have, and what the table calls them instead.
        copies: Names that hold a weight a second time, and the name of the first.
        other_rows: The table of another way to store the same models, where there are two.
        shape: Of its models.
    """

    name: str
    description: str
    architectures: tuple[str, ...]
    model_types: tuple[str, ...]
    prefix: str
    rows: tuple[Row, ...]
    ignored: tuple[str, ...]
    make_config: Callable[[HfConfig], dict[str, Any]]
    renamed: tuple[tuple[str, str], ...] = ()
    copies: tuple[tuple[str, str], ...] = ()
    other_rows: tuple[Row, ...] = ()
    shape: Architecture = "decoder"

    def stored_as(self, names: Iterable[str]) -> Family:
        """The family with the table that these names (the table's) follow."""
        first = next((row for row in self.other_rows if row not in self.rows), None)
        if first is None or first.theirs.format(l=0, e=0) not in names:
            return self
        return replace(self, rows=self.other_rows, other_rows=self.rows)

    def class_of(self, config: HfConfig) -> str:
        """The model's class; for a config without one, the family's first."""
        named = config.get("architectures") or ()
        return next((name for name in named if name in self.architectures), self.architectures[0])

    def names(self, stored: Iterable[str]) -> dict[str, str]:
        """The table's name of every stored weight → the name that it is stored under."""
        names = {name.removeprefix(self.prefix): name for name in stored}
        for pattern, replacement in self.renamed:
            for name in list(names):
                match = re.fullmatch(pattern, name)
                if match and (new := match.expand(replacement)) not in names:
                    names[new] = names.pop(name)
        return names

    def table(
        self, cfg: HookedTransformerConfig, config: HfConfig | None = None
    ) -> Iterator[tuple[str, str, Row]]:
        """Our name, their name and the row, for every weight of a model, layer by layer.

        Without their `config`, also what only some configs have.
        """
        rows = [row for row in self.rows if row.wanted is None or row.wanted(cfg)]
        if config is not None:
            rows = [row for row in rows if row.is_in(config)]
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
                    for part in row.parts(cfg):
                        ours = row.ours.format(l=layer, **part)
                        yield ours, row.theirs.format(l=layer, **part), row

    def is_ignored(self, name: str, cfg: HookedTransformerConfig) -> bool:
        """Whether a weight of theirs is left out on purpose."""
        if cfg.tie_word_embeddings and name in ("lm_head.weight", self.source_of("unembed.W_U")):
            return True
        if name in dict(self.copies):
            return True
        return any(re.fullmatch(pattern, name) for pattern in self.ignored)

    def source_of(self, ours: str) -> str | None:
        """Their name for one of our weights outside the layers, in a model that has it."""
        return next((row.theirs for row in self.rows if row.ours == ours), None)


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
