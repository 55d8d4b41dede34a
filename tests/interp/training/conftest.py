import pytest
import torch
from torch import nn

from interp.training import TrainSettings


class Regression:
    """A small task: a network with dropout learns the sum of its inputs."""

    def model(self, seed: int = 0) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(4, 8), nn.LayerNorm(8), nn.Dropout(0.2), nn.Tanh(), nn.Linear(8, 1)
        )
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0, 0.3, generator=generator)
        return model

    @staticmethod
    def batch(step, generator):
        x = torch.randn(16, 4, generator=generator)
        return x, x.sum(1, keepdim=True)

    @staticmethod
    def loss(model, batch):
        x, y = batch
        return (model(x) - y).pow(2).mean()


@pytest.fixture
def task():
    # Building layers draws default weights from the global generator.
    with torch.random.fork_rng():
        yield Regression()


@pytest.fixture
def settings():
    return TrainSettings(
        steps=30, lr=1e-2, warmup_steps=5, weight_decay=0.1, log_every=4, checkpoint_every=7
    )
