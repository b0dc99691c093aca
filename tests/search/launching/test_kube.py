"""The RayJob: that Kubernetes and KubeRay can take it, and that it does what was asked."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

from search.launching.kube import KubeSettings, kube
from search.units import GIB
from trainables.errors import UserError

ROOT = Path(__file__).parents[3]
SEARCH = ("--space", "pmf_nas", "--dataset", "/results/my data.csv")


def _object(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    """Return the schema of an object that has no other fields, as Kubernetes refuses those."""
    properties = required | optional
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _list(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of, "minItems": 1}


_TEXT = {"type": "string", "minLength": 1}
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_COUNT = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
_NAME = {"type": "string", "pattern": r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"}
_QUANTITY = {"type": "string", "pattern": r"^\d+(\.\d+)?(m|Ki|Mi|Gi|Ti)?$"}
_QUANTITIES = {"type": "object", "additionalProperties": _QUANTITY}
_RESOURCES = _object({"requests": _QUANTITIES, "limits": _QUANTITIES})
_NO_PRIVILEGES = _object(
    {
        "allowPrivilegeEscalation": {"const": False},
        "capabilities": _object({"drop": {"const": ["ALL"]}}),
    }
)
_CONTAINER = _object(
    {"name": _NAME, "image": _TEXT, "resources": _RESOURCES, "securityContext": _NO_PRIVILEGES},
    command=_list(_TEXT),
    env=_list(_object({"name": _TEXT, "value": {"type": "string"}})),
    ports=_list(_object({"name": _NAME, "containerPort": {"type": "integer", "minimum": 1}})),
    readinessProbe=_object(
        {"exec": _object({"command": _list(_TEXT)})}, periodSeconds=_COUNT, failureThreshold=_COUNT
    ),
    volumeMounts=_list(_object({"name": _NAME, "mountPath": _TEXT})),
)
_POD = _object(
    {
        "containers": _list(_CONTAINER),
        "securityContext": _object(
            {
                "runAsNonRoot": {"const": True},
                "runAsUser": _COUNT,
                "seccompProfile": {"const": {"type": "RuntimeDefault"}},
            },
            runAsGroup=_COUNT,
            fsGroup=_COUNT,
            fsGroupChangePolicy={"enum": ["OnRootMismatch", "Always"]},
        ),
    },
    restartPolicy={"enum": ["Never", "OnFailure"]},
    volumes=_list(_object({"name": _NAME, "persistentVolumeClaim": _object({"claimName": _NAME})})),
    nodeSelector=_TEXTS,
    tolerations=_list(_object({"key": _TEXT, "operator": {"const": "Exists"}, "effect": _TEXT})),
)
_TEMPLATE = _object({"spec": _POD}, metadata=_object({"labels": _TEXTS}))
#: The fields of KubeRay's ray.io/v1 that are used, with those that it requires.
_RAY_JOB = _object(
    {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayJob"},
        "metadata": _object({"name": _NAME}),
        "spec": _object(
            {
                "entrypoint": _TEXT,
                "shutdownAfterJobFinishes": {"const": True},
                "ttlSecondsAfterFinished": _COUNT,
                "submitterPodTemplate": _TEMPLATE,
                "rayClusterSpec": _object(
                    {
                        "rayVersion": _TEXT,
                        "authOptions": {"const": {"mode": "token"}},
                        "enableInTreeAutoscaling": {"const": True},
                        "autoscalerOptions": _object(
                            {"version": {"enum": ["v1", "v2"]}},
                            idleTimeoutSeconds=_COUNT,
                            resources=_RESOURCES,
                            securityContext=_NO_PRIVILEGES,
                        ),
                        "headGroupSpec": _object({"rayStartParams": _TEXTS, "template": _TEMPLATE}),
                        "workerGroupSpecs": _list(
                            _object(
                                {
                                    "groupName": _NAME,
                                    "minReplicas": _COUNT,
                                    "maxReplicas": _COUNT,
                                    "rayStartParams": _TEXTS,
                                    "template": _TEMPLATE,
                                },
                                replicas=_COUNT,
                            )
                        ),
                    }
                ),
            },
            backoffLimit=_COUNT,
        ),
    }
)
_CLAIM = _object(
    {
        "apiVersion": {"const": "v1"},
        "kind": {"const": "PersistentVolumeClaim"},
        "metadata": _object({"name": _NAME}),
        "spec": _object(
            {
                "accessModes": {"const": ["ReadWriteMany"]},
                "resources": _object({"requests": _object({"storage": _QUANTITY})}),
            },
            storageClassName=_TEXT,
        ),
    }
)


def _files(search: tuple[str, ...] = SEARCH, **settings: Any) -> dict[str, Any]:
    plan = kube(KubeSettings(**settings), search)
    return {path: yaml.safe_load(text) for path, text in plan.files.items()}


def _job(search: tuple[str, ...] = SEARCH, **settings: Any) -> dict[str, Any]:
    """Return the specification of a job, after it was checked against the schema."""
    job = _files(search, **settings)["rayjob.yaml"]
    jsonschema.validate(job, _RAY_JOB)
    return job["spec"]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"gpus": 0, "name": "on", "claim": "mine"},
        {"node_selector": ("a/b=true", "c=1"), "storage_class": "nfs", "min_workers": 2},
        {"image": "r.example.com:5000/me/paretofuse:1.0", "gpu_memory": 22 * GIB},
    ],
)
def test_kubernetes_can_take_it(settings) -> None:
    files = _files(**settings)
    jsonschema.validate(files.pop("rayjob.yaml"), _RAY_JOB)
    assert len(files) == ("claim" not in settings)
    for claim in files.values():
        jsonschema.validate(claim, _CLAIM)


def test_it_asks_for_what_was_said() -> None:
    spec = _job(
        gpus=2, cpus=8, memory=48 * GIB, workers=6, min_workers=1, node_selector=("gpu=l4",), image="r/me:1"
    )
    cluster = spec["rayClusterSpec"]
    assert cluster["rayVersion"] == ray.__version__
    (group,) = cluster["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (1, 1, 6)
    pod = group["template"]["spec"]
    assert pod["nodeSelector"] == {"gpu": "l4"}
    (worker,) = pod["containers"]
    assert worker["resources"]["limits"] == {"cpu": "8", "memory": "48Gi", "nvidia.com/gpu": "2"}
    head, mlflow = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0", "num-gpus": "0"}
    assert {one["image"] for one in (head, mlflow, worker)} == {"r/me:1"}
    environment = {one["name"]: one["value"] for one in head["env"]}
    assert environment["PARETOFUSE_OPTIONS"] == "--storage-path /results/runs --gpus-per-trial 1"
    assert environment["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:5000"
    assert "--backend-store-uri=sqlite:////results/paretofuse.mlflow.db" in mlflow["command"]


def test_all_pods_share_the_volume() -> None:
    files = _files()
    cluster = files["rayjob.yaml"]["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (volume,) = pod["volumes"]
        assert volume["persistentVolumeClaim"]["claimName"] == files["rayjob-volume.yaml"]["metadata"]["name"]
        for container in pod["containers"]:
            assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/results"}]


def test_without_gpus_it_asks_for_none() -> None:
    (group,) = _job(gpus=0)["rayClusterSpec"]["workerGroupSpecs"]
    pod = group["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"].keys() == {"cpu", "memory"}
    assert "tolerations" not in pod


def test_the_search_is_started_and_later_resumed(tmp_path, monkeypatch) -> None:
    words = shlex.split(_job((*SEARCH, "--name", "first"))["entrypoint"])
    script = Path(words[1]).relative_to("/opt/paretofuse")
    assert words[2:] == ["/results/runs", "first", *SEARCH]
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\nshift; printf '%s\\n' \"$@\"\n")
    python.chmod(0o755)
    monkeypatch.setenv("PATH", str(python.parent), prepend=":")

    def started() -> list[str]:
        command = ["bash", str(ROOT / script), str(tmp_path), *words[3:]]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    assert started() == ["--name", "first", "--storage-path", str(tmp_path), *SEARCH]
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "search.sqlite").touch()
    assert started() == ["--resume", f"{tmp_path}/first"]


def test_the_commands_build_and_start_it() -> None:
    plan = kube(KubeSettings(image="r/me:1"), SEARCH)
    assert plan.commands == (
        f"docker build --tag r/me:1 {ROOT}",
        "docker push r/me:1",
        "kubectl apply -f rayjob-volume.yaml",
        "kubectl apply -f rayjob.yaml",
    )


def test_the_image_is_what_the_job_expects() -> None:
    text = (ROOT / "Dockerfile").read_text()
    steps = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.M)).splitlines()
    steps = [step.split(maxsplit=1) for step in steps if step.strip()]
    (user,) = (value for step, value in steps if step == "USER")
    spec = _job()
    for pod in (spec["submitterPodTemplate"], *spec["rayClusterSpec"]["workerGroupSpecs"]):
        template = pod.get("template", pod)
        assert str(template["spec"]["securityContext"]["runAsUser"]) == user
    assert "/opt/paretofuse" in [value for step, value in steps if step == "WORKDIR"]
    for step, value in steps:
        for source in value.split()[:-1] if step == "COPY" else ():
            assert (ROOT / source).exists()
    # KubeRay's probes, `ray job submit`, and versions that were tested
    run = " ".join(value for step, value in steps if step == "RUN")
    for needed in ("wget", "ray[default]", "-c constraints.txt", "--require-hashes -r bundled-encoders.txt"):
        assert needed in run
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {".git", "**/.venv*", "**/.env*", "**/*.pem", "**/.aws"} <= set(ignored)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"node_selector": ("gpu",)}, "--node-selector gpu: write NAME=VALUE"),
        ({"min_workers": 5}, "--min-workers 5: must be at most the 4 of --workers"),
        ({"storage_path": "/data"}, "--storage-path /data: must be a folder on the volume"),
        ({"storage_path": "s3://b/runs"}, "--storage-path s3://b/runs: must be a folder"),
    ],
)
def test_what_cannot_be_is_refused(settings, message) -> None:
    with pytest.raises(UserError, match=message):
        _files(**settings)


def test_the_examples_image_is_not_submitted() -> None:
    with pytest.raises(UserError, match="--image: is missing"):
        KubeSettings().check_submit()
