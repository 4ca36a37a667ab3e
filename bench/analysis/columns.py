"""What each column of the record and of the findings holds: the one list that notebooks and the reference print."""

from __future__ import annotations

from collections.abc import Mapping

FILES = {  # of results/<grid>/, and of the report that is written below it: the table that each one is
    "trials.csv": "trials",
    "curves.csv": "evaluations",
    "correct.csv": "correct",
    "sources.csv": "sources",
    "data.csv": "data",
    "timings.csv": "timings",
    "report/levels.csv": "levels",
    "report/cells.csv": "cells",
    "report/effects.csv": "effects",
    "report/hypotheses.csv": "hypotheses",
    "report/learning.csv": "learning",
    "report/curves.csv": "curves",
    "report/seeds.csv": "seeds",
    "report/speeds.csv": "speeds",
    "report/machines.csv": "machines",
}
TABLES = {
    "trials": "a row per recorded trial, its last attempt",
    "found": "a row per trial of the plan, `missing` where none is recorded; what the analysis reads",
    "evaluations": "a row per evaluation on dev of each trial",
    "correct": "a row per trial: which test images, and which of dev at the selected epoch, it had right",
    "sources": "a row per source file of each fingerprint",
    "data": "a row per data section: what each run found its splits to be, where that changed",
    "timings": "a row per model, batch size and precision that was timed alone, and machine",
    "levels": "a row per level of a factor, over its cells",
    "cells": "a row per cell, in the plan's order",
    "effects": "a row per level that is compared with its factor's baseline level",
    "hypotheses": "a row per hypothesis of the grid",
    "winners": "a row per cell and tuned setting",
    "learning": "a row per cell: how fast it learns",
    "curves": "a row per cell and evaluation, over the trials that ended well",
    "seeds": "a row per trial that counts and ended well",
    "speeds": "a row per machine and cell",
    "machines": "a row per two folders that both hold some trials",
}
CELL = "the cell's label: its levels"
ANYWHERE = {
    "trial_id": "12 hex digits of a digest of all settings, seed included",
    "cell": CELL,
    "seed": "the replicate",
    "factor": "the factor's path or name",
    "level": "its level, by label",
    "status": "`ok`, `diverged`, `error`, `out_of_memory`, `timed_out` or `interrupted`",
    "error": "why there is no result, in a line; the rest is in `logs/`",
    "is_baseline": "whether this is the baseline",
    "n": "trials that ended well",
    "planned": "trials that are asked for",
    "diverged": "trials whose loss was not finite",
    "failed": "trials that ended without a result",
    "trained": "trials that trained: ended well, above chance on dev",
    "judged": "trials that had a result, good or not",
    "trained_share": "`trained` of `judged`",
    "with_untrained": "mean of the primary metric with untrained trials at chance",
    "difference": "to the baseline, of pairs that both trained; on a log scale the log ratio",
    "ratio": "the ratio to the baseline, on a log scale",
    "perplexity_ratio": "the ratio of perplexities that a difference in nats is",
    "pairs": "pairs of trials that both have a result",
    "pairs_planned": "pairs that the plan has",
    "train_images_per_second": "images per second in training, timed alone where `bench time` ran",
    "eval_images_per_second": "images per second in evaluation",
    "parameters": "numbers that training changes",
    "forward_macs": "multiply-accumulates of one image's forward pass, padding included, as others count",
    "computed_macs": "those without what meets padding alone; empty in rows of a version that called them forward_macs",
    "step": "optimizer steps until then",
    "epoch": "epochs until then",
    "p": "two-sided p of the contrast",
    "p_holm": "the same, corrected by Holm over its family",
    "metric": "the metric that it is about",
    "device": "`cpu`, `cuda:0`, `mps`",
    "device_name": "processor or GPU",
    "threads": "threads of the process",
    "precision": "`float32`, `bfloat16` or `tf32`",
    "torch_version": "the version of torch",
    "python_version": "the version of Python",
    "hostname": "the machine",
    "source_fingerprint": "12 hex digits over the source files of the trial, which `sources.csv` lists",
    "batch_size": "images per batch",
    "steps": "optimizer steps",
    "ended": "trials that ended",
}
OWN: dict[str, dict[str, str]] = {
    "trials": {
        "grid": "the grid's name",
        "selected_epoch": "the epoch that counts: the best on dev",
        "num_dev_images": "images of dev",
        "dev_majority": "share of the commonest class of dev",
        "final_train_loss": "mean training loss since the last evaluation",
        "epochs": "epochs trained",
        "train_seconds": "seconds in training steps",
        "total_seconds": "seconds from setup to the end",
        "peak_memory_bytes": "most memory that the process (the GPU) held meanwhile",
        "concurrent_trials": "trials at once on the machine: speeds count at 1 alone",
        "git_commit": "the commit of the working folder",
        "git_dirty": "whether it had changes",
        "started_at": "when, in UTC",
        "node": "the node of a cluster",
        "train_digest": "digest of the training data",
        "dev_digest": "digest of dev",
        "test_digest": "digest of the test data",
        "attempts": "how often this code has tried the trial",
        "compile_error": "why a network that was to be compiled ran as it is",
    },
    "found": {
        "compared": "whether it answers the question: not, of a candidate that lost or chose",
        "trained": "1, 0, or nothing without a result",
    },
    "evaluations": {
        "train_loss": "mean training loss since the evaluation before",
        "train_seconds": "seconds in training steps until then",
    },
    "correct": {
        "num_images": "test images",
        "correct": "a bit per test image, packed, in base64",
        "num_dev_images": "images of dev",
        "dev_correct": "a bit per image of dev, packed, in base64",
    },
    "sources": {"file": "path of the source file", "digest": "12 hex digits of its contents"},
    "data": {
        "data": "the data settings that say which examples there are, as JSON",
        "train_digest": "digest of the training data",
        "dev_digest": "digest of dev",
        "test_digest": "digest of the test data",
    },
    "timings": {
        "timing_id": "digest of what is timed: model, data shape, precision and optimizer",
        "model": "name of the network",
        "optimizer": "name of the optimizer",
        "forward_seconds": "seconds of one batch in evaluation, median over the rounds",
        "forward_seconds_p95": "the 95th percentile over all calls",
        "forward_images_per_second": "images per second in evaluation",
        "train_images_per_second": "images per second in training, median over the rounds",
        "train_images_per_second_low": "the slowest round",
        "train_images_per_second_high": "the fastest round",
        "rounds": "rounds that count",
        "train_flops": "6 x computed_macs per image, per second",
        "matmul_flops": "the device's own rate in a square matrix product of that precision",
        "matmul_share": "train_flops / matmul_flops",
        "canary_drift": "largest over smallest time of the canary, minus one",
        "reliable": "whether the canary drifted by no more than a tenth in enough rounds",
        "measured_at": "when, in UTC",
    },
    "effects": {
        "against": "the baseline level",
        "verdict": "`better`, `worse`, `equivalent` or `undecided`, of trials that trained",
        "sentence": "the verdict in words",
        "detectable": "the difference that would show with 80 % power",
        "seeds_for_margin": "seeds at which a difference of the margin would show; empty where decided or endless",
        "effect_size": "Hedges' g of the pairs",
        "probability_wins": "how often the level is ahead of the baseline at the same seed",
        "seeds": "seeds that count",
        "basis": "which chance the interval counts: seeds, test images, or both",
        "trained_difference": "how much more often it trains",
        "trained_p_holm": "corrected p of that",
        "trained_verdict": "the verdict on that",
        "trains": "the same in words; empty where all trained",
        "trained_counts": "of how many trials how many trained, at the level and at the baseline",
        "overall": "the verdict on both: how often it trains, and how well",
        "picked_level": "per cent of the intervals below, wider for having been picked because of their results",
        "picked_low": "lower end of such an interval",
        "picked_high": "upper end of it",
        "simple_low": "smallest difference among the levels of the other factors",
        "simple_high": "largest of them",
        "simple_differ": "whether these differ by more than chance",
        "contexts": "combinations of the other factors",
        "contexts_known": "those of them under which a pair trained",
        "average": "what to know of the average over them; empty where they agree",
        "without_pairs": "where no pair has both results",
    },
    "hypotheses": {
        "hypothesis": "as the grid has it",
        "ruling": "`supported`, `refuted`, `undecided`, or `below_margin`: true, but smaller than the margin",
        "evidence": "the estimate in words",
        "short": "the same in fewer words, with the corrected p alone",
        "estimate": "the contrast; on a log scale the log ratio",
        "low": "lower end of its 95 % interval",
        "high": "upper end of it",
        "scale": "`linear` or `log`",
    },
    "winners": {
        "setting": "the tuned setting",
        "winner": "the candidate that was best on dev",
        "at_edge": "whether it is the first or last of its list",
    },
    "cells": {
        "column": "its panel in figures",
        "row": "its row of panels",
        "variant": "its label within the panel",
        "ordered": "whether the labels of a panel are numbers",
        "standing": "to the best cell: `best`, `equivalent`, `not told apart`, `worse` or `unknown`",
    },
    "learning": {
        "target": "the value on dev to be reached: 95 % of the way that the baseline comes",
        "reached": "trials that reach it",
        "steps_to_target": "median steps until then (Kaplan-Meier)",
        "seconds_to_target": "those steps at the speed timed alone",
        "area_under_curve": "the metric on dev averaged over training",
    },
    "curves": {"n": "trials", "lowest": "the lowest seed", "highest": "the highest seed"},
    "speeds": {"machine": "device, its name, threads and torch's version"},
    "machines": {
        "one": "a folder",
        "other": "another",
        "shared": "trials that ended in both",
        "identical": "of these, the same to the last bit",
        "statuses_differ": "of these, with another status",
        "largest_difference": "largest difference in test accuracy",
        "largest_images_differ": "most test images that only one of the two has right",
    },
}
SUFFIXES = {
    "_low": "lower end of the 95 % interval of `{}`",
    "_high": "upper end of the 95 % interval of `{}`",
    "_basis": "which chance that interval of `{}` counts: seeds, test images, or both",
    "_seeds": "seeds that `{}` counts",
    "_median": "median of `{}` over the seeds that trained",
    "_worst": "worst of `{}` over the seeds that trained",
}
SPANS = {  # of cells that are averaged: they are no interval
    "parameters_low": "fewest parameters of its cells",
    "parameters_high": "most parameters of its cells",
    "forward_macs_low": "fewest multiply-accumulates of its cells",
    "forward_macs_high": "most multiply-accumulates of its cells",
}
SPLITS = {
    "first_epoch_dev_": "on dev after one epoch",
    "final_dev_": "on dev at the end",
    "test_": "on test, read once, at the selected epoch",
    "dev_": "on dev at the selected epoch",
}
SCORES = {"macro_f1": "mean F1 of the classes", "calibration_error": "expected calibration error"}


def describe(table: str, column: str) -> str:
    """Returns what a column of a table of the record or of :class:`Findings` holds; ``a measure`` of one's own metric.

    Columns with a dot are settings, by their paths.
    """
    shared: Mapping[str, str] = OWN["trials"] if table == "found" else {}
    for known in (OWN.get(table, {}), shared, SPANS, ANYWHERE):
        if column in known:
            return known[column]
    if "." in column:
        return "the setting of that path"
    for end, words in SUFFIXES.items():
        if column.endswith(end):
            return words.format(column.removesuffix(end))
    for start, words in SPLITS.items():
        if column.startswith(start):
            score = column.removeprefix(start)
            place = "on dev" if table in ("evaluations", "curves") else words
            return f"{SCORES.get(score, score.replace('_', ' '))} {place}"
    return "a measure that the trial reported"
