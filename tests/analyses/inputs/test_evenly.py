from analyses.inputs.evenly import evenly


def test_evenly():
    assert evenly([1, 2, 3], 5) == [1, 2, 3]
    assert evenly([0, 10, 20, 30, 40], 3) == [0, 20, 40]
    assert evenly([0, 10, 20, 30], 1) == [30]
    for most in range(1, 12):
        steps = evenly(range(10), most)
        assert len(steps) == len(set(steps)) == min(most, 10)
        assert steps[-1] == 9
        assert steps == sorted(steps)
    assert evenly([], 3) == []
