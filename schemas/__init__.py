"""Nouns: everything that crosses a topic, the only codec, the catalogue of topics, the pipeline's values."""
