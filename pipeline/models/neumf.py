"""NeuMF (He et al., 2017): the network of NCF.

logit(u, i) = w . [p_u * q_i ; MLP([s_u ; t_i])] + b  (+ b_u + b_i)

GMF rows p, q have ``embedding_dim`` entries; MLP rows s, t have half of ``layers[0]`` each. Both
parts share one table per side, because a step is bound by the number of look-ups, not by their
width. Tables and signals are features first, [width, n]: one feature of all samples lies together,
so that a part of the features is contiguous and every operation runs over long rows.

Nothing but torch and NumPy is needed here, so that it can be timed where the rest is not installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, cast

import torch
from torch import Tensor, nn

from pipeline.training.layers import hidden, joined, keep, split, spread
from pipeline.training.method import Bounds, Method
from pipeline.training.optimizers.adam import Adam
from pipeline.training.tables import Table, columns_of

# Of ML-1M's test users, folded in by what they had in training, these two gave a list of NDCG .368
# (experiments/ncf.yaml; their own columns .377, popularity .326); 10 or 60 steps, or a rate a
# third or three times as large, gave less.
FOLD_STEPS = 30
FOLD_RATE = 0.1  # of the mean standard deviation of a feature over users


@dataclass(frozen=True)
class NCFMethod(Method):
    """The network's shape, and how it is trained."""

    embedding_dim: Annotated[int, Bounds(ge=1)] = 8
    """Entries of a GMF row."""
    layers: tuple[int, ...] = (16, 8)
    """Widths of the MLP, the concatenated input first; empty for GMF alone."""
    dropout: Annotated[float, Bounds(ge=0, lt=1)] = 0.0
    """Before each linear layer of the MLP."""
    bias: bool = False
    """Add a bias per user and per item to the logit."""


class NCFNetwork(nn.Module):
    """The network: NeuMF with both halves of a row in one table."""

    capturable = True
    users: Table
    """[width, n_users]: GMF, MLP and, where there are biases, the bias."""
    items: Table
    """[width, n_items]."""
    wide: Tensor | None
    """Logits of a model beside it, [n_users, n_items], that training adds; no part of its state."""

    def __init__(
        self,
        n_users: int,
        n_items: int,
        method: NCFMethod,
        generator: torch.Generator | None = None,
    ) -> None:
        """Embeddings N(0, .01), linear weights Xavier-normal, biases 0.

        Dropout draws from ``generator``, or from PyTorch's global one.

        Modules are made, then given their start, from PyTorch's global generator and in the order
        of the notebook: the same seed gives the notebook's start.
        """
        super().__init__()
        self.generator = generator
        self.gmf, self.dropout, self.bias = method.embedding_dim, method.dropout, method.bias
        self.bf16 = method.precision == "bf16"  # in training; scores are worked out in float32
        self.rescale = 1 / (1 - method.dropout)  # of what dropout leaves
        half = method.layers[0] // 2 if method.layers else 0
        self.widths = (self.gmf, half, int(method.bias))  # of the parts of an embedding
        tables = [
            nn.Embedding(count, columns)
            for columns in (self.gmf, half)
            for count in (n_users, n_items)
        ]
        self.users, self.items = (
            Table(torch.empty(sum(self.widths), count)) for count in (n_users, n_items)
        )
        self.hidden = nn.ModuleList(nn.Linear(*widths) for widths in pairwise(method.layers))
        last = method.layers[-1] if method.layers else 0
        self.ends = (self.gmf, last)  # what meets in the output
        self.output = nn.Linear(sum(self.ends), 1)
        for table in tables:
            nn.init.normal_(table.weight, std=0.01)
        for layer in (*self.hidden, self.output):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        parts = [table.weight.t() for table in tables]
        for ours, gmf, mlp in zip((self.users, self.items), parts[:2], parts[2:], strict=True):
            bias = torch.zeros(int(self.bias), gmf.shape[1])
            with torch.no_grad():
                torch.cat([gmf, mlp, bias], out=ours.weight)
        self.register_buffer("wide", None, persistent=False)

    def forward(self, users: Tensor, items: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Logits of users [B] with candidates [C, B]; the columns used, [., B] and [., C, B]."""
        user, item = self.users(users), self.items(items)
        (gmf_user, mlp_user, user_bias), (gmf_item, mlp_item, item_bias) = self.parts(user, item)
        of_product, of_signal = self.output.weight.split(self.ends, dim=1)
        product = (spread(gmf_user, len(items)) * gmf_item).flatten(1)
        logits = torch.addmm(self.output.bias[:, None], of_product, product)
        layers = cast("list[nn.Linear]", list(self.hidden))
        if layers:
            kind = torch.bfloat16 if self.bf16 else logits.dtype
            left, right = mlp_user.to(kind), mlp_item.to(kind)
            signal = joined([spread(left, len(items)), right]).flatten(1)
            if self.dropout:
                signal = signal * keep(signal, self.dropout, self.generator)
            for layer in layers:
                weight = layer.weight * self.rescale if self.dropout else layer.weight
                dropped = 0.0 if layer is layers[-1] else self.dropout
                signal = hidden(
                    weight.to(kind), layer.bias.to(kind), signal, dropped, self.generator
                )
            logits = torch.addmm(logits, of_signal, signal.to(logits.dtype))
        logits = logits.view(items.shape)
        if self.bias:
            logits = logits + user_bias + item_bias[0]
        if self.wide is not None:
            logits = logits + self.wide[users, items]
        return logits, (user, item)

    def parts(self, *embeddings: Tensor) -> list[Sequence[Tensor]]:
        """Views of embeddings, features first: GMF, MLP and bias, the latter two may be empty."""
        return [split(part, self.widths) for part in embeddings]

    @torch.inference_mode()
    def score(self, users: Tensor) -> Tensor:
        """Logits of users [B] with the whole catalogue, [B, n_items]."""
        return self.score_columns(columns_of(self.users.weight, users))

    def score_columns(self, users: Tensor, block_size: int | None = None) -> Tensor:
        """Logits of users as columns, [width, B], with the whole catalogue, [B, n_items].

        The user and the item half of the first hidden layer are computed once each and added,
        so that no concatenated pair is ever made. Hidden layers are held for the pairs of
        ``block_size`` users at a time, of all if None.
        """
        (gmf_user, mlp_user, user_bias), (gmf_item, mlp_item, item_bias) = self.parts(
            users, self.items.weight
        )
        of_product, of_signal = self.output.weight[0].split(self.ends)
        weighted = gmf_user.t() * of_product
        layers = cast("list[nn.Linear]", list(self.hidden))
        if layers:
            left, right = layers[0].weight.chunk(2, dim=1)
            of_item = right @ mlp_item
        count = users.shape[1]
        size = block_size or max(1, count)
        scores = users.new_empty(count, self.items.weight.shape[1])
        for start in range(0, count, size):
            block = slice(start, start + size)
            logits: Tensor = weighted[block] @ gmf_item
            logits += self.output.bias
            if self.bias:
                logits += user_bias[:, block].t() + item_bias
            if layers:
                of_user = left @ mlp_user[:, block] + layers[0].bias[:, None]
                signal = (of_user[:, :, None] + of_item[:, None]).relu_().flatten(1)
                for layer in layers[1:]:
                    signal = torch.addmm(layer.bias[:, None], layer.weight, signal).relu_()
                logits.view(-1).addmv_(signal.t(), of_signal)
            scores[block] = logits
        return scores

    @torch.inference_mode()
    def vectors(self) -> tuple[Tensor, Tensor]:
        """Of a network without an MLP: [n_users, d] and [n_items, d], whose products are logits."""
        user, item = self.users.weight.t(), self.items.weight.t()
        ones = [side.new_ones(len(side), 1) for side in (user, item)]
        users = [user[:, : self.gmf] * self.output.weight[0], ones[0] * self.output.bias]
        items = [item[:, : self.gmf], ones[1]]
        if self.bias:
            users += [user[:, -1:], ones[0]]
            items += [ones[1], item[:, -1:]]
        return torch.cat(users, dim=1), torch.cat(items, dim=1)

    def fit_users(self, liked: Tensor, wide: Tensor | None = None) -> Tensor:
        """Columns [width, n] of people who like these items, float [n, n_items] of ones.

        ``wide`` are the logits that another model has for them, [n, n_items].

        Each starts at the mean user and takes FOLD_STEPS steps of Adam on the full softmax,
        -mean over liked items of ln(e^logit / sum over the catalogue of e^logit). There is no
        penalty: few steps keep near the mean whoever likes little.
        """
        known = self.users.weight.detach()
        columns = known.mean(1, keepdim=True).repeat(1, len(liked)).requires_grad_()
        # One user deviates from none.
        deviations = known.std(1, correction=min(1, known.shape[1] - 1))
        optimizer = Adam([columns], FOLD_RATE * float(deviations.mean()))
        shares = liked / liked.sum(1, keepdim=True)
        for _ in range(FOLD_STEPS):
            # A sum over people: nobody's column depends on who else is in the block.
            logits = self.score_columns(columns)
            logits = logits if wide is None else logits + wide
            loss = -(logits.log_softmax(1) * shares).sum()
            gradient, *_ = torch.autograd.grad(loss, columns)
            # A user's bias changes no softmax; Adam would follow what rounding leaves of that.
            gradient[sum(self.widths[:2]) :] = 0
            optimizer.step([gradient])
        return columns.detach()
