from __future__ import annotations

import numpy as np
import pandas as pd

from analyses.superposition.findings import Finding, findings_table


def test_a_row_for_each_claim_that_was_put_to_the_test() -> None:
    rows = [Finding("a", "1", "2", np.bool_(False)), None, Finding("b", "3", "3", True)]
    expected = {"claim": ["a", "b"], "theory": ["1", "3"], "here": ["2", "3"]}
    pd.testing.assert_frame_equal(
        findings_table(rows, "theory"), pd.DataFrame({**expected, "agrees": [False, True]})
    )


def test_no_claim_leaves_the_columns() -> None:
    table = findings_table([None])
    assert list(table) == ["claim", "paper", "here", "agrees"]
    assert len(table) == 0 and table["agrees"].dtype == bool
