"""Attention inside other packages' trainers: one file a package, which it calls and never copies."""
