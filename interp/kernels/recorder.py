"""Statistics of a model's attention patterns, worked out while the model runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from jaxtyping import Int
from torch import Tensor

from interp.components.attention import Attention
from interp.errors import InputError, require, require_one_of
from interp.kernels.pattern import Route, chosen_route, statistics_of_pattern
from interp.kernels.statistics import OF_TOKENS, PatternStatistics, chosen_statistics
from interp.kernels.visible import ScoreRule, Visible
from interp.positions.alibi import AlibiPositions
from interp.run.inputs import RunInput, prepare
from interp.run.running import EncoderOutput
from interp.stack import Stack
from interp.tokenization.text import PaddingSide, TextInput

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


@torch.no_grad()
def attention_statistics(
    model: HookedTransformer,
    input: TextInput | Int[Tensor, "batch pos"] | None = None,
    layers: int | Sequence[int] | None = None,
    statistics: Iterable[str] | None = None,
    *,
    part: Literal["decoder", "encoder"] | None = None,
    attention_mask: Int[Tensor, "batch pos"] | None = None,
    prepend_bos: bool | None = None,
    padding_side: PaddingSide | None = None,
    token_type_ids: Int[Tensor, "batch pos"] | None = None,
    decoder_input: TextInput | Int[Tensor, "batch pos"] | None = None,
    decoder_attention_mask: Int[Tensor, "batch pos"] | None = None,
    encoder_output: EncoderOutput | None = None,
    route: Route | None = None,
) -> PatternStatistics:
    """Run a model and tell of every head's attention pattern without writing one down.

    What stands in `hook_pattern` is worked out from each layer's queries and keys as the run passes
    them, one layer at a time: attention stays fused, memory grows with the length of the text, and
    layers after the last one asked for do not run. Edits of queries, keys and of anything before
    them count, as they do for `hook_pattern`. No gradient flows.

    Of an encoder–decoder it is the decoder's attention to its own text, or the encoder's; attention
    of a decoder to what the encoder read has no previous or same tokens, and is not offered.

    Args:
        model: Any `HookedTransformer`.
        input: What `forward` takes: text, or tokens `[batch, pos]` or `[pos]`.
        layers: Which layers; negative numbers count from the end. None: all.
        statistics: Which fields to compute. None: all.
        part: Of an encoder–decoder: whose self-attention. None: the decoder's.
        attention_mask, prepend_bos, padding_side, token_type_ids, decoder_input,
            decoder_attention_mask, encoder_output: As in `forward`; the encoder takes the first
            three.
        route: As in `pattern_statistics`.

    Returns:
        Fields of shape `[layer, batch, head, pos]`, layers in the order asked for.

    Raises:
        InputError: for input that `forward` refuses, a layer that does not exist, an unknown
            statistic, a part that the model does not have, or edits of `hook_attn_scores` or
            `hook_pattern` (and of the norms of queries and keys where nothing turns those after):
            they are not seen in queries and keys.
    """
    of_both = model.cfg.architecture == "encoder-decoder"
    if part is not None:
        require_one_of("part", part, ("decoder", "encoder"))
        require(
            of_both,
            f"part has no meaning in a model with one stack. This is a(n) {model.cfg.architecture}",
        )
    names = chosen_statistics(statistics, has_tokens=True)
    if part == "encoder":
        foreign = (token_type_ids, decoder_input, decoder_attention_mask, encoder_output)
        require(
            input is not None and all(x is None for x in foreign),
            "the encoder's statistics need input, and take only attention_mask, prepend_bos and "
            "padding_side beside it",
        )
        read, read_mask = input, attention_mask
        stack, prefix = model.encoder, "encoder."
    elif of_both:
        require(decoder_input is not None, "an encoder-decoder needs decoder_input. Received None")
        read, read_mask = decoder_input, decoder_attention_mask
        stack, prefix = model.main_stack, "decoder."
    else:
        require(input is not None, "input must be text or tokens. Received None")
        read, read_mask = input, attention_mask
        stack, prefix = model, ""
    chosen = _chosen_layers(layers, len(stack.blocks))
    given = prepare(
        model, read, prepend_bos, padding_side, None, read_mask, None, token_type_ids, stack
    )
    recorder = _StatisticsRecorder(stack, prefix, given, set(chosen), names, route)
    recorder.refuse_unseen_edits()
    runs = model._watchers.run_depth
    recorder.run_depth = runs if part == "encoder" else runs + 1  # encode is no call of the model
    with model._recording(recorder.hook_names(), cast(Any, recorder)):
        if part == "encoder":
            assert input is not None
            model.encode(input, prepend_bos, padding_side, attention_mask)
        else:
            model(
                input,
                return_type=None,
                prepend_bos=prepend_bos,
                padding_side=padding_side,
                attention_mask=attention_mask,
                decoder_input=decoder_input,
                decoder_attention_mask=decoder_attention_mask,
                encoder_output=encoder_output,
                token_type_ids=token_type_ids,
            )
    return PatternStatistics.stack([recorder.found[layer] for layer in chosen])


def _chosen_layers(layers: int | Sequence[int] | None, n_layers: int) -> list[int]:
    if layers is None:
        return list(range(n_layers))
    chosen = [layers] if isinstance(layers, int) else list(layers)
    require(bool(chosen), "layers must name at least one. Received none")
    for layer in chosen:
        fits = isinstance(layer, int) and not isinstance(layer, bool)
        require(
            fits and -n_layers <= layer < n_layers,
            f"layers must lie in -{n_layers} … {n_layers - 1}. Received {layer!r}",
        )
    return [layer % n_layers for layer in chosen]


class _StatisticsRecorder:
    """Keeps a layer's queries until its keys come by, and of both only the statistics."""

    records_gradients = False

    def __init__(
        self,
        stack: Stack,
        prefix: str,
        given: RunInput,
        layers: set[int],
        names: tuple[str, ...],
        route: Route | None,
    ) -> None:
        self.stack, self.prefix, self.given = stack, prefix, given
        self.layers, self.names, self.route = layers, names, route
        self.run_depth = 1
        self.found: dict[int, PatternStatistics] = {}
        self.tokens: Tensor | None = None
        self.bias: Tensor | None = None
        self._waiting: dict[tuple[int, str], Tensor] = {}
        self._visible: dict[bool, Visible] = {}
        self._of_hook: dict[str, tuple[int, str]] = {}
        for layer in layers:
            turned = "rot_" if hasattr(self._attention(layer), "hook_rot_q") else ""
            for which in "qk":
                hook = f"{prefix}blocks.{layer}.attn.hook_{turned}{which}"
                self._of_hook[hook] = (layer, which)

    def _attention(self, layer: int) -> Attention:
        block: Any = self.stack.blocks[layer]
        return block.attn

    @property
    def _penalises_distance(self) -> bool:
        """Whether the scores' bias is ALiBi's as it is, which needs no matrix."""
        alibi = isinstance(self.stack.pos_embed, AlibiPositions)
        return alibi and not self.stack.hook_pos_bias.intervenes

    def hook_names(self) -> list[str]:
        """Where it has to be."""
        names = list(self._of_hook)
        if not set(self.names).isdisjoint(OF_TOKENS):
            names.append(f"{self.prefix}hook_tokens")
        if self.stack.pos_embed.biases_scores and not self._penalises_distance:
            names.append(f"{self.prefix}hook_pos_bias")
        return names

    def refuse_unseen_edits(self) -> None:
        """Raise `InputError` for edits that come after queries and keys were recorded."""
        for layer in self.layers:
            attn: Any = self._attention(layer)
            after = [attn.hook_attn_scores, attn.hook_pattern]
            if attn.q_norm is not None and not hasattr(attn, "hook_rot_q"):
                norms = (attn.q_norm, attn.k_norm)
                after += [h for norm in norms for h in (norm.hook_scale, norm.hook_normalized)]
            for hook in after:
                if hook.fwd_hooks:  # no gradient flows, so that others change nothing
                    raise InputError(
                        "statistics are made of queries and keys, so nothing after them may be "
                        f"edited. {hook.name} is: record hook_pattern instead."
                    )

    def record(self, name: str, tensor: Tensor) -> None:
        """Keep what later layers share, and work out a layer once both of its tensors are here."""
        tensor = tensor.detach()
        if name == f"{self.prefix}hook_tokens":
            self.tokens = tensor
        elif name == f"{self.prefix}hook_pos_bias":
            self.bias = tensor
        else:
            layer, which = self._of_hook[name]
            self._waiting[layer, which] = tensor
            if (layer, "q") in self._waiting and (layer, "k") in self._waiting:
                q, k = self._waiting.pop((layer, "q")), self._waiting.pop((layer, "k"))
                self.found[layer] = self._statistics(layer, q, k)

    def record_gradient(self, name: str, gradient: Tensor) -> None:
        """Never called: it records no gradients."""
        raise InputError(f"statistics have no gradients. Received that of {name}.")

    def _statistics(self, layer: int, q: Tensor, k: Tensor) -> PatternStatistics:
        attn = self._attention(layer)
        if attn.q_norm is not None and attn.k_norm is not None and not hasattr(attn, "hook_rot_q"):
            # The norm's result passes no hook of its own.
            q, k = attn._normalise(q, attn.q_norm, False), attn._normalise(k, attn.k_norm, False)
        slopes = None
        if self._penalises_distance:
            slopes = cast(AlibiPositions, self.stack.pos_embed).slopes(q.device, q.dtype)
        rule = ScoreRule(
            scale=1.0 / attn.attn_scale,
            soft_cap=max(attn.cfg.attn_scores_soft_cap, 0.0),
            slopes=slopes,
            bias=self.bias,
            sinks=attn.sinks,
        )
        visible = self._visible_to(layer, q)
        route = chosen_route(self.route, q)
        return statistics_of_pattern(q, k, rule, visible, self.tokens, self.names, route)

    def _visible_to(self, layer: int, q: Tensor) -> Visible:
        """What the layer's destinations see: made once for all layers with a window, or without."""
        block: Any = self.stack.blocks[layer]
        if block.local not in self._visible:
            window = block.cfg.window_size if block.local else None
            self._visible[block.local] = Visible(
                q.shape[1],
                self.given.n_keys,
                self.stack.causal,
                window,
                self.given.real_keys,
                q.device,
            )
        return self._visible[block.local]
