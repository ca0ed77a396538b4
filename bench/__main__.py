"""`python -m bench`: docs/performance.md says what it measures. Exit status 1: books that don't balance, or mail that
didn't come; 2: something to install first. A promise that is missed is printed, not punished: machines differ.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench import cases, machine, measure, postfix, report, stage
from bench.cases import Case
from bench.measure import Outcome
from bench.stage import Stage
from service import settings

DKIM_SETTINGS = ("dkim_rsa_key_file", "dkim_rsa_selector")


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _asked(arguments)
    try:
        chosen = cases.chosen(readers=asked.readers, quick=asked.quick, only=asked.case)
        tools = postfix.find()
    except (ValueError, postfix.Unavailable) as fault:
        print(fault, file=sys.stderr)
        return 2
    extra = dict(pair.split("=", 1) for pair in asked.set)
    outcomes: list[Outcome] = []
    with stage.up(tools, asked.processes, extra) as scene:
        where = machine.described()
        what = machine.versions(database_url=scene.postgres_url, redis_url=scene.redis_url, postfix=tools.version)
        print(f"{where['cpu']}, {where['cores']} cores; {asked.processes} newsletter processes")
        if (busy := machine.load()) > 0.5:
            print(f"Others use this machine (load {busy:.1f}): the figures will be lower than it could do.")
        for case in chosen:
            print(f"{case.name}: …", flush=True)
            outcomes.append(_run(case, scene))
            print(report.table([report.row(outcomes[-1])]) if outcomes[-1].rounds else outcomes[-1].skipped, flush=True)
    figures, promises = report.table([report.row(each) for each in outcomes if each.rounds]), report.promises(outcomes)
    print(f"\n{figures}\n\n{report.kept(promises)}")
    name = asked.name or ("" if asked.quick or asked.case else str(asked.readers or "default"))
    if name:
        _keep(name, where, what, asked.processes, outcomes, extra)
    faults = [f"{each.case.name}: {fault}" for each in outcomes for fault in each.faults]
    for said in faults:
        print(f"FAILED {said}", file=sys.stderr)
    return 1 if faults else 0


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure rounds beside Postfix's smtp-source.")
    parser.add_argument("--readers", type=int, help="one size instead of 20,000 and 200,000")
    parser.add_argument("--case", action="append", default=[], metavar="NAME", help="only this one; may come again")
    parser.add_argument("--quick", action="store_true", help="2,000 readers, one round each: to try the bench itself")
    parser.add_argument("--name", help="keep the figures in bench/results/ under this name")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), help="newsletter processes")
    parser.add_argument("--set", action="append", default=[], metavar="SETTING=VALUE", help="as in .env.example")
    return parser.parse_args(arguments)


def _run(case: Case, scene: Stage) -> Outcome:
    more: dict[str, str] = {}
    if case.dkim:
        if why := _no_dkim():
            return Outcome(case, skipped=f"{case.name} is left out: {why}")
        more = _dkim(scene.folder)
    try:
        return measure.run(case, scene, more)
    except (RuntimeError, AssertionError) as fault:
        return Outcome(case, faults=[str(fault)], skipped=f"{case.name}: {fault}")


def _no_dkim() -> str:
    if missing := [name.upper() for name in DKIM_SETTINGS if name not in settings.Settings.model_fields]:
        return f"there is no setting {' or '.join(missing)}"
    return "" if shutil.which("openssl") else "openssl, which makes its key, isn't on the PATH"


def _dkim(folder: Path) -> dict[str, str]:
    key = folder / "dkim.pem"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    key.chmod(0o600)
    return {"DKIM_RSA_KEY_FILE": str(key), "DKIM_RSA_SELECTOR": "bench"}


def _keep(
    name: str,
    where: dict[str, object],
    what: dict[str, object],
    processes: int,
    outcomes: Sequence[Outcome],
    extra: dict[str, str],
) -> None:
    now = datetime.now(UTC)
    content = {
        "at": now.isoformat(timespec="minutes"), "machine": where, "versions": what,
        "newsletter_processes": processes, "settings": extra,
        "promises": [{"promise": said, "measured": found, "kept": good} for said, found, good in
                     report.promises(outcomes)],
        "cases": [each.as_json() for each in outcomes],
    }  # fmt: skip
    path = report.write(name, now.date().isoformat(), content)
    shown = (
        f"{now.date()}, `bench/results/{path.name}`: {where['cpu']}, {where['cores']} cores, {where['memory_gb']} GB, "
        f"{processes} newsletter processes, commit {what['vinkje']}.\n\n"
        f"{report.table([report.row(each) for each in outcomes if each.rounds])}\n\n"
        f"{report.kept(report.promises(outcomes))}"
    )
    if report.PAGE.exists():
        report.PAGE.write_text(report.between(report.PAGE.read_text(), name, shown))
    print(f"\nKept in {path}")


if __name__ == "__main__":
    sys.exit(main())
