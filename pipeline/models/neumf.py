"""NeuMF (He et al., 2017): the network of NCF, with a gradient written out by hand.

logit(u, i) = w . [p_u * q_i ; MLP([s_u ; t_i])] + b  (+ b_u + b_i)

GMF rows p, q have ``embedding_dim`` entries; MLP rows s, t have half of ``layers[0]`` each. Both
parts share one table per side, because a step is bound by the number of look-ups, not by their
width.

Nothing but torch is needed here, so that it can be timed where the rest is not installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from pipeline.training.adam import Adam
from pipeline.training.epochs import Precision, Pull
from pipeline.training.layers import add_columns, keep

# Of ML-1M's test users, folded in by what they had in training, these two gave a list of NDCG .368
# (experiments/ncf.yaml; their own columns .377, popularity .326); 10 or 60 steps, or a rate a
# third or three times as large, gave less.
FOLD_STEPS = 30
FOLD_RATE = 0.1  # of the mean standard deviation of a feature over users


class Shape(Protocol):
    """What the network is made of; NCFSettings explains it."""

    @property
    def embedding_dim(self) -> int: ...
    @property
    def layers(self) -> Sequence[int]: ...
    @property
    def dropout(self) -> float: ...
    @property
    def bias(self) -> bool: ...
    @property
    def precision(self) -> Precision: ...


@dataclass(frozen=True)
class _Passed:
    """What a pass leaves for the way back."""

    users: Tensor
    items: Tensor
    user: Tensor
    item: Tensor
    product: Tensor
    signals: list[Tensor]
    kept: Tensor | None


class NCFNetwork(nn.Module):
    """The network: NeuMF with both halves of a row in one table."""

    capturable = True
    users: nn.Parameter
    """[width, n_users]: GMF, MLP and, where there are biases, the bias."""
    items: nn.Parameter
    """[width, n_items]."""
    wide: Tensor | None
    """Logits of a model beside it, [n_users, n_items], that training adds; no part of its state."""

    def __init__(self, n_users: int, n_items: int, shape: Shape) -> None:
        """Embeddings N(0, .01), linear weights Xavier-normal, biases 0.

        Modules are made, then given their start, from PyTorch's global generator and in the order
        of the notebook: the same seed gives the notebook's start.
        """
        super().__init__()
        self.gmf, self.dropout, self.bias = shape.embedding_dim, shape.dropout, shape.bias
        self.bf16 = shape.precision == "bf16"  # in training; scores are worked out in float32
        self.rescale = 1 / (1 - shape.dropout)  # of what dropout leaves
        half = shape.layers[0] // 2 if shape.layers else 0
        self.widths = (self.gmf, half, int(shape.bias))  # of the parts of an embedding
        tables = [
            nn.Embedding(count, columns)
            for columns in (self.gmf, half)
            for count in (n_users, n_items)
        ]
        self.hidden = nn.ModuleList(nn.Linear(*widths) for widths in pairwise(shape.layers))
        self.ends = (self.gmf, shape.layers[-1] if shape.layers else 0)  # what meets in the output
        self.output = nn.Linear(sum(self.ends), 1)
        for table in tables:
            nn.init.normal_(table.weight, std=0.01)
        for layer in (*self.hidden, self.output):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        user_bias, item_bias = (torch.zeros(count, int(shape.bias)) for count in (n_users, n_items))
        weights = [table.weight.detach() for table in tables]
        self.users = _columns(weights[0], weights[2], user_bias)
        self.items = _columns(weights[1], weights[3], item_bias)
        self.register_buffer("wide", None, persistent=False)

    @torch.no_grad()
    def forward(
        self, users: Tensor, items: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, tuple[Tensor, ...], Pull]:
        """Logits of users [B] with candidates [C, B]; the columns used, [., B] and [., C, B].

        The third is the way back: see ``pipeline.training.epochs.Pull``.
        """
        user = self.users.index_select(1, users)
        item = self.items.index_select(1, items.flatten()).unflatten(1, items.shape)
        (gmf_user, mlp_user, user_bias), (gmf_item, mlp_item, item_bias) = self.parts(user, item)
        product = (gmf_user[:, None] * gmf_item).flatten(1)
        of_product, of_signal = self.output.weight[0].split(self.ends)
        logits = torch.addmv(self.output.bias.expand(items.numel()), product.t(), of_product)
        # The inputs of the layers after dropout, then the output of the last one.
        signals: list[Tensor] = []
        kept: Tensor | None = None  # of the first input
        layers = cast("list[nn.Linear]", list(self.hidden))
        if layers:
            kind = torch.bfloat16 if self.bf16 else logits.dtype
            left, right = mlp_user.to(kind), mlp_item.to(kind)
            signals.append(torch.cat([left[:, None].expand_as(right), right]).flatten(1))
            for layer in layers:
                if self.dropout:
                    mask = keep(signals[-1], self.dropout, generator)
                    signals[-1].mul_(mask)
                    kept = mask if kept is None else kept
                weight, bias = layer.weight.to(kind), layer.bias.to(kind)
                signal = torch.addmm(bias[:, None], weight, signals[-1], alpha=self.rescale)
                signals.append(signal.relu_())
            logits.addmv_(signals[-1].t().to(logits.dtype), of_signal)
        logits = logits.view(items.shape)
        if self.bias:
            logits += user_bias[0] + item_bias[0]
        if self.wide is not None:
            logits += self.wide[users, items]
        passed = _Passed(users, items, user, item, product, signals, kept)
        return logits, (user, item), partial(self._pull, passed)

    @torch.no_grad()
    def _pull(self, passed: _Passed, slope: Tensor, used: Sequence[Tensor] = ()) -> None:
        """Gradients of all parameters, written out.

        Autograd would make the same steps of three times as many operations, and on a CPU a step
        of a small batch is bound by their number.
        """
        user, item, signals = passed.user, passed.item, passed.signals
        of_product, of_signal = self.output.weight[0].split(self.ends)
        (gmf_user, _, _), (gmf_item, _, _) = self.parts(user, item)
        to_user, to_item = torch.empty_like(user), torch.empty_like(item)
        to_users, to_items = self.parts(to_user, to_item)
        flat = slope.flatten()
        to_output = [passed.product @ flat]
        to_product = of_product[:, None, None] * slope
        torch.mul(to_product, gmf_user[:, None], out=to_items[0])
        torch.sum(to_product.mul_(gmf_item), 1, out=to_users[0])
        if signals:
            whole, kind = slope.dtype, signals[0].dtype
            to_output.append(signals[-1].to(whole) @ flat)
            flow = torch.outer(of_signal, flat).to(kind)
            for place, layer in reversed(list(enumerate(cast("list[nn.Linear]", self.hidden)))):
                # What ReLU, or the dropout after it, has set to 0 passes nothing on.
                flow = torch.ops.aten.threshold_backward(flow, signals[place + 1], 0)
                layer.weight.grad = (flow @ signals[place].t()).to(whole) * self.rescale
                layer.bias.grad = flow.sum(1, dtype=whole)
                flow = (layer.weight * self.rescale).to(kind).t() @ flow
            if passed.kept is not None:
                flow.mul_(passed.kept)
            left, right = flow.unflatten(1, passed.items.shape).chunk(2)
            torch.sum(left, 1, dtype=whole, out=to_users[1])
            to_items[1].copy_(right)
        if self.bias:
            torch.sum(slope, 0, keepdim=True, out=to_users[2])
            to_items[2].copy_(slope)
        if used:
            to_user += used[0]
            to_item += used[1]
        self.users.grad = add_columns(to_user, passed.users, self.users.shape[1])
        columns = passed.items.flatten()
        self.items.grad = add_columns(to_item.flatten(1), columns, self.items.shape[1])
        self.output.weight.grad = torch.cat(to_output)[None]
        self.output.bias.grad = flat.sum()[None]

    def parts(self, *embeddings: Tensor) -> list[Sequence[Tensor]]:
        """Views of embeddings, features first: GMF, MLP and bias, the latter two may be empty."""
        return [part.split(self.widths) for part in embeddings]

    @torch.inference_mode()
    def score(self, users: Tensor) -> Tensor:
        """Logits of users [B] with the whole catalogue, [B, n_items]."""
        return self.score_columns(self.users[:, users])

    def score_columns(self, users: Tensor, block_size: int | None = None) -> Tensor:
        """Logits of users as columns, [width, B], with the whole catalogue, [B, n_items].

        The user and the item half of the first hidden layer are computed once each and added,
        so that no concatenated pair is ever made. Hidden layers are held for the pairs of
        ``block_size`` users at a time, of all if None.
        """
        (gmf_user, mlp_user, user_bias), (gmf_item, mlp_item, item_bias) = self.parts(
            users, self.items
        )
        of_product, of_signal = self.output.weight[0].split(self.ends)
        weighted = gmf_user.t() * of_product
        layers = cast("list[nn.Linear]", list(self.hidden))
        if layers:
            left, right = layers[0].weight.chunk(2, dim=1)
            of_item = right @ mlp_item
        count = users.shape[1]
        size = block_size or max(1, count)
        scores = users.new_empty(count, self.items.shape[1])
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

    def fit_users(self, liked: Tensor, wide: Tensor | None = None) -> Tensor:
        """Columns [width, n] of people who like these items, float [n, n_items] of ones.

        ``wide`` are the logits that another model has for them, [n, n_items].

        Each starts at the mean user and takes FOLD_STEPS steps of Adam on the full softmax,
        -mean over liked items of ln(e^logit / sum over the catalogue of e^logit). There is no
        penalty: few steps keep near the mean whoever likes little.
        """
        known = self.users.detach()
        columns = known.mean(1, keepdim=True).repeat(1, len(liked)).requires_grad_()
        optimizer = Adam([columns], FOLD_RATE * float(known.std(1).mean()))
        shares = liked / liked.sum(1, keepdim=True)
        for _ in range(FOLD_STEPS):
            # A sum over people: nobody's column depends on who else is in the block.
            logits = self.score_columns(columns)
            logits = logits if wide is None else logits + wide
            loss = -(logits.log_softmax(1) * shares).sum()
            (columns.grad,) = torch.autograd.grad(loss, columns)
            # A user's bias changes no softmax; Adam would follow what rounding leaves of that.
            columns.grad[sum(self.widths[:2]) :] = 0
            optimizer.step()
        return columns.detach()


def _columns(*parts: Tensor) -> nn.Parameter:
    """Tables [n, .] side by side, features first."""
    return nn.Parameter(torch.cat(parts, dim=1).t().contiguous())
