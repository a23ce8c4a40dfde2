"""The picture of the report page in docs/: judged runs side by side, as `groundql report` writes them.

    python benchmarks/report_screenshot.py docs/report.png JUDGED_DIR...

Each JUDGED_DIR holds verdicts.jsonl (and predictions.jsonl, for abstentions and strain). Needs Chromium.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from groundql.reports.page import write_report

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
SIZE = "1180,1500"


def main() -> None:
    target, *folders = map(Path, sys.argv[1:])
    with tempfile.TemporaryDirectory() as name:
        page = write_report(folders, Path(name) / "out")
        browser = next(filter(None, map(shutil.which, CHROMIUM)))
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--window-size={SIZE}", f"--screenshot={target.resolve()}", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    print(f"{target}: {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
