"""How far to trust a map: does the answer hang on what it marks, was it learned, is it more than a constant."""

from foveate.explain.trust.ablation import Ablation, ablate
from foveate.explain.trust.assess import Assessment, assess
from foveate.explain.trust.curves import Curve, Road, deletion, insertion, road
from foveate.explain.trust.effect import Effect
from foveate.explain.trust.faithful import Faithful, faithful
from foveate.explain.trust.pointing import Pointing, pointing
from foveate.explain.trust.randomise import Cascade, cascade
from foveate.explain.trust.statistics import GateStatistics, gate_statistics

__all__ = [
    "Ablation",
    "Assessment",
    "Cascade",
    "Curve",
    "Effect",
    "Faithful",
    "GateStatistics",
    "Pointing",
    "Road",
    "ablate",
    "assess",
    "cascade",
    "deletion",
    "faithful",
    "gate_statistics",
    "insertion",
    "pointing",
    "road",
]
