"""What changed, and whose fault is it: a verdict a window, from raw fields and all models' scores of an event."""
