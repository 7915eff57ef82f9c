"""What a training step computes: the model, batches, losses, gradients, optimizers and low-rank weights."""
