"""The Transformer: embed → blocks → norm → unembed, every step hookable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.cache import ActivationCache
from interp.components.embed import Embed, TiedUnembed, Unembed
from interp.components.output_heads import MaskedLMHead, Pooler
from interp.config import HookedTransformerConfig
from interp.devices.device_map import DeviceMap
from interp.devices.placement import Placed, Placement, materialise, plan_placement
from interp.errors import InputError
from interp.generation import Generation
from interp.initialisation import initialise
from interp.numerics.finite import check_finite
from interp.opening import Opening
from interp.pretrained.tokenizers import open_tokenizer
from interp.root import FwdHooks, HookedRootModule, NamesFilter
from interp.run.loss_inputs import check_loss_inputs
from interp.run.record_size import RecordBudget
from interp.run.recording import CacheRecorder
from interp.run.running import Running
from interp.run.slicing import SliceInput
from interp.stack import DecoderStack, EncoderStack, Stack
from interp.tokenization.text import PaddingSide, Text
from interp.utils import lm_cross_entropy_loss
from interp.weight_views import WeightViews
from interp.weights import adapt_state_dict, process_weights

if TYPE_CHECKING:
    from interp.compiled.model import CompiledModel, Mode

Tokens = Int[Tensor, "batch pos"]


class HookedTransformer(
    Text, WeightViews, Generation, Opening, Placed, Running, Stack, HookedRootModule
):
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
        device_map: Build over several devices: see `interp.devices.device_map.DeviceMap`.

    Attributes:
        cfg: The model's own copy of its configuration.
        hook_dict: Every hook point by name.
        placement: Which part lies on which device. None: all on one.
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
        device_map: DeviceMap | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(cfg, HookedTransformerConfig):
            cfg = HookedTransformerConfig.from_dict(cfg)
        if device_map is not None and not move_to_device:
            raise InputError("device_map says where to build: move_to_device=False excludes it.")
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
        self.placement: Placement | None = None
        with torch.device("meta" if device_map is not None else cfg.torch_device):
            self._build(cfg)
        if device_map is not None:
            placement = plan_placement(self, device_map)
            materialise(self, placement)
            self._note_dtype_and_devices(placement)
        if cfg.init_weights:
            initialise(self, cfg)
        self.setup()

    @classmethod
    def uninitialised(
        cls,
        cfg: HookedTransformerConfig,
        tokenizer: Any = None,
        device_map: DeviceMap | None = None,
    ) -> HookedTransformer:
        """A model whose weights are still to be filled in; its config says nothing of that.

        It is in eval mode, as transformers leaves a model that it has read: TransformerLens's tools
        refuse one in training mode. What interp computes is the same in both.
        """
        cfg_without_weights = cfg.replace(init_weights=False)
        model = cls(cfg_without_weights, tokenizer, device_map=device_map).eval()
        model.cfg.init_weights = cfg.init_weights
        return model

    def _build(self, cfg: HookedTransformerConfig) -> None:
        if cfg.architecture == "encoder-decoder":
            self.embed = Embed(cfg)
            self.encoder, self.decoder = EncoderStack(cfg), DecoderStack(cfg)
        else:
            causal = cfg.attention_dir == "causal"
            self._build_stack(cfg, cfg.n_layers, causal, embed=lambda: Embed(cfg))
        if cfg.head == "mlm":
            self.mlm_head = MaskedLMHead(cfg)
        elif cfg.classifies:
            self.pooler = Pooler(cfg)
        tied = cfg.tie_word_embeddings
        self.unembed = TiedUnembed(cfg, self.embed) if tied else Unembed(cfg)

    @property
    def main_stack(self) -> Any:
        """The stack that logits come from: the model itself, or an encoder–decoder's decoder."""
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

    def loss_fn(
        self,
        logits: Float[Tensor, "batch pos d_vocab_out"],
        tokens: Tokens,
        attention_mask: Int[Tensor, "batch pos"] | None = None,
        per_token: bool = False,
    ) -> Float[Tensor, ""] | Float[Tensor, "batch pos-1"]:
        """Cross-entropy of each next token, in nats: the mean, or `[batch, pos - 1]`.

        Predictions from or of padding count nothing (0 per token).

        Raises:
            InputError: if shapes or kinds do not fit, or for a token that has no logit.
        """
        check_loss_inputs(logits, tokens, attention_mask)
        tokens = tokens.to(logits.device, torch.int64)
        self._check_loss_tokens(tokens)
        try:
            return lm_cross_entropy_loss(logits, tokens, attention_mask, per_token)
        except IndexError:
            self._refuse_without_logit(tokens)
            raise

    def _check_loss_tokens(self, tokens: Tokens) -> None:
        """Raise `InputError` for a token without a logit, in a model that reads such tokens.

        In others nobody looks: on a GPU the look waits, and what is traced has no values yet.
        """
        if self.cfg.d_vocab_out < self.cfg.d_vocab:
            self._refuse_without_logit(tokens)

    def _refuse_without_logit(self, tokens: Tokens) -> None:
        n_logits = self.cfg.d_vocab_out
        if tokens.numel():
            low, high = (int(x) for x in tokens.aminmax())
            if low < 0 or high >= n_logits:
                raise InputError(
                    f"a loss needs a logit for every token: there are {n_logits} logits. "
                    f"Received token {low if low < 0 else high}."
                )

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
        dtype: torch.dtype | None = None,
        max_bytes: int | None = None,
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
            device: Where to keep the records. None: where they are. From a GPU to the CPU they are
                copied beside the computation, into page-locked memory.
            incl_bwd: Call `backward` on the output, a scalar, and record gradients as
                `<name>_grad` too.
            reset_hooks_end: False leaves the recorder in place, filling the same dictionary.
            clear_contexts: Empty every `hook.ctx` at the end.
            pos_slice: Keep only these (destination) positions; a single one keeps its axis.
            dtype: What to keep floating-point records in. None: as they are.
            max_bytes: How many bytes the records may take, each tensor counted once. None: what the
                device that keeps them has left (where the system tells it). Gradients count only
                once they are there, and against a limit that is given or with forward hooks
                attached.
            **kwargs: For `forward`.

        Returns:
            The output of `forward`, and the `ActivationCache`.

        Raises:
            InputError: for a name that fits no hook or is not reached in this run; for a device or
                dtype that records cannot be kept in; for records that would be larger than
                `max_bytes`, before a block runs (with forward hooks attached, which may change the
                batch: once they are larger).
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
            dtype=dtype,
            max_bytes=max_bytes,
            **kwargs,
        )
        if not return_cache_object:
            return output, cache
        return output, ActivationCache(cache, self, has_batch_dim=not remove_batch_dim)

    def check_finite(
        self, names_filter: NamesFilter = (), backward: bool = False
    ) -> AbstractContextManager[None]:
        """Stop runs in this block at the first NaN or infinity: `interp.numerics.check_finite`."""
        return check_finite(self, names_filter, backward)

    def _record_budget(
        self, names: Sequence[str], recorder: CacheRecorder, to_the_end: bool
    ) -> RecordBudget:
        """What checks the size of a recording before its blocks run."""
        return RecordBudget(self, names, recorder, to_the_end)

    def _agreed(self, n_bytes: int) -> int:
        """How much memory work on this model may take, where this process has so much for it.

        Processes that share a model answer alike, so that they cut their work into the same parts.
        """
        return n_bytes

    def compile(  # type: ignore[override]
        self,
        names_filter: NamesFilter = (),
        fwd_hooks: FwdHooks = (),
        patch: str | None = None,
        mode: Mode = "default",
        backend: str | Callable[..., Any] = "inductor",
        max_graphs: int = 8,
        reuse_outputs: bool = False,
    ) -> CompiledModel:
        """Runs of this model as compiled programs, with what they record, edit and patch fixed.

        Unlike `torch.nn.Module.compile`, which it overrides, this leaves the model eager and
        returns an object: call that like the model. Its `run_with_cache` records the names given
        here. A program is compiled, in seconds, for each
        form of input: its shapes, whether it is padded, what is returned, whether it is recorded
        and patched, and again if the weights are replaced (what is written into them just shows).
        Nothing that is not recorded is computed on its account.

        Runs have no gradients. Every expert of a mixture computes for every token.

        Args:
            names_filter: What `run_with_cache` records, as there. By default nothing.
            fwd_hooks: `(name, fn)` pairs, acting in every run before it is recorded. They are run
                once, while compiling, on tensors without values, and must be made of tensor
                operations whose shapes depend on no values. A tensor that one reads is the same
                tensor object in each run, with what it then holds: write into it, do not replace
                it. A tensor or weight that is replaced is noticed, and compiled for anew, where it
                can be followed from the hook (closures, globals, attributes, modules, containers).
                A number stays what it was, also one that was taken from a tensor.
            patch: A hook of the blocks, such as `resid_pre` or `z`, that a call may patch: see
                `interp.Patch`.
            mode, backend: As in `torch.compile`. `reduce-overhead` and `max-autotune` use CUDA
                graphs.
            max_graphs: How many programs there may be; one more is an error. Those of weights that
                were replaced go, and do not count.
            reuse_outputs: Of CUDA graphs: give their outputs and records as they are, to be written
                over by the next run, instead of copies.

        Raises:
            InputError: for a name that fits no hook, a hook that is no function, another mode, and
                for a model that has hooks attached: compiled runs would pass them by.
        """
        from interp.compiled import CompiledModel

        return CompiledModel(
            self, names_filter, fwd_hooks, patch, mode, backend, max_graphs, reuse_outputs
        )

    def _repr_html_(self) -> str:
        from interp.display.model import model_html

        return model_html(self, self.cfg)

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
        self._note_dtype_and_devices(self.placement)
        return keys

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        moved = super()._apply(fn, recurse)
        self._note_dtype_and_devices(self.placement)
        return moved

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
