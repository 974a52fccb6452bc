"""What the machine is: recorded beside every figure."""

import collections
import datetime
import glob
import os
import platform
import subprocess

# What is measured against, or with, by the names of the distribution's packages.
PACKAGES = ("libc6", "libjemalloc2", "libmimalloc2.0", "libtcmalloc-minimal4",
            "libboost-dev", "libconcurrentqueue-dev",
            "libreaderwriterqueue-dev", "libabsl-dev", "libbenchmark-dev")


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return "unknown"


def field(path, name):
    """The value of the first line `name: value` of a file in /proc."""
    for line in read(path).splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def available_bytes():
    value = field("/proc/meminfo", "MemAvailable").split()[0]
    return int(value) << 10 if value.isdigit() else 1 << 62


def output_of(*command):
    """A command's first line."""
    try:
        done = subprocess.run(command, capture_output=True, text=True,
                              check=False)
    except OSError:
        return "unknown"
    lines = done.stdout.strip().splitlines()
    return lines[0] if lines else "unknown"


def governors():
    """How many processors have which frequency governor."""
    found = collections.Counter(map(read, glob.glob(
        "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor")))
    return ", ".join(f"{name} ({count})" for name, count in sorted(
        found.items())) or "none (not the guest's to choose)"


def hugetlb_pools():
    pools = []
    for folder in glob.glob("/sys/kernel/mm/hugepages/hugepages-*kB"):
        size_kb = int(folder.rpartition("-")[2][:-len("kB")])
        pools.append((size_kb, f"{size_kb >> 10} MiB: "
                      f"{read(folder + '/nr_hugepages')} pages, "
                      f"{read(folder + '/free_hugepages')} free"))
    return "; ".join(text for _, text in sorted(pools)) or "none"


def machine_facts():
    thp = "/sys/kernel/mm/transparent_hugepage/"
    facts = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(
            timespec="seconds"),
        "revision": output_of("git", "-C", os.path.dirname(__file__), "describe",
                              "--always", "--dirty"),
        "cpu": field("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "governors": governors(),
        "memory": field("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "base_page_bytes": os.sysconf("SC_PAGESIZE"),
        "transparent_page_bytes": read(thp + "hpage_pmd_size"),
        "transparent_enabled": read(thp + "enabled"),
        "shmem_enabled": read(thp + "shmem_enabled"),
        "hugetlb_pools": hugetlb_pools(),
        "max_map_count": read("/proc/sys/vm/max_map_count"),
        "compiler": output_of("g++", "--version"),
    }
    for package in PACKAGES:
        facts[package] = output_of("dpkg-query", "-W", "-f=${Version}", package)
    return facts
