"""deploy/kubernetes: each file is right by the API's schemas, they agree with each other, and the daemon takes them.

No kustomize and no cluster is needed. tests/schemas/kubernetes.json holds the schemas, and says where they are from.
"""

from __future__ import annotations

import copy
import functools
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml

from killswitch.domain.settings import ConfirmPolicy

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "deploy" / "kubernetes"
SCHEMAS = json.loads((ROOT / "tests" / "schemas" / "kubernetes.json").read_text("utf-8"))
FILES = sorted(path.name for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
DEFAULT_PORTS = {"ws": 80, "wss": 443, "mqtt": 1883, "mqtts": 8883, "http": 80, "https": 443}
ME = {"app.kubernetes.io/name": "killswitch"}


@functools.cache
def objects(name):
    return list(yaml.safe_load_all((FOLDER / name).read_text("utf-8")))


def the(kind):
    found = [each for name in FILES for each in objects(name) if each["kind"] == kind]
    assert len(found) == 1, kind
    return found[0]


def faults(thing):
    """What the schema of its kind says against an object: sentences, with their places."""
    kind = SCHEMAS["kinds"][f"{thing['apiVersion']}/{thing['kind']}"]
    schema = {"$schema": SCHEMAS["$schema"], "$ref": f"#/$defs/{kind}", "$defs": SCHEMAS["$defs"]}
    found = jsonschema.Draft202012Validator(schema).iter_errors(thing)
    return [f"{error.json_path}: {error.message}" for error in found] + [f"{at}: null" for at in nulls(thing)]


def nulls(value, at="$"):
    """Places where a key stands without a value: the schemas let them pass, and they are slips."""
    if value is None:
        yield at
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from nulls(inner, f"{at}.{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from nulls(inner, f"{at}[{number}]")


@pytest.fixture
def pod():
    return the("StatefulSet")["spec"]["template"]


@pytest.fixture
def container(pod):
    (only,) = pod["spec"]["containers"]
    return only


@pytest.fixture
def config():
    return tomllib.loads(the("ConfigMap")["data"]["killswitch.toml"])


# --- each file alone ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_right_by_the_schema_of_its_kind(name):
    for thing in objects(name):
        assert faults(thing) == []


@pytest.mark.parametrize(
    ("kind", "path", "value", "said"),
    [
        ("StatefulSet", "spec.template.spec.enableServiceLink", False, "enableServiceLink"),
        ("StatefulSet", "spec.replicas", "one", "'one'"),
        ("StatefulSet", "spec.template.spec.containers.0.livenessProbe.httpGet.port", [9464], "[9464]"),
        ("StatefulSet", "spec.template.spec.containers.0.args", None, "null"),
        ("Service", "spec.ports.0.portName", "http", "portName"),
        ("ConfigMap", "data", ["x"], "['x']"),
        ("NetworkPolicy", "spec.egress.0.ports.0.ports", 53, "ports"),
        ("PodDisruptionBudget", "spec.maxUnavailable", {}, "{}"),
        ("ServiceMonitor", "spec.endpoints.0.scrapeTimeout", "soon", "soon"),
        ("ServiceMonitor", "spec.endpoints.0.timeout", "4s", "timeout"),
        ("ServiceMonitor", "spec.selector", "killswitch", "killswitch"),
    ],
)
def test_a_slip_would_be_noticed(kind, path, value, said):
    thing = copy.deepcopy(the(kind))
    *way, last = path.split(".")
    inside = thing
    for step in way:
        inside = inside[int(step) if isinstance(inside, list) else step]
    inside[last] = value

    assert any(said in fault for fault in faults(thing))


def test_a_key_that_is_there_twice_would_be_lost_so_there_is_none():
    class Strict(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
            assert len(keys) == len(set(keys)), keys
            return super().construct_mapping(node, deep=deep)

    for path in FOLDER.glob("*.yaml"):
        list(yaml.load_all(path.read_text("utf-8"), Strict))


# --- the files together -------------------------------------------------------------------------------------


def test_the_kustomization_names_every_file_and_nothing_else():
    (made,) = yaml.safe_load_all((FOLDER / "kustomization.yaml").read_text("utf-8"))

    assert (made["apiVersion"], made["kind"]) == ("kustomize.config.k8s.io/v1beta1", "Kustomization")
    assert set(made) <= {"apiVersion", "kind", "namespace", "resources", "images"}
    assert sorted(made["resources"]) == FILES
    assert made["namespace"] == the("Namespace")["metadata"]["name"]


def test_the_image_is_this_version_and_is_named_where_it_is_used(container):
    (made,) = yaml.safe_load_all((FOLDER / "kustomization.yaml").read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

    (image,) = made["images"]
    assert image["name"] == container["image"]
    assert image["newTag"] == project["version"]


def test_names_and_labels_and_selectors_agree(pod):
    for name in FILES:
        for thing in objects(name):
            assert thing["metadata"]["name"] == "killswitch"
            assert thing["metadata"]["labels"].items() >= ME.items()
            assert "namespace" not in thing["metadata"], "the kustomization gives it"
    assert pod["metadata"]["labels"] == ME
    assert the("StatefulSet")["spec"]["selector"] == {"matchLabels": ME}
    assert the("Service")["spec"]["selector"] == ME
    assert the("PodDisruptionBudget")["spec"]["selector"] == {"matchLabels": ME}
    assert the("NetworkPolicy")["spec"]["podSelector"] == {"matchLabels": ME}
    assert the("ServiceMonitor")["spec"]["selector"] == {"matchLabels": ME}
    assert the("StatefulSet")["spec"]["serviceName"] == the("Service")["metadata"]["name"]
    assert pod["spec"]["serviceAccountName"] == the("ServiceAccount")["metadata"]["name"]


def test_one_port_goes_through_all_of_them(container):
    (port,) = container["ports"]
    listen = env(container)["KILLSWITCH_HTTP__LISTEN"]
    (served,) = the("Service")["spec"]["ports"]
    (scraped,) = the("ServiceMonitor")["spec"]["endpoints"]
    (let_in,) = the("NetworkPolicy")["spec"]["ingress"]

    assert listen == f"0.0.0.0:{port['containerPort']}"
    assert (served["port"], served["targetPort"]) == (port["containerPort"], port["name"])
    assert scraped["port"] == served["name"]
    assert [each["port"] for each in let_in["ports"]] == [port["name"]]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == port["name"]


def test_the_alerts_find_the_job_by_the_name_that_the_monitor_gives():
    monitor = the("ServiceMonitor")["spec"]
    job = the("Service")["metadata"]["labels"][monitor["jobLabel"]]

    assert f'up{{job="{job}"}}' in (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text("utf-8")


def test_every_mount_has_its_volume_and_every_volume_its_mount(pod, container):
    claims = [claim["metadata"]["name"] for claim in the("StatefulSet")["spec"]["volumeClaimTemplates"]]
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}

    assert sorted(mount["name"] for mount in container["volumeMounts"]) == sorted([*claims, *volumes])
    assert volumes["config"]["configMap"]["name"] == the("ConfigMap")["metadata"]["name"]
    # The Secret is made by hand: the kustomization says how, by this name.
    made = re.search(r"create secret generic (\S+)", (FOLDER / "kustomization.yaml").read_text("utf-8"))
    assert made
    assert made[1] == volumes["secrets"]["secret"]["secretName"]


def test_the_secret_that_the_kustomization_tells_to_make_holds_every_file_that_the_configuration_names(config):
    told = re.findall(r"--from-file=(\S+)", (FOLDER / "kustomization.yaml").read_text("utf-8"))
    named = [
        value for table in (config["mqtt"], *config["oms"]) for key, value in table.items() if key.endswith("_file")
    ]

    assert sorted(told) == sorted(named)


def test_whatever_the_configuration_connects_to_is_let_out(config):
    urls = [*config["mqtt"]["urls"], *(url for oms in config["oms"] for url in oms["gateways"])]
    urls += [
        table[key] for table in (*config["oms"], *config.get("feed", ())) for key in ("http", "url") if key in table
    ]
    wanted = {urlsplit(url).port or DEFAULT_PORTS[urlsplit(url).scheme] for url in urls}
    rules = the("NetworkPolicy")["spec"]["egress"]
    anywhere = {each["port"] for rule in rules if "to" not in rule for each in rule["ports"]}

    assert wanted == anywhere
    assert {(p["port"], p["protocol"]) for r in rules if "to" in r for p in r["ports"]} == {(53, "UDP"), (53, "TCP")}


# --- what the daemon needs ----------------------------------------------------------------------------------


def env(container):
    return {each["name"]: each.get("value") for each in container["env"]}


def test_the_daemon_takes_the_configuration_as_the_pod_gives_it(tmp_path, container, config):
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    given = env(container) | {"KILLSWITCH_DAEMON__NAME": "killswitch-0"}
    assert given["CREDENTIALS_DIRECTORY"] == mounts["secrets"]
    assert given["STATE_DIRECTORY"] == mounts["journal"]
    assert given["KILLSWITCH_CONFIG"].startswith(mounts["config"] + "/")
    for mounted in mounts.values():
        (tmp_path / mounted[1:]).mkdir(parents=True)
    given = {key: f"{tmp_path}{value}" if value.startswith("/") else value for key, value in given.items()}
    Path(given["KILLSWITCH_CONFIG"]).write_text(the("ConfigMap")["data"]["killswitch.toml"], "utf-8")
    for name in ("prime.secret", "mqtt.password", "ca.pem"):
        file = Path(given["CREDENTIALS_DIRECTORY"], name)
        file.write_text("x", "utf-8")
        file.chmod(0o440)

    checked = check(given)

    # What it says is what has to be so in a cluster, and only that.
    assert checked.returncode == 1, checked.stdout + checked.stderr
    assert "Findings: 1\n- HTTP listens on an address that isn't loopback" in checked.stdout
    assert config["daemon"]["name"] == "killswitch-0"


def test_the_configuration_stands_alone_as_well(tmp_path):
    (tmp_path / "killswitch.toml").write_text(the("ConfigMap")["data"]["killswitch.toml"], "utf-8")
    for name in ("prime.secret", "mqtt.password", "ca.pem"):
        (tmp_path / name).write_text("x", "utf-8")
        (tmp_path / name).chmod(0o400)

    checked = check({"KILLSWITCH_CONFIG": str(tmp_path / "killswitch.toml")})

    assert (checked.returncode, checked.stderr) == (0, f"configuration: {tmp_path}/killswitch.toml\n"), checked.stdout


def check(given):
    ours = {key: value for key, value in os.environ.items() if not key.startswith("KILLSWITCH")}
    command = [sys.executable, "-m", "killswitch", "check"]
    return subprocess.run(command, env=ours | given, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_the_pod_may_do_nothing_that_it_does_not_need(pod, container):
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert the("ServiceAccount")["automountServiceAccountToken"] is False
    assert pod["spec"]["enableServiceLinks"] is False  # else KILLSWITCH_PORT and its kin are in the environment
    outer = pod["spec"]["securityContext"]
    assert outer["runAsNonRoot"] is True
    assert outer["runAsUser"] > 0
    assert outer["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod["spec"])
    assert "cpu" not in container["resources"]["limits"]  # throttled is late
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    level = the("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    assert level == "restricted"


def test_the_user_is_the_images_own(pod):
    text = (ROOT / "deploy" / "Dockerfile").read_text("utf-8")
    outer = pod["spec"]["securityContext"]

    assert f"USER {outer['runAsUser']}:{outer['runAsGroup']}\n" in text
    assert outer["fsGroup"] == outer["runAsGroup"]


def test_there_are_never_two_of_one_name():
    # A Deployment starts the new pod beside the old one.
    assert the("StatefulSet")["spec"]["replicas"] == 1
    (claim,) = the("StatefulSet")["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert the("StatefulSet")["spec"]["persistentVolumeClaimRetentionPolicy"] == {
        "whenDeleted": "Retain",
        "whenScaled": "Retain",
    }


def test_nothing_kills_a_daemon_that_works(pod, container):
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert pod["spec"]["terminationGracePeriodSeconds"] > ConfirmPolicy().deadline_s + 10
    liveness = container["livenessProbe"]
    assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 30
    # Not ready is not gone: whoever looks must find it.
    assert the("Service")["spec"]["publishNotReadyAddresses"] is True
    assert the("PodDisruptionBudget")["spec"]["maxUnavailable"] == 0
