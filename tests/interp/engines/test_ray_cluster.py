"""How much of a cluster a pool takes, and what is told of one that cannot be joined."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("ray", reason="needs the extra 'scale'")

import ray

from interp.engines import EngineError, RayEngine
from interp.engines.ray_cluster import find_share, largest_that_fits, places


@pytest.fixture
def cluster(monkeypatch):
    """Pretend to be connected to nodes with so many CPUs, all free."""

    def pretend(*cpus):
        nodes = [{"Alive": True, "Resources": {"CPU": float(each)}} for each in cpus]
        nodes.append({"Alive": False, "Resources": {"CPU": 1000.0}})
        monkeypatch.setattr(ray, "nodes", lambda: nodes)
        monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": float(sum(cpus))})

    return pretend


def test_what_is_reserved_of_several_nodes_fits_on_each(cluster):
    cluster(2, 2)  # seven of 0.514 CPUs would be all but a tenth, but a node has room for three
    share = find_share(RayEngine(workers=7), 100)
    assert share.workers == 7 and share.cpus == 0.5


def test_threads_are_no_more_than_a_node_has(cluster):
    cluster(8, 8, 4)
    assert find_share(RayEngine(workers=1), 100).threads == 8
    assert find_share(RayEngine(workers=5), 100).threads == 4
    assert find_share(RayEngine(), 100).workers == 20


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.integers(1, 64), min_size=1, max_size=5),
    st.integers(1, 100),
    st.floats(0.01, 1.0),
)
def test_as_many_as_asked_for_fit_with_no_more_than_granted(cpus, workers, most):
    nodes = [{"CPU": float(each)} for each in cpus]
    reserved = largest_that_fits(nodes, workers, most)
    assert 0 < reserved <= most
    assert places(nodes, reserved, 0) >= workers
    if reserved < most - 1e-4:  # one grain more would not do
        assert places(nodes, min(most, reserved + 2e-4), 0) < workers


def test_places_are_counted_by_node_and_by_what_is_scarcest():
    nodes = [{"CPU": 8.0, "GPU": 1.0}, {"CPU": 3.0}, {"CPU": 2.0, "GPU": 4.0}]
    assert places(nodes, 1, 0) == 13
    assert places(nodes, 1.5, 0) == 5 + 2 + 1
    assert places(nodes, 1, 0.5) == 2 + 0 + 2
    assert places([{"CPU": 0.3}], 0.1, 0) == 3  # 0.3 / 0.1 is less than 3 in floating point


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        ("RPC error: InvalidAuthToken", "takes those alone who have its token: set RAY_AUTH_MODE"),
        ("connection refused", "there is no Ray at '10.0.0.1:6379': Failed to connect"),
    ],
)
def test_a_cluster_that_cannot_be_joined_is_told(monkeypatch, cause, told):
    def init(*args, **named):
        try:
            raise RuntimeError(cause)
        except RuntimeError as fault:
            raise ConnectionError("Failed to connect") from fault

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(EngineError, match=told):
        RayEngine(address="10.0.0.1:6379").run(lambda: None, [0], lambda item, result: None)
