"""Statistics of harvested rows, shard by shard, and merged in the order of shards."""

from interp.harvest.statistics.covariance import Covariance
from interp.harvest.statistics.files import read_statistics, statistics_tensors
from interp.harvest.statistics.hook import STATISTICS, HookStatistics, check_names
from interp.harvest.statistics.max_activating import MaxActivating
from interp.harvest.statistics.moments import Moments
from interp.harvest.statistics.quantiles import RELATIVE_ERROR, QuantileSketch
from interp.harvest.statistics.statistic import Statistic

__all__ = [
    "RELATIVE_ERROR",
    "STATISTICS",
    "Covariance",
    "HookStatistics",
    "MaxActivating",
    "Moments",
    "QuantileSketch",
    "Statistic",
    "check_names",
    "read_statistics",
    "statistics_tensors",
]
