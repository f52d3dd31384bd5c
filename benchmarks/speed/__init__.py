"""How fast is it? One file a question, beside its rivals in one run; `python -m benchmarks.speed` asks them all."""
