"""The real `snapshot_download`, on a hub cache made here and with the network off."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import interp
from interp import HookedTransformer, InputError, load_model

constants = pytest.importorskip("huggingface_hub.constants", reason="needs the extra 'hf'")

MAIN, OTHER = "a" * 40, "b" * 40


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hf_gpt2: Any) -> dict[str, Any]:
    """`me/tiny` with two revisions and `solo`, which has one; the models by revision."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    models = {MAIN: hf_gpt2(n_layer=1), OTHER: hf_gpt2(n_layer=2, n_embd=12)}
    for name, revisions in (("me--tiny", models), ("solo", {MAIN: models[MAIN]})):
        repo = tmp_path / f"models--{name}"
        (repo / "refs").mkdir(parents=True)
        (repo / "refs" / "main").write_text(MAIN)
        (repo / "refs" / "v2").write_text(OTHER)
        for sha, model in revisions.items():
            model.save_pretrained(repo / "snapshots" / sha)
    return models


def _logits(model: Any) -> torch.Tensor:
    tokens = torch.tensor([[1, 2, 3]])
    out = model(tokens)
    return out if isinstance(out, torch.Tensor) else out.logits


@pytest.mark.parametrize(
    ("name", "revision", "sha"),
    [
        ("me/tiny", None, MAIN),
        ("me/tiny", "main", MAIN),
        ("me/tiny", "v2", OTHER),
        ("me/tiny", OTHER, OTHER),
        ("solo", None, MAIN),
    ],
)
def test_cached_model(
    name: str,
    revision: str | None,
    sha: str,
    cached: dict[str, Any],
    assert_close: Callable[..., None],
) -> None:
    model = load_model(name, revision=revision)
    assert model.cfg.model_name == name
    assert_close(_logits(model), _logits(cached[sha]))


def test_from_pretrained_takes_a_revision(
    cached: dict[str, Any], assert_close: Callable[..., None]
) -> None:
    model = HookedTransformer.from_pretrained_no_processing("me/tiny", revision="v2")
    assert_close(_logits(model), _logits(cached[OTHER]))


@pytest.mark.parametrize(
    ("name", "revision", "message"),
    [
        ("me/absent", None, "'me/absent' is no directory here, and the hub"),
        ("absent", None, "'absent' is no directory here"),
        ("me/tiny", "v3", "'me/tiny' at revision 'v3'"),
        ("solo", "v2", "'solo' at revision 'v2'"),
        ("me/ti ny", None, "ti ny"),
    ],
)
@pytest.mark.usefixtures("cached")
def test_not_cached(name: str, revision: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_model(name, revision=revision)


def test_cached_pickles_only_when_allowed(cached: dict[str, Any], tmp_path: Path) -> None:
    snapshot = tmp_path / "models--solo" / "snapshots" / MAIN
    (snapshot / "model.safetensors").unlink()
    torch.save(cached[MAIN].state_dict(), snapshot / "pytorch_model.bin")
    with pytest.raises(InputError, match="allow_pickle=True"):
        load_model("solo")
    model = load_model("solo", allow_pickle=True)
    assert torch.equal(model.W_E, cached[MAIN].transformer.wte.weight)


@pytest.mark.usefixtures("cached")
def test_environment_names_the_cache(tmp_path: Path) -> None:
    """As a user has it: a fresh process and the hub's own environment variables."""
    env = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    script = (
        "import interp; m = interp.load_model('me/tiny', revision='v2');"
        "print(m.cfg.d_model, m.cfg.n_layers)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False,
        cwd=Path(interp.__file__).parents[1],
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("12 2\n", 0), done.stderr


def test_a_directory_is_preferred_to_the_hub(
    cached: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    assert_close: Callable[..., None],
) -> None:
    monkeypatch.chdir(tmp_path)
    cached[OTHER].save_pretrained(tmp_path / "solo")
    assert_close(_logits(load_model("solo")), _logits(cached[OTHER]))
    with pytest.raises(InputError, match="revision is for models on the hub"):
        load_model("solo", revision="main")
