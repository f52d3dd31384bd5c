"""Images with a mask each: folders of both, and what numbers in masks mean."""
