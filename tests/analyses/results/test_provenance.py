import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError

from analyses.results.provenance import Provenance, collect, device_name, versions


def test_without_a_model():
    record = collect(parameters={"n": 3}, seed=5, tokens=torch.tensor([[1, 2]]).tolist())
    assert (record.model, record.weight_hash, record.dtype) == (None, None, None)
    assert (record.parameters, record.seed, record.tokens) == ({"n": 3}, 5, [[1, 2]])
    assert record.device == "cpu"
    assert datetime.now(UTC) - record.created < timedelta(minutes=1)


def test_with_a_model(monkeypatch):
    weights = SimpleNamespace(weight_hash=lambda model: "ab" * 32)
    monkeypatch.setitem(sys.modules, "interp.weights", weights)
    cfg = SimpleNamespace(model_name="zoo:x", dtype=torch.bfloat16, device="cpu")
    record = collect(SimpleNamespace(cfg=cfg))
    assert (record.model, record.weight_hash) == ("zoo:x", "ab" * 32)
    assert (record.device, record.dtype) == ("cpu", "bfloat16")


def test_versions_name_what_was_imported():
    found = versions()
    assert found["torch"] == torch.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "pandas" in found and ("ray" in found) == ("ray" in sys.modules)


def test_gpu_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Great GPU")
    assert device_name(torch.device("cuda", 1)) == "cuda:1 (Great GPU)"


def test_time_is_written_in_utc():
    text = collect().model_dump_json()
    assert Provenance.model_validate_json(text).created.utcoffset() == timedelta(0)
    assert '"created":"20' in text and 'Z"' in text


def test_a_weight_hash_is_a_sha256():
    with pytest.raises(ValidationError, match="weight_hash"):
        Provenance(weight_hash="abc", versions={}, device="cpu", created=datetime.now(UTC))
