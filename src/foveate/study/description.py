"""A study in plain values, as ``study.json`` has it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from foveate.study.design import RunConfig, Study
from foveate.study.execution import Job
from foveate.study.plan import Prepared
from foveate.study.reading import FORMAT
from foveate.study.rules import rules


def described(prepared: Prepared, study: Study, jobs: Sequence[Job]) -> dict[str, Any]:
    """A study in plain values: what it asks, of what, by which rules, and the keys of its runs."""
    data, base = prepared.data, study.base
    return {
        "format": FORMAT,
        "kind": "foveate study",
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": prepared.quick,
        "work": base.work,
        "metric": {"name": prepared.metric[0], "better": prepared.metric[1]},
        "arms": [arm.as_dict() for arm in study.arms],
        "seeds": list(study.seeds),
        "rates": list(study.rates),
        "tuning_seeds": list(study.tuning_seeds),
        "fractions": list(study.fractions),
        "sequential": study.sequential,
        "relevant": study.relevant,
        "alpha": study.alpha,
        "shared": study.shared(),
        "places": dict(prepared.places),
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "classes": list(data.classes),
            "train": base.counts[0],
            "validation": base.counts[1],
            "test": base.counts[2],
            "report": "\n".join(data.report.lines()),
        },
        "rules": rules(study),
        "runs": [_entry(job) for job in jobs],
    }


def _entry(job: Job) -> dict[str, Any]:
    config = RunConfig.of(job.payload["config"])
    return {
        "arm": job.payload["arm"],
        "seed": config.seed,
        "stage": job.payload["stage"],
        "label": job.label,
        "key": job.key,
    }
