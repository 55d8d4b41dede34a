"""What a result was made from, so that it can be made again."""

import functools
import importlib.metadata
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

if TYPE_CHECKING:
    import torch

# Besides interp, python and torch: recorded when the process has imported them.
_OTHERS = (
    "numpy",
    "pandas",
    "transformers",
    "tokenizers",
    "safetensors",
    "sklearn",
    "matplotlib",
    "seaborn",
    "plotly",
    "triton",
    "ray",
)


class Provenance(BaseModel):
    """The model, the input, the settings and the machine behind a result.

    Attributes:
        model: The model's name; None for an analysis that needs no model.
        weight_processing: What was done to the weights after loading.
        weight_hash: SHA-256 of the weights, in hex; None without a model.
        beside: The same hash of each other model that was looked at, by the name it was opened by.
        tokens: The token ids of each input row, where the analysis has an input.
        str_tokens: The text of each of those tokens.
        parameters: Every parameter of the run, defaults included; of a grid, those that all of its
            runs share.
        grid: Of a grid, what `analyses.run_grid` was called with; None for a single run.
        interventions: A line for each intervention that was on the model.
        interventions_json: The same to be read back with `Interventions.from_json`.
        seed: The seed of every random choice; None where there was none.
        versions: Versions of interp, Python, torch and the other libraries that were imported.
        device: Where the model ran, with the name of the GPU.
        dtype: The model's number format, such as `float32`.
        seconds: Wall-clock time of the analysis, without loading the model.
        created: When the result was made, in UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    model: str | None = None
    weight_processing: list[str] = Field(default_factory=list)
    weight_hash: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    beside: dict[str, str] = Field(default_factory=dict)
    tokens: list[list[int]] | None = None
    str_tokens: list[list[str]] | None = None
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    grid: dict[str, JsonValue] | None = None
    interventions: list[str] = Field(default_factory=list)
    interventions_json: str | None = None
    seed: int | None = None
    versions: dict[str, str]
    device: str
    dtype: str | None = None
    seconds: float = Field(default=0.0, ge=0.0)
    created: AwareDatetime


def collect(
    model: Any = None,
    *,
    tokens: Sequence[Sequence[int]] | None = None,
    str_tokens: Sequence[Sequence[str]] | None = None,
    parameters: Mapping[str, Any] | None = None,
    seed: int | None = None,
) -> Provenance:
    """Record what is known while an analysis runs; the runner adds the seconds afterwards.

    Args:
        model: The `HookedTransformer` that was analysed, or None.
        tokens: Token ids, one row for each input; a 2-d integer tensor's `tolist()` fits.
        str_tokens: The same tokens as text.
        parameters: The settings of the run, as JSON values.
        seed: The seed of its random choices.
    """
    import torch

    known: dict[str, Any] = {"device": device_name(torch.device("cpu"))}
    if model is not None:
        from interp.weights import weight_hash

        known = {
            "model": model.cfg.model_name,
            "weight_processing": list(getattr(model.cfg, "weight_processing", ())),
            "weight_hash": weight_hash(model),
            "device": device_name(torch.device(model.cfg.device)),
            "dtype": str(model.cfg.dtype).removeprefix("torch."),
        }
    return Provenance(
        **known,
        tokens=None if tokens is None else [list(row) for row in tokens],
        str_tokens=None if str_tokens is None else [list(row) for row in str_tokens],
        parameters=dict(parameters or {}),
        seed=seed,
        versions=versions(),
        created=datetime.now(UTC),
    )


def versions() -> dict[str, str]:
    """Versions of interp, Python, torch, and of the libraries imported so far."""
    found = {
        "interp": _version("interp"),
        "python": platform.python_version(),
        "torch": _version("torch"),
    }
    for module in _OTHERS:
        if module in sys.modules:
            found[module] = _version({"sklearn": "scikit-learn"}.get(module, module))
    return found


def device_name(device: "torch.device") -> str:
    """The device with, on CUDA, the name of the GPU: `cuda:0 (NVIDIA H200)`."""
    import torch

    if device.type != "cuda":
        return str(device)
    return f"{device} ({torch.cuda.get_device_name(device)})"


@functools.cache  # each reads a file, and a grid asks for each of its cells
def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"  # run from a checkout: the record says so
