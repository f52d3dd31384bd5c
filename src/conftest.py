"""What pytest leaves out when it collects the examples of the package."""

from importlib.util import find_spec

# kernels are written in triton, which PyTorch brings along on Linux only; what calls them imports them when it must
collect_ignore_glob = [] if find_spec("triton") else ["foveate/ops/gpu/[!_l]*.py"]
