import json
import random

import pytest
import torch

pytest.importorskip("seaborn", reason="needs the extra 'plots'")

from interp.harvest import ActivationDataset
from interp.harvest.journal import JOURNAL


@pytest.fixture
def request_(tmp_path, make_model):
    """The arguments of a small harvest of documents that are tokens."""
    chance = random.Random(0)
    rows = [{"ids": [chance.randrange(31) for _ in range(20)]} for _ in range(8)]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    make_model().save(tmp_path / "model")
    return [
        "harvest", "--model", tmp_path / "model", "--data", tmp_path / "d.jsonl", "--column", "ids",
        "--hooks", "blocks.*.hook_resid_post", "--hooks", "blocks.0.attn.hook_z",
        "--length", 16, "--out", tmp_path / "out",
    ]  # fmt: skip


def test_a_dataset_is_made_and_told(call, request_, tmp_path):
    options = ["--dtype", "float16", "--positions", "0,3", "--shard-tokens", 64, "--layout",
               "padded", "--statistics", "moments"]  # fmt: skip
    code, out, err = call(*request_, *options, "--json")
    told = json.loads(out)
    assert (code, err) == (0, "")
    data = ActivationDataset(tmp_path / "out")
    hooks = ["blocks.0.attn.hook_z", "blocks.0.hook_resid_post", "blocks.1.hook_resid_post"]
    assert told["hooks"] == list(data.hooks) == hooks
    assert told["rows"] == len(data) == 16  # two positions of eight documents
    assert told["tokens"] == 8 * 16 and told["documents"] == 8
    assert told["shards"] == told["shards_made_now"] == data.manifest.n_shards == 2
    assert told["bytes"] > 0 and told["same_bits_promised"] is True
    assert data.read([0])["blocks.0.attn.hook_z"].dtype == torch.float16
    assert data.manifest.settings.statistics == ("moments",)
    again = json.loads(call(*request_, *options, "--json")[1])
    assert again["shards_made_now"] == 0 and again["tokens_per_second"] == 0


def test_the_same_command_goes_on_and_another_is_refused(call, request_, tmp_path):
    code, out, _ = call(*request_, "--shard-tokens", 32)
    assert code == 0 and "same bits promised" in out and "yes" in out
    journal = tmp_path / "out" / JOURNAL
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:-2]))
    code, out, _ = call(*request_, "--shard-tokens", 32, "--json")
    assert (code, json.loads(out)["shards_made_now"]) == (0, 2)
    code, _, err = call(*request_, "--shard-tokens", 48)
    assert code == 2 and "shard_tokens" in err and err.count("\n") == 1


def test_damaged_shards_are_made_again(call, request_, tmp_path):
    call(*request_, "--shard-tokens", 32)
    file = tmp_path / "out" / "shards" / "00001.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    code, out, _ = call(*request_, "--shard-tokens", 32, "--verify", "--json")
    assert (code, json.loads(out)["shards_made_now"]) == (0, 1)
    assert file.read_bytes() == whole


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--positions", "first"], "positions must be 'all', 'last'"),
        (["--positions", "1;2"], "--positions takes all, last"),
        (["--sample", "half"], "--sample takes a part or a whole number, got 'half'"),
        (["--sample", "1.5"], "sample must be a fraction"),
        (["--hooks", "blocks.9.*"], "blocks.9.*"),
        (["--engine", "dask"], "unknown engine 'dask'"),
        (["--workers", "2"], "the local engine is one worker"),
        (["--statistics", "mode"], "unknown"),
        (["--incomplete", "keep"], "incomplete"),
        (["--overlong", "drop"], "overlong"),
        (["--separator", "eos"], "separator"),
    ],
)
def test_bad_requests_exit_2_with_one_line(call, request_, tmp_path, options, message):
    code, out, err = call(*request_, *options)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and message in err and err.count("\n") == 1
    assert not (tmp_path / "out" / "shards").exists()
