"""Training as an experiment sees it: settings, epochs that can be watched, a state to keep."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from pydantic import Field, field_validator

from pipeline.data.dataset import Dataset
from pipeline.data.values import Values
from pipeline.errors import UserError, brief
from pipeline.settings import Settings, refusing_values
from pipeline.training.loop import Network
from pipeline.training.losses import find_loss
from pipeline.training.method import Method
from pipeline.training.optimizers.lazy_adam import LazyAdam
from pipeline.training.parts import (
    give_parts,
    interactions_of,
    packed_network,
    with_embeddings_placed,
)
from pipeline.training.processes import leads, number, of_first, share, summed
from pipeline.training.shards import Portion, make_loop
from pipeline.training.threads import one_thread

log = logging.getLogger("pipeline")

CPU = torch.device("cpu")
LARGEST = 1e18  # of a parameter: the product of two larger ones is no float32 any more
SMALL_STEP = 200_000  # activations of a step below which a second thread costs more than it brings


class TrainingSettings(Settings, Method):
    """How a network is trained, and for how long, on what, and where."""

    epochs: int = Field(20, ge=1)
    """Passes over the training interactions; with patience, at most so many."""
    patience: int | None = Field(None, ge=1)
    """Stop after so many epochs without a better validation NDCG and keep the best number."""
    steps_per_epoch: int | None = Field(None, ge=1)
    """Steps of an epoch, in the place of batch_size: the batch follows the number of interactions,
    and a learning rate that is good on one data set is near a good one on another."""
    rating_confidence: float = Field(0.0, ge=0)
    """Weight of a positive: its value to this power, over the mean of that; 0 makes all alike."""
    values: Values = "auto"
    """What an interaction is worth as confidence, and in a start: as of the linear models."""
    shards: int = Field(1, ge=1)
    """Parts of the interactions, each of some users, that draw their random numbers by themselves
    and that every batch takes from: so many processes of torchrun can train it, or fewer. Under
    torchrun the default is a shard for each process."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes CUDA where there is one."""

    @field_validator("loss")
    @classmethod
    def _is_known(cls, loss: str) -> str:
        with refusing_values():
            find_loss(loss)
        return loss


@dataclass(frozen=True)
class Epoch:
    """One pass over the data, as reported to whoever watches a fit."""

    number: int
    """From 1."""
    loss: float
    """Mean over steps."""
    loss_sum: float
    """Sum over steps, as the notebook printed it."""
    seconds: float
    examples_per_second: float
    """Positives per second."""
    state: Callable[[], dict[str, Any]]
    """Everything needed to go on from here; live tensors, to be saved or copied at once."""

    def record(self) -> dict[str, float]:
        """What is worth keeping of it, by the names of metrics."""
        return {
            "loss": self.loss,
            "loss_sum": self.loss_sum,
            "epoch_seconds": self.seconds,
            "examples_per_second": self.examples_per_second,
        }


OnEpoch = Callable[[Epoch], bool]
"""Called after every epoch; answers whether to stop."""


class DivergedError(UserError):
    """The loss or a parameter became NaN or infinite."""


def choose_device(wanted: str) -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU.

    Raises:
        UserError: ``cuda`` is wanted and there is none.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise UserError("device=cuda: PyTorch finds no CUDA device here; use device=cpu or auto.")
    return torch.device("cuda" if available and wanted != "cpu" else "cpu")


class Trainer:
    """Trains a network on the training interactions of a dataset, epoch by epoch.

    Where processes of torchrun train together, the first one's trainer gives the others theirs.
    """

    def __init__(
        self,
        network: Network,
        data: Dataset | Portion,
        settings: TrainingSettings,
        generator: torch.Generator,
    ) -> None:
        """``network`` and ``generator`` live on the same device; the data are moved there.

        Order and negatives are drawn from ``generator``. Modules that draw from PyTorch's global
        generators find these seeded anew for every epoch, and with shards for every step.

        Raises:
            UserError: a precision is wanted that the device has not.
            LostError: another process has ended.
        """
        if settings.precision != "float32" and generator.device.type == "cpu":
            raise UserError(
                f"precision={settings.precision} needs a CUDA device, and this is training on a "
                f"CPU; use precision=float32."
            )
        interactions = None
        if isinstance(data, Dataset):
            settings, interactions = interactions_of(data, settings)
            settings = with_embeddings_placed(network, settings, generator.device)
            data = interactions.portion(0, number())
        self.network, self.settings, self.generator = network, settings, generator
        self.seed, self.interactions = generator.initial_seed(), sum(data.sizes)
        self.epochs_done = 0
        # As it is before an optimizer is part of it, and given when nothing speaks against that.
        given = packed_network(network, generator, settings) if leads() else b""
        self.loop = make_loop(network, data, settings, generator)
        if leads() and interactions is not None:
            give_parts(generator.device.type, given, settings, interactions)
        if settings.optimizer == "auto" and isinstance(self.loop.optimizer, LazyAdam):
            _say("optimizer=auto: lazy_adam, since the tables are large against a batch")
        if leads() and settings.embeddings == "sharded":
            _say(f"embeddings are sharded by rows among {number()} processes")

    def run(self, on_epoch: OnEpoch | None = None) -> None:
        """Train up to ``settings.epochs``, from where the state stands.

        Raises:
            DivergedError: an epoch's loss or result is not finite; ``on_epoch`` never hears of it.
            UserError: a GPU's memory is too small for the batch.
        """
        watched = on_epoch is not None
        if number() > 1:
            self.loop.optimizer.share()
            state = self.network.state_dict()
            share(state[name] for name, _ in self.network.named_buffers() if name in state)
            self.epochs_done, watched = of_first((self.epochs_done, watched))
        with _few_threads(self.settings.batch_size * (1 + self.settings.negatives)):
            while self.epochs_done < self.settings.epochs:
                started = time.perf_counter()
                # Anew for every epoch: one that was broken off draws the same again.
                draws = hash((self.seed, self.epochs_done))
                with seeded(draws, self.generator.device), self._enough_memory():
                    losses = self.loop.run()
                    # Here a GPU is waited for: the losses are wanted as one number.
                    loss_sum = float(losses.double().sum())
                self.epochs_done += 1
                self._require_finite(loss_sum)
                seconds = time.perf_counter() - started
                rate = self.interactions / seconds
                loss = loss_sum / len(losses)
                epoch = Epoch(self.epochs_done, loss, loss_sum, seconds, rate, self.state)
                with self.loop.optimizer.whole() if watched else nullcontext():
                    stop = on_epoch is not None and on_epoch(epoch)
                if of_first(stop):
                    break
        self.loop.optimizer.release()

    @contextmanager
    def _enough_memory(self) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError as error:
            size, steps = self.settings.batch_size, self.settings.steps_per_epoch
            advice = f"batch_size={max(1, size // 2)}"
            if steps is not None:
                advice = f"steps_per_epoch={2 * steps}, which halves it"
            raise UserError(
                f"The GPU has no memory left for batches of {size:,} in epoch "
                f"{self.epochs_done + 1} ({brief(error)}). Try {advice}, or end what else is on "
                f"the GPU (nvidia-smi lists it); the run then begins anew."
            ) from None

    def _require_finite(self, loss_sum: float) -> None:
        """The last step shows in the parameters alone: losses are taken before their step."""
        ends = [end for part in self.loop.optimizer.held if part.numel() for end in part.aminmax()]
        far = torch.stack(ends).abs().lt(LARGEST).logical_not()  # NaN is, too
        (lost,) = summed([far.sum()])  # a process may have others than this one
        if not math.isfinite(loss_sum) or lost:
            what = (
                "A parameter became huge, infinite or NaN"
                if math.isfinite(loss_sum)
                else f"The loss became {loss_sum}"
            )
            raise DivergedError(
                f"{what} in epoch {self.epochs_done}. Lower "
                f"learning_rate (now {self.settings.learning_rate:g}) or raise l2."
            )

    def state(self) -> dict[str, Any]:
        """Network, optimizer, random state and epochs done: tensors and plain values."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.loop.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "device": self.generator.device.type,
            "epochs_done": self.epochs_done,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from ``state``, bit for bit on a CPU.

        Random numbers of a CPU and of a GPU have nothing in common: on the other kind of device
        they are drawn anew, from the seed and the epochs done.

        Raises:
            UserError: it is no state of such a trainer.
        """
        kind = self.generator.device.type
        try:
            own = self.network.state_dict()  # tables were parameters of the network once
            self.network.load_state_dict(
                {
                    name if name in own else f"{name}.weight": value
                    for name, value in state["network"].items()
                }
            )
            self.loop.optimizer.load_state_dict(state["optimizer"])
            self.epochs_done = int(state["epochs_done"])
            if state.get("device", kind) == kind:
                self.generator.set_state(state["generator"].cpu())
            else:
                seed = self.generator.initial_seed()
                self.generator.manual_seed(hash((seed, self.epochs_done)))
                log.warning(
                    "The fit was begun on another kind of device (%s) and goes on on %s: weights "
                    "and optimizer are what they were, random numbers are drawn anew.",
                    state["device"],
                    kind,
                )
        except Exception as error:  # torch raises many kinds for what does not fit
            raise UserError(
                f"The state to go on from does not fit this model ({brief(error)}). Train again "
                f"without --resume."
            ) from None


@cache
def _say(text: str) -> None:
    """Once: a study trains the same network again and again."""
    log.info("%s", text)


@contextmanager
def seeded(seed: int, device: torch.device = CPU) -> Iterator[None]:
    """PyTorch's global generators, seeded for a ``with`` block and afterwards as before.

    What draws from them there, as a start or nn.Dropout does, draws the same every time, and nobody
    else's numbers change.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def _few_threads(rows: int) -> Iterator[None]:
    """Denormals flushed (they slow a CPU tenfold), and one thread where steps are small."""
    torch.set_flush_denormal(True)
    try:
        with one_thread() if rows < SMALL_STEP else nullcontext():
            yield
    finally:
        torch.set_flush_denormal(False)
