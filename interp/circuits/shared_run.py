"""One run of several worlds: what is taken off where readers read, and kept where senders write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import require

if TYPE_CHECKING:
    from interp.circuits.edge_run import EdgeRun


@dataclass(frozen=True)
class Worlds:
    """What holds in each world.

    Attributes:
        dead: Edges that carry the reference, `[world, sender, receiver]`.
        starts: Senders that write what they wrote in the source.
        added: Receiver → what is added to what it reads, `[world, batch, pos, d_model]`.
    """

    dead: Bool[Tensor, "world sender receiver"]
    starts: Bool[Tensor, "world sender"]
    added: Mapping[int, Float[Tensor, "world batch pos d_model"]]

    def __len__(self) -> int:
        return self.dead.shape[0]

    def chosen(self, which: Int[Tensor, "chosen"]) -> Worlds:
        """Some of them."""
        added = {r: x[which.to(x.device)] for r, x in self.added.items()}
        return Worlds(self.dead[which], self.starts[which], added)


class SharedRun:
    """The hooks of one run of several worlds that depart from the base at `start` or later."""

    def __init__(self, edges: EdgeRun, worlds: Worlds, start: int) -> None:
        self.edges, self.worlds, self.n = edges, worlds, len(worlds)
        self.like = edges.run.streams[0]
        # Senders before the first layer that is run write what is known; the others are watched.
        self.n_known = int((edges.sender_layers < start).sum())
        watched = worlds.dead[:, self.n_known :].any(2).any(0)
        self.watched = (watched.nonzero()[:, 0] + self.n_known).tolist()
        self.place = {s: i for i, s in enumerate(self.watched)}
        shape = (self.n, len(self.watched), *self.like.shape)
        self.changes = self.like.new_zeros(shape) if self.watched else None
        self.by_hook = _groups([node.hook for node in edges.graph.receiver_nodes])
        self.senders_at = _groups([node.hook for node in edges.graph.sender_nodes])

    def hooks(self) -> Iterator[tuple[str, Callable[..., Float[Tensor, "row pos ..."] | None]]]:
        """For the readers that lack something, and the writers that are watched or replaced."""
        nodes = self.edges.graph.receiver_nodes
        for hook, places in self.by_hook.items():
            here = slice(places[0], places[-1] + 1)
            added = any(r in self.worlds.added for r in places)
            if nodes[places[0]].layer is not None and (
                added or bool(self.worlds.dead[:, :, here].any())
            ):
                yield hook, self._reader(here)
        for hook, places in self.senders_at.items():
            if places[0] < self.n_known:
                continue
            started = bool(self.worlds.starts[:, places].any())
            if started or any(s in self.place for s in places):
                yield hook, self._writer(hook, places, started)

    def written_by_sources(self) -> Float[Tensor, "row pos d_model"] | None:
        """What the senders that write before the run add to it by writing what a source has."""
        starts = self.worlds.starts[:, : self.n_known]
        source = self.edges.source_change
        if source is None or not bool(starts.any()):
            return None
        added = starts.to(self.like) @ source[: self.n_known].flatten(1)
        return added.view(-1, *self.like.shape[1:])

    def read_by_logits(
        self, residual: Float[Tensor, "row pos d_model"]
    ) -> Float[Tensor, "row pos d_model"]:
        """What the logits are read from: the last stream less what is not live."""
        last = self.worlds.dead.shape[2] - 1
        if last not in self.worlds.added and not bool(self.worlds.dead[:, :, last].any()):
            return residual
        return self._reader(slice(last, last + 1))(residual, None)

    def _writer(
        self, hook: str, places: list[int], started: bool
    ) -> Callable[[Tensor, Any], Tensor | None]:
        edges, n = self.edges, self.n
        of_heads = hook.endswith("hook_z")
        watched = [s for s in places if s in self.place]
        heads = None
        if of_heads:
            heads = torch.tensor([s - places[0] for s in watched], device=self.like.device)
        slots = [self.place[s] for s in watched]
        reference = edges.reference[hook]
        switch, source = None, reference
        if started:
            assert edges.source is not None
            source = edges.source[hook]
            switch = self.worlds.starts[:, places].to(self.like.device)
            switch = switch[:, None, None, :, None] if of_heads else switch[:, None, :, None]

        def write(x: Tensor, hook: Any) -> Tensor | None:
            given = x
            by_world = x.unflatten(0, (n, -1))
            if switch is not None:
                by_world = torch.where(switch, source, by_world)
                x = by_world.flatten(0, 1)
            if slots:
                assert self.changes is not None
                change = edges.writes(hook.name, (by_world - reference).flatten(0, 1), heads)
                change = change.unflatten(0, (n, -1)).movedim(3, 1)
                self.changes[:, slots[0] : slots[-1] + 1] = change
            return None if x is given else x

        return write

    def _reader(self, here: slice) -> Callable[[Tensor, Any], Tensor]:
        edges, worlds, n = self.edges, self.worlds, self.n
        batch_and_pos = self.like.shape[:2]
        dead = worlds.dead[:, :, here].mT  # [world, receiver, sender]
        n_readers, by_head = dead.shape[1], edges.graph.receiver_nodes[here.start].head is not None

        def lacking() -> Float[Tensor, "world receiver numbers"]:
            missing = self.like.new_zeros(n, n_readers, self.like.numel())
            known = dead[..., : self.n_known]
            if edges.base_change is not None and bool(known.any()):
                senders = known.any(0).any(0).nonzero()[:, 0]
                weights = known[..., senders].to(self.like).flatten(0, 1)
                change = edges.base_change[senders.to(self.like.device)].flatten(1)
                missing += (weights @ change).view_as(missing)
            replaced = known & worlds.starts[:, None, : self.n_known]
            if edges.source_change is not None and bool(replaced.any()):
                senders = replaced.any(0).any(0).nonzero()[:, 0]
                weights = replaced[..., senders].to(self.like).flatten(0, 1)
                change = edges.source_change[senders.to(self.like.device)].flatten(1)
                missing += (weights @ change).view_as(missing)
            watched = dead[..., self.watched]
            if self.changes is not None and bool(watched.any()):
                missing += torch.bmm(watched.to(self.like), self.changes.flatten(2))
            for r, x in worlds.added.items():
                if here.start <= r < here.stop:
                    missing[:, r - here.start] -= x.flatten(1)
            return missing

        def read(x: Tensor, hook: Any) -> Tensor:
            missing = lacking().view(n, n_readers, *batch_and_pos, -1)
            if not by_head:
                return x - missing[:, 0].flatten(0, 1)
            require(
                x.shape[2] == n_readers,
                f"{getattr(hook, 'name', here)} must have {n_readers} heads, as without hooks on "
                f"hook_attn_in. It has {x.shape[2]}",
            )
            # [world, receiver, batch, pos, d_model] -> [world * batch, pos, receiver, d_model]
            return x - missing.permute(0, 2, 3, 1, 4).flatten(0, 1)

        return read


def _groups(hooks: list[str]) -> dict[str, list[int]]:
    """Places of the nodes at each hook, which stand together."""
    found: dict[str, list[int]] = {}
    for i, hook in enumerate(hooks):
        found.setdefault(hook, []).append(i)
    return found
