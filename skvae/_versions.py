"""What a report of a bug should tell of the machine."""

import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import torch

PACKAGES = (  # needed ones, then those of the extras
    *("numpy", "scipy", "scikit-learn", "joblib", "torch"),
    *("imbalanced-learn", "matplotlib", "onnx", "onnxruntime", "onnxscript"),
    *("pandas", "polars", "pyarrow", "rich", "safetensors"),
)


def show_versions() -> None:
    """Print what a report of a bug should tell: versions, and what torch can compute with.

    See Also
    --------
    sklearn.show_versions : More about NumPy's and SciPy's libraries.

    Examples
    --------
    >>> import skvae
    >>> skvae.show_versions()  # doctest: +ELLIPSIS
    <BLANKLINE>
    System:
              python: 3...
    """
    sections: dict[str, Mapping[str, object]] = {
        "System": system_info(),
        "Python dependencies": package_versions(),
        "torch": torch_info(),
    }
    for title, values in sections.items():
        print(f"\n{title}:")
        for name, value in values.items():
            print(f"{name:>16}: {value}")


def system_info() -> dict[str, object]:
    """Return what Python runs on."""
    return {
        "python": sys.version.replace("\n", " "),
        "executable": sys.executable,
        "machine": platform.platform(),
        "processors": os.cpu_count(),
    }


def package_versions() -> dict[str, str | None]:
    """Return the installed versions; None for what is absent. Nothing is imported for it."""
    versions: dict[str, str | None] = {"skvae": sys.modules[__package__].__version__}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions


def torch_info() -> dict[str, object]:
    """Return what torch was built for, and what of it is there."""
    has_bfloat16 = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # torch has no public word for it
    n_devices = torch.cuda.device_count()
    return {
        "threads": torch.get_num_threads(),
        "CPU capability": torch.backends.cpu.get_cpu_capability(),
        "AVX512-BF16": has_bfloat16() if has_bfloat16 else None,
        "CUDA build": torch.version.cuda,
        "CUDA devices": ", ".join(torch.cuda.get_device_name(i) for i in range(n_devices)) or None,
        "MPS": torch.backends.mps.is_available(),
    }
