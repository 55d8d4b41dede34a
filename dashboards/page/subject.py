"""What the pages look at: a model, opened once for all sessions, and the tokens it reads."""

from __future__ import annotations

import gc
import threading
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st
import torch

from analyses.inputs.prompts import prompt_tokens, token_texts
from analyses.inputs.targets import resolve_token
from interp import HookedTransformer, InputError, load_model, zoo
from interp.weights import weight_hash

if TYPE_CHECKING:
    from interp.interventions import Intervention

MODELS_IN_MEMORY = 4  # opened models that are kept, the latest used
MAX_TOKENS = 512  # in one prompt on a page
MAX_DIGITS = 12  # of a token id
MAX_ANSWER = 64  # tokens that an encoder–decoder writes by itself


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model in memory, shared by sessions.

    Attributes:
        name: What it was opened by.
        model: To be run with `lock` held: hooks belong to the model, not to a run.
        weight_hash: SHA-256 of the weights.
        lock: One run at a time.
        plans: Interventions made for it (`dashboards.readings.plans`), to be touched with `lock`
            held.
    """

    name: str
    model: HookedTransformer
    weight_hash: str
    lock: Any
    plans: dict[Hashable, tuple[Intervention, ...]] = field(default_factory=dict)

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
        """Whether there is a choice to begin with BOS; an encoder has all its special tokens."""
        if not self.can_read_text:
            return False
        encodes = self.model.cfg.architecture != "decoder"
        return encodes or self.model.tokenizer.bos_token_id is not None

    @property
    def is_seq2seq(self) -> bool:
        """Whether it reads two sequences."""
        return self.model.cfg.architecture == "encoder-decoder"


@dataclass(frozen=True)
class Line:
    """A row of tokens.

    Attributes:
        text: As it was typed; empty for a model without a tokenizer.
        tokens: The ids, BOS included.
        texts: The text of each token by itself.
    """

    text: str
    tokens: tuple[int, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Subject:
    """A model and what it reads.

    Attributes:
        loaded: The model.
        line: What it reads; for an encoder–decoder, its source.
        prepend_bos: As switched at the side; None for a model without a tokenizer.
        other: The second prompt, such as a corrupted one; None: none was typed.
        decoder: What an encoder–decoder's decoder reads; None for others.
        answer, wrong: Ids of the two outputs that logit differences compare; None: not typed.
        edits: Interventions in the notation of `dashboards.edits`, switched on or not.
        plan: Those that the model is shown with: empty unless switched on.
    """

    loaded: Loaded
    line: Line
    prepend_bos: bool | None
    other: Line | None = None
    decoder: Line | None = None
    answer: int | None = None
    wrong: int | None = None
    edits: str = ""
    plan: tuple[Intervention, ...] = ()

    @property
    def prompt(self) -> str:
        """The text of the prompt; empty for a model without a tokenizer."""
        return self.line.text

    @property
    def tokens(self) -> tuple[int, ...]:
        """The prompt's ids."""
        return self.line.tokens

    @property
    def texts(self) -> tuple[str, ...]:
        """The text of each of the prompt's tokens."""
        return self.line.texts

    @property
    def predicts(self) -> Line:
        """The row of tokens behind which the model predicts: the decoder's, if it has two."""
        return self.decoder or self.line

    @property
    def key(self) -> Hashable:
        """Equal for subjects that give equal numbers."""
        return (
            self.loaded.identity,
            self.tokens,
            self.decoder.tokens if self.decoder else None,
            self.other.tokens if self.plan and self.other else None,
            self.edits if self.plan else "",
        )

    def with_other(self) -> Subject:
        """The same model with the second prompt as its prompt, and the first as its second.

        Raises:
            InputError: If there is no second prompt.
        """
        if self.other is None:
            raise InputError("there is no second prompt: type one at the side.")
        return replace(self, line=self.other, other=self.line)

    def unedited(self) -> Subject:
        """The same without interventions."""
        return replace(self, plan=())


def _release(loaded: Loaded) -> None:
    """Give the memory of an evicted model back once no session runs it."""
    del loaded
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@st.cache_resource(max_entries=MODELS_IN_MEMORY, show_spinner=False, on_release=_release)
def open_model(name: str) -> Loaded:
    """Open a model, once for all sessions.

    Raises:
        InputError: As `load_model`.
    """
    model = load_model(name).eval()
    return Loaded(name, model, weight_hash(model), threading.RLock())


def read(loaded: Loaded, prompt: str, prepend_bos: bool | None) -> Line:
    """Tokenize a prompt; `prepend_bos` as for `model.tokenize`.

    Raises:
        InputError: If the model cannot read it, or it is too long for a page.
    """
    model = loaded.model
    if loaded.can_read_text:
        tokens = prompt_tokens(model, prompt, None, prepend_bos)
    else:
        tokens = prompt_tokens(model, "", _ids(prompt))
    return _line(loaded, prompt if loaded.can_read_text else "", tokens[0].tolist())


def read_target(loaded: Loaded, source: Line, target: str) -> Line:
    """What the decoder of an encoder–decoder reads: what was typed, or its own greedy answer.

    Raises:
        InputError: As `read`.
    """
    model = loaded.model
    if target and loaded.can_read_text:
        ids = model.tokenize(target, target=True)[0][0].tolist()
    elif target:
        ids = _ids(target)
    else:
        ids = list(_answer(loaded.identity, source.tokens, loaded))
    return _line(loaded, target if loaded.can_read_text else "", ids)


@st.cache_data(max_entries=64, show_spinner="Writing …")
def _answer(identity: tuple[str, str], source: tuple[int, ...], _loaded: Loaded) -> tuple[int, ...]:
    model = _loaded.model
    row = torch.tensor([source], device=model.W_E.device)
    most = min(MAX_ANSWER, model.cfg.n_ctx - 1)
    with _loaded.lock, torch.no_grad():
        found = model.generate(row, max_new_tokens=most, do_sample=False, return_type="tokens")
    ids: list[int] = found[0].tolist()
    # The end is what is predicted behind the last token; it is not read itself.
    end = None if model.tokenizer is None else model.tokenizer.eos_token_id
    return tuple(ids[: ids.index(end, 1)] if end in ids[1:] else ids)


def read_output(loaded: Loaded, text: str) -> int | None:
    """The id of an output (a token, a class) that was typed; None where nothing was.

    Raises:
        InputError: As `resolve_token`.
    """
    return resolve_token(loaded.model, text) if text else None


def _line(loaded: Loaded, text: str, ids: list[int]) -> Line:
    most = min(loaded.model.cfg.n_ctx, MAX_TOKENS)
    if len(ids) > most:
        whose = loaded.name if most == loaded.model.cfg.n_ctx else "a page"
        raise InputError(f"{whose} reads {most} tokens at most; these are {len(ids)}")
    return Line(text, tuple(ids), tuple(token_texts(loaded.model, ids)))


def default_prompt(loaded: Loaded) -> str:
    """The prompt that a zoo model comes with; empty for others."""
    for analysis in ("head-attribution", "logit-lens", "input-attribution"):
        found: dict[str, Any] = zoo.defaults(loaded.name, analysis)
        if found.get("prompt"):
            return str(found["prompt"])
        if found.get("tokens"):
            return " ".join(map(str, found["tokens"]))
    return ""


def default_pair(loaded: Loaded) -> tuple[str, str, str, str]:
    """A zoo model's first pair of prompts and the two answers: clean, corrupted, right, wrong.

    Empty texts where its entry has none.
    """
    found: dict[str, Any] = zoo.defaults(loaded.name, "activation-patching")
    names = ("clean", "corrupted", "right", "wrong")
    clean, corrupted, right, wrong = (str((found.get(name) or [""])[0]) for name in names)
    return clean, corrupted, right, wrong


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
        # No vocabulary is larger; and a tensor would have no room for it.
        if len(word) > MAX_DIGITS:
            raise InputError(f"a token id has {MAX_DIGITS} digits at most. Received {len(word)}")
    return [int(word) for word in words]


def _short(n: int) -> str:
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if n >= size:
            return f"{n / size:.3g}{unit}"
    return str(n)


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
