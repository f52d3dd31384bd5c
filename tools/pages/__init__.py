"""Documentation pages of the mechanisms, generated from their definition: nothing on them is kept by hand."""
