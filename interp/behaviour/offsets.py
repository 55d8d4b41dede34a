"""Heads that look a fixed number of tokens back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.behaviour.reading import Part, TextRead, read_text
from interp.behaviour.scores import BehaviourScore
from interp.errors import require
from interp.run.arguments import EncoderOutput
from interp.tokenization.text import TextInput

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


@dataclass(frozen=True)
class OffsetScores:
    """Attention mass at fixed distances.

    Attributes:
        by_offset: For each offset k, the mass on the token k places back (ahead, if negative), as a
            `BehaviourScore` named `offset k`.
    """

    by_offset: dict[int, BehaviourScore]

    def best(self) -> tuple[Int[Tensor, "layer head"], Float[Tensor, "layer head"]]:
        """The offset with the most mass, and that mass.

        It is the largest of many, so that among heads which look nowhere in particular it is above
        chance too.
        """
        offsets = torch.tensor(list(self.by_offset))
        mass, place = torch.stack([of.score for of in self.by_offset.values()]).max(0)
        return offsets.to(place.device)[place], mass


@torch.no_grad()
def offset_scores(
    model: HookedTransformer,
    input: TextInput | Int[Tensor, "batch pos"] | None,
    offsets: Iterable[int] | None = None,
    *,
    part: Part | None = None,
    attention_mask: Int[Tensor, "batch pos"] | None = None,
    prepend_bos: bool | None = None,
    token_type_ids: Int[Tensor, "batch pos"] | None = None,
    decoder_input: TextInput | Int[Tensor, "batch pos"] | None = None,
    decoder_attention_mask: Int[Tensor, "batch pos"] | None = None,
    encoder_output: EncoderOutput | None = None,
) -> OffsetScores:
    """Score every head for looking k tokens back, for each offset k.

    Destinations count if their text has a token k places back and that is not the first one, whose
    attention is a sink's. So offset 1 is `previous_token`, and offset 0 `same_token`.

    Args:
        model: Any model with heads.
        input: As in `head_scores`.
        offsets: Places back; negative ones look ahead (in a stack that is not causal). None: from 0
            up to half of the longest text, in a stack that is not causal to either side.
        part, attention_mask, prepend_bos, token_type_ids, decoder_input, decoder_attention_mask,
            encoder_output: As in `head_scores`.

    Raises:
        InputError: for input that `forward` refuses, a model without heads, or offsets that look
            ahead where the stack cannot, or that no text is long enough for.
    """
    given = read_text(
        model,
        input,
        part,
        attention_mask=attention_mask,
        prepend_bos=prepend_bos,
        token_type_ids=token_type_ids,
        decoder_input=decoder_input,
        decoder_attention_mask=decoder_attention_mask,
        encoder_output=encoder_output,
    )
    require(given.n_layers > 0, "the model must have heads. It has no layers")
    chosen = _chosen(given, offsets)
    sources, counts = _sources(given, torch.tensor(chosen, device=given.tokens.device))
    layers: list[Tensor] = []

    def look(layer: int, pattern: Tensor) -> None:
        at = sources[:, None].expand(-1, pattern.shape[1], -1, -1)
        masses = pattern.gather(-1, at).double()  # [batch, head, pos, offset]
        layers.append((masses * counts[:, None]).sum(2))

    given.watch_patterns(look)
    n = counts.sum(1)  # [batch, offset]
    total = torch.stack(layers, 1)  # [batch, layer, head, offset]
    chance = torch.stack([_chances(given, i, chosen, counts) for i in range(given.n_layers)], 1)
    found = {}
    for i, offset in enumerate(chosen):
        kept = n[:, i] > 0
        weight = n[kept, i]
        found[offset] = BehaviourScore(
            f"offset {offset}",
            total[kept, :, :, i] / weight[:, None, None],
            chance[kept, :, i] / weight[:, None],
            int(weight.sum()),
        )
    return OffsetScores(found)


def _chosen(given: TextRead, offsets: Iterable[int] | None) -> list[int]:
    longest = int(given.n_real.max())
    require(longest > 1, f"a text must have at least two tokens. The longest has {longest}")
    causal = given.stack.causal
    if offsets is None:
        reach = min(longest // 2, longest - 2)
        return list(range(0 if causal else -reach, reach + 1))
    chosen = list(dict.fromkeys(offsets))
    require(bool(chosen), "offsets must name at least one. Received none")
    highest = longest - 2  # from the last token to the second: the first does not count
    lowest = 0 if causal else -(longest - 1)
    for offset in chosen:
        require(
            isinstance(offset, int)
            and not isinstance(offset, bool)
            and lowest <= offset <= highest,
            f"offsets must lie in {lowest} … {highest} for these texts. Received {offset!r}",
        )
    return chosen


def _sources(
    given: TextRead, offsets: Int[Tensor, "offset"]
) -> tuple[Int[Tensor, "batch pos offset"], Bool[Tensor, "batch pos offset"]]:
    """The index of the source at each offset, and whether it counts (where not, any index)."""
    place = given.places[..., None] - offsets
    counts = (place >= 1) & (place < given.n_real[..., None]) & given.real[..., None]
    return given.index_of(torch.where(counts, place, 0)), counts


def _chances(
    given: TextRead, layer: int, offsets: list[int], counts: Bool[Tensor, "batch pos offset"]
) -> Float[Tensor, "batch offset"]:
    """Sums over the counted destinations of what uniform attention has at each offset."""
    window = given.window(layer)
    seen = [window is None or abs(offset) < window for offset in offsets]
    uniform = 1 / given.n_visible(window)
    return (uniform[..., None] * counts).sum(1) * torch.tensor(seen, device=counts.device)
