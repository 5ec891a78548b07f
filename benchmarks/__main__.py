"""Run the benchmarks and print one JSON document; progress goes to standard error."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks import cpu, crowds, latency, throughput
from benchmarks.stores import Backend, Postgres, backends

MEASUREMENTS: dict[str, Callable[[Backend, float], dict[str, Any]]] = {
    "drain": throughput.drain,
    "enqueue": throughput.enqueue,
    "producers": throughput.producers,
    "pickup": latency.pickup,
    "turns": latency.turns,
    "cpu": cpu.efficiency,
    "idle": latency.idle,
    "start": latency.start,
    "stop": latency.stop,
    "limited": crowds.limited,
    "future": crowds.future,
    "gathered": crowds.gathered,
}


def main() -> int:
    options = parse_arguments()
    wanted = [name for name in options.only.split(",") if name] or ["imports", *MEASUREMENTS]
    if unknown := set(wanted) - {"imports", *MEASUREMENTS}:
        known = ", ".join(["imports", *MEASUREMENTS])
        sys.exit(f"no measurement is called {', '.join(sorted(unknown))}; there are {known}")
    report: dict[str, Any] = {"machine": machine()}
    if "imports" in wanted:
        report["imports"] = measured("imports", lambda: latency.imports(options.scale))
    with backends(options.backend) as found:
        for backend in found:
            report[backend.name] = {"server": server_version(backend)}
            for name in wanted:
                if name in MEASUREMENTS:
                    report[backend.name][name] = measured(
                        f"{backend.name} {name}",
                        lambda name=name, backend=backend: MEASUREMENTS[name](backend, options.scale),  # type: ignore[misc]
                    )
    print(json.dumps(report, indent=2))
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--backend", choices=("sqlite", "postgres", "all"), default="all")
    parser.add_argument("--only", default="", help=f"of imports, {', '.join(MEASUREMENTS)}; commas between")
    parser.add_argument("--scale", type=float, default=1.0, help="a share of the usual number of jobs")
    return parser.parse_args()


def measured(name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    print(f"{name} ...", end=" ", flush=True, file=sys.stderr)
    began = time.monotonic()
    found = work()
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    return found


def machine() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def server_version(backend: Backend) -> str:
    if isinstance(backend, Postgres):
        [[version]] = backend.server.execute("SHOW server_version")
        return f"PostgreSQL {version}"
    return f"SQLite {sqlite3.sqlite_version}"


if __name__ == "__main__":
    sys.exit(main())
