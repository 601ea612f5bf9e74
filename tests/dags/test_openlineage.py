"""What the lineage backend is told of a step."""

from __future__ import annotations

import polars as pl
from ecom_openlineage import lineage

from ecom_tasks.artefacts import dataset
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.run import Run


def test_datasets_carry_schema_version_and_size(run: Run) -> None:
    rows = pl.DataFrame({"product_id": ["a", "b"], "units": [1.0, 2.0]})

    def build(draft: Draft) -> None:
        draft.write_frame("rows.parquet", rows)

    source = dataset.produce(run, "lake/products", build)
    other = dataset.produce(run, "lake/prices", build)
    made = dataset.produce(run, "features/demand", build, inputs=[source, other])
    told = lineage([source], made)
    # What the step was given, and what it went on to read.
    assert [each.name for each in told.inputs] == ["lake/products", "lake/prices"]
    assert {each.namespace for each in told.inputs} == {run.root.rstrip("/")}
    (output,) = told.outputs
    assert output.name == "features/demand"
    assert [(f.name, f.type) for f in output.facets["schema"].fields] == [
        ("product_id", "String"), ("units", "Float64"),
    ]  # fmt: skip
    assert output.facets["version"].datasetVersion == dataset.manifest(made).version
    statistics = output.outputFacets["outputStatistics"]
    (file,) = dataset.manifest(made).files
    assert (statistics.rowCount, statistics.size, statistics.fileCount) == (2, file.bytes, 1)


def test_a_step_that_failed_has_read_and_made_nothing(run: Run) -> None:
    source = dataset.produce(run, "lake/products", lambda draft: draft.write_text("a", "x"))
    told = lineage([source], None)
    assert [each.name for each in told.inputs] == ["lake/products"]
    assert told.outputs == []
