"""Neural Collaborative Filtering in one file: data, network, loss, loop, full ranking.

    python examples/train_ncf.py ml-1m.zip

It is what `python -m pipeline train --config experiments/ncf.yaml` trains and `evaluate` ranks,
written to be read from top to bottom: numpy, scikit-learn and torch, no MLflow, nothing of the
pipeline. The same seed gives the same figures: on MovieLens-1M, NDCG@10 .3770.

The method: NeuMF (He et al., 2017) with a BPR loss (Rendle et al., 2009) on logits. Its GMF part
starts at the truncated SVD of the ratings, and a few epochs at a small rate teach it the rest.
"""

from __future__ import annotations

import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import sparse
from sklearn.utils.extmath import randomized_svd
from torch import nn
from torch.nn.functional import softplus

SEED = 42
K = 10  # length of the recommended lists
# The split: one moment for everybody, so that nothing is learned from the future.
TEST_CUT = 0.8  # share of the ratings that lies before it
MIN_TRAINING = 5  # users with fewer training ratings do not train
MIN_WARM = 15  # users need so many of them to be evaluated
MIN_HELD_OUT = 10  # and so many ratings after the cut
# The network.
DIMENSION = 6  # entries of a GMF row
LAYERS = (16, 8)  # widths of the MLP: the user's and the item's half, then the hidden layer
# The training.
EPOCHS = 5  # the best number on a validation window inside the training part
BATCH_SIZE = 2048  # positives a step, each with one negative
LEARNING_RATE = 1e-5  # of Adam


# Data: rows of user, item, rating and moment become indices, cut in two at one moment.


@dataclass
class Data:
    """Training interactions by user and item, and what test users took later."""

    users: np.ndarray  # int64 [n]
    items: np.ndarray  # int64 [n]
    ratings: np.ndarray  # float32 [n]
    test_users: np.ndarray  # int64 [m]
    held_out: np.ndarray  # bool [m, n_items]
    n_users: int
    n_items: int

    @property
    def matrix(self) -> sparse.csr_matrix:
        """The training ratings, float32 [n_users, n_items]."""
        shape = (self.n_users, self.n_items)
        return sparse.csr_matrix((self.ratings, (self.users, self.items)), shape)


def read(path: Path) -> np.ndarray:
    """MovieLens' ratings.dat, user::item::rating::timestamp, by itself or in ml-1m.zip: [n, 4]."""
    source = zipfile.Path(path, "ml-1m/ratings.dat") if path.suffix == ".zip" else path
    text = source.read_text(encoding="ascii").replace("::", " ")
    return np.fromstring(text, np.int64, sep=" ").reshape(-1, 4)


def split(rows: np.ndarray) -> Data:
    """Train on what lies before the cut, evaluate warm users on what comes after it."""
    user, item, rating, moment = rows.T
    before = moment <= np.quantile(moment, TEST_CUT, method="nearest")
    activity = np.bincount(user[before], minlength=user.max() + 1)[user]
    train = before & (activity >= MIN_TRAINING)
    users, items = np.unique(user[train]), np.unique(item[train])
    # Items that nobody trained on cannot be recommended, so nobody is asked for them.
    test = ~before & np.isin(item, items) & (activity >= MIN_WARM)
    test &= np.bincount(user[test], minlength=user.max() + 1)[user] >= MIN_HELD_OUT
    order = np.lexsort((item[train], user[train]))
    test_users, places = np.unique(user[test], return_inverse=True)
    held_out = np.zeros((len(test_users), len(items)), bool)
    held_out[places, np.searchsorted(items, item[test])] = True
    return Data(
        np.searchsorted(users, user[train][order]),
        np.searchsorted(items, item[train][order]),
        rating[train][order].astype(np.float32),
        np.searchsorted(users, test_users),
        held_out,
        len(users),
        len(items),
    )


# Network: logit(u, i) = w . [p_u * q_i ; MLP([s_u ; t_i])] + b


class NeuMF(nn.Module):
    """Generalised matrix factorisation (GMF) beside a multi-layer perceptron (MLP)."""

    def __init__(self, n_users: int, n_items: int) -> None:
        super().__init__()
        counts = (n_users, n_items)
        self.gmf_user, self.gmf_item = (nn.Embedding(count, DIMENSION) for count in counts)
        self.mlp_user, self.mlp_item = (nn.Embedding(count, LAYERS[0] // 2) for count in counts)
        self.mlp = nn.Sequential(nn.Linear(*LAYERS), nn.ReLU())
        self.output = nn.Linear(DIMENSION + LAYERS[-1], 1)
        for table in (self.gmf_user, self.gmf_item, self.mlp_user, self.mlp_item):
            nn.init.normal_(table.weight, std=0.01)
        for layer in (self.mlp[0], self.output):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    @torch.no_grad()
    def start_at_svd(self, matrix: sparse.csr_matrix) -> None:
        """GMF begins as the truncated SVD, X ~ U S V^T with S split evenly, added up as it is."""
        left, values, right = randomized_svd(matrix, DIMENSION, n_iter=10, random_state=SEED)
        self.gmf_user.weight.copy_(torch.from_numpy(left * np.sqrt(values)))
        self.gmf_item.weight.copy_(torch.from_numpy(right.T * np.sqrt(values)))
        self.output.weight[:, :DIMENSION] = 1.0

    def forward(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Logits of users [B] with candidates [C, B]: [C, B]."""
        gmf = self.gmf_user(users) * self.gmf_item(items)
        item = self.mlp_item(items)
        pair = torch.cat([self.mlp_user(users).expand_as(item), item], dim=-1)
        return self.output(torch.cat([gmf, self.mlp(pair)], dim=-1)).squeeze(-1)


# Loss: a positive is to score above a negative drawn at random.


def bpr(logits: torch.Tensor) -> torch.Tensor:
    """-ln sigmoid(x_pos - x_neg) of logits [2, B], the positives first."""
    positive, negative = logits
    return softplus(negative - positive).mean()


# Loop: Adam over shuffled interactions, negatives drawn anew every epoch.


def train(model: NeuMF, data: Data) -> list[float]:
    """Losses, summed over the steps of each epoch."""
    generator = torch.Generator().manual_seed(SEED)
    users, items = torch.from_numpy(data.users), torch.from_numpy(data.items)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    losses = []
    for epoch in range(1, EPOCHS + 1):
        order = torch.randperm(len(users), generator=generator)
        negatives = torch.randint(data.n_items, (len(users),), generator=generator)
        batches = list(zip(order.split(BATCH_SIZE), negatives.split(BATCH_SIZE), strict=True))
        losses.append(0.0)
        for batch, negative in batches:
            loss = bpr(model(users[batch], torch.stack([items[batch], negative])))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[-1] += loss.item()
        print(f"epoch {epoch} of {EPOCHS}, loss {losses[-1] / len(batches):.4f}")
    return losses


# Full ranking: the whole catalogue is scored, what a user has seen is masked, the best K stay.


@torch.inference_mode()
def evaluate(model: NeuMF, data: Data) -> dict[str, float]:
    """Means over test users; coverage is the share of the catalogue that is recommended at all."""
    seen, catalogue = data.matrix, torch.arange(data.n_items)[:, None]
    gains = 1 / np.log2(np.arange(K) + 2)  # of a hit at each rank
    found, recommended = [], set[int]()
    for user, relevant in zip(data.test_users, data.held_out, strict=True):
        scores = model(torch.tensor([user]), catalogue)[:, 0].numpy()
        scores[seen[[user]].indices] = -np.inf
        best = np.argsort(-scores, kind="stable")[:K]  # ties by the number of the item
        hits, most = relevant[best], min(K, int(relevant.sum()))
        ndcg = (hits * gains).sum() / gains[:most].sum()
        found.append([ndcg, hits.any(), hits.mean(), hits.sum() / relevant.sum()])
        recommended |= set(best.tolist())
    names = ("ndcg", "hit_rate", "precision", "recall")
    means = dict(zip(names, np.mean(found, axis=0).tolist(), strict=True))
    return {**means, "coverage": len(recommended) / data.n_items}


def main(path: Path) -> tuple[list[float], dict[str, float]]:
    """All of it: the losses of the epochs, and the metrics of the lists."""
    data = split(read(path))
    torch.manual_seed(SEED)
    model = NeuMF(data.n_users, data.n_items)
    model.start_at_svd(data.matrix)
    losses = train(model, data)
    metrics = evaluate(model, data)
    print(", ".join(f"{name}@{K} {value:.4f}" for name, value in metrics.items()))
    return losses, metrics


if __name__ == "__main__":
    main(Path(sys.argv[1]))
