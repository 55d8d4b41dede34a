"""What a stack of a model reads, and who can look where in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import InputError, require, require_one_of
from interp.run.arguments import EncoderOutput, read, read_source
from interp.run.inputs import RunInput
from interp.stack import Stack
from interp.tokenization.text import TextInput

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

Part = Literal["decoder", "encoder"]


@dataclass(frozen=True)
class TextRead:
    """A batch of texts as one stack reads it.

    Attributes:
        model: The model.
        stack: The part of it whose heads are looked at.
        prefix: What the names of that part's hooks begin with.
        part: Of an encoder–decoder, which part that is; None for others.
        tokens: `[batch, pos]`.
        real: `[batch, pos]`, False for padding.
        arguments: What `forward` (of the encoder alone: `encode`) takes to read it again.
    """

    model: HookedTransformer
    stack: Stack
    prefix: str
    part: Part | None
    tokens: Int[Tensor, "batch pos"]
    real: Bool[Tensor, "batch pos"]
    arguments: dict[str, Any]

    @property
    def n_layers(self) -> int:
        """Of the stack."""
        return len(self.stack.blocks)

    @cached_property
    def places(self) -> Int[Tensor, "batch pos"]:
        """Each token's place among the real tokens of its row; -1 for padding."""
        return torch.where(self.real, self.real.cumsum(1) - 1, -1)

    @cached_property
    def n_real(self) -> Int[Tensor, "batch 1"]:
        """Real tokens of each row."""
        return self.real.sum(1, keepdim=True)

    def window(self, layer: int) -> int | None:
        """How far a layer looks: at tokens less than this many places away. None: everywhere."""
        block: Any = self.stack.blocks[layer]
        return block.cfg.window_size if block.local else None

    def n_visible(self, window: int | None) -> Float[Tensor, "batch pos"]:
        """How many tokens each real one can look at, itself among them (fp64; padding: 1)."""
        before = self.places
        after = torch.zeros_like(before) if self.stack.causal else self.n_real - 1 - before
        if window is not None:
            before, after = before.clamp(max=window - 1), after.clamp(max=window - 1)
        return torch.where(self.real, before + after + 1, 1).double()

    def index_of(self, places: Int[Tensor, "batch *any"]) -> Int[Tensor, "batch *any"]:
        """The index of the token at each place of its row, which must exist."""
        order = (~self.real).int().argsort(dim=1, stable=True)  # real ones first, in order
        return order.gather(1, places.flatten(1)).view_as(places)

    def watch_patterns(
        self, look: Callable[[int, Float[Tensor, "batch head pos key_pos"]], None]
    ) -> None:
        """Run the model and show every layer's pattern, one at a time; none is kept."""
        names = {f"{self.prefix}blocks.{i}.attn.hook_pattern": i for i in range(self.n_layers)}

        def watch(pattern: Tensor, hook: Any) -> None:
            look(names[hook.name], pattern)

        with torch.no_grad(), self.model.hooks(fwd_hooks=[(name, watch) for name in names]):
            if self.part == "encoder":
                self.model.encode(**self.arguments)
            else:
                self.model(**self.arguments, return_type=None)


def check_part(model: HookedTransformer, part: str | None) -> None:
    """Raise `InputError` for a part that the model does not have; None is none in particular."""
    if part is None:
        return
    require_one_of("part", part, ("decoder", "encoder"))
    kind = model.cfg.architecture
    require(
        kind == "encoder-decoder",
        f"part has no meaning in a model with one stack. This is a(n) {kind}",
    )


def read_text(
    model: HookedTransformer,
    input: TextInput | Int[Tensor, "batch pos"] | None,
    part: Part | None = None,
    *,
    attention_mask: Int[Tensor, "batch pos"] | None = None,
    prepend_bos: bool | None = None,
    token_type_ids: Int[Tensor, "batch pos"] | None = None,
    decoder_input: TextInput | Int[Tensor, "batch pos"] | None = None,
    decoder_attention_mask: Int[Tensor, "batch pos"] | None = None,
    encoder_output: EncoderOutput | None = None,
) -> TextRead:
    """What a part of a model reads of these arguments, which are those of `forward`.

    Raises:
        InputError: for input that `forward` refuses, or a part that the model does not have.
    """
    check_part(model, part)
    has_both = model.cfg.architecture == "encoder-decoder"
    arguments: dict[str, Any] = {}
    stack: Any = model.main_stack
    prefix = "decoder." if has_both else ""
    if part == "encoder":
        foreign = (token_type_ids, decoder_input, decoder_attention_mask, encoder_output)
        require(
            input is not None and all(x is None for x in foreign),
            "the encoder's heads need input, and take only attention_mask and prepend_bos beside",
        )
        assert input is not None
        given = read_source(model, input, None, prepend_bos, None, attention_mask)
        stack, prefix = model.encoder, "encoder."
    else:
        whole, _ = read(
            model,
            input,
            prepend_bos=prepend_bos,
            attention_mask=attention_mask,
            decoder_input=decoder_input,
            decoder_attention_mask=decoder_attention_mask,
            encoder_output=encoder_output,
            token_type_ids=token_type_ids,
        )
        given = whole.given
        if isinstance(whole.source, RunInput):
            arguments = {
                "input": whole.source.tokens,
                "attention_mask": _mask(whole.source, input),
            }
        elif whole.source is not None:
            arguments = {"encoder_output": whole.source}
        if token_type_ids is not None:
            arguments["token_type_ids"] = given.token_types
    if not isinstance(given, RunInput) or given.tokens is None:
        raise InputError("head scores need tokens or text. Received none.")
    real = torch.ones_like(given.tokens, dtype=torch.bool)
    if given.attention_mask is not None:
        real = given.attention_mask.bool()
    of_decoder = has_both and part != "encoder"
    own = "decoder_" if of_decoder else ""
    arguments[f"{own}input"] = given.tokens
    arguments[f"{own}attention_mask"] = _mask(given, decoder_input if of_decoder else input)
    shown: Part | None = ("decoder" if of_decoder else "encoder") if has_both else None
    return TextRead(model, stack, prefix, shown, given.tokens, real, arguments)


def _mask(given: RunInput, source: Any) -> Tensor | None:
    """The mask with which the tokens are read again as they were.

    Of tokens without padding the run finds out again that there is none; in those of a text it
    might take a token for padding.
    """
    if given.attention_mask is None and not isinstance(source, Tensor):
        assert given.tokens is not None
        return torch.ones_like(given.tokens)
    return given.attention_mask
