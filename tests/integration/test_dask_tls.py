"""An encrypted scheduler: both ends prove who they are by certificates of one authority."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ecom_tasks import compute
from ecom_tasks.compute.clusters import TLS
from ecom_tasks.errors import ConfigError
from tests.clusters import Cluster, cluster


def certificates(folder: Path) -> dict[str, Path]:
    """Make an authority, and a certificate for loopback that it signed."""
    folder.mkdir()
    authority, node = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer, subject = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("authority", "node")
    )
    yesterday = datetime.now(UTC) - timedelta(days=1)

    def signed(name: x509.Name, key: ec.EllipticCurvePrivateKey, *, ca: bool) -> x509.Certificate:
        return (
            x509
            .CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(yesterday)
            .not_valid_after(yesterday + timedelta(days=3))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                critical=False,
            )
            .sign(authority, hashes.SHA256())
        )

    pem = serialization.Encoding.PEM
    key = node.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    content = {
        "tls_ca_file": signed(issuer, authority, ca=True).public_bytes(pem),
        "tls_client_cert": signed(subject, node, ca=False).public_bytes(pem),
        "tls_client_key": key,
    }
    files = {name: folder / f"{name}.pem" for name in content}
    for name, data in content.items():
        files[name].write_bytes(data)
    return files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return certificates(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def dask(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    options = [
        "--tls-ca-file", str(files["tls_ca_file"]), "--tls-cert", str(files["tls_client_cert"]),
        "--tls-key", str(files["tls_client_key"]),
    ]  # fmt: skip
    with cluster(tmp_path_factory.mktemp("dask"), 1, "tls", options) as made:
        yield made


def use(dask: Cluster, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECOM_DASK", dask.address)
    for name, variable in TLS.items():
        monkeypatch.setenv(variable, str(files[name]))


def test_work_is_done_over_tls(
    dask: Cluster, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dask.address.startswith("tls://127.0.0.1:")
    use(dask, files, monkeypatch)
    assert compute.map_buckets(abs, [-1, -2, -3], "over TLS") == [1, 2, 3]


def test_a_stranger_is_refused(
    dask: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(dask, certificates(tmp_path / "another authority"), monkeypatch)
    with pytest.raises(ConfigError, match="do not trust each other"):
        compute.map_buckets(abs, [-1], "over TLS")


@pytest.mark.parametrize("variable", TLS.values())
def test_a_missing_file_is_named(
    variable: str, dask: Cluster, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(dask, files, monkeypatch)
    monkeypatch.setenv(variable, "/nowhere.pem")
    with pytest.raises(ConfigError, match=f"{variable} names no file: /nowhere.pem"):
        compute.map_buckets(abs, [-1], "over TLS")
    monkeypatch.delenv(variable)
    with pytest.raises(ConfigError, match=f"{variable} is not set"):
        compute.map_buckets(abs, [-1], "over TLS")
