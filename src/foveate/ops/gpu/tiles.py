"""Where a program's tile lies: the device half of :mod:`foveate.ops.gpu.launch`, shared by all kernels."""
# pyright: basic, reportMissingImports=false, reportOperatorIssue=false
# pyright: reportCallIssue=false, reportArgumentType=false

import triton
import triton.language as tl


@triton.jit
def program_of(first, second):
    """This program's sample, in 64 bits, and its index along two axes of so many each."""
    program = tl.program_id(0)
    sample = (program // second // first).to(tl.int64)
    return sample, program // second % first, program % second


@triton.jit
def first_of(best, index):
    """The maximum of each row and the smallest index it has; not a number counts as larger than all numbers."""
    missing = best != best
    top = tl.max(tl.where(missing, float("-inf"), best), 1)
    lost = tl.max(missing.to(tl.int32), 1) > 0
    hit = tl.where(lost[:, None], missing, best == top[:, None])
    return tl.where(lost, float("nan"), top), tl.min(tl.where(hit, index, 2147483647), 1)
