"""How fast the console answers: 200 versions a domain, 100,000 recommendation rows, real tables.

    ECOM_HOME=.ecom python -m benchmarks.console

The releases of the demonstration that runs there are copied below a prefix of their own; 199
older versions of each domain and the rows that are missing are made up. Asked over HTTP, one
request at a time, as somebody at a browser does; Airflow's own part (who asks, what ran) is left
out.
"""

from __future__ import annotations

import http.client
import io
import os
import random
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from tempfile import mkdtemp
from typing import Any

os.environ.setdefault("AIRFLOW_HOME", mkdtemp(prefix="ecom-bench-airflow-"))

import polars as pl

from ecom_tasks import services
from ecom_tasks.artefacts import release
from ecom_tasks.artefacts.bucketing import partition
from ecom_tasks.artefacts.manifest import FileEntry, Manifest
from ecom_tasks.artefacts.store import Store, open_store
from ecom_tasks.domains import RELEASING

VERSIONS, ROWS, LIST = 200, 100_000, 20
TIMES = 25
BUCKETS = 16
PREFIX = "bench-console"


@dataclass(frozen=True)
class Shop:
    """What the questions are about."""

    root: str
    customers: list[str]
    products: list[str]
    versions: dict[str, str]


def prepare(root: str, target: str) -> Shop:
    """Copy the releases in service, and surround them with older versions."""
    source, store, rng = open_store(root), open_store(target), random.Random(1)  # noqa: S311
    customers = [f"{rng.getrandbits(128):032x}" for _ in range(ROWS // LIST)]
    versions = {}
    for domain in RELEASING:
        pointer = release.read_pointer(source, f"artefacts/{domain}", release.PRODUCTION)
        assert pointer is not None, f"nothing of {domain} is in service under {root}"
        made = release.read_manifest(source, pointer.name, pointer.version)
        folder = f"{made.name}/v/{made.version}"
        lists = domain == "recommendation"
        for entry in made.files:
            if not (lists and entry.path.startswith("recommendations/")):
                _put(store, f"{folder}/{entry.path}", source.read(f"{folder}/{entry.path}").data)
        if lists:
            made = _with_lists(source, store, made, customers)
        for back in range(1, VERSIONS):
            _put(store, *_older(made, back))
        _put(store, release.manifest_key(made), made.to_bytes())
        release.move(store, release.PRODUCTION, made)
        versions[domain] = made.version
    orders = f"artefacts/inventory/v/{versions['inventory']}/orders.parquet"
    products = pl.read_parquet(source.read(orders).data)["product_id"].to_list()
    day = release.read_pointer(source, "lake/all", made.as_of.isoformat())
    assert day is not None
    for name in ("lake/all",):  # the days that the pages of data begin with
        lake = release.read_manifest(source, name, day.version)
        _put(store, release.manifest_key(lake), lake.to_bytes())
        release.move(store, lake.as_of.isoformat(), lake)
    return Shop(target, customers, products, versions)


def _with_lists(source: Store, store: Store, made: Manifest, customers: list[str]) -> Manifest:
    """Write lists for made-up customers, drawn from the real ones."""
    folder = f"{made.name}/v/{made.version}"
    paths = [entry.path for entry in made.files if entry.path.startswith("recommendations/")]
    real = pl.concat([pl.read_parquet(source.read(f"{folder}/{path}").data) for path in paths])
    owners = real["customer_id"].unique(maintain_order=True).to_list()
    twins = pl.DataFrame({
        "customer_id": [owners[i % len(owners)] for i in range(len(customers))], "as": customers,
    })  # fmt: skip
    rows = twins.join(real, on="customer_id").drop("customer_id").rename({"as": "customer_id"})
    entries = {entry.path: entry for entry in made.files if entry.path not in paths}
    for bucket, part in partition(rows.select(real.columns), "customer_id", BUCKETS).items():
        buffer = io.BytesIO()
        part.write_parquet(buffer)
        path, data = f"recommendations/bucket={bucket:03}.parquet", buffer.getvalue()
        _put(store, f"{folder}/{path}", data)
        entries[path] = FileEntry(
            path=path, bytes=len(data), sha256=sha256(data).hexdigest(), rows=part.height
        )
    print(f"{rows.height:,} recommendation rows for {len(customers):,} customers")
    return made.model_copy(update={"files": [entries[path] for path in sorted(entries)]})


def _older(made: Manifest, back: int) -> tuple[str, bytes]:
    day = made.as_of - timedelta(days=back)
    moment = datetime.fromisoformat(made.provenance.created_at) - timedelta(days=back)
    older = made.model_copy(update={
        "version": f"{day}-{back:016x}", "as_of": day,
        "provenance": made.provenance.model_copy(update={"created_at": moment.isoformat()}),
    })  # fmt: skip
    return release.manifest_key(older), older.to_bytes()


def _put(store: Store, key: str, data: bytes) -> None:
    if not store.exists(key):
        store.create(key, data)


@contextmanager
def served() -> Iterator[int]:
    """Serve the console on loopback, with somebody logged in; yield its port."""
    import uvicorn
    from airflow.api_fastapi.app import create_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.core_api.security import get_user
    from airflow.models.dag import DagModel
    from ecom_console import runs
    from ecom_console.app import app

    create_auth_manager()
    DagModel.get_team_name = staticmethod(lambda _: None)  # type: ignore[assignment,method-assign]
    runs.last = lambda *_: []
    app.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username="ann", role="ADMIN")
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(10)


def questions(shop: Shop) -> dict[str, list[str]]:
    """Return addresses to ask for, by page; each a little different, as people are."""
    rng = random.Random(2)  # noqa: S311

    def some(values: list[str]) -> list[str]:
        return rng.sample(values, TIMES)

    pages = [f"page={number}" for number in range(1, TIMES + 1)]
    words = ["milk", "bread", "frozen", "yogurt", "juice"] * (TIMES // 5)
    return {
        "overview": ["/"] * TIMES,
        "data": ["/data"] * TIMES,
        "releases (600 versions)": [f"/releases?{each}" for each in pages],
        "release": [f"/releases/pricing/{shop.versions['pricing']}"] * TIMES,
        "recommendation": [f"/recommendation?{each}" for each in pages],
        "recommendation, products": [f"/recommendation/products?q={word}" for word in words],
        "recommendation, a customer": [
            f"/recommendation/customer?id={each}" for each in some(shop.customers)
        ],
        "recommendation, a product": [
            f"/recommendation/product?id={each}" for each in some(shop.products)
        ],
        "pricing": [f"/pricing?move=change&sort=change&{each}" for each in pages],
        "pricing, a product": [f"/pricing/product?id={each}" for each in some(shop.products)],
        "inventory": [f"/inventory?q={word}" for word in words],
        "inventory, a product": [f"/inventory/product?id={each}" for each in some(shop.products)],
        "what if": [
            f"/whatif?id={each}&price={rng.uniform(0.5, 5):.2f}&promotion=mailer&stock=100"
            for each in some(shop.products)
        ],
    }  # fmt: skip


def ask(port: int, path: str) -> tuple[float, int]:
    """Return the seconds until the whole page is here, and its status."""
    begun = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return time.perf_counter() - begun, answer.status


def percentile(values: list[float], share: float) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[round(share * 100) - 1]


def main() -> None:
    environment = services.environment(identity="publisher")
    os.environ |= environment
    root = environment["ECOM_ROOT"]
    begun = time.perf_counter()
    shop = prepare(root, f"{root.rpartition('/')[0]}/{PREFIX}")
    print(f"{VERSIONS} versions of each domain made in {time.perf_counter() - begun:.0f} s")
    os.environ["ECOM_ROOT"] = shop.root
    everything: list[float] = []
    with served() as port:
        print(f"{'page':32}{'first':>9}{'median':>9}{'95%':>9}   (ms)")
        for name, paths in questions(shop).items():
            told: list[Any] = [ask(port, path) for path in paths]
            assert {status for _, status in told} <= {200, 404}, (name, told)
            times = [1000 * seconds for seconds, _ in told]
            everything += times
            print(f"{name:32}{times[0]:9.0f}{statistics.median(times):9.0f}"
                  f"{percentile(times, 0.95):9.0f}")  # fmt: skip
    print(f"{'all ' + str(len(everything)) + ' requests':32}{'':9}"
          f"{statistics.median(everything):9.0f}{percentile(everything, 0.95):9.0f}")  # fmt: skip


if __name__ == "__main__":
    main()
