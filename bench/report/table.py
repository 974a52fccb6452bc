"""Rows as text."""

import rows as rows_module


def bytes_text(argument):
    """4194304 is 4 MiB; what is no multiple of 1 KiB stays as it is."""
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if argument.isdigit() and int(argument) and (
                int(argument) % (1 << shift) == 0):
            return f"{int(argument) >> shift} {unit}"
    return argument


def workload_text(title):
    """`push_back/1048576:worst_ns` is `push_back 1 MiB, worst_ns`."""
    name, _, rest = title.partition("/")
    argument, _, measure = rest.partition(":")
    return f"{name} {bytes_text(argument)}" + (f", {measure}" if measure else "")


def ratio_text(ratio):
    """Two decimals; two figures where that would be next to nothing."""
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"


def aligned(lines):
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip()
                     for line in lines)


def table(rows):
    head = ("workload", "subject", "", "peer", "", "unit", "ratio", "min-max")
    return aligned([head] + [(
        workload_text(r["workload"]),
        r["subject"], f"{r['subject_median']:.4g}",
        r["peer"], f"{r['peer_median']:.4g}", r["unit"],
        f"{ratio_text(r['ratio_median'])}x",
        f"{ratio_text(r['ratio_min'])}-{ratio_text(r['ratio_max'])}") for r in rows])


def figures_table(figures):
    head = ("without a peer", "subject", "", "unit", "min-max")
    return aligned([head] + [(
        workload_text(rows_module.title(
            (f["workload"], f["argument"], f["measure"]))),
        f["subject"], f"{f['median']:.4g}", f["unit"],
        f"{f['min']:.4g}-{f['max']:.4g}") for f in figures])
