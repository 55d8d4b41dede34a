"""Metrics that say which logits they read, so that no others are computed."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import InputError, require
from interp.precision import wide

Place = int | Int[Tensor, "batch"]


class Metric(ABC):
    """A number for each prompt: a weighted sum, over the positions read, of a term of the logits.

    Called with full logits `[batch, pos, d_vocab]` it gives the mean over prompts, as a
    `patching_metric` of TransformerLens does.

    Attributes:
        columns: `[batch or 1, column]`: the logits it reads; None: the whole vocabulary.
        pos: Where it reads: a position, or one per prompt. Negative ones count back from the last
            real token (-1), which without an attention mask is the last.
    """

    columns: Int[Tensor, "batch column"] | None = None
    pos: Place = -1

    def __call__(self, logits: Float[Tensor, "batch pos d_vocab"]) -> Float[Tensor, ""]:
        """The mean over prompts."""
        return self.per_prompt(logits).mean()

    def per_prompt(
        self,
        logits: Float[Tensor, "batch pos d_vocab"],
        attention_mask: Int[Tensor, "batch pos"] | None = None,
    ) -> Float[Tensor, "batch"]:
        """The value of every prompt, from full logits (`[batch, d_vocab]`: a classifier's)."""
        require(
            isinstance(logits, Tensor) and logits.ndim in (2, 3) and logits.numel() > 0,
            "a metric reads logits [batch, pos, d_vocab_out], or [batch, d_vocab_out] of a "
            f"classifier. Received {tuple(getattr(logits, 'shape', ())) or type(logits).__name__}",
        )
        if logits.ndim == 2:
            logits, attention_mask = logits[:, None], None
        batch, n_pos, d_vocab = logits.shape
        metric = self.prepared(None, attention_mask)
        metric.check(batch, n_pos, d_vocab)
        reads = metric.reads(batch, n_pos, attention_mask).to(logits.device)
        read = logits.gather(1, reads[..., None].expand(-1, -1, d_vocab))
        terms = metric.terms(metric.pick(read[None]), slice(None))
        return metric.total(terms)[0]

    # --- what a subclass says --------------------------------------------------------------------

    @abstractmethod
    def terms(
        self, logits: Float[Tensor, "world batch read column"], which: slice
    ) -> Float[Tensor, "world batch read"]:
        """The term of each of these positions, of all `columns`, in at least fp32."""

    def prepared(
        self,
        tokens: Int[Tensor, "batch pos"] | None,
        attention_mask: Int[Tensor, "batch pos"] | None,
    ) -> Metric:
        """The metric for these tokens, where it depends on them."""
        return self

    def reads(
        self, batch: int, n_pos: int, attention_mask: Int[Tensor, "batch pos"] | None
    ) -> Int[Tensor, "batch read"]:
        """Which positions it reads of each prompt.

        Raises:
            InputError: for a position that is not there.
        """
        return places(self.pos, batch, n_pos, attention_mask)[:, None]

    def weights(self) -> Float[Tensor, "batch read"] | None:
        """What the terms are multiplied by; None: one."""
        return None

    def check(self, batch: int, n_pos: int, d_vocab: int) -> None:
        """Raise `InputError` if it does not fit logits of this shape."""
        if self.columns is None:
            return
        require(
            self.columns.shape[0] in (1, batch),
            f"a metric's tokens must be one, or one per prompt ({batch}). "
            f"Received {self.columns.shape[0]}",
        )
        low, high = (int(x) for x in self.columns.aminmax())
        require(
            low >= 0 and high < d_vocab,
            f"a metric's tokens must lie in 0 … {d_vocab - 1}. Received {low} … {high}",
        )

    # --- shared ----------------------------------------------------------------------------------

    def pick(
        self, logits: Float[Tensor, "world batch read d_vocab"]
    ) -> Float[Tensor, "world batch read column"]:
        """Of the whole vocabulary's logits those of `columns`, in at least fp32."""
        if self.columns is not None:
            columns = self.columns.to(logits.device)[None, :, None]
            shape = (*logits.shape[:3], columns.shape[-1])
            logits = logits.gather(-1, columns.expand(shape))
        return wide(logits)

    def total(self, terms: Float[Tensor, "world batch read"]) -> Float[Tensor, "world batch"]:
        """The weighted sum."""
        weights = self.weights()
        return terms.sum(-1) if weights is None else (terms * weights.to(terms)).sum(-1)


class Logit(Metric):
    """The logit of a token.

    Args:
        token: An id, or one per prompt.
        pos: See `Metric`.
    """

    def __init__(self, token: int | Int[Tensor, "*batch"], pos: Place = -1) -> None:
        self.columns, self.pos = _ids(token)[:, None], pos

    def terms(
        self, logits: Float[Tensor, "world batch read column"], which: slice
    ) -> Float[Tensor, "world batch read"]:
        """The logits."""
        return logits[..., 0]


class LogitDiff(Metric):
    """The logit of the right token minus that of the wrong one.

    Args:
        right, wrong: Ids, or one per prompt.
        pos: See `Metric`.
    """

    def __init__(
        self,
        right: int | Int[Tensor, "*batch"],
        wrong: int | Int[Tensor, "*batch"],
        pos: Place = -1,
    ) -> None:
        ids = [_ids(right), _ids(wrong)]
        at = max(ids, key=len).device  # one number goes where the others are
        ids = [i.to(at) if len(i) == 1 else i for i in ids]
        require(
            ids[0].device == ids[1].device and len({len(i) for i in ids} - {1}) < 2,
            "right and wrong must be one token each, or as many, on one device. Received "
            + " and ".join(f"{len(i)} on {i.device}" for i in ids),
        )
        self.columns, self.pos = torch.stack(torch.broadcast_tensors(*ids), -1), pos

    def terms(
        self, logits: Float[Tensor, "world batch read column"], which: slice
    ) -> Float[Tensor, "world batch read"]:
        """The differences."""
        return logits[..., 0] - logits[..., 1]


class LogProb(Metric):
    """The log-probability of a token, in nats.

    Args:
        token: An id, or one per prompt.
        pos: See `Metric`.
    """

    def __init__(self, token: int | Int[Tensor, "*batch"], pos: Place = -1) -> None:
        self.token, self.pos = _ids(token), pos

    def check(self, batch: int, n_pos: int, d_vocab: int) -> None:
        """Raise `InputError` if it does not fit logits of this shape."""
        Logit(self.token).check(batch, n_pos, d_vocab)

    def terms(
        self, logits: Float[Tensor, "world batch read column"], which: slice
    ) -> Float[Tensor, "world batch read"]:
        """The log-probabilities."""
        return _log_probs(logits, self.token[:, None])


class Loss(Metric):
    """The mean over a prompt's predictions of the cross-entropy of the next token, in nats.

    Predictions from or of padding count nothing.

    Args:
        tokens: `[batch, pos]`. None: those of the sweep.
        attention_mask: 0 for padding. None: the sweep's.
    """

    def __init__(
        self,
        tokens: Int[Tensor, "batch pos"] | None = None,
        attention_mask: Int[Tensor, "batch pos"] | None = None,
    ) -> None:
        self.tokens, self.mask = tokens, attention_mask

    def prepared(
        self,
        tokens: Int[Tensor, "batch pos"] | None,
        attention_mask: Int[Tensor, "batch pos"] | None,
    ) -> Loss:
        """The loss on these tokens, unless it was given its own."""
        mask = attention_mask if self.mask is None else self.mask
        return Loss(tokens if self.tokens is None else self.tokens, mask)

    def _targets(self) -> Int[Tensor, "batch read"]:
        if self.tokens is None:
            raise InputError("a loss outside of a sweep needs tokens: Loss(tokens). Received none.")
        return self.tokens[:, 1:]

    def reads(
        self, batch: int, n_pos: int, attention_mask: Int[Tensor, "batch pos"] | None
    ) -> Int[Tensor, "batch read"]:
        """Every position but the last."""
        return torch.arange(n_pos - 1, device=self._targets().device).expand(batch, -1)

    def check(self, batch: int, n_pos: int, d_vocab: int) -> None:
        """Raise `InputError` if the tokens do not fit."""
        targets = self._targets()
        for name, given in (("tokens", self.tokens), ("attention_mask", self.mask)):
            require(
                given is None or given.shape == (batch, n_pos),
                f"{name} of a loss must be [batch, pos] = {[batch, n_pos]}, as the logits are. "
                f"Received {None if given is None else list(given.shape)}",
            )
        require(targets.shape[1] > 0, "a loss needs two tokens or more. Received one")
        if self.mask is not None:
            n_real = int(self.mask.sum(1).min())
            require(n_real > 1, f"a loss needs two real tokens in every prompt. Received {n_real}")
        require(
            int(targets.max()) < d_vocab,
            f"a loss needs a logit for every token: there are {d_vocab}. "
            f"Received token {int(targets.max())}",
        )

    def weights(self) -> Float[Tensor, "batch read"]:
        """The share of each prediction."""
        targets = self._targets()
        counted = torch.ones_like(targets, dtype=torch.bool)
        if self.mask is not None:
            real = self.mask.to(targets.device).bool()
            counted = real[:, 1:] & real[:, :-1]
        return counted.double() / counted.sum(1, keepdim=True)

    def terms(
        self, logits: Float[Tensor, "world batch read column"], which: slice
    ) -> Float[Tensor, "world batch read"]:
        """The cross-entropies."""
        return -_log_probs(logits, self._targets()[:, which])


class KLDivergence(Metric):
    """Σ p log(p / q), in nats: from the reference's distribution p to the run's q.

    Args:
        reference_logits: `[batch, d_vocab]`, or full logits `[batch, pos, d_vocab]`, of which those
            at `pos` are taken.
        pos: See `Metric`.
    """

    def __init__(
        self, reference_logits: Float[Tensor, "batch *pos d_vocab"], pos: Place = -1
    ) -> None:
        require(
            reference_logits.ndim in (2, 3),
            "reference_logits must be [batch, d_vocab] or [batch, pos, d_vocab]. "
            f"Received {tuple(reference_logits.shape)}",
        )
        self.reference, self.pos = reference_logits.detach(), pos
        # How many positions the reference has, or had before those at `pos` were taken.
        self.n_pos = reference_logits.shape[1] if reference_logits.ndim == 3 else None

    def prepared(
        self,
        tokens: Int[Tensor, "batch pos"] | None,
        attention_mask: Int[Tensor, "batch pos"] | None,
    ) -> KLDivergence:
        """The divergence from the reference at `pos`.

        Raises:
            InputError: for a reference of prompts of another shape.
        """
        reference = self.reference
        if reference.ndim == 2:
            return self
        batch, n_pos, _ = reference.shape
        require(
            attention_mask is None or attention_mask.shape == (batch, n_pos),
            f"reference_logits must be of prompts as long as those of the run. "
            f"Their shape is {tuple(reference.shape)}",
        )
        at = places(self.pos, batch, n_pos, attention_mask).to(reference.device)
        prepared = KLDivergence(reference[torch.arange(batch, device=at.device), at], self.pos)
        prepared.n_pos = n_pos
        return prepared

    def check(self, batch: int, n_pos: int, d_vocab: int) -> None:
        """Raise `InputError` if the reference is of other prompts or another vocabulary."""
        require(
            self.n_pos in (None, n_pos),
            f"reference_logits must be of prompts as long as those of the run ({n_pos}). "
            f"Received {self.n_pos} positions",
        )
        found = (self.reference.shape[0], self.reference.shape[-1])
        require(
            found == (batch, d_vocab),
            f"reference_logits must be of {batch} prompts and {d_vocab} tokens. Received {found}",
        )

    def terms(
        self, logits: Float[Tensor, "world batch read column"], which: slice
    ) -> Float[Tensor, "world batch read"]:
        """The divergences."""
        p = wide(self.reference).to(logits.device).log_softmax(-1)[:, None]
        share = p.exp()
        terms = share * (p - logits.log_softmax(-1))
        return terms.masked_fill_(share == 0, 0.0).sum(-1)  # 0 log 0 = 0


def places(
    pos: Place, batch: int, n_pos: int, attention_mask: Int[Tensor, "batch pos"] | None
) -> Int[Tensor, "batch"]:
    """The position of each prompt; negative ones count back from its last real token.

    Raises:
        InputError: for a position that is not there, or not one per prompt.
    """
    found = _whole_numbers(pos)
    require(
        found is not None and found.ndim <= 1 and found.numel() in (1, batch),
        f"pos must be a whole number, or one per prompt ({batch}). Received {pos!r}",
    )
    assert found is not None
    found = found.reshape(-1).expand(batch)
    ends = torch.full((batch,), n_pos, device=found.device)
    if attention_mask is not None:
        order = torch.arange(1, n_pos + 1, device=attention_mask.device)
        ends = (attention_mask.bool() * order).amax(1).to(found.device)
    found = torch.where(found < 0, found + ends, found)
    low, high = (int(x) for x in found.aminmax())
    require(low >= 0 and high < n_pos, f"pos must lie within {n_pos} positions. Received {pos!r}")
    return found


def _ids(token: int | Tensor) -> Int[Tensor, "batch"]:
    found = _whole_numbers(token)
    if found is None or found.ndim > 1 or found.numel() == 0:
        raise InputError(
            f"tokens of a metric must be whole numbers, one or one per prompt. Received {token!r}."
        )
    return found.reshape(-1).long()


def _whole_numbers(value: object) -> Tensor | None:
    """These as a tensor; None where they are no whole numbers."""
    if not isinstance(value, Tensor):
        try:
            value = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError):  # text, nothing, lists of several lengths
            return None
    broken = value.is_floating_point() or value.is_complex() or value.dtype == torch.bool
    return None if broken else value


def _log_probs(
    logits: Float[Tensor, "world batch read d_vocab"], tokens: Int[Tensor, "batch read"]
) -> Float[Tensor, "world batch read"]:
    """Of these tokens."""
    index = tokens.to(logits.device)[None, ..., None].expand(*logits.shape[:3], 1)
    return (logits.gather(-1, index) - logits.logsumexp(-1, keepdim=True))[..., 0]
