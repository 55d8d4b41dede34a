import pytest

from interp import HookedTransformer, HookedTransformerConfig, InputError, zoo
from interp.training import History, Snapshots
from interp.zoo import read_entry, write_entry


@pytest.fixture
def write(tmp_path):
    cfg = HookedTransformerConfig(
        n_layers=1, d_model=4, n_heads=1, n_ctx=5, d_vocab=6, attn_only=True,
        model_name="zoo:tiny", device="cpu",
    )  # fmt: skip
    model = HookedTransformer(cfg)
    Snapshots(tmp_path / "snapshots", [2])(2, model)

    def write(directory, **changes):
        fields = {
            "description": "A tiny one.", "recipe": "a.module", "training": {"steps": 2},
            "metrics": {"loss": 0.5}, "control": {}, "defaults": {"x": {"n": 1}},
        }  # fmt: skip
        return write_entry(
            directory, model, History([{"step": 0, "loss": 1.0}]), tmp_path / "snapshots",
            **{**fields, **changes},
        )  # fmt: skip

    return write


def test_what_is_written_is_read(write, tmp_path):
    entry = write(tmp_path / "tiny")
    assert entry == read_entry(tmp_path / "tiny")
    assert (entry.name, entry.metrics, entry.defaults) == (
        "zoo:tiny",
        {"loss": 0.5},
        {"x": {"n": 1}},
    )
    assert list(entry.checkpoints) == [2]
    assert entry.history()["loss"].tolist() == [1.0]
    model, snapshot = entry.load(device="cpu"), entry.load(device="cpu", checkpoint=2)
    assert model.W_E.half().equal(snapshot.W_E.half())


def test_an_entry_is_replaced_and_other_things_are_not(write, tmp_path):
    write(tmp_path / "tiny")
    assert write(tmp_path / "tiny", metrics={"loss": 0.25}).metrics == {"loss": 0.25}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    with pytest.raises(InputError, match="is not an entry of the zoo"):
        write(tmp_path / "other")
    assert (tmp_path / "other" / "thesis.txt").exists()


def test_a_missing_entry_is_named(tmp_path):
    with pytest.raises(InputError, match=r"entry.json does not exist"):
        read_entry(tmp_path)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "checkpoints/step_00002.safetensors", "history.csv"]
)
def test_links_out_of_an_entry_are_not_followed(write, tmp_path, name):
    entry = write(tmp_path / "entry")
    file = tmp_path / "entry" / name
    file.rename(tmp_path / "outside")
    file.symlink_to(tmp_path / "outside")
    with pytest.raises(InputError, match="is a link that leads out of"):
        entry.history() if name == "history.csv" else entry.load("cpu", checkpoint=2)


@pytest.mark.parametrize("text", [None, b"", b"\xff\xfe", b'a,b\n"1'])
def test_a_damaged_history_is_named(write, tmp_path, text):
    entry = write(tmp_path / "entry")
    file = tmp_path / "entry" / "history.csv"
    file.unlink() if text is None else file.write_bytes(text)
    with pytest.raises(InputError, match=r"history\.csv (does not exist|is damaged)"):
        entry.history()


def test_a_shipped_entry_is_read_once_and_anew_when_it_was_written(write, tmp_path, monkeypatch):
    write(tmp_path / "zoo" / "tiny")
    read = []
    monkeypatch.setattr(zoo, "_WEIGHTS", tmp_path / "zoo")
    monkeypatch.setattr(zoo, "read_entry", lambda folder: read.append(folder) or read_entry(folder))
    for _ in range(2):
        assert zoo.entries() == {"zoo:tiny": read_entry(tmp_path / "zoo" / "tiny")}
    assert len(read) == 1
    write(tmp_path / "zoo" / "tiny", metrics={"loss": 0.25})
    assert zoo.entries()["zoo:tiny"].metrics == {"loss": 0.25}


def test_defaults_are_the_askers_own(write, tmp_path, monkeypatch):
    write(tmp_path / "zoo" / "tiny", defaults={"x": {"tokens": [1, 2]}})
    monkeypatch.setattr(zoo, "_WEIGHTS", tmp_path / "zoo")
    zoo.defaults("zoo:tiny", "x")["tokens"].append(3)
    assert zoo.defaults("zoo:tiny", "x") == {"tokens": [1, 2]}
    assert zoo.defaults("zoo:tiny", "y") == zoo.defaults("other", "x") == {}
