"""The command line: parse, call one public function, print. One group of commands a file."""

from foveate.cli.app import app, main

__all__ = ["app", "main"]
