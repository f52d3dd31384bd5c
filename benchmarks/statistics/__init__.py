"""Do the statistics of `foveate compare` keep what they promise? `python -m benchmarks.statistics` simulates it."""
