"""From values to rows: pairs, ratios, medians.

A row compares one of our subjects (doppel_*) with one peer. The ratio of each
repetition says how many times better ours is; the row has the ratios' median and
extremes, never the ratio of two medians.
"""

import statistics

import runner

OURS = "doppel_"


def ratio(ours, peer):
    """How many times better: more where more is better, less where less is."""
    if ours.more:
        return ours.value / peer.value
    return peer.value / ours.value


def of_one_placement(placements):
    """The repetitions of the most frequent placement of the cores: the largest set
    in which no two differ by runner.PLACEMENT_FACTOR; the nearest if two are."""
    ordered = sorted(placements.items(), key=lambda item: item[1])
    best = []
    for i, (_, nearest_ns) in enumerate(ordered):
        some = [repetition for repetition, ns in ordered[i:]
                if ns < runner.PLACEMENT_FACTOR * nearest_ns]
        if len(some) > len(best):
            best = some
    return set(best)


def title(key):
    workload, argument, name = key
    return f"{workload}/{argument}" + (f":{name}" if name else "")


def make_row(key, subject, ours, peer, theirs):
    """None where no repetition has both."""
    pairs = [(ours[i], theirs[i]) for i in sorted(ours.keys() & theirs.keys())
             if ours[i].value > 0 and theirs[i].value > 0]
    if not pairs:
        return None
    ratios = [ratio(a, b) for a, b in pairs]
    return {
        "workload": title(key),
        "subject": subject,
        "peer": peer,
        "unit": pairs[0][0].unit,
        "subject_median": statistics.median(a.value for a, _ in pairs),
        "peer_median": statistics.median(b.value for _, b in pairs),
        "ratio_median": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "repetitions": len(pairs),
    }


def make_figure(key, subject, values):
    """What one subject did, beside no other."""
    numbers = [value.value for value in values.values()]
    unit, _, more = next(iter(values.values()))
    workload, argument, name = key
    return {
        "workload": workload,
        "argument": argument,
        "measure": name,
        "subject": subject,
        "unit": unit,
        "more_is_better": more,
        "median": statistics.median(numbers),
        "min": min(numbers),
        "max": max(numbers),
        "repetitions": len(numbers),
    }


def kept(by_subject, placements):
    """The same without the repetitions in another placement than the rest."""
    if not placements:
        return by_subject
    some = of_one_placement(placements)
    return {subject: {i: value for i, value in values.items() if i in some}
            for subject, values in by_subject.items()}


def summarize(values, placements):
    """(rows, figures) of runner.Results' values and placements."""
    rows, figures = [], []
    for key, by_subject in values.items():
        by_subject = {subject: some for subject, some in kept(
            by_subject, placements.get(key[:2])).items() if some}
        figures += [make_figure(key, subject, some)
                    for subject, some in by_subject.items()]
        pairs = ((ours, peer) for ours in by_subject if ours.startswith(OURS)
                 for peer in by_subject if not peer.startswith(OURS))
        for ours, peer in pairs:
            row = make_row(key, ours, by_subject[ours], peer, by_subject[peer])
            if row:
                rows.append(row)
    return rows, figures


def alone(rows, figures):
    """Figures of our subjects that no row has: they have no peer."""
    compared = {(row["workload"], row["subject"]) for row in rows}
    return [f for f in figures if f["subject"].startswith(OURS) and (
        title((f["workload"], f["argument"], f["measure"])), f["subject"]
    ) not in compared]
