"""Fetches the icon collection and the word lists, pinned in `lock.json` by version and checksum.

    python fetch.py DIR            what the lock file says
    python fetch.py DIR --update   today's versions; writes the lock file anew
"""
import argparse
import base64
import hashlib
import json
import subprocess
import tarfile
from pathlib import Path

HERE = Path(__file__).parent
LOCK = HERE / "lock.json"
PACKAGES = {"@iconify/json": "iconify", "emojilib": "emojilib", "@mdi/svg": "mdi"}


def view(package: str) -> dict:
    """Version and checksum of a package as the registry has them now."""
    out = subprocess.run(["npm", "view", package, "version", "dist.integrity", "--json"], check=True, capture_output=True, text=True)
    found = json.loads(out.stdout)
    return {"version": found["version"], "integrity": found["dist.integrity"]}


def fetch(package: str, pin: dict, to: Path) -> None:
    """Downloads and unpacks one package unless it is there; stops when the checksum is another."""
    mark = to / ".version"
    if mark.exists() and mark.read_text() == pin["version"]:
        return
    to.mkdir(parents=True, exist_ok=True)
    out = subprocess.run(["npm", "pack", f"{package}@{pin['version']}", "--json", "--pack-destination", str(to)],
                         check=True, capture_output=True, text=True)
    said = json.loads(out.stdout)
    said = said[0] if isinstance(said, list) else next(iter(said.values()))
    archive = to / said["filename"].replace("@", "").replace("/", "-")
    kind, want = pin["integrity"].split("-", 1)
    have = base64.b64encode(hashlib.new(kind, archive.read_bytes()).digest()).decode()
    if have != want:
        raise SystemExit(f"{package}: checksum {have}, not {want}")
    with tarfile.open(archive) as tar:
        tar.extractall(to, filter="data")
    archive.unlink()
    mark.write_text(pin["version"])


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("dir", type=Path)
    args.add_argument("--update", action="store_true")
    a = args.parse_args()
    if a.update or not LOCK.exists():
        LOCK.write_text(json.dumps({p: view(p) for p in PACKAGES}, indent=1) + "\n")
    for package, pin in json.loads(LOCK.read_text()).items():
        fetch(package, pin, a.dir / PACKAGES[package])
        print(package, pin["version"])


if __name__ == "__main__":
    main()
