"""The pure core: attrs values and synchronous decisions. No I/O, no clock, no randomness, no event loop."""
