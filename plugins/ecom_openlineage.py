"""What a step read and made, as OpenLineage datasets; asked only where a backend is configured.

A dataset's namespace is the root of the artefacts, its name that of the artefact. The manifests
tell columns, rows, bytes and version.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ecom_tasks.run import Ref


def lineage(inputs: Sequence[Ref], made: Ref | None) -> Any:
    """Return the provider's `OperatorLineage`.

    Parameters
    ----------
    inputs : what the step was given.
    made : what it made; None where it failed. What that was made from counts as read too.
    """
    from airflow.providers.openlineage.extractors import OperatorLineage

    from ecom_tasks.artefacts.release import manifest_of

    read = dict.fromkeys(inputs)
    outputs = []
    if made:
        manifest = manifest_of(made)
        read |= dict.fromkeys(Ref(each) for each in manifest.inputs.values())
        outputs.append(_output(made, manifest))
    return OperatorLineage(
        inputs=[_input(each, manifest_of(each)) for each in read], outputs=outputs
    )


def _input(ref: Ref, manifest: Any) -> Any:
    from openlineage.client.event_v2 import InputDataset

    namespace, name = _identity(ref, manifest)
    return InputDataset(namespace=namespace, name=name, facets=_facets(manifest))


def _output(ref: Ref, manifest: Any) -> Any:
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import output_statistics_output_dataset as statistics

    size = sum(file.bytes for file in manifest.files)
    counted = statistics.OutputStatisticsOutputDatasetFacet(
        rowCount=manifest.rows, size=size, fileCount=len(manifest.files)
    )
    namespace, name = _identity(ref, manifest)
    return OutputDataset(
        namespace=namespace,
        name=name,
        facets=_facets(manifest),
        outputFacets={"outputStatistics": counted},
    )


def _identity(ref: Ref, manifest: Any) -> tuple[str, str]:
    return ref.partition(f"/{manifest.name}/")[0], manifest.name


def _facets(manifest: Any) -> dict[str, Any]:
    from openlineage.client.facet_v2 import dataset_version_dataset, schema_dataset

    columns: dict[str, str] = {}
    for file in manifest.files:
        columns |= file.columns or {}
    fields = [
        schema_dataset.SchemaDatasetFacetFields(name=name, type=kind)
        for name, kind in columns.items()
    ]
    version = dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=manifest.version)
    return {"version": version} | (
        {"schema": schema_dataset.SchemaDatasetFacet(fields=fields)} if fields else {}
    )
