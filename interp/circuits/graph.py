"""A model as a graph: who writes into the residual stream, and who reads from it.

An edge is a sender's write as one reader sees it, so that a model has many more edges than nodes
(Elhage et al. 2021, A Mathematical Framework for Transformer Circuits; Conmy et al. 2023). Labels:

- senders: `embed`, `pos_embed` and `token_type_embed` (where they are added to the stream), `L0H3`
  (layer 0, head 3), `L0MLP`;
- receivers: `L1H0.q`, `L1H0.k`, `L1H0.v`, `L1MLP`, and the end, `logits`. Where query heads share
  keys and values, these have one reader for each key/value head: `L1KV0.k`, `L1KV0.v` (with
  `ungroup_grouped_query_attention` each query head has its own, as its hooks have);
- edges: `L0H1->L1H0.k`.

Biases are written whatever is read, and belong to no node.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool
from torch import Tensor

from interp.errors import InputError, require

if TYPE_CHECKING:
    from interp.config import HookedTransformerConfig
    from interp.transformer import HookedTransformer

ARROW = "->"
LOGITS = "logits"


@dataclass(frozen=True, slots=True)
class Sender:
    """What writes into the residual stream.

    Attributes:
        label: Such as `L0H3`.
        hook: Where it is recorded: `hook_embed`, `blocks.0.attn.hook_z` (`hook_result` has the same
            times W_O), `blocks.0.hook_mlp_out`.
        layer: None: before the first.
        head: None: all of the tensor.
        step: It writes before everything that reads at this step or later; two steps a layer.
    """

    label: str
    hook: str
    layer: int | None
    head: int | None
    step: int


@dataclass(frozen=True, slots=True)
class Receiver:
    """What reads from the residual stream.

    Attributes:
        label: Such as `L1H0.k`.
        hook: Where it reads: `blocks.1.hook_k_input`, `blocks.1.hook_mlp_in`, or the last block's
            `hook_resid_post` for the logits.
        layer: None: after the last.
        head: Its place on the hook's head axis (a key/value head where those are shared). None:
            there is no such axis.
        step: It reads what was written by then.
        feeds: Labels of the senders whose output depends on it.
    """

    label: str
    hook: str
    layer: int | None
    head: int | None
    step: int
    feeds: tuple[str, ...]


def misfit(model: HookedTransformer) -> str | None:
    """Why a model has no graph of edges, in a few words; None if it has one."""
    cfg = model.cfg
    if cfg.architecture == "encoder-decoder":
        return "it reads two sequences (an encoder-decoder)"
    if cfg.n_layers == 0:
        return "it has no layers"
    if cfg.norm_placement != "pre":
        return (
            f"norms stand behind what writes (norm_placement={cfg.norm_placement!r}), so that what "
            "is read is no sum of what was written"
        )
    if cfg.post_embedding_ln:
        return "its embeddings are normalised together (post_embedding_ln)"
    return None


@dataclass(frozen=True)
class Graph:
    """Senders, receivers and edges of a model, each in the model's order.

    Attributes:
        model_name: Of the model that it is of.
        sender_nodes, receiver_nodes: Everything that writes and reads. Receivers of one hook stand
            together.
    """

    model_name: str
    sender_nodes: tuple[Sender, ...]
    receiver_nodes: tuple[Receiver, ...]

    @classmethod
    def of(cls, model: HookedTransformer) -> Graph:
        """The graph of a model.

        Raises:
            InputError: for an encoder-decoder, and where norms stand between a sender and the
                stream (`norm_placement` other than `pre`, `post_embedding_ln`): what one sender
                writes is then no summand of what a reader reads.
        """
        cfg, reason = model.cfg, misfit(model)
        require(reason is None, f"a graph of edges does not fit this model: {reason}")
        senders = [Sender("embed", "hook_embed", None, None, 0)]
        if model.main_stack.pos_embed.adds_embedding:
            senders.append(Sender("pos_embed", "hook_pos_embed", None, None, 0))
        if cfg.n_token_types:
            senders.append(Sender("token_type_embed", "hook_token_type_embed", None, None, 0))
        receivers: list[Receiver] = []
        for layer in range(cfg.n_layers):
            senders += _senders_in(cfg, layer)
            receivers += _receivers_in(cfg, layer)
        last = f"blocks.{cfg.n_layers - 1}.hook_resid_post"
        receivers.append(Receiver(LOGITS, last, None, None, 2 * cfg.n_layers, ()))
        return cls(cfg.model_name, tuple(senders), tuple(receivers))

    # --- labels ----------------------------------------------------------------------------------

    @cached_property
    def senders(self) -> list[str]:
        """Labels of what writes."""
        return [node.label for node in self.sender_nodes]

    @cached_property
    def receivers(self) -> list[str]:
        """Labels of what reads."""
        return [node.label for node in self.receiver_nodes]

    @cached_property
    def edges(self) -> list[str]:
        """Labels of all edges, those of one sender together."""
        return self.labels(self.exists)

    @cached_property
    def exists(self) -> Bool[Tensor, "sender receiver"]:
        """True where there is an edge: the receiver reads after the sender writes."""
        written = torch.tensor([node.step for node in self.sender_nodes])
        read = torch.tensor([node.step for node in self.receiver_nodes])
        return written[:, None] <= read

    def sender(self, label: str) -> Sender:
        """The sender of that label.

        Raises:
            InputError: if there is none.
        """
        return self.sender_nodes[self.sender_index(label)]

    def receiver(self, label: str) -> Receiver:
        """The receiver of that label.

        Raises:
            InputError: if there is none.
        """
        return self.receiver_nodes[self.receiver_index(label)]

    def sender_index(self, label: str) -> int:
        """Its place among the senders.

        Raises:
            InputError: if there is none of that label.
        """
        return _place(label, self._sender_places, "sender")

    def receiver_index(self, label: str) -> int:
        """Its place among the receivers.

        Raises:
            InputError: if there is none of that label.
        """
        return _place(label, self._receiver_places, "receiver")

    def parse(self, edge: str) -> tuple[str, str]:
        """`"L0H1->L1H0.k"` → `("L0H1", "L1H0.k")`.

        Raises:
            InputError: if that is no edge of this graph.
        """
        parts = edge.split(ARROW) if isinstance(edge, str) else []
        require(len(parts) == 2, f"an edge is written sender{ARROW}receiver. Received {edge!r}")
        sender, receiver = (part.strip() for part in parts)
        there, here = self.sender(sender), self.receiver(receiver)
        require(
            there.step <= here.step,
            f"an edge leads to what reads later. {receiver} reads before {sender} writes",
        )
        return sender, receiver

    def receivers_of(self, label: str) -> list[str]:
        """What a sender reads with: `"L1H0"` → its query, key and value; none for embeddings.

        Raises:
            InputError: if there is no sender of that label.
        """
        self.sender_index(label)
        return [node.label for node in self.receiver_nodes if label in node.feeds]

    # --- sets of edges ---------------------------------------------------------------------------

    def mask(self, edges: Iterable[str]) -> Bool[Tensor, "sender receiver"]:
        """True for these edges.

        Raises:
            InputError: for one that is not in the graph.
        """
        fits = isinstance(edges, Iterable) and not isinstance(edges, str)
        require(fits, f"edges are a list of edges. Received {edges!r}")
        mask = torch.zeros(len(self.senders), len(self.receivers), dtype=torch.bool)
        for edge in edges:
            sender, receiver = self.parse(edge)
            mask[self._sender_places[sender], self._receiver_places[receiver]] = True
        return mask

    def labels(self, mask: Bool[Tensor, "sender receiver"]) -> list[str]:
        """The edges where a mask is True, in the graph's order.

        Raises:
            InputError: for a mask of another shape, or True where there is no edge.
        """
        return self._pairs(self.checked(mask))

    def checked(self, mask: Bool[Tensor, "sender receiver"]) -> Bool[Tensor, "sender receiver"]:
        """A mask of edges, on the CPU.

        Raises:
            InputError: for a mask of another shape, or True where there is no edge.
        """
        shape = (len(self.sender_nodes), len(self.receiver_nodes))
        require(
            tuple(mask.shape) == shape and mask.dtype == torch.bool,
            f"a mask of edges must be bool {shape}. Received {mask.dtype} {tuple(mask.shape)}",
        )
        mask = mask.cpu()
        wrong = self._pairs(mask & ~self.exists)
        require(
            not wrong, f"a mask of edges must be False where there is none. {wrong[:3]} are not"
        )
        return mask

    def _pairs(self, mask: Bool[Tensor, "sender receiver"]) -> list[str]:
        pairs = mask.cpu().nonzero().tolist()
        return [f"{self.senders[s]}{ARROW}{self.receivers[r]}" for s, r in pairs]

    @cached_property
    def _sender_places(self) -> dict[str, int]:
        return {label: i for i, label in enumerate(self.senders)}

    @cached_property
    def _receiver_places(self) -> dict[str, int]:
        return {label: i for i, label in enumerate(self.receivers)}


def _senders_in(cfg: HookedTransformerConfig, layer: int) -> list[Sender]:
    z, out = f"blocks.{layer}.attn.hook_z", f"blocks.{layer}.hook_mlp_out"
    heads = [Sender(f"L{layer}H{h}", z, layer, h, 2 * layer + 1) for h in range(cfg.n_heads)]
    if cfg.attn_only:
        return heads
    return [*heads, Sender(f"L{layer}MLP", out, layer, None, 2 * layer + 2)]


def _receivers_in(cfg: HookedTransformerConfig, layer: int) -> list[Receiver]:
    shared = cfg.groups_queries and not cfg.ungroup_grouped_query_attention
    step, found = 2 * layer, []
    for part in ("q", "k", "v"):
        of_group = shared and part != "q"
        for head in range(cfg.n_kv_heads if of_group else cfg.n_heads):
            size = cfg.n_heads // cfg.n_kv_heads if of_group else 1
            feeds = tuple(f"L{layer}H{h}" for h in range(head * size, (head + 1) * size))
            label = f"L{layer}{'KV' if of_group else 'H'}{head}.{part}"
            hook = f"blocks.{layer}.hook_{part}_input"
            found.append(Receiver(label, hook, layer, head, step, feeds))
    if not cfg.attn_only:
        # A parallel MLP reads what attention reads, before that writes.
        step += int(not cfg.parallel_attn_mlp)
        label = f"L{layer}MLP"
        found.append(Receiver(label, f"blocks.{layer}.hook_mlp_in", layer, None, step, (label,)))
    return found


def _place(label: str, places: dict[str, int], kind: str) -> int:
    if label in places:
        return places[label]
    close = difflib.get_close_matches(str(label), places, n=3)
    hint = f" Did you mean {', '.join(close)}?" if close else ""
    raise InputError(f"no {kind} of this model is called {label!r}.{hint}")
