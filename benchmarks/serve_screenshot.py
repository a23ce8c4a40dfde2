"""The picture of the web page in docs/: a question answered on a shipped database, by a model that is scripted.

    python -m benchmarks.serve_screenshot docs/serve.png [dark] [phone] [table]

The queries are golds of the pocket benchmark's kind, written here; page, server, guard and rows are the real ones. Needs Chromium.
"""

import sys
import tempfile
from pathlib import Path

from groundql.questions.pocket import POCKET_DIR
from tests.reports.chromium import Chromium
from tests.serving.served import desk_on, listening

ASKED = {
    "Which card schemes are declined most often?": (
        "SELECT card_scheme, COUNT(*) AS declined FROM payment WHERE status = 'D' GROUP BY card_scheme ORDER BY declined DESC"
    ),
    "How many merchants did we win in each year?": (
        "SELECT strftime('%Y', onboarded_on) AS year, COUNT(*) AS merchants FROM merchant GROUP BY year ORDER BY year"
    ),
    "Approved amount in euros by merchant category": (
        "SELECT T4.category, ROUND(SUM(T1.amount_cents) / 100.0, 2) AS approved_eur FROM payment AS T1 "
        "INNER JOIN terminal AS T2 ON T1.terminal_id = T2.terminal_id INNER JOIN merchant AS T3 ON T2.merchant_id = T3.merchant_id "
        "INNER JOIN mcc AS T4 ON T3.mcc = T4.mcc WHERE T1.status = 'A' GROUP BY T4.category ORDER BY approved_eur DESC"
    ),
}


def main() -> None:
    target, words = Path(sys.argv[1]), sys.argv[2:]
    size = {"width": 390, "height": 1500} if "phone" in words else {"width": 1280, "height": 980}
    paths = {name: POCKET_DIR / f"{name}.sql" for name in ("card_payments", "city_hospital", "stock_broker")}
    with (
        tempfile.TemporaryDirectory() as folder,
        desk_on(paths, ASKED) as desk,
        listening(desk) as address,
        Chromium(Path(folder), is_dark="dark" in words, **size) as page,
    ):
        page.go(address)
        page.wait_for("document.querySelectorAll('.table').length > 0")
        page.run("document.querySelectorAll('.table')[3].open = true")
        for question in ASKED:
            page.run(f"document.getElementById('question').value = {question!r}")
            page.click("#go")
            page.wait_for("!document.getElementById('result').hidden")
        if "table" not in words:
            page.click("#tab-chart")
        page.run("scrollTo(0, 0); document.activeElement.blur()")
        page.screenshot(target)
        print(f"{target}: {target.stat().st_size / 1000:.0f} kB; errors in the page: {page.errors}")


if __name__ == "__main__":
    main()
