"""Say how much an installation downloads on this machine: python -m docs.downloads [--index-url URL ...]

Asks pip what it would fetch for requirements.txt and adds up the sizes of those files; nothing is fetched and nothing
is installed. The flags are pip's. pip answers for the machine it runs on only, so a row of the README's table is
measured on such a machine.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

REQUIREMENTS = Path(__file__).parent.parent / "requirements.txt"
TIMEOUT_S = 30


def main(flags: list[str]) -> None:
    everything = files(["-r", str(REQUIREMENTS), *flags])
    pin = next(line.split()[0] for line in REQUIREMENTS.read_text("utf-8").splitlines() if line.startswith("torch="))
    torch = files([pin, *flags])
    rest = [url for name, url in everything.items() if name not in torch]
    print(f"{platform.system()} {platform.machine()}, Python {platform.python_version()}")
    print(f"{pin} with what it needs: {megabytes(torch.values())} in {len(torch)} files")
    print(f"everything else: {megabytes(rest)} in {len(rest)} files")


def files(wanted: list[str]) -> dict[str, str]:
    """Return {package: address of its file}: what pip would fetch on an empty machine."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    report = json.loads(subprocess.run([*command, *wanted], stdout=subprocess.PIPE, text=True, check=True).stdout)
    return {each["metadata"]["name"]: each["download_info"]["url"] for each in report["install"]}


def size(url: str) -> int:
    """Bytes of a file, without fetching it."""
    if url.startswith("file:"):
        return Path(unquote(urlsplit(url).path)).stat().st_size
    with urlopen(Request(url, method="HEAD"), timeout=TIMEOUT_S) as answer:
        return int(answer.headers["Content-Length"])


def megabytes(urls) -> str:
    """Such as "190 MB" or "2.9 GB", of all files together."""
    count = sum(map(size, urls))
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


if __name__ == "__main__":
    main(sys.argv[1:])
