"""The software that scores are computed with: Python, and the libraries whose change may change a score."""

import platform
from importlib.metadata import PackageNotFoundError, version

from schemas.pipeline import Kind
from streams.core.fingerprint import Software

EVERY = ("msgspec", "numpy")
OF_KIND = {
    Kind.LIGHTGBM: ("lightgbm",),
    Kind.ONNX: ("onnxruntime",),
    Kind.PYTHON: ("catboost", "lightgbm", "onnxruntime", "pandas", "scikit-learn", "scipy", "torch", "xgboost"),
}


def software(kind: Kind) -> Software:
    """What is installed here, of what may matter to a model of this kind; a Python model may use anything."""
    found = {}
    for name in (*EVERY, *OF_KIND.get(kind, ())):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return Software(python=platform.python_version(), libraries=found)
