"""The container and the manifests: they name settings that exist, run without rights, and agree with each other."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rotoscope.environment import SETTINGS
from rotoscope.errors import InvalidInput
from rotoscope.settings import read_settings

TOP = Path(__file__).parents[2]
DOCKERFILE = (TOP / "manifests/docker/Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((TOP / "manifests/docker/compose.yaml").read_text(encoding="utf-8"))
KUBERNETES: list[dict[str, Any]] = list(
    yaml.safe_load_all((TOP / "manifests/kubernetes/rotoscope.yaml").read_text(encoding="utf-8"))
)
SECRET: dict[str, Any] = yaml.safe_load((TOP / "manifests/kubernetes/secret.example.yaml").read_text(encoding="utf-8"))
OURS = ("rotoscope", "worker")


def kind(name: str) -> list[dict[str, Any]]:
    return [one for one in KUBERNETES if one["kind"] == name]


def pods() -> Iterator[dict[str, Any]]:
    for deployment in kind("Deployment"):
        yield deployment["spec"]["template"]


def test_every_setting_that_is_named_exists() -> None:
    files = [*TOP.glob("manifests/docker/*"), *TOP.glob("manifests/kubernetes/*"), TOP / "docs/self-hosting.md"]
    named = {name for file in files for name in re.findall(r"\bROTOSCOPE_[A-Z_]+\b", file.read_text(encoding="utf-8"))}
    assert named
    assert named - {"ROTOSCOPE_DOMAIN"} <= {setting.name for setting in SETTINGS}


def test_the_settings_of_the_compose_file_and_of_kubernetes_are_accepted() -> None:
    (config,) = kind("ConfigMap")
    compose = {name: re.sub(r"\$\{(\w+)[^}]*\}", "a.example", value) for name, value in environment().items()}
    for given in (compose, {**config["data"], **SECRET["stringData"], "ROTOSCOPE_SECRETS": "0" * 64}):
        settings = read_settings({"ROTOSCOPE_HOME": "/data", **given})
        assert settings.network.public_url is not None
        assert str(settings.database).startswith("postgresql+psycopg://")
        assert settings.network.sign_in == "people"


def environment() -> dict[str, str]:
    found: dict[str, str] = COMPOSE["x-rotoscope"]["environment"]
    return found


def test_a_setting_that_is_wrong_would_be_noticed() -> None:
    with pytest.raises(InvalidInput):
        read_settings({"ROTOSCOPE_HOME": "/data", "ROTOSCOPE_PUBLIC_URL": "http://a.example"})


def test_the_containers_run_without_rights_on_a_file_system_that_they_cannot_change() -> None:
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", DOCKERFILE, re.MULTILINE)
    for name in OURS:
        service = COMPOSE["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
    for pod in pods():
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert pod["spec"]["securityContext"]["runAsUser"] == 10001
        assert pod["spec"]["automountServiceAccountToken"] is False
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/data", "/tmp"}


def test_all_selectors_find_the_pods_that_they_are_meant_for() -> None:
    labels = [pod["metadata"]["labels"] for pod in pods()]
    wanted = [service["spec"]["selector"] for service in kind("Service")]
    wanted += [one["spec"]["selector"]["matchLabels"] for one in (*kind("Deployment"), *kind("PodDisruptionBudget"))]
    wanted += [policy["spec"]["podSelector"]["matchLabels"] for policy in kind("NetworkPolicy")]
    for selector in wanted:
        assert any(selector.items() <= given.items() for given in labels), selector
    scaled = {one["spec"]["scaleTargetRef"]["name"] for one in kind("HorizontalPodAutoscaler")}
    assert scaled == {one["metadata"]["name"] for one in kind("Deployment")}


def test_ports_and_commands_agree_with_the_container() -> None:
    assert "EXPOSE 8000" in DOCKERFILE
    assert '"0.0.0.0:8000"' in DOCKERFILE
    (policy,) = kind("NetworkPolicy")
    assert policy["spec"]["ingress"] == [{"ports": [{"port": 8000, "protocol": "TCP"}]}]
    commands = [container["args"][0] for pod in pods() for container in pod["spec"]["containers"]]
    assert commands == ["serve", "worker"]
    (server,) = (pod for pod in pods() if pod["metadata"]["labels"]["app.kubernetes.io/component"] == "server")
    probes = server["spec"]["containers"][0]
    paths = [probes[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")]
    assert paths == ["/healthz", "/healthz", "/readyz"]


def test_secrets_stand_in_the_secret_alone() -> None:
    (config,) = kind("ConfigMap")
    assert not [name for name in config["data"] if re.search(r"SECRET|KEY|TOKEN|DATABASE", name)]
    for pod in pods():
        for container in pod["spec"]["containers"]:
            assert container["envFrom"] == [
                {"configMapRef": {"name": "rotoscope"}},
                {"secretRef": {"name": "rotoscope"}},
            ]
            assert "env" not in container


def test_nothing_is_killed_before_it_has_ended_in_order() -> None:
    """A server ends within 30 seconds, see docs/http.md."""
    assert all(pod["spec"]["terminationGracePeriodSeconds"] > 30 for pod in pods())
    assert all(int(COMPOSE["services"][name]["stop_grace_period"].removesuffix("s")) > 30 for name in OURS)
