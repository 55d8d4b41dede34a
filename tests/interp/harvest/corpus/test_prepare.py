from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from interp import HookedTransformer, HookedTransformerConfig, InputError
from interp.harvest.corpus import CorpusSettings, TokenStore, prepare_tokens
from interp.pretrained.tokenizers import load_tokenizer
from interp.progress import listening
from interp.zoo.recipes.symbols import make_tokenizer
from tests.interp.harvest.corpus.words import make_encoder_tokenizer

pytest.importorskip("transformers", reason="needs the extra 'hf'")

MakeModel = Callable[..., HookedTransformer]
ThirdParty = Callable[[str], Path]


@pytest.fixture(scope="module")
def real(third_party: ThirdParty) -> Callable[[str], HookedTransformer]:
    """Models with these tokenizers, made once; how they read text is all that matters."""

    @functools.cache
    def make(name: str) -> HookedTransformer:
        cfg = HookedTransformerConfig(
            n_layers=1, d_model=8, n_heads=2, n_ctx=256, act_fn="relu", device="cpu"
        )
        return HookedTransformer(cfg, load_tokenizer(third_party(name)))

    return make


@pytest.fixture(scope="module")
def symbols(make_model: MakeModel) -> HookedTransformer:
    """A model whose tokens are single letters; BOS is 0, a is 1."""
    return make_model(make_tokenizer(), d_vocab=64)


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text("abcdefg\n" * 20)
    return tmp_path / "a.txt"


def _settings(*files: Path, **fields: Any) -> CorpusSettings:
    return CorpusSettings(files=tuple(map(str, files)), **fields)


# --- real text -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shakespeare(third_party: ThirdParty, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first part of it."""
    path = tmp_path_factory.mktemp("text") / "shakespeare.txt"
    path.write_bytes(third_party("tinyshakespeare.txt").read_bytes()[:60_000])
    return path


@pytest.mark.parametrize("name", ["stories260K", "gpt2-tokenizer"])
def test_packed_sequences_are_the_text(
    real: Callable[[str], HookedTransformer], shakespeare: Path, tmp_path: Path, name: str
) -> None:
    model = real(name)
    store = prepare_tokens(_settings(shakespeare, incomplete="pad"), model, tmp_path / "tokens")
    block = store.read(0, store.n_sequences)
    assert store.length == 256
    assert (block.tokens[:, 0] == model.tokenizer.bos_token_id).all()
    of_text = block.tokens[block.document == 0]
    assert model.to_string(of_text) == shakespeare.read_text()
    assert torch.equal(of_text, model.to_tokens(shakespeare.read_text(), False, truncate=False)[0])
    position = block.document_position[block.document == 0]
    assert torch.equal(position, torch.arange(store.n_tokens))


@pytest.mark.parametrize("name", ["stories260K", "gpt2-tokenizer"])
def test_padded_sequences_are_to_tokens(
    real: Callable[[str], HookedTransformer], shakespeare: Path, tmp_path: Path, name: str
) -> None:
    model = real(name)
    settings = _settings(shakespeare, documents="paragraph", layout="padded", length=64)
    store = prepare_tokens(settings, model, tmp_path / "tokens")
    paragraphs = shakespeare.read_text().strip().split("\n\n")
    assert store.n_sequences == store.n_documents == len(paragraphs)
    block = store.read(0, store.n_sequences)
    assert block.real is not None
    for row, real_row, paragraph in zip(block.tokens, block.real, paragraphs, strict=True):
        assert torch.equal(row[real_row], model.to_tokens(paragraph)[0, :64])
    lines = shakespeare.read_text().split("\n")
    for place, paragraph in zip(store.documents["place"], paragraphs, strict=True):
        assert lines[place - 1] == paragraph.split("\n")[0]


@pytest.mark.parametrize("name", ["stories260K", "gpt2-tokenizer"])
@pytest.mark.parametrize("prepend_bos", [False, True])
def test_packed_sequences_are_transformer_lens_s(
    real: Callable[[str], HookedTransformer],
    third_party: ThirdParty,
    shakespeare: Path,
    tmp_path: Path,
    name: str,
    prepend_bos: bool,
) -> None:
    datasets = pytest.importorskip("datasets", reason="needs Hugging Face's datasets")
    utilities = pytest.importorskip(
        "transformer_lens.utilities.tokenize_utils", reason="needs the extra 'lens'"
    )
    paragraphs = shakespeare.read_text().strip().split("\n\n")
    expected = utilities.tokenize_and_concatenate(
        datasets.Dataset.from_dict({"text": paragraphs}),
        load_tokenizer(third_party(name)),
        max_length=100,
        add_bos_token=prepend_bos,
        num_proc=None,
    )
    settings = _settings(shakespeare, documents="paragraph", length=100, prepend_bos=prepend_bos)
    store = prepare_tokens(settings, real(name), tmp_path / "tokens")
    tokens = store.read(0, store.n_sequences).tokens
    assert torch.equal(tokens, torch.stack(list(expected["tokens"])))


# --- an encoder ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder(make_model: MakeModel) -> HookedTransformer:
    return make_model(make_encoder_tokenizer(), architecture="encoder", n_ctx=6)


def test_an_encoders_documents_are_to_tokens(encoder: HookedTransformer, tmp_path: Path) -> None:
    texts = ["a b", "c", "d e f a b c d"]
    (tmp_path / "a.txt").write_text("\n".join(texts))
    settings = _settings(tmp_path / "a.txt", documents="line", layout="padded")
    store = prepare_tokens(settings, encoder, tmp_path / "tokens")
    block = store.read(0, 3)
    assert torch.equal(block.tokens, encoder.to_tokens(texts))
    assert block.real is not None
    assert block.real.sum(1).tolist() == [4, 3, 6]
    assert block.document_position.tolist()[2] == [-1, 0, 1, 2, 3, -1]
    assert store.n_left_out == 3


def test_an_encoders_windows_are_whole_texts(encoder: HookedTransformer, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a b\nc\nd e f a b c d")
    settings = _settings(tmp_path / "a.txt", documents="line")
    store = prepare_tokens(settings, encoder, tmp_path / "tokens")
    texts = encoder.to_string(store.read(0, 3).tokens)
    assert texts == [
        "[CLS] a b [SEP] c [SEP]", "[CLS] [SEP] d e f [SEP]", "[CLS] a b c d [SEP]",
    ]  # fmt: skip


# --- tokens without a tokenizer ------------------------------------------------------------------


def test_tokens_need_no_tokenizer(make_model: MakeModel, tmp_path: Path) -> None:
    rows: Sequence[Sequence[int]] = [[1, 2, 3], [], [4, 5, 6, 7]]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"ids": row}) for row in rows))
    settings = _settings(tmp_path / "a.jsonl", column="ids", length=3, separator=9)
    store = prepare_tokens(settings, make_model(), tmp_path / "tokens")
    assert store.read(0, 2).tokens.tolist() == [[1, 2, 3], [9, 4, 5]]
    assert (store.n_documents, store.n_tokens, store.n_left_out) == (3, 7, 2)


# --- once ----------------------------------------------------------------------------------------


def _never(*_: Any) -> Any:
    raise AssertionError("nothing should be tokenised a second time")


def test_the_same_corpus_is_opened_again(
    symbols: HookedTransformer, letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _settings(letters, documents="line")
    (tmp_path / "tokens").mkdir()  # empty: it may be used
    first = prepare_tokens(settings, symbols, tmp_path / "tokens")
    monkeypatch.setattr("interp.harvest.corpus.prepare.token_batches", _never)
    second = prepare_tokens(settings, symbols, tmp_path / "tokens")
    assert second.digest == first.digest
    assert [path.name for path in tmp_path.iterdir()].count("tokens") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("content", r"other contents in .*a\.txt"),
        ("length", "length was None and is 8"),
        ("more files", "other files"),
        ("order", r"files was .*; .*other files|other files"),
        ("tokenizer", "tokenizer was '.*' and is '.*'"),
        ("model", "length was 16 and is 12"),
    ],
)
def test_another_corpus_is_refused(
    symbols: HookedTransformer,
    make_model: MakeModel,
    letters: Path,
    tmp_path: Path,
    change: str,
    message: str,
) -> None:
    other = tmp_path / "b.txt"
    other.write_text("ABC")
    model, files = symbols, [letters, other] if change == "order" else [letters]
    first = prepare_tokens(_settings(*files), symbols, tmp_path / "tokens")
    fields: dict[str, Any] = {}
    if change == "content":
        letters.write_text("gfedcba\n" * 20)
    elif change == "length":
        fields["length"] = 8
    elif change == "more files":
        files = [letters, other]
    elif change == "order":
        files = [other, letters]
    elif change == "tokenizer":
        tokenizer = make_tokenizer()
        tokenizer.eos_token = "z"
        model = make_model(tokenizer, d_vocab=64)
    else:
        model = make_model(make_tokenizer(), d_vocab=64, n_ctx=12)
    with pytest.raises(InputError, match=rf"must hold the tokens of this corpus.*({message})"):
        prepare_tokens(_settings(*files, **fields), model, tmp_path / "tokens")
    assert TokenStore.open(tmp_path / "tokens").digest == first.digest


def test_a_directory_of_something_else_is_left_alone(
    symbols: HookedTransformer, letters: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="tokens must go into a directory of their own"):
        prepare_tokens(_settings(letters), symbols, tmp_path)
    with pytest.raises(InputError, match="tokens must go into a directory of their own"):
        prepare_tokens(_settings(letters), symbols, letters)
    assert letters.read_text().startswith("abc")


def test_nothing_is_left_of_a_failure(symbols: HookedTransformer, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abc\n" * 3000 + "a?c\n")
    with pytest.raises(InputError, match=r"a\.txt:3001: the tokenizer cannot read 'a\?c'"):
        prepare_tokens(_settings(tmp_path / "a.txt", documents="line"), symbols, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_work_can_be_stopped_from_outside(symbols: HookedTransformer, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abc\n" * 3000)
    heard: list[tuple[float, str]] = []

    def stop(done: float, line: str) -> None:
        heard.append((done, line))
        if len(heard) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), listening(stop):
        prepare_tokens(_settings(tmp_path / "a.txt", documents="line"), symbols, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert heard[0] == (pytest.approx(1024 / 3000), f"3,072 tokens, reading {tmp_path / 'a.txt'}")


def test_a_file_that_changes_meanwhile_is_refused(
    symbols: HookedTransformer, letters: Path, tmp_path: Path
) -> None:
    def change(*_: Any) -> None:
        letters.write_text("a")

    with pytest.raises(InputError, match="must stay as they are while"), listening(change):
        prepare_tokens(_settings(letters), symbols, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- what cannot be a corpus ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "fields", "message"),
    [
        (b"", {}, "files must not be empty"),
        (b" \n\n", {"documents": "line"}, "must have at least one token"),
        (b" \n\n", {}, "must have at least one token"),
        (b"abc", {}, "must fill a sequence, 15 tokens. This one has 3: choose a shorter length"),
        (b"a\xff", {}, r"a\.txt:1 must be UTF-8"),
    ],
)
def test_a_corpus_without_a_sequence_is_refused(
    symbols: HookedTransformer,
    tmp_path: Path,
    content: bytes,
    fields: dict[str, Any],
    message: str,
) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        prepare_tokens(_settings(tmp_path / "a.txt", **fields), symbols, tmp_path / "out")


def test_a_missing_file_is_refused(symbols: HookedTransformer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"files must exist. '.*gone\.txt' does not"):
        prepare_tokens(_settings(tmp_path / "gone.txt"), symbols, tmp_path / "out")


def test_a_directory_is_no_text(symbols: HookedTransformer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="files must be files for this format"):
        prepare_tokens(_settings(tmp_path, format="text"), symbols, tmp_path / "out")


def test_every_format_gives_the_same_tokens(symbols: HookedTransformer, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [f"{'abcXYZ'[i % 6]}{i}" for i in range(200)]
    table = pa.table({"text": texts})
    (tmp_path / "a.txt").write_text("\n".join(texts))
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps({'text': t})}\n" for t in texts))
    pq.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "hf").mkdir()
    with pa.ipc.new_stream(str(tmp_path / "hf" / "x.arrow"), table.schema) as stream:
        stream.write_table(table)
    (tmp_path / "hf" / "state.json").write_text('{"_data_files": [{"filename": "x.arrow"}]}')
    stores = [
        prepare_tokens(
            _settings(tmp_path / name, documents="line" if name == "a.txt" else "file"),
            symbols,
            tmp_path / f"{name}-tokens",
        )
        for name in ("a.txt", "a.jsonl", "a.parquet", "hf")
    ]
    assert len({store.digest for store in stores}) == 1
    expected = [symbols.to_tokens(text, False)[0].tolist() for text in texts]
    starts = np.load(stores[0].directory / "starts.npy")
    assert np.array_equal(np.diff(starts), [len(tokens) for tokens in expected])
    assert stores[3].documents["place"].tolist() == list(range(200))
    assert stores[1].documents["place"].tolist() == list(range(1, 201))
