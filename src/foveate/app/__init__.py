"""The page on which attention can be seen: it calls the package's public functions and has no logic of its own.

:func:`foveate.app.serving.serving` serves it; ``foveate app`` does so from a shell.
"""
