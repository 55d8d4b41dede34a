"""Circuits read off the weights alone, without running the model.

```python
from interp.weight_circuits import copying_scores, ov_circuit, qk_circuit, top_pairs

ov_circuit(model, 1, 3)              # W_E W_V W_O W_U as a FactoredMatrix, [d_vocab, d_vocab_out]
top_pairs(qk_circuit(model, 1, 3))   # the pairs of tokens that attend to each other most, by chunks
copying_scores(model).score          # [layer, head], in -1 … 1
composition_baseline(model, "K").z   # K-composition, in standard deviations of shuffled weights
```
"""

from interp.weight_circuits.chunks import (
    Entries,
    EntryStatistics,
    chunked_norm,
    diagonal_in_top,
    entry_statistics,
    row_norms,
    top_pairs,
    top_per_row,
)
from interp.weight_circuits.circuits import direct_path, ov_circuit, qk_circuit
from interp.weight_circuits.composition import (
    Composition,
    composition_baseline,
    composition_scores,
)
from interp.weight_circuits.copying import CopyingScores, copying_score, copying_scores
from interp.weight_circuits.crossing import cross_ov_circuit, cross_qk_circuit
from interp.weight_circuits.neurons import neuron_input_circuit, neuron_output_circuit
from interp.weight_circuits.skip_trigrams import SkipTrigrams, skip_trigrams
from interp.weight_circuits.vectors import effective_embedding, position_vectors, token_vectors
from interp.weight_circuits.virtual import (
    composed_qk_circuit,
    virtual_ov,
    virtual_ov_circuit,
    virtual_ov_norms,
    virtual_pattern,
)

__all__ = [
    "Composition",
    "CopyingScores",
    "Entries",
    "EntryStatistics",
    "SkipTrigrams",
    "chunked_norm",
    "composed_qk_circuit",
    "composition_baseline",
    "composition_scores",
    "copying_score",
    "copying_scores",
    "cross_ov_circuit",
    "cross_qk_circuit",
    "diagonal_in_top",
    "direct_path",
    "effective_embedding",
    "entry_statistics",
    "neuron_input_circuit",
    "neuron_output_circuit",
    "ov_circuit",
    "position_vectors",
    "qk_circuit",
    "row_norms",
    "skip_trigrams",
    "token_vectors",
    "top_pairs",
    "top_per_row",
    "virtual_ov",
    "virtual_ov_circuit",
    "virtual_ov_norms",
    "virtual_pattern",
]
