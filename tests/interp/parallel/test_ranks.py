"""What one process can say about ranks by itself."""

from __future__ import annotations

import pytest
import torch

from interp.errors import InputError
from interp.parallel import Ranks, load_tensor_parallel, tensor_parallel


@pytest.fixture(autouse=True)
def started_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("mesh", [None, 2])
def test_a_process_alone_is_told_how_to_start(mesh, make_model) -> None:
    with pytest.raises(InputError, match=r"torchrun --nproc-per-node .*RANK"):
        tensor_parallel(make_model(), mesh)
    with pytest.raises(InputError, match="torchrun"):
        load_tensor_parallel("zoo:induction", mesh)


@pytest.mark.parametrize("mesh", [0, -1, 1.0, True, "cpu"])
def test_a_mesh_is_a_mesh_or_a_number(mesh) -> None:
    with pytest.raises(InputError, match="whole number of processes or None"):
        Ranks.of(mesh)


def test_the_number_of_processes_is_torchruns(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "4", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=r"is 4\. Received 2.*nproc-per-node 2"):
        Ranks.of(2)


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("interp.parallel.ranks.default_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match=r"GPU of its own\. There are 1; this is process 1"):
        Ranks.of(None)
