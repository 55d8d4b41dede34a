# %% [markdown]
# # Superposition in a minute
#
# Five features, two dimensions. A model must squeeze the five through the two and give them back
# (Elhage et al. 2022, *Toy Models of Superposition*). If features are always there, it can keep
# two. If each is rarely there, it keeps all five, as directions that share the plane:
# superposition.
# Eight toys of each of three densities are trained here, all in one program.

# %%
from collections import Counter

import pandas as pd
import torch

from interp.charts import Chart, show
from interp.toys import (
    ReconstructionLoss,
    SparseFeatures,
    ToyModel,
    ToySettings,
    dimensions_per_feature,
    feature_dimensionality,
    geometric_importance,
    recognise_each,
    train,
)

DENSITIES, SEEDS = (1.0, 0.3, 0.02), 8  # how likely each feature is there: 1 - S in the paper
density = torch.tensor(DENSITIES).repeat_interleave(SEEDS)
toys = ToyModel(n_instances=len(density), n_features=5, d_hidden=2)  # x → ReLU(Wᵀ W x + b)
features = SparseFeatures.of(len(density), 5, density[:, None])
loss = ReconstructionLoss.of(len(density), 5, geometric_importance(5, 0.9))  # the first most
settings = ToySettings(steps=800, batch_size=128, lr=1e-2, decay="cosine")
run = train(toys, features, loss, settings)
W = toys.W.detach()  # [instance, d_hidden, feature]

# %% [markdown]
# Which shapes? A toy ends in one of several local minima, so eight of each are looked at, and the
# one of the least loss is drawn. “Unnamed” is what fits no polytope: dense toys, whose importances
# are close, take long to let go of the three features that they cannot keep.

# %%
shapes = [str(each.summary) for each in recognise_each(W)]
reached = run.losses[-5:].mean(0)
best = {}
for i, each in enumerate(DENSITIES):
    group = range(i * SEEDS, (i + 1) * SEEDS)
    best[each] = min(group, key=lambda toy: reached[toy].item())
    print(f"density {each}: {Counter(shapes[toy] for toy in group).most_common(3)}")

rows = [
    {"toy": f"density {each}", "feature": str(feature), "x": x, "y": y}
    for each, toy in best.items()
    for feature, (x, y) in enumerate(W[toy].T.tolist())
]
chart = Chart(
    kind="points", table="directions", x="x", y="y", color="feature", facet="toy", vectors=True,
    title="The five features' directions in two dimensions",
    alt="Dense features: two directions at most are long. Sparse ones: a regular pentagon.",
)  # fmt: skip
show(chart, pd.DataFrame(rows))

# %% [markdown]
# Two numbers say the same without a picture. *Dimensions per feature*, m / ‖W‖²: 1 where each
# feature that is kept has a dimension of its own, less where they share; below 2/5 here, for
# columns of W grow longer than 1 where biases hold back interference. And each feature's own
# *dimensionality*, ‖Wᵢ‖² / Σⱼ (Ŵᵢ·Wⱼ)²: in a pentagon 2/5 for each.

# %%
pentagon = best[0.02]
per_feature = {each: dimensions_per_feature(W)[toy].item() for each, toy in best.items()}
print("dimensions per feature:", {each: f"{number:.2f}" for each, number in per_feature.items()})
print("each feature's share:  ", feature_dimensionality(W[pentagon]))

# %% [markdown]
# The price is interference: a feature that is there shines into its neighbours. The bias and the
# ReLU cut that off as long as few are there at once. That is why sparsity decides. How it misleads:
# these features are independent and of known importance, and the model knows nothing else. A real
# model's features are neither; that its neurons answer to several things is not yet a pentagon.

# %%
assert shapes[pentagon] == "pentagon"
assert torch.allclose(feature_dimensionality(W[pentagon]), torch.tensor(0.4), atol=0.03)
assert per_feature[1.0] > 0.9 > 0.6 > per_feature[0.3] > 0.4 > per_feature[0.02]
