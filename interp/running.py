"""Running a model: what `forward` is given, which stacks and layers run, and what comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.components.block import CrossContext
from interp.errors import InputError
from interp.inputs import RunInput, layer_range, prepare
from interp.kv_cache import KeyValueCache
from interp.plan import RunPlan, plan_run
from interp.stack import Stack, cross_context
from interp.text import PaddingSide, TextInput

if TYPE_CHECKING:
    from interp.config import HookedTransformerConfig

ReturnType = Literal["logits", "loss", "both"] | None
Tokens = Int[Tensor, "batch pos"]
Residual = Float[Tensor, "batch pos d_model"]


class Output(NamedTuple):
    """What `return_type="both"` gives."""

    logits: Float[Tensor, "batch pos d_vocab_out"]
    loss: Tensor


class EncoderOutput(NamedTuple):
    """What an encoder made of its input, for decoders to read.

    Attributes:
        residual: `[batch, pos, d_model]`, after the encoder's final norm.
        attention_mask: `[batch, pos]`, False for padding. None: no padding.
    """

    residual: Residual
    attention_mask: Tensor | None = None

    def select(self, rows: Tensor) -> EncoderOutput:
        """These rows of the batch, in this order."""
        mask = None if self.attention_mask is None else self.attention_mask[rows]
        return EncoderOutput(self.residual[rows], mask)


class Running:
    """The running methods of `HookedTransformer`."""

    cfg: HookedTransformerConfig
    main_stack: Any
    encoder: Any
    embed: Any
    unembed: Any
    mlm_head: Any
    pooler: Any
    watched_hooks: Any
    loss_fn: Any

    def forward(
        self,
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
    ) -> Any:
        """Run the model.

        Args:
            input: Text, a list of texts, tokens `[batch, pos]` or `[pos]`; or the residual stream
                `[batch, pos, d_model]` with `start_at_layer`. For an encoder–decoder: what the
                encoder reads.
            return_type: `logits` `[batch, pos, d_vocab_out]` (of a classifier: `[batch,
                d_vocab_out]`), `loss` (mean next-token cross-entropy in nats), `both`, or None:
                nothing, and no layer is run after the last one that a hook wants.
            loss_per_token: The loss of every prediction, `[batch, pos - 1]`.
            prepend_bos: Begin texts with the BOS token (for an encoder: put its tokenizer's special
                tokens around them). None: `cfg.default_prepend_bos`. Tokens are used as they are.
            padding_side: Where texts of a batch are padded. None: the tokenizer's side.
            start_at_layer: `input` is what this block reads.
            tokens: With `start_at_layer`: the tokens that the loss is taken on; their padding is
                masked.
            attention_mask: 1 for tokens, 0 for padding; with a key/value cache for this run's
                tokens only. Texts make their own.
            stop_at_layer: Return the residual stream that this block (of the decoder) would read.
                Negative counts from the end.
            past_kv_cache: Keys and values of earlier tokens; extended by this run. Of an
                encoder–decoder also those of the encoder's output, made again only for another one.
            decoder_input: What an encoder–decoder's decoder reads: tokens as they are, start token
                included, or text, which gets the start token.
            decoder_attention_mask: `attention_mask` for it.
            encoder_output: What `encode` gave, instead of `input`.
            token_type_ids: Which segment each token is of (models with segment embeddings). None:
                all are of the first.

        Returns:
            As `return_type` says, or the residual stream with `stop_at_layer`.

        Raises:
            InputError: for input that breaks one of these rules.
        """
        self._check_arguments(
            return_type,
            start_at_layer,
            stop_at_layer,
            tokens,
            token_type_ids,
            decoder_input,
            decoder_attention_mask,
            encoder_output,
        )
        n_layers = self.cfg.n_layers
        start, stop = layer_range(start_at_layer, stop_at_layer, n_layers)
        if past_kv_cache is not None and (start, stop) != (0, n_layers):
            raise InputError("past_kv_cache needs all layers to run: no start_at or stop_at_layer.")
        stack = self.main_stack
        crosses = self.cfg.architecture == "encoder-decoder"
        plan = self._plan(stack)
        nothing_asked = stop_at_layer is None and return_type is None and past_kv_cache is None
        if nothing_asked:
            stop = min(stop, plan.blocks_wanted)

        encoded = None
        if crosses:
            whole = stop > 0  # whether a layer of the decoder reads it
            encoded = self._encoded(
                input, encoder_output, prepend_bos, padding_side, attention_mask, whole
            )
            if nothing_asked and not plan.anything_wanted:
                return None
            input, attention_mask = decoder_input, decoder_attention_mask
        model: Any = self
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
        if given.residual is None:
            residual, tokens = stack.embed_tokens(given, self.embed, plan)
        else:
            residual = given.residual
        source = None
        if encoded is not None:
            source = self._source(encoded, residual, past_kv_cache)
        residual = stack.run_blocks(
            residual, range(start, stop), plan, given, past_kv_cache, source
        )
        if stop_at_layer is not None:
            return residual
        if return_type is None and not plan.final_norm_wanted:
            return None
        residual = stack.ln_final(residual, "ln_final" in plan.explicit_norms)
        if return_type is None and not plan.head_wanted:
            return None
        residual = self._head(residual, given, plan)
        if return_type is None and not plan.unembedding_wanted:
            return None
        logits = self.unembed(residual)
        cap = self.cfg.output_logits_soft_cap
        if cap > 0:
            logits = cap * torch.tanh(logits / cap)
        if return_type in ("logits", None):
            return logits if return_type else None
        assert tokens is not None
        loss = self.loss_fn(logits, tokens, given.attention_mask, per_token=loss_per_token)
        return loss if return_type == "loss" else Output(logits, loss)

    def encode(
        self,
        input: TextInput | Tokens,
        prepend_bos: bool | None = None,
        padding_side: PaddingSide | None = None,
        attention_mask: Int[Tensor, "batch pos"] | None = None,
    ) -> EncoderOutput:
        """Run an encoder–decoder's encoder alone; `forward(encoder_output=…)` goes on from there.

        Raises:
            InputError: for a model without one, and as `forward`.
        """
        if self.cfg.architecture != "encoder-decoder":
            raise InputError(f"encode needs an encoder-decoder. This is a {self.cfg.architecture}.")
        encoded = self._encode_wanted(input, prepend_bos, padding_side, attention_mask, whole=True)
        assert encoded is not None
        return encoded

    def _encode_wanted(
        self,
        input: TextInput | Tokens,
        prepend_bos: bool | None,
        padding_side: PaddingSide | None,
        attention_mask: Tensor | None,
        whole: bool,
    ) -> EncoderOutput | None:
        """The encoder's output; or, unless `whole`, only as far as hooks want it, and None."""
        stack = self.encoder
        plan = self._plan(stack)
        if not whole and not plan.anything_wanted:
            return None
        model: Any = self
        given = prepare(
            model, input, prepend_bos, padding_side, None, attention_mask, None, stack=stack
        )
        residual, _ = stack.embed_tokens(given, self.embed, plan)
        layers = range(len(stack.blocks) if whole else plan.blocks_wanted)
        residual = stack.run_blocks(residual, layers, plan, given)
        if not whole and not plan.final_norm_wanted:
            return None
        residual = stack.ln_final(residual, "ln_final" in plan.explicit_norms)
        return EncoderOutput(residual, given.real_keys)

    def _encoded(
        self,
        input: TextInput | Tokens | Residual | None,
        output: EncoderOutput | None,
        prepend_bos: bool | None,
        padding_side: PaddingSide | None,
        attention_mask: Tensor | None,
        whole: bool,
    ) -> EncoderOutput | None:
        if (input is None) == (output is None):
            raise InputError("an encoder-decoder needs either input or encoder_output.")
        if output is not None:
            if attention_mask is not None:
                raise InputError("attention_mask belongs to input; encoder_output has its own.")
            _check_encoder_output(output, self.cfg.d_model)
            return output
        assert input is not None
        return self._encode_wanted(input, prepend_bos, padding_side, attention_mask, whole)

    def _source(
        self, encoded: EncoderOutput, residual: Residual, past: KeyValueCache | None
    ) -> CrossContext:
        if encoded.residual.shape[0] != residual.shape[0]:
            raise InputError(
                f"decoder_input must have a row for each of the encoder's "
                f"({encoded.residual.shape[0]}). It has {residual.shape[0]}."
            )
        if past is not None:
            past.forget_other_source(encoded.residual)
        real = None if encoded.attention_mask is None else encoded.attention_mask.bool()
        return cross_context(encoded.residual, real, residual.shape[1], residual.device)

    def _plan(self, stack: Stack) -> RunPlan:
        prefix = ""
        if self.cfg.architecture == "encoder-decoder":
            prefix = "encoder." if stack is self.encoder else "decoder."
        watched = self.watched_hooks()
        return plan_run(*watched, len(stack.blocks), prefix, fused=self.cfg.can_fuse_attention)

    def _head(self, residual: Residual, given: RunInput, plan: RunPlan) -> Tensor:
        """What is unembedded."""
        if self.cfg.head == "mlm":
            return self.mlm_head(residual, "mlm_head.ln" in plan.explicit_norms)
        if self.cfg.classifies:
            return self.pooler(residual, given.real_keys)
        return residual

    def _check_arguments(
        self,
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
        if self.cfg.architecture == "encoder-decoder":
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
                raise InputError(f"{name} has no meaning in this {self.cfg.architecture}.")
        if tokens is not None and start_at_layer is None:
            raise InputError("tokens= belongs to start_at_layer: here input holds the tokens.")
        if return_type not in ("loss", "both") or stop_at_layer is not None:
            return
        if self.cfg.head != "lm" or self.cfg.architecture == "encoder":
            raise InputError(
                f"a next-token loss needs a decoder with head='lm'. This is a(n) "
                f"{self.cfg.architecture} with head={self.cfg.head!r}: take the loss from logits."
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
