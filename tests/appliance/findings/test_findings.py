"""`Findings`: what follows from its parts."""

from __future__ import annotations

from dataclasses import replace

from fixtures.findings import some_findings


def test_models_are_the_weights_of_the_opinions_each_once() -> None:
    findings = some_findings()
    assert [model.task for model in findings.models] == ["tumor", "intensity", "segmentation"]
    tumor, *_ = findings.opinions
    plain = replace(tumor, reader="without a network", weights=None)
    same = replace(tumor, reader="other reader of these weights")
    more = replace(findings, opinions=(plain, *findings.opinions, same))
    assert more.models == findings.models
