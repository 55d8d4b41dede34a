"""Mean ablation by a dataset's means is that by the prompts that the dataset was made from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from interp import InputError
from interp.harvest import ActivationDataset, CorpusSettings, harvest
from interp.harvest.manifest import HookSpec
from interp.interventions import Mean, Place, Reference, applied, mean_reference
from tests.interp.harvest.written import write_dataset

HOOKS = ("blocks.0.attn.hook_z", "blocks.1.hook_resid_pre")


@pytest.fixture(scope="module")
def made(make_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("means")
    model = make_model(dtype="float64")
    prompts = torch.randint(31, (12, 7), generator=torch.Generator().manual_seed(0))
    with (folder / "corpus.jsonl").open("w") as file:
        file.writelines(json.dumps({"ids": row}) + "\n" for row in prompts.tolist())
    corpus = CorpusSettings(
        files=(str(folder / "corpus.jsonl"),), column="ids", length=7, separator="none"
    )
    data = {
        names: harvest(
            model, corpus, HOOKS, folder / f"set{len(names)}", shard_tokens=21, statistics=names
        )
        for names in ((), ("moments",))
    }
    return model, prompts, data


@pytest.mark.parametrize("statistics", [(), ("moments",)])
@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("place", [Place("z", layers=0, heads=1), "blocks.1.hook_resid_pre"])
def test_the_mean_over_direct_runs(
    made: Any, assert_close: Any, place: Any, pooled: bool, statistics: tuple[str, ...]
) -> None:
    model, prompts, data = made
    tokens = torch.randint(31, (3, 5), generator=torch.Generator().manual_seed(1))
    reference = mean_reference(data[statistics], by_position=not pooled)
    outputs = []
    for each in (reference, Reference(prompts)):
        with torch.no_grad(), applied(model, [Mean(place, each, pooled)]):
            outputs.append(model(tokens))
    assert_close(outputs[0], outputs[1])
    with torch.no_grad():
        assert not torch.allclose(outputs[0], model(tokens))


def test_positions_of_one_sequence_need_the_mean_of_each(made: Any) -> None:
    model, _, data = made
    with (
        pytest.raises(InputError, match="must be as long as the run: 4 tokens"),
        applied(model, [Mean(HOOKS[1], mean_reference(data[()]))]),
    ):
        model(torch.zeros(1, 4, dtype=torch.long))


def test_refusals(made: Any, tmp_path: Path) -> None:
    model, _, _ = made
    (tmp_path / "corpus.jsonl").write_text('{"ids": [1, 2, 3, 4, 5, 6]}\n')
    corpus = CorpusSettings(
        files=(str(tmp_path / "corpus.jsonl"),), column="ids", length=6, separator="none"
    )
    some = harvest(model, corpus, HOOKS, tmp_path / "some", positions=[1, 3, 4])
    with pytest.raises(InputError, match=r"every position must have rows .* has none at 0, 2\."):
        mean_reference(some, by_position=True)
    pairs = harvest(model, corpus, "blocks.0.attn.hook_pattern", tmp_path / "pairs")
    with pytest.raises(InputError, match="are for hooks with values for each token"):
        mean_reference(pairs)


@pytest.mark.parametrize("by_position", [False, True])
def test_rows_that_are_not_finite_have_no_mean(tmp_path: Path, by_position: bool) -> None:
    at = torch.tensor([3])
    written = write_dataset(
        tmp_path / "set", {"h": HookSpec((2,), torch.float32)}, [5],
        lambda hook, x: x.index_fill(0, at, float("nan")),
    )  # fmt: skip
    data = ActivationDataset(written.out)
    data.rows.__dict__["column"] = lambda name: torch.arange(5)  # each row is a position
    with pytest.raises(InputError, match=r"need finite rows\. .* has NaN or infinity at 'h'"):
        mean_reference(data, by_position=by_position)
