#!/usr/bin/env python3
"""Decodes every golden frame by scripts/decode_frame.py and compares with the decoding stored beside it.

usage: python3 tests/wire_decoder.py [--write]     --write stores what the decoder says; read the difference
"""
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "decode_frame.py"
sys.path.insert(0, str(SCRIPT.parent))
sys.dont_write_bytecode = True
import decode_frame  # noqa: E402  (found by the path above)


def wrong_with(frame, write):
    """What is wrong with the decoding of one golden frame, if anything."""
    lines = decode_frame.decoded(frame.read_bytes())
    text = "\n".join(lines) + "\n"
    stored = frame.with_suffix(".txt")
    if write:
        stored.write_text(text)
    if lines[0].startswith("error:") != frame.name.startswith("malformed_"):
        return f"valid and malformed mixed up:\n{text}"
    expected = stored.read_text() if stored.exists() else "(nothing stored)\n"
    return None if text == expected else f"--- expected\n{expected}--- decoded\n{text}"


def wrong_with_script():
    """The script as people call it: exit code and standard output."""
    golden = ROOT / "tests" / "golden"
    for name, code in [("example_request", 0), ("malformed_bad_magic", 1)]:
        run = subprocess.run([sys.executable, SCRIPT, golden / f"{name}.hex"], capture_output=True, text=True)
        if (run.returncode, run.stdout) != (code, (golden / f"{name}.txt").read_text()):
            return f"{name}: exit code {run.returncode}\n{run.stdout}{run.stderr}"
    return None


def main(write):
    frames = sorted((ROOT / "tests" / "golden").glob("*.hex"))
    results = [(frame.name, wrong_with(frame, write)) for frame in frames] + [(SCRIPT.name, wrong_with_script())]
    failures = [(name, wrong) for name, wrong in results if wrong]
    for name, wrong in failures:
        print(f"{name}: {wrong}")
    print(f"{len(results) - len(failures)} passed, {len(failures)} failed")
    return int(bool(failures) or not frames)


if __name__ == "__main__":
    sys.exit(main("--write" in sys.argv[1:]))
