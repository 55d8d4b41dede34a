from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from interp import InputError
from interp.pretrained.tokenizers import load_tokenizer, open_tokenizer

pytest.importorskip("transformers", reason="needs the extra 'hf'")


def test_directory_without_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert load_tokenizer(tmp_path) is None


def test_directory_with_one(third_party: Callable[[str], Path]) -> None:
    tokenizer = load_tokenizer(third_party("gpt2-tokenizer"))
    assert tokenizer.encode("Hello world") == [15496, 995]
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == 50256


def test_tokenizer_json_alone(third_party: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copy(third_party("gpt2-tokenizer") / "tokenizer.json", tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode("Hello world") == [15496, 995]
    assert tokenizer.bos_token_id is None


# --- what others wrote ---------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")
    fast.save_pretrained(tmp_path / "t")
    assert load_tokenizer(tmp_path / "t").get_vocab() == {"[UNK]": 0, "a": 1}
    return tmp_path / "t"


def _configure(folder: Path, **fields: Any) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize("beside", [True, False])
def test_code_of_a_tokenizer_is_neither_run_nor_asked_for(
    beside: bool, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers asks at the terminal where it is not told, and a "y" would run it."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    code = f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine: ...\n"
    (saved / "mine.py").write_text(code)
    named = {"AutoTokenizer": ["mine.Mine", "mine.Mine"]}
    _configure(saved, auto_map=named, tokenizer_class="Mine")
    if beside:
        config = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine", **named}}
        (saved / "config.json").write_text(json.dumps(config))
    for read in (load_tokenizer, open_tokenizer):
        with pytest.raises(InputError, match=r"the tokenizer in .* cannot be read"):
            read(saved)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["tokenizer_file", "vocab_file", "merges_file", "spm_file"])
@pytest.mark.parametrize("value", ["/etc/passwd", "../vocab.json", ["../x.json"], 3])
def test_a_tokenizer_reads_files_of_its_directory(name: str, value: Any, saved: Path) -> None:
    _configure(saved, **{name: value})
    with pytest.raises(InputError, match=f"{name} in .* must name files of its own directory"):
        load_tokenizer(saved)


def test_where_special_tokens_once_were_does_not_matter(saved: Path) -> None:
    _configure(saved, special_tokens_map_file="/home/somebody/map.json", tokenizer_file=None)
    assert load_tokenizer(saved).get_vocab() == {"[UNK]": 0, "a": 1}


@pytest.mark.parametrize(
    "name",
    ["tokenizer.json", "tokenizer_config.json", "extra.txt", "additional_chat_templates/a.jinja"],
)
def test_links_out_of_a_tokenizer_are_not_followed(name: str, saved: Path) -> None:
    outside = saved.parent / "outside"
    outside.write_text("secret")
    (saved / name).parent.mkdir(exist_ok=True)
    (saved / name).unlink(missing_ok=True)
    (saved / name).symlink_to(outside)
    with pytest.raises(InputError, match="is a link that leads out of"):
        load_tokenizer(saved)


@pytest.mark.parametrize(
    "text", ["", "{", "null", "[]", "{}", '{"model": {"type": "BPE", "vocab": 3}}', "\x00" * 99]
)
@pytest.mark.parametrize("alone", [True, False])
def test_a_damaged_tokenizer_is_named_in_a_line(text: str, alone: bool, saved: Path) -> None:
    (saved / "tokenizer.json").write_text(text)
    if alone:
        (saved / "tokenizer_config.json").unlink()
    with pytest.raises(InputError, match=r"the tokenizer in .* cannot be read: .") as fault:
        load_tokenizer(saved)
    assert len(str(fault.value)) < 800 and "\n" not in str(fault.value)
