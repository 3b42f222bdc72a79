"""The gated residual LayerNorm: the public function, the registered operators, and their Triton kernels."""
