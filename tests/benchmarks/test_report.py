"""Aims against ratios worked out by hand, and the Markdown that is made of them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import aims, report, suites
from benchmarks.bench import Row
from benchmarks.contenders import hugging_face, ours, transformer_lens


def rows() -> list[dict[str, Any]]:
    """Of the small shape: interp takes 4 ms where others take 5, 10, and nothing at all."""
    mine = Row("forward", ours.OURS, "small", "float32", milliseconds=[3.0, 4.0, 9.0])
    record = Row("record_all", ours.OURS, "small", "float32", milliseconds=[5.0])
    record.peak_bytes, record.recorded_bytes = 120, 100
    theirs = Row("forward", hugging_face.SDPA, "small", "float32", milliseconds=[5.0])
    lens = Row("record_all", transformer_lens.BRIDGE, "small", "float32", milliseconds=[10.0])
    lens.note, lens.difference = "beware", 2e-7
    broken = Row("forward", "nobody", "small", "float32", problem="out | of memory")
    return [asdict(row) for row in (mine, theirs, broken, record, lens)]


def test_aims_are_ratios_of_medians() -> None:
    found = {one.aim.what: one for one in aims.evaluate(rows(), "cpu")}
    forward = found["forward, nothing watched, beside Hugging Face SDPA"]
    assert (forward.ratio, forward.limit, forward.is_met) == (0.8, 0.9, True)
    record = found["record all beside TransformerLens 4"]
    assert (record.ratio, record.limit, record.is_met) == (0.5, 0.45, False)
    memory = found["peak memory of a recording beside what it recorded and the logits"]
    assert (memory.ratio, memory.is_met) == (1.2, False)
    assert len(found) == 3


def test_a_problem_is_no_result() -> None:
    broken = rows()
    broken[1]["problem"] = "disagrees"
    found = [one.aim.what for one in aims.evaluate(broken, "cpu")]
    assert "forward, nothing watched, beside Hugging Face SDPA" not in found


def test_limits_depend_on_device_shape_and_dtype() -> None:
    sweep = next(a for a in aims.AIMS if a.what == "resid_pre sweep beside TransformerLens")

    def limit(device: str, shape: str, dtype: str) -> float | None:
        found = []
        for contender, milliseconds in ((ours.OURS, 1.0), (transformer_lens.BRIDGE, 500.0)):
            row = Row(sweep.ours[0], contender, shape, dtype, milliseconds=[milliseconds])
            found.append(asdict(row))
        (one,) = aims.evaluate(found, device)
        return one.limit

    assert limit("cpu", "gpt2-1x32", "float32") == 0.13
    assert limit("cuda", "gpt2-1x32", "float32") == 1 / 150
    assert limit("cuda", "gpt2-1x32", "bfloat16") == 1 / 800
    assert limit("cpu", "small-1x8", "float32") is None


def test_every_aim_is_measured_where_it_is_set() -> None:
    """An aim whose task or shape no suite has would never be looked at."""
    for device, suite in (("cpu", suites.CPU), ("cuda", suites.GPU)):
        for aim in aims.AIMS:
            if aim.ours[0] in ("import", "load"):
                continue
            for limit in (limit for limit in aim.limits if limit.device == device):
                asked = [
                    entry
                    for entry in suite
                    if {aim.ours[0]} <= set(entry.tasks)
                    and any(
                        aims.fits(limit, device, entry.shape.name, dtype) for dtype in entry.dtypes
                    )
                ]
                assert asked, (aim.what, limit)
                if "compiled" in aim.ours[1]:
                    assert any(aim.ours[0] in entry.compiles for entry in asked), aim.what
                # What it is compared with is timed in the same turns.
                beside = aim.beside[0]
                assert any(beside in entry.tasks for entry in asked), aim.what


def test_every_task_has_a_title() -> None:
    """Else the report fails after everything has been timed."""
    for entry in (*suites.CPU, *suites.GPU):
        for task in entry.tasks:
            assert report.title_of(task).strip()


def test_sections_of_the_other_device_stay(tmp_path: Path) -> None:
    path = tmp_path / "docs" / "benchmarks.md"
    cpu = {"machine": {"device": "cpu", "CPU": "an abacus"}, "rows": rows(), "remarks": ["hm"]}
    report.write(cpu, path)
    report.write({"machine": {"device": "cuda", "GPU": "a loom"}, "rows": rows()}, path)
    both = path.read_text(encoding="utf-8")
    assert "an abacus" in both and "a loom" in both and "- hm" in both
    cpu["machine"] = {"device": "cpu", "CPU": "a slide rule"}
    report.write(cpu, path)
    again = path.read_text(encoding="utf-8")
    assert again == both.replace("an abacus", "a slide rule")


def test_tables_by_hand() -> None:
    document = {"machine": {"device": "cpu"}, "rows": rows()}
    lines = report.section(document).splitlines()
    assert (
        "| forward, nothing watched, beside Hugging Face SDPA | small, float32 "
        "| 0.80 | ≤ 0.90 | yes |" in lines
    )
    assert (
        "| record all beside TransformerLens 4 | small, float32 | 0.50 | ≤ 0.45 | **no** |" in lines
    )
    assert (
        "| forward, nothing watched | Hugging Face SDPA | 5 (one call) | 0.80 |  |  |  |  |"
        in lines
    )
    assert "| forward, nothing watched | nobody | out \\| of memory |  |  |  |  |  |" in lines
    assert (
        "| record all | TransformerLens bridge (1) | 10 (one call) | 0.50 |  |  |  | 2e-07 |"
        in lines
    )
    assert "1. beware" in lines
    widths = {line.count("|") - line.count("\\|") for line in lines if line.startswith("| ")}
    assert widths == {6, 9}  # the aims' table and the tasks'


def test_ratios_are_readable() -> None:
    assert [report.ratio(x) for x in (1 / 800, 0.0199, 0.456, 1.005, 12.3, 1234.0)] == [
        "1/800", "1/50", "0.46", "1.00", "12", "1,234",
    ]  # fmt: skip
