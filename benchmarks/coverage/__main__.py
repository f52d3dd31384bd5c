"""Attach attention to every network that the libraries list, and write down what happened.

    uv run python -m benchmarks.coverage run [--only GLOB] [--source NAME] [--jobs 1]
    uv run python -m benchmarks.coverage merge
    uv run python -m benchmarks.coverage page

`run` leaves one file a network in `.coverage_runs/` and goes on where it stopped; `merge` makes the committed
`benchmarks/results/coverage.json` of them, and `page` the page `docs/coverage.md` of that.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.coverage import page, results, workers
from benchmarks.coverage.checks import CHECKS
from benchmarks.coverage.networks import SAMPLE, SOURCES, networks

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "benchmarks" / "results" / "coverage.json"
PAGE = ROOT / "docs" / "coverage.md"


def main() -> None:
    """Parse and call."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "list", "merge", "page"))
    parser.add_argument("--only", action="append", default=[], metavar="GLOB", help="names, such as 'timm/resnet*'")
    parser.add_argument("--source", action="append", default=[], help="libraries; all of them if none is given")
    parser.add_argument("--each-family", type=int, metavar="N", help="only the first N networks of each family")
    parser.add_argument("--sample", action="store_true", help="only the fixed sample, with every check")
    parser.add_argument("--hybrids", action="store_true", help="attach to hybrids of convolution and attention too")
    parser.add_argument("--without", action="append", default=[], choices=CHECKS[1:], help="a check to leave for later")
    parser.add_argument("--again", action="store_true", help="also what has a result of the present source")
    parser.add_argument("--jobs", type=int, default=1, help="processes, of one thread each")
    parser.add_argument("--seconds", type=float, default=600, help="how long one network may take")
    parser.add_argument("--out", type=Path, default=ROOT / ".coverage_runs", help="folder of the results")
    parser.add_argument("--result", type=Path, default=RESULT, help="the merged result")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page")
    arguments = parser.parse_args()
    if arguments.command == "page":
        page.write(arguments.result, arguments.page)
    elif arguments.command == "merge":
        merged = results.merge(arguments.out, arguments.result)
        print(f"{len(merged['networks'])} networks in {arguments.result}")
    else:
        _run(arguments, only_list=arguments.command == "list")


def _run(arguments: argparse.Namespace, *, only_list: bool) -> None:
    families: Counter[str] = Counter()
    jobs: list[workers.Job] = []
    digest = results.core_hash()
    wanted = {name.partition("/")[0] for name in SAMPLE} if arguments.sample else set(arguments.source or SOURCES)
    for source in [source for source in SOURCES if source in wanted]:
        for network in networks(source):
            if arguments.only and not any(fnmatch.fnmatchcase(network.name, glob) for glob in arguments.only):
                continue
            if arguments.sample and network.name not in SAMPLE:
                continue
            families[f"{source}/{network.family}"] += 1
            if arguments.each_family and families[f"{source}/{network.family}"] > arguments.each_family:
                continue
            there = results.path_of(arguments.out, network.name)
            if arguments.again or not results.is_done(there, digest, arguments.without):
                without = tuple(arguments.without)
                jobs.append(workers.Job(network.name, network.name in SAMPLE, arguments.hybrids, without))
    if only_list:
        print("\n".join(job.name for job in jobs))
        return
    done = 0

    def finished(job: workers.Job, report: dict[str, Any], seconds: float) -> None:
        nonlocal done
        done += 1
        report = {**report, "thorough": job.thorough, "wall_seconds": round(seconds, 1), "foveate": digest}
        report |= {"without": job.without} if job.without else {}
        results.write(results.path_of(arguments.out, job.name), report)
        print(f"{done}/{len(jobs)} {job.name}: {_summary(report)} ({seconds:.0f} s)", flush=True)

    workers.run(jobs, processes=arguments.jobs, seconds=arguments.seconds, finished=finished)


def _summary(report: dict[str, Any]) -> str:
    if "mechanisms" not in report and report.get("kind") in ("tokens", "hybrid"):
        return f"left out ({report['kind']})"
    for problem in ("error", "host_error"):
        if problem in report:
            return f"{problem}: {report[problem]}"
    failed = {}
    for name, result in report["mechanisms"].items():
        checks = [check for check, passed in result["checks"].items() if passed is False]
        if checks:
            failed[name] = list(result.get("refused", {}).values())[-1:] or checks
    return f"not all: {json.dumps(failed)}" if failed else "passed"


if __name__ == "__main__":
    main()
