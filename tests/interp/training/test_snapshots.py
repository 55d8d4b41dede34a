import pytest
import torch
from safetensors.torch import load_file

from interp import InputError
from interp.training import Snapshots, snapshot_path, snapshot_steps, train


def test_chosen_steps_are_kept_in_half_precision(task, settings, tmp_path):
    model = task.model()
    start = model[0].weight.detach().clone()
    train(model, task.batch, task.loss, settings, callbacks=[Snapshots(tmp_path, [0, 12, 30, 99])])
    assert snapshot_steps(tmp_path) == [0, 12, 30]
    kept = {step: load_file(snapshot_path(tmp_path, step)) for step in (0, 12, 30)}
    assert set(kept[0]) == set(model.state_dict())
    assert torch.equal(kept[0]["0.weight"], start.half())
    assert torch.equal(kept[30]["0.weight"], model[0].weight.half())
    assert not torch.equal(kept[0]["0.weight"], kept[12]["0.weight"])


def test_negative_steps_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"must not be negative. Received -1"):
        Snapshots(tmp_path, [0, -1])
