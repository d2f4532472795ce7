"""The Grafana dashboard and the page of the metrics name what is exported, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import promql_parser
import pytest
from prometheus_client import CollectorRegistry

import askonce
from askonce.metrics import prometheus

DOCS = Path(__file__).parents[2] / "docs"
BOARD = json.loads((DOCS / "grafana" / "askonce.json").read_text("utf-8"))
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [
    pytest.param(target["expr"], id=f"{panel['title']}-{target['refId']}")
    for panel in PANELS
    for target in panel["targets"]
]
OF_SCRAPES = {"job", "instance"}  # labels that Prometheus adds
RANGES = {"$__rate_interval": "5m", "$__range": "1d"}


@pytest.fixture(scope="module")
def exported():
    """The names of samples, and the labels of each."""
    with askonce.Cache("memory://") as cache:
        exporter = prometheus(cache, CollectorRegistry())
        families = list(exporter._collector.collect())
    found = {}
    for family in families:
        labels = set(family._labelnames) | OF_SCRAPES
        ends = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}[family.type]
        for end in ends:
            found[family.name + end] = labels | ({"le"} if end == "_bucket" else set())
    return found


def parsed(expression):
    for name, value in RANGES.items():
        expression = expression.replace(name, value)
    return promql_parser.parse(expression)


def nodes_of(tree):
    found = []
    promql_parser.walk(tree, pre_visit=found.append)
    return found


def selectors_of(tree):
    """The metrics that an expression reads, with the labels that it selects by."""
    for node in nodes_of(tree):
        selector = node.vector_selector if isinstance(node, promql_parser.MatrixSelector) else node
        if isinstance(selector, promql_parser.VectorSelector):
            yield selector.name, {one.name for one in selector.matchers.matchers}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_panel_asks_for_what_is_exported(expression, exported):
    tree = parsed(expression)
    read = dict(selectors_of(tree))
    assert read
    for name, labels in read.items():
        assert name in exported, name
        assert labels <= exported[name]
    for node in nodes_of(tree):
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            for name, _ in selectors_of(node.expr):
                assert set(node.modifier.labels) <= exported[name]


def test_every_metric_but_few_has_a_panel(exported):
    shown = {name for param in EXPRESSIONS for name, _ in selectors_of(parsed(param.values[0]))}
    families = {re.sub(r"_(?:total|bucket|sum|count)$", "", name) for name in exported}
    without = families - {re.sub(r"_(?:total|bucket|sum|count)$", "", name) for name in shown}
    assert without <= {"askonce_near_entries", "askonce_stored"}


def test_variables_panels_and_legends_fit_together(exported):
    names = {one["name"] for one in BOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(PANELS))) - {name[1:] for name in RANGES}
    assert used == names
    for one in BOARD["templating"]["list"]:
        if one["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((\w+)(?:\{.*\})?, (\w+)\)", one["query"]["query"]).groups()
            assert label in exported[metric]
    for panel in PANELS:
        for target in panel["targets"]:
            kept = [
                set(node.modifier.labels)
                for node in nodes_of(parsed(target["expr"]))
                if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None
            ]
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= set().union(*kept)
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])


def test_no_two_panels_stand_in_one_place():
    taken = [
        (x, y)
        for panel in BOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24


def test_the_page_lists_every_metric_with_its_labels(exported):
    rows = re.findall(r"^\| `(askonce_\w+)` \| ([^|]*) \|", (DOCS / "metrics.md").read_text("utf-8"), re.MULTILINE)
    listed = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    expected = {
        name.removesuffix("_bucket"): labels - OF_SCRAPES - {"le"}
        for name, labels in exported.items()
        if not name.endswith(("_sum", "_count"))
    }
    assert listed == expected
