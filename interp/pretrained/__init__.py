"""Trained models of others: one short file per Hugging Face family."""

from interp.pretrained.family import Family
from interp.pretrained.load import from_hf, load_model
from interp.pretrained.registry import families

__all__ = ["Family", "families", "from_hf", "load_model"]
