"""A model whose runs are compiled, one program for each form of input."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from inspect import signature
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from interp.cache import ActivationCache
from interp.compiled.packing import pack, plain
from interp.compiled.patch import Patch, PatchSite, check_range
from interp.compiled.program import Fixed, Program
from interp.compiled.weights import Weights
from interp.devices.placement import require_one_device
from interp.errors import InputError, require, require_one_of, require_whole
from interp.root import FwdHooks, NamesFilter, is_glob
from interp.rotary_scaling import RotaryScaling
from interp.run.arguments import Reading, ReturnType, Wanted, read
from interp.run.inputs import RunInput

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

Mode = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]
_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
_WITH_CUDA_GRAPHS = ("reduce-overhead", "max-autotune")

# What of a config may change while a model is in use and changes what it computes.
_SETTINGS = (
    "ungroup_grouped_query_attention",
    "can_fuse_attention",
    "attn_scores_soft_cap",
    "output_logits_soft_cap",
    "window_size",
)
_settings = attrgetter(*_SETTINGS)

# In `forward`'s order.
_ARGUMENTS = tuple(name for name in signature(read).parameters if name != "model")


class _Form(NamedTuple):
    """What a program is compiled for: another form is another program."""

    inputs: tuple[tuple[str, torch.Size, torch.dtype], ...]
    records: bool
    wanted: Wanted
    settings: tuple[Any, ...]
    n_threads: int

    def described(self) -> dict[str, str]:
        """Its parts, in words."""
        parts = {name: f"{list(shape)} {dtype}" for name, shape, dtype in self.inputs}
        wanted = {f.name: repr(getattr(self.wanted, f.name)) for f in fields(self.wanted)}
        settings = dict(zip(_SETTINGS, map(repr, self.settings), strict=True))
        threads = {"torch.get_num_threads()": str(self.n_threads)}
        return parts | {"recording": str(self.records)} | wanted | settings | threads


class _Compiled(NamedTuple):
    program: Program
    run: Callable[..., list[Tensor]]


class CompiledModel:
    """What `HookedTransformer.compile` gives.

    Attributes:
        model: The model itself, which stays as it is.
        names: The hooks that `run_with_cache` records.
        n_graphs: How many programs have been compiled so far, those included that were dropped
            because weights were replaced. `max_graphs` limits those that are there.
        shapes: Of each program that is there: the shapes of its inputs by name.
    """

    def __init__(
        self,
        model: HookedTransformer,
        names_filter: NamesFilter = (),
        fwd_hooks: FwdHooks = (),
        patch: str | None = None,
        mode: Mode = "default",
        backend: str | Callable[..., Any] = "inductor",
        max_graphs: int = 8,
        reuse_outputs: bool = False,
    ) -> None:
        require_one_device(model, "a compiled model")
        require_one_of("mode", mode, _MODES)
        require(
            mode == "default" or backend == "inductor",
            f"mode is for the backend inductor. Received {mode!r} for {backend!r}",
        )
        require_whole("max_graphs", max_graphs, 1)
        if isinstance(names_filter, Iterable) and not isinstance(names_filter, str):
            names_filter = list(names_filter)
        self.model = model
        self.mode, self.backend, self.max_graphs = mode, backend, max_graphs
        self.reuse_outputs = reuse_outputs
        hooks = [(name, fn) for names, fn in fwd_hooks for name in model.match_hooks(names)]
        for name, fn in hooks:
            require(callable(fn), f"a hook must be callable. {name} received {fn!r}")
        listed = [names_filter] if isinstance(names_filter, str) else names_filter
        exact = [n for n in listed if not is_glob(n)] if isinstance(listed, list) else []
        asked, names = model.match_hooks(exact), model.match_hooks(names_filter)
        site = None if patch is None else PatchSite(model, patch)
        self._fixed = Fixed(names, asked, hooks, site)
        self._compiled: dict[_Form, _Compiled] = {}
        self.n_graphs = 0
        self._weights = Weights(model)
        self._refuse_hooks()

    @property
    def names(self) -> list[str]:
        """The hooks that `run_with_cache` records."""
        return list(self._fixed.names)

    @property
    def shapes(self) -> list[dict[str, tuple[int, ...]]]:
        """Of each program that is there: the shapes of its inputs by name."""
        return [{n: tuple(shape) for n, shape, _ in form.inputs} for form in self._compiled]

    def __call__(
        self,
        input: Any = None,
        return_type: ReturnType = "logits",
        *args: Any,
        patch: Patch | None = None,
        **kwargs: Any,
    ) -> Any:
        """What the model's `forward` gives, with the hooks that were compiled in.

        Args:
            input, return_type, *args, **kwargs: As in `forward`; `past_kv_cache` is not for
                compiled runs.
            patch: What to change in which row.

        Raises:
            InputError: as `forward`; for a patch that does not fit; for a model with hooks of its
                own; for an option that compiled runs do not have; for one form of input more than
                `max_graphs`.
        """
        return self._run(False, patch, (input, return_type, *args), kwargs)[0]

    def run_with_cache(
        self,
        input: Any = None,
        return_type: ReturnType = "logits",
        *args: Any,
        patch: Patch | None = None,
        return_cache_object: bool = True,
        remove_batch_dim: bool = False,
        **kwargs: Any,
    ) -> tuple[Any, Any]:
        """The same, and an `ActivationCache` of the names that were compiled in.

        Records are kept as they are and where they are. What they take is not compared with the
        memory that is left, as `HookedTransformer.run_with_cache` does before a run.

        Raises:
            InputError: as a call, and for a name that is not reached in this run.
        """
        output, records = self._run(True, patch, (input, return_type, *args), kwargs)
        cache = ActivationCache(records, self.model)
        if remove_batch_dim:
            cache.remove_batch_dim()
        return output, cache if return_cache_object else cache.cache_dict

    def _run(
        self,
        records: bool,
        patch: Patch | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[Any, dict[str, Tensor]]:
        _check_arguments(args, kwargs)
        self._refuse_hooks()
        if not self._weights.are_still_there():
            self._compiled.clear()
            self._weights = Weights(self.model)
        # The caller's mode is none of the program's forms.
        with torch.inference_mode(False), torch.no_grad():
            reading, wanted = read(self.model, *args, **kwargs)
            self._check_length(reading)
            packed = pack(reading, self.model.W_E.device)
            if wanted.return_type in ("loss", "both") and not wanted.residual:
                of_loss = packed["given.tokens" if "given.tokens" in packed else "loss_tokens"]
                self.model._check_loss_tokens(of_loss)
            indices = self._pack_patch(patch, packed)
            packed |= {n: plain(x.to(self.model.W_E.device)) for n, x in indices.items()}
            compiled = self._compiled_for(records and bool(self.names), wanted, packed)
            check_range(indices, compiled.program.extent)
            inputs = list(packed.values())
            made = compiled.run(*inputs)
            return compiled.program.result(inputs, made)

    def _check_length(self, reading: Reading) -> None:
        scaling = self.model.cfg.rotary_scaling
        if not isinstance(scaling, RotaryScaling) or not scaling.depends_on_length:
            return
        longest = max(x.n_keys for x in (reading.given, reading.source) if isinstance(x, RunInput))
        require(
            longest <= scaling.original_n_ctx,
            "with dynamic rotary scaling a text longer than original_n_ctx "
            f"({scaling.original_n_ctx}) turns by its length, which a compiled run does not look "
            f"at. Received {longest} tokens",
        )

    def _pack_patch(self, patch: Patch | None, packed: dict[str, Tensor]) -> dict[str, Tensor]:
        if patch is None:
            return {}
        if self._fixed.site is None:
            raise InputError("a patch needs a model that was compiled with patch=<hook>.")
        read = packed["given.tokens" if "given.tokens" in packed else "given.residual"]
        return self._fixed.site.pack(patch, read.shape[0])

    def _compiled_for(self, records: bool, wanted: Wanted, packed: dict[str, Tensor]) -> _Compiled:
        inputs = tuple((name, x.shape, x.dtype) for name, x in packed.items())
        settings = _settings(self.model.cfg)
        form = _Form(inputs, records, wanted, settings, torch.get_num_threads())
        compiled = self._compiled.get(form)
        if compiled is not None and compiled.program.is_current:
            return compiled
        self._compiled = {f: c for f, c in self._compiled.items() if c.program.is_current}
        if len(self._compiled) >= self.max_graphs:
            *seen, new = _differences([*self._compiled, form])
            raise InputError(
                f"there would be more than max_graphs ({self.max_graphs}) programs, one for each "
                f"form of input. What differs: {'; '.join(seen)}. Received {new}."
            )
        program = Program(self.model, self._fixed, records, wanted, packed)
        compiled = self._compiled[form] = _Compiled(program, self._compile(program))
        self.n_graphs += 1
        return compiled

    def _compile(self, program: Program) -> Callable[..., list[Tensor]]:
        run: Any = torch.compile(
            program.graph,
            fullgraph=True,
            dynamic=False,
            backend=self.backend,
            mode=None if self.mode == "default" else self.mode,
        )
        of_cuda_graph = self.mode in _WITH_CUDA_GRAPHS and self.model.W_E.device.type == "cuda"
        if not of_cuda_graph:
            return run

        def replay(*inputs: Tensor) -> list[Tensor]:
            torch.compiler.cudagraph_mark_step_begin()
            made = run(*inputs)
            return made if self.reuse_outputs else [x.clone() for x in made]

        return replay

    def _refuse_hooks(self) -> None:
        """A compiled run would pass them by."""
        watched, _ = self.model.watched_hooks()
        if watched:
            raise InputError(
                "the model has hooks or recorders that a compiled run would pass by: remove them "
                f"(reset_hooks) and give them to compile(). Found on {', '.join(sorted(watched))}."
            )
        self._weights.refuse_torch_hooks()
        device = self.model.W_E.device.type
        if torch.is_autocast_enabled(device):
            raise InputError(
                "a compiled run computes in the model's own dtype: use model.to(dtype), not "
                "torch.autocast."
            )


def _check_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise `InputError` for what a compiled run does not take."""
    named = dict(zip(_ARGUMENTS, args, strict=False)) | kwargs
    if named.get("past_kv_cache") is not None:
        raise InputError("a compiled run takes no past_kv_cache: give it the whole text.")
    foreign = [name for name in kwargs if name not in _ARGUMENTS]
    require(
        not foreign,
        "a compiled run takes what forward takes, patch, return_cache_object and remove_batch_dim: "
        "what is recorded is fixed in compile(), and is kept whole, in its dtype and where it is. "
        f"Received {', '.join(foreign)}",
    )


def _differences(forms: list[_Form]) -> list[str]:
    """Each in words, without what they have in common."""
    described = [form.described() for form in forms]
    names = dict.fromkeys(name for each in described for name in each)
    differ = [name for name in names if len({each.get(name) for each in described}) > 1]
    return [", ".join(f"{n} {each[n]}" for n in differ if n in each) for each in described]
