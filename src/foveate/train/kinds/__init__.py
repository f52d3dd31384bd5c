"""The kinds of work, one a file: what data, which networks, which task, and what is said of a new image."""

from foveate.train.kinds.kind import KINDS, Data, Kind, Said, kind_of

__all__ = ["KINDS", "Data", "Kind", "Said", "kind_of"]
