"""Continuing a text, one token at a time, with a key/value cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import InputError
from interp.kv_cache import KeyValueCache

if TYPE_CHECKING:
    from interp.config import HookedTransformerConfig


def choose_tokens(
    logits: Float[Tensor, "batch d_vocab"],
    top_k: int | None = None,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "batch"]:
    """A token per row: the likeliest at temperature 0, else drawn from softmax(logits / T).

    Args:
        logits: Of the next token.
        top_k: Draw from the k likeliest only.
        temperature: 0 is greedy.
        generator: Source of the draw, on the logits' device. None: torch's global one.

    Raises:
        InputError: for top_k below 1 or above the vocabulary, or a negative temperature.
    """
    if temperature < 0:
        raise InputError(f"temperature must not be negative. Received {temperature}.")
    if temperature == 0:
        return logits.argmax(-1)
    logits = logits.float() / temperature
    if top_k is not None:
        if not 1 <= top_k <= logits.shape[-1]:
            raise InputError(f"top_k must lie in 1 … {logits.shape[-1]}. Received {top_k}.")
        values, places = logits.topk(top_k, -1)
        drawn = torch.multinomial(values.softmax(-1), 1, generator=generator)
        return places.gather(-1, drawn)[:, 0]
    return torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]


class Generation:
    """The generating method of `HookedTransformer`."""

    cfg: HookedTransformerConfig
    tokenizer: Any

    @torch.no_grad()
    def generate(
        self,
        input: str | list[str] | Int[Tensor, "batch pos"] | Int[Tensor, "pos"] = "",
        max_new_tokens: int = 10,
        stop_at_eos: bool = True,
        eos_token_id: int | None = None,
        do_sample: bool = True,
        top_k: int | None = None,
        temperature: float = 1.0,
        use_past_kv_cache: bool = True,
        prepend_bos: bool | None = None,
        return_type: Literal["input", "str", "tokens"] = "input",
        generator: torch.Generator | None = None,
        verbose: bool = False,
    ) -> Any:
        """Continue texts or tokens.

        Args:
            input: A text, several (padded on the left), or tokens.
            max_new_tokens: How many tokens to add at most.
            stop_at_eos: End a row at its EOS token, and all at the last row's. What follows an EOS
                is filled with EOS.
            eos_token_id: None: the tokenizer's.
            do_sample: False takes the likeliest token each time.
            top_k: Draw from the k likeliest.
            temperature: Of the softmax; 0 is greedy.
            use_past_kv_cache: Keep keys and values instead of recomputing them (causal models; in
                others they change with every token).
            prepend_bos: For texts. None: `cfg.default_prepend_bos`.
            return_type: `str`, `tokens`, or what the input was.
            generator: Source of the draws. None: torch's global one.
            verbose: Show a progress bar.

        Returns:
            The input with its continuation: text(s), or tokens `[batch, pos + new]`.

        Raises:
            InputError: for an option out of its range, or text without a tokenizer.
        """
        model: Any = self
        if max_new_tokens < 0:
            raise InputError(f"max_new_tokens must not be negative. Received {max_new_tokens}.")
        if return_type not in ("input", "str", "tokens"):
            raise InputError(
                f"return_type must be 'input', 'str' or 'tokens'. Received {return_type!r}."
            )
        is_tokens = isinstance(input, Tensor)
        if self.tokenizer is None and not (is_tokens and return_type != "str"):
            raise InputError("text needs a tokenizer, and this model has none.")
        if isinstance(input, Tensor):
            tokens = input[None] if input.ndim == 1 else input
            tokens = tokens.to(model.W_E.device)
            mask = model.mask_of_padding(tokens, None, prepend_bos)
        else:
            tokens, mask = model.tokenize(input, prepend_bos, "left")
            if mask is None and model.mask_of_padding(tokens, None, prepend_bos) is not None:
                mask = torch.ones_like(tokens)  # a text may begin with the pad token
        eos = self._eos(eos_token_id) if stop_at_eos else None
        # The last token is never read. Better now than after all the others.
        model.pos_embed.check_length(tokens.shape[1] + max(max_new_tokens - 1, 0))
        past = None
        if use_past_kv_cache and self.cfg.attention_dir == "causal":
            past = KeyValueCache.init_cache(self.cfg, tokens.device, tokens.shape[0])
        finished = torch.zeros(tokens.shape[0], dtype=torch.bool, device=tokens.device)
        for _ in _steps(max_new_tokens, verbose):
            new = tokens if past is None or len(past) == 0 else tokens[:, -1:]
            new_mask = mask if mask is None or new is tokens else mask[:, -1:]
            logits = model(new, attention_mask=new_mask, past_kv_cache=past)[:, -1]
            chosen = choose_tokens(logits, top_k, temperature if do_sample else 0.0, generator)
            if eos is not None:
                chosen = torch.where(finished, eos, chosen)
                finished |= chosen == eos
            tokens = torch.cat([tokens, chosen[:, None]], 1)
            if mask is not None:
                mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
            if eos is not None and bool(finished.all()):
                break
        if return_type == "tokens" or (return_type == "input" and is_tokens):
            return tokens
        texts = [
            self._text(row if mask is None else row[mask[i].bool()]) for i, row in enumerate(tokens)
        ]
        return texts[0] if isinstance(input, str) or (is_tokens and len(texts) == 1) else texts

    def _text(self, tokens: Int[Tensor, "pos"]) -> str:
        return self.tokenizer.decode(
            tokens.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def _eos(self, eos_token_id: int | None) -> int | None:
        if eos_token_id is None and self.tokenizer is not None:
            eos_token_id = self.tokenizer.eos_token_id
        if eos_token_id is not None and not 0 <= eos_token_id < self.cfg.d_vocab_out:
            raise InputError(
                f"eos_token_id must lie in 0 … {self.cfg.d_vocab_out - 1}. Received {eos_token_id}."
            )
        return eos_token_id


def _steps(n: int, verbose: bool) -> Any:
    if not verbose:
        return range(n)
    from rich.progress import track

    return track(range(n), description="generating")
