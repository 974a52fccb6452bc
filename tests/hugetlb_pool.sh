# Sourced by tests/run: a small pool of 2 MiB pages for as long as the tests run,
# where the machine lets us have one. Tests that find none are skipped.
wanted_pages=64
pool=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
if [[ -r $pool ]]; then
  pool_before=$(<"$pool")
  free_pages=$(<"${pool%nr_hugepages}free_hugepages")
  if ((free_pages < wanted_pages)); then
    if { echo $((pool_before - free_pages + wanted_pages)) >"$pool"; } 2>/dev/null; then
      trap 'echo "$pool_before" >"$pool"' EXIT
      echo "hugetlb: reserved $wanted_pages pages of 2 MiB for the tests"
    else
      echo "hugetlb: may not reserve a pool; its tests are skipped" \
        "(as root: sysctl vm.nr_hugepages=$wanted_pages)"
    fi
  fi
else
  echo "hugetlb: the kernel has no 2 MiB pages; their tests are skipped"
fi
