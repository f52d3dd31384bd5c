"""What arms cost, beside what they bring: one quantity a file, measured side by side, each failing on its own."""

from foveate.study.costs.measuring import measure_costs
from foveate.study.costs.pareto import Point, certainly_dominated, pareto
from foveate.study.costs.training import detection_loss, mean_square

__all__ = ["Point", "certainly_dominated", "detection_loss", "mean_square", "measure_costs", "pareto"]
