"""What a next-token loss is taken of, checked."""

from __future__ import annotations

from torch import Tensor

from interp.errors import InputError
from interp.tokenization.token_ids import WHOLE_DTYPES


def check_loss_inputs(logits: object, tokens: object, attention_mask: object) -> None:
    """Raise `InputError` unless these are tensors that fit together; values are not looked at."""
    if not isinstance(logits, Tensor) or not logits.is_floating_point() or logits.ndim != 3:
        raise InputError(f"logits must be [batch, pos, d_vocab_out]. Received {_told(logits)}.")
    shape = tuple(logits.shape[:2])
    if (
        not isinstance(tokens, Tensor)
        or tokens.dtype not in WHOLE_DTYPES
        or tuple(tokens.shape) != shape
    ):
        raise InputError(
            f"tokens must be a tensor of whole numbers {shape}, one for each place of the logits. "
            f"Received {_told(tokens)}."
        )
    if attention_mask is None:
        return
    if not isinstance(attention_mask, Tensor) or tuple(attention_mask.shape) != shape:
        raise InputError(
            f"attention_mask must be [batch, pos] = {shape}. Received {_told(attention_mask)}."
        )


def _told(x: object) -> str:
    return f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
