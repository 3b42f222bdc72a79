"""Symmetric InfoNCE in many small groups: the public function, the registered operators, and their Triton kernels."""
