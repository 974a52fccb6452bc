"""The HTML report: machine facts, plots for each workload, every row."""

import html
import io

import matplotlib

matplotlib.use("svg")
# pylint: disable=wrong-import-position
import matplotlib.pyplot as plt
import matplotlib.ticker as ticker

import table

STYLE = """body{font:15px/1.5 sans-serif;max-width:70em;margin:2em auto}
td,th{padding:.1em .8em .1em 0;text-align:left;font-variant-numeric:tabular-nums}
svg{max-width:100%;height:auto;display:block}"""

# A sweep is drawn as lines from so many arguments on.
SWEEP_ARGUMENTS = 3


def svg(figure):
    figure.tight_layout()
    text = io.StringIO()
    figure.savefig(text, format="svg")
    plt.close(figure)
    # Within a page there is no XML prologue.
    document = text.getvalue()
    return document[document.index("<svg"):]


def ratio_plot(rows):
    """A bar for each pair: the median ratio, and its spread as a line."""
    labels = [f"{table.workload_text(r['workload'])}: {r['subject']} / "
              f"{r['peer']}" for r in rows]
    places = range(len(rows))
    medians = [r["ratio_median"] for r in rows]
    spread = [[r["ratio_median"] - r["ratio_min"] for r in rows],
              [r["ratio_max"] - r["ratio_median"] for r in rows]]
    figure, axes = plt.subplots(figsize=(10, 0.9 + 0.24 * len(rows)))
    # From 1 to either side, so that a bar's length says the same on both scales.
    axes.barh(places, [m - 1 for m in medians], left=1, height=0.65,
              color=["#4878a8" if m >= 1 else "#c08050" for m in medians])
    axes.errorbar(medians, places, xerr=spread, fmt="none", ecolor="#333333",
                  capsize=2)
    axes.set_yticks(list(places), labels, fontsize=8)
    axes.axvline(1, color="#333333", linewidth=1)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("times better than the peer (1: equal)")
    if max(medians) > 20 * min(medians):
        axes.set_xscale("log")
    return svg(figure)


def sweep_plot(figures):
    """A line for each subject over the arguments: median, with its spread."""
    figure, axes = plt.subplots(figsize=(10, 4.2))
    for subject in dict.fromkeys(f["subject"] for f in figures):
        points = sorted((int(f["argument"]), f["median"], f["min"], f["max"])
                        for f in figures if f["subject"] == subject)
        x, median, low, high = zip(*points)
        line, = axes.plot(x, median, marker="o", markersize=3, label=subject)
        axes.fill_between(x, low, high, color=line.get_color(), alpha=0.15)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(
        lambda value, _: table.bytes_text(str(int(value)))))
    best = "more" if figures[0]["more_is_better"] else "less"
    axes.set_ylabel(f"{figures[0]['unit']} ({best} is better)")
    axes.legend(fontsize=8)
    return svg(figure)


def is_sweep(figures):
    arguments = {f["argument"] for f in figures}
    return len(arguments) >= SWEEP_ARGUMENTS and all(
        argument.isdigit() and int(argument) for argument in arguments) and all(
            f["min"] > 0 for f in figures)


def grouped(items, key):
    groups = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def html_table(head, lines):
    def cells(tag, line):
        return "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>"
                       for cell in line)
    body = "".join(f"<tr>{cells('td', line)}</tr>" for line in lines)
    return f"<table><tr>{cells('th', head)}</tr>{body}</table>"


def number(value):
    return f"{value:.4g}" if isinstance(value, float) else value


def workload_parts(rows, figures):
    """A heading and its plots for each workload and measure."""
    row_groups = grouped(rows, lambda r: (
        r["workload"].partition("/")[0], r["workload"].partition(":")[2]))
    for (workload, name), some in grouped(
            figures, lambda f: (f["workload"], f["measure"])).items():
        yield f"<h2>{html.escape(workload + (f', {name}' if name else ''))}</h2>"
        if is_sweep(some):
            yield sweep_plot(some)
        if (workload, name) in row_groups:
            yield ratio_plot(row_groups[workload, name])


def page(machine, rows, figures, missing):
    parts = ["<!doctype html><meta charset=utf-8><title>doppel, measured</title>",
             f"<style>{STYLE}</style><h1>doppel, measured</h1>",
             html_table(("machine", ""), machine.items())]
    parts += workload_parts(rows, figures)
    columns = ("workload", "subject", "peer", "unit", "subject_median",
               "peer_median", "ratio_median", "ratio_min", "ratio_max",
               "repetitions")
    parts.append("<h2>Every pair</h2>")
    parts.append(html_table(columns, (
        [number(row[column]) for column in columns] for row in rows)))
    columns = ("workload", "argument", "measure", "subject", "unit", "median",
               "min", "max", "repetitions")
    parts.append("<h2>Every subject</h2>")
    parts.append(html_table(columns, (
        [number(figure[column]) for column in columns] for figure in figures)))
    if missing:
        parts.append("<h2>Not measured</h2>")
        parts.append(html_table(("case", "reason"), missing.items()))
    return "\n".join(parts)
