"""Runs the facts of a script's tests, each by itself."""


def run(facts):
    """Says what failed and how many passed; the exit code."""
    failures = 0
    for fact in facts:
        try:
            fact()
        except Exception as error:  # Whatever it is, the other facts are looked at.
            failures += 1
            print(f"{fact.__name__}: {type(error).__name__}: {error}")
    print(f"{len(facts) - failures} passed, {failures} failed")
    return int(bool(failures))
