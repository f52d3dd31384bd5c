"""Comparing: a design, its runs as files, statistics, a table and a report.

:func:`foveate.study.compare.compare` joins them all.
"""
