"""Reads a page of metrics on standard input with Prometheus's own parser, and prints what it found as JSON."""
import json
import sys

from prometheus_client.parser import text_string_to_metric_families

families = {}
for family in text_string_to_metric_families(sys.stdin.read()):
    assert family.name not in families, f"{family.name} is told twice"
    assert family.documentation and family.type != "unknown", family
    samples = [[sample.name, sample.labels, sample.value] for sample in family.samples]
    assert len({(name, str(labels)) for name, labels, _ in samples}) == len(samples), f"{family.name} repeats itself"
    families[family.name] = {"type": family.type, "samples": samples}
print(json.dumps(families))
