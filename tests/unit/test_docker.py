"""The container files are well formed and agree with each other; they cannot be run here."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[2]
COMPOSE = PROJECT / "docker" / "compose.yaml"
DOCKERFILE = PROJECT / "docker" / "Dockerfile"
CHECK = runpy.run_path(str(PROJECT / ".ci" / "check_docker.py"))
IMAGES = {"airflow": "requirements-airflow.txt", "worker": "requirements.txt",
          "cuda": "requirements-gpu.txt"}  # fmt: skip


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(CHECK["composed"]())


def lint(tool: str, *arguments: str) -> str:
    program = Path(sys.executable).with_name(tool)
    if not program.exists():
        pytest.skip(f"{tool} is not installed: make setup-dev")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr if done.returncode else ""


def test_dockerfile_has_no_findings(tmp_path: Path) -> None:
    assert lint("hadolint", "--failure-threshold", "info", str(DOCKERFILE)) == ""
    worse = tmp_path / "Dockerfile"
    worse.write_text(DOCKERFILE.read_text("utf-8").replace("50000:50000", "root"), "utf-8")
    assert "DL3002" in lint("hadolint", "--failure-threshold", "info", str(worse))


def test_compose_file_is_what_the_specification_allows(compose: dict[str, Any]) -> None:
    from compose_spec import PyCompose

    PyCompose.from_yaml(yaml.safe_dump(compose)).validate()
    worse = compose | {"services": compose["services"] | {"x": {"image": "x", "helthcheck": {}}}}
    with pytest.raises(ValueError, match="helthcheck"):
        PyCompose.from_yaml(yaml.safe_dump(worse))


def test_variables_are_filled_in_as_compose_does() -> None:
    filled = CHECK["filled"]
    assert filled("${A:-x}/${B:-}$$C", {}) == "x/$$C"
    assert filled(["${A:-2}", {"a": "${B:?}"}], {"A": "3"}) == [3, {"a": "demanded"}]


def test_every_service_has_a_health_check_no_root_and_a_root_that_is_not_written_to(
    compose: dict[str, Any],
) -> None:
    services = compose["services"]
    parts = {"postgres", "redis", "store", "migrate", "api-server", "scheduler", "dag-processor",
             "triggerer", "celery-worker", "celery-worker-cuda", "dask-scheduler", "dask-worker",
             "dask-worker-cuda"}  # fmt: skip
    assert set(services) == parts
    for name, each in services.items():
        # It runs to its end.
        assert ("test" in each["healthcheck"]) is (name != "migrate"), name
        assert each["read_only"] is True, name
        assert each["cap_drop"] == ["ALL"], name
        assert each["security_opt"] == ["no-new-privileges:true"], name
        assert "build" in each or each["user"] == "999:999", name
    assert re.findall(r"^USER (.+)$", DOCKERFILE.read_text("utf-8"), re.M) == ["50000:50000"]


def test_each_part_has_the_image_made_for_it(compose: dict[str, Any]) -> None:
    light = {"migrate", "api-server", "scheduler", "dag-processor", "triggerer"}
    for name, each in compose["services"].items():
        if "build" in each:
            target = "cuda" if "cuda" in name else "airflow" if name in light else "worker"
            assert each["build"]["target"] == target, name
            assert each["image"] == f"ecom-{target}", name
            assert ("cuda" in each.get("profiles", [])) is (target == "cuda"), name


def test_airflow_runs_with_celery_and_its_secrets_are_files(compose: dict[str, Any]) -> None:
    known = set(compose["secrets"])
    for name, each in compose["services"].items():
        given = set(each.get("secrets", []))
        assert given <= known, name
        environment = each.get("environment", {})
        read = {value.removeprefix("cat /run/secrets/") for value in environment.values()
                if str(value).startswith("cat /run/secrets/")}  # fmt: skip
        assert read <= given, name
        if "AIRFLOW__CORE__EXECUTOR" in environment:
            assert environment["AIRFLOW__CORE__EXECUTOR"] == "CeleryExecutor"
            assert {"airflow_database", "airflow_broker"} <= read
    used = {secret for each in compose["services"].values() for secret in each.get("secrets", [])}
    assert used == known


def test_every_named_volume_is_declared(compose: dict[str, Any]) -> None:
    mounted = {
        volume.partition(":")[0]
        for each in compose["services"].values()
        for volume in each.get("volumes", [])
        if ":" in volume and not volume.startswith((".", "/"))
    }
    assert mounted == set(compose["volumes"])


def test_options_of_programs_exist(compose: dict[str, Any]) -> None:
    """What our own environment can tell of the commands in the containers."""
    programs = {
        "dask-scheduler": ["dask", "scheduler"],
        "dask-worker": ["dask", "worker"],
        "celery-worker": ["airflow", "celery", "worker"],
        "scheduler": ["airflow", "scheduler"],
        "triggerer": ["airflow", "triggerer"],
    }
    for name, program in programs.items():
        command = [str(part) for part in compose["services"][name]["command"]]
        assert command[: len(program)] == program
        done = subprocess.run([sys.executable, "-m", *program, "--help"], text=True, check=True,
                              capture_output=True)  # fmt: skip
        options = [part for part in command if part.startswith("--")]
        assert [each for each in options if each not in done.stdout] == [], name


def test_every_secret_that_is_demanded_is_written(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    shutil.copy(PROJECT / "docker" / "make_env.py", tmp_path / "docker")
    (tmp_path / "ecom_tasks").symlink_to(PROJECT / "ecom_tasks")
    command = [sys.executable, str(tmp_path / "docker" / "make_env.py")]
    subprocess.run(command, check=True, capture_output=True)
    written = tmp_path / "docker" / ".env"
    assert written.stat().st_mode & 0o777 == 0o600
    text = written.read_text(encoding="utf-8")
    values = dict(shlex.split(line)[0].split("=", 1) for line in text.splitlines())
    demanded = set(re.findall(r"\$\{(\w+):\?\}", COMPOSE.read_text(encoding="utf-8")))
    assert demanded
    read = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["secrets"].values()
    assert demanded | {each["environment"] for each in read} == set(values)
    assert len(set(values.values())) == len(values)
    assert values["POSTGRES_PASSWORD"] in values["AIRFLOW_DATABASE"]
    assert values["AIRFLOW_RESULTS"] == f"db+{values['AIRFLOW_DATABASE']}"
    assert values["REDIS_PASSWORD"] in values["AIRFLOW_BROKER"]
    assert values["PUBLISHER_SECRET"] in values["STORE_IDENTITIES"]
    # Once only: the store and the database were made with these.
    subprocess.run(command, check=True, capture_output=True)
    assert written.read_text(encoding="utf-8") == text


def test_ports_are_published_on_loopback_only(compose: dict[str, Any]) -> None:
    published = [port for each in compose["services"].values() for port in each.get("ports", [])]
    assert len(published) == 2
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_who_is_given_the_key_of_pseudonyms(compose: dict[str, Any]) -> None:
    given = {
        name for name, each in compose["services"].items()
        if "PSEUDONYM_KEY" in str(each.get("environment"))
    }  # fmt: skip
    assert given == {"celery-worker", "celery-worker-cuda"}


def test_what_is_waited_for_is_there(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, each in services.items():
        for other, how in each.get("depends_on", {}).items():
            healthy = how["condition"] == "service_healthy"
            assert "healthcheck" in services[other] or not healthy, (name, other)


def test_images_hold_what_runs() -> None:
    lines = DOCKERFILE.read_text(encoding="utf-8")
    ignore = (PROJECT / "docker" / "Dockerfile.dockerignore").read_text(encoding="utf-8")
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", lines, re.MULTILINE)
    sources = [source for group in copied for source in group.split()]
    assert {"ecom_tasks", "dags", "plugins", "expectations", *IMAGES.values()} <= set(sources)
    for source in sources:
        assert (PROJECT / source).exists()
        assert f"!{source}" in ignore.splitlines()
    for image, requirements in IMAGES.items():
        assert f"FROM venv AS venv-{image}\nCOPY {requirements} " in lines
        assert f"FROM base AS {image}\nCOPY --from=venv-{image} " in lines
    assert not os.access(PROJECT / "docker" / ".env", os.R_OK) or ".env" in (
        PROJECT / "docker" / ".gitignore"
    ).read_text(encoding="utf-8")


def manifests(name: str) -> list[dict[str, Any]]:
    text = (PROJECT / "docker" / name).read_text(encoding="utf-8")
    return [dict(each) for each in yaml.safe_load_all(text)]


def test_dask_for_kubernetes_is_encrypted_and_confined() -> None:
    cluster, group = manifests("dask-cluster.yaml")
    assert {each["apiVersion"] for each in (cluster, group)} == {"kubernetes.dask.org/v1"}
    assert (cluster["kind"], group["kind"]) == ("DaskCluster", "DaskWorkerGroup")
    assert group["spec"]["cluster"] == cluster["metadata"]["name"]
    pods = {
        "worker": cluster["spec"]["worker"]["spec"],
        "scheduler": cluster["spec"]["scheduler"]["spec"],
        "cuda": group["spec"]["worker"]["spec"],
    }
    for name, pod in pods.items():
        (container,) = pod["containers"]
        variables = {each["name"]: each["value"] for each in container["env"]}
        role = "SCHEDULER" if name == "scheduler" else "WORKER"
        assert variables["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] == "True"
        assert f"DASK_DISTRIBUTED__COMM__TLS__{role}__CERT" in variables
        assert pod["securityContext"]["runAsNonRoot"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        mounted = {each["name"] for each in container["volumeMounts"]}
        assert mounted == {each["name"] for each in pod["volumes"]}
        assert f"ecom-{'cuda' if name == 'cuda' else 'worker'}" in container["image"]
    assert pods["cuda"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_values_of_the_chart_keep_secrets_out() -> None:
    (values,) = manifests("helm-values.yaml")
    assert values["executor"] == "KubernetesExecutor"
    assert values["airflowVersion"] in (PROJECT / "requirements-airflow.txt").read_text("utf-8")
    images = {name: each["repository"] for name, each in values["images"].items()}
    assert images == {
        name: f"registry.example/ecom-{image}"
        for name, image in {"airflow": "airflow", "pod_template": "worker"}.items()
    }
    named = re.compile(r"SECRET|KEY|PASSWORD")
    for part in ("env", *(f"{name}/env" for name in ("apiServer", "workers"))):
        entries = values[part] if part == "env" else values[part.split("/")[0]]["env"]
        for each in entries:
            path = each["name"].startswith("ECOM_DASK_TLS_")
            assert "valueFrom" in each or path or not named.search(each["name"]), each["name"]
