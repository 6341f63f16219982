"""The edge to models: checked files, LightGBM, Python callables, constants."""
