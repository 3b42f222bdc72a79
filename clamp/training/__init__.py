"""One training run: the loop, its checkpoints, several processes, and what is watched of its gradients."""
