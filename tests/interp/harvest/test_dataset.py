"""Datasets on disk against the same rows in memory; loaders, other processes."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, Subset, random_split

from interp import InputError
from interp.harvest import CorpusSettings, harvest, open_shards
from interp.harvest.dataset import ActivationDataset
from interp.harvest.indexing import RowOutOfRange
from interp.harvest.manifest import STORED_DTYPES, HookSpec
from interp.sae import SAEConfig, SAESettings, train_sae
from tests.covering import EXHAUSTIVE, examples
from tests.interp.harvest.written import Written, write_dataset

RESID, HEADS, COUNTS = "blocks.0.hook_resid_post", "blocks.0.attn.hook_z", "hook_tokens"


SPECS = {
    RESID: HookSpec((6,), torch.float32),
    HEADS: HookSpec((2, 3), torch.bfloat16),
    COUNTS: HookSpec((), torch.int64),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write_dataset(tmp_path_factory.mktemp("data") / "set", SPECS, [300, 0, 1, 700, 41])


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return list(found) == list(expected) and all(
        found[name].dtype == x.dtype and torch.equal(found[name], x) for name, x in expected.items()
    )


@settings(max_examples=200 if EXHAUSTIVE else 25, deadline=None)
@given(data=st.data())
def test_rows_are_those_written(data: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    dtypes = st.sampled_from(list(STORED_DTYPES.values()))
    shapes = st.lists(st.integers(1, 3), max_size=3).map(tuple)
    drawn = data.draw(st.lists(st.builds(HookSpec, shapes, dtypes), min_size=1, max_size=3))
    specs = {f"hook_{i}": spec for i, spec in enumerate(drawn)}
    counts = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=5))
    made = write_dataset(tmp_path_factory.mktemp("any") / "set", specs, counts)
    found = ActivationDataset(made.out)
    n = sum(counts)
    assert len(found) == n
    assert found.specs == specs
    several = lambda index: found.read(index)
    for _ in range(8):
        numbers = st.lists(st.integers(-n, n - 1), max_size=12) if n else st.just([])
        some: Any = data.draw(
            st.slices(n)
            | numbers
            | st.lists(st.booleans(), min_size=n, max_size=n).map(
                lambda bits: torch.tensor(bits, dtype=torch.bool)
            )
        )
        at: Any = torch.arange(n).numpy()[some] if isinstance(some, slice) else some
        at = torch.as_tensor(at.copy() if isinstance(some, slice) else at)
        expected = {name: x[at if len(at) else at.long()[:0]] for name, x in made.rows.items()}
        assert same(several(some), expected)
    for row in range(-n, n):
        assert same(
            {name: found.only(name)[row] for name in specs},
            {name: x[row] for name, x in made.rows.items()},
        )


def test_one_hook_gives_tensors_and_several_dicts(written: Written) -> None:
    data = ActivationDataset(written.out)
    assert data.hooks == (RESID, HEADS, COUNTS)
    assert same(data[5], {name: x[5] for name, x in written.rows.items()})
    assert same(data[5:9], {name: x[5:9] for name, x in written.rows.items()})
    one = data.only(RESID)
    assert torch.equal(one[5], written.rows[RESID][5])
    assert torch.equal(one[torch.tensor([3])], written.rows[RESID][[3]])  # keeps its axis
    assert torch.equal(one[torch.tensor(3)], written.rows[RESID][3])
    assert torch.equal(torch.stack(list(one)), written.rows[RESID])  # ends by an IndexError
    assert ActivationDataset(written.out, "blocks.*").hooks == (RESID, HEADS)
    assert data.only([COUNTS, RESID]).hooks == (RESID, COUNTS)
    assert data.only(RESID)._shards is data._shards


@settings(max_examples=examples(20), deadline=None)
@given(
    batch_size=st.integers(1, 400),
    order=st.sampled_from(
        [{"shuffle": False}, {"seed": 3}, {"seed": 3, "epoch": 2, "window": 512}, {"window": 256}]
    ),
    drop_last=st.booleans(),
    first=st.integers(0, 4),
)
def test_batches_are_the_rows_of_the_order(
    written: Written, batch_size: int, order: dict[str, Any], drop_last: bool, first: int
) -> None:
    data = ActivationDataset(written.out).only(["hook_tokens", RESID])
    chosen = {"batch_size": batch_size, "drop_last": drop_last, **order}
    wanted = [written.rows[RESID][rows] for rows in data.order(**chosen)][first:]
    found = [batch[RESID] for batch in data.batches(**chosen, first=first)]
    assert len(found) == len(wanted)
    assert all(map(torch.equal, found, wanted))


def test_loaders(written: Written) -> None:
    data = ActivationDataset(written.out)
    n = len(data)
    for batch, start in zip(DataLoader(data, 100), range(0, n, 100), strict=True):
        assert same(batch, {name: x[start : start + 100] for name, x in written.rows.items()})
    one = data.only(HEADS)
    assert torch.equal(torch.cat(list(DataLoader(one, 64))), written.rows[HEADS])
    shuffled = torch.cat(list(DataLoader(data.only(COUNTS), 64, shuffle=True)))
    assert sorted(shuffled.tolist()) == sorted(written.rows[COUNTS].tolist())
    part, rest = random_split(one, [100, n - 100], torch.Generator().manual_seed(0))
    taken = torch.cat(list(DataLoader(part, 7)))
    assert torch.equal(taken, written.rows[HEADS][part.indices])
    assert len(rest) == n - 100
    assert torch.equal(Subset(one, [4, 1])[1], written.rows[HEADS][1])


_SPAWN = pytest.mark.skipif(
    not EXHAUSTIVE, reason="imports everything in every worker: set INTERP_EXHAUSTIVE=1"
)


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=_SPAWN)])
def test_loaders_in_other_processes(written: Written, start: str) -> None:
    """Each worker maps the files itself; the batches are those of one process."""
    data = ActivationDataset(written.out).only(RESID)
    data[0]
    order = data.order(128, seed=2, window=512)
    loader = DataLoader(
        data, sampler=order, batch_size=None, num_workers=2, multiprocessing_context=start
    )
    assert all(map(torch.equal, loader, data.batches(128, seed=2, window=512)))


def test_pickled_it_is_its_path(written: Written) -> None:
    data = ActivationDataset(written.out, [RESID, COUNTS])
    data[:]
    pickled = pickle.dumps(data)
    assert len(pickled) < 500 + len(str(written.out))
    assert same(pickle.loads(pickled)[:], data[:])


def test_what_is_handed_out_are_copies(written: Written) -> None:
    data = ActivationDataset(written.out).only(RESID)
    before = (written.out / "shards/00000.safetensors").read_bytes()
    shuffled = next(iter(data.batches(8, seed=1)))
    for found in (data[0], data[:4], data[[2, 0]], data[0:300], data[0:301], shuffled):
        found.fill_(7.0)
    assert torch.equal(data[:], written.rows[RESID])
    assert (written.out / "shards/00000.safetensors").read_bytes() == before


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's /proc")
def test_few_maps_and_no_files_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_shards, "MAPS", 3)
    made = write_dataset(tmp_path / "set", {"h": HookSpec((2,), torch.float16)}, [2] * 40)
    files = len(os.listdir("/proc/self/fd"))
    data = ActivationDataset(made.out)
    for row in torch.randperm(80, generator=torch.Generator().manual_seed(0)).tolist():
        assert torch.equal(data[row], made.rows["h"][row])
    assert torch.equal(data[:], made.rows["h"])
    maps = Path("/proc/self/maps").read_text().count(str(made.out))
    assert maps == 3
    assert len(os.listdir("/proc/self/fd")) == files


def test_an_sae_trained_from_disk_is_that_trained_from_memory(tmp_path: Path) -> None:
    made = write_dataset(tmp_path / "set", {"h": HookSpec((6,), torch.float32)}, [50, 60, 70])
    data = ActivationDataset(made.out)
    config = SAEConfig(d_in=6, d_sae=16, kind="topk", k=3)
    how = SAESettings(steps=12, lr=0.01)
    from_disk, history = train_sae(config, data, how, batch_size=32)
    from_memory, expected = train_sae(config, made.rows["h"], how, batch_size=32)
    assert same(dict(from_disk.state_dict()), dict(from_memory.state_dict()))
    assert history.rows == expected.rows
    whole = torch.utils.data.Subset(data, range(180))  # reads many as torch's data sets do
    of_subset, _ = train_sae(config, whole, how, batch_size=32)
    assert same(dict(of_subset.state_dict()), dict(from_memory.state_dict()))
    streamed, _ = train_sae(config, data.batches(12, seed=4), how)
    batches = [made.rows["h"][rows] for rows in data.order(12, seed=4)]
    expected_sae, _ = train_sae(config, iter(batches), how)
    assert same(dict(streamed.state_dict()), dict(expected_sae.state_dict()))


def test_an_sae_is_trained_on_one_hook(written: Written) -> None:
    data = ActivationDataset(written.out)
    rule = r"of one hook, which `only\(hook\)` picks. Received .*, "
    with pytest.raises(InputError, match=rule):
        train_sae(SAEConfig(d_in=6, d_sae=16, kind="topk", k=3), data, SAESettings(steps=1))


def test_unfinished_datasets(tmp_path: Path) -> None:
    made = write_dataset(tmp_path / "set", SPECS, [3, 4, 5, 6], finished=[1, 3])
    with pytest.raises(InputError, match=r"has 2 of 4 shards; missing are 0, 2\. Run the same"):
        ActivationDataset(made.out)
    data = ActivationDataset(made.out, partial=True)
    assert not data.is_complete
    kept = torch.cat([torch.arange(3, 7), torch.arange(12, 18)])
    expected = {name: x[kept] for name, x in made.rows.items()}
    assert same(data[:], expected)
    pickled = pickle.dumps(data)
    (tmp_path / "other").mkdir()
    more = write_dataset(tmp_path / "other" / "set", SPECS, [3, 4, 5, 6])
    lines = (more.out / "journal.jsonl").read_text().splitlines(keepends=True)
    for name in (more.out / "shards").glob("00000*"):
        name.rename(made.out / "shards" / name.name)
    with (made.out / "journal.jsonl").open("a") as file:
        file.write(lines[0])
    assert len(ActivationDataset(made.out, partial=True)) == len(data) + 3
    assert same(pickle.loads(pickled)[:], expected)  # row numbers are what they were


def test_a_dataset_without_a_shard(tmp_path: Path) -> None:
    made = write_dataset(tmp_path / "set", SPECS, [3], finished=[])
    data = ActivationDataset(made.out, RESID, partial=True)
    assert len(data) == 0
    assert data[:].shape == (0, 6)
    assert list(data) == list(data.batches(4)) == list(data.batches(4, window=256)) == []
    with pytest.raises(RowOutOfRange):
        data[0]


def test_statistics_are_those_of_all_rows(
    make_model: Callable[..., Any], tmp_path: Path, assert_close: Any
) -> None:
    (tmp_path / "corpus.jsonl").write_text(json.dumps({"ids": list(range(30)) * 4}) + "\n")
    corpus = CorpusSettings(
        files=(str(tmp_path / "corpus.jsonl"),), column="ids", length=8, separator="none"
    )
    hooks = ["blocks.0.attn.hook_z", "blocks.1.hook_resid_post"]
    names = ("moments", "max_activating")
    model = make_model()
    data = harvest(model, corpus, hooks, tmp_path / "set", shard_tokens=24, statistics=names)
    assert len(data.shards.receipts) == 5
    for hook in hooks:
        rows, found = data.only(hook)[:], data.statistics(hook)
        assert_close(found.mean, rows.double().mean(0), hook, 1e-12)
        assert_close(found.variance, rows.double().var(0, correction=0), hook, 1e-12)
        first = found.max_activating(1).rows[..., 0]
        assert torch.equal(first, rows.argmax(0))  # row numbers are those of the dataset
    assert torch.equal(data.only(hooks[0]).statistics().mean, data.statistics(hooks[0]).mean)
    with pytest.raises(InputError, match="hook must name one of blocks"):
        data.statistics()
    with pytest.raises(InputError, match="unknown hook 'blocks"):
        data.statistics("blocks.7")
    without = harvest(model, corpus, hooks, tmp_path / "without")
    with pytest.raises(InputError, match="was harvested without statistics"):
        without.statistics(hooks[0])


def test_makers(written: Written) -> None:
    data = ActivationDataset(written.out)
    assert data.makers == [{"device": "cpu"}]
    assert not data.promises_same_bits  # nobody said in which dtype


@pytest.mark.parametrize(
    ("index", "fault", "rule"),
    [
        (1042, RowOutOfRange, "a row must lie in -1042 … 1041. Received 1042."),
        (-1043, RowOutOfRange, "Received -1043"),
        ([0, 5000], RowOutOfRange, "Received 5000"),
        ([-5000, 1], IndexError, "Received -5000"),
        (True, InputError, "rows must be a number, a slice"),
        ("a", InputError, "Received 'a'"),
        (1.5, InputError, r"Received 1\.5"),
        ([0.5], InputError, r"Received \[0\.5\]"),
        (None, InputError, "Received None"),
        (slice("a"), InputError, r"Received slice\(None, 'a'"),
        (slice(0, 3, 0), InputError, r"Received slice\(0, 3, 0"),
        (torch.zeros(4, dtype=torch.bool), InputError, r"Received Tensor \[4\]"),
        (torch.zeros(2, 2, dtype=torch.long), InputError, r"Received Tensor \[2, 2\]"),
    ],
)
def test_wrong_rows(written: Written, index: Any, fault: type[Exception], rule: str) -> None:
    with pytest.raises(fault, match=rule):
        ActivationDataset(written.out)[index]


@pytest.mark.parametrize(
    ("hooks", "rule"),
    [
        ("blocks.0.hook_resid_pre", "is called 'blocks.0.hook_resid_pre'. Did you mean blocks.0."),
        ("nothing.*", "no hook of this dataset"),
        ([], "at least one"),
    ],
)
def test_wrong_hooks(written: Written, hooks: Any, rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        ActivationDataset(written.out, hooks)
