"""Training beside a plain loop; resumed runs; units revived; small dictionaries found."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from interp import InputError
from interp.sae import (
    SAEConfig,
    SAESettings,
    geometric_median,
    load_sae,
    make_sae,
    mean_max_cosine,
    save_sae,
    score_sae,
    train_sae,
)
from interp.training import Snapshots, TrainingDivergedError, snapshot_steps

KINDS = ["relu", "topk", "gated"]


def source(step: int, generator: torch.Generator) -> Tensor:
    return torch.randn(12, 5, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_loop_gives_the_same(kind: str, random_sae: Any, assert_close: Any) -> None:
    from interp.training.randomness import step_generator

    settings = SAESettings(
        steps=12, lr=0.02, warmup_steps=3, l1_warmup_steps=6, final_lr_fraction=0.1,
        max_grad_norm=1.5, seed=5, log_every=1, dead_after=20, resample_steps=(),
    )  # fmt: skip
    sae, expected = random_sae(kind), random_sae(kind)
    _, history = train_sae(sae, source, settings)

    optimizer = torch.optim.Adam(expected.parameters())
    silent = torch.zeros(9)
    for step in range(12):
        rate = (step + 1) / 3 if step < 3 else 0.1 + 0.45 * (1 + math.cos(math.pi * (step - 3) / 9))
        optimizer.param_groups[0]["lr"] = 0.02 * rate
        x = source(step, step_generator(5, step))
        loss = expected.loss(x, min(1.0, (step + 1) / 6), silent >= 20)
        row = history.rows[step]
        assert row["loss"] == pytest.approx(loss.total.item())
        assert row["reconstruction"] == pytest.approx(loss.reconstruction.mean().item())
        assert row["dead"] == pytest.approx((silent >= 20).double().mean().item())
        assert row["l0"] == (loss.activations > 0).sum() / 12
        spread = ((x - x.mean(0)) ** 2).sum()
        assert row["fve"] == pytest.approx(1 - (loss.reconstruction.sum() / spread).item())
        silent = torch.where((loss.activations > 0).any(0), 0, silent + 12)
        optimizer.zero_grad()
        loss.total.backward()
        grad, w = expected.W_dec.grad, expected.W_dec.detach()
        expected.W_dec.grad = grad - (grad * w).sum(1, keepdim=True) * w
        norm = nn.utils.clip_grad_norm_(expected.parameters(), 1.5)
        assert row["grad_norm"] == pytest.approx(norm.item())
        optimizer.step()
        with torch.no_grad():
            expected.W_dec.div_(expected.W_dec.norm(dim=1, keepdim=True))
    for name, weight in sae.state_dict().items():
        assert_close(weight, expected.state_dict()[name], name)
    assert history.rows[-1]["lr"] is None and history.rows[-1]["grad_norm"] is None
    assert len(history) == 13
    assert all(p.grad is None for p in sae.parameters())


def test_a_norm_without_a_limit_changes_nothing(random_sae: Any) -> None:
    settings = SAESettings(steps=6, lr=0.02)
    often, seldom = random_sae("relu"), random_sae("relu")
    _, history = train_sae(often, source, dataclasses.replace(settings, log_every=1))
    train_sae(seldom, source, settings)
    assert torch.equal(often.W_dec, seldom.W_dec)
    assert all(row["grad_norm"] > 0 for row in history.rows[:-1])


class StopError(Exception):
    pass


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_ends_with_the_same_bits(kind: str, random_sae: Any, tmp_path: Path) -> None:
    settings = SAESettings(
        steps=20, lr=0.05, seed=2, log_every=3, checkpoint_every=7, dead_after=24,
        resample_steps=(6, 7, 10, 15), resample_batches=2, centre="mean",
    )  # fmt: skip

    def fresh() -> Any:
        sae = random_sae(kind)
        with torch.no_grad():  # some units stay silent
            for name in ("b_enc", "b_gate"):
                if hasattr(sae, name):
                    getattr(sae, name)[:4] = -50.0
        return sae

    whole, expected = train_sae(fresh(), source, settings)
    assert expected.rows[-1]["resampled"] >= 4

    def stop(step: int, sae: Any) -> None:
        if step == 12:
            raise StopError

    with pytest.raises(StopError):
        train_sae(fresh(), source, settings, callbacks=[stop], run_dir=tmp_path)
    again, history = train_sae(fresh(), source, settings, run_dir=tmp_path, resume=True)
    for name, weight in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name
    assert history.rows == expected.rows
    assert (tmp_path / "history.parquet").exists()
    other = dataclasses.replace(settings, dead_after=25)
    with pytest.raises(InputError, match="dead_after: 24 → 25"):
        train_sae(fresh(), source, other, run_dir=tmp_path, resume=True)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"kind": "topk"}, "sae.kind: 'relu' → 'topk'"),
        ({"l1_coefficient": 0.9}, "sae.l1_coefficient: 0.3 → 0.9"),
        ({"d_sae": 10}, "sae.d_sae: 9 → 10"),
        ({"batch_size": 8}, "batch_size: 12 → 8"),
    ],
)
def test_another_run_is_not_gone_on_with(
    changed: dict[str, Any], words: str, make_config: Any, tmp_path: Path
) -> None:
    settings, rows = SAESettings(steps=2), source(0, torch.Generator().manual_seed(0))

    def run(batch_size: int = 12, kind: str = "relu", **fields: Any) -> None:
        config = make_config(kind, **fields)
        train_sae(config, rows, settings, batch_size=batch_size, run_dir=tmp_path, resume=True)

    run()
    run()
    with pytest.raises(InputError, match=words):
        run(**changed)


def test_batches_of_many_sizes_are_resumed(random_sae: Any, tmp_path: Path) -> None:
    """After how many samples a unit is dead is decided by the first batch alone."""
    settings = SAESettings(steps=16, lr=0.05, checkpoint_every=5, log_every=1)

    def shrinking(step: int, generator: torch.Generator) -> Tensor:
        return source(step, generator)[: 12 - step % 8]

    def stop(step: int, sae: Any) -> None:
        if step == 7:
            raise StopError

    def fresh() -> Any:
        sae = random_sae("topk")
        with torch.no_grad():
            sae.b_enc[:3] = -50.0
        return sae

    whole, expected = train_sae(fresh(), shrinking, settings)
    with pytest.raises(StopError):
        train_sae(fresh(), shrinking, settings, callbacks=[stop], run_dir=tmp_path)
    again, history = train_sae(fresh(), shrinking, settings, run_dir=tmp_path, resume=True)
    assert history.rows == expected.rows and torch.equal(again.W_dec, whole.W_dec)
    # Silent for 12 samples, those of the first batch, before every step but the first.
    assert [row["dead"] > 0 for row in history.rows] == [False] + [True] * 16


def test_sources_are_read_without_gradients(random_sae: Any) -> None:
    seen = []

    def look(step: int, generator: torch.Generator) -> Tensor:
        seen.append(torch.is_grad_enabled())
        return source(step, generator)

    train_sae(random_sae("relu"), look, SAESettings(steps=1))
    assert seen == [False, False]


def test_columns_of_evaluate_have_names_of_their_own(random_sae: Any) -> None:
    with pytest.raises(InputError, match=r"names of their own\. Received \['fve', 'lr'\]"):
        train_sae(
            random_sae("relu"),
            source,
            SAESettings(steps=1),
            evaluate=lambda sae: {"fve": 1.0, "lr": 0.1, "mine": 2.0},
        )


def test_dead_units_are_resampled_when_they_should_be(random_sae: Any) -> None:
    sae = random_sae("relu")
    with torch.no_grad():
        sae.W_enc[:, :3] = 0.0
        sae.b_enc[:3] = -50.0
    norms, seen = [], []
    settings = SAESettings(
        steps=12, lr=1e-3, log_every=1, dead_after=60, resample_steps=(3, 6), resample_batches=3
    )
    drawn: list[int] = []

    def counted(step: int, generator: torch.Generator) -> Tensor:
        drawn.append(step)
        return source(step, generator)

    def look(step: int, sae: Any) -> None:
        norms.append(sae.W_enc[:, :3].norm(dim=0).min().item())
        seen.append(bool(sae.b_enc[0] > -10))

    _, history = train_sae(sae, counted, settings, callbacks=[look])
    # After 3 updates of 12 samples they have been silent for 36, after 6 for 72.
    assert seen == [step >= 6 for step in range(13)]
    assert norms[5] == 0 and norms[6] > 0.1
    assert [row["resampled"] for row in history.rows] == [0] * 6 + [3] * 7
    assert [row["dead"] > 0 for row in history.rows] == [step == 5 for step in range(13)]
    assert sorted(drawn) == sorted([*range(13), 5, 5, 5])


def test_resampling_is_told_of_the_optimiser(
    random_sae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def note(sae: Any, units: Tensor, x: Tensor, generator: Any, optimizer: Any) -> None:
        given.append((len(x), int(optimizer.state[sae.W_enc]["step"]), units.tolist()))

    monkeypatch.setattr("interp.sae.training.resample_", note)
    sae = random_sae("relu")
    with torch.no_grad():
        sae.W_enc[:, 2] = 0.0
        sae.b_enc[2] = -50.0
    settings = SAESettings(steps=6, dead_after=48, resample_steps=(4,), resample_batches=3)
    train_sae(sae, source, settings)
    assert given == [(36, 4, [u == 2 for u in range(9)])]


@pytest.mark.parametrize(
    ("centre", "wanted"),
    [
        ("given", lambda x: torch.full((5,), 0.25, dtype=torch.float64)),
        ("mean", lambda x: x.mean(0)),
        ("geometric_median", geometric_median),
    ],
)
def test_where_b_dec_starts(centre: Any, wanted: Any, random_sae: Any, assert_close: Any) -> None:
    sae = random_sae("relu")
    with torch.no_grad():
        sae.b_dec.fill_(0.25)
        sae.W_dec.mul_(3.0)
    seen = []

    def look(step: int, sae: Any) -> None:
        seen.append((sae.b_dec.detach().clone(), sae.W_dec.norm(dim=1)))

    x = source(0, torch.Generator().manual_seed(0))
    train_sae(sae, lambda s, g: x, SAESettings(steps=1, centre=centre), callbacks=[look])
    assert_close(seen[0][0], wanted(x))
    assert_close(seen[0][1], torch.ones(9, dtype=torch.float64))


def test_tensors_callbacks_evaluation_and_inference_mode(make_config: Any, tmp_path: Path) -> None:
    rows = torch.randn(40, 2, 5, generator=torch.Generator().manual_seed(0))  # fp32
    state = torch.get_rng_state()
    with torch.inference_mode():
        sae, history = train_sae(
            make_config("topk"),
            rows,
            SAESettings(steps=4, log_every=2, seed=1),
            batch_size=8,
            evaluate=lambda sae: {"size": float(sae.W_enc.norm())},
            callbacks=[Snapshots(tmp_path, [1, 4])],
        )
    assert torch.equal(torch.get_rng_state(), state)
    assert [row["step"] for row in history.rows] == [0, 2, 4]
    assert history.rows[-1]["size"] == sae.W_enc.norm()
    assert snapshot_steps(tmp_path) == [1, 4]
    with pytest.raises(InputError, match=r"floating tensor \[..., 5\]"):
        train_sae(sae, torch.ones(3, 4), SAESettings(steps=1))


class Noting:
    """A stream that keeps what was read from it."""

    def __init__(self, stream: Iterable[Tensor]) -> None:
        self.stream, self.seen = stream, list[Tensor]()

    def __iter__(self) -> Iterator[Tensor]:
        for batch in self.stream:
            self.seen.append(batch[:, 0])
            yield batch


def test_a_shuffled_stream_depends_on_the_seed_alone(make_config: Any) -> None:
    """A `DataLoader` without a generator draws from torch's global state: every step has its own,
    so epochs differ, and the state outside stays as it is."""
    rows = torch.arange(24.0).reshape(24, 1).expand(24, 5)
    histories, orders = [], []
    for outside in (0, 1):
        torch.manual_seed(outside)
        state = torch.get_rng_state()
        loader = DataLoader(list(rows), batch_size=8, shuffle=True)  # type: ignore[arg-type]
        stream = Noting(loader)
        settings = SAESettings(steps=5, log_every=1)
        histories.append(train_sae(make_config("topk"), stream, settings)[1].rows)
        orders.append(torch.stack(stream.seen))
        assert torch.equal(torch.get_rng_state(), state)
    assert histories[0] == histories[1] and torch.equal(orders[0], orders[1])
    first, second = orders[0].reshape(2, 24)
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(24))
    assert not torch.equal(first, second)


def test_what_cannot_be_resumed(make_config: Any, tmp_path: Path) -> None:
    settings = SAESettings(steps=2)
    with pytest.raises(InputError, match="resume needs the run_dir"):
        train_sae(make_config("relu"), source, settings, resume=True)
    with pytest.raises(InputError, match=r"stream cannot be resumed\. Received list_iterator"):
        stream = iter([torch.ones(2, 5)])
        train_sae(make_config("relu"), stream, settings, run_dir=tmp_path, resume=True)
    with pytest.raises(TrainingDivergedError, match="at step 0"):
        train_sae(make_config("relu"), torch.full((2, 5), math.nan), settings)


RECOVERED = {"relu": {"l1_coefficient": 0.2}, "gated": {"l1_coefficient": 0.4}, "topk": {"k": 2}}


@pytest.mark.parametrize("kind", KINDS)
def test_a_small_dictionary_is_found(kind: str, tmp_path: Path) -> None:
    """Eight sparse features in five dimensions, by a dictionary with room for twelve."""
    generator = torch.Generator().manual_seed(0)
    true = torch.randn(8, 5, generator=generator)
    for _ in range(200):  # apart from one another
        true = true / true.norm(dim=1, keepdim=True)
        others = (true @ true.T - torch.eye(8)).clamp_min(0)
        true = true - 0.1 * others.pow(3) @ true

    def features(step: int, generator: torch.Generator) -> Tensor:
        on = torch.rand(128, 8, generator=generator) < 0.08
        return (on * torch.rand(128, 8, generator=generator)) @ true

    cfg = SAEConfig(kind=kind, d_in=5, d_sae=12, device="cpu", **RECOVERED[kind])  # type: ignore
    settings = SAESettings(steps=400, lr=0.02, l1_warmup_steps=40, warmup_steps=20)
    before = mean_max_cosine(make_sae(cfg).W_dec, true).of_features
    sae, _ = train_sae(cfg, features, settings)
    found = mean_max_cosine(sae.W_dec, true)
    assert before < 0.9
    assert found.of_features > 0.95
    x = features(0, torch.Generator().manual_seed(9))
    assert score_sae(sae, x).fve > 0.7
    assert torch.equal(load_sae(save_sae(sae, tmp_path / "sae"), "cpu")(x), sae(x))
