"""Continuing a text, or answering a source: the generating methods of `HookedTransformer`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from interp.cache import ActivationCache
from interp.errors import InputError, require_one_of
from interp.generation import beam
from interp.generation.beam import BeamOutput
from interp.generation.options import Options
from interp.generation.reader import Prompt
from interp.generation.recording import Records, join, joins, recording
from interp.generation.run import Run, Step
from interp.generation.stopping import Stop
from interp.tokenization.text import PaddingSide

if TYPE_CHECKING:
    from interp.root import NamesFilter


class Generation:
    """The generating methods of `HookedTransformer`."""

    tokenizer: Any

    def generate(
        self,
        input: Prompt = "",
        max_new_tokens: int = 10,
        stop_at_eos: bool = True,
        eos_token_id: int | Sequence[int] | None = None,
        do_sample: bool | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        temperature: float = 1.0,
        freq_penalty: float = 0.0,
        use_past_kv_cache: bool = True,
        prepend_bos: bool | None = None,
        padding_side: PaddingSide | None = None,
        return_type: Literal["input", "str", "tokens"] = "input",
        verbose: bool = False,
        *,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
        num_beams: int = 1,
        length_penalty: float = 1.0,
        early_stopping: bool | Literal["never"] = False,
        num_return_sequences: int = 1,
        stop: Stop | None = None,
        attention_mask: Int[Tensor, "batch pos"] | None = None,
        decoder_input: Prompt | None = None,
        generator: torch.Generator | None = None,
        seed: int | None = None,
    ) -> Any:
        """Continue texts or tokens; an encoder–decoder answers a source.

        Hooks on the model act in every step. Without a key/value cache they see the whole text each
        time, with it what is new.

        Args:
            input: A text, several (padded on the left), or tokens `[batch, pos]` or `[pos]`. For an
                encoder–decoder: what the encoder reads, once.
            max_new_tokens: How many tokens to add at most.
            stop_at_eos: End a row at its EOS token, and all at the last row's. What follows the end
                of a row is filled with EOS (without one the pad token, or 0).
            eos_token_id: One or several. None: the tokenizer's.
            do_sample: Draw tokens; False takes the likeliest. None: draw, but not with beams.
            top_k: Draw from the k likeliest.
            top_p: Draw from the fewest likeliest that hold this share of the probability.
            temperature: Of the softmax; 0 is greedy.
            freq_penalty: Subtracted from a token's logit (after the temperature) for every time
                that it occurred, the prompt included; for draws only.
            use_past_kv_cache: Keep keys and values instead of recomputing them, as long as they do
                not change with every token (as in bidirectional models, or where dynamic scaling
                stretches a long text).
            prepend_bos: For texts. None: `cfg.default_prepend_bos`.
            padding_side: Where tokens were padded; an encoder's texts are. None: the tokenizer's
                side. Texts that are continued are always padded on the left.
            return_type: `str`, `tokens`, or what the input was.
            verbose: Show a progress bar (not of a beam search).
            min_p: Draw from those at least this share as probable as the likeliest.
            repetition_penalty: Divides the positive logits of tokens that occurred, and multiplies
                the negative ones. Padding does not occur.
            num_beams: Above 1: search for the likeliest whole continuation, keeping so many.
            length_penalty: Power of the length that a beam's summed log-probability is divided by.
            early_stopping: When a beam search ends: `BeamSettings`.
            num_return_sequences: Continuations of each row, next to one another.
            stop: More that ends a row: a token, a text that occurs in what was added, or a list of
                these and of sequences of tokens. It is kept.
            attention_mask: For tokens: 0 for padding (on the left, in what is continued).
            decoder_input: What an encoder–decoder's output begins with: tokens, start token
                included, or text, which gets one. A single row serves all. None: the start token.
            generator: Source of the draws. None: torch's global one.
            seed: Make a generator that begins with it.

        Returns:
            The input with its continuation: text(s), or tokens `[batch, pos + new]`. Of an
            encoder–decoder: what its decoder read and wrote.

        Raises:
            InputError: for an option out of its range, options that contradict each other, text
                without a tokenizer, or a model that does not predict next tokens.
        """
        options = Options(
            max_new_tokens=max_new_tokens,
            stop_at_eos=stop_at_eos,
            eos_token_id=eos_token_id,
            do_sample=do_sample,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            temperature=temperature,
            freq_penalty=freq_penalty,
            repetition_penalty=repetition_penalty,
            num_beams=num_beams,
            length_penalty=length_penalty,
            early_stopping=early_stopping,
            num_return_sequences=num_return_sequences,
            stop=stop,
            use_past_kv_cache=use_past_kv_cache,
            prepend_bos=prepend_bos,
            padding_side=padding_side,
            attention_mask=attention_mask,
            decoder_input=decoder_input,
            generator=generator,
            seed=seed,
        )
        require_one_of("return_type", return_type, ("input", "str", "tokens"))
        is_tokens = isinstance(input, Tensor)
        wants_text = return_type == "str" or (return_type == "input" and not is_tokens)
        if self.tokenizer is None and (wants_text or not is_tokens):
            raise InputError("text needs a tokenizer, and this model has none.")
        model: Any = self
        with torch.no_grad():
            run = Run(model, input, options)
            tokens, n_new = _finish(run, verbose)
        if not wants_text:
            return tokens
        texts = run.texts(tokens, n_new)
        several = len(texts) > 1 or not (is_tokens or isinstance(input, str))
        return texts if several else texts[0]

    def generate_stream(
        self,
        input: Prompt = "",
        max_new_tokens: int = 10,
        names_filter: NamesFilter = None,
        return_cache: bool = False,
        **options: Any,
    ) -> Iterator[Step]:
        """`generate`, one `Step` at a time; a token is generated when it is asked for.

        Args:
            input: As for `generate`.
            max_new_tokens: As for `generate`.
            names_filter: With `return_cache`: which hooks to record, as in `run_with_cache`.
            return_cache: Record activations in every step.
            **options: Others of `generate`. A beam search has nothing to give before its end.

        Raises:
            InputError: as `generate`, before the first step.
        """
        model: Any = self
        asked = Options(max_new_tokens, **options)
        if asked.uses_beams:
            raise InputError("a beam search has no tokens to give before its end: use generate.")
        if names_filter is not None and not return_cache:
            raise InputError("names_filter says what to record: it needs return_cache=True.")
        names = model.match_hooks(names_filter) if return_cache else None
        with torch.no_grad():
            run, of_encoder = _start(model, input, asked, names)
        return _stream(run, names, of_encoder)

    @torch.no_grad()
    def generate_with_cache(
        self,
        input: Prompt = "",
        max_new_tokens: int = 10,
        names_filter: NamesFilter = None,
        device: torch.device | str | None = None,
        **options: Any,
    ) -> tuple[Int[Tensor, "row pos"], ActivationCache]:
        """`generate`, with what one run over all the tokens in the end would record.

        What the hooks saw in each step, side by side: nothing is run twice, but the last token,
        which nothing follows, is read too. Where the steps are no parts of such a run (without a
        key/value cache, in a beam search, or where a longer text moves the positions of earlier
        tokens) the final tokens are read once more.

        Args:
            input: As for `generate`.
            max_new_tokens: As for `generate`.
            names_filter: Which hooks to record, as in `run_with_cache`.
            device: Where to keep the records. None: where they are.
            **options: Others of `generate`.

        Returns:
            Tokens `[row, pos]`, prompts included, and the `ActivationCache`.

        Raises:
            InputError: as `generate`, or for a name that fits no hook.
        """
        model: Any = self
        asked = Options(max_new_tokens, **options)
        names = model.match_hooks(names_filter)
        run, cache = _start(model, input, asked, names, device, reads_all=True)
        steps: list[Records] = []
        if asked.uses_beams or not joins(run.reader, run.n_prompt + max_new_tokens):
            tokens, _ = _finish(run)
            reader = run.prompt.whole(tokens)
        else:
            reader = run.reader
            while not run.is_over:
                with recording(model, names, device) as record:
                    run.advance()
                steps.append(record)
            tokens = reader.tokens
        with recording(model, names, device) as record:
            reader.next_logits()
        cache.update(join([*steps, record], reader))
        return tokens, ActivationCache(cache, model)

    def beam_search(
        self, input: Prompt = "", max_new_tokens: int = 10, num_beams: int = 4, **options: Any
    ) -> BeamOutput:
        """`generate` with beams, which gives the scores too.

        Args:
            input: As for `generate`.
            max_new_tokens: As for `generate`.
            num_beams: At least 2.
            **options: Others of `generate`.

        Raises:
            InputError: as `generate`.
        """
        model: Any = self
        asked = Options(max_new_tokens, num_beams=num_beams, **options)
        if not asked.uses_beams:
            raise InputError(f"a beam search needs at least two beams. Received {num_beams}.")
        with torch.no_grad():
            return _search(Run(model, input, asked))


def _start(
    model: Any,
    input: Prompt,
    options: Options,
    names: list[str] | None,
    device: torch.device | str | None = None,
    reads_all: bool = False,
) -> tuple[Run, Records]:
    """A run, and what an encoder's hooks saw when it read the source."""
    names = [name for name in names or () if name.startswith("encoder.")]
    with recording(model, names, device, in_run=False) as record:
        run = Run(model, input, options, reads_all)
    n_sources, n = len(run.prompt.tokens), options.num_return_sequences
    if n > 1:
        for name, tensor in record.items():
            if tensor.shape[0] == n_sources:
                record[name] = tensor.repeat_interleave(n, 0)
    return run, record


def _finish(run: Run, verbose: bool = False) -> tuple[Tensor, Tensor]:
    """All tokens, and how many each row got before or at its end."""
    if run.options.uses_beams:
        found = _search(run)
        return found.tokens, found.n_new
    for _ in _progress(run.options.max_new_tokens, verbose):
        if run.is_over:
            break
        run.advance()
    return run.reader.tokens, run.n_new


def _search(run: Run) -> BeamOutput:
    options = run.options
    return beam.search(
        run.reader, options.max_new_tokens, options.beams, run.stops, options.repetition_penalty
    )


def _stream(run: Run, names: list[str] | None, of_encoder: Records) -> Iterator[Step]:
    model, cache = run.reader.model, None
    pieces = None if model.tokenizer is None else run.pieces()
    while not run.is_over:
        before = run.finished.clone()
        with torch.no_grad(), recording(model, names or (), None) as record:
            tokens = run.advance()
        if names is not None:
            cache = ActivationCache({**of_encoder, **record}, model)
            of_encoder = {}
        texts = None
        if pieces is not None:
            last = (run.finished | run.is_over).tolist()
            rows = zip(pieces, tokens.tolist(), before.tolist(), last, strict=True)
            texts = ["" if over else piece.add(token, end) for piece, token, over, end in rows]
        yield Step(run.n_steps - 1, tokens, run.finished.clone(), texts, cache)


def _progress(n: int, verbose: bool) -> Any:
    if not verbose:
        return range(n)
    from rich.progress import track

    return track(range(n), description="generating")
