"""What the pages look at: a model, opened once for all sessions, and the tokens it reads."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st
import torch

from analyses.prompts import prompt_tokens, token_texts
from interp import HookedTransformer, InputError, load_model, zoo
from interp.weights import weight_hash

MODELS_IN_MEMORY = 4  # opened models that are kept, the latest used


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model in memory, shared by sessions.

    Attributes:
        name: What it was opened by.
        model: To be run with `lock` held: hooks belong to the model, not to a run.
        weight_hash: SHA-256 of the weights.
        lock: One run at a time.
    """

    name: str
    model: HookedTransformer
    weight_hash: str
    lock: threading.Lock

    @property
    def identity(self) -> tuple[str, str]:
        """What results are cached by."""
        return self.name, self.weight_hash

    @property
    def can_read_text(self) -> bool:
        """Whether there is a tokenizer; without one, prompts are token ids."""
        return self.model.tokenizer is not None

    @property
    def has_bos(self) -> bool:
        """Whether its tokenizer has a BOS token."""
        return self.can_read_text and self.model.tokenizer.bos_token_id is not None


@dataclass(frozen=True, eq=False)
class Subject:
    """A model and what it reads.

    Attributes:
        prompt: The text; empty for a model without a tokenizer.
        prepend_bos: As switched at the side; None for a model without a tokenizer.
        tokens: The ids, BOS included.
        texts: The text of each token by itself.
    """

    loaded: Loaded
    prompt: str
    prepend_bos: bool | None
    tokens: tuple[int, ...]
    texts: tuple[str, ...]


@st.cache_resource(max_entries=MODELS_IN_MEMORY, show_spinner=False)
def open_model(name: str) -> Loaded:
    """Open a model, once for all sessions.

    Raises:
        InputError: As `load_model`.
    """
    model = load_model(name).eval()
    return Loaded(name, model, weight_hash(model), threading.Lock())


def read(loaded: Loaded, prompt: str, prepend_bos: bool) -> Subject:
    """Tokenize a prompt.

    Raises:
        InputError: If the model cannot read it.
    """
    model = loaded.model
    if loaded.can_read_text:
        tokens = prompt_tokens(model, prompt, None, prepend_bos)
    else:
        tokens = prompt_tokens(model, "", _ids(prompt))
    n_ctx = model.cfg.n_ctx
    if tokens.shape[1] > n_ctx:
        raise InputError(f"{loaded.name} reads {n_ctx} tokens at most; these are {tokens.shape[1]}")
    ids = tuple(tokens[0].tolist())
    bos = prepend_bos if loaded.can_read_text else None
    text = prompt if loaded.can_read_text else ""
    return Subject(loaded, text, bos, ids, tuple(token_texts(model, ids)))


def default_prompt(loaded: Loaded) -> str:
    """The prompt that a zoo model comes with; empty for others."""
    for analysis in ("head-attribution", "logit-lens", "input-attribution"):
        found: dict[str, Any] = zoo.defaults(loaded.name, analysis)
        if found.get("prompt"):
            return str(found["prompt"])
        if found.get("tokens"):
            return " ".join(map(str, found["tokens"]))
    return ""


def origin(name: str) -> str:
    """Where a model comes from, in a few words."""
    if name in zoo.entries():
        return "from the zoo"
    return "a local directory" if Path(name).is_dir() else "from the Hugging Face hub"


def described(loaded: Loaded) -> str:
    """Size, number format and device in one line."""
    cfg = loaded.model.cfg
    heads = f"{cfg.n_layers} layers × {cfg.n_heads} heads"
    weights = sum(p.numel() for p in loaded.model.parameters())
    return f"{heads}, {_short(weights)} weights, {_dtype(cfg.dtype)} on {cfg.device}"


def _ids(prompt: str) -> list[int]:
    words = prompt.replace(",", " ").split()
    for word in words:
        if not word.isdecimal():
            raise InputError(f"this model has no tokenizer: type token ids, not {word!r}")
    return [int(word) for word in words]


def _short(n: int) -> str:
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if n >= size:
            return f"{n / size:.3g}{unit}"
    return str(n)


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
