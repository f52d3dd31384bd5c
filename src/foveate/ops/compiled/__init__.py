"""Operations compiled on this machine, where somebody asked for them with ``foveate build-ops``; never required.

``kernels/`` holds the C++, ``build`` compiles it, ``library`` finds, loads and switches it, ``calls`` gives it tensors.
The operations in ``foveate.ops`` ask :func:`~foveate.ops.compiled.library.usable` and have a plain form besides.
"""
