"""Runs in which every reader sees, of every edge, what it carries now or what it carries elsewhere.

What receiver r reads is the residual stream, less what the edges that are not live would bring:

    read(r) = stream − Σ over senders s with (s, r) not live of (now(s) − reference(s))

where now(s) is what s writes in this run, made of what s reads itself. So a circuit is run as
Conmy et al. 2023 (Towards Automated Circuit Discovery) define it, with the reference from
corrupted prompts, a mean, or zero; and path patching (Goldowsky-Dill et al. 2023, Localizing Model
Behavior with Path Patching) is a run of the base prompts, with the base itself as the reference, in
which some senders write what they wrote in a source run.

Norms are part of the reader, and recomputed. Many sets of edges ("worlds") share a run, and none
runs a layer below the first in which it departs from the base.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.circuits.graph import Graph
from interp.circuits.references import EdgeReference, fitted, sender_hooks
from interp.circuits.shared_run import SharedRun, Worlds
from interp.errors import InputError, require
from interp.patching.axes import Window, rows
from interp.patching.base import BaseRun, inside_a_run
from interp.patching.metrics import Metric
from interp.patching.read_out import LogitsFunction, make_read_out
from interp.patching.schedule import default_budget

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

Live = Bool[Tensor, "world sender receiver"]
Starts = Bool[Tensor, "world sender"]
_BEHIND_Z = (".hook_result", ".hook_attn_out")


class EdgeRun:
    """A model, prompts, and what edges carry that are not live. No gradients are kept.

    Hooks that are on the model count, in this run and in the base; worlds are then run one by one.
    None may be on `hook_result` or `hook_attn_out`: what a head writes is taken from its z.

    Attributes:
        graph: The model's edges.
        ablation: What edges carry that are not live; None: what they carry in the base.
        run: The base: these prompts, all edges live.
        device: Where it runs.
        n_layers: Of the model.
        sender_layers: `[sender]`: the layer of each; -1 for embeddings.
        reference: Sender's hook → what an edge carries that is not live.
        base_change: What each sender writes in the base less that. None: it is the base's own.
        source: Sender's hook → what senders may be made to write; None: none may.
        source_change: What each sender writes there less what it writes in the base.
    """

    def __init__(
        self,
        model: HookedTransformer,
        tokens: Int[Tensor, "batch pos"],
        reference: EdgeReference | None,
        attention_mask: Int[Tensor, "batch pos"] | None = None,
        token_type_ids: Int[Tensor, "batch pos"] | None = None,
        source: Mapping[str, Float[Tensor, "batch_or_1 pos_or_1 ..."]] | None = None,
        max_bytes: int | None = None,
    ) -> None:
        """Run the base once, and keep what every sender wrote, `[sender, batch, pos, d_model]`.

        Args:
            model: A single stack with norms in front of what reads.
            tokens: The prompts that are run.
            reference: What edges carry that are not live. None: what they carry in the base.
            attention_mask: As for `forward`.
            token_type_ids: As for `forward`.
            source: Activations, as in a cache, that senders may be made to write (`starts`).
            max_bytes: About how much memory the worlds that share a run may take. None: half of
                what is free on a GPU, 128 MiB elsewhere.

        Raises:
            InputError: for a model that has no graph of edges, a reference or source that lacks a
                sender or does not fit the prompts, hooks on what heads write behind their z, and as
                `forward`.
        """
        if reference is not None and not isinstance(reference, EdgeReference):
            raise InputError(
                "reference must be an EdgeReference, as resample_reference, mean_reference and "
                f"zero_reference give. Received {type(reference).__name__}."
            )
        self.model, self.graph, self.ablation = model, Graph.of(model), reference
        self.device, self.n_layers = model.W_E.device, model.cfg.n_layers
        require(
            max_bytes is None or (isinstance(max_bytes, int) and max_bytes > 0),
            f"max_bytes must be a whole number of at least 1. Received {max_bytes!r}",
        )
        budget = default_budget(self.device) if max_bytes is None else max_bytes
        self.max_bytes = model._agreed(budget)
        self._exists = self.graph.exists
        self.sender_layers = torch.tensor(
            [-1 if node.layer is None else node.layer for node in self.graph.sender_nodes]
        )
        self._receiver_layers = torch.tensor(
            [self.n_layers if n.layer is None else n.layer for n in self.graph.receiver_nodes]
        )
        with torch.no_grad(), inside_a_run(model):
            self.run = BaseRun(model, tokens, attention_mask, token_type_ids=token_type_ids)
            hooks = sender_hooks(self.graph)
            self.run.run(set(range(self.n_layers)), set(hooks), keeps_keys=False)
            self._hooks = _hooks_on(model)
            self._hooked = bool(self._hooks)
            behind = [name for name in self._hooks if name.endswith(_BEHIND_Z)]
            require(
                not behind,
                "edges carry what heads write, which is taken from hook_z: put hooks there. "
                f"Received hooks on {behind[:3]}",
            )
            self._now = self.run.recorded
            self.source: dict[str, Tensor] | None = None
            self.reference: Mapping[str, Tensor] = self._now
            self.base_change: Tensor | None = None
            self.source_change: Tensor | None = None
            if reference is not None:
                given = reference.activations
                self.reference = fitted(given, self._now)
                self.base_change = self._written(self._now, self.reference)
            if source is not None:
                self.source = fitted(source, self._now)
                self.source_change = self._written(self.source, self._now)

    # --- what worlds give ------------------------------------------------------------------------

    @torch.no_grad()
    def values(
        self,
        live: Live,
        metric: Metric | LogitsFunction,
        starts: Starts | None = None,
        added: Mapping[int, Float[Tensor, "world batch pos d_model"]] | None = None,
    ) -> Float[Tensor, "world *batch"]:
        """The metric in every world.

        Args:
            live: Edges that carry what is written in the run itself. (Where there is no edge it
                does not matter.)
            metric: A `Metric`, or a function of full logits that gives a number or one per prompt.
            starts: Senders that write what they wrote in the source. None: none.
            added: Receiver's number → what is added to what it reads.

        Raises:
            InputError: for masks of another shape, `starts` without a source, a model that has
                other hooks by now, and as `metric` does.
        """
        worlds = self._worlds(live, starts, added)
        with inside_a_run(self.model):
            read_out = make_read_out(self.run, metric, self.max_bytes)
            read_out.base()
            window = Window(0, self.run.n_pos)

            def read(residual: Tensor, n: int) -> Tensor:
                if self._hooked:
                    return read_out.of_logits(self._logits(residual, n), n)
                return read_out.worlds(residual, n, window)

            return self._each(worlds, read)

    @torch.no_grad()
    def logits(
        self, live: Live, starts: Starts | None = None
    ) -> Float[Tensor, "world batch *pos d_vocab"]:
        """All logits of every world.

        Raises:
            InputError: as `values`.
        """
        worlds = self._worlds(live, starts, None)

        def read(residual: Tensor, n: int) -> Tensor:
            return self._logits(residual, n).unflatten(0, (n, -1))

        with inside_a_run(self.model):
            return self._each(worlds, read)

    @torch.no_grad()
    def changes_read(
        self, live: Live, receivers: list[int], starts: Starts
    ) -> dict[int, Float[Tensor, "world batch pos d_model"]]:
        """What each of these receivers reads in every world less what it reads in the base.

        Raises:
            InputError: for the logits (which read no hook of theirs), and as `values`.
        """
        worlds = self._worlds(live, starts, None)
        nodes = self.graph.receiver_nodes
        require(
            all(nodes[r].layer is not None for r in receivers),
            f"receivers must be in a layer. Received {[nodes[r].label for r in receivers]}",
        )
        base = {}
        with inside_a_run(self.model):
            hooks = list({nodes[r].hook for r in receivers})
            recorded = self._read_in_base(hooks)
            for r in receivers:
                base[r] = _of_head(recorded[nodes[r].hook], nodes[r].head)
            pieces: dict[int, list[Tensor]] = {r: [] for r in receivers}
            start = int(min(self._receiver_layers[receivers].min(), *self._first_layers(worlds)))
            for chunk in torch.arange(len(worlds)).split(self._fitting(worlds)):
                kept: dict[str, Tensor] = {}
                self._residual(worlds.chosen(chunk), start, kept=kept, keep=hooks)
                for r in receivers:
                    x = _of_head(kept[nodes[r].hook], nodes[r].head)
                    pieces[r].append(x.unflatten(0, (len(chunk), -1)) - base[r])
        return {r: torch.cat(several) for r, several in pieces.items()}

    # --- worlds ----------------------------------------------------------------------------------

    def _worlds(
        self, live: Tensor, starts: Tensor | None, added: Mapping[int, Tensor] | None
    ) -> Worlds:
        senders, receivers = self._exists.shape
        require(
            _hooks_on(self.model) == self._hooks,
            "the model must have the hooks that it had when the edge run was made: the base was "
            "run with those. Make another within the hooks",
        )
        if not isinstance(live, Tensor) or live.dtype != torch.bool:
            raise InputError(f"live must be a bool tensor. Received {live!r}.")
        require(
            live.ndim == 3 and live.shape[1:] == self._exists.shape,
            f"live must be [world, {senders}, {receivers}]. Received {tuple(live.shape)}",
        )
        if starts is None:
            starts = torch.zeros(live.shape[0], senders, dtype=torch.bool)
        require(
            starts.shape == live.shape[:2] and starts.dtype == torch.bool,
            f"starts must be bool [world, sender] = {tuple(live.shape[:2])}. Received "
            f"{starts.dtype} {tuple(starts.shape)}",
        )
        starts = starts.cpu()
        require(
            self.source is not None or not bool(starts.any()),
            "starts need a source of what is written. There is none",
        )
        live, added = live.cpu() & self._exists, dict(added or {})
        dead = ~live & self._exists
        if self.base_change is None:
            # What nothing has reached writes what it writes in the base, dead or not.
            dead &= self._reached(live, starts, added)[:, :, None]
        return Worlds(dead, starts, added)

    def _reached(
        self, live: Live, starts: Starts, added: Mapping[int, Tensor]
    ) -> Bool[Tensor, "world sender"]:
        """Senders that may write something else than in the base."""
        reached = starts.clone()
        for s, node in enumerate(self.graph.sender_nodes):
            reads = [self.graph.receiver_index(r) for r in self.graph.receivers_of(node.label)]
            if any(r in added for r in reads):
                reached[:, s] = True
            elif reads:
                reached[:, s] |= (live[:, :, reads] & reached[:, :, None]).any(2).any(1)
        return reached

    def _first_layers(self, worlds: Worlds) -> Int[Tensor, "world"]:
        """The first layer that a world runs otherwise than the base; n_layers: none."""
        reads = worlds.dead
        if self.base_change is None:  # a dead edge brings what it brings in the base
            reads = torch.zeros_like(reads)
        carried = worlds.starts[:, :, None] & ~worlds.dead & self._exists
        layers = self._receiver_layers.expand(len(worlds), -1)
        differs = (reads | carried).any(1)
        for r in worlds.added:
            differs[:, r] = True
        return layers.masked_fill(~differs, self.n_layers).amin(1)

    def _each(self, worlds: Worlds, read: Callable[[Tensor, int], Tensor]) -> Tensor:
        """What `read` makes of the last residual stream, `[world, …]`, in the worlds' order."""
        if len(worlds) == 0:
            residual = self.run.streams[self.n_layers]
            return read(residual, 1)[:0]
        order: list[Tensor] = []
        found: list[Tensor] = []
        for start, which in self._chunks(worlds):
            residual = self._residual(worlds.chosen(which), start)
            found.append(read(residual, len(which)))
            order.append(which)
        back = torch.cat(order).argsort()
        return torch.cat(found)[back.to(found[0].device)]

    def _chunks(self, worlds: Worlds) -> Iterator[tuple[int, Int[Tensor, "world"]]]:
        """Worlds that share a run, and its first layer."""
        first = self._first_layers(worlds)
        size = self._fitting(worlds)
        for start in first.unique().tolist():
            for which in (first == start).nonzero()[:, 0].split(size):
                yield int(start), which

    def _fitting(self, worlds: Worlds) -> int:
        """How many worlds fit into a run."""
        if self._hooked:  # a hook may tell the rows of a batch apart
            return 1
        cfg, run = self.model.cfg, self.run
        tracked = int(worlds.dead.any(2).any(0).sum())
        numbers = cfg.d_model * (tracked + 6 * cfg.n_heads + 8)
        numbers += 3 * (cfg.d_mlp or 0) + 2 * cfg.n_heads * run.n_pos
        size = run.batch * run.n_pos * numbers * run.streams[0].element_size()
        return max(self.max_bytes // size, 1)

    # --- one run ---------------------------------------------------------------------------------

    def _residual(
        self,
        worlds: Worlds,
        start: int,
        kept: dict[str, Tensor] | None = None,
        keep: list[str] | None = None,
    ) -> Float[Tensor, "row pos d_model"]:
        """What is read out in these worlds, which do not differ from the base before `start`."""
        one = SharedRun(self, worlds, start)
        n, run = len(worlds), self.run
        residual = rows(run.streams[start], n)
        added = one.written_by_sources()
        if added is not None:
            residual = residual + added
        if start < self.n_layers:
            hooks: list[tuple[str, Any]] = list(one.hooks())
            if kept is not None:

                def record(x: Tensor, hook: Any) -> None:
                    kept[hook.name] = x

                hooks += [(name, record) for name in keep or []]
            mask = run.inputs["attention_mask"]
            residual = self.model.run_with_hooks(
                residual,
                start_at_layer=start,
                stop_at_layer=self.n_layers,
                attention_mask=None if mask is None else rows(mask, n),
                fwd_hooks=hooks,
            )
        return one.read_by_logits(residual)

    def _logits(self, residual: Tensor, n: int) -> Tensor:
        mask = self.run.inputs["attention_mask"]
        return self.model(
            residual,
            start_at_layer=self.n_layers,
            attention_mask=None if mask is None else rows(mask, n),
        )

    def _read_in_base(self, hooks: list[str]) -> dict[str, Tensor]:
        _, found = self.model.record(**self.run.inputs, names_filter=hooks, return_type=None)
        return found

    def _written(
        self, there: Mapping[str, Tensor], here: Mapping[str, Tensor]
    ) -> Float[Tensor, "sender batch pos d_model"]:
        """What every sender writes there less what it writes here."""
        shape = self.run.streams[0].shape
        found = []
        for hook in sender_hooks(self.graph):
            change = self.writes(hook, there[hook] - here[hook])
            found.append(change.movedim(2, 0).expand(-1, *shape))
        return torch.cat(found)

    def writes(
        self, hook: str, x: Float[Tensor, "row pos ..."], heads: Int[Tensor, "writer"] | None = None
    ) -> Float[Tensor, "row pos writer d_model"]:
        """What the senders at a hook write into the stream (of heads: these; None: all)."""
        if not hook.endswith("hook_z"):
            return x.unsqueeze(2)
        block: Any = self.model.blocks[int(hook.split(".")[1])]
        if heads is None:
            return block.attn.head_results(x)
        return torch.einsum("bphe,hed->bphd", x[:, :, heads], block.attn.W_O[heads])


def most_worlds(graph: Graph) -> int:
    """How many worlds to make masks for at a time, so that these stay small (32 MiB)."""
    return max(2**25 // graph.exists.numel(), 1)


def _hooks_on(model: HookedTransformer) -> dict[str, list[Any]]:
    """Hooks of the user's, by name."""
    points = {name: model.hook_dict[name] for name in model.watched_hooks()[1]}
    return {name: list(p.fwd_hooks) for name, p in points.items() if p.fwd_hooks}


def _of_head(x: Tensor, head: int | None) -> Tensor:
    return x if head is None else x[:, :, head]
