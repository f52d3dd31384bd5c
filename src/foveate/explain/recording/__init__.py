"""The parts of recording: which attention, what is heard of it, what is kept, and what can be asked of that.

`choosing` says which places and samples; `hearing` follows every map while the network runs; `keeping` takes of a map
what is left when the pass is over; `pairs` are weights between positions that answer about one of them, by `relations`;
`gradients` is how a score depends on a map; `maps`, `recording` and `statistics` are what a person gets.
"""
