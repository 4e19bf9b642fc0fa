"""What each of several workers gets of the nodes of a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MOST_ON_NODE = 4  # shares of a node without GPUs: each holds the data in memory


@dataclass(frozen=True)
class Share:
    """What each of several workers has of the nodes."""

    count: int
    """Of workers."""
    cpus: int
    gpus: float
    fitting: int
    """Workers for which the nodes of now have room; the others wait for more."""

    def in_words(self) -> str:
        """What there is to say of it, in a line."""
        each = f"{self.cpus} CPU" + (f" and {self.gpus:.2g} GPU" if self.gpus else "")
        waiting = self.count - self.fitting
        more = f"; {waiting} of them wait for a node with room" if waiting > 0 else ""
        return f"{self.count} workers on Ray, each with {each}{more}"


def share(
    nodes: Sequence[Mapping[str, float]],
    workers: int | None = None,
    workers_per_gpu: int = 1,
    *,
    on_gpu: bool = False,
) -> Share:
    """What each of ``workers`` gets of nodes with so many ``CPU`` and ``GPU``.

    Without a number of workers there are ``workers_per_gpu`` on each GPU, or up to four on each
    node where there are none or none is wanted. They have as many CPUs as leave room for all.
    """
    with_gpu = [node for node in nodes if node.get("GPU", 0) >= 1] if on_gpu else []
    if with_gpu:
        room = [int(node["GPU"]) * workers_per_gpu for node in with_gpu]
        cpus = min(int(node["CPU"]) // most for node, most in zip(with_gpu, room, strict=True))
        return Share(workers or sum(room), max(1, cpus), 1 / workers_per_gpu, sum(room))
    cores = [int(node.get("CPU", 0)) for node in nodes]
    count = workers or max(1, sum(min(each, MOST_ON_NODE) for each in cores))
    cpus = max([1, *cores])
    while cpus > 1 and sum(each // cpus for each in cores) < count:
        cpus -= 1
    return Share(count, cpus, 0.0, sum(each // cpus for each in cores))
