"""What a run is given and asked for: the arguments of `forward`, checked and made tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from jaxtyping import Float, Int, Shaped
from torch import Tensor

from interp.errors import InputError
from interp.run.inputs import RunInput, layer_range, prepare
from interp.run.kv_cache import KeyValueCache
from interp.tokenization.text import PaddingSide, TextInput

if TYPE_CHECKING:
    from interp.config import HookedTransformerConfig
    from interp.transformer import HookedTransformer

ReturnType = Literal["logits", "loss", "both"] | None
Tokens = Int[Tensor, "batch pos"]
Residual = Float[Tensor, "batch pos d_model"]


class Output(NamedTuple):
    """What `return_type="both"` gives."""

    logits: Float[Tensor, "batch pos d_vocab_out"]
    loss: Float[Tensor, ""] | Float[Tensor, "batch pos-1"]


class EncoderOutput(NamedTuple):
    """What an encoder made of its input, for decoders to read.

    Attributes:
        residual: `[batch, pos, d_model]`, after the encoder's final norm.
        attention_mask: `[batch, pos]`, False for padding. None: no padding.
    """

    residual: Residual
    attention_mask: Shaped[Tensor, "batch pos"] | None = None

    def select(self, rows: Int[Tensor, "row"]) -> EncoderOutput:
        """These rows of the batch, in this order."""
        mask = None if self.attention_mask is None else self.attention_mask[rows]
        return EncoderOutput(self.residual[rows.to(self.residual.device)], mask)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a run reads.

    Attributes:
        given: What the main stack reads.
        source: Of an encoder–decoder: what the encoder reads, or what it gave.
        loss_tokens: `[batch, pos]`, what the loss of a run from a residual stream is taken on.
    """

    given: RunInput
    source: RunInput | EncoderOutput | None = None
    loss_tokens: Tokens | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a run is asked for.

    Attributes:
        layers: The blocks (of the decoder) that run.
        return_type, loss_per_token: As in `forward`.
        residual: The residual stream after these blocks is wanted, and nothing else.
    """

    layers: range
    return_type: ReturnType = "logits"
    loss_per_token: bool = False
    residual: bool = False


def read(
    model: HookedTransformer,
    input: TextInput | Tokens | Residual | None = None,
    return_type: ReturnType = "logits",
    loss_per_token: bool = False,
    prepend_bos: bool | None = None,
    padding_side: PaddingSide | None = None,
    start_at_layer: int | None = None,
    tokens: Tokens | None = None,
    attention_mask: Int[Tensor, "batch key_pos"] | None = None,
    stop_at_layer: int | None = None,
    past_kv_cache: KeyValueCache | None = None,
    decoder_input: TextInput | Tokens | None = None,
    decoder_attention_mask: Int[Tensor, "batch pos"] | None = None,
    encoder_output: EncoderOutput | None = None,
    token_type_ids: Int[Tensor, "batch pos"] | None = None,
) -> tuple[Reading, Wanted]:
    """What `forward` does before it computes: its arguments, checked and made tensors.

    Raises:
        InputError: as `forward`.
    """
    _check_arguments(
        model.cfg,
        return_type,
        start_at_layer,
        stop_at_layer,
        tokens,
        token_type_ids,
        decoder_input,
        decoder_attention_mask,
        encoder_output,
    )
    n_layers = model.cfg.n_layers
    layers = range(*layer_range(start_at_layer, stop_at_layer, n_layers))
    if past_kv_cache is not None and layers != range(n_layers):
        raise InputError("past_kv_cache needs all layers to run: no start_at or stop_at_layer.")
    stack = model.main_stack
    source: RunInput | EncoderOutput | None = None
    if model.cfg.architecture == "encoder-decoder":
        source = read_source(
            model, input, encoder_output, prepend_bos, padding_side, attention_mask
        )
        input, attention_mask = decoder_input, decoder_attention_mask
    if start_at_layer is not None and attention_mask is None and tokens is not None:
        attention_mask = model.mask_of_padding(tokens, padding_side, prepend_bos, stack.causal)
    given = prepare(
        model,
        input,
        prepend_bos,
        padding_side,
        start_at_layer,
        attention_mask,
        past_kv_cache,
        token_type_ids,
        stack,
    )
    wanted = Wanted(layers, return_type, loss_per_token, stop_at_layer is not None)
    return Reading(given, source, tokens), wanted


def read_source(
    model: HookedTransformer,
    input: TextInput | Tokens | Residual | None,
    output: EncoderOutput | None,
    prepend_bos: bool | None,
    padding_side: PaddingSide | None,
    attention_mask: Int[Tensor, "*batch pos"] | None,
) -> RunInput | EncoderOutput:
    """What the encoder reads, or what it gave.

    Raises:
        InputError: unless there is one of both, or for a mask beside what the encoder gave.
    """
    if (input is None) == (output is None):
        raise InputError("an encoder-decoder needs either input or encoder_output.")
    if output is not None:
        if attention_mask is not None:
            raise InputError("attention_mask belongs to input; encoder_output has its own.")
        _check_encoder_output(output, model.cfg.d_model)
        return output
    return prepare(
        model, input, prepend_bos, padding_side, None, attention_mask, None, stack=model.encoder
    )


def _check_arguments(
    cfg: HookedTransformerConfig,
    return_type: ReturnType,
    start_at_layer: int | None,
    stop_at_layer: int | None,
    tokens: Tokens | None,
    token_type_ids: Tensor | None,
    decoder_input: TextInput | Tokens | None,
    decoder_attention_mask: Tensor | None,
    encoder_output: EncoderOutput | None,
) -> None:
    """Refuse what has no meaning in this model, or together."""
    if return_type not in ("logits", "loss", "both", None):
        raise InputError(
            f"return_type must be 'logits', 'loss', 'both' or None. Received {return_type!r}."
        )
    if cfg.architecture == "encoder-decoder":
        foreign: dict[str, Any] = {
            "start_at_layer": start_at_layer,
            "token_type_ids": token_type_ids,
        }
        if decoder_input is None:
            raise InputError("an encoder-decoder needs decoder_input: what its decoder reads.")
    else:
        foreign = {
            "decoder_input": decoder_input,
            "decoder_attention_mask": decoder_attention_mask,
            "encoder_output": encoder_output,
        }
    for name, value in foreign.items():
        if value is not None:
            raise InputError(f"{name} has no meaning in this {cfg.architecture}.")
    if tokens is not None and start_at_layer is None:
        raise InputError("tokens= belongs to start_at_layer: here input holds the tokens.")
    if return_type not in ("loss", "both") or stop_at_layer is not None:
        return
    if cfg.head != "lm" or cfg.architecture == "encoder":
        raise InputError(
            f"a next-token loss needs a decoder with head='lm'. This is a(n) "
            f"{cfg.architecture} with head={cfg.head!r}: take the loss from logits."
        )
    if start_at_layer is not None and tokens is None:
        raise InputError("a loss needs tokens: give tokens= with start_at_layer.")


def _check_encoder_output(output: object, d_model: int) -> None:
    if not isinstance(output, EncoderOutput):
        raise InputError(
            f"encoder_output must be what encode gave. Received {type(output).__name__}."
        )
    residual, mask = output
    fits = residual.ndim == 3 and residual.shape[-1] == d_model
    if not fits or (mask is not None and mask.shape != residual.shape[:2]):
        found = None if mask is None else tuple(mask.shape)
        raise InputError(
            f"encoder_output must hold a residual stream [batch, pos, {d_model}] and a mask "
            f"[batch, pos]. Received {tuple(residual.shape)} and {found}."
        )
