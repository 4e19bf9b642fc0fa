"""Memory of a GPU: what is left of it."""

from __future__ import annotations

import torch


def free_memory(device: torch.device) -> float:
    """Bytes that tensors on ``device`` can still take; infinite where it is no GPU.

    What PyTorch holds and does not use counts as free, as it will be used first.
    """
    if device.type != "cuda":
        return float("inf")
    free, _ = torch.cuda.mem_get_info(device)
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return float(free + held)
