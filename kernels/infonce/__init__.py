"""Symmetric InfoNCE over one batch: the public function, its PyTorch path, its Triton kernels, and the ring."""
