"""Where a model is probed: its streams, and what each head asks, offers and reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.devices.memory import free_memory, readable
from interp.errors import InputError, require, require_whole
from interp.root import FwdHooks
from interp.run.recording import floating_dtype

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

WHOLE = {
    "embed": "hook_embed",
    "pos_embed": "hook_pos_embed",
    "resid_pre": "hook_resid_pre",
    "attn_out": "hook_attn_out",
    "resid_mid": "hook_resid_mid",
    "mlp_out": "hook_mlp_out",
    "resid_post": "hook_resid_post",
}
"""Kinds of site with one vector at a position, and the end of their hook's name."""

PER_HEAD = {
    "q": "attn.hook_q",
    "k": "attn.hook_k",
    "v": "attn.hook_v",
    "rot_q": "attn.hook_rot_q",
    "rot_k": "attn.hook_rot_k",
    "z": "attn.hook_z",
}
"""Kinds of site with one vector a head; of keys and values one a key/value head."""

HEADS = ("q", "k", "z")
KINDS = (*WHOLE, *PER_HEAD)

_ORDER = ("embed", "pos_embed", "resid_pre", *PER_HEAD, "attn_out", "resid_mid", "mlp_out",
          "resid_post")  # fmt: skip

_LAYER = re.compile(r"blocks\.(\d+)\.(.+)")
# Hooks with an axis other than [batch, pos, (head,) vector].
_NO_VECTORS = ("hook_tokens", "hook_attn_scores", "hook_pattern", "hook_pos_bias", "hook_scale")
_HEAD_HOOKS = (*PER_HEAD.values(), "attn.hook_result", "hook_q_input", "hook_k_input",
               "hook_v_input", "hook_attn_in")  # fmt: skip
_EXPERTS = ("hook_router_logits", "hook_expert_weights", "hook_expert_out")
_SHARE = 0.5  # of the memory that is left: fits need some too


@dataclass(frozen=True)
class Site:
    """One place where a model has a vector for every token.

    Attributes:
        label: What it is called in tables: `embed`, `L0 resid_post`, `L0H3 q`.
        hook: The hook that it is read at.
        kind: `resid_post`, `q`, …; of another hook, its name inside the block.
        layer: None outside the blocks.
        head: Of queries and of what heads read, the head; of keys and values, the key/value head.
            None where one vector serves all.
    """

    label: str
    hook: str
    kind: str
    layer: int | None = None
    head: int | None = None


def sites_of(
    model: HookedTransformer, names: str | Iterable[str] = (*WHOLE, *HEADS)
) -> tuple[Site, ...]:
    """The sites of a model that names mean, in the order in which they are computed, then by head.

    Args:
        model: A decoder or an encoder.
        names: Kinds (`KINDS`), hook names or globs of these whose tensors are
            `[batch, pos, vector]` or `[batch, pos, head, vector]`. A kind that a model does not
            have (`pos_embed` without vectors of positions, `mlp_out` without MLPs) gives no site;
            a hook name or glob that fits nothing is an error.

    Raises:
        InputError: for an encoder–decoder, an unknown name, a hook without a vector for every
            token, or names that leave nothing.
    """
    require(
        model.cfg.architecture != "encoder-decoder",
        "probes read a model with one stack. This is an encoder-decoder",
    )
    asked = [names] if isinstance(names, str) else list(names)
    wanted: set[str] = set()
    for name in asked:
        if name in KINDS:
            wanted |= _hooks_of_kind(model, name)
            continue
        found = [hook for hook in model.match_hooks(name) if _has_vectors(model, hook)]
        require(
            bool(found),
            f"a site must have a vector for every token: a kind ({', '.join(KINDS)}) or a hook "
            f"of that shape. Received {name!r}",
        )
        wanted.update(found)
    require(bool(wanted), f"sites must leave at least one in this model. Received {asked!r}")
    sites = [site for hook in model.hook_dict if hook in wanted for site in _at(model, hook)]
    return tuple(sorted(sites, key=_when))


def _hooks_of_kind(model: HookedTransformer, kind: str) -> set[str]:
    end = WHOLE[kind] if kind in WHOLE else PER_HEAD[kind]
    return {hook for hook in model.hook_dict if _inside(hook)[1] == end}


def _inside(hook: str) -> tuple[int | None, str]:
    """The layer of a hook, and its name inside the block."""
    found = _LAYER.fullmatch(hook)
    return (int(found[1]), found[2]) if found else (None, hook)


def _when(site: Site) -> tuple[float, int]:
    """When a site is computed; hooks that are no kind come last in their block."""
    before = -1 if site.kind in ("embed", "pos_embed") else float("inf")
    layer = before if site.layer is None else site.layer
    return layer, _ORDER.index(site.kind) if site.kind in _ORDER else len(_ORDER)


def _has_vectors(model: HookedTransformer, hook: str) -> bool:
    last = hook.rpartition(".")[2]
    of_sequence = model.cfg.classifies and hook.startswith(("pooler.", "unembed."))
    norms_of_heads = ".q_norm." in hook or ".k_norm." in hook
    return not (last in _NO_VECTORS + _EXPERTS or of_sequence or norms_of_heads
                or _is_of_experts(model, hook))  # fmt: skip


def _is_of_experts(model: HookedTransformer, hook: str) -> bool:
    return model.cfg.num_experts is not None and ".mlp." in hook


def _at(model: HookedTransformer, hook: str) -> list[Site]:
    layer, inside = _inside(hook)
    kinds = {end: kind for kind, end in (*WHOLE.items(), *PER_HEAD.items())}
    kind = kinds.get(inside, inside)
    place = "" if layer is None else f"L{layer}"
    if inside not in _HEAD_HOOKS:
        return [Site(f"{place} {kind}".strip(), hook, kind, layer)]
    return [
        Site(f"{place}H{head} {kind}", hook, kind, layer, head)
        for head in range(_n_heads(model, inside))
    ]


def _n_heads(model: HookedTransformer, inside: str) -> int:
    cfg = model.cfg
    of_keys = inside.rpartition("_")[2] in ("k", "v") or inside.endswith(("k_input", "v_input"))
    grouped = of_keys and not cfg.ungroup_grouped_query_attention
    return cfg.n_kv_heads if grouped else cfg.n_heads


@dataclass(frozen=True)
class Features:
    """What the sites of a model hold for the sampled tokens.

    Attributes:
        of: By label `[sample, dim]`. Samples go row by row, each in the order of its positions.
        same: Labels of sites whose tensor another site, named first in the model, has too, and the
            label of that: `resid_pre` of layer 1 is `resid_post` of layer 0. They share its memory.
    """

    of: dict[str, Float[Tensor, "sample dim"]]
    same: dict[str, str]

    @property
    def distinct(self) -> dict[str, Float[Tensor, "sample dim"]]:
        """Every tensor once, under the first label for it."""
        return {label: x for label, x in self.of.items() if label not in self.same}


@torch.no_grad()
def features_of(
    model: HookedTransformer,
    tokens: Int[Tensor, "batch pos"],
    sites: Sequence[Site],
    batch_size: int = 64,
    fwd_hooks: FwdHooks = (),
    dtype: torch.dtype | None = None,
    sampled: Bool[Tensor, "batch pos"] | None = None,
    attention_mask: Int[Tensor, "batch pos"] | None = None,
    max_bytes: int | None = None,
) -> Features:
    """What every site holds, in one pass over the rows.

    Only these hooks are recorded, nothing is computed after the last of them, and names for one
    tensor share memory.

    Args:
        model: The model.
        tokens: Rows of tokens, as they are.
        sites: From `sites_of`.
        batch_size: Rows a run.
        fwd_hooks: Hooks that act in every run, as in `run_with_hooks`.
        dtype: Of the features. None: as the model computes.
        sampled: Which tokens are samples. None: all that are real.
        attention_mask: 1 for tokens, 0 for padding; a padded place is no sample.
        max_bytes: How much the features may take. None: half of what their device has left, where
            the system tells it.

    Raises:
        InputError: for input that `forward` refuses, no site or sample, a sampled padding token,
            or features that would be larger than `max_bytes`, before the first is kept.
    """
    require(bool(sites), "features need at least one site. Received none")
    require_whole("batch_size", batch_size, 1)
    require(
        isinstance(tokens, Tensor) and tokens.ndim == 2 and tokens.numel() > 0,
        "tokens must be [batch, pos] and not empty. Received "
        f"{tuple(tokens.shape) if isinstance(tokens, Tensor) else tokens!r}",
    )
    floating_dtype(dtype)
    kept = _kept(tokens, sampled, attention_mask)
    names = list(dict.fromkeys(site.hook for site in sites))
    counts = kept.sum(1).tolist()
    room = _Room(sites, sum(counts), dtype, max_bytes, model._agreed)
    with model.hooks(fwd_hooks=fwd_hooks):
        for start in range(0, len(tokens), batch_size):
            rows = slice(start, start + batch_size)
            _, cache = model.run_with_cache(
                tokens[rows],
                attention_mask=None if attention_mask is None else attention_mask[rows],
                return_type=None,
                names_filter=names,
                return_cache_object=False,
            )
            room.take(cache, kept[rows], sum(counts[rows]))
    return room.features()


def _kept(
    tokens: Tensor, sampled: Tensor | None, attention_mask: Tensor | None
) -> Bool[Tensor, "batch pos"]:
    for name, given in (("sampled", sampled), ("attention_mask", attention_mask)):
        require(
            given is None or given.shape == tokens.shape,
            f"{name} must have the shape of tokens, {tuple(tokens.shape)}. Received "
            f"{None if given is None else tuple(given.shape)}",
        )
    real = torch.ones_like(tokens, dtype=torch.bool)
    if attention_mask is not None:
        real = attention_mask.bool().to(tokens.device)
    kept = real if sampled is None else sampled.to(tokens.device)
    require(bool(kept.any()), "at least one token must be sampled. Received none")
    require(not bool((kept & ~real).any()), "padding cannot be sampled. Received samples of it")
    return kept


class _Room:
    """Where samples are put as the batches come: a piece of memory for every tensor."""

    def __init__(
        self,
        sites: Sequence[Site],
        n_samples: int,
        dtype: torch.dtype | None,
        most: int | None,
        agreed: Callable[[int], int],
    ) -> None:
        self.sites, self.n_samples, self.dtype, self.most = sites, n_samples, dtype, most
        self.agreed = agreed  # of processes that share the model, all go on or none
        self.n_taken = 0
        self.held: dict[str, Tensor] = {}  # [sample, dim] or [head, sample, dim] by hook
        self.first: dict[str, str] = {}  # the hook whose memory a hook shares

    def take(self, cache: dict[str, Tensor], kept: Bool[Tensor, "batch pos"], n: int) -> None:
        if not self.held:
            self._make(cache)
        end = self.n_taken + n
        for name, held in self.held.items():
            rows = cache[name][kept.to(cache[name].device)]  # [sample, (head,) dim]
            if held.ndim == 3:
                held[:, self.n_taken : end] = rows.transpose(0, 1).to(held.dtype)
            else:
                held[self.n_taken : end] = rows.to(held.dtype)
        self.n_taken = end

    def _make(self, cache: dict[str, Tensor]) -> None:
        places: dict[object, str] = {}
        for site in self.sites:
            x = cache[site.hook]
            require(
                x.ndim == (3 if site.head is None else 4),
                f"{site.hook} must hold {'one vector' if site.head is None else 'heads'} at each "
                f"position. It has the shape {tuple(x.shape)}",
            )
        for name in dict.fromkeys(site.hook for site in self.sites):
            x = cache[name]
            place = (x.data_ptr(), x.shape, x.stride())
            self.first[name] = places.setdefault(place, name)
        owners = dict.fromkeys(self.first.values())
        sizes = {
            name: self.n_samples
            * cache[name].shape[2:].numel()
            * (self.dtype or cache[name].dtype).itemsize
            for name in owners
        }
        self._check(sum(sizes.values()), next(iter(cache.values())).device)
        for name in owners:
            *heads, dim = cache[name].shape[2:]
            self.held[name] = cache[name].new_empty(
                (*heads, self.n_samples, dim), dtype=self.dtype or cache[name].dtype
            )

    def _check(self, n_bytes: int, device: torch.device) -> None:
        limit, what = self.most, "max_bytes"
        if limit is None:
            free = free_memory(device)
            if free is None:
                return
            limit, what = self.agreed(int(free * _SHARE)), f"half of what {device} has left"
        if n_bytes > limit:
            raise InputError(
                f"features of {len(self.sites)} sites and {self.n_samples} samples would take "
                f"{readable(n_bytes)}: more than {what} ({readable(limit)}). Fewer sites, rows or "
                "sampled tokens, or a narrower dtype, take less."
            )

    def features(self) -> Features:
        of: dict[str, Tensor] = {}
        same: dict[str, str] = {}
        labels: dict[tuple[str, int | None], str] = {}
        for site in self.sites:
            owner = self.first[site.hook]
            held = self.held[owner]
            of[site.label] = held if site.head is None else held[site.head]
            label = labels.setdefault((owner, site.head), site.label)
            if label != site.label:
                same[site.label] = label
        return Features(of, same)
