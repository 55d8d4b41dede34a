"""The Transformer: embed → blocks → norm → unembed, every step hookable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.cache import ActivationCache
from interp.components.embed import Embed, TiedUnembed, Unembed
from interp.components.heads import MaskedLMHead, Pooler
from interp.config import HookedTransformerConfig
from interp.errors import InputError
from interp.generation import Generation
from interp.initialisation import initialise
from interp.inputs import RunInput, layer_range, prepare
from interp.kv_cache import KeyValueCache
from interp.opening import Opening
from interp.plan import RunPlan, plan_run
from interp.pretrained.tokenizers import open_tokenizer
from interp.root import HookedRootModule, NamesFilter
from interp.slicing import SliceInput
from interp.stack import DecoderStack, EncoderStack, Stack, cross_context
from interp.text import PaddingSide, Text, TextInput
from interp.utils import lm_cross_entropy_loss
from interp.weight_views import WeightViews
from interp.weights import adapt_state_dict, process_weights

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


class HookedTransformer(Text, WeightViews, Generation, Opening, Stack, HookedRootModule):
    """A Transformer whose every intermediate tensor has a hook.

    `cfg.architecture` says of which shape. A decoder or an encoder is one stack of blocks, the
    model itself; an encoder–decoder has two, `encoder` and `decoder`, whose hooks and weights have
    that as prefix, and one embedding and unembedding.

    Which hooks are watched decides what is computed: attention is fused in layers whose scores and
    pattern nobody looks at, and per-head copies exist only where somebody may change them.

    Args:
        cfg: The architecture, or a dictionary of its fields.
        tokenizer: A Hugging Face tokenizer; needed for text only. None: `cfg.tokenizer_name`'s.
        move_to_device: Build on `cfg.device`; False: on the CPU.
        default_padding_side: Where texts of a batch are padded. None: the tokenizer's side.

    Attributes:
        cfg: The model's own copy of its configuration.
        hook_dict: Every hook point by name.
        encoder, decoder: The two stacks of an encoder–decoder.
        embed, unembed: Tokens to vectors, vectors to logits.
        mlm_head, pooler: What stands before the unembedding (with another `cfg.head` than `lm`).

    Raises:
        InputError: if the configuration breaks a rule.
    """

    def __init__(
        self,
        cfg: HookedTransformerConfig | Mapping[str, Any],
        tokenizer: Any = None,
        move_to_device: bool = True,
        default_padding_side: PaddingSide | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(cfg, HookedTransformerConfig):
            cfg = HookedTransformerConfig.from_dict(cfg)
        self.cfg = cfg = cfg.replace() if move_to_device else cfg.replace(device="cpu")
        self.tokenizer: Any = None
        if tokenizer is None and cfg.tokenizer_name is not None:
            tokenizer = open_tokenizer(cfg.tokenizer_name)
        if tokenizer is None and default_padding_side is not None:
            raise InputError("default_padding_side has no meaning without a tokenizer.")
        if tokenizer is not None:
            self.set_tokenizer(tokenizer, default_padding_side)
        if cfg.d_vocab < 1:
            raise InputError("d_vocab must be given where there is no tokenizer.")
        with torch.device(cfg.torch_device):
            self._build(cfg)
        if cfg.init_weights:
            initialise(self, cfg)
        self.setup()

    @classmethod
    def uninitialised(
        cls, cfg: HookedTransformerConfig, tokenizer: Any = None
    ) -> HookedTransformer:
        """A model whose weights are still to be filled in; its config says nothing of that.

        It is in eval mode, as transformers leaves a model that it has read: TransformerLens's tools
        refuse one in training mode. What interp computes is the same in both.
        """
        model = cls(cfg.replace(init_weights=False), tokenizer).eval()
        model.cfg.init_weights = cfg.init_weights
        return model

    def _build(self, cfg: HookedTransformerConfig) -> None:
        if cfg.architecture == "encoder-decoder":
            self.embed = Embed(cfg)
            self.encoder, self.decoder = EncoderStack(cfg), DecoderStack(cfg)
        else:
            causal = cfg.attention_dir == "causal"
            self.build_stack(cfg, cfg.n_layers, causal, embed=lambda: Embed(cfg))
        if cfg.head == "mlm":
            self.mlm_head = MaskedLMHead(cfg)
        elif cfg.classifies:
            self.pooler = Pooler(cfg)
        tied = cfg.tie_word_embeddings
        self.unembed = TiedUnembed(cfg, self.embed) if tied else Unembed(cfg)

    @property
    def main_stack(self) -> Any:
        """The stack that the logits come from: the model itself, or an encoder–decoder's decoder."""
        return self.decoder if self.cfg.architecture == "encoder-decoder" else self

    def default_hook_names(self) -> frozenset[str]:
        """What `names_filter=None` records: TransformerLens's set, widened by `cfg.use_*`."""
        cfg = self.cfg
        left_out = {
            "hook_tokens": cfg.use_hook_tokens,
            "hook_result": cfg.use_attn_result,
            "hook_attn_in": cfg.use_attn_in,
            "hook_cross_attn_in": cfg.use_attn_in,
            "hook_mlp_in": cfg.use_hook_mlp_in,
            **dict.fromkeys(
                ("hook_q_input", "hook_k_input", "hook_v_input"), cfg.use_split_qkv_input
            ),
        }
        return frozenset(n for n in self.hook_dict if left_out.get(n.rsplit(".", 1)[-1], True))

    def set_use_attn_result(self, use_attn_result: bool) -> None:
        """Whether `names_filter=None` records each head's output."""
        self.cfg.use_attn_result = use_attn_result

    def set_use_split_qkv_input(self, use_split_qkv_input: bool) -> None:
        """Whether `names_filter=None` records what each head's q, k and v read."""
        self.cfg.use_split_qkv_input = use_split_qkv_input

    def set_use_hook_mlp_in(self, use_hook_mlp_in: bool) -> None:
        """Whether `names_filter=None` records what the MLPs read before their norm."""
        self.cfg.use_hook_mlp_in = use_hook_mlp_in

    def set_use_attn_in(self, use_attn_in: bool) -> None:
        """Whether `names_filter=None` records what each head reads."""
        self.cfg.use_attn_in = use_attn_in

    def set_ungroup_grouped_query_attention(self, ungroup_grouped_query_attention: bool) -> None:
        """Whether keys and values are repeated to one per query head before their hooks."""
        self.cfg.ungroup_grouped_query_attention = ungroup_grouped_query_attention

    # --- running ---------------------------------------------------------------------------------

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
            tokens: With `start_at_layer`: the tokens that the loss is taken on.
            attention_mask: 1 for tokens, 0 for padding; with a key/value cache for this run's
                tokens only. Texts make their own.
            stop_at_layer: Return the residual stream that this block (of the decoder) would read.
                Negative counts from the end.
            past_kv_cache: Keys and values of earlier tokens; extended by this run. Of an
                encoder–decoder also those of the encoder's output, which are not made again.
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
        if return_type not in ("logits", "loss", "both", None):
            raise InputError(
                f"return_type must be 'logits', 'loss', 'both' or None. Received {return_type!r}."
            )
        if self.cfg.architecture == "encoder-decoder":
            self._refuse(start_at_layer=start_at_layer, token_type_ids=token_type_ids)
            if decoder_input is None:
                raise InputError("an encoder-decoder needs decoder_input: what its decoder reads.")
            encoded = self._encoded(
                input, encoder_output, prepend_bos, padding_side, attention_mask
            )
            stack: Stack = self.decoder
            given = prepare(
                self,
                decoder_input,
                prepend_bos,
                padding_side,
                None,
                decoder_attention_mask,
                past_kv_cache,
                stack=stack,
            )
        else:
            self._refuse(
                decoder_input=decoder_input,
                decoder_attention_mask=decoder_attention_mask,
                encoder_output=encoder_output,
            )
            encoded, stack = None, self
            if input is None:
                raise InputError("input must be text or a tensor. Received None.")
            given = prepare(
                self,
                input,
                prepend_bos,
                padding_side,
                start_at_layer,
                attention_mask,
                past_kv_cache,
                token_type_ids,
            )
        if start_at_layer is None:
            if tokens is not None:
                raise InputError("tokens= belongs to start_at_layer: here input holds the tokens.")
            tokens = given.tokens
        if return_type in ("loss", "both") and stop_at_layer is None:
            self._check_loss(tokens)
        start, stop = layer_range(start_at_layer, stop_at_layer, self.cfg.n_layers)
        if past_kv_cache is not None and (start, stop) != (0, self.cfg.n_layers):
            raise InputError("past_kv_cache needs all layers to run: no start_at or stop_at_layer.")

        plan = self._plan(stack)
        if stop_at_layer is None and return_type is None and past_kv_cache is None:
            stop = min(stop, plan.blocks_wanted)
            if stack is not self and not plan.anything_wanted:
                return None
        if given.residual is None:
            residual, tokens = stack.embed_tokens(given, self.embed, plan)
        else:
            residual = given.residual
        source = None
        if encoded is not None:
            real = None if encoded.attention_mask is None else encoded.attention_mask.bool()
            if encoded.residual.shape[0] != residual.shape[0]:
                raise InputError(
                    f"decoder_input must have a row for each of the encoder's "
                    f"({encoded.residual.shape[0]}). It has {residual.shape[0]}."
                )
            source = cross_context(encoded.residual, real, residual.shape[1], residual.device)
        residual = stack.run_blocks(
            residual, range(start, stop), plan, given, past_kv_cache, source
        )
        if stop_at_layer is not None:
            return residual
        if return_type is None and not plan.final_norm_wanted:
            return None
        residual = stack.ln_final(residual, "ln_final" in plan.explicit_norms)
        if return_type is None and not plan.unembedding_wanted:
            return None
        logits = self._logits(residual, given, plan)
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
        given = prepare(
            self,
            input,
            prepend_bos,
            padding_side,
            None,
            attention_mask,
            None,
            stack=self.encoder,
        )
        plan = self._plan(self.encoder)
        residual, _ = self.encoder.embed_tokens(given, self.embed, plan)
        layers = range(len(self.encoder.blocks))
        residual = self.encoder.run_blocks(residual, layers, plan, given)
        residual = self.encoder.ln_final(residual, "ln_final" in plan.explicit_norms)
        return EncoderOutput(residual, given.real_keys)

    def _encoded(
        self,
        input: TextInput | Tokens | Residual | None,
        output: EncoderOutput | None,
        prepend_bos: bool | None,
        padding_side: PaddingSide | None,
        attention_mask: Tensor | None,
    ) -> EncoderOutput:
        if (input is None) == (output is None):
            raise InputError("an encoder-decoder needs either input or encoder_output.")
        if output is not None:
            if attention_mask is not None:
                raise InputError("attention_mask belongs to input; encoder_output has its own.")
            return output
        assert input is not None
        return self.encode(input, prepend_bos, padding_side, attention_mask)

    def _plan(self, stack: Stack) -> RunPlan:
        prefix = ""
        if stack is not self:
            prefix = "encoder." if stack is self.encoder else "decoder."
        watched = self.watched_hooks()
        return plan_run(*watched, len(stack.blocks), prefix, fused=self.cfg.can_fuse_attention)

    def _refuse(self, **arguments: Any) -> None:
        for name, value in arguments.items():
            if value is not None:
                raise InputError(f"{name} has no meaning in this {self.cfg.architecture}.")

    def _check_loss(self, tokens: Tensor | None) -> None:
        if self.cfg.head != "lm" or self.cfg.architecture == "encoder":
            raise InputError(
                f"a next-token loss needs a decoder with head='lm'. This is a(n) "
                f"{self.cfg.architecture} with head={self.cfg.head!r}: take the loss from logits."
            )
        if tokens is None:
            raise InputError("a loss needs tokens: give tokens= with start_at_layer.")

    def _logits(self, residual: Residual, given: RunInput, plan: RunPlan) -> Tensor:
        if self.cfg.head == "mlm":
            residual = self.mlm_head(residual, "mlm_head.ln" in plan.explicit_norms)
        elif self.cfg.classifies:
            residual = self.pooler(residual, given.real_keys)
        logits = self.unembed(residual)
        cap = self.cfg.output_logits_soft_cap
        return logits if cap <= 0 else cap * torch.tanh(logits / cap)

    def loss_fn(
        self,
        logits: Float[Tensor, "batch pos d_vocab_out"],
        tokens: Tokens,
        attention_mask: Tensor | None = None,
        per_token: bool = False,
    ) -> Tensor:
        """Cross-entropy of each next token, in nats: the mean, or `[batch, pos - 1]`.

        Predictions from or of padding count nothing (0 per token).
        """
        if tokens.device != logits.device:
            tokens = tokens.to(logits.device)
        if self.cfg.d_vocab_out < self.cfg.d_vocab and int(tokens.max()) >= logits.shape[-1]:
            raise InputError(
                f"a loss needs a logit for every token: there are {logits.shape[-1]} logits. "
                f"Received token {int(tokens.max())}."
            )
        return lm_cross_entropy_loss(logits, tokens, attention_mask, per_token)

    def run_with_cache(
        self,
        *model_args: Any,
        names_filter: NamesFilter = None,
        return_cache_object: bool = True,
        remove_batch_dim: bool = False,
        device: torch.device | str | None = None,
        incl_bwd: bool = False,
        reset_hooks_end: bool = True,
        clear_contexts: bool = False,
        pos_slice: SliceInput = None,
        **kwargs: Any,
    ) -> tuple[Any, Any]:
        """Run once and keep what the hooks asked for saw.

        Hooks already on the model stay and act; what is recorded is what flows on after them.
        Recorded tensors are detached, and names for the same tensor share its memory.

        Args:
            *model_args: For `forward`.
            names_filter: A hook name, a glob, a list of these, or a predicate; None records what
                TransformerLens records with its flags off.
            return_cache_object: False gives the plain dictionary.
            remove_batch_dim: Record without the batch axis, which must have length 1.
            device: Where to keep the records. None: where they are.
            incl_bwd: Call `backward` on the output, a scalar, and record gradients as
                `<name>_grad` too.
            reset_hooks_end: False leaves the recorder in place, filling the same dictionary.
            clear_contexts: Empty every `hook.ctx` at the end.
            pos_slice: Keep only these (destination) positions; a single one keeps its axis.
            **kwargs: For `forward`.

        Returns:
            The output of `forward`, and the `ActivationCache`.

        Raises:
            InputError: for a name that fits no hook or is not reached in this run.
        """
        positional = model_args[1] if len(model_args) > 1 else "logits"
        if names_filter is None and kwargs.get("return_type", positional) is None:
            # Recording everything is no reason to make logits that nobody wants.
            default = self.default_hook_names()
            names_filter = lambda name: name in default and not name.startswith("unembed.")
        output, cache = self.record(
            *model_args,
            names_filter=names_filter,
            device=device,
            remove_batch_dim=remove_batch_dim,
            incl_bwd=incl_bwd,
            reset_hooks_end=reset_hooks_end,
            clear_contexts=clear_contexts,
            pos_slice=pos_slice,
            **kwargs,
        )
        if not return_cache_object:
            return output, cache
        return output, ActivationCache(cache, self, has_batch_dim=not remove_batch_dim)

    # --- state -----------------------------------------------------------------------------------

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load weights by TransformerLens's names; its buffers are accepted and left out.

        Raises:
            InputError: if `unembed.W_U` of a tied model is not its embedding transposed.
            RuntimeError: with `strict`, for missing, unexpected or misshapen weights.
        """
        adapted = adapt_state_dict(state_dict, self.cfg)
        keys = super().load_state_dict(adapted, strict=strict, assign=assign)
        self._note_dtype_and_device()
        return keys

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        moved = super()._apply(fn, recurse)
        self._note_dtype_and_device()
        return moved

    def _note_dtype_and_device(self) -> None:
        self.cfg.device, self.cfg.dtype = self.W_E.device, self.W_E.dtype

    def process_weights(
        self,
        fold_ln: bool | None = None,
        center_writing_weights: bool | None = None,
        center_unembed: bool | None = None,
        fold_value_biases: bool | None = None,
        refactor_factored_attn_matrices: bool = False,
    ) -> HookedTransformer:
        """A new model with simpler weights and the same predictions: `weights.process_weights`."""
        return process_weights(
            self,
            fold_ln,
            center_writing_weights,
            center_unembed,
            fold_value_biases,
            refactor_factored_attn_matrices,
        )
