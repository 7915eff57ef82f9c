"""When memory runs out: what a training step costs, and what each way out saves."""

from __future__ import annotations

from ..description import Look, Opens

ABOUT = """
Training needs several times the memory of drawing: the weights, a gradient for each, what the optimizer remembers of
each, and everything computed on the way forward, kept for the way back. The step of the model above is rehearsed with
tensors that have a size and no contents, so nothing is spent to find out. Accumulation halves the batch and loses
nothing but time; checkpointing computes the way forward twice ("Training Deep Nets with Sublinear Memory Cost"); 8-bit
optimizers keep their memory in bytes ("8-bit Optimizers via Block-wise Quantization"). *Measure* makes one real step
beside it.
"""

LOOK = Look(
    "memory", "Memory", ABOUT, ("lab.memory.cost", "models.optimizer_state.state_bytes"), front=("side", "batch_size"),
    tables=("Memory (MB)", "Measured"), seeded=False,
    opens=Opens("train", "Train", {"side": "resolution", "batch_size": "batch_size", "accumulation": "accumulation"}))
