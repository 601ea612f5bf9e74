"""The bridge: how Airflow executes a flow of `ecom_tasks`.

A DAG file says when and where; `flow(airflow_steps(...))` enters every task of the flow in it.
What passes between tasks is a reference, nothing else; what passes between DAGs is the event of
an asset, whose partition is the day and whose `extra` says which data the run was about.
"""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, ClassVar, Concatenate, ParamSpec, cast

import ecom_links
from airflow.sdk import (
    Asset,
    AssetAny,
    BaseOperator,
    Connection,
    Context,
    ExceptionRetryPolicy,
    Param,
    PartitionedAssetTimetable,
    RetryAction,
    RetryRule,
)
from ecom_device import POOL as GPU
from ecom_device import devices, placed
from ecom_explain import amount, result, size_of
from ecom_notify import on_failure
from ecom_step import command, environment, launch

from ecom_tasks.artefacts import signing
from ecom_tasks.domains import PUBLISHING
from ecom_tasks.errors import ConfigError
from ecom_tasks.run import Ref, Run, Step

P = ParamSpec("P")
log = logging.getLogger(__name__)

SCHEME = "ecom://"
LAKE = Asset(name="lake", uri=f"{SCHEME}lake/all", group="ecom")
FEATURES = Asset(name="features", uri=f"{SCHEME}features/all", group="ecom")
RETRAIN = Asset(name="retrain", uri=f"{SCHEME}monitoring/retrain", group="ecom")
HEAVY = "compute"
"""Pool of the steps that take memory: about 2 GiB a slot."""
RETRIES = 2
RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule("ecom_tasks.errors.RetryableError", RetryAction.RETRY, timedelta(seconds=30)),
        RetryRule("ecom_tasks.errors.EcomError", RetryAction.FAIL, reason="A retry cannot help"),
    ]
)
AS_OF = Param(
    None,
    type=["null", "string"],
    format="date",
    title="As of",
    description_md="Last day to know about, inclusive. Empty: the day of what triggered the run, "
    "else the day of its schedule, else today.",
)
OVERRIDES = Param(
    {},
    type="object",
    title="Overrides",
    description_md='Settings for this run by domain, for example `{"pricing": {"largest_step": '
    "0.05}}`. Domains downstream get them too.",
)
DRY_RUN = Param(
    False,
    type="boolean",
    title="Dry run",
    description_md="Make and judge everything, here and in the DAGs that follow, and serve "
    "nothing: releases go to the channel `shadow`.",
)
FORM: dict[str, Any] = {"as_of": AS_OF, "overrides": OVERRIDES, "dry_run": DRY_RUN}
"""What every DAG asks of whoever triggers it."""
_UNSERVED = {"channel": "shadow"}


def released(domain: str) -> Asset:
    """Return the asset that stands for the release of a domain."""
    return Asset(name=f"{domain}_release", uri=f"{SCHEME}artefacts/{domain}", group="ecom")


def tables_of(collection: Asset, names: Iterable[str]) -> list[Asset]:
    """Return the assets that stand for the tables of a collection, `ecom://lake/products`."""
    return [
        Asset(
            name=f"{collection.name}_{name}", uri=f"{SCHEME}{collection.name}/{name}", group="ecom"
        )
        for name in names
    ]


def day_by_day(asset: Asset | AssetAny) -> PartitionedAssetTimetable:
    """Run once for each day that the asset has an event of, whatever else came meanwhile.

    Of several (`FEATURES | RETRAIN`) the event of each one sets off a run.

    Events of an asset without partitions that come during a run are answered by one run: of a
    backfill, days would be left out.
    """
    return PartitionedAssetTimetable(assets=asset)


def airflow_steps(
    domain: str,
    *,
    pools: Mapping[str, str] | None = None,
    outlets: Mapping[str, Sequence[Asset]] | None = None,
    on_gpu: Collection[str] = (),
    urgency: int = 1,
) -> Step:
    """Enter each task of a flow in the DAG being built.

    Parameters
    ----------
    domain : name under which the flow is registered.
    pools : task name -> pool; the others run in `compute`.
    outlets : task name -> assets whose events it emits: what it makes, and what that consists of.
    on_gpu : tasks that train: where the installation has GPUs they wait for one, in the pool `gpu`.
    urgency : where tasks of several DAGs wait for a slot, those of the higher go first.
    """

    def step(
        task: Callable[Concatenate[Run, P], Ref], /, *inputs: P.args, **options: P.kwargs
    ) -> Ref:
        if options:
            raise ConfigError(
                f"{domain}.{task.__name__} is given {', '.join(options)}",
                "A step takes references only; settings belong to its domain's config",
            )
        name = task.__name__
        trains = name in on_gpu and devices() > 0
        # Airflow has a default of its own, which somebody may have set.
        queue = os.environ.get("ECOM_GPU_QUEUE") if trains else None
        operator = StepOperator(
            task_id=name,
            domain=domain,
            inputs=list(inputs),
            doc_md=task.__doc__,
            pool=GPU if trains else (pools or {}).get(name, HEAVY),
            **({"queue": queue} if queue else {}),
            outlets=list((outlets or {}).get(name, ())),
            priority_weight=urgency,
            retries=RETRIES,
            retry_policy=RETRY_POLICY,
            on_failure_callback=on_failure(),
        )
        return cast(Ref, operator.output)

    return step


class StepOperator(BaseOperator):
    """One task of a flow, executed as a fresh interpreter; returns the reference it made."""

    template_fields: Sequence[str] = ("inputs",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"inputs": "json"}
    ui_color = "#dbeafe"

    def __init__(self, *, domain: str, inputs: Sequence[Any] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.domain = domain
        self.inputs = inputs
        self._step: Any = None
        self.made: Ref | None = None
        self.operator_extra_links = ecom_links.of_task(domain, self.task_id)

    def execute(self, context: Context) -> str:
        run = current_run(context)
        inputs = [Ref(str(ref)) for ref in self.inputs]
        log.info("%s.%s as of %s", self.domain, self.task_id, run.as_of)
        spelt = command(self.domain, self.task_id, run, inputs)
        log.info("By hand: python %s", shlex.join(spelt[1:]))
        settings = environment(connections(self.domain, self.task_id, run))
        with placed(self.pool) as place:
            self._step = launch(spelt, settings | place.variables, place.held)
            try:
                outcome = self._step.wait()
            except BaseException:  # a time-out, for one: what was started is not left behind
                self._step.end()
                raise
        failed = outcome.exit_code != 0
        log.log(
            logging.WARNING if failed else logging.INFO,
            "Ended with exit code %s after %.1f s; its largest process held %s%s",
            outcome.exit_code, outcome.seconds, amount(outcome.peak_bytes),
            f"; its inputs are {size_of(inputs)}" if failed else "",
        )  # fmt: skip
        ref = self.made = result(outcome, inputs)
        announce(context, self.outlets, run, ref)
        return ref

    def on_kill(self) -> None:
        if self._step:
            self._step.end()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002
        """Tell the OpenLineage provider, where somebody configured it, what was read and made."""
        from ecom_openlineage import lineage

        return lineage([Ref(str(ref)) for ref in self.inputs], self.made)

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> Any:
        return self.get_openlineage_facets_on_complete(task_instance)


def announce(context: Context, outlets: Sequence[Any], run: Run, ref: Ref) -> None:
    """Let the events of a task's outlets say what was made, and of which day."""
    parts = _parts(ref) if len(outlets) > 1 else {}
    for asset in outlets:
        event = cast(Any, context)["outlet_events"][asset]
        event.extra = told(run, parts.get(asset.uri.removeprefix(SCHEME), ref))
        event.add_partitions(run.as_of.isoformat())


def _parts(ref: Ref) -> dict[str, Ref]:
    """Names and manifests of the tables that a collection binds."""
    from ecom_tasks.artefacts.release import manifest_of

    return {name: Ref(part) for name, part in manifest_of(ref).inputs.items()}


def told(run: Run, ref: Ref) -> dict[str, Any]:
    """What the event of an asset says, so that the runs it triggers are about the same data.

    `fingerprint` is equal for equal input, settings and code.
    """
    version = ref.rsplit("/", 2)[-2]
    return {
        "manifest": ref,
        "fingerprint": version.rsplit("-", 1)[-1],
        "as_of": run.as_of.isoformat(),
        "source": run.source,
        "source_data": run.source_data,
        "overrides": {name: dict(settings) for name, settings in run.overrides.items()},
    }


def current_run(context: Context) -> Run:
    """Read from Airflow which data this run is about.

    The form comes first; then the event that triggered the run; then the last whole day of its
    interval, where it was scheduled; then its partition, its logical date (None where an asset
    triggered it) and at last the day on which it was made.
    """
    dag_run = context["dag_run"]
    params = context["params"]
    event = _latest_event(context)
    as_of = params.get("as_of") or event.get("as_of")
    return Run(
        run_id=dag_run.run_id,
        as_of=date.fromisoformat(as_of) if as_of else _day_of(dag_run),
        root=_root(),
        source=params.get("source") or event.get("source") or "",
        source_data=params.get("source_data") or event.get("source_data") or "",
        overrides=_served(params, params.get("overrides") or event.get("overrides") or {}),
    )


def _served(params: Mapping[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Let a dry run's releases go where nobody is served from."""
    if not params.get("dry_run"):
        return overrides
    return overrides | {"gate": {**overrides.get("gate", {}), **_UNSERVED}}


def _day_of(dag_run: Any) -> date:
    start, end = dag_run.data_interval_start, dag_run.data_interval_end
    if start and end and start < end:
        # A week that starts on Monday at 3 ends with the Sunday before the next.
        return cast(date, (end - timedelta(days=1)).date())
    moment = getattr(dag_run, "partition_date", None) or dag_run.logical_date or dag_run.run_after
    return cast(date, moment.date())


def _latest_event(context: Context) -> dict[str, Any]:
    """Return what the newest of the triggering events says; empty where none triggered the run."""
    found = [event for events in context["triggering_asset_events"].values() for event in events]
    days = sorted({str(event.extra["as_of"]) for event in found if "as_of" in event.extra})
    latest = max(found, key=lambda event: event.timestamp, default=None)
    if latest is None:
        return {}
    if len(days) > 1:
        # Not of our own DAGs: their events have a day as partition, and each day its run.
        log.warning("Triggered for %s at once: this run is about the latest event", days)
    # What a watcher saw arrive is wrapped by Airflow.
    return dict(latest.extra.get("payload") or latest.extra)


def _root() -> str:
    root = os.environ.get("ECOM_ROOT", "")
    if not root:
        raise ConfigError(
            "No place for artefacts is named", "Set ECOM_ROOT for the workers: s3://bucket/prefix"
        )
    return root


def connections(domain: str, task: str, run: Run) -> dict[str, str]:
    """URIs of the Airflow connections that a step needs: each step is given no others."""
    names: set[str] = set()
    if domain == "ingestion":
        from ecom_tasks.ingestion.sources import load_source

        inputs = load_source(run.source, run.source_data).specification.inputs.values()
        names = {each.connection for each in inputs if each.connection}
    elif task == PUBLISHING:  # and so may need the signing key
        names = {os.environ.get(signing.CONNECTION, "")} - {""}
    return {name: Connection.get(name).get_uri() for name in sorted(names)}
