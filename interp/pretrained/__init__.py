"""Trained models of others: one short file per Hugging Face family.

`load_model` opens one by name or directory, `from_hf` one that is in memory. A `Family` is a config
and a table of weights; `llama` and `gpt2` are good ones to read, `families` lists all.
"""

from interp.pretrained.family import Family
from interp.pretrained.load import from_hf, load_model
from interp.pretrained.registry import families

__all__ = ["Family", "families", "from_hf", "load_model"]
