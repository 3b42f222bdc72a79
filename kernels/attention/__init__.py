"""Cross-attention with attention mass: the public function, the registered operators, and their Triton kernels."""
