"""A corpus as tokens on disk: read once, tokenised once, put into sequences when it is read."""

from interp.harvest.corpus.prepare import prepare_tokens
from interp.harvest.corpus.settings import CorpusSettings
from interp.harvest.corpus.store import TokenBlock, TokenStore

__all__ = ["CorpusSettings", "TokenBlock", "TokenStore", "prepare_tokens"]
