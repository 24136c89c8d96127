"""recipes/cluster: the manifest is what Kubeflow's schema allows, the scripts are shell, and the manifest's own command trains on two nodes."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "recipes" / "cluster"
SCRIPTS = sorted(FOLDER.glob("*.sbatch"))

RECIPE = """
summary = "two nodes"
seed = 3

[[teacher]]
checkpoint = "{teacher}"

[student.cut]
layers = 1
intermediate_size = 48

[data]
held_out = ["{text}"]
length = 32
held_out_windows = 8

[[data.train]]
files = ["{text}"]

[[loss]]
kind = "forward_kl"

[temperature]
start = 1
end = 1

[training]
steps = 4
batch = 4
learning_rate = 1e-3
"""


def strict(schema: dict) -> dict:
    """The schema with every field that it does not name refused, as ``kubectl --validate=strict`` does; maps of any names stay."""
    made = {key: strict(value) if isinstance(value, dict) else value for key, value in schema.items() if key != "properties"}
    if "properties" in schema:
        made["properties"] = {name: strict(value) for name, value in schema["properties"].items()}
        made["additionalProperties"] = False
    return made


def manifest() -> dict:
    return yaml.safe_load((FOLDER / "trainjob.yaml").read_text())


def errors(values: dict) -> list[str]:
    schema = strict(json.loads((ROOT / "tests/recipes/schemas/trainjob.json").read_text()))
    return [f"{'/'.join(map(str, error.path))}: {error.message}" for error in jsonschema.Draft202012Validator(schema).iter_errors(values)]


def test_the_trainjob_is_what_kubeflows_schema_allows():
    assert errors(manifest()) == []


@pytest.mark.parametrize(
    "path,value,said",
    [
        (("spec", "trainer", "numNodes"), "two", "spec/trainer/numNodes"),
        (("spec", "trainer", "nodes"), 2, "'nodes' was unexpected"),
        (("spec", "trainer", "command"), "torchrun", "spec/trainer/command"),
        (("spec", "runtimeRef", "name"), None, "spec/runtimeRef/name"),
        (("spec", "runtimePatches", 0, "trainingRuntimeSpec", "template", "spec", "replicatedJobs", 0, "template", "spec", "template", "spec", "mounts"), [], "unexpected"),
    ],
)  # fmt: skip
def test_the_schema_refuses_what_is_wrong(path, value, said):
    values = manifest()
    place = values
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert any(said in error for error in errors(values))


def test_what_a_node_asks_for_hangs_together():
    trainer = manifest()["spec"]["trainer"]
    assert str(trainer["numProcPerNode"]) == trainer["resourcesPerNode"]["limits"]["nvidia.com/gpu"]
    pod = manifest()["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = pod["template"]["spec"]
    assert {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}


def test_the_servers_that_are_asked_are_those_that_are_started():
    parts = {part["kind"]: part for part in yaml.safe_load_all((FOLDER / "generate.yaml").read_text())}
    servers, name = parts["StatefulSet"]["spec"], parts["Service"]["metadata"]["name"]
    [port] = [each["containerPort"] for each in servers["template"]["spec"]["containers"][0]["ports"]]
    urls = [server["url"] for server in tomllib.loads((FOLDER / "servers.toml").read_text())["server"]]
    assert urls == [f"http://{parts['StatefulSet']['metadata']['name']}-{n}.{name}:{port}/v1" for n in range(servers["replicas"])]
    assert servers["serviceName"] == name and servers["selector"]["matchLabels"] == servers["template"]["metadata"]["labels"]
    assert parts["Service"]["spec"]["selector"] == servers["selector"]["matchLabels"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_shell_and_say_what_is_missing(script):
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    done = subprocess.run(["bash", script], capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    assert done.returncode != 0 and "give the path of a recipe" in done.stderr
    for word in ("distill", "--nodes", "srun"):
        assert word in script.read_text()


def test_the_image_holds_what_the_build_needs():
    """Every folder that the wheel takes files from is copied, and only what is there."""
    copied = re.findall(r"^COPY (.+) \S+$", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    assert all((ROOT / name).exists() for name in names)
    project = (ROOT / "pyproject.toml").read_text()
    forced = re.search(r"force-include\]\n((?:.+\n)+)", project)[1]
    assert set(re.findall(r'^"(\w+)"', forced, re.MULTILINE)) | {"python", "pyproject.toml", "README.md", "LICENSE"} <= names


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def clean(home: Path, **more: str) -> dict[str, str]:
    """Nothing of the user's environment, and a home of its own."""
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    return {"HOME": str(home), "PATH": path, "PYTHONPATH": str(ROOT / "python"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **more}


@pytest.mark.slow
def test_the_manifests_command_on_two_nodes_gives_the_one_process_weights(tiny_model, tmp_path):
    """Two torchruns with the variables that Trainer sets, in empty environments; here both nodes are this machine."""
    from firsttoken.demo import held_out_text

    if shutil.which("torchrun", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("torchrun is not beside this Python: pip install torch")
    (tmp_path / "text.txt").write_text(held_out_text()[:9000], encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(RECIPE.format(teacher=tiny_model, text=tmp_path / "text.txt"))
    trainer, port = manifest()["spec"]["trainer"], str(free_port())
    command = [word.replace("/volume", str(tmp_path)) for word in (*trainer["command"], *trainer["args"])]
    assert command[:3] == ["torchrun", "-m", "firsttoken"]
    nodes = []
    for rank in range(2):
        (home := tmp_path / f"home{rank}").mkdir()
        variables = {"PET_NNODES": "2", "PET_NPROC_PER_NODE": "1", "PET_NODE_RANK": str(rank), "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": port}  # fmt: skip
        nodes.append(subprocess.Popen(command, env=clean(home, **variables), cwd=home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))  # fmt: skip
    said = [node.communicate(timeout=300)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    from firsttoken.distill.distill import distill

    distill(str(tmp_path / "recipe.toml"), tmp_path / "alone")
    two, one = (load_file(tmp_path / name / "model.safetensors") for name in ("student", "alone"))
    assert two.keys() == one.keys()
    for name, tensor in one.items():
        difference = (two[name] - tensor).abs()
        assert difference.max() < 2e-3 and difference.mean() < 1e-5, (name, difference.max(), difference.mean())
    figures = [json.loads((tmp_path / name / "distillation.json").read_text())["figures"]["student"] for name in ("student", "alone")]
    assert figures[0] == pytest.approx(figures[1], rel=1e-4)
