"""Training a byte-pair encoding, with the Hugging Face `tokenizers` library.

Sennrich et al. (2016), Neural Machine Translation of Rare Words with Subword Units; on bytes:
Radford et al. (2019), Language Models are Unsupervised Multitask Learners.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from interp.errors import InputError, require, require_extra, require_one_of, require_whole

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Template = Literal["eos", "bos-eos"]

SPECIAL_TOKENS: Mapping[str, str] = MappingProxyType(
    {"pad": "<pad>", "bos": "<s>", "eos": "</s>", "unk": "<unk>"}
)
_ROLES = ("pad", "bos", "eos", "unk", "sep", "cls", "mask")
_SPACE = "▁"
# Merges stay inside a word (with its marks of combining accents), a number, a run of signs or of
# white space, and the one space before each: GPT-2's rule, without its English clitics.
_PIECES = r"▁?[\p{L}\p{M}]+|▁?\p{N}+|▁?[^\s▁\p{L}\p{M}\p{N}]+|▁+(?=▁)|▁|\s+"


def train_bpe(
    texts: Iterable[str],
    vocab_size: int,
    *,
    special_tokens: Mapping[str, str] = SPECIAL_TOKENS,
    template: Template | None = "eos",
    byte_level: bool = False,
    lowercase: bool = False,
    min_frequency: int = 2,
    alphabet: Iterable[str] = (),
) -> PreTrainedTokenizerFast:
    """Train a tokenizer; the same texts give the same one.

    The special tokens come first in the vocabulary, then the alphabet, then the merges in the order
    they were learned. Decoding gives a text back exactly, white space and all (lower-cased, with
    `lowercase`), as long as every character is in the alphabet.

    A word is marked where it begins, also the first of a text: `"a cat"` is `▁a ▁cat`. A word thus
    has the same tokens at the start of a text, inside it, and before a full stop.

    Args:
        texts: What to learn from; read once.
        vocab_size: The most tokens there may be. Fewer result if pairs to merge run out.
        special_tokens: The text of each special token by its role (pad, bos, eos, unk, sep, cls,
            mask), in the order of their ids. Such a text is that token wherever it occurs.
        template: What `add_special_tokens=True` adds: `"eos"` behind, `"bos-eos"` around the text.
            Of a pair of texts, each has its own.
        byte_level: Merge bytes instead of characters. Nothing is unknown then, and no token is
            needed for it, but tokens with other than ASCII letters are hard to read. As in GPT-2,
            a text's first word is not marked.
        lowercase: Lower-case texts first.
        min_frequency: How often a pair must occur to be merged.
        alphabet: Characters to know besides those of the texts.

    Raises:
        InputError: if an argument breaks these rules; if a text holds `▁`, which stands for a
            space; if the special tokens and the alphabet alone exceed `vocab_size`.
        MissingExtraError: if transformers or tokenizers is not installed.
    """
    require_whole("vocab_size", vocab_size, 1)
    require_whole("min_frequency", min_frequency, 1)
    require_one_of("template", template, ("eos", "bos-eos", None))
    _check_special_tokens(special_tokens, template, byte_level)
    require(
        not isinstance(texts, str), f"texts must be several texts, not one. Received {texts!r:.80}"
    )
    letters = sorted(set(alphabet))
    require(
        all(len(letter) == 1 for letter in letters),
        f"alphabet must be single characters. Received {letters!r:.80}",
    )
    require_extra("tokenizers", "hf")
    require_extra("transformers", "hf")
    from tokenizers import pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = _untrained(special_tokens.get("unk"), byte_level, lowercase)
    known = pre_tokenizers.ByteLevel.alphabet() if byte_level else [_SPACE, *letters]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(special_tokens.values()),
        initial_alphabet=sorted(known),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_checked(texts, byte_level), trainer)
    size = tokenizer.get_vocab_size()
    require(
        size <= vocab_size,
        f"vocab_size must have room for the special tokens and the alphabet, {size} together. "
        f"Received {vocab_size}",
    )
    if template is not None:
        tokenizer.post_processor = _template(tokenizer, special_tokens, template)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
        **{f"{role}_token": text for role, text in special_tokens.items()},
    )


def _check_special_tokens(
    tokens: Mapping[str, str], template: Template | None, byte_level: bool
) -> None:
    for role in tokens:
        require_one_of("a special token's role", role, _ROLES)
    texts = list(tokens.values())
    require(
        all(texts) and len(set(texts)) == len(texts),
        f"special tokens must have a text each, no two the same. Received {dict(tokens)}",
    )
    needed = template.split("-") if template else []
    for role in needed if byte_level else [*needed, "unk"]:
        require(role in tokens, f"special_tokens must have one for {role!r}. Received {texts}")


def _checked(texts: Iterable[str], byte_level: bool) -> Iterator[str]:
    empty = True
    for text in texts:
        require(isinstance(text, str), f"texts must be strings. Received {text!r:.80}")
        if not byte_level and _SPACE in text:
            raise InputError(f"texts must not hold {_SPACE!r}, the mark of a space: {text!r:.80}.")
        empty = empty and not text
        yield text
    require(not empty, "texts must hold some text to learn from. Received none")


def _untrained(unk: str | None, byte_level: bool, lowercase: bool) -> Any:
    """A tokenizer that takes texts apart and puts them together again, without a vocabulary."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(unk_token=unk))
    steps: list[Any] = [normalizers.Lowercase()] if lowercase else []
    if byte_level:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    else:
        steps += [normalizers.Prepend(_SPACE), normalizers.Replace(" ", _SPACE)]
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECES), "isolated")
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace(_SPACE, " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    if steps:
        tokenizer.normalizer = normalizers.Sequence(steps)
    return tokenizer


def _template(tokenizer: Any, tokens: Mapping[str, str], template: Template) -> Any:
    from tokenizers import processors

    eos = tokens["eos"]
    before = [tokens["bos"]] if template == "bos-eos" else []
    return processors.TemplateProcessing(
        single=[*before, "$A", eos],
        pair=[*before, "$A", eos, *before, "$B", eos],
        special_tokens=[(text, tokenizer.token_to_id(text)) for text in [*before, eos]],
    )
