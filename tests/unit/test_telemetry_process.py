import os
import resource
from pathlib import Path

import pytest

from gateway.telemetry.metrics import Metrics
from gateway.telemetry.process import EVERY, PROC, ProcessUsage

has_proc = pytest.mark.skipif(not (PROC / "statm").exists(), reason="no /proc here")


def sample(metrics, name):
    return metrics.registry.get_sample_value(name)


def test_cpu_time_adds_up_over_the_processes_that_count_in_the_same_set():
    metrics = Metrics()
    first, second = iter((1.5, 4.0)), iter((0.25, 0.75))
    for spent in (first, second):
        usage = ProcessUsage(metrics, lambda spent=spent: next(spent), Path("/nowhere"))
        usage.tick()
        usage.tick()
    assert sample(metrics, "process_cpu_seconds_total") == 4.75


def test_cpu_time_is_that_of_this_process():
    metrics = Metrics()
    before = resource.getrusage(resource.RUSAGE_SELF)
    ProcessUsage(metrics).tick()
    after = resource.getrusage(resource.RUSAGE_SELF)
    counted = sample(metrics, "process_cpu_seconds_total")
    assert before.ru_utime + before.ru_stime <= counted <= after.ru_utime + after.ru_stime


@has_proc
def test_memory_and_descriptors_are_those_of_this_process():
    metrics = Metrics()
    usage = ProcessUsage(metrics)
    usage.tick()
    assert 5e6 < sample(metrics, "process_resident_memory_bytes") < 1e11
    assert sample(metrics, "process_open_fds") == len(os.listdir("/proc/self/fd")) - 1


@has_proc
def test_proc_is_looked_at_only_now_and_then():
    metrics = Metrics()
    usage = ProcessUsage(metrics)
    usage.tick()
    before = sample(metrics, "process_open_fds")
    with open(os.devnull):
        for _ in range(EVERY - 1):
            usage.tick()
        assert sample(metrics, "process_open_fds") == before
        usage.tick()
        assert sample(metrics, "process_open_fds") == before + 1


def test_what_the_system_does_not_tell_is_left_out(tmp_path):
    metrics = Metrics()
    ProcessUsage(metrics, proc=tmp_path).tick()
    assert sample(metrics, "process_cpu_seconds_total") > 0
    assert sample(metrics, "process_resident_memory_bytes") is None
    assert sample(metrics, "process_open_fds") is None
