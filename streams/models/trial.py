"""Load a LightGBM file in a process that may die of it: `python -m streams.models.trial WIDTH < FILE`."""

import contextlib
import resource
import sys

MEMORY_BYTES = 8 << 30
CPU_S = 60


def main() -> int:
    """Exit 0 when the model loads and scores finite numbers; else say why on stderr."""
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import numpy as np

    from streams.models.loading import import_lightgbm

    lightgbm = import_lightgbm()

    width = int(sys.argv[1])
    try:
        booster = lightgbm.Booster(model_str=sys.stdin.buffer.read().decode())
        rows = np.vstack([np.zeros(width), np.ones(width), np.full(width, 1e6)])
        scores = np.asarray(booster.predict(rows, num_threads=1))
    except (lightgbm.basic.LightGBMError, UnicodeDecodeError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if booster.num_trees() < 1 or scores.shape != (3,) or not np.isfinite(scores).all():
        sys.stderr.write(
            f"scores {scores.tolist()} of {booster.num_trees()} trees: one finite score per row is needed\n"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
