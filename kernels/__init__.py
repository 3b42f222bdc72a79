"""Operators of CLAMP: cross-attention with attention mass, gated residual LayerNorm, and two contrastive losses.

Importing this package imports nothing else: each public function loads its module at its first use. The Hugging Face
hub has a distribution whose package is called `kernels` too, and transformers looks for it; the names that only that
package has raise an ImportError that says which `kernels` this is.
"""

TYPE_CHECKING = False  # type checkers take it as true; importing typing for it would break the promise above
if TYPE_CHECKING:
    from kernels.attention.api import cross_attention
    from kernels.gated_norm.api import gated_residual_norm
    from kernels.grouped_infonce.api import grouped_info_nce
    from kernels.infonce.api import info_nce

# The project's one version, read as text by the build. It stays 0.1.x: transformers takes an importable `kernels` of
# version 0.16 to 0.19 for the hub's package of that name.
__version__ = "0.1.0"

__all__ = ["__version__", "cross_attention", "gated_residual_norm", "grouped_info_nce", "info_nce"]

_MODULE_OF = {
    "cross_attention": "attention.api",
    "gated_residual_norm": "gated_norm.api",
    "grouped_info_nce": "grouped_infonce.api",
    "info_nce": "infonce.api",
}

# What the hub's package exports (its version 0.17.2).
_HUB_NAMES = frozenset(
    {
        "Benchmark",
        "CUDAProperties",
        "Device",
        "FuncRepository",
        "KernelizeFallback",
        "LayerRepository",
        "LoadedKernel",
        "LocalFuncRepository",
        "LocalLayerRepository",
        "LockedFuncRepository",
        "LockedLayerRepository",
        "Metadata",
        "Mode",
        "ROCMProperties",
        "RepoInfo",
        "VariantAccepted",
        "VariantRejected",
        "get_kernel",
        "get_kernel_dep",
        "get_kernel_variants",
        "get_loaded_kernels",
        "get_local_kernel",
        "get_locked_kernel",
        "has_kernel",
        "install_kernel",
        "kernelize",
        "load_kernel",
        "register_kernel_mapping",
        "replace_kernel_forward_from_hub",
        "use_kernel_forward_from_hub",
        "use_kernel_func_from_hub",
        "use_kernel_mapping",
        "use_kernelized_func",
    }
)


def __getattr__(name: str) -> object:
    if name in _MODULE_OF:
        import importlib

        value = getattr(importlib.import_module(f"kernels.{_MODULE_OF[name]}"), name)
        globals()[name] = value
        return value
    if name in _HUB_NAMES:
        raise ImportError(
            f"{name} belongs to Hugging Face's distribution `kernels`; this package of the same name is clamp-repro's."
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
