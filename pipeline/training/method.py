"""How a network is trained, as far as the training loop knows.

Nothing but torch is needed here. A plain ``Method`` is taken as it stands; the settings of an
experiment inherit its fields, and pydantic holds them to their bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

Precision = Literal["float32", "tf32", "bf16"]
Optimizer = Literal["auto", "adam", "lazy_adam"]
Embeddings = Literal["auto", "replicated", "sharded"]


@dataclass(frozen=True)
class Bounds:
    """What pydantic is to hold a number to, for annotations that do without pydantic.

    ``Annotated[float, Bounds(ge=0, lt=1)]``: named as in pydantic's core schemas and its own
    annotations, by which a study finds where a field ends.
    """

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        limits = {name: limit for name, limit in vars(self).items() if limit is not None}
        return {**handler(source), **limits}


@dataclass(frozen=True)
class Method:
    """How a network is trained, whatever the network."""

    __pydantic_config__: ClassVar[dict[str, bool]] = {"use_attribute_docstrings": True}

    loss: str = "bce"
    """bpr, bce or softmax on logits; bpr_sigmoid is the notebook's BPR on sigmoid outputs; or one's
    own, as in my_file.py:hinge."""
    batch_size: Annotated[int, Bounds(ge=1)] = 2048
    """Positives per step."""
    learning_rate: Annotated[float, Bounds(gt=0)] = 1e-4
    """Of Adam."""
    optimizer: Optimizer = "auto"
    """adam moves all embeddings in every step; lazy_adam those of the batch, without a first
    moment, and takes no weight_decay. auto is lazy_adam where that is quicker, as far as the size
    of the tables and of a batch tell, and there is no weight_decay."""
    embeddings: Embeddings = "auto"
    """Under torchrun with lazy_adam: replicated in every process, or sharded by rows, each of which
    is in one. auto shards them where they would take more than half of a process's free memory;
    what is learned is the same."""
    weight_decay: Annotated[float, Bounds(ge=0)] = 0.0
    """Adam's coupled decay of all parameters, which also shrinks rows that a batch did not use."""
    l2: Annotated[float, Bounds(ge=0)] = 0.0
    """L2 penalty on the embedding rows that a batch used, per sample."""
    negatives: Annotated[int, Bounds(ge=1)] = 1
    """Negatives per positive."""
    negative_power: Annotated[float, Bounds(ge=0)] = 0.0
    """Negatives are drawn by popularity to this power: 0 is uniform."""
    verified_negatives: bool = False
    """Draw negatives again that the user has in training."""
    precision: Precision = "float32"
    """Of hidden layers' matrix products, on CUDA. tf32 and bf16 (bfloat16) have the range of a
    float32 and are faster, as they keep 10 and 7 of the 23 bits of its fraction; bf16 takes half
    the memory, too. Parameters, and models that are loaded, stay float32."""
