"""A whole harvest: begun, stopped anywhere, gone on with, and refused where it would mix things."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import interp.harvest.run as run_module
from interp import HookedTransformer, load_model
from interp.engines import LocalEngine
from interp.errors import InputError
from interp.files.lock import LOCK, locked
from interp.harvest import ActivationDataset, CorpusSettings, DiskError, LockedError, harvest
from interp.harvest.journal import JOURNAL, read_journal
from interp.harvest.manifest import MANIFEST
from interp.harvest.shard_files import damage
from interp.harvest.worker import ShardWorker
from interp.progress import listening

_HOOKS = ("blocks.0.hook_resid_post", "blocks.1.attn.hook_pattern")
_SETTINGS: dict[str, Any] = {"shard_tokens": 30, "batch_size": 2, "dtype": "float16"}


@pytest.fixture(autouse=True)
def _no_power_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda handle: None)


@pytest.fixture
def model(make_model: Callable[..., HookedTransformer]) -> HookedTransformer:
    return make_model()


@pytest.fixture
def corpus(token_corpus: Callable[..., CorpusSettings]) -> CorpusSettings:
    return token_corpus([[(i * i) % 31 for i in range(200)]], length=6)  # 33 sequences, 7 shards


def _contents(out: Path) -> dict[str, str]:
    """Every file but the lock and the journal, by what is in it."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name not in (".lock", JOURNAL)
    }


def test_a_dataset_holds_every_token_once(
    model: HookedTransformer, corpus: CorpusSettings, tmp_path: Path
) -> None:
    data = harvest(model, corpus, _HOOKS, tmp_path / "out", **_SETTINGS)
    assert isinstance(data, ActivationDataset) and len(data) == 33 * 6
    tokens = torch.tensor([(i * i) % 31 for i in range(198)]).view(33, 6)
    for row in (0, 5, 6, 100, 197):
        sequence, position = divmod(row, 6)
        # A row's batch: two sequences of a shard of five.
        first = sequence - sequence % 5 + (sequence % 5) // 2 * 2
        batch = tokens[first : min(first + 2, sequence - sequence % 5 + 5)]
        with torch.no_grad():
            _, cache = model.run_with_cache(batch)
        found = data[row]
        for hook in _HOOKS:
            x = cache[hook][sequence - first]
            expected = x[:, position] if "pattern" in hook else x[position]
            assert torch.equal(found[hook], expected.half())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        ".lock", JOURNAL, MANIFEST, "shards", "tokens",
    ]  # fmt: skip


def test_progress_is_told(model: HookedTransformer, corpus: CorpusSettings, tmp_path: Path) -> None:
    heard: list[tuple[float, str]] = []
    with listening(lambda done, line: heard.append((done, line))):
        harvest(model, corpus, _HOOKS, tmp_path / "out", **_SETTINGS)
    assert [done for done, _ in heard] == sorted(done for done, _ in heard)
    assert "tokens: 200 tokens, 33 sequences of 6; 2 tokens in none" in [line for _, line in heard]
    assert heard[-1][0] == pytest.approx(1) and "shard 7 of 7" in heard[-1][1]
    assert "tokens/s" in heard[-1][1]


class _Stop(Exception):
    pass


def _stopping(shards: Sequence[int], step: str) -> Any:
    """A worker's step that fails at these shards."""
    whole = getattr(ShardWorker, step)

    def stop(self: ShardWorker, work: Any) -> Any:
        if (work if step == "make" else work.shard) in shards:
            raise _Stop
        return whole(self, work)

    return stop


@pytest.mark.parametrize("step", ["make", "finish"])
@pytest.mark.parametrize("stops", [[0], [6], [2, 5]])
def test_it_goes_on_where_it_was_stopped(
    model: HookedTransformer, corpus: CorpusSettings, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, step: str, stops: list[int],
) -> None:  # fmt: skip
    harvest(model, corpus, _HOOKS, tmp_path / "whole", **_SETTINGS)
    out = tmp_path / "out"
    for stop in stops:
        with monkeypatch.context() as patch:
            patch.setattr(ShardWorker, step, _stopping([stop], step))
            with pytest.raises(_Stop):
                harvest(model, corpus, _HOOKS, out, **_SETTINGS)
        assert list(read_journal(out, 7)) == list(range(stop))  # what was finished before is kept
        with pytest.raises(InputError, match="complete"):
            ActivationDataset(out)
    made: list[int] = []
    with monkeypatch.context() as patch:
        whole = ShardWorker.make
        patch.setattr(ShardWorker, "make", lambda self, k: made.append(k) or whole(self, k))
        assert len(harvest(model, corpus, _HOOKS, out, **_SETTINGS)) == 198
        assert made == list(range(stops[-1], 7))
        harvest(model, corpus, _HOOKS, out, **_SETTINGS)  # nothing is left to do
        assert made == list(range(stops[-1], 7))
    assert _contents(out) == _contents(tmp_path / "whole")


def test_unjournaled_torn_and_half_written_files_are_made_again(
    model: HookedTransformer, corpus: CorpusSettings, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    harvest(model, corpus, _HOOKS, out, **_SETTINGS)
    before = _contents(out)
    journal = (out / JOURNAL).read_bytes().splitlines(keepends=True)
    (out / JOURNAL).write_bytes(b"".join(journal[:4]) + journal[4][:50])  # 4 was being written down
    (out / "shards/00005.safetensors").write_bytes(b"of a run that was killed")
    (out / "shards/.00006.safetensors.new-0123abcd").write_bytes(b"half")
    (out / "shards/00002.rows.parquet").unlink()
    harvest(model, corpus, _HOOKS, out, **_SETTINGS)
    assert _contents(out) == before
    assert list(read_journal(out, 7)) == list(range(7))


def test_damaged_shards_alone_are_made_again(
    model: HookedTransformer, corpus: CorpusSettings, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    harvest(model, corpus, _HOOKS, out, **_SETTINGS)
    before = _contents(out)
    path = out / "shards/00003.safetensors"
    content = bytearray(path.read_bytes())
    content[-9] ^= 4
    path.write_bytes(content)
    made: list[int] = []
    whole = ShardWorker.make
    monkeypatch.setattr(ShardWorker, "make", lambda self, k: made.append(k) or whole(self, k))
    harvest(model, corpus, _HOOKS, out, **_SETTINGS)
    assert made == [] and _contents(out) != before  # nobody looked
    harvest(model, corpus, _HOOKS, out, verify=True, **_SETTINGS)
    assert made == [3] and _contents(out) == before
    for receipt in read_journal(out, 7).values():
        assert damage(out, receipt, checksums=True) is None
    tokens = out / "tokens/tokens.npy"
    content = bytearray(tokens.read_bytes())
    content[-1] ^= 1
    tokens.write_bytes(content)
    for check in (
        lambda: harvest(model, corpus, _HOOKS, out, verify=True, **_SETTINGS),
        lambda: ActivationDataset(out, verify=True),
        ActivationDataset(out).verify,
    ):
        with pytest.raises(InputError, match=r"damaged files \(tokens.npy\)"):
            check()


def test_what_differs_is_refused_by_name(
    model: HookedTransformer, make_model: Any, token_corpus: Any, corpus: CorpusSettings,
    tmp_path: Path,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    harvest(model, corpus, _HOOKS, out, **_SETTINGS)
    before = _contents(out)
    changes: list[tuple[dict[str, Any], str]] = [
        ({"dtype": "float32"}, 'setting dtype: "float16" → "float32"'),
        ({"hooks": _HOOKS[0]}, "hook blocks.1.attn.hook_pattern"),
        ({"batch_size": 3}, "setting batch_size: 2 → 3"),
        ({"sample": 0.5, "seed": 1}, "setting sample: null → 0.5; setting seed: 0 → 1"),
        ({"positions": [0]}, r'setting positions: "all" → \[0\]'),
        ({"statistics": "moments"}, "setting statistics"),
        ({"shard_tokens": 60}, "setting shard_tokens: 30 → 60"),
        ({"model": make_model(act_fn="relu")}, 'model act_fn: "gelu" → "relu"'),
        ({"model": make_model(initializer_range=0.3, d_mlp=21)}, "weight_hash"),
        ({"corpus": dataclasses.replace(corpus, length=7)}, "tokens must hold"),
    ]
    for change, message in changes:
        arguments = {"model": model, "corpus": corpus, "hooks": _HOOKS, **_SETTINGS, **change}
        with pytest.raises(InputError, match=message):
            harvest(out=out, **arguments)
        assert _contents(out) == before
    token_corpus([[5] * 200])  # the same file with other contents
    with pytest.raises(InputError, match="tokens must hold"):
        harvest(model, corpus, _HOOKS, out, **_SETTINGS)
    assert _contents(out) == before


def test_other_directories_and_models_are_left_alone(
    model: HookedTransformer, make_model: Any, corpus: CorpusSettings, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("three years")
    for out, word in ((mine, "holds other files"), (mine / "thesis.txt", "is a file")):
        with pytest.raises(InputError, match=word):
            harvest(model, corpus, _HOOKS, out)
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]
    pair = make_model(architecture="encoder-decoder", decoder_start_token_id=0)
    with pytest.raises(InputError, match="one stack of blocks"):
        harvest(pair, corpus, "hook_embed", tmp_path / "out")
    doubled = model.hooks([("hook_embed", lambda x, hook: x * 2)])
    with doubled, pytest.raises(InputError, match="something at hook_embed"):
        harvest(model, corpus, _HOOKS, tmp_path / "out")
    with pytest.raises(InputError, match="unknown engine"):
        harvest(model, corpus, _HOOKS, tmp_path / "out", engine="spark")
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(InputError, match="autocast must be"):
        harvest(model, corpus, _HOOKS, tmp_path / "out")
    with pytest.raises(InputError, match=r"out must have a name in UTF-8. Received .*\\udcff"):
        harvest(model, corpus, _HOOKS, tmp_path / "\udcff")
    assert not (tmp_path / "out").exists()


def test_other_programs_directories_are_left_alone(
    model: HookedTransformer, corpus: CorpusSettings, tmp_path: Path
) -> None:
    for name, content in (("manifest.json", '{"format": "run"}'), ("notes.txt", "mine")):
        out = tmp_path / name
        out.mkdir()
        (out / LOCK).touch()
        (out / name).write_text(content)
        with pytest.raises(InputError, match=r"whole manifest|holds other files"):
            harvest(model, corpus, _HOOKS, out)
        assert {path.name for path in out.iterdir()} == {LOCK, name}


@pytest.mark.parametrize(
    "name", [LOCK, JOURNAL, MANIFEST, "tokens", "shards", "shards/00000.safetensors"]
)
def test_what_a_link_leads_to_is_not_written_over(
    model: HookedTransformer, corpus: CorpusSettings, tmp_path: Path, name: str
) -> None:
    out, mine = tmp_path / "out", tmp_path / "mine"
    harvest(model, corpus, _HOOKS, out, **_SETTINGS)
    (out / name).rename(mine)
    (out / name).symlink_to(mine)
    before = _contents(mine) if mine.is_dir() else mine.read_bytes()
    with pytest.raises(InputError, match="must hold no links"):
        harvest(model, corpus, _HOOKS, out, **_SETTINGS)
    assert before == (_contents(mine) if mine.is_dir() else mine.read_bytes())


def test_statistics_are_refused_before_anything_is_computed(
    model: HookedTransformer, corpus: CorpusSettings, tmp_path: Path
) -> None:
    for hook, statistics, word in (
        ("blocks.0.attn.hook_attn_scores", "moments", "-inf where it is masked"),
        ("hook_tokens", "covariance", "hook_tokens has no such statistics"),
    ):
        with pytest.raises(InputError, match=word):
            harvest(model, corpus, hook, tmp_path / "out", statistics=statistics)
    assert not (tmp_path / "out" / MANIFEST).exists()


def test_two_drivers_do_not_meet(
    model: HookedTransformer, corpus: CorpusSettings, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out"), pytest.raises(LockedError):
        harvest(model, corpus, _HOOKS, tmp_path / "out", **_SETTINGS)
    harvest(model, corpus, _HOOKS, tmp_path / "out", **_SETTINGS)


def test_a_full_disk_keeps_what_is_finished(
    model: HookedTransformer, corpus: CorpusSettings, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    import interp.harvest.shard_files as shard_files

    out = tmp_path / "out"
    save = shard_files.save_file
    written: list[Path] = []

    def full(tensors: Any, path: Path) -> None:
        written.append(path)
        if len(written) > 3:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device", str(path))
        save(tensors, path)

    with monkeypatch.context() as patch:
        patch.setattr(shard_files, "save_file", full)
        with pytest.raises(DiskError, match=r"no space left.*Finished shards are kept"):
            harvest(model, corpus, _HOOKS, out, **_SETTINGS)
    assert list(read_journal(out, 7)) == [0, 1, 2]
    assert not [path for path in (out / "shards").iterdir() if path.name.startswith(".")]
    harvest(model, corpus, _HOOKS, out, **_SETTINGS)
    harvest(model, corpus, _HOOKS, tmp_path / "whole", **_SETTINGS)
    assert _contents(out) == _contents(tmp_path / "whole")


class _Elsewhere:
    """An engine whose workers open everything themselves, in no good order."""

    def run(self, open_worker: Any, items: Sequence[int], done: Any) -> None:
        assert isinstance(open_worker.model, str)
        workers = [open_worker(), open_worker()]
        for item in reversed(items):
            worker = workers[item % 2]
            done(item, worker.finish(worker.make(item)))


@pytest.mark.parametrize("by_name", [True, False])
def test_who_makes_shards_does_not_matter(
    model: HookedTransformer, corpus: CorpusSettings, tmp_path: Path, by_name: bool
) -> None:
    harvest(model, corpus, _HOOKS, tmp_path / "here", engine=LocalEngine(), **_SETTINGS)
    source: Any = model.save(tmp_path / "saved") if by_name else model
    harvest(source, corpus, _HOOKS, tmp_path / "there", engine=_Elsewhere(), **_SETTINGS)
    here, there = _contents(tmp_path / "here"), _contents(tmp_path / "there")
    here.pop(MANIFEST), there.pop(MANIFEST)  # a model's name may be another
    assert here == there


def test_real_text_is_harvested_whole(third_party: Any, tmp_path: Path) -> None:
    text = third_party("tinyshakespeare.txt").read_text()[:6000]
    (tmp_path / "play.txt").write_text(text)
    stories = load_model(third_party("stories260K"), device="cpu")
    corpus = CorpusSettings(files=(str(tmp_path / "play.txt"),), length=64, incomplete="pad")
    data = harvest(
        stories, corpus, "blocks.2.hook_resid_post", tmp_path / "out", dtype="float16",
        shard_tokens=1024, skip_special=True, statistics=("moments",),
    )  # fmt: skip
    ids = stories.to_tokens(text, prepend_bos=False, truncate=False)[0]
    with torch.no_grad():
        batch = torch.cat([torch.full((1,), stories.tokenizer.bos_token_id), ids[:63]])[None]
        _, cache = stories.run_with_cache(batch, names_filter="blocks.2.hook_resid_post")
    assert len(data) == len(ids)
    found = data.only("blocks.2.hook_resid_post")[:63].float()
    assert (found - cache["blocks.2.hook_resid_post"][0, 1:]).abs().max() < 2e-2  # half precision


def test_a_corpus_is_given_as_files_too() -> None:
    made = run_module._corpus_settings(["a.txt", Path("b.txt")])
    assert made == CorpusSettings(files=("a.txt", "b.txt"))
    assert run_module._corpus_settings(Path("a.txt")) == CorpusSettings(files=("a.txt",))
    with pytest.raises(InputError, match="corpus"):
        run_module._corpus_settings(3)  # type: ignore[arg-type]
