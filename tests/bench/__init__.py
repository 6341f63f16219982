"""Benchmarks: ratios against hand-written loops, measured in one run on one broker (`make bench`)."""
