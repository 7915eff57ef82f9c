"""Where a model runs, and in which number format. What depends on the machine is asked of the machine."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipelines.errors import RequestError
from pipelines.machine import device
from pipelines.machine.device import (
    Placement,
    budget_bytes,
    choose,
    describe,
    free_bytes,
    host_free_bytes,
    prepare_environment,
)

LARGE, SMALL = 860_000_000, 11_000_000


def test_a_small_unet_stays_in_float32_on_a_cpu():
    assert choose("cpu", unet_parameters=SMALL, half_vae=True) == Placement("cpu", "float32", "float32")


def test_a_large_unet_takes_bfloat16_only_where_the_cpu_multiplies_it():
    import torch

    capable = any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16"))
    placement = choose("cpu", unet_parameters=LARGE, half_vae=True)
    assert placement == Placement("cpu", "bfloat16" if capable else "float32", "float32")


def test_bfloat16_is_taken_on_a_cpu_when_asked_for():
    assert choose("cpu", "bfloat16", unet_parameters=SMALL, half_vae=True).dtype == "bfloat16"


def test_float16_on_a_cpu_is_refused_with_its_reason():
    with pytest.raises(RequestError, match="float16.*slower") as caught:
        choose("cpu", "float16", unet_parameters=LARGE, half_vae=True)
    assert caught.value.field == "dtype"


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "cpu:0", "../cpu", ""])
def test_an_unknown_device_is_refused_by_name_with_what_there_is(name):
    with pytest.raises(RequestError, match="cpu") as caught:
        choose(name, unet_parameters=SMALL, half_vae=True)
    assert caught.value.field == "device"
    assert repr(name) in str(caught.value)


def test_an_unknown_dtype_is_refused_by_name():
    with pytest.raises(RequestError, match="int8.*float32, float16, bfloat16") as caught:
        choose("cpu", "int8", unet_parameters=SMALL, half_vae=True)
    assert caught.value.field == "dtype"


def test_the_header_line_names_device_threads_and_format():
    import torch

    threads = torch.get_num_threads()
    shown = "1 thread" if threads == 1 else f"{threads} threads"
    assert describe("cpu") == f"CPU, {shown}"
    assert describe("cpu", "float32") == f"CPU, {shown}, float32"
    with pytest.raises(RequestError, match="cuda:99"):
        describe("cuda:99")


def test_the_memory_for_models_is_what_was_set_or_a_share_of_what_is_free():
    assert budget_bytes("cpu", 1.5) == 1_500_000_000
    assert 0 < budget_bytes("cpu") < host_free_bytes()


def test_free_memory_is_less_than_the_machine_has():
    import psutil

    assert 0 < host_free_bytes() <= psutil.virtual_memory().total
    assert abs(free_bytes("cpu") - host_free_bytes()) < 2**30


def test_a_container_limit_lowers_free_memory(tmp_path, monkeypatch):
    limit, used, parts = (tmp_path / name for name in ("memory.max", "memory.current", "memory.stat"))
    limit.write_text("1000000\n")
    used.write_text("400000\n")
    parts.write_text("anon 150000\ninactive_file 200000\nactive_file 50000\n")  # files that were read can go
    monkeypatch.setattr(device, "CGROUP_FILES", ((limit, used, parts),))
    assert host_free_bytes() == 850_000
    limit.write_text("max\n")
    assert host_free_bytes() > 2**20


def test_the_environment_is_prepared_without_overriding_the_user():
    environ = {"OMP_WAIT_POLICY": "ACTIVE"}
    prepare_environment(environ)
    assert environ["OMP_WAIT_POLICY"] == "ACTIVE"
    assert "HF_HUB_OFFLINE" not in environ
    prepare_environment(environ, offline=True)
    assert environ["HF_HUB_OFFLINE"] == "1"
    fresh: dict[str, str] = {}
    prepare_environment(fresh)
    assert fresh["OMP_WAIT_POLICY"] == "PASSIVE"


def test_a_cards_memory_is_taken_in_segments_that_grow_unless_somebody_said_how():
    fresh: dict[str, str] = {}
    prepare_environment(fresh)
    wanted = "expandable_segments:True" if sys.platform == "linux" else None  # other drivers have no such segments
    assert fresh.get("PYTORCH_ALLOC_CONF") == wanted
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        told = {name: "max_split_size_mb:64"}
        prepare_environment(told)
        assert {key: value for key, value in told.items() if "ALLOC" in key} == {name: "max_split_size_mb:64"}


def test_preparing_the_environment_imports_no_torch():
    code = ("import sys; from pipelines.machine.device import prepare_environment; prepare_environment({}); "
            "sys.exit('torch' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], timeout=300).returncode == 0


@pytest.mark.gpu
def test_a_cuda_card_takes_float16_and_keeps_a_fragile_vae_in_float32():
    assert choose(unet_parameters=LARGE, half_vae=True) == Placement("cuda", "float16", "float16")
    assert choose(unet_parameters=LARGE, half_vae=False) == Placement("cuda", "float16", "float32")
    assert choose("cuda:0", "bfloat16", unet_parameters=SMALL, half_vae=False).vae_dtype == "bfloat16"
    assert free_bytes("cuda") > 2**30
    assert describe("cuda", "float16").endswith(", float16")
    assert budget_bytes("cuda") < free_bytes("cuda")
