"""Carrying a study's runs out: here, in several processes, or on a Ray cluster.

==================  ================================================================================
``job``             what is carried out, and what is said while it is
``driver``          carrying out whatever is not finished yet
``course``          what is heard of runs becomes files: finished ones are kept, lost ones come again
``crew``            who carries runs out, and what a person writes to name it
``sequential``      this process
``processes``       several processes of this machine; ``worker`` is one, ``wire`` between them
``cluster``         Ray
``attempt``         one run, in whatever process it is
``where``           which machine and versions that was
``estimating``      how long it takes
==================  ================================================================================
"""

from foveate.study.execution.course import UnfinishedError
from foveate.study.execution.driver import Carried, carry_out
from foveate.study.execution.estimating import estimate
from foveate.study.execution.job import Finished, Job, part_of

__all__ = ["Carried", "Finished", "Job", "UnfinishedError", "carry_out", "estimate", "part_of"]
