"""What changed, and whose fault is it: one verdict a window, from raw fields and every model's score for the same event."""
