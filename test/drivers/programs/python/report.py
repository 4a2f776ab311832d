"""Runs the checks of one driver, one after the other, and prints a line for each: see test/drivers/report.ts."""
import inspect
import os
import sys
import traceback

ROW_BYTES = 50 * 1024 * 1024
WIDE = "select " + ", ".join(f"{n}::int as c{n}" for n in range(1000))
FIRST_ID = int(os.environ["DRIVER_NUMBER"]) * 1_000_000
CA = os.environ["PGSSLROOTCERT"]


def line(name, outcome, text):
    print("CHECK", name, outcome, " ".join(str(text).split()), sep="\t", flush=True)


async def report(checks):
    for name, check in checks.items():
        if isinstance(check, str):
            line(name, "cannot", check)
            continue
        try:
            answer = check()
            if inspect.isawaitable(answer):
                await answer
            line(name, "ok", "")
        except BaseException:
            line(name, "failed", traceback.format_exc())
    sys.exit(0)
