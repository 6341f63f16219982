"""The software that scores are computed with: Python, and the libraries whose change may change a score."""

import platform
from importlib.metadata import PackageNotFoundError, version

from streams.core.fingerprint import Software

LIBRARIES = (
    "lightgbm",
    "onnxruntime",
    "scikit-learn",
    "xgboost",
    "catboost",
    "torch",
    "numpy",
    "scipy",
    "pandas",
    "msgspec",
)


def software() -> Software:
    """What is installed here, of what may matter."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return Software(python=platform.python_version(), libraries=found)
