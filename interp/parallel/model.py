"""A model that several processes share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.experimental import implicit_replication

from interp import saving
from interp.config import HookedTransformerConfig
from interp.errors import InputError
from interp.initialisation import fill_constants
from interp.parallel.attention import spread_attention
from interp.parallel.axes import check_divisible, config_of_part
from interp.parallel.hooks import CheckedHookPoint, check_alike
from interp.parallel.mlp import spread_mlp
from interp.parallel.ranks import Ranks
from interp.parallel.sublayer import give_memory
from interp.run.arguments import Reading
from interp.transformer import HookedTransformer


class TensorParallelTransformer(HookedTransformer):
    """A `HookedTransformer` of which each process holds a share of the heads and neurons.

    Every process runs the same script on the same input, and all get the same results. Hooks see
    and edit whole tensors: where one is attached, what the processes hold is gathered for it; where
    none is, two sums over ranks a layer are all that is sent.

    A hook must do the same on every rank. One that draws random numbers, or looks at the rank,
    sends the ranks apart: seed what it draws with, and find what differs with `check_replicas`. One
    that raises an error on one rank alone leaves the others waiting, until `torchrun` ends them.

    Weights read as attributes (`model.W_Q`, `model.blocks[0].attn.W_O`) are whole, gathered anew
    each time, by every rank at once; writing into them changes nothing. `named_parameters` and
    `state_dict` hold a `DTensor` for each weight that is shared out.

    Attributes:
        ranks: The processes that share it.
        checks_replicas: Whether hooked tensors and inputs are compared between them.
    """

    ranks: Ranks
    checks_replicas: bool

    @classmethod
    def _unfilled(
        cls,
        cfg: HookedTransformerConfig,
        tokenizer: Any,
        ranks: Ranks,
        check_replicas: bool = False,
    ) -> TensorParallelTransformer:
        """One with memory for this rank's weights, which hold nothing yet.

        Raises:
            InputError: for a model that so many ranks cannot share.
        """
        check_divisible(cfg, ranks.size)
        # A model without memory first: the whole might fit nowhere.
        model = cls(cfg.replace(device="meta", init_weights=False), tokenizer).eval()
        model.ranks, model.checks_replicas = ranks, check_replicas
        part = config_of_part(cfg.replace(device=ranks.device, init_weights=False), ranks.size)
        for stack, layer, block in model._blocks():
            spread_attention(block.attn, part, layer, ranks, stack.pos_embed)
            if block.crosses:
                spread_attention(block.cross_attn, part, layer, ranks, None)
            if not cfg.attn_only:
                spread_mlp(block.mlp, part, ranks)
        give_memory(model, ranks.device)
        fill_constants(model)  # what a file may not tell
        model.cfg.init_weights, model.cfg.device = cfg.init_weights, ranks.device
        model.setup()
        if check_replicas:
            for point in model.hook_dict.values():
                point.__class__ = CheckedHookPoint
                point.ranks = ranks  # type: ignore[attr-defined]
        return model

    def _blocks(self) -> Iterator[tuple[Any, int, Any]]:
        both = self.cfg.architecture == "encoder-decoder"
        for stack in (self.encoder, self.decoder) if both else (self,):
            for layer, block in enumerate(stack.blocks):
                yield stack, layer, block

    def _compute(self, reading: Reading, *args: Any, **kwargs: Any) -> Any:
        """The rest of `forward`; with `checks_replicas` the input is compared first."""
        if self.checks_replicas:
            for x in (reading.given.tokens, reading.given.residual):
                if x is not None:
                    check_alike(x, self.ranks, "the input")
        return super()._compute(reading, *args, **kwargs)

    def _agreed(self, n_bytes: int) -> int:
        """The least of the ranks' budgets: all cut their work into the same batches."""
        return self.ranks.least(n_bytes)

    # --- generating ------------------------------------------------------------------------------

    def generate(self, *args: Any, **options: Any) -> Any:
        """`HookedTransformer.generate`; without a seed or generator, all ranks draw alike."""
        return super().generate(*args, **self._drawing_alike(options))

    def generate_stream(self, *args: Any, **options: Any) -> Any:
        """`HookedTransformer.generate_stream`, likewise."""
        return super().generate_stream(*args, **self._drawing_alike(options))

    def generate_with_cache(self, *args: Any, **options: Any) -> Any:
        """`HookedTransformer.generate_with_cache`, likewise."""
        return super().generate_with_cache(*args, **self._drawing_alike(options))

    def _drawing_alike(self, options: dict[str, Any]) -> dict[str, Any]:
        if options.get("seed") is not None or options.get("generator") is not None:
            return options
        drawn = torch.randint(2**48, (1,)).to(self.ranks.device)
        return {**options, "seed": int(self.ranks.of_first(drawn))}

    # --- weights ---------------------------------------------------------------------------------

    @torch.no_grad()
    def gathered(
        self, device: torch.device | str = "cpu", on_rank: int | None = None
    ) -> HookedTransformer | None:
        """An ordinary model with all weights. Every rank must call it.

        Args:
            device: Where it is made. One weight at a time is whole where this model computes.
            on_rank: Only there; None is what the others get. None: on every rank.
        """
        here = on_rank in (None, self.ranks.rank)
        model = None
        if here:
            cfg = self.cfg.replace(device=device)
            model = HookedTransformer.uninitialised(cfg, self.tokenizer)
        targets = {} if model is None else model.state_dict(keep_vars=True)
        for name, weight in self.state_dict().items():
            whole = weight.full_tensor() if isinstance(weight, DTensor) else weight
            if here:
                targets[name].copy_(whole)
        return model

    def save(self, directory: str | Path) -> Path:
        """Write it as an ordinary model, from the first rank. Every rank must call it.

        Raises:
            InputError: where the first rank could not write it; there it is its own error.
        """
        model = self.gathered(on_rank=0)
        fault: Exception | None = None
        if model is not None:
            try:
                saving.save(model, directory)
            except Exception as found:  # raised below, when the others know
                fault = found
        if self.ranks.any(fault is not None):
            raise fault or InputError(f"the first rank could not write {directory}.")
        return Path(directory)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load whole weights, the same on every rank, or `DTensor`s of this model's.

        Raises:
            InputError: for `assign=True`.
        """
        if assign:
            raise InputError("weights that are spread over ranks are written into: assign=False.")
        with implicit_replication():
            return super().load_state_dict(state_dict, strict)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._refuse("moved or converted", "choose device and dtype where it is made")

    def to_devices(self, *args: Any, **kwargs: Any) -> HookedTransformer:
        """Refused: its parts lie on the ranks' devices.

        Raises:
            InputError: always.
        """
        self._refuse("moved", "spread model.gathered()")

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        self._refuse("copied or pickled", "copy model.gathered()")

    @classmethod
    def uninitialised(cls, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: what is made of a config alone knows no ranks.

        Raises:
            InputError: always.
        """
        raise InputError(
            "a model that is spread over ranks is made by tensor_parallel or load_tensor_parallel."
        )

    def compile(self, *args: Any, **kwargs: Any) -> Any:
        """Refused: compiled programs are of one process.

        Raises:
            InputError: always.
        """
        self._refuse("compiled", "compile model.gathered()")

    def process_weights(self, *args: Any, **kwargs: Any) -> HookedTransformer:
        """Refused: weights are processed before they are spread.

        Raises:
            InputError: always.
        """
        self._refuse("processed", "process the weights first, or those of model.gathered()")

    def _refuse(self, what: str, instead: str) -> NoReturn:
        raise InputError(f"a model that is spread over ranks cannot be {what}: {instead}.")


@torch.no_grad()
def fill(model: TensorParallelTransformer, weights: Mapping[str, Float[Tensor, "..."]]) -> None:
    """Write whole weights by name; each rank takes its part."""
    with implicit_replication():
        for name, target in model.state_dict(keep_vars=True).items():
            target.copy_(weights[name])
