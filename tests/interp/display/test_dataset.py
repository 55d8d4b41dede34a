"""A harvested dataset in a notebook, and as text."""

from __future__ import annotations

import json

from interp.devices.memory import readable
from interp.harvest import CorpusSettings, harvest
from tests.interp.charts.test_export import Reader


def test_it_tells_its_rows_hooks_and_origin(make_model, tmp_path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": [1, 2, 3, 4 + i]}) + "\n" for i in range(6)))
    corpus = CorpusSettings(files=(str(path),), length=4, layout="padded")
    model = make_model(model_name="<i>small</i>")
    hooks = ["blocks.0.attn.hook_z", "blocks.1.hook_resid_pre"]
    data = harvest(model, corpus, hooks, tmp_path / "out", dtype="float16", shard_tokens=8)
    shards = list((tmp_path / "out" / "shards").glob("*.safetensors"))
    expected = [
        ["blocks.0.attn.hook_z", "[4, 6]", "float16", readable(24 * 24 * 2)],
        ["blocks.1.hook_resid_pre", "[24]", "float16", readable(24 * 24 * 2)],
    ]
    page = Reader(data._repr_html_())
    assert page.open == [] and "i" not in [tag for tag, _ in page.tags]
    assert [cells for cells in page.cells if cells] == expected
    headline = f"ActivationDataset: 24 rows of 2 hooks, {readable(2 * 24 * 24 * 2)} on disk"
    assert page.texts["summary"] == headline
    origin = (
        f"<i>small</i> on 6 sequences of 4 tokens; {len(shards)} of {len(shards)} shards "
        f"in {tmp_path / 'out'}"
    )
    assert page.texts["p"] == origin
    assert repr(data) == "\n".join(
        [
            headline,
            "  blocks.0.attn.hook_z: [4, 6] float16",
            "  blocks.1.hook_resid_pre: [24] float16",
            f"  {origin}",
        ]
    )
    one = data.only("blocks.1.*")
    assert repr(one).startswith("ActivationDataset: 24 rows of 1 hook, ")
