"""The pure core: no broker, no disk, no clock, no event loop. Pass the time in, publish what comes back."""
