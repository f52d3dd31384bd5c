"""What a network costs: parameters, multiply-accumulates, bytes moved, latency, peak memory; one a file.

They belong together. A counter of multiply-accumulates calls attention without parameters free, while every
pass over a feature map takes time; and a latency without its conditions says nothing. :func:`measure` reports
all of them, with the conditions.
"""

from foveate.measure.calibrate import this_machine
from foveate.measure.choose import Candidate, Choice, choose
from foveate.measure.conditions import Conditions
from foveate.measure.inference import inference
from foveate.measure.latency import Latency, latency_ratio, measure_latency
from foveate.measure.machine import Machine, Rates
from foveate.measure.macs import count_macs
from foveate.measure.measurement import Measurement, measure
from foveate.measure.memory import peak_memory
from foveate.measure.parameters import count_parameters
from foveate.measure.prediction import Prediction, predict
from foveate.measure.record import Operation, operations
from foveate.measure.survey import Entry, survey
from foveate.measure.traffic import count_bytes

__all__ = [
    "Candidate",
    "Choice",
    "Conditions",
    "Entry",
    "Latency",
    "Machine",
    "Measurement",
    "Operation",
    "Prediction",
    "Rates",
    "choose",
    "count_bytes",
    "count_macs",
    "count_parameters",
    "inference",
    "latency_ratio",
    "measure",
    "measure_latency",
    "operations",
    "peak_memory",
    "predict",
    "survey",
    "this_machine",
]
