"""Running a model: which stacks and layers run, and what comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor

from interp.components.block import CrossContext
from interp.devices.placement import Placement
from interp.errors import InputError
from interp.numerics.out_of_memory import explain, is_out_of_memory
from interp.run.arguments import (
    EncoderOutput,
    Output,
    Reading,
    Residual,
    ReturnType,
    Tokens,
    Wanted,
    read,
    read_source,
)
from interp.run.inputs import RunInput, check_dtype
from interp.run.kv_cache import KeyValueCache
from interp.run.plan import RunPlan, plan_run
from interp.run.steps import cross_context, embed_tokens, normalise_final, run_blocks
from interp.stack import Stack
from interp.tokenization.text import PaddingSide, TextInput
from interp.utils import lm_cross_entropy_loss

if TYPE_CHECKING:
    from interp.config import HookedTransformerConfig


class Running:
    """The running methods of `HookedTransformer`."""

    cfg: HookedTransformerConfig
    main_stack: Any
    encoder: Any
    embed: Any
    unembed: Any
    mlm_head: Any
    pooler: Any
    placement: Placement | None
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
            OutOfMemoryError: where torch's would be raised; it says what took the memory, and
                about how many rows would fit.
        """
        model: Any = self
        reading, wanted = read(
            model,
            input,
            return_type,
            loss_per_token,
            prepend_bos,
            padding_side,
            start_at_layer,
            tokens,
            attention_mask,
            stop_at_layer,
            past_kv_cache,
            decoder_input,
            decoder_attention_mask,
            encoder_output,
            token_type_ids,
        )
        try:
            return self._compute(reading, wanted, past_kv_cache)
        except RuntimeError as fault:
            if is_out_of_memory(fault):
                raise explain(model, reading.given, fault) from fault
            check_dtype(reading.given.residual, model.cfg.dtype)
            raise

    def _compute(
        self,
        reading: Reading,
        wanted: Wanted,
        past_kv_cache: KeyValueCache | None = None,
        static: bool = False,
    ) -> Any:
        """The rest of `forward`.

        Args:
            reading: What `read` made of the arguments.
            wanted: The same.
            past_kv_cache: As in `forward`.
            static: Look at the values of no tensor and make none whose shape depends on values, so
                that the run can be traced: every expert of a mixture computes for every token, and
                that there is a logit for every token of a loss is left to the caller to see to.
        """
        stack, given = self.main_stack, reading.given
        plan = self._plan(stack, static)
        layers, return_type = wanted.layers, wanted.return_type
        nothing_asked = return_type is None and not wanted.residual and past_kv_cache is None
        if nothing_asked:
            layers = range(layers.start, min(layers.stop, plan.blocks_wanted))
        encoded: Any = reading.source
        if isinstance(encoded, RunInput):
            # The whole of it where a layer of the decoder reads it.
            encoded = self._run_encoder(encoded, whole=layers.stop > 0, static=static)
        if reading.source is not None and nothing_asked and not plan.anything_wanted:
            return None
        residual, tokens = given.residual, reading.loss_tokens
        if residual is None:
            residual, tokens = embed_tokens(stack, given, self.embed, plan)
        source = None
        if encoded is not None:
            source = self._cross(encoded, residual, past_kv_cache)
        residual = run_blocks(stack, residual, layers, plan, given, past_kv_cache, source)
        if wanted.residual:
            return residual
        if return_type is None and not plan.final_norm_wanted:
            return None
        residual = normalise_final(stack, residual, plan)
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
        assert tokens is not None  # else `read` has refused a loss
        loss_fn = lm_cross_entropy_loss if static else self.loss_fn
        loss = loss_fn(logits, tokens, given.attention_mask, per_token=wanted.loss_per_token)
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
        model: Any = self
        given = read_source(model, input, None, prepend_bos, padding_side, attention_mask)
        assert isinstance(given, RunInput)
        encoded = self._run_encoder(given, whole=True)
        assert encoded is not None
        return encoded

    def _run_encoder(
        self, given: RunInput, whole: bool, static: bool = False
    ) -> EncoderOutput | None:
        """The encoder's output; or, unless `whole`, only as far as hooks want it, and None."""
        stack = self.encoder
        plan = self._plan(stack, static)
        if not whole and not plan.anything_wanted:
            return None
        residual, _ = embed_tokens(stack, given, self.embed, plan)
        layers = range(len(stack.blocks) if whole else plan.blocks_wanted)
        residual = run_blocks(stack, residual, layers, plan, given)
        if not whole and not plan.final_norm_wanted:
            return None
        residual = normalise_final(stack, residual, plan)
        return EncoderOutput(residual, given.real_keys)

    def _cross(
        self, encoded: EncoderOutput, residual: Residual, past: KeyValueCache | None
    ) -> CrossContext:
        """What the decoder's layers read of the encoder."""
        if encoded.residual.shape[0] != residual.shape[0]:
            raise InputError(
                f"decoder_input must have a row for each of the encoder's "
                f"({encoded.residual.shape[0]}). It has {residual.shape[0]}."
            )
        if past is not None:
            past.forget_other_source(encoded.residual)
        real = None if encoded.attention_mask is None else encoded.attention_mask.bool()
        return cross_context(encoded.residual, real, residual.shape[1], residual.device)

    def _plan(self, stack: Stack, static: bool = False) -> RunPlan:
        prefix = ""
        if self.cfg.architecture == "encoder-decoder":
            prefix = "encoder." if stack is self.encoder else "decoder."
        fused = self.cfg.can_fuse_attention
        model: Any = self
        return plan_run(*model.watched_hooks(), len(stack.blocks), prefix, fused, static)

    def _head(self, residual: Residual, given: RunInput, plan: RunPlan) -> Tensor:
        """What is unembedded."""
        real = given.real_keys
        if self.placement is not None:
            residual = residual.to(self.placement.of("unembed"))
            real = None if real is None else real.to(residual.device)
        if self.cfg.head == "mlm":
            return self.mlm_head(residual, "mlm_head.ln" in plan.explicit_norms)
        if self.cfg.classifies:
            return self.pooler(residual, real)
        return residual
